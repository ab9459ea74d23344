"""Resampling by torchaudio's windowed sinc, of a whole recording or of one that comes in pieces."""

from functools import lru_cache
from math import gcd

import torch
import torchaudio
from torch import Tensor
from torch.nn import functional

from asr.errors import AudioError

# A resampling kernel has (source / gcd) * (target / gcd) taps or more; this many take 200 MB.
_MAX_KERNEL_TAPS = 50_000_000
# A row of the matrix product makes at least _GROUP_SAMPLES samples; _BLOCK_GROUPS rows are computed at a time, so that
# they stay in the cache.
_GROUP_SAMPLES = 32
_BLOCK_GROUPS = 1024


def resample(waveform: Tensor, source_hz: int, target_hz: int) -> Tensor:
    """Band-limited (windowed sinc) resampling of (S,) float32 samples.

    Raises:
        AudioError: the two rates have so little in common that the filter would not fit in memory.
    """
    if source_hz == target_hz:
        return waveform
    return _filter(*_ratio(source_hz, target_hz))(waveform)


class StreamResampler:
    """`resample` for audio that comes in pieces: the pieces that it returns, joined, are the same to 1e-6.

    Samples are returned once those that the filter reads ahead are there: about 7 ms late at the usual rates.

    Raises:
        AudioError: as `resample`.
    """

    def __init__(self, source_hz: int, target_hz: int) -> None:
        self.source, self.target = _ratio(source_hz, target_hz)
        self._filter = None if source_hz == target_hz else _filter(self.source, self.target)
        self._kept = torch.zeros(0)  # from a multiple of `source` on: the context, then what was not returned yet
        self._done = 0  # samples of context in `_kept`, a multiple of `source`

    def accept(self, samples: Tensor) -> Tensor:
        """Take (S,) float32 samples at the source's rate; returns (S',) at the target's, perhaps none."""
        if self._filter is None:
            return samples
        # `source` samples become `target`, read from `width` before their first to `width + source` after it.
        self._kept = torch.cat([self._kept, samples])
        groups = (len(self._kept) - self._done - self._filter.width) // self.source
        if groups < 1:
            return samples.new_zeros(0)
        resampled = self._resampled(self._done + groups * self.source)
        context = -(-self._filter.width // self.source) * self.source
        self._done += groups * self.source
        drop = max(0, self._done - context)
        self._kept, self._done = self._kept[drop:].clone(), self._done - drop
        return resampled

    def finish(self) -> Tensor:
        """The samples not returned yet; zeros follow the end, as they do in a whole recording."""
        if self._filter is None or len(self._kept) == self._done:
            return torch.zeros(0)
        return self._resampled(None)

    def _resampled(self, end: int | None) -> Tensor:
        """The resampled samples from the context's end to `end`, a multiple of `source`; None: to the last."""
        assert self._filter is not None
        whole = self._filter(self._kept)
        first, last = (None if at is None else at // self.source * self.target for at in (self._done, end))
        return whole[first:last].clone()


def _ratio(source_hz: int, target_hz: int) -> tuple[int, int]:
    """The two rates in lowest terms; AudioError when the filter between them would be too large."""
    common = gcd(source_hz, target_hz)
    source, target = source_hz // common, target_hz // common
    if source * target > _MAX_KERNEL_TAPS:
        raise AudioError(f"cannot resample from {source_hz} Hz to {target_hz} Hz: the ratio needs too large a filter")
    return source, target


class _Filter:
    """torchaudio's filter as a matrix product: its convolution makes few samples at a place, and takes twice as long.

    Every `source` samples (a group) become `target`, the two rates in lowest terms. A row of the product makes several
    groups at once; each column has the filter's weights for one sample, with zeros before and after them.

    Attributes:
        width: samples that a group reads before its first, and after its last.
    """

    def __init__(self, source: int, target: int) -> None:
        made = torchaudio.transforms.Resample(source, target)
        self.width: int = made.width
        self.source, self.target = source, target
        self.groups = -(-_GROUP_SAMPLES // target)  # in a row
        weights = made.kernel[:, 0].T
        self.weights = weights.new_zeros(len(weights) + (self.groups - 1) * source, self.groups * target)
        for group in range(self.groups):
            first = group * source
            self.weights[first : first + len(weights), group * target : (group + 1) * target] = weights

    def __call__(self, wave: Tensor) -> Tensor:
        """(S,) float32 samples -> (ceil(S * target / source),), with zeros before and after the recording."""
        samples = -(-len(wave) * self.target // self.source)
        rows = max(1, -(-samples // self.weights.shape[1]))
        read, step = len(self.weights), self.groups * self.source
        behind = max(0, (rows - 1) * step + read - self.width - len(wave))
        windows = functional.pad(wave, (self.width, behind)).unfold(0, read, step)
        made = wave.new_empty(rows, self.weights.shape[1])
        for start in range(0, rows, _BLOCK_GROUPS):
            block = slice(start, min(start + _BLOCK_GROUPS, rows))
            torch.mm(windows[block], self.weights, out=made[block])
        return made.flatten()[:samples]


@lru_cache(maxsize=32)
def _filter(source: int, target: int) -> _Filter:
    return _Filter(source, target)
