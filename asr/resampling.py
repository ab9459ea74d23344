"""Another sample rate: by torchaudio's windowed sinc, of a whole recording or of one that comes in pieces."""

from functools import lru_cache
from math import gcd

import torch
import torchaudio
from torch import Tensor

from asr.errors import AudioError

# A resampling kernel has (source / gcd) * (target / gcd) taps or more; this many take 200 MB.
_MAX_KERNEL_TAPS = 50_000_000


def resample(waveform: Tensor, source_hz: int, target_hz: int) -> Tensor:
    """Band-limited (windowed sinc) resampling of (..., S) float32 samples.

    Raises:
        AudioError: the two rates have so little in common that the filter would not fit in memory.
    """
    if source_hz == target_hz:
        return waveform
    resampled: Tensor = _resampler(*_ratio(source_hz, target_hz))(waveform)
    return resampled


class StreamResampler:
    """`resample` for audio that comes in pieces: what it returns, one after the other, is the same to 1e-6.

    A piece comes out once the samples that its filter reads ahead are there: about 7 ms late at the usual rates.

    Raises:
        AudioError: as `resample`.
    """

    def __init__(self, source_hz: int, target_hz: int) -> None:
        self.source, self.target = _ratio(source_hz, target_hz)
        self._kernel = None if source_hz == target_hz else _resampler(self.source, self.target)
        self._kept = torch.zeros(0)  # from a multiple of `source` on: the context, then what has not come out yet
        self._done = 0  # of `kept`: samples of the context, a multiple of `source`

    def accept(self, samples: Tensor) -> Tensor:
        """Take (S,) float32 samples at the source's rate; returns (S',) at the target's, perhaps none."""
        if self._kernel is None:
            return samples
        # `source` samples become `target`, from `width` before them to `width + source` behind their first.
        self._kept = torch.cat([self._kept, samples])
        groups = (len(self._kept) - self._done - self._kernel.width) // self.source
        if groups < 1:
            return samples.new_zeros(0)
        resampled = self._resampled(self._done + groups * self.source)
        context = -(-self._kernel.width // self.source) * self.source
        self._done += groups * self.source
        drop = max(0, self._done - context)
        self._kept, self._done = self._kept[drop:].clone(), self._done - drop
        return resampled

    def finish(self) -> Tensor:
        """What has not come out yet; zeros are behind the end, as behind the end of a whole recording."""
        if self._kernel is None or len(self._kept) == self._done:
            return torch.zeros(0)
        return self._resampled(None)

    def _resampled(self, end: int | None) -> Tensor:
        """What the samples from the context's end to `end`, a multiple of `source`, become."""
        assert self._kernel is not None
        whole: Tensor = self._kernel(self._kept)
        first, last = (None if at is None else at // self.source * self.target for at in (self._done, end))
        return whole[first:last].clone()


def _ratio(source_hz: int, target_hz: int) -> tuple[int, int]:
    """The two rates in lowest terms; AudioError when the filter between them would be too large."""
    common = gcd(source_hz, target_hz)
    source, target = source_hz // common, target_hz // common
    if source * target > _MAX_KERNEL_TAPS:
        raise AudioError(f"cannot resample from {source_hz} Hz to {target_hz} Hz: the ratio is not usable")
    return source, target


@lru_cache(maxsize=32)
def _resampler(source: int, target: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(source, target)
