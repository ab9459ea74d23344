"""A run folder with random weights, for commands: what they do with files does not depend on how well it recognises."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr import checkpoint, config
from asr.cli import main
from asr.recognizer import Recognizer
from asr.text import BLANK_NAME, Tokenizer

RATE_HZ = 16000
FRAME_SAMPLES = 512  # 25 ms of audio, made up to a power of two
_OVERRIDES = (
    f"audio.sample_rate_hz={RATE_HZ}",
    "features.mel_bins=16",
    "features.normalization=utterance",
    "encoder.conv_channels=4",
    "encoder.layers=1",
    "encoder.width=8",
)


def save_run(folder: Path, *overrides: str) -> Path:
    """Write a run folder and return it; the same weights each time."""
    settings = config.load(None, [*_OVERRIDES, *overrides])
    tokenizer = Tokenizer([BLANK_NAME, " ", *"abcdefgh"], settings.text)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        recognizer = Recognizer(settings, tokenizer)
    with torch.no_grad():  # as drawn, one symbol would win everywhere
        recognizer.encoder.output.weight.mul_(30)
    checkpoint.start_run(folder, settings, tokenizer)
    checkpoint.save_weights(folder, recognizer.state_dict(), {"step": 0})
    return folder


def write_noise(path: Path, samples: int = RATE_HZ, **how: str) -> Path:
    """Noise: nothing that compresses."""
    soundfile.write(path, 0.1 * np.random.default_rng(1).standard_normal(samples), RATE_HZ, **how)
    return path


def write_audio(path: Path, duration_s: float = 1.0) -> Path:
    """Noise of a given length."""
    return write_noise(path, round(duration_s * RATE_HZ))


def write_texts(path: Path, *texts: str) -> Path:
    """A manifest of one-second recordings u0, u1, ... by speakers s0, s1, ... with these texts."""
    write_audio(path.parent / "a.wav")
    records = [
        {"audio_filepath": "a.wav", "duration": 1.0, "text": text, "id": f"u{number}", "speaker": f"s{number}"}
        for number, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def succeed(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, str]:
    """Standard output and standard error of a command that goes well."""
    assert main([str(argument) for argument in arguments]) == 0
    out, err = capsys.readouterr()
    return out, err


def error_line(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The line that a command fails with; nothing else may have been printed."""
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    return err.removesuffix("\n")


@contextmanager
def read_once() -> Iterator[None]:
    """Inside, commands that load the same run folder share one reading of it."""
    with pytest.MonkeyPatch.context() as patch:
        load = lru_cache(checkpoint.load)
        patch.setattr(checkpoint, "load", lambda folder, device, audio, decode: load(folder, device))
        yield
