"""Hours of audio per hour of training, from FLAC shards to the optimiser, with everything switched on.

    python benchmarks/throughput.py [--conf conf/scale.yaml] [--hours 24] [--steps 60] [--json FILE] [key=value ...]
    torchrun --standalone --nproc-per-node 8 benchmarks/throughput.py ...

Makes utterances of 4 to 16 s from noise, packs them into shards, and trains from these with speed perturbation, noise
and SpecAugment, in bfloat16 on CUDA. The first steps, in which kernels are chosen, are left out. There should be more
audio than the steps take: otherwise the beginnings of epochs, which wait for shards, weigh in. Waiting is the time in
which the training process had no batch; on CUDA the device's peak memory is shown too.
"""

import argparse
import os
import random
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from asr import process

process.set_up()  # as `asr` does, before torch is imported

import soundfile
import torch
from timing import report

from asr import config
from asr.cli import parse
from asr.manifest import Utterance, write_manifest
from asr.process.distributed import join, leave
from asr.shards.pack import pack
from asr.train import Trainer

WARM_UP_STEPS = 10
RATE_HZ = 16000


def make_shards(folder: Path, hours: float) -> Path:
    """Shards of coloured noise with random words; returns their index."""
    rng, cores = random.Random(1), os.cpu_count() or 1
    generator = torch.Generator().manual_seed(1)
    noise = torch.cumsum(torch.randn(600 * RATE_HZ, generator=generator), 0)
    noise = noise - torch.nn.functional.avg_pool1d(noise[None], 801, 1, 400)[0]
    noise *= 0.3 / noise.abs().max()
    (folder / "audio").mkdir(parents=True)
    records, pieces, left_s = [], [], 3600 * hours
    while left_s > 0:
        duration_s = rng.uniform(4, 16)
        start = rng.randrange(len(noise) - 16 * RATE_HZ)
        path = folder / "audio" / f"{len(records)}.flac"
        pieces.append((path, noise[start : start + round(duration_s * RATE_HZ)].numpy()))
        words = ("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 8))) for _ in range(40))
        text = " ".join(word for word, _ in zip(words, range(round(2 * duration_s)), strict=False))
        records.append(Utterance(str(len(records)), path, duration_s, text))
        left_s -= duration_s
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda piece: soundfile.write(*piece, RATE_HZ), pieces))
    write_manifest(folder / "train.jsonl", records)
    write_manifest(folder / "dev.jsonl", records[:4])
    pack(folder / "train.jsonl", folder / "shards", shard_mb=64, seed=1, threads=max(1, cores - 1))
    return folder / "shards" / "index.jsonl"


def measure(trainer: Trainer, steps: int) -> dict[str, float]:
    """Throughput of `steps` steps after the warm-up, over as many epochs as they take."""
    trainer.learner.recognizer.train()
    done, audio_samples, padded_samples, waiting_s = 0, 0, 0, 0.0
    epoch = 1  # epoch 0 begins with the shortest utterances
    started = time.perf_counter()
    while done < WARM_UP_STEPS + steps:
        trainer.order.epoch = epoch
        asked = time.perf_counter()
        for batch in trainer.batches:
            waiting_s += time.perf_counter() - asked
            outcome = trainer.step(batch)
            done += 1
            if done == WARM_UP_STEPS:
                audio_samples, padded_samples, waiting_s, started = 0, 0, 0.0, time.perf_counter()
            elif done > WARM_UP_STEPS:
                audio_samples += outcome.audio_samples
                padded_samples += outcome.padded_samples
            if done == WARM_UP_STEPS + steps:
                break
            asked = time.perf_counter()
        epoch += 1
    seconds = time.perf_counter() - started
    rate_hz = trainer.config.audio.sample_rate_hz
    facts = {
        "hours_per_hour": audio_samples / rate_hz / seconds,
        "seconds_per_step": seconds / steps,
        "waiting_percent": 100 * waiting_s / seconds,
        "padding_percent": 100 * (1 - audio_samples / padded_samples),
        "parameters_m": sum(parameter.numel() for parameter in trainer.learner.parameters) / 1e6,
        "processes": trainer.world.size,
    }
    if trainer.device.type == "cuda":
        facts["peak_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", type=Path, default=Path(__file__).parent.parent / "conf" / "scale.yaml")
    parser.add_argument("--hours", type=float, default=24.0, help="hours of audio to make")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parse(parser)
    world = join()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(world.gather(name)[0])
        index = make_shards(folder, arguments.hours) if world.leads else folder / "shards" / "index.jsonl"
        world.barrier()
        data = [f"data.train={index}", f"data.dev={folder / 'dev.jsonl'}"]
        trainer = Trainer(config.load(arguments.conf, [*data, *arguments.overrides]), folder / "run")
        with trainer.log:
            facts = measure(trainer, arguments.steps)
        world.barrier()
    if world.leads:
        for key, value in facts.items():
            print(f"{key:>18} {value:,.3f}")
        report(facts, arguments.json)
    leave()


if __name__ == "__main__":
    main()
