"""How fast a training epoch is, and how much of its time goes into convolutions, recurrent layers and CTC.

    python benchmarks/train_step.py [--bare] [--manifest FILE] [--conf conf/an4.yaml] [--epochs 2] [--json FILE]
                                    [key=value ...]

A full step reads audio and computes everything on the fly: speed perturbation, noise, features, SpecAugment, forward
and backward, clipping, AdamW and the averaged weights. With `--bare` the bare step runs in turn with it on every batch:
forward and backward through convolutions with their ReLU, recurrent layers and CTC, of the same shapes, on prepared
random inputs. Full and bare take turns in going first, because the first to meet a shape pays for the kernels that
oneDNN or cuDNN prepare for it. With loading processes (`train.workers`) full steps gain from `--bare`: batches are read
ahead while bare steps run.

On CUDA another epoch runs under the profiler: the share of time in which the GPU was busy.

Without a manifest it makes noise with the length distribution of AN4's training set (mean 2.6 s).
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from asr import process

process.set_up()  # as `asr` does, before torch is imported

import soundfile
import torch
from timing import report
from torch import Tensor

from asr import config
from asr.batch import Batch
from asr.cli import parse
from asr.ctc import ctc_losses
from asr.lengths import strided
from asr.manifest import Utterance, write_manifest
from asr.train import Trainer


def make_manifest(folder: Path, utterances: int = 400, rate_hz: int = 16000) -> Path:
    """White noise and random spelled words, as long as AN4's training utterances."""
    rng = random.Random(1)
    generator = torch.Generator().manual_seed(1)
    records = []
    for number in range(utterances):
        duration_s = min(7.0, max(0.8, rng.lognormvariate(0.8, 0.5)))
        wave = 0.1 * torch.randn(round(duration_s * rate_hz), generator=generator)
        path = folder / f"{number}.wav"
        soundfile.write(path, wave.numpy(), rate_hz, subtype="PCM_16")
        text = " ".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(max(1, round(2.5 * duration_s))))
        records.append(Utterance(str(number), path, duration_s, text))
    write_manifest(folder / "train.jsonl", records)
    return folder / "train.jsonl"


def bare_step(trainer: Trainer, batch: Batch) -> float:
    """Seconds of forward and backward through convolutions, recurrent layers and CTC alone, on random inputs."""
    recognizer, device = trainer.learner.recognizer, trainer.device
    encoder = recognizer.encoder
    feat_lens = recognizer.log_mel.lengths(batch.wave_lens)
    lens = encoder.output_lengths(feat_lens)
    size, longest, steps = len(batch.ids), int(feat_lens.max()), int(lens.max())
    parts: list[tuple[Callable[[Tensor], Tensor], Tensor, Tensor]] = []  # what runs, its input, its output's gradient

    shape = (size, 1, longest, trainer.config.features.mel_bins)
    subsampling = encoder.subsampling
    for convolution, stride in zip(subsampling.convolutions, subsampling.time_strides, strict=True):
        inputs = maps_of(shape, device).requires_grad_(bool(parts))  # features need no gradient
        shape = (size, convolution.out_channels, strided(shape[2], stride), strided(shape[3], 2))
        parts.append((partial(convolved, convolution), inputs, maps_of(shape, device)))
    for layer in encoder.layers:
        inputs = torch.randn(steps, size, layer.cell.input_size, device=device, requires_grad=True)
        gradient = torch.ones(steps, size, layer.outputs, device=device)
        parts.append((partial(layer, lens=lens), inputs, gradient))
    log_probs = torch.randn(size, steps, encoder.output.out_features, device=device).log_softmax(2).requires_grad_()
    labels = batch.labels.to(device)
    losses = partial(ctc_losses, log_prob_lens=lens, labels=labels, label_lens=batch.label_lens)
    parts.append((losses, log_probs, torch.ones(size, device=device)))

    synchronize(device)
    started = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=trainer.bfloat16):
        outputs = [run(inputs) for run, inputs, _ in parts]
    for output, (_, _, gradient) in zip(outputs, parts, strict=True):
        output.backward(gradient.to(output.dtype))
    synchronize(device)
    seconds = time.perf_counter() - started
    trainer.learner.optimizer.zero_grad()
    return seconds


