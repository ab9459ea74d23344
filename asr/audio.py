"""Audio to waveform: the only place that opens audio, a file or its content.

Formats are libsndfile's (WAV, FLAC, Ogg Vorbis and Opus, MP3, NIST SPHERE, AIFF, W64 and more). What a header declares
is checked against limits before memory is taken, and against what was read afterwards.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from pathlib import Path
from typing import Literal

import soundfile
import torch
import torchaudio
from torch import Tensor

from asr.config import AudioConfig
from asr.containers import check_length, check_sphere_length
from asr.errors import AudioError
from asr.lengths import s_to_samples
from asr.manifest import Utterance

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".sph", ".nist", ".aiff", ".aif", ".au", ".w64")
# Headers state lengths rounded, and lossy codecs pad: a segment may end this much after the audio does.
END_TOLERANCE_S = 0.1
# After a seek the MP3 decoder gives silence or noise until it has read this much, at the lowest bit rates.
_MP3_LEAD_IN_S = 2.0
# libsndfile's codes for a file whose format it does not know; the second is that of its MP3 decoder.
_UNKNOWN_FORMAT = (1, 7)
# Floating-point files hold anything; integers that were not scaled (32768 and more) still pass.
_LOUDEST = 1e9
# An hour of 768 kHz stereo is 22 GB as float32, and a few kilobytes as FLAC.
_MAX_BYTES = 4_000_000_000
# A resampling kernel has (source / gcd) * (target / gcd) taps or more; this many take 200 MB.
_MAX_KERNEL_TAPS = 50_000_000


def load(
    source: Path | str | bytes,
    config: AudioConfig,
    *,
    name: str = "",
    offset_s: float = 0.0,
    duration_s: float | None = None,
) -> Tensor:
    """Read audio, or a segment of it, as one channel at `config.sample_rate_hz`.

    Args:
        source: path of an audio file, or the content of one.
        config: sample rate, channel policy and limit. `auto` takes one channel as it is, averages two and refuses
            more (which of eight microphones is meant?); `first` takes the first; `mean` averages any number.
        name: what messages call the audio; default: its path.
        offset_s: start of the segment in seconds.
        duration_s: length of the segment in seconds; None: to the end.

    Returns:
        (S,) float32 samples, nominally in -1..1.

    Raises:
        AudioError: the file is missing, empty, not audio, truncated, too long, has too many channels, holds samples
            that are not finite, or ends before the segment does. The message names the file.
    """
    with opened(source, name) as audio:
        file, name = audio.file, audio.name
        if file.channels > 2 and config.channels == "auto":
            raise AudioError(
                f"{name}: {file.channels} channels; audio.channels=auto takes one or two "
                "(first and mean take any number)"
            )
        first, frames = audio.segment(offset_s, duration_s)
        if frames > config.max_duration_s * file.samplerate:
            raise AudioError(
                f"{name}: {frames / file.samplerate:.1f} s of audio, more than audio.max_duration_s="
                f"{config.max_duration_s:g}"
            )
        samples = audio.read(first, frames)
        rate_hz = file.samplerate
    mono = samples[:, 0] if config.channels == "first" or samples.shape[1] == 1 else samples.mean(dim=1)
    try:
        return resample(mono.contiguous(), rate_hz, config.sample_rate_hz)
    except AudioError as error:
        raise AudioError(f"{name}: {error}") from error


def load_utterance(utterance: Utterance, config: AudioConfig, content: bytes | None = None) -> Tensor:
    """The waveform of a manifest record, (S,) float32; an AudioError names the utterance.

    `content` takes the place of the file, and holds the segment alone.
    """
    path = utterance.audio_filepath
    try:
        if content is None:
            return load(path, config, offset_s=utterance.offset, duration_s=utterance.duration)
        return load(content, config, name=str(path), duration_s=utterance.duration)
    except AudioError as error:
        raise AudioError(f"utterance {utterance.id}: {error}") from error


@dataclass(frozen=True)
class OpenAudio:
    """Audio whose header was found good; `name` is what messages call it."""

    file: soundfile.SoundFile
    name: str

    def segment(self, offset_s: float, duration_s: float | None) -> tuple[int, int]:
        """First sample and number of samples of a segment, at the file's own rate; AudioError when it is not inside."""
        rate_hz, total = self.file.samplerate, self.file.frames
        first = s_to_samples(offset_s, rate_hz)
        wanted = total - first if duration_s is None else s_to_samples(duration_s, rate_hz)
        if not 0 <= first < total or wanted < 1 or first + wanted > total + END_TOLERANCE_S * rate_hz:
            raise AudioError(
                f"{self.name}: segment {offset_s:g}..{offset_s + wanted / rate_hz:g} s is not inside the audio, "
                f"which is {total / rate_hz:.3f} s long"
            )
        return first, min(wanted, total - first)

    def read(self, first: int, frames: int, dtype: Literal["float32", "int16"] = "float32") -> Tensor:
        """(S, channels) samples from `first` on; AudioError when they are too many, missing, not finite or absurd."""
        file, name = self.file, self.name
        if 4 * frames * file.channels > _MAX_BYTES:
            raise AudioError(f"{name}: {frames} samples of {file.channels} channels, more than {_MAX_BYTES} bytes")
        lead_in = min(first, round(_MP3_LEAD_IN_S * file.samplerate)) if file.format == "MP3" else 0
        file.seek(first - lead_in)
        try:
            # One read: soundfile seeks after each.
            samples = torch.from_numpy(file.read(lead_in + frames, dtype=dtype, always_2d=True))[lead_in:]
        except MemoryError as error:
            raise AudioError(
                f"{name}: cannot read audio: no memory for the {frames} samples that it declares"
            ) from error
        if len(samples) == 0 or frames - len(samples) > END_TOLERANCE_S * file.samplerate:
            raise AudioError(f"{name}: truncated: header declares {frames} samples, {len(samples)} could be read")
        if dtype == "float32":
            _check_values(samples, first, name)
        return samples


