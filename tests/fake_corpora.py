"""Small corpora of silence for the tests of the readers, and what reads the manifests made of them."""

import itertools
import tarfile
from pathlib import Path

import numpy as np
import soundfile

from asr.manifest import read_manifest

RATE_HZ = 8000


def audio(path: Path, seconds: float = 0.25, **options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.zeros(round(seconds * RATE_HZ), dtype=np.int16)
    soundfile.write(path, samples, RATE_HZ, **options)
    return path


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def texts(manifest: Path) -> dict[str, str]:
    return {utterance.id: utterance.text for utterance in read_manifest(manifest)}


def ids(manifest: Path) -> set[str]:
    return set(texts(manifest))


def pack(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    return archive


def make_digits(root: Path) -> Path:
    """Two digits of four speakers, six takes each."""
    for digit, speaker, index in itertools.product((0, 7), ("ann", "bob", "cat", "dan"), (0, 4, 5, 9, 10, 49)):
        audio(root / "recordings" / f"{digit}_{speaker}_{index}.wav", 0.01)
    return root
