"""A language that a tiny model learns in seconds: a letter is a tone, a space is silence."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from asr import config
from asr.config import Config
from asr.manifest import Utterance, write_manifest
from asr.training.runlog import METRICS_FILE

RATE_HZ = 8000
LETTER_S = 0.1
TONES_HZ = {"a": 400.0, "b": 800.0, "c": 1600.0, "d": 3000.0}
# A model of about 5,000 weights, and no augmentation.
TINY = (
    f"audio.sample_rate_hz={RATE_HZ}",
    "features.mel_bins=16",
    "features.window_ms=30",
    "encoder.subsampling=2",
    "encoder.conv_channels=4",
    "encoder.layers=1",
    "encoder.width=16",
    "encoder.dropout=0",
    "augment.speeds=[]",
    "augment.gain_db=0",
    "augment.noise_probability=0",
    "augment.warp=0",
    "augment.freq_masks=0",
    "augment.time_masks=0",
    "train.device=cpu",
    "train.threads=1",
    "train.workers=0",
    "train.warmup_steps=0",
)


def wave(text: str) -> np.ndarray:
    """(S,) float64 samples: a tone for each letter, faded in and out, with a gap behind it."""
    time_s = np.arange(round(LETTER_S * RATE_HZ)) / RATE_HZ
    fade = np.hanning(len(time_s))
    silence = np.zeros(len(time_s) // 2)
    pieces = [silence]
    for letter in text:
        tone = np.sin(2 * np.pi * TONES_HZ[letter] * time_s) * fade / 2 if letter != " " else 0 * time_s
        pieces += [tone, silence]
    return np.concatenate(pieces)


def write_corpus(folder: Path, texts: Sequence[str], *, name: str = "train") -> Path:
    """Write a file and a manifest record for each text; returns the manifest. Ids are `<name>-<number>`."""
    utterances = []
    for number, text in enumerate(texts):
        path = folder / "audio" / f"{name}-{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = wave(text)
        soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
        utterances.append(Utterance(path.stem, path, len(samples) / RATE_HZ, text))
    manifest = folder / f"{name}.jsonl"
    write_manifest(manifest, utterances)
    return manifest


def recipe_arguments(folder: Path, corpus: str) -> list[str]:
    """The command line of a recipe of two epochs, whose corpus is prepared in `folder`/out/data."""
    data, conf = folder / "out" / "data", folder / "tiny.yaml"
    for split in ("train", "dev", "test"):
        write_corpus(data, ["ab cab", "ba", "abba"], name=split)
    (data / "summary.json").write_text(json.dumps({"corpus": corpus}))
    (data / "made_from.json").write_text(json.dumps({"source": None}))
    conf.write_text("train: {epochs: 2}\n")
    return ["run.py", "--out", str(folder / "out"), "--conf", str(conf), *TINY]


def tiny(train: Path, dev: Path, *overrides: str) -> Config:
    """The configuration of a tiny model on two manifests."""
    return config.load(None, [*TINY, f"data.train={train}", f"data.dev={dev}", *overrides])


def logged(out: Path, event: str) -> list[dict[str, Any]]:
    """The facts that a run has logged of an event, in order."""
    lines = (out / METRICS_FILE).read_text(encoding="utf-8").splitlines()
    return [facts for facts in map(json.loads, lines) if facts["event"] == event]