@contextmanager
def opened(source: Path | str | bytes, name: str = "") -> Iterator[OpenAudio]:
    """Open audio and check its header; what is wrong with it, also while it is read, is an AudioError."""
    if isinstance(source, str):
        source = Path(source)
    name = name or (f"{len(source)} bytes of audio" if isinstance(source, bytes) else str(source))
    try:
        with _descriptor(source, name) as descriptor:
            check_sphere_length(descriptor, name)
            path = descriptor if isinstance(source, bytes) else os.fsencode(source)
            with soundfile.SoundFile(path, closefd=False) as file:
                if not 1000 <= file.samplerate <= 768000:
                    raise AudioError(f"{name}: sample rate {file.samplerate} Hz is not in 1000..768000")
                check_length(file, descriptor, name)
                yield OpenAudio(file, name)
    except OSError as error:
        raise AudioError(f"{name}: cannot read audio: {error.strerror or error}") from error
    except soundfile.LibsndfileError as error:
        known = error.code not in _UNKNOWN_FORMAT
        reason = f"damaged or truncated ({error.error_string.strip(' .')})" if known else "format not recognised"
        raise AudioError(f"{name}: cannot read audio: {reason}") from error


@contextmanager
def _descriptor(source: Path | bytes, name: str) -> Iterator[int]:
    if isinstance(source, bytes):
        size = len(source)
    elif source.is_dir():
        raise AudioError(f"{name}: is a folder, not an audio file")
    else:
        size = source.stat().st_size
        if size and source.suffix.lower() == ".raw":
            raise AudioError(f"{name}: raw samples without a header, which says nothing about rate and encoding")
    if size == 0:
        raise AudioError(f"{name}: file is empty (0 bytes)")
    # Content becomes a file in memory: soundfile reads Python's file objects through callbacks, and a damaged file that
    # makes libsndfile seek before the beginning has it print a traceback there.
    descriptor = os.memfd_create("audio") if isinstance(source, bytes) else os.open(source, os.O_RDONLY)
    try:
        if isinstance(source, bytes):
            with open(descriptor, "wb", closefd=False) as file:
                file.write(source)
            os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_values(samples: Tensor, first: int, name: str) -> None:
    finite = torch.isfinite(samples)
    if not finite.all():
        bad, channel = (~finite).nonzero()[0].tolist()
        raise AudioError(f"{name}: sample {first + bad} is not finite ({samples[bad, channel].item()})")
    loudest = float(samples.abs().max())
    if loudest > _LOUDEST:
        raise AudioError(f"{name}: a sample of {loudest:.3g}, where full scale is 1: not audio, or wrongly encoded")


def resample(waveform: Tensor, source_hz: int, target_hz: int) -> Tensor:
    """Band-limited (windowed sinc) resampling of (..., S) float32 samples.

    Raises:
        AudioError: the two rates have so little in common that the filter would not fit in memory.
    """
    if source_hz == target_hz:
        return waveform
    common = gcd(source_hz, target_hz)
    if (source_hz // common) * (target_hz // common) > _MAX_KERNEL_TAPS:
        raise AudioError(f"cannot resample from {source_hz} Hz to {target_hz} Hz: the ratio is not usable")
    resampled: Tensor = _resampler(source_hz // common, target_hz // common)(waveform)
    return resampled


@lru_cache(maxsize=32)
def _resampler(source: int, target: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(source, target)
