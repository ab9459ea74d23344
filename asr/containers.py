"""Checks that a file holds the audio its header declares: libsndfile takes what it finds for all there is."""

import mmap
import os
import re
import zlib
from functools import lru_cache

import soundfile

from asr.errors import AudioError

# Tolerance for declared sizes: some writers count their own header in them, others leave it out.
_HEADER_BYTES = 64
# The length that libsndfile reports if a FLAC header does not state it; reading to the end then fails.
_UNKNOWN_FRAMES = (1 << 63) - 1
# Flags of the pages of an Ogg stream (RFC 3533).
_OGG_FIRST_PAGE = 2
_OGG_LAST_PAGE = 4
_BITS_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
# Writers that cannot seek back (to a pipe) leave these sizes in a RIFF header, which say nothing about the length. Most
# (SoX in WAV and AIFF, arecord, node-wav) leave about the second ones: up to a page less, with or without their own
# header.
_UNKNOWN_BYTES = (0, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
_ABOUT_BYTES = (1 << 31, 1 << 32, 0x7F000000)
_PAGE_BYTES = 4096
_MOST_SPHERE_HEADER = 1 << 20  # bytes; nearly all files have 1024

# Samples of files of which every page or frame was read, by `_identity`: a file may be opened for each of its segments.
_read_through: dict[tuple[int, ...], int] = {}
_REMEMBERED = 4096

_JOINED = "several files joined, of which only the first would be read"
# The first frame holds a header and no sound, and the last ones the encoder's padding.
_MP3_TOLERANCE_S = 0.5
# What the first frame of an MP3 file holds if it states the length.
_MP3_LENGTHS = (b"Xing", b"Info", b"VBRI")
# An ID3v1 tag, the end of an ID3v2.4 tag, Lyrics3, or zeros.
_MP3_TAG = re.compile(rb"TAG.{125}|3DI.{7}|LYRICSBEGIN.*?LYRICS(?:200|END)|\0+", re.DOTALL)
# Bit rates in kbit/s by (MPEG-1 or not, layer) and index; in the other versions those of layers 2 and 3 are the same.
_KILOBITS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}

# Bytes are read with pread or a map, which leave the descriptor's position alone: libsndfile may be using it.


def check_sphere(descriptor: int, name: str) -> None:
    """Raise AudioError if a NIST SPHERE file is compressed or truncated, or does not say how long its header is."""
    start = os.pread(descriptor, 16, 0)
    if not start.startswith(b"NIST_1A\n"):
        return
    digits = start[8:].strip()
    size = int(digits) if digits.isdigit() else 0
    if not 1024 <= size <= _MOST_SPHERE_HEADER:
        wanted = f"1024 to {_MOST_SPHERE_HEADER}"
        raise AudioError(
            f"{name}: cannot read audio: a SPHERE header of {digits.decode('latin-1')} bytes, wanted {wanted}"
        )
    header = os.pread(descriptor, size, 0)
    coding = re.search(rb"^sample_coding -s\d+ (\w+,embedded-[\w.-]+)", header, re.MULTILINE)
    if coding:
        raise AudioError(
            f"{name}: cannot read audio: sample_coding is {coding[1].decode()}, which libsndfile does not read "
            "(sph2pipe decompresses shorten)"
        )
    entries = dict(re.findall(rb"(\w+) -i (\d+)", header))
    if b"sample_count" not in entries:
        return
    counts = (int(entries.get(key, b"1")) for key in (b"sample_count", b"channel_count", b"sample_n_bytes"))
    declared = 1
    for count in counts:
        declared *= count
    held = os.fstat(descriptor).st_size - size
    if declared > held:  # libsndfile ignores sample_count, and takes the file for a short one
        raise AudioError(f"{name}: truncated: header declares {declared} bytes of samples, the file holds {held}")


def check_length(file: soundfile.SoundFile, descriptor: int, name: str) -> int:
    """How many samples an open file has; AudioError if that is not what its header says, or it does not say."""
    # libsndfile shortens what a header declares to what the file holds, and says so only in its log.
    for declared, held in re.findall(r": (\d+) \(should be (\d+)\)", file.extra_info):
        if int(declared) > int(held) + _HEADER_BYTES and not _is_unknown(int(declared)):
            raise AudioError(f"{name}: truncated: header declares {declared} bytes, the file holds {held}")
    this = _identity(descriptor)
    samples: int = file.frames
    if (file.format == "OGG" or file.subtype.startswith("MPEG_")) and this not in _read_through:
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
            if file.format == "OGG":
                _check_ogg_pages(content, name)
            else:
                samples = _mpeg_length(content if file.format == "MP3" else _data_chunk(content), file, name)
        if len(_read_through) >= _REMEMBERED:
            _read_through.clear()
        _read_through[this] = samples
    samples = _read_through.get(this, samples)
    if samples == _UNKNOWN_FRAMES:
        raise AudioError(f"{name}: header does not state the length (encoded to a pipe?); encode the file again")
    if samples == 0:
        held = os.fstat(descriptor).st_size
        # A recorder that is killed never writes the length into its header.
        unfinished = f" according to its header, but {held} bytes (recorder stopped?)" if held > _PAGE_BYTES else ""
        raise AudioError(f"{name}: holds no samples{unfinished}")
    return samples


