"""Synthetic speech for the demo: spoken digits and short commands by espeak-ng, made offline in seconds.

The corpus is easy, and not a benchmark: formant synthesis of 40 words without mumbling, rooms or accents that are
real. A low word error rate here shows that the whole chain works, and says nothing about recorded speech.

A voice is an espeak-ng accent with a variant (vocal tract, pitch and voice quality), for example `en-us+f2`. Every
accent is in every split. Each variant is in one split only: no variant of dev or test is heard in training. Digit
strings are drawn at random, so most in test are new; the commands come from a grammar so small that most of test's
commands are in training too.

The library is reached through ctypes and keeps state from one utterance to the next (the phase of the flutter, the
noise of breathy voices). Each split is therefore spoken by a fresh process, in a fixed order and from a fixed seed.
That makes the files the same to the bit on every run on one machine with the same library versions.
"""

import ctypes
import functools
import itertools
import json
import math
import multiprocessing
import random
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.errors import CorpusError
from asr.files import write_text_atomic
from asr.lengths import s_to_samples
from asr.manifest import Utterance, hours, write_manifest

SAMPLE_RATE_HZ = 16000
SUMMARY_FILE = "summary.json"
EDGE_S = 0.15  # most silence kept before the first and after the last sound

# British, Caribbean, Scottish, Lancaster, West Midlands, received pronunciation, American, New York
ACCENTS = ["en", "en-029", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-gb-x-rp", "en-us", "en-us-nyc"]
# Whispering, croaking and robot-like variants are left out, and those that clip inside the synthesiser. Of variants
# that are near copies of one another there is one at most.
VARIANTS = {
    "train": "m1 m3 m4 m6 f1 f2 f4 Alex Annie Denis Gene Michael Mike Nguyen Reed adam "
    "belinda max norbert pablo quincy steph".split(),
    "dev": "m8 f5 john marcelo".split(),
    "test": "m2 m5 m7 f3 edward linda robert shelby".split(),
}
DIGITS = "zero one two three four five six seven eight nine".split()
# A command is a choice from each part; "<digit>" stands for any digit.
COMMANDS: Sequence[Sequence[Sequence[str]]] = (
    (("turn on", "turn off"), ("the",), ("kitchen", "bedroom", "garden"), ("light", "fan", "radio")),
    (("set the",), ("volume", "timer", "alarm"), ("to",), ("<digit>",)),
    (("open", "close"), ("the",), ("kitchen", "bedroom", "garden"), ("door", "window")),
    (("play", "stop", "repeat"), ("the",), ("next song", "last song", "music", "radio")),
    (("call",), ("<digit>",), ("<digit>",), ("<digit>",)),
    (("play", "stop", "next", "yes", "no", "help"),),
)

# espeak-ng's speak_lib.h
_SYNCHRONOUS, _DO_NOT_EXIT = 2, 0x8000  # the second: report missing data, instead of ending the process
_RATE, _VOLUME, _PITCH, _RANGE, _WORD_GAP, _UTF8, _BY_CHARACTER = 1, 2, 3, 4, 7, 1, 1
_VOLUME_PERCENT = 60  # at the default of 100 the louder variants clip inside the library
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Line:
    """One utterance to speak; `pitch` and `pitch_range` go from 0 to 100, and 50 is the variant's own."""

    id: str
    text: str
    voice: str  # accent+variant
    rate: int  # words a minute
    pitch: int
    pitch_range: int
    word_gap: int  # pause between words, in 10 ms at the default rate


def make_speech(
    out: Path,
    *,
    seed: int = 1,
    train_utterances: int = 1900,
    dev_utterances: int = 160,
    test_utterances: int = 208,
) -> dict[str, Any]:
    """Make the corpus in `out`: 16 kHz mono 16-bit WAV files, train, dev and test.jsonl, and at last summary.json.

    A folder whose summary.json was made with the same settings is left as it is. The script that calls this must
    guard its own start with `if __name__ == "__main__"`, because the synthesiser runs in a spawned process.

    Args:
        out: folder of the corpus; missing parents are made.
        seed: everything that is drawn at random follows from it.
        train_utterances, dev_utterances, test_utterances: size of each split, at least 1.

    Returns:
        What summary.json holds: `settings`, and in `splits` for each its `utterances`, `hours`, `words`, `voices` and
        `variants`.

    Raises:
        CorpusError: espeakng-loader is not installed, or the library does not do what is asked of it.
        ValueError: a split would be empty.
    """
    sizes = {"train": train_utterances, "dev": dev_utterances, "test": test_utterances}
    for split, size in sizes.items():
        if size < 1:
            raise ValueError(f"{split}_utterances must be at least 1, found {size}")
    _require_loader()
    settings = {"seed": seed, **{f"{split}_utterances": size for split, size in sizes.items()}}
    marker = out / SUMMARY_FILE
    if marker.exists():
        found: dict[str, Any] = json.loads(marker.read_text(encoding="utf-8"))
        if found.get("settings") == settings:
            return found
        marker.unlink()  # from here on the folder is incomplete
    summary: dict[str, Any] = {"settings": settings, "splits": {}}
    for split, size in sizes.items():
        lines = plan(split, size, seed)
        utterances = record(lines, out / "audio" / split, seed)
        write_manifest(out / f"{split}.jsonl", utterances)
        summary["splits"][split] = {
            "utterances": len(utterances),
            "hours": round(hours(utterances), 4),
            "words": sum(len(line.text.split()) for line in lines),
            "voices": len({line.voice for line in lines}),
            "variants": VARIANTS[split],
        }
    write_text_atomic(marker, json.dumps(summary, indent=2) + "\n")
    return summary


def plan(split: str, size: int, seed: int) -> list[Line]:
    """What is said in a split, and by whom: digits and commands in turn, every voice about equally often."""
    rng = random.Random(f"{seed} {split}")
    voices = [f"{accent}+{variant}" for variant in VARIANTS[split] for accent in ACCENTS]
    rng.shuffle(voices)
    return [
        Line(
            id=f"{split}-{index:04d}",
            text=_digits(rng) if index % 2 else _command(rng),
            voice=voice,
            rate=rng.randint(125, 190),
            pitch=rng.randint(35, 65),
            pitch_range=rng.randint(30, 70),
            word_gap=rng.randint(1, 5),
        )
        for index, voice in enumerate(itertools.islice(itertools.cycle(voices), size))
    ]


def _digits(rng: random.Random) -> str:
    return " ".join(rng.choices(DIGITS, k=rng.randint(1, 6)))


def _command(rng: random.Random) -> str:
    parts = (rng.choice(part) for part in rng.choice(COMMANDS))
    return " ".join(rng.choice(DIGITS) if part == "<digit>" else part for part in parts)


def record(
    lines: Sequence[Line], folder: Path, seed: int, say: Callable[[Line], tuple[bytes, int]] | None = None
) -> list[Utterance]:
    """Speak the lines and write each as a file; a fresh process speaks while this one writes.

    Args:
        lines: texts as the synthesiser is to read them; they become the transcripts.
        folder: for `<id>.wav`, 16 kHz mono 16-bit.
        seed: of levels, silences and noise.
        say: 16-bit samples and their rate in Hz for a line, by name importable in another process; None: espeak-ng.

    Raises:
        CorpusError: the synthesiser does not do what is asked of it.
    """
    import soundfile
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    utterances = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the other core is for the synthesiser, and sums have the same order everywhere
    try:
        # One worker, so that one library speaks the lines in order; spawned, so that its state is fresh.
        with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
            for line, (pcm, rate_hz) in zip(lines, pool.map(say or say_espeak, lines, chunksize=16), strict=True):
                waveform = _finish(pcm, rate_hz, np.random.default_rng([seed, zlib.crc32(line.id.encode())]))
                path = folder / f"{line.id}.wav"
                # Not atomic one by one: summary.json is what says that the corpus is whole.
                soundfile.write(path, waveform, SAMPLE_RATE_HZ, subtype="PCM_16")
                duration_s = len(waveform) / SAMPLE_RATE_HZ
                utterances.append(Utterance(line.id, path, duration_s, line.text, speaker=line.voice))
    finally:
        torch.set_num_threads(threads)
    return utterances


def _finish(pcm: bytes, rate_hz: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """(S,) float32 at 16 kHz from 16-bit samples at `rate_hz`: trimmed, at a random level, over a little noise."""
    import torch

    waveform = np.frombuffer(pcm, dtype=np.int16) / np.float32(32768)
    # Whole seconds: torch prepares a convolution anew for each length it has not met. The silence is trimmed below.
    waveform = np.pad(waveform, (0, -len(waveform) % rate_hz))
    speech = _resampler(rate_hz)(torch.from_numpy(waveform)).numpy().astype(np.float64)
    loud = np.flatnonzero(np.abs(speech) > 0.01 * np.abs(speech).max())  # within 40 dB of the peak
    speech = speech[loud[0] : loud[-1] + 1]
    level = math.sqrt(float(np.mean(speech**2)))
    # Levels of -30 to -18 dB under full scale, with room left at the peak.
    gain = min(10 ** (rng.uniform(-30, -18) / 20) / level, 0.9 / float(np.abs(speech).max()))
    before, after = (s_to_samples(rng.uniform(0.05, EDGE_S), SAMPLE_RATE_HZ) for _ in range(2))
    speech = np.pad(speech * gain, (before, after))
    noise = _noise(len(speech), rng) * level * gain * 10 ** (-rng.uniform(25, 40) / 20)  # SNR of 25 to 40 dB
    return (speech + noise).astype(np.float32)


@functools.cache
def _resampler(rate_hz: int) -> Any:
    import torchaudio

    return torchaudio.transforms.Resample(rate_hz, SAMPLE_RATE_HZ)  # keeps its filter from one waveform to the next


def _noise(samples: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Gaussian noise of root mean square 1 whose power falls as 1/f^a, with a from 0 (white) to 1 (pink)."""
    padded = 1 << (samples - 1).bit_length()  # the transform of a power of two is quick
    spectrum = np.fft.rfft(rng.standard_normal(padded))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** (rng.uniform(0, 1) / 2)
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum)[:samples]
    scaled: npt.NDArray[np.float64] = noise / np.sqrt(np.mean(noise**2))
    return scaled


def _require_loader() -> Any:
    try:
        import espeakng_loader
    except ModuleNotFoundError as error:
        raise CorpusError(
            "the demo's speech is made with espeak-ng, which is not installed: pip install espeakng-loader"
        ) from error
    return espeakng_loader


class _Espeak:
    """The espeak-ng library; its state belongs to the process, so there is one in a process."""

    def __init__(self) -> None:
        loader = _require_loader()
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
        _check(library.espeak_ng_SetRandSeed(1), "seed")  # it would start from the clock

    def say(self, line: Line) -> bytes:
        """16-bit samples at `rate_hz` of a line."""
        variant = line.voice.partition("+")[2]
        if not (self._variants / variant).is_file():  # the library would speak without the variant and say nothing
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


def say_espeak(line: Line) -> tuple[bytes, int]:
    """16-bit samples and their rate in Hz."""
    return _espeak().say(line), _espeak().rate_hz
