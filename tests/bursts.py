"""Recordings and models for cutting in pauses: noise that comes in bursts, and an encoder of random weights."""

import torch
from torch import Tensor

from asr import config
from asr.recognizer import Recognizer
from asr.text import BLANK_NAME, Tokenizer

RATE_HZ = 16000


def recognizer_of(*overrides: str) -> Recognizer:
    """A small model, the same each time; what it says depends on every frame."""
    settings = config.load(
        None,
        ["features.mel_bins=16", "encoder.conv_channels=4", "encoder.layers=1", "encoder.width=8", *overrides],
    )
    torch.manual_seed(3)
    recognizer = Recognizer(settings, Tokenizer([BLANK_NAME, " ", *"abcdefgh"], settings.text)).eval()
    with torch.no_grad():  # as drawn, one symbol would win everywhere
        recognizer.encoder.output.weight.mul_(100)
    return recognizer


def speech(*bursts_s: tuple[float, float], duration_s: float, quiet: float = 1e-4) -> Tensor:
    """(S,) noise that is loud in these spans and quiet elsewhere."""
    wave = torch.randn(round(duration_s * RATE_HZ), generator=torch.Generator().manual_seed(1))
    level = torch.full_like(wave, quiet)
    for first_s, end_s in bursts_s:
        level[round(first_s * RATE_HZ) : round(end_s * RATE_HZ)] = 0.1
    return wave * level
