"""Training-only transforms of waveforms and features; never constructed for evaluation.

What is drawn depends only on (seed, epoch, utterance id): not on the batch, the worker or the number of workers.
"""

import hashlib
from functools import cache
from math import ceil, log
from pathlib import Path

import numpy as np
import torch
import torchaudio
from torch import Tensor
from torch.nn import functional

from asr import audio
from asr.config import TELEPHONE_HZ, AudioConfig, AugmentConfig
from asr.errors import AudioError
from asr.features import valid_mask, zero_padding_
from asr.files import files_below, is_called_audio
from asr.resampling import resample

# Synthetic noise is read from loops of this many samples (16 s at 16 kHz); their spectral slopes come in so many steps
# per unit. Below 1/65536 of the sample rate the spectrum is flat: otherwise steep noise would be nothing but drift.
_LOOP_SAMPLES = 1 << 18
_SLOPE_STEPS = 4
_LEVEL_BELOW = 1 / 65536
# In a room the direct sound is this much louder than all the echoes together, uniform in decibels.
_DIRECT_DB = (0.0, 15.0)
# A microphone's response is given at this many points along the mel axis, joined by straight lines.
_FILTER_POINTS = 6
_NEPER_POWER_PER_DB = log(10) / 10
# Lengths are padded to a multiple of this: a Fourier transform takes eight times as long for one with a large prime
# factor as for a round one.
_LENGTH_STEP = 4096