def _identity(descriptor: int) -> tuple[int, ...]:
    facts = os.fstat(descriptor)
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _is_unknown(declared: int) -> bool:
    about = any(abs(declared - size) <= _PAGE_BYTES + _HEADER_BYTES for size in _ABOUT_BYTES)
    return about or declared in _UNKNOWN_BYTES


def _check_ogg_pages(content: mmap.mmap, name: str) -> None:
    # libsndfile takes the complete pages that it finds for all there is, the first stream for the only one, and leaves
    # out a page whose checksum is wrong: what follows moves up.
    place, header_type = 0, 0
    while content[place : place + 4] == b"OggS" and place + 27 < len(content):
        before, header_type = header_type, content[place + 5]
        if header_type & _OGG_FIRST_PAGE and before and not before & _OGG_FIRST_PAGE:
            raise AudioError(f"{name}: {_JOINED}")
        segments = content[place + 27 : place + 27 + content[place + 26]]
        page = content[place : place + 27 + len(segments) + sum(segments)]
        first, place = place, place + 27 + len(segments) + sum(segments)
        if place <= len(content) and not _is_intact(page):
            raise AudioError(f"{name}: damaged: the Ogg page at byte {first} does not fit its checksum")
    if place > len(content) or not header_type & _OGG_LAST_PAGE:
        raise AudioError(f"{name}: truncated: the Ogg stream has no end")


def _is_intact(page: bytes) -> bool:
    """Whether a page of an Ogg stream has its checksum (RFC 3533), which is zlib's in another order of bits."""
    found = zlib.crc32((page[:22] + bytes(4) + page[26:]).translate(_BITS_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{found:032b}"[::-1], 2) == int.from_bytes(page[22:26], "little")


def _data_chunk(content: mmap.mmap) -> bytes:
    """What the data chunk of a WAV file holds."""
    place = 12
    while place < len(content):
        begin, end = place + 8, place + 8 + int.from_bytes(content[place + 4 : place + 8], "little")
        if content[place : place + 4] == b"data":
            return content[begin:end]
        place = end + end % 2
    return b""


def _mpeg_length(content: bytes | mmap.mmap, file: soundfile.SoundFile, name: str) -> int:
    """How many samples MPEG audio has: libsndfile believes its first header, or guesses by the first bit rate."""
    place = samples = 0
    expected: int = file.frames
    stated = False
    while place + 4 <= len(content):
        size, count = _mpeg_frame(content[place : place + 4]) or (_mp3_tag_bytes(content, place), 0)
        if size == 0:
            break
        if samples == 0:
            stated = any(mark in content[place : place + size] for mark in _MP3_LENGTHS)
        place += size
        samples += count
    if samples > expected + _MP3_TOLERANCE_S * file.samplerate:
        raise AudioError(
            f"{name}: {_JOINED}, or its bit rate varies and no header states the length: "
            f"{expected / file.samplerate:.1f} s by its beginning, {samples / file.samplerate:.1f} s by all frames"
        )
    if stated or place + 4 <= len(content):  # with other bytes between or after the frames the decoder may go on
        return expected
    if place > len(content):
        raise AudioError(f"{name}: truncated: ends inside an MP3 frame or tag, and no header states the length")
    return min(samples, expected)


def _mp3_tag_bytes(content: bytes | mmap.mmap, place: int) -> int:
    """Bytes of the tag or the zeros that begin at this place, 0 if there are none."""
    start = content[place : place + 16]
    if start.startswith(b"ID3"):  # its size is stored as four times seven bits
        return 10 + sum(byte << 7 * (3 - number) for number, byte in enumerate(start[6:10]))
    if start.startswith(b"APETAGEX"):
        return 32 + int.from_bytes(start[12:16], "little")
    tag = _MP3_TAG.match(content, place)
    return tag.end() - place if tag else 0


@lru_cache(maxsize=4096)
def _mpeg_frame(header: bytes) -> tuple[int, int] | None:
    """Bytes and samples of a frame of MPEG audio by its four header bytes (ISO 11172-3, 13818-3), or None."""
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bit_rate, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if header[0] != 0xFF or header[1] < 0xE0 or version == 1 or layer == 4 or bit_rate in (0, 15) or rate == 3:
        return None
    first = version == 3  # MPEG-1; 2 is MPEG-2 and 0 is MPEG-2.5, at half and a quarter of the sample rates
    rate_hz = (44100, 48000, 32000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    bits = 1000 * _KILOBITS[first, layer if first or layer == 1 else 2][bit_rate - 1]
    if layer == 1:
        return (12 * bits // rate_hz + padding) * 4, 384
    samples = 1152 if first or layer == 2 else 576
    return samples // 8 * bits // rate_hz + padding, samples
