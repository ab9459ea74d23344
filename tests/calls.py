"""Recordings of several channels that can be told apart."""

from pathlib import Path

import numpy as np
import soundfile
import torch

from tiny_run import RATE_HZ


def write_call(path: Path, channels: int = 2, duration_s: float = 0.5) -> Path:
    """Other noise in each channel; in every other little of it, and a tone for two tenths of a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seconds = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    noise = 0.1 * np.random.default_rng(5).standard_normal((len(seconds), channels))
    tones = np.sin(2 * np.pi * 700 * seconds) * (seconds % 1 > 0.1) * (seconds % 1 < 0.3)
    noise[:, 1::2] = 0.01 * noise[:, 1::2] + 0.5 * tones[:, None]
    soundfile.write(path, noise, RATE_HZ, subtype="PCM_16")
    return path


def side(path: Path, channel: int) -> torch.Tensor:
    return torch.from_numpy(soundfile.read(path, dtype="float32", always_2d=True)[0][:, channel].copy())