def utterance_generator(seed: int, epoch: int, utterance_id: str) -> torch.Generator:
    """The random source of one utterance in one epoch."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{utterance_id}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def speed_of(config: AugmentConfig, seed: int, epoch: int, utterance_id: str) -> float:
    """How many times as fast one utterance runs in one epoch.

    It comes from a hash, not from the utterance's generator: the order of batches needs all speeds at once.
    """
    if not config.speeds:
        return 1.0
    digest = hashlib.blake2b(f"speed/{seed}/{epoch}/{utterance_id}".encode(), digest_size=8).digest()
    return config.speeds[int.from_bytes(digest, "little") % len(config.speeds)]


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def noise_files(config: AugmentConfig) -> list[Path]:
    """The recordings in `augment.noise_dir` and the folders below it, linked ones too, sorted; none where it is empty.

    Raises:
        AudioError: there are none, or a folder cannot be read.
    """
    if not config.noise_dir:
        return []
    found = [path for path in files_below(Path(config.noise_dir), AudioError) if is_called_audio(path)]
    if not found:
        raise AudioError(f"augment.noise_dir={config.noise_dir}: no audio file found there")
    return found


class WaveAugment:
    """Cropping, speed perturbation (Ko et al. 2015), rooms, gain, additive noise and telephones on one waveform."""

    def __init__(self, config: AugmentConfig, audio_config: AudioConfig) -> None:
        self.config = config
        self.audio_config = audio_config
        self.noise_files = noise_files(config)

    def __call__(self, wave: Tensor, generator: torch.Generator, speed: float = 1.0) -> Tensor:
        """Return a perturbed copy of (S,) float32 samples; cropping and the speed change the length."""
        if self.config.crop_share:
            first, last = (int(_uniform(0, self.config.crop_share, generator) * len(wave)) for _ in range(2))
            wave = wave[first : len(wave) - last]
        wave = resample(wave, round(100 * speed), 100)  # now it runs `speed` times as fast
        if self.config.reverb_probability and _uniform(0, 1, generator) < self.config.reverb_probability:
            wave = self._in_a_room(wave, generator)
        gain_db = _uniform(-self.config.gain_db, self.config.gain_db, generator)
        wave = wave * 10 ** (gain_db / 20)
        if _uniform(0, 1, generator) < self.config.noise_probability:
            noise = self._noise(len(wave), generator)
            snr_db = _uniform(*self.config.noise_snr_db, generator)
            power = torch.dot(wave, wave) / torch.dot(noise, noise).clamp_min(1e-20 * len(noise))
            wave = torch.addcmul(wave, noise, torch.sqrt(power * 10 ** (-snr_db / 10)))
        if self.config.telephone_probability and _uniform(0, 1, generator) < self.config.telephone_probability:
            narrow = resample(wave, self.audio_config.sample_rate_hz, TELEPHONE_HZ)
            wave = resample(narrow, TELEPHONE_HZ, self.audio_config.sample_rate_hz)[: len(wave)]
        return wave

    def _in_a_room(self, wave: Tensor, generator: torch.Generator) -> Tensor:
        """`wave` as heard in a room, just as long: what sounds on after its end is cut off."""
        reverb_s = _uniform(*self.config.reverb_s, generator)
        response = room_response(reverb_s, self.audio_config.sample_rate_hz, generator)
        whole = len(wave) + len(response) - 1
        padded = functional.pad(wave, (0, -whole % _LENGTH_STEP))
        heard: Tensor = torchaudio.functional.fftconvolve(padded, response)
        return heard[: len(wave)]

    def _noise(self, samples: int, generator: torch.Generator) -> Tensor:
        if not self.noise_files:
            return coloured_noise(samples, _uniform(0, 2, generator), generator)
        choice = int(torch.randint(len(self.noise_files), (), generator=generator))
        with audio.opened(self.noise_files[choice]) as file:
            total, rate_hz = file.frames, file.file.samplerate
            wanted = min(total, ceil(samples * rate_hz / self.audio_config.sample_rate_hz))
            first = int(torch.randint(total - wanted + 1, (), generator=generator))
            noise = file.mono(first, wanted, self.audio_config)
        start = int(torch.randint(len(noise), (), generator=generator)) if len(noise) < samples else 0
        return noise[(start + torch.arange(samples)) % len(noise)]


def room_response(reverb_s: float, rate_hz: int, generator: torch.Generator) -> Tensor:
    """(S,) float32 impulse response of a room by Polack's statistical model: echoes are decaying Gaussian noise.

    The first sample is the direct sound, 1. Echoes fall by 60 dB in `reverb_s` seconds, where the response ends;
    together they are 0 to 15 dB weaker than the direct sound, in power.
    """
    direct_db = _uniform(*_DIRECT_DB, generator)
    samples = max(2, round(reverb_s * rate_hz))
    decay = torch.exp(torch.linspace(0, -3 * log(10), samples))
    echoes = torch.randn(samples, generator=generator) * decay
    echoes[0] = 0
    response: Tensor = echoes * (10 ** (-direct_db / 20) / torch.linalg.vector_norm(echoes))
    response[0] = 1
    return response


def coloured_noise(samples: int, slope: float, generator: torch.Generator) -> Tensor:
    """(samples,) float32 Gaussian noise whose power falls as 1 / frequency ** slope (0 white, 1 pink, 2 brown).

    Its mean power is 1. The slope is rounded to a quarter. The noise is read from a random place in a loop that is made
    only once.
    """
    loop = _noise_loop(round(_SLOPE_STEPS * slope))
    start = int(torch.randint(len(loop), (), generator=generator))
    if start + samples <= len(loop):
        return loop[start : start + samples].clone()
    return loop[(start + torch.arange(samples)) % len(loop)]


@cache
def _noise_loop(steps: int) -> Tensor:
    """A seamless loop of noise with a slope of `steps` quarters; the same in every process."""
    # numpy's transform runs on one thread: the result must not depend on the number of threads.
    spectrum = np.fft.rfft(np.random.default_rng(steps).standard_normal(_LOOP_SAMPLES))
    spectrum[0] = 0
    frequency = np.fft.rfftfreq(_LOOP_SAMPLES).clip(_LEVEL_BELOW)
    noise = np.fft.irfft(spectrum * frequency ** (-steps / _SLOPE_STEPS / 2), _LOOP_SAMPLES)
    return torch.from_numpy((noise / noise.std()).astype(np.float32))


def draws_of(config: AugmentConfig) -> int:
    """How many uniform numbers FeatureAugment takes for one utterance."""
    filter_points = _FILTER_POINTS if config.filter_db else 0
    return 1 + 2 * (config.freq_masks + config.time_masks) + filter_points


class FeatureAugment:
    """Vocal-tract warp, microphones and SpecAugment masks on a batch, from numbers drawn for each utterance."""

    def __init__(self, config: AugmentConfig, centres_hz: Tensor) -> None:
        self.config = config
        self.centres_hz = centres_hz

    def warp(self, feats: Tensor, draws: Tensor) -> Tensor:
        """Vocal tract length perturbation (Jaitly & Hinton 2013): a speaker with a longer or shorter vocal tract.

        The value at frequency f * factor moves to f, up to a bend; above it the axis is stretched so that its end stays
        in place. Log-mel energies are interpolated between filters.

        Args:
            feats: (B, T, F) log-mel features, padding zero.
            draws: (B, D) uniform in 0..1; the first number of a row gives its factor, in 1 - warp..1 + warp.
        """
        if self.config.warp == 0:
            return feats
        factors = 1 + self.config.warp * (2 * draws[:, :1] - 1)
        centres = self.centres_hz.unsqueeze(0)
        top = centres[:, -1:]
        bend = 0.8 * top / factors.clamp_min(1)
        above = factors * bend + (centres - bend) * (top - factors * bend) / (top - bend)
        read_hz = torch.where(centres <= bend, centres * factors, above).clamp(centres[0, 0], top)
        lower = torch.searchsorted(self.centres_hz, read_hz, right=True).sub(1).clamp(0, len(self.centres_hz) - 2)
        below_hz, next_hz = self.centres_hz[lower], self.centres_hz[lower + 1]
        share = ((read_hz - below_hz) / (next_hz - below_hz)).unsqueeze(1)
        index = lower.unsqueeze(1).expand(-1, feats.shape[1], -1)
        return torch.lerp(feats.gather(2, index), feats.gather(2, index + 1), share)

    def filter(self, feats: Tensor, feat_lens: Tensor, draws: Tensor) -> Tensor:
        """FilterAugment (Nam et al. 2022) in its linear form: a microphone that hears some frequencies better.

        Args:
            feats: (B, T, F) log-mel features, padding zero; it stays zero.
            feat_lens: (B,) int64 on the CPU, valid frames.
            draws: (B, D) uniform in 0..1; the last numbers of a row give the response at equally spaced filters.
        """
        if self.config.filter_db == 0:
            return feats
        points_db = self.config.filter_db * (2 * draws[:, -_FILTER_POINTS:] - 1)
        response_db = functional.interpolate(
            points_db.unsqueeze(1), size=feats.shape[2], mode="linear", align_corners=True
        )
        return zero_padding_(feats + _NEPER_POWER_PER_DB * response_db, feat_lens)

    def mask(self, feats: Tensor, feat_lens: Tensor, draws: Tensor) -> Tensor:
        """Set SpecAugment's bands of frequency and time to zero, the mean of normalised features.

        Args:
            feats: (B, T, F) normalised features.
            feat_lens: (B,) int64 on the CPU, valid frames.
            draws: (B, D) uniform in 0..1; D is `draws_of(config)`.
        """
        config = self.config
        masks = config.freq_masks + config.time_masks
        pairs = draws[:, 1 : 1 + 2 * masks].reshape(len(draws), masks, 2)
        bins = torch.full((len(feats), 1), feats.shape[2], device=feats.device)
        frames = feat_lens.to(feats.device).unsqueeze(1)
        keep_bins = _keep(pairs[:, : config.freq_masks], bins, bins.clamp_max(config.freq_mask_bins), feats.shape[2])
        widest = (frames * config.time_mask_share).long().clamp_max(config.time_mask_frames)
        keep_frames = _keep(pairs[:, config.freq_masks :], frames, widest, feats.shape[1])
        return feats * keep_frames.unsqueeze(2) * keep_bins.unsqueeze(1)


def _keep(pairs: Tensor, sizes: Tensor, widest: Tensor, longest: int) -> Tensor:
    """(B, longest) bool, false inside masks of (width, place) drawn as (B, N, 2) uniform numbers.

    Widths are uniform in 0..widest, places uniform over 0..sizes - width; `sizes` and `widest` are (B, 1).
    """
    widths = (pairs[..., 0] * (widest + 1)).long()
    starts = (pairs[..., 1] * (sizes - widths + 1)).long()
    after_start = ~valid_mask(starts.flatten(), longest, pairs.device).view(*starts.shape, longest)
    before_end = valid_mask((starts + widths).flatten(), longest, pairs.device).view(*starts.shape, longest)
    return ~(after_start & before_end).any(1)
