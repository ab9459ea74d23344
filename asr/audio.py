"""Audio, as a file or its content, to a waveform: the only place that opens audio.

Formats are libsndfile's (WAV, FLAC, Ogg Vorbis and Opus, MP3, NIST SPHERE, AIFF, W64 and more). What a header declares
is checked against limits before memory is allocated, and afterwards against what was read.
"""

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import index
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal

import numpy as np
import soundfile
import torch
from torch import Tensor

from asr.config import AudioConfig
from asr.containers import check_length, check_sphere
from asr.errors import AudioError
from asr.lengths import s_to_samples
from asr.manifest import Utterance
from asr.resampling import StreamResampler, resample

# Headers round lengths, and lossy codecs pad: a segment may end this much after the audio does.
END_TOLERANCE_S = 0.1
# After a seek the MP3 decoder gives silence or noise until it has read this much, at the lowest bit rates.
_MP3_LEAD_IN_S = 2.0
# libsndfile's codes for a file whose format it does not know; the second is that of its MP3 decoder.
_UNKNOWN_FORMAT = (1, 7)
_UNKNOWN_ADVICE = "if it is audio, convert it to WAV or FLAC first, for example: ffmpeg -i FILE FILE.wav"
# Floating-point files can hold any value; integers that were not scaled (32768 and more) still pass.
_LOUDEST = 1e9
# Most that is read at once, as float32: an hour of 768 kHz stereo takes 22 GB, but as FLAC perhaps a few kilobytes.
_MAX_BYTES = 4_000_000_000
# A block of `blocks` is at most this large as float32, whatever rate and channels a header declares.
_MAX_BLOCK_BYTES = 64_000_000
_SKIPPED_AT_ONCE = 1_000_000  # samples
# A few kilobytes of FLAC can hold days of silence: memory stays bounded, but time does not.
LONGEST_S = 86_400.0


def load(
    source: Path | str | bytes,
    config: AudioConfig,
    *,
    name: str = "",
    offset_s: float = 0.0,
    duration_s: float | None = None,
    channel: int | None = None,
) -> Tensor:
    """Read audio, or a segment of it, as one channel at `config.sample_rate_hz`.

    Args:
        source: path of an audio file, or the content of one.
        config: sample rate, channel policy and limit. `auto` takes one channel as it is, averages two and refuses
            more (which of eight microphones is meant?); `first` takes the first; `mean` averages any number.
        name: what messages call the audio; default: its path.
        offset_s: start of the segment in seconds.
        duration_s: length of the segment in seconds; None: to the end.
        channel: which channel, 0 being the first; None: as `config.channels` says.

    Returns:
        (S,) float32 samples, nominally in -1..1.

    Raises:
        AudioError: the file is missing, empty, not audio, truncated, too long, has too many channels or lacks
            `channel`, holds samples that are not finite, or ends before the segment does. The message names the file.
    """
    with opened(source, name) as audio:
        return audio.mono(*audio.segment(offset_s, duration_s), config, channel)


