"""Shards against separate files: packing, and an epoch of waveforms from each, in one thread without loading processes.

    python benchmarks/shards.py [--utterances 200] [--shard-mb 16] [--rounds 5] [--folder DIR] [--json FILE]

The audio is noise with the spectrum and pauses of speech, 16 bits and 16 kHz, 12 s each on average, as WAV files (which
packing encodes as FLAC) and as FLAC files (which it copies). All are in the page cache: what a disk or a network adds
depends on it, and shards are for those that are slow with small files. `--folder` puts files and shards somewhere other
than the temporary folder. MB are those of the files or shards that are read.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np
import soundfile
import torch
from timing import alternate, ratio, report

from asr.batch import Batches, BatchOrder, Examples
from asr.config import AudioConfig
from asr.manifest import Utterance, read_manifest, write_manifest
from asr.shards.index import read_index, read_shard
from asr.shards.order import ShardOrder
from asr.shards.pack import pack

RATE_HZ = 16000
BATCH_S = 200.0


def make_manifest(folder: Path, count: int, suffix: str) -> Path:
    """Noise that falls by 6 dB an octave and comes in syllables."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    utterances = []
    for number in range(count):
        samples = np.cumsum(rng.standard_normal(round(rng.uniform(8.0, 16.0) * RATE_HZ)))
        samples = (
            np.diff(samples - np.convolve(samples, np.full(200, 1 / 200), "same"), prepend=0.0) + 0.1 * samples / 200
        )
        time_s = np.arange(len(samples)) / RATE_HZ
        samples *= np.clip(np.sin(2 * np.pi * 2 * time_s) + 0.3, 0.003, 1.0)
        path = folder / f"{number}.{suffix}"
        soundfile.write(path, 0.5 * samples / np.abs(samples).max(), RATE_HZ, subtype="PCM_16")
        utterances.append(Utterance(str(number), path, len(samples) / RATE_HZ, "a"))
    write_manifest(folder / "all.jsonl", utterances)
    return folder / "all.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=200)
    parser.add_argument("--shard-mb", type=float, default=16.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        manifests = {suffix: make_manifest(folder / suffix, arguments.utterances, suffix) for suffix in ("wav", "flac")}
        files = {suffix: read_manifest(manifest) for suffix, manifest in manifests.items()}
        out = folder / "shards"

        def packing(suffix: str) -> None:
            shutil.rmtree(out, ignore_errors=True)
            pack(manifests[suffix], out, shard_mb=arguments.shard_mb)

        packing("flac")
        index = read_index(str(out / "index.jsonl"))

        def epoch(utterances: list[Utterance], order: ShardOrder | BatchOrder) -> int:
            examples = Examples(utterances, [[1]] * len(utterances), AudioConfig(sample_rate_hz=RATE_HZ), 1)
            return sum(len(batch.ids) for batch in Batches(examples, order, workers=0, pin_memory=False))

        def epoch_of_files(suffix: str) -> int:
            durations_s = [utterance.duration for utterance in files[suffix]]
            return epoch(files[suffix], BatchOrder(durations_s, BATCH_S, shuffle=True))

        # Packing FLAC comes last, so that each round leaves the shards of `index`.
        tasks = {
            "shards, bytes": lambda: [len(content) for shard in index.shards for _, content in read_shard(shard)],
            "shards, waveforms": lambda: epoch(index.utterances, ShardOrder(index, index.utterances, BATCH_S)),
            "FLAC files, waveforms": lambda: epoch_of_files("flac"),
            "WAV files, waveforms": lambda: epoch_of_files("wav"),
            "packing WAV files": lambda: packing("wav"),
            "packing FLAC files": lambda: packing("flac"),
        }
        seconds = alternate(tasks, arguments.rounds)
        shard_mb = sum(shard.size_bytes for shard in index.shards) / 1e6
        file_mb = {suffix: sum(u.audio_filepath.stat().st_size for u in files[suffix]) / 1e6 for suffix in files}
    hours = sum(utterance.duration for utterance in index.utterances) / 3600
    print(f"{hours:.2f} h in {len(index.utterances)} utterances, {len(index.shards)} shards")
    print("task | hours of audio per hour | MB/s")
    rows = {}
    for task, times in seconds.items():
        fastest = min(times)
        megabytes = file_mb["flac"] if "FLAC" in task else file_mb["wav"] if "WAV" in task else shard_mb
        rows[task] = {"hours_per_hour": 3600 * hours / fastest, "mb_per_s": megabytes / fastest, "seconds": times}
        print(f"{task} | {rows[task]['hours_per_hour']:,.0f} | {rows[task]['mb_per_s']:.0f}")
    ratios = {}
    for suffix in ("FLAC", "WAV"):
        ratios[suffix] = ratio(seconds["shards, waveforms"], seconds[f"{suffix} files, waveforms"])
        low, middle, high = ratios[suffix]
        print(
            f"an epoch from shards takes {middle:.2f} ({low:.2f}-{high:.2f}) times as long as one from {suffix} files"
        )
    report({"hours": hours, "shard_mb": shard_mb, "file_mb": file_mb, "rows": rows, "ratios": ratios}, arguments.json)


if __name__ == "__main__":
    main()
