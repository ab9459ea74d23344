"""How fast files become text: each backend, one and two threads, and how much of the time is spent outside the encoder.

    python benchmarks/transcribe.py RUN MANIFEST [--hours 1] [--threads 1 2] [--batch-s 60] [--suffix .flac]
                                    [--rounds 3] [--backends float32 bfloat16 int8] [--peers] [--json FILE]

The whole of `asr transcribe` runs: audio is read, resampled, turned into features, encoded and decoded greedily. The
manifest's files are repeated until there are `--hours` of audio; with `--suffix` each is first written in that format
to a temporary folder. Backends take turns with each other and, on one thread, with the bare kernels of float32 and
bfloat16: convolutions with their ReLU and recurrent layers, of the same shapes, on prepared random inputs. The ratio to
these is of processor time.

`--peers` adds what was tried and left out: torch's eight-bit layers, and onnxruntime in float32.
"""

import argparse
import copy
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from asr import process

process.set_up()  # as `asr` does, before torch is imported

import soundfile
import torch
from timing import alternate, ratio, report
from torch import Tensor, nn

from asr import audio, checkpoint
from asr.backends import Backend, Precision, make_backend
from asr.encoder import RecurrentLayer, reversal
from asr.errors import ConfigError
from asr.export import onnx_model, required
from asr.hypotheses import Result
from asr.manifest import Utterance, read_manifest
from asr.recognizer import Recognizer
from asr.report import summary_line
from asr.sources import Recording
from asr.transcribe import Failure, Transcriber
from asr.transcript import Transcript
from asr.wer import score

# Backends that are compared with bare kernels.
BARE = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")