def blocks(
    source: Path | str | bytes,
    config: AudioConfig,
    *,
    name: str = "",
    channel: int | None = None,
    block_s: float = 30.0,
    max_duration_s: float = LONGEST_S,
) -> Iterator[Tensor]:
    """Read a recording of any length in bounded memory; the blocks, joined, are what `load` gives.

    `config.max_duration_s` is ignored: it limits the memory of what is read as a whole. Only time needs a limit here,
    since a header may declare, and a small file may hold, days of silence.

    Args:
        source: path of an audio file, or the content of one.
        config: sample rate and channel policy, as for `load`.
        name: what messages call the audio; default: its path.
        channel: as for `load`.
        block_s: seconds of audio read at once; the last block may be nearly twice as long.
        max_duration_s: a longer recording is an error, judged by the header before anything is read.

    Yields:
        (S,) float32 samples at `config.sample_rate_hz`, S > 0; equal to 1e-6 to the recording resampled as a whole.

    Raises:
        AudioError: as `load`, in part only when the block is reached; the message names the file and the sample.
    """
    with opened(source, name) as audio:
        file, name, frames = audio.file, audio.name, audio.frames
        audio.check_channels(config, channel)
        if frames > max_duration_s * file.samplerate:
            raise AudioError(f"{name}: {frames / file.samplerate:.1f} s of audio, wanted at most {max_duration_s:g} s")
        size = max(1, min(round(block_s * file.samplerate), _MAX_BLOCK_BYTES // (4 * file.channels)))
        # A header may declare a little more than there is: the last block is a long one, so that it is never empty.
        count = max(1, frames // size)
        try:
            resampler = StreamResampler(file.samplerate, config.sample_rate_hz)
        except AudioError as error:
            raise AudioError(f"{name}: {error}") from error
        for number in range(count):
            first = number * size
            samples = audio.read(first, size if number + 1 < count else frames - first)
            resampled = resampler.accept(_mono(samples, config, channel))
            if len(resampled):
                yield resampled
        resampled = resampler.finish()
        if len(resampled):
            yield resampled


def _check_channels(channels: int, name: str, config: AudioConfig) -> None:
    if channels > 2 and config.channels == "auto":
        raise AudioError(
            f"{name}: {channels} channels; audio.channels=auto accepts one or two; first or mean (--channels) accepts "
            "any number"
        )


def _resampled(samples: Tensor, rate_hz: int, config: AudioConfig, name: str, channel: int | None = None) -> Tensor:
    """(S, channels) samples as (S,) at `config.sample_rate_hz`."""
    try:
        return resample(_mono(samples, config, channel), rate_hz, config.sample_rate_hz)
    except AudioError as error:
        raise AudioError(f"{name}: {error}") from error


def _mono(samples: Tensor, config: AudioConfig, channel: int | None) -> Tensor:
    """(S, channels) samples as (S,): one channel, or what `config.channels` says."""
    if channel is not None:
        return samples[:, channel].contiguous()
    single = config.channels == "first" or samples.shape[1] == 1
    return samples[:, 0].contiguous() if single else samples.mean(dim=1)


def from_array(samples: Any, sample_rate_hz: int | None, config: AudioConfig, *, name: str = "samples") -> Tensor:
    """Samples in memory as one channel at `config.sample_rate_hz`.

    Args:
        samples: (S,), or (S, channels); numpy, torch or anything that numpy accepts. Floating point is taken as it is,
            nominally -1..1; integers of 16 and 32 bits are scaled to that.
        sample_rate_hz: their rate.
        config: sample rate and channel policy, as for `load`.
        name: what messages call them.

    Returns:
        (S',) float32 samples.

    Raises:
        AudioError: no rate, another shape or type, no samples, or values that are not finite or not audio.
    """
    table = as_table(samples, name)
    if not table.numel():
        raise AudioError(f"{name}: holds no samples")
    _check_channels(table.shape[1], name, config)
    return _resampled(table, as_rate(sample_rate_hz, name), config, name)


def as_rate(sample_rate_hz: Any, name: str) -> int:
    """A sample rate in Hz, given as any integer type including numpy's; AudioError if it is none or out of range."""
    try:
        rate_hz = 0 if isinstance(sample_rate_hz, bool) else index(sample_rate_hz)
    except TypeError:
        rate_hz = 0
    if not 1000 <= rate_hz <= 768000:
        raise AudioError(f"{name}: sample_rate_hz must be a whole number in 1000..768000, found {sample_rate_hz!r}")
    return rate_hz


def as_table(samples: Any, name: str, first: int = 0) -> Tensor:
    """Samples in memory as (S, channels) float32, S possibly 0; messages count the samples from `first`.

    Types and errors are those of `from_array`.
    """
    wanted = f"{name}: wanted (S,) or (S, channels) samples, floats or integers of 16 or 32 bits, found"
    try:
        if isinstance(samples, Tensor):  # numpy accepts none on a GPU, with a gradient or of bfloat16
            samples = samples.detach().cpu()
            samples = samples.float() if samples.is_floating_point() else samples
        values = np.asarray(samples)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of different lengths; a sparse tensor
        reason = " ".join(str(error).split())
        raise AudioError(f"{wanted} {type(samples).__name__}, which is not an array: {reason}") from error
    kind, width = values.dtype.kind, values.dtype.itemsize
    if values.ndim not in (1, 2) or not (kind == "f" or (kind == "i" and width in (2, 4))):
        raise AudioError(f"{wanted} shape {values.shape} of {values.dtype}")
    if kind == "i":
        values = values / -float(np.iinfo(values.dtype).min)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is reported below
        table = torch.from_numpy(np.array(values, np.float32, ndmin=1))  # a copy: strides may be negative
    table = table.unsqueeze(1) if table.ndim == 1 else table
    if table.numel():
        _check_values(table, first, name)
    return table


def load_utterance(utterance: Utterance, config: AudioConfig, content: bytes | None = None) -> Tensor:
    """The waveform of a manifest record, (S,) float32; an AudioError names the utterance.

    `content` replaces the file, and holds only the segment and its channel.
    """
    path = utterance.audio_filepath
    try:
        if content is None:
            offset_s, duration_s = utterance.offset, utterance.duration
            return load(path, config, offset_s=offset_s, duration_s=duration_s, channel=utterance.channel)
        return load(content, config, name=str(path), duration_s=utterance.duration)
    except AudioError as error:
        raise AudioError(f"utterance {utterance.id}: {error}") from error


@dataclass
class OpenAudio:
    """Open audio whose header passed the checks.

    Attributes:
        file: what reads it.
        name: what messages call it.
        frames: its samples per channel; `file.frames` is a guess in MP3 files whose header does not state it.
    """

    file: soundfile.SoundFile
    name: str
    frames: int
    _place: int = 0  # the sample after those that were read

    def segment(self, offset_s: float, duration_s: float | None) -> tuple[int, int]:
        """First sample and number of samples of a segment, at the file's own rate; AudioError if it is not inside."""
        rate_hz, total = self.file.samplerate, self.frames
        if not math.isfinite(offset_s + (duration_s or 0.0)):
            raise AudioError(f"{self.name}: segment at {offset_s} s of {duration_s} s: wanted finite numbers")
        first = s_to_samples(offset_s, rate_hz)
        wanted = total - first if duration_s is None else s_to_samples(duration_s, rate_hz)
        if not 0 <= first < total or wanted < 1 or first + wanted > total + END_TOLERANCE_S * rate_hz:
            raise AudioError(
                f"{self.name}: segment {offset_s:g}..{offset_s + wanted / rate_hz:g} s is not inside the audio, "
                f"which is {total / rate_hz:.3f} s long"
            )
        return first, min(wanted, total - first)

    def read(self, first: int, frames: int, dtype: Literal["float32", "int16"] = "float32") -> Tensor:
        """(S, channels) samples from `first` on; AudioError if they are too many, missing, not finite or absurd."""
        file, name = self.file, self.name
        if 4 * frames * file.channels > _MAX_BYTES:
            raise AudioError(f"{name}: {frames} samples of {file.channels} channels, more than {_MAX_BYTES} bytes")
        lead_in = min(first, round(_MP3_LEAD_IN_S * file.samplerate)) if file.subtype.startswith("MPEG_") else 0
        self._go_to(first - lead_in)
        try:
            # A single read, because soundfile seeks after each.
            samples = torch.from_numpy(file.read(lead_in + frames, dtype=dtype, always_2d=True))[lead_in:]
        except MemoryError as error:
            raise AudioError(
                f"{name}: cannot read audio: no memory for the {frames} samples that it declares"
            ) from error
        self._place = first + len(samples)
        if len(samples) == 0 or frames - len(samples) > END_TOLERANCE_S * file.samplerate:
            raise AudioError(f"{name}: truncated: header declares {self.frames} samples, {self._place} could be read")
        if dtype == "float32":
            _check_values(samples, first, name)
        return samples

    def _go_to(self, place: int) -> None:
        """Make `place` the next sample to be read; files in telephony codecs can only be read forwards."""
        if self.file.seekable():
            self.file.seek(place)
        elif place < self._place:
            raise AudioError(
                f"{self.name}: cannot go back to sample {place}: {self.file.subtype} can only be read forwards"
            )
        else:
            for first in range(self._place, place, _SKIPPED_AT_ONCE):
                self.file.read(min(_SKIPPED_AT_ONCE, place - first), dtype="int16")

    def require_channel(self, channel: int) -> None:
        """Raise AudioError if there is no such channel; 0 is the first."""
        if not 0 <= channel < self.file.channels:
            raise AudioError(
                f"{self.name}: wanted channel {channel}, 0 being the first, found {self.file.channels} in all"
            )

    def check_channels(self, config: AudioConfig, channel: int | None = None) -> None:
        """Raise AudioError if there are more channels than `config.channels` accepts, or `channel` is missing."""
        if channel is None:
            _check_channels(self.file.channels, self.name, config)
        else:
            self.require_channel(channel)

    def averages(self, config: AudioConfig, channel: int | None = None) -> bool:
        """Whether two channels become one without being asked for, as `audio.channels=auto` says."""
        return self.file.channels == 2 and config.channels == "auto" and channel is None

    def check_duration(self, config: AudioConfig, frames: int) -> None:
        """AudioError if so many frames are longer than `config.max_duration_s`."""
        rate = self.file.samplerate
        if frames > config.max_duration_s * rate:
            raise AudioError(
                f"{self.name}: {frames / rate:.1f} s of audio, more than audio.max_duration_s={config.max_duration_s:g}"
            )

    def mono(self, first: int, frames: int, config: AudioConfig, channel: int | None = None) -> Tensor:
        """(S,) float32 samples of one channel at `config.sample_rate_hz`; AudioError as `load`."""
        file, name = self.file, self.name
        self.check_channels(config, channel)
        self.check_duration(config, frames)
        return _resampled(self.read(first, frames), file.samplerate, config, name, channel)


@contextmanager
def opened(source: Path | str | bytes, name: str = "") -> Iterator[OpenAudio]:
    """Open audio and check its header; any fault, even one met later while reading, is an AudioError."""
    if isinstance(source, str):
        source = Path(source)
    name = name or (f"{len(source)} bytes of audio" if isinstance(source, bytes) else str(source))
    try:
        with _descriptor(source, name) as descriptor:
            check_sphere(descriptor, name)
            # Never opened by its name: libsndfile takes any file called .au or .snd for audio.
            with soundfile.SoundFile(descriptor, closefd=False) as file:
                if not 1000 <= file.samplerate <= 768000:
                    raise AudioError(f"{name}: sample rate {file.samplerate} Hz is not in 1000..768000")
                yield OpenAudio(file, name, check_length(file, descriptor, name))
    except OSError as error:
        raise AudioError(f"{name}: cannot read audio: {error.strerror or error}") from error
    except soundfile.LibsndfileError as error:
        known = error.code not in _UNKNOWN_FORMAT
        fault = f"damaged, truncated, or in a codec that libsndfile does not read ({error.error_string.strip(' .')})"
        fault = fault if known else f"format not recognised; {_UNKNOWN_ADVICE}"
        raise AudioError(f"{name}: cannot read audio: {fault}") from error


@contextmanager
def _descriptor(source: Path | bytes, name: str) -> Iterator[int]:
    if isinstance(source, bytes):
        size = len(source)
    elif "\0" in str(source):
        raise AudioError(f"{name!r}: a path cannot hold a null character")
    elif source.is_dir():
        raise AudioError(f"{name}: is a folder, not an audio file")
    else:
        status = source.stat()
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(f"{name}: is a pipe or device, not a file; `-` takes audio from standard input")
        if size and source.suffix.lower() == ".raw":
            raise AudioError(f"{name}: raw samples without a header: --stream --sample-rate HZ reads them from a pipe")
    if size == 0:
        raise AudioError(f"{name}: file is empty (0 bytes)")
    # Content becomes a file in memory: soundfile reads Python's file objects through callbacks, which print a traceback
    # when a damaged file makes libsndfile seek to before the beginning.
    descriptor = _empty_file() if isinstance(source, bytes) else os.open(source, os.O_RDONLY)
    try:
        if isinstance(source, bytes):
            with open(descriptor, "wb", closefd=False) as file:
                file.write(source)
            os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _empty_file() -> int:
    """The descriptor of an empty file without a name; in memory on Linux."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("audio")
    with TemporaryFile() as file:
        return os.dup(file.fileno())


def _check_values(samples: Tensor, first: int, name: str) -> None:
    lowest, highest = (float(value) for value in torch.aminmax(samples))
    loudest = max(-lowest, highest)
    if not math.isfinite(loudest):
        bad, channel = (~torch.isfinite(samples)).nonzero()[0].tolist()
        raise AudioError(f"{name}: sample {first + bad} is not finite ({samples[bad, channel].item()})")
    if loudest > _LOUDEST:
        raise AudioError(f"{name}: a sample of {loudest:.3g}, where full scale is 1: not audio, or wrongly encoded")
