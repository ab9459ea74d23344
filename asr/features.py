"""Waveforms to log-mel filterbank features, normalised over valid frames only."""

from collections.abc import Callable, Iterable

import torch
import torchaudio
from torch import Tensor, nn

from asr.config import FeatureConfig
from asr.errors import AudioError, ConfigError
from asr.lengths import frames_in, ms_to_samples

# -100 dB relative to full scale: digital silence becomes this instead of minus infinity.
POWER_FLOOR = 1e-10
# Frames computed at once on a CPU: 256 frames of 512 samples take half a megabyte.
BLOCK_FRAMES = 256
# Added to the variance: a constant mel bin (band-limited audio) normalises to zero instead of amplified noise.
VARIANCE_FLOOR = 1e-4
# Kinds of normalisation that use statistics of the training set.
TRAINED = ("global", "map")


def require_frame(name: str, samples: int, frame_samples: int) -> None:
    """AudioError, beginning with `name` where it is not empty, unless the samples fill one frame."""
    if samples < frame_samples:
        where = f"{name}: " if name else ""
        raise AudioError(f"{where}{samples} samples of audio are shorter than one frame of {frame_samples}")


class LogMel(nn.Module):
    """Log-mel filterbank of a batch of waveforms, on the device of its buffers.

    A frame is `window_ms` of audio under a Hann window, centred in the next power of two of samples; there is no
    padding at the ends, so frame t depends on samples [t * hop, t * hop + fft) alone. Mel filters are Slaney's
    (area-normalised triangles), as in librosa's `melspectrogram(center=False)`.
    """

    window: Tensor
    centres_hz: Tensor  # (F,) centre of gravity of each filter

    def __init__(self, config: FeatureConfig, sample_rate_hz: int) -> None:
        super().__init__()
        window_samples = ms_to_samples(config.window_ms, sample_rate_hz)
        self.hop_samples = ms_to_samples(config.hop_ms, sample_rate_hz)
        self.fft_samples = 1 << (window_samples - 1).bit_length()
        self.mel_bins = config.mel_bins
        margin = (self.fft_samples - window_samples) // 2
        window = torch.zeros(self.fft_samples)
        window[margin : margin + window_samples] = torch.hann_window(window_samples)
        self.register_buffer("window", window, persistent=False)
        filters = torchaudio.functional.melscale_fbanks(
            n_freqs=self.fft_samples // 2 + 1,
            f_min=config.low_hz,
            f_max=config.high_hz or sample_rate_hz / 2,
            n_mels=config.mel_bins,
            sample_rate=sample_rate_hz,
            norm="slaney",
            mel_scale="slaney",
        )
        empty = int((filters.sum(0) == 0).sum())
        if empty:
            raise ConfigError(
                f"features.mel_bins={config.mel_bins} leaves {empty} filters empty at {sample_rate_hz} Hz; fewer bins "
                "or a longer features.window_ms would fill them"
            )
        bins_hz = torch.linspace(0, sample_rate_hz / 2, len(filters)).unsqueeze(1)
        self.register_buffer("centres_hz", (filters * bins_hz).sum(0) / filters.sum(0), persistent=False)
        # Low filters read few bins: four products, each over the bins that a quarter of the filters needs, take a third
        # of the time of one over all. Each weight occurs twice, for the squares of the real and of the imaginary part.
        self.bands: list[slice] = []
        for number, band in enumerate(filters.chunk(4, dim=1)):
            used = band.sum(1).nonzero()
            bins = slice(int(used[0]), int(used[-1]) + 1)
            self.bands.append(slice(2 * bins.start, 2 * bins.stop))
            self.register_buffer(f"filters_{number}", band[bins].repeat_interleave(2, dim=0), persistent=False)

    def lengths(self, wave_lens: Tensor) -> Tensor:
        """(B,) int64 frames for (B,) int64 samples."""
        return frames_in(wave_lens, self.fft_samples, self.hop_samples)

    @torch.no_grad()
    def forward(self, waves: Tensor, wave_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Compute natural-log mel energies.

        Args:
            waves: (B, S) float32 samples, right-padded.
            wave_lens: (B,) int64 on the CPU, valid samples.

        Returns:
            feats: (B, T, F) float32; frames at and after feat_lens are zero.
            feat_lens: (B,) int64, whole frames inside the valid samples.

        Raises:
            AudioError: a waveform is shorter than one frame; the message names the row.
        """
        feat_lens = self.lengths(wave_lens)
        shortest = int(wave_lens.argmin())
        require_frame(f"row {shortest}", int(wave_lens[shortest]), self.fft_samples)
        frames = waves.unfold(1, self.fft_samples, self.hop_samples)
        return self._whole(frames, feat_lens) if waves.is_cuda else self._in_blocks(frames, feat_lens), feat_lens

    def _whole(self, frames: Tensor, feat_lens: Tensor) -> Tensor:
        """All frames at once: (B, T, fft) float32 samples -> (B, T, F) natural-log mel energies."""
        spectrum = torch.view_as_real(torch.fft.rfft(frames * self.window))
        squares = spectrum.square().flatten(-2)
        with torch.autocast("cuda", enabled=False):  # bfloat16 cannot hold the range of a power spectrum
            power = torch.cat([squares[..., bins] @ filters for bins, filters in self._filters()], dim=-1)
        return zero_padding_(power.clamp_min_(POWER_FLOOR).log_(), feat_lens)

    def _in_blocks(self, frames: Tensor, feat_lens: Tensor) -> Tensor:
        """The same on the CPU, in blocks that stay in the cache and reuse their memory; padding is not computed."""
        feats = frames.new_zeros(*frames.shape[:2], self.mel_bins)
        windowed = frames.new_empty(BLOCK_FRAMES, self.fft_samples)
        spectrum = frames.new_empty(BLOCK_FRAMES, self.fft_samples // 2 + 1, dtype=torch.complex64)
        for row, valid in enumerate(feat_lens.tolist()):
            for start in range(0, valid, BLOCK_FRAMES):
                stop = min(start + BLOCK_FRAMES, valid)
                block = slice(0, stop - start)
                torch.mul(frames[row, start:stop], self.window, out=windowed[block])
                torch.fft.rfft(windowed[block], out=spectrum[block])
                squares = torch.view_as_real(spectrum[block]).square_().flatten(-2)
                first = 0
                for bins, filters in self._filters():
                    last = first + filters.shape[1]
                    torch.mm(squares[:, bins], filters, out=feats[row, start:stop, first:last])
                    first = last
            feats[row, :valid].clamp_min_(POWER_FLOOR).log_()
        return feats

    def _filters(self) -> list[tuple[slice, Tensor]]:
        return [(bins, self.get_buffer(f"filters_{band}")) for band, bins in enumerate(self.bands)]


class FrameStream:
    """Log-mel frames of audio that arrives in pieces: the same as of the whole, however it is cut."""

    def __init__(self, log_mel: LogMel) -> None:
        self.log_mel = log_mel
        self.samples = 0  # taken so far
        self.frames = 0  # returned so far
        self._rest = log_mel.window.new_zeros(0)

    def accept(self, samples: Tensor) -> Tensor:
        """Take (S,) float32 samples; returns the (T, F) new frames that lie wholly inside the audio so far, if any."""
        self.samples += len(samples)
        rest = torch.cat([self._rest, samples.to(self._rest)])
        frames = frames_in(len(rest), self.log_mel.fft_samples, self.log_mel.hop_samples)
        self._rest = rest[frames * self.log_mel.hop_samples :].clone()
        self.frames += frames
        if not frames:
            return rest.new_zeros(0, self.log_mel.mel_bins)
        feats: Tensor = self.log_mel(rest.unsqueeze(0), torch.tensor([len(rest)]))[0][0]
        return feats


def valid_mask(lens: Tensor, longest: int, device: torch.device) -> Tensor:
    """(B, longest) bool on `device`, true where position < lens."""
    return torch.arange(longest, device=device) < lens.to(device, non_blocking=True).unsqueeze(1)


def zero_padding_(values: Tensor, lens: Tensor) -> Tensor:
    """Make (B, T, ...) zero, in place, at and after (B,) `lens`, whatever was there: NaN times zero is NaN."""
    if values.is_cuda:
        padding = ~valid_mask(lens, values.shape[1], values.device)
        return values.masked_fill_(padding.view(*padding.shape, *[1] * (values.ndim - 2)), 0)
    for row, length in enumerate(lens.tolist()):  # touches only the padding; a mask touches everything
        values[row, length:] = 0
    return values


class Normalizer(nn.Module):
    """Zero mean and unit variance of each mel bin over valid frames.

    `utterance` takes both from the utterance itself, `global` from the training set (buffers `mean` and `std`, kept
    in the checkpoint; `fit` sets them), `none` leaves the features alone. `map` takes the training set's variance and,
    for an utterance of n frames with mean m, the mean (p * mean + n * m) / (p + n) with p the frames of `prior_s`: the
    maximum a posteriori estimate (Gauvain & Lee 1994), which adapts to a voice, a microphone or a level as far as there
    is audio to know it by. Padding stays zero.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.kind = config.normalization
        self.prior = 1000 * config.prior_s / config.hop_ms  # frames
        if self.kind in TRAINED:
            self.register_buffer("mean", torch.zeros(config.mel_bins))
            self.register_buffer("std", torch.ones(config.mel_bins))

    def forward(self, feats: Tensor, feat_lens: Tensor) -> Tensor:
        """Normalise (B, T, F) features with (B,) int64 CPU lengths; returns the same shape, padding zero."""
        if self.kind == "none":
            return feats
        if self.kind == "global":
            return zero_padding_((feats - self.mean) / self.std, feat_lens)
        if self.kind == "map":
            mean = self.adapted(_sums(feats, feat_lens), _counts(feats, feat_lens)).to(feats.dtype)
            return zero_padding_((feats - mean) / self.std, feat_lens)
        mean, variance = _moments(feats, feat_lens)
        return zero_padding_((feats - mean) * torch.rsqrt(variance + VARIANCE_FLOOR), feat_lens)

    def adapted(self, total: Tensor, count: Tensor | float) -> Tensor:
        """The float64 mean for normalization=map of `count` frames that sum up to (..., F) `total`."""
        return (self.prior * self.mean.double() + total) / (self.prior + count)

    def fit(
        self, batches: Iterable[tuple[Tensor, Tensor]], all_reduce: Callable[[list[Tensor]], None] = lambda _: None
    ) -> None:
        """Set the global mean and standard deviation from (feats, feat_lens) batches.

        `all_reduce` replaces float64 sums by those over all processes, if each is given its share of the batches.
        """
        frames = torch.zeros((), dtype=torch.float64)
        total = torch.zeros_like(self.mean, dtype=torch.float64, device="cpu")
        squares = torch.zeros_like(total)
        for feats, feat_lens in batches:
            valid = feats[valid_mask(feat_lens, feats.shape[1], feats.device)].double().cpu()
            frames += len(valid)
            total += valid.sum(0)
            squares += valid.square().sum(0)
        all_reduce([frames, total, squares])
        mean = total / frames
        self.mean.copy_(mean)
        self.std.copy_((squares / frames - mean.square()).clamp_min(VARIANCE_FLOOR).sqrt())


def _moments(feats: Tensor, feat_lens: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over the valid frames, (B, 1, F) each."""
    counts = _counts(feats, feat_lens)
    # In float64 the mean of a constant bin is exactly that constant, in any batch: dividing by its tiny variance would
    # amplify a rounding error.
    mean = (_sums(feats, feat_lens) / counts).to(feats.dtype)
    variance = zero_padding_(feats - mean, feat_lens).square().sum(1, keepdim=True) / counts
    return mean, variance


def _sums(feats: Tensor, feat_lens: Tensor) -> Tensor:
    """(B, 1, F) float64 sums over the valid frames."""
    return zero_padding_(feats.clone(), feat_lens).sum(1, keepdim=True, dtype=torch.float64)


def _counts(feats: Tensor, feat_lens: Tensor) -> Tensor:
    """(B, 1, 1) int64 numbers of valid frames, on the features' device."""
    return feat_lens.to(feats.device).view(-1, 1, 1)
