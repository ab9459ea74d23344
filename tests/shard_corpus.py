"""A small corpus of noise for shards: as a manifest, and packed."""

from pathlib import Path

import numpy as np
import soundfile

from asr.manifest import Utterance, write_manifest
from asr.shards.pack import pack

RATE_HZ = 8000


def make_manifest(folder: Path, count: int = 24) -> Path:
    """Recordings of 16 bits and 0.1 to 0.4 s; returns the manifest. Ids are `u00`, `u01`, ..."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    utterances = []
    for number in range(count):
        samples = rng.integers(-(2**15), 2**15, int(rng.integers(800, 3200))).astype(np.int16)
        path = folder / f"u{number:02d}.wav"
        soundfile.write(path, samples, RATE_HZ)
        speaker = f"s{number % 3}" if number % 4 else None
        utterances.append(Utterance(path.stem, path, len(samples) / RATE_HZ, f"text {number}", speaker=speaker))
    write_manifest(folder / "all.jsonl", utterances)
    return folder / "all.jsonl"


def make_shards(folder: Path, count: int = 24, shard_mb: float = 0.02) -> Path:
    """The same, packed: three or four utterances in a shard; returns the index."""
    pack(make_manifest(folder / "audio", count), folder / "shards", shard_mb=shard_mb)
    return folder / "shards" / "index.jsonl"
