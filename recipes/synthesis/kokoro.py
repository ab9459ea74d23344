"""Kokoro-82M, a neural synthesiser (hexgrad, Apache 2.0), by kokoro-onnx: `pip install kokoro-onnx`.

Its two files come from the release `model-files-v1.0` of thewh1teagle/kokoro-onnx, and must be in one folder. The first
is the model in 8 bits.
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.errors import CorpusError
from recipes.synthesis.recording import Line

MODEL_FILE = "kokoro-v1.0.int8.onnx"
VOICES_FILE = "voices-v1.0.bin"
# The first letter of a voice names the language that it was made from: American and British English, Mandarin.
ENGLISH = "ab"
MANDARIN = "z"
ANY = "abefhijpz"


def voices(folder: Path, languages: str) -> list[str]:
    """The names of the voices of these languages; CorpusError when a file is missing."""
    for name in (MODEL_FILE, VOICES_FILE):
        if not (folder / name).is_file():
            raise CorpusError(f"{folder}: has no {name} of kokoro-onnx's release model-files-v1.0")
    with np.load(folder / VOICES_FILE) as styles:
        return sorted(name for name in styles.files if name[0] in languages)


def say(folder: Path, voice: str, line: Line) -> tuple[bytes, int]:
    """16-bit samples and their rate in Hz.

    A voice may be a pair (`af_heart+zf_xiaoni`): the mean of their styles is a third voice. A pitch other than 50
    scales all frequencies, by 6 % for 10 steps, as if the vocal tract were shorter or longer; the sentence keeps its
    duration.
    """
    speaker = _load(folder)
    scale = round(1.06 ** ((line.pitch - 50) / 10), 2)  # whole percents: a resampler is kept for each rate
    styles = [speaker.get_voice_style(name) for name in voice.split("+")]
    style = np.mean(styles, axis=0, dtype=np.float32)
    try:
        samples, rate_hz = speaker.create(line.text, voice=style, speed=line.rate / 170 / scale, lang="en-us")
    except ValueError as error:
        raise CorpusError(f"{line.id}: kokoro cannot say {line.text!r} in voice {voice}: {error}") from error
    return _as_int16(samples).tobytes(), round(rate_hz * scale)


def _as_int16(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    return (samples / max(1.0, float(np.abs(samples).max())) * 32767).astype(np.int16)


@functools.cache
def _load(folder: Path) -> Any:
    try:
        from kokoro_onnx import Kokoro
    except ModuleNotFoundError as error:
        raise CorpusError("kokoro-onnx is not installed: pip install kokoro-onnx") from error
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # several processes speak
    session = onnxruntime.InferenceSession(str(folder / MODEL_FILE), options, providers=["CPUExecutionProvider"])
    return Kokoro.from_session(session, str(folder / VOICES_FILE))
