"""Sentences spoken by all the voices that are installed, in turn, as a manifest to train on.

Synthetic speech is no substitute for people's: what it is worth on recorded speech is in the RESULTS.md of the recipes
that use it.
"""

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path

from asr.errors import CorpusError
from asr.files import write_text_atomic
from asr.manifest import Utterance, hours, write_manifest
from recipes.synthesis import espeak, kokoro, programs
from recipes.synthesis.recording import Line, record

PLAN_FILE = "lines.jsonl"


def add_arguments(parser: argparse.ArgumentParser, out: Path) -> None:
    """Add the options that all scripts which speak have in common."""
    parser.add_argument("--out", type=Path, default=out, help="folder for train.jsonl and audio/ (%(default)s)")
    parser.add_argument(
        "--kokoro", type=Path, metavar="FOLDER", help="folder of Kokoro's two files: then it alone speaks"
    )
    parser.add_argument(
        "--workers", type=at_least(1), default=1, metavar="N", help="processes that make speech (%(default)s)"
    )
    parser.add_argument("--seed", type=at_least(0), default=1, help="for all random choices (%(default)s)")


def at_least(least: int) -> Callable[[str], int]:
    """The argparse type of an option that is a whole number, `least` or more."""

    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, found {text}")
        return int(text)

    return number


def installed(kokoro_folder: Path | None, languages: str = kokoro.ENGLISH) -> dict[str, list[str]]:
    """The voices that are installed, by synthesiser: Kokoro's alone where its folder is given, else all the others.

    Raises:
        CorpusError: there is none.
    """
    if kokoro_folder:
        return {"kokoro": [f"kokoro:{voice}" for voice in kokoro.voices(kokoro_folder, languages)]}
    found: dict[str, list[str]] = {}
    if find_spec("espeakng_loader"):
        variants = [variant for split in ("train", "dev", "test") for variant in espeak.VARIANTS[split]]
        found["espeak"] = [f"{accent}+{variant}" for variant in variants for accent in espeak.ACCENTS]
    for program in ("flite", "festival"):
        if there := programs.voices(program):
            found[program] = [f"{program}:{voice}" for voice in there]
    if not found:
        raise CorpusError("no synthesiser is installed: pip install espeakng-loader, or flite or festival, or --kokoro")
    return found


def speak(
    texts: Sequence[str],
    voices: dict[str, list[str]],
    arguments: argparse.Namespace,
    read: Callable[[str], str] = str,
    pitch: tuple[int, int] = (30, 70),
) -> list[Utterance]:
    """Speak sentences with the synthesisers in turn, each with all its voices; `train.jsonl` is written last.

    What an interrupted run has spoken is kept, and more sentences may be added to it.

    Args:
        texts: the transcripts.
        voices: see `installed`.
        arguments: of `add_arguments`.
        read: rewrites a transcript so that synthesisers say it as people do.
        pitch: range to draw from; 50 is a voice's own.

    Raises:
        CorpusError: the folder has recordings of other lines or a manifest of something else, or a synthesiser does not
            do what is asked of it.
    """
    rng = random.Random(arguments.seed)
    voices = {name: list(some) for name, some in voices.items()}
    for some in voices.values():
        rng.shuffle(some)
    turns = cycle([cycle(voices[name]) for name in sorted(voices)])
    lines = [
        Line(
            id=f"spoken-{number:06d}",
            text=read(text),
            voice=next(next(turns)),
            rate=rng.randint(130, 210),
            pitch=rng.randint(*pitch),
            pitch_range=rng.randint(30, 70),
            word_gap=rng.randint(0, 6),
        )
        for number, text in enumerate(texts)
    ]
    manifest = arguments.out / "train.jsonl"
    if manifest.exists() and not (arguments.out / PLAN_FILE).is_file():
        raise CorpusError(f"{manifest}: would be overwritten, and was not spoken here; --out chooses another folder")
    _keep_plan(arguments.out, lines)
    manifest.unlink(missing_ok=True)  # an old one must never stand beside new audio
    voice_of = partial(say, kokoro_folder=arguments.kokoro)
    spoken = record(lines, arguments.out / "audio", arguments.seed, voice_of, workers=arguments.workers, keep=True)
    spoken = [replace(utterance, text=text) for utterance, text in zip(spoken, texts, strict=True)]
    write_manifest(manifest, spoken)
    print(f"{len(spoken)} sentences, {hours(spoken):.2f} h, by {len({item.speaker for item in spoken})} voices")
    return spoken


def say(line: Line, kokoro_folder: Path | None = None) -> tuple[bytes, int]:
    """16-bit samples and their rate in Hz, from the synthesiser that the voice names."""
    name, _, voice = line.voice.rpartition(":")
    if name == "kokoro" and kokoro_folder:
        return kokoro.say(kokoro_folder, voice, line)
    return programs.say(name, voice, line) if name else espeak.say(line)


def _keep_plan(out: Path, lines: Sequence[Line]) -> None:
    """Record who says what; CorpusError if something else is recorded there."""
    plan = [json.dumps(asdict(line)) for line in lines]
    file = out / PLAN_FILE
    before = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for number, (old, new) in enumerate(zip(before, plan, strict=False), start=1):
        if old != new:
            raise CorpusError(f"{file}: line {number}: was another sentence or voice; --out chooses another folder")
    if len(plan) > len(before):
        write_text_atomic(file, "".join(f"{line}\n" for line in plan))
