"""Whether a file holds the audio that its header declares: libsndfile takes what it finds for all there is."""

import os
import re

import soundfile

from asr.errors import AudioError

# Some writers count their own header in the sizes that it states, or leave it out.
_HEADER_BYTES = 64
# What libsndfile answers where a FLAC header leaves the length out; reading to the end then fails.
_UNKNOWN_FRAMES = (1 << 63) - 1
# A page of an Ogg stream is at most this long (RFC 3533); the flag marks the last one.
_OGG_PAGE_BYTES = 65307
_OGG_LAST_PAGE = 4
# Writers that cannot seek back (a pipe) leave these in a RIFF header, which then says nothing about the length; or
# about this much, as SoX in WAV and AIFF and arecord do: less a page, and with or without their own header.
_UNKNOWN_BYTES = (0, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
_ABOUT_BYTES = (1 << 31, 0x7F000000)
_PAGE_BYTES = 4096

# Bytes are read with pread, which leaves the descriptor's position alone: libsndfile may be using it.


def check_sphere_length(descriptor: int, name: str) -> None:
    """AudioError when a NIST SPHERE file is truncated: libsndfile ignores sample_count and takes it for a short one."""
    header = os.pread(descriptor, 1024, 0)
    if not header.startswith(b"NIST_1A"):
        return
    entries = dict(re.findall(rb"(\w+) -i (\d+)", header))
    if b"sample_count" not in entries:
        return
    counts = (int(entries.get(key, b"1")) for key in (b"sample_count", b"channel_count", b"sample_n_bytes"))
    declared = 1
    for count in counts:
        declared *= count
    held = os.fstat(descriptor).st_size - 1024
    if declared > held and b"shorten" not in header:
        raise AudioError(f"{name}: truncated: header declares {declared} bytes of samples, the file holds {held}")


def check_length(file: soundfile.SoundFile, descriptor: int, name: str) -> None:
    """AudioError when an open file is shorter than its header says, or the header does not say."""
    # libsndfile shortens what a header declares to what the file holds, and says so in its log only.
    for declared, held in re.findall(r": (\d+) \(should be (\d+)\)", file.extra_info):
        if int(declared) > int(held) + _HEADER_BYTES and not _is_unknown(int(declared)):
            raise AudioError(f"{name}: truncated: header declares {declared} bytes, the file holds {held}")
    if file.format == "OGG":
        _check_ogg_end(descriptor, name)
    if file.frames == _UNKNOWN_FRAMES:
        raise AudioError(f"{name}: header does not state the length (encoded to a pipe?); encode the file again")
    if file.frames == 0:
        held = os.fstat(descriptor).st_size
        # A recorder that is killed never comes to write the length into its header.
        unfinished = f", says its header, in {held} bytes (recorder stopped?)" if held > _PAGE_BYTES else ""
        raise AudioError(f"{name}: holds no samples{unfinished}")


def _is_unknown(declared: int) -> bool:
    about = any(abs(declared - size) <= _PAGE_BYTES + _HEADER_BYTES for size in _ABOUT_BYTES)
    return about or declared in _UNKNOWN_BYTES


def _check_ogg_end(descriptor: int, name: str) -> None:
    # libsndfile takes the whole pages that it finds for all there is.
    tail = os.pread(descriptor, _OGG_PAGE_BYTES, max(0, os.fstat(descriptor).st_size - _OGG_PAGE_BYTES))
    page = tail[tail.rfind(b"OggS") :]
    segments = page[27 : 27 + page[26]] if len(page) > 27 else b""
    if len(page) < 27 + len(segments) + sum(segments) or not page[5] & _OGG_LAST_PAGE:
        raise AudioError(f"{name}: truncated: the Ogg stream has no end")
