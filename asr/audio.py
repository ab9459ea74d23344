"""Audio file to waveform: the only place that opens audio.

Formats are libsndfile's (WAV, FLAC, Ogg Vorbis and Opus, MP3, NIST SPHERE, AIFF, W64 and more). What a header declares
is checked against limits before memory is taken, and against what was read afterwards.
"""

import os
import re
from functools import lru_cache
from math import gcd
from pathlib import Path

import soundfile
import torch
import torchaudio
from torch import Tensor

from asr.config import AudioConfig
from asr.errors import AudioError
from asr.lengths import s_to_samples
from asr.manifest import Utterance

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".sph", ".nist", ".aiff", ".aif", ".au", ".w64")
# Headers state lengths rounded, and lossy codecs pad: a segment may end this much after the audio does.
END_TOLERANCE_S = 0.1
# Some writers count their own header in the sizes that it states, or leave it out.
_HEADER_BYTES = 64
# After a seek the MP3 decoder gives silence or noise until it has read this much, at the lowest bit rates.
_MP3_LEAD_IN_S = 2.0
# What libsndfile answers where a FLAC header leaves the length out; reading to the end then fails.
_UNKNOWN_FRAMES = (1 << 63) - 1
# libsndfile's codes for a file whose format it does not know; the second is that of its MP3 decoder.
_UNKNOWN_FORMAT = (1, 7)
# A page of an Ogg stream is at most this long (RFC 3533); the flag marks the last one.
_OGG_PAGE_BYTES = 65307
_OGG_LAST_PAGE = 4
# Floating-point files hold anything; integers that were not scaled (32768 and more) still pass.
_LOUDEST = 1e9
# An hour of 768 kHz stereo is 22 GB as float32, and a few kilobytes as FLAC.
_MAX_BYTES = 4_000_000_000
# A resampling kernel has (source / gcd) * (target / gcd) taps or more; this many take 200 MB.
_MAX_KERNEL_TAPS = 50_000_000
# Writers that cannot seek back (a pipe) leave these in a RIFF header, which then says nothing about the length.
_UNKNOWN_BYTES = (0, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


def load(path: Path | str, config: AudioConfig, *, offset_s: float = 0.0, duration_s: float | None = None) -> Tensor:
    """Read a file, or a segment of it, as one channel at `config.sample_rate_hz`.

    Args:
        path: audio file.
        config: sample rate, channel policy and limit. `auto` takes one channel as it is, averages two and refuses
            more (which of eight microphones is meant?); `first` takes the first; `mean` averages any number.
        offset_s: start of the segment in seconds.
        duration_s: length of the segment in seconds; None: to the end.

    Returns:
        (S,) float32 samples, nominally in -1..1.

    Raises:
        AudioError: the file is missing, empty, not audio, truncated, too long, has too many channels, holds samples
            that are not finite, or ends before the segment does. The message names the file.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise AudioError(f"{path}: is a folder, not an audio file")
        if path.stat().st_size == 0:
            raise AudioError(f"{path}: file is empty (0 bytes)")
        if path.suffix.lower() == ".raw":
            raise AudioError(f"{path}: raw samples without a header, which says nothing about rate and encoding")
        _check_declared_sphere_length(path)
        with soundfile.SoundFile(os.fsencode(path)) as file:
            _check_header(file, path, config)
            first, frames = _segment(file, path, offset_s, duration_s)
            if frames > config.max_duration_s * file.samplerate:
                raise AudioError(
                    f"{path}: {frames / file.samplerate:.1f} s of audio, more than audio.max_duration_s="
                    f"{config.max_duration_s:g}"
                )
            if 4 * frames * file.channels > _MAX_BYTES:
                raise AudioError(f"{path}: {frames} samples of {file.channels} channels, more than {_MAX_BYTES} bytes")
            rate_hz = file.samplerate
            lead_in = min(first, round(_MP3_LEAD_IN_S * rate_hz)) if file.format == "MP3" else 0
            file.seek(first - lead_in)
            # One read: soundfile seeks after each.
            samples = torch.from_numpy(file.read(lead_in + frames, dtype="float32", always_2d=True))[lead_in:]
    except OSError as error:
        raise AudioError(f"{path}: cannot read audio: {error.strerror or error}") from error
    except MemoryError as error:
        raise AudioError(f"{path}: cannot read audio: no memory for the {frames} samples that it declares") from error
    except soundfile.LibsndfileError as error:
        known = error.code not in _UNKNOWN_FORMAT
        reason = f"damaged or truncated ({error.error_string.strip(' .')})" if known else "format not recognised"
        raise AudioError(f"{path}: cannot read audio: {reason}") from error
    if frames - len(samples) > END_TOLERANCE_S * rate_hz:
        raise AudioError(f"{path}: truncated: header declares {frames} samples, {len(samples)} could be read")
    finite = torch.isfinite(samples)
    if not finite.all():
        bad, channel = (~finite).nonzero()[0].tolist()
        raise AudioError(f"{path}: sample {first + bad} is not finite ({samples[bad, channel].item()})")
    loudest = float(samples.abs().max())
    if loudest > _LOUDEST:
        raise AudioError(f"{path}: a sample of {loudest:.3g}, where full scale is 1: not audio, or wrongly encoded")
    mono = samples[:, 0] if config.channels == "first" or samples.shape[1] == 1 else samples.mean(dim=1)
    try:
        return resample(mono.contiguous(), rate_hz, config.sample_rate_hz)
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from error


def load_utterance(utterance: Utterance, config: AudioConfig) -> Tensor:
    """The waveform of a manifest record, (S,) float32; an AudioError names the utterance."""
    try:
        return load(utterance.audio_filepath, config, offset_s=utterance.offset, duration_s=utterance.duration)
    except AudioError as error:
        raise AudioError(f"utterance {utterance.id}: {error}") from error


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


def _check_header(file: soundfile.SoundFile, path: Path, config: AudioConfig) -> None:
    if file.channels > 2 and config.channels == "auto":
        raise AudioError(
            f"{path}: {file.channels} channels; audio.channels=auto takes one or two (first and mean take any number)"
        )
    if not 1000 <= file.samplerate <= 768000:
        raise AudioError(f"{path}: sample rate {file.samplerate} Hz is not in 1000..768000")
    # libsndfile shortens what a header declares to what the file holds, and says so in its log only.
    for declared, held in re.findall(r": (\d+) \(should be (\d+)\)", file.extra_info):
        if int(declared) > int(held) + _HEADER_BYTES and int(declared) not in _UNKNOWN_BYTES:
            raise AudioError(f"{path}: truncated: header declares {declared} bytes, the file holds {held}")
    if file.format == "OGG":
        _check_ogg_end(path)
    if file.frames == _UNKNOWN_FRAMES:
        raise AudioError(f"{path}: header does not state the length (encoded to a pipe?); encode the file again")
    if file.frames == 0:
        raise AudioError(f"{path}: holds no samples")


def _check_ogg_end(path: Path) -> None:
    # libsndfile takes the whole pages that it finds for all there is.
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _OGG_PAGE_BYTES))
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    segments = page[27 : 27 + page[26]] if len(page) > 27 else b""
    if len(page) < 27 + len(segments) + sum(segments) or not page[5] & _OGG_LAST_PAGE:
        raise AudioError(f"{path}: truncated: the Ogg stream has no end")


def _check_declared_sphere_length(path: Path) -> None:
    # libsndfile ignores sample_count, so a truncated SPHERE file would pass as a short one.
    with path.open("rb") as file:
        header = file.read(1024)
    if not header.startswith(b"NIST_1A"):
        return
    entries = dict(re.findall(rb"(\w+) -i (\d+)", header))
    if b"sample_count" not in entries:
        return
    counts = (int(entries.get(key, b"1")) for key in (b"sample_count", b"channel_count", b"sample_n_bytes"))
    declared = 1
    for count in counts:
        declared *= count
    held = path.stat().st_size - 1024
    if declared > held and b"shorten" not in header:
        raise AudioError(f"{path}: truncated: header declares {declared} bytes of samples, the file holds {held}")


def _segment(file: soundfile.SoundFile, path: Path, offset_s: float, duration_s: float | None) -> tuple[int, int]:
    """First sample and number of samples of the segment, at the file's own rate."""
    rate_hz, total = file.samplerate, file.frames
    first = s_to_samples(offset_s, rate_hz)
    wanted = total - first if duration_s is None else s_to_samples(duration_s, rate_hz)
    if not 0 <= first < total or wanted < 1 or first + wanted > total + END_TOLERANCE_S * rate_hz:
        raise AudioError(
            f"{path}: segment {offset_s:g}..{offset_s + wanted / rate_hz:g} s is not inside the audio, "
            f"which is {total / rate_hz:.3f} s long"
        )
    return first, min(wanted, total - first)