class OnnxFloat32:
    """The exported graph as it is."""

    name = "onnx float32"

    def __init__(self, recognizer: Recognizer) -> None:
        runtime = required("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        content = onnx_model(recognizer, from_features=True).SerializeToString()
        self.session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def encode(self, feats: Tensor, feat_lens: Tensor) -> tuple[Tensor, Tensor]:
        log_probs, lens = self.session.run(None, {"feats": feats.numpy(), "feat_lens": feat_lens.numpy()})
        return torch.from_numpy(log_probs), torch.from_numpy(lens)


class _Directions(nn.Module):
    """A `RecurrentLayer` as modules that torch can quantise."""

    def __init__(self, layer: RecurrentLayer) -> None:
        super().__init__()
        self.sides = nn.ModuleList()
        for side in ("", "_reverse") if layer.cell.bidirectional else ("",):
            cell = type(layer.cell)(layer.cell.input_size, layer.cell.hidden_size)
            cell.load_state_dict({name: getattr(layer.cell, name + side).detach() for name in cell.state_dict()})
            self.sides.append(cell)

    def forward(self, inputs: Tensor, lens: Tensor) -> Tensor:
        outputs = [self.sides[0](inputs)[0]]
        if len(self.sides) == 2:
            rows = reversal(lens, len(inputs))
            turned = inputs.flatten(0, 1).index_select(0, rows).view(inputs.shape)
            back = self.sides[1](turned)[0]
            outputs.append(back.flatten(0, 1).index_select(0, rows).view(back.shape))
        return torch.cat(outputs, dim=2)


class TorchInt8:
    """torch's dynamic quantisation of recurrent and linear layers."""

    name = "torch int8"

    def __init__(self, recognizer: Recognizer) -> None:
        encoder = copy.deepcopy(recognizer.encoder)
        encoder.layers = nn.ModuleList(_Directions(layer) for layer in encoder.layers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.encoder = torch.ao.quantization.quantize_dynamic(encoder, {nn.LSTM, nn.GRU, nn.Linear})

    def encode(self, feats: Tensor, feat_lens: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder(feats, feat_lens)


def copies(utterances: Sequence[Utterance], recognizer: Recognizer, suffix: str, folder: Path) -> list[Path]:
    """Each utterance as a file of its own: what the manifest names, or written anew where it is a segment."""
    paths = []
    for number, utterance in enumerate(utterances):
        whole = utterance.offset == 0 and utterance.channel is None and not suffix
        paths.append(utterance.audio_filepath if whole else folder / f"{number}{suffix or '.wav'}")
        if not whole:
            wave = audio.load_utterance(utterance, recognizer.config.audio)
            soundfile.write(paths[-1], wave.numpy(), recognizer.config.audio.sample_rate_hz, subtype="PCM_16")
    return paths


class Recorder:
    """The recogniser's own encoder, and the shapes of the batches it was given."""

    name = "recorder"

    def __init__(self, recognizer: Recognizer) -> None:
        self.recognizer = recognizer
        self.lens: list[Tensor] = []

    def encode(self, feats: Tensor, feat_lens: Tensor) -> tuple[Tensor, Tensor]:
        self.lens.append(feat_lens)
        return self.recognizer.encoder(feats, feat_lens)


@torch.inference_mode()
def bare(recognizer: Recognizer, dtype: torch.dtype, batches: Sequence[Tensor]) -> Callable[[], None]:
    """A function that runs convolutions and recurrent layers over batches of these lengths, on fixed random inputs."""
    encoder = copy.deepcopy(recognizer.encoder).to(dtype)
    parts: list[Callable[[], object]] = []
    for feat_lens in batches:
        lens, maps = feat_lens, (len(feat_lens), 1, int(feat_lens.max()), recognizer.log_mel.mel_bins)
        for convolution, stride in zip(encoder.subsampling.convolutions, encoder.subsampling.time_strides, strict=True):
            inputs = torch.randn(maps).to(dtype).contiguous(memory_format=torch.channels_last)
            parts.append(partial(_convolved, convolution, inputs))
            maps = (maps[0], convolution.out_channels, -(-maps[2] // stride), -(-maps[3] // 2))
        lens = encoder.output_lengths(feat_lens)
        for layer in encoder.layers:
            inputs = torch.randn(maps[2], maps[0], layer.cell.input_size).to(dtype)
            parts.append(partial(layer, inputs, lens))

    @torch.inference_mode()
    def run() -> None:
        torch.set_num_threads(1)
        for part in parts:
            part()

    return run


def _convolved(convolution: nn.Module, inputs: Tensor) -> Tensor:
    return torch.relu_(convolution(inputs))


def _on_cpu(seconds: list[float], task: Callable[[], object]) -> None:
    """Run a task and append its processor time, in which the load of other programs does not count."""
    started = time.process_time()
    task()
    seconds.append(time.process_time() - started)


def transcribed(
    recognizer: Recognizer, paths: Sequence[Path], backend: Backend, *, threads: int, batch_s: float
) -> list[Transcript]:
    """Transcripts in the order of `paths`; an unusable file ends the benchmark."""
    torch.set_num_threads(threads)
    transcriber = Transcriber(recognizer, batch_s=batch_s)
    transcriber.backend = backend
    found = []
    for result in transcriber.transcribe_all(Recording(str(path), path) for path in paths):
        if isinstance(result, Failure):
            raise result.error
        found.append(result)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch-s", type=float, default=60.0)
    parser.add_argument("--suffix", choices=(".wav", ".flac"), default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backends", choices=PRECISIONS, nargs="+", default=list(PRECISIONS))
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    recognizer = checkpoint.load(arguments.run, decode={"decoder": "greedy"})
    utterances = read_manifest(arguments.manifest)
    backends: list[Backend] = []
    for precision in arguments.backends:
        try:
            backends.append(make_backend(recognizer, precision))
        except ConfigError as error:
            print(f"without {precision}: {error}")
    if arguments.peers:
        backends += [TorchInt8(recognizer), OnnxFloat32(recognizer)]

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        paths = copies(utterances, recognizer, arguments.suffix, Path(name))
        facts: dict[str, Any] = {"wer": {}, "audio_s": 0.0, "times_real_time": {}, "full_per_bare": {}}
        for backend in backends:
            found = transcribed(recognizer, paths, backend, threads=1, batch_s=arguments.batch_s)
            results = [
                Result(item.id, item.speaker, recognizer.tokenizer.normalize(item.text), one.text, one.duration_s)
                for item, one in zip(utterances, found, strict=True)
            ]
            facts["wer"][backend.name] = summary_line(score(results))
            facts["audio_s"] = sum(one.duration_s for one in found)
            print(f"{backend.name}: {facts['wer'][backend.name]}", flush=True)
        times = max(1, round(3600 * arguments.hours / facts["audio_s"]))
        facts["audio_s"] *= times
        recorder = Recorder(recognizer)
        transcribed(recognizer, paths * times, recorder, threads=1, batch_s=arguments.batch_s)
        tasks: dict[str, Callable[[], object]] = {}
        for threads in arguments.threads:
            for backend in backends:
                tasks[f"{backend.name}, {threads} thread{'s' * (threads > 1)}"] = partial(
                    transcribed, recognizer, paths * times, backend, threads=threads, batch_s=arguments.batch_s
                )
        for name, dtype in BARE.items():
            if name in arguments.backends:
                tasks[f"bare {name}"] = bare(recognizer, dtype, recorder.lens)
        cpu: dict[str, list[float]] = {task: [] for task in tasks}
        wall = alternate({task: partial(_on_cpu, cpu[task], run) for task, run in tasks.items()}, arguments.rounds)
    cpu = {task: taken[1:] for task, taken in cpu.items()}  # the first was a warm-up
    for task, taken in wall.items():
        row = {"wall": facts["audio_s"] / statistics.median(taken), "best": facts["audio_s"] / min(taken)}
        row["core"] = facts["audio_s"] / statistics.median(cpu[task])
        facts["times_real_time"][task] = row
        print(
            f"{task}: {row['wall']:.0f} times real time (best round {row['best']:.0f}), "
            f"{row['core']:.0f} a second of one core"
        )
    for name in BARE:
        if f"{name}, 1 thread" in cpu:
            low, middle, high = ratio(cpu[f"{name}, 1 thread"], cpu[f"bare {name}"])
            facts["full_per_bare"][name] = middle
            print(f"{name}: whole / bare kernels {middle:.2f} ({low:.2f} to {high:.2f})")
    facts["wall_s"], facts["cpu_s"] = wall, cpu
    report(facts, arguments.json)


if __name__ == "__main__":
    main()
