"""espeak-ng through ctypes: formant synthesis with many voices, `pip install espeakng-loader`.

A voice is an accent with a variant (vocal tract, pitch and voice quality), for example `en-us+f2`. The library keeps
state from one utterance to the next: the phase of the flutter, the noise of breathy voices.
"""

import ctypes
import functools
from pathlib import Path
from typing import Any

from asr.errors import CorpusError
from recipes.synthesis.recording import Line

# British, Caribbean, Scottish, Lancaster, West Midlands, received pronunciation, American, New York
ACCENTS = ["en", "en-029", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-gb-x-rp", "en-us", "en-us-nyc"]
# Whispering, croaking and robot-like variants are left out, and those that clip inside the synthesiser. Of variants
# that are near copies of one another, at most one is here.
VARIANTS = {  # by split of the demo
    "train": "m1 m3 m4 m6 f1 f2 f4 Alex Annie Denis Gene Michael Mike Nguyen Reed adam "
    "belinda max norbert pablo quincy steph".split(),
    "dev": "m8 f5 john marcelo".split(),
    "test": "m2 m5 m7 f3 edward linda robert shelby".split(),
}

# espeak-ng's speak_lib.h
_SYNCHRONOUS, _DO_NOT_EXIT = 2, 0x8000  # the second: report missing data, instead of ending the process
_RATE, _VOLUME, _PITCH, _RANGE, _WORD_GAP, _UTF8, _BY_CHARACTER = 1, 2, 3, 4, 7, 1, 1
_VOLUME_PERCENT = 60  # at the default of 100 the louder variants clip inside the library
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def require_loader() -> Any:
    """The package that brings the library; CorpusError when it is not installed."""
    try:
        import espeakng_loader
    except ModuleNotFoundError as error:
        raise CorpusError(
            "speech is made with espeak-ng, which is not installed: pip install espeakng-loader"
        ) from error
    return espeakng_loader


class _Espeak:
    """The espeak-ng library; its state belongs to the process, so there is one for each process."""

    def __init__(self) -> None:
        loader = require_loader()
        data: str = loader.get_data_path()
        self._variants = Path(data) / "voices" / "!v"
        try:
            library = ctypes.CDLL(loader.get_library_path())
            library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        except (OSError, AttributeError) as error:
            raise CorpusError(f"espeak-ng cannot be used, version 1.52 or later is wanted: {error}") from error
        library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
        library.espeak_SetSynthCallback.argtypes = [_CALLBACK]
        library.espeak_SetSynthCallback.restype = None
        library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
        library.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
        library.espeak_Synth.argtypes = [
            *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint),
            *(ctypes.POINTER(ctypes.c_uint), ctypes.c_void_p),
        ]
        self._library = library
        self._chunks: list[bytes] = []
        self._callback = _CALLBACK(self._receive)  # kept here: the library holds a bare pointer to it
        self.rate_hz: int = library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), _DO_NOT_EXIT)
        if self.rate_hz <= 0:
            raise CorpusError(f"espeak-ng cannot read {data} ({len(data)} characters; it takes fewer than 160)")
        library.espeak_SetSynthCallback(self._callback)
        _check(library.espeak_ng_SetRandSeed(1), "seed")  # otherwise it would come from the clock

    def say(self, line: Line) -> bytes:
        """A line as 16-bit samples at `rate_hz`."""
        variant = line.voice.partition("+")[2]
        if not (self._variants / variant).is_file():  # the library would silently speak without the variant
            raise CorpusError(f"{line.id}: espeak-ng has no variant {variant!r} (voice {line.voice})")
        _check(self._library.espeak_SetVoiceByName(line.voice.encode()), f"{line.id}: voice {line.voice}")
        values = {_RATE: line.rate, _PITCH: line.pitch, _RANGE: line.pitch_range, _WORD_GAP: line.word_gap}
        for parameter, value in {**values, _VOLUME: _VOLUME_PERCENT}.items():
            _check(self._library.espeak_SetParameter(parameter, value, 0), f"{line.id}: parameter {parameter}={value}")
        text = line.text.encode() + b"\0"
        self._chunks.clear()
        status = self._library.espeak_Synth(text, len(text), 0, _BY_CHARACTER, 0, _UTF8, None, None)
        _check(status, f"{line.id}: {line.text!r}")
        _check(self._library.espeak_Synchronize(), f"{line.id}: {line.text!r}")
        pcm = b"".join(self._chunks)
        if not any(pcm):
            raise CorpusError(f"{line.id}: espeak-ng gave no sound for {line.text!r} in voice {line.voice}")
        return pcm

    def _receive(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0  # 0: go on


def _check(status: int, what: str) -> None:
    if status != 0:
        raise CorpusError(f"espeak-ng refused {what} (status {status}, expected 0)")


_espeak = functools.cache(_Espeak)


def say(line: Line) -> tuple[bytes, int]:
    """16-bit samples and their rate in Hz."""
    return _espeak().say(line), _espeak().rate_hz
