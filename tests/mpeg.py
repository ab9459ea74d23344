"""MP3 as encoders other than libsndfile leave it: without a first frame that states the length, or in a WAV file."""

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile


def constant_mp3(path: Path, samples: npt.NDArray[np.float64]) -> bytes:
    """Write samples at 16 kHz as an MP3 file of a constant bit rate, 80 kbit/s, and return its content."""
    # Without a level the bit rate varies all the same.
    soundfile.write(path, samples, 16000, format="MP3", bitrate_mode="CONSTANT", compression_level=0.5)
    return path.read_bytes()


def without_length(content: bytes) -> bytes:
    """The frames of an MP3 file that libsndfile wrote but the first, which holds the length and no sound."""
    return content[content.index(content[:2], 4) :]


def in_wav(content: bytes, rate_hz: int) -> bytes:
    """A WAV file of one channel that holds MP3, and a chunk of odd size before it."""
    form = struct.pack("<HHIIHHHHIHHH", 0x55, 1, rate_hz, 0, 576, 0, 12, 1, 2, 1152, 1, 0)
    chunks = [(b"fmt ", form), (b"fact", bytes(4)), (b"JUNK", b"data "), (b"data", content)]
    body = b"".join(name + struct.pack("<I", len(held)) + held + len(held) % 2 * b"\0" for name, held in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body