def maps_of(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Random maps, channels last in memory as the encoder has them."""
    return torch.randn(shape, device=device).to(memory_format=torch.channels_last)


def convolved(convolution: torch.nn.Module, maps: Tensor) -> Tensor:
    return torch.relu(convolution(maps))


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def epoch(trainer: Trainer, number: int, *, bare: bool) -> dict[str, Any]:
    """Times of one epoch in seconds, of each step and in all."""
    trainer.order.epoch = number
    trainer.learner.recognizer.train()
    rate_hz = trainer.config.audio.sample_rate_hz
    wait_s, full_s, bare_s, audio_s, padded_s = [], [], [], 0.0, 0.0
    batches = iter(trainer.batches)
    while True:
        started = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            break
        loaded = time.perf_counter()
        first = bare and len(full_s) % 2 == 1
        if first:
            bare_s.append(bare_step(trainer, batch))
        resumed = time.perf_counter()
        trainer.step(batch)  # reads loss and gradient norm, and so waits for the GPU
        wait_s.append(loaded - started)
        full_s.append(wait_s[-1] + time.perf_counter() - resumed)
        if bare and not first:
            bare_s.append(bare_step(trainer, batch))
        audio_s += int(batch.wave_lens.sum()) / rate_hz
        padded_s += batch.waves.numel() / rate_hz
    row = {
        "full_s": sum(full_s),
        "wait_s": sum(wait_s),
        "stalls": sum(wait > 0.1 * full for wait, full in zip(wait_s, full_s, strict=True)),
        "steps": len(full_s),
        "hours_per_hour": audio_s / sum(full_s),
        "padding_percent": 100 * (1 - audio_s / padded_s),
    }
    if bare:
        row["bare_s"] = sum(bare_s)
        row["full_per_bare"] = statistics.median(full / alone for full, alone in zip(full_s, bare_s, strict=True))
    return row


def busy_percent(trainer: Trainer, number: int) -> float:
    """Share of an epoch's time in which kernels ran on the GPU."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        row = epoch(trainer, number, bare=False)
    return sum(item.self_device_time_total for item in profile.key_averages()) / 1e4 / float(row["full_s"])


def describe(row: dict[str, Any]) -> str:
    """An epoch on one line."""
    text = (
        f"{row['steps']} steps in {row['full_s']:.2f} s, {row['hours_per_hour']:.0f} hours of audio per hour; "
        f"waited for data {row['wait_s']:.2f} s, in {row['stalls']} steps over a tenth of their time; "
        f"{row['padding_percent']:.1f} % padding"
    )
    if "bare_s" in row:
        text += (
            f"; bare {row['bare_s']:.2f} s, {100 * (1 - row['bare_s'] / row['full_s']):.1f} % outside; "
            f"full / bare, median of the steps: {row['full_per_bare']:.3f}"
        )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bare", action="store_true", help="also time bare steps, alternating with the full ones")
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--conf", type=Path, default=Path(__file__).parent.parent / "conf" / "an4.yaml")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parse(parser)
    with tempfile.TemporaryDirectory() as name:
        manifest = arguments.manifest or make_manifest(Path(name))
        data = [f"data.train={manifest}", f"data.dev={manifest}"]
        trainer = Trainer(config.load(arguments.conf, [*arguments.overrides, *data]), Path(name) / "run")
        facts: dict[str, Any] = {"threads": torch.get_num_threads()}
        with trainer.log:
            # The first one warms up.
            rows = [epoch(trainer, number, bare=arguments.bare) for number in range(arguments.epochs + 1)][1:]
            if trainer.device.type == "cuda":
                facts["gpu_busy_percent"] = busy_percent(trainer, arguments.epochs + 1)
    facts["rows"] = rows
    for row in rows:
        print(describe(row))
    facts["hours_per_hour"] = statistics.median(row["hours_per_hour"] for row in rows)
    summary = [f"{facts['hours_per_hour']:.0f} hours of audio per hour on {facts['threads']} threads"]
    if arguments.bare:
        facts["full_per_bare"] = statistics.median(row["full_s"] / row["bare_s"] for row in rows)
        outside = 100 * (1 - 1 / facts["full_per_bare"])
        summary.append(f"full / bare {facts['full_per_bare']:.3f}, {outside:.1f} % outside")
    if "gpu_busy_percent" in facts:
        summary.append(f"GPU busy {facts['gpu_busy_percent']:.0f} % of the time")
    print("medians of the epochs: " + "; ".join(summary))
    report(facts, arguments.json)


if __name__ == "__main__":
    main()
