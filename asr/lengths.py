"""Sample, frame and label arithmetic: the only place where one length is turned into another.

Lengths are whole counts. Each function takes a Python int or an int64 tensor and returns the same kind.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # this module stays free of torch
    from torch import Tensor

Count = TypeVar("Count", int, "Tensor")


def ms_to_samples(duration_ms: float, sample_rate_hz: int) -> int:
    """Whole samples in `duration_ms`; ValueError when it is not a whole number of samples."""
    samples = duration_ms * sample_rate_hz / 1000
    if abs(samples - round(samples)) > 1e-6:
        raise ValueError(f"{duration_ms} ms at {sample_rate_hz} Hz is {samples} samples, not a whole number")
    return round(samples)


def s_to_samples(duration_s: float, sample_rate_hz: int) -> int:
    """Nearest number of samples to a time in seconds."""
    return round(duration_s * sample_rate_hz)


def frames_in(samples: Count, fft_samples: int, hop_samples: int) -> Count:
    """Frames that lie wholly inside `samples`: 1 + (samples - fft) // hop, and 0 if there is no whole one.

    Frame t reads samples [t * hop, t * hop + fft) and nothing else, so a frame that was computed while audio
    streams in never changes when more arrives.
    """
    # (samples - fft) // hop is -1 or less when not one frame fits: clamp without branching on the type.
    frames = 1 + (samples - fft_samples) // hop_samples
    return frames * (frames > 0)


def strided(frames: Count, stride: int) -> Count:
    """Frames after one convolution of kernel 3, padding 1 and the given stride: ceil(frames / stride)."""
    return (frames + stride - 1) // stride


def ctc_frames_needed(labels: Sequence[int]) -> int:
    """Fewest frames that can emit `labels` under CTC: one each, and a blank between equal neighbours."""
    repeats = sum(a == b for a, b in pairwise(labels))
    return len(labels) + repeats
