"""Where the time of a training epoch goes: the full step against its bare convolutions, recurrent layers and CTC.

Both run on every batch, one after the other, with equal shapes. The full step includes reading audio, speed
perturbation, noise, features, SpecAugment, clipping, AdamW and the averaged weights; everything is computed on the fly.

    python benchmarks/train_step.py [--manifest FILE] [--conf conf/an4.yaml] [--epochs 2] [--json FILE] [key=value ...]

Without a manifest it makes noise with the length distribution of AN4's training set (mean 2.6 s).
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as `asr train` does, before torch is imported

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
    encoder = trainer.recognizer.encoder
    feat_lens = trainer.recognizer.log_mel.lengths(batch.wave_lens)
    lens = encoder.output_lengths(feat_lens)
    size, longest = len(batch.ids), int(feat_lens.max())
    device = trainer.device

    def timed(inputs: Tensor, run: "object") -> float:
        started = time.perf_counter()
        output = run(inputs)  # type: ignore[operator]
        output.backward(torch.ones_like(output))
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    seconds = 0.0
    shape = (size, 1, longest, trainer.config.features.mel_bins)
    for number, (convolution, stride) in enumerate(
        zip(encoder.subsampling.convolutions, encoder.subsampling.time_strides, strict=True)
    ):
        inputs = torch.randn(shape, device=device, requires_grad=number > 0)
        seconds += timed(inputs, lambda maps, convolution=convolution: torch.relu(convolution(maps)))
        shape = (size, convolution.out_channels, strided(shape[2], stride), strided(shape[3], 2))
    for layer in encoder.layers:
        inputs = torch.randn(size, int(lens.max()), layer.cell.input_size, device=device, requires_grad=True)
        seconds += timed(inputs, lambda hidden, layer=layer: layer(hidden, lens))
    log_probs = torch.randn(size, int(lens.max()), encoder.output.out_features, device=device).log_softmax(2)
    labels = batch.labels.to(device)
    seconds += timed(
        log_probs.requires_grad_(), lambda inputs: ctc_losses(inputs, lens, labels, batch.label_lens).mean()
    )
    trainer.optimizer.zero_grad()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
        with trainer.log:
            rows = [epoch(trainer, number) for number in range(arguments.epochs + 1)]
    rows = rows[1:]  # the first one warms up
    for row in rows:
        print(
            f"full {row['full_s']:.2f} s, bare {row['bare_s']:.2f} s, waiting for data {row['wait_s']:.2f} s: "
            f"{row['outside_percent']:.1f} % outside convolutions, recurrent layers and CTC; "
            f"{row['hours_per_hour']:.0f} hours of audio per hour; {row['padding_percent']:.1f} % padding"
        )
    shares = [row["outside_percent"] for row in rows]
    print(f"median outside: {statistics.median(shares):.1f} %")
    report({"rows": rows, "threads": torch.get_num_threads()}, arguments.json)


def epoch(trainer: Trainer, number: int) -> dict[str, float]:
    """Times of one epoch, full and bare steps taking turns on the same batches."""
    trainer.order.epoch = number
    trainer.recognizer.train()
    full_s = bare_s = wait_s = audio_s = padded_s = 0.0
    rate_hz = trainer.config.audio.sample_rate_hz
    batches = iter(trainer.batches)
    while True:
        started = time.perf_counter()
        batch = next(batches, None)
        loaded = time.perf_counter()
        if batch is None:
            break
        trainer.step(batch)
        stepped = time.perf_counter()
        wait_s += loaded - started
        full_s += stepped - started
        bare_s += bare_step(trainer, batch)
        audio_s += int(batch.wave_lens.sum()) / rate_hz
        padded_s += batch.waves.numel() / rate_hz
    return {
        "full_s": full_s,
        "bare_s": bare_s,
        "wait_s": wait_s,
        "outside_percent": 100 * (1 - bare_s / full_s),
        "hours_per_hour": audio_s / full_s,
        "padding_percent": 100 * (1 - audio_s / padded_s),
    }


if __name__ == "__main__":
    main()
