"""Synthetic speech for the demo: spoken digits and short commands by espeak-ng, made offline in seconds.

The corpus is easy, and not a benchmark: formant synthesis of 40 words, without real mumbling, rooms or accents. A low
word error rate here shows that the whole chain works, and says nothing about recorded speech.

A voice is an espeak-ng accent with a variant, for example `en-us+f2`. Every accent is in every split. Each variant is
in one split only: no variant of dev or test is heard in training. Digit strings are drawn at random, so most in test
are new; the commands come from a grammar so small that most of test's commands are in training too.

The library keeps state from one utterance to the next. Each split is therefore spoken by a fresh process, in a fixed
order and from a fixed seed. That makes the files identical to the bit in every run on one machine with the same library
versions.
"""

import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asr.corpora.summary import BEGUN_FILE, SUMMARY_FILE
from asr.errors import CorpusError
from asr.files import write_text_atomic
from asr.manifest import hours, write_manifest
from recipes.synthesis import espeak
from recipes.synthesis.recording import Line, record

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


def make_speech(
    out: Path,
    *,
    seed: int = 1,
    train_utterances: int = 1900,
    dev_utterances: int = 160,
    test_utterances: int = 208,
) -> dict[str, Any]:
    """Make the corpus in `out`: 16 kHz mono 16-bit WAV files, train, dev and test.jsonl, and finally summary.json.

    A folder whose summary.json was made with the same settings is left as it is. The script that calls this must
    guard its own start with `if __name__ == "__main__"`, because the synthesiser runs in a spawned process.

    Args:
        out: folder of the corpus; missing parents are created.
        seed: determines everything that is drawn at random.
        train_utterances, dev_utterances, test_utterances: size of each split, at least 1.

    Returns:
        What summary.json holds: `corpus`, `settings`, and in `splits` for each its `utterances`, `hours`, `words`,
        `voices` and `variants`.

    Raises:
        CorpusError: espeakng-loader is not installed, the library does not do what is asked of it, or `out` has
            manifests of another corpus.
        ValueError: a split would be empty.
    """
    sizes = {"train": train_utterances, "dev": dev_utterances, "test": test_utterances}
    for split, size in sizes.items():
        if size < 1:
            raise ValueError(f"{split}_utterances must be at least 1, found {size}")
    espeak.require_loader()
    settings = {"seed": seed, **{f"{split}_utterances": size for split, size in sizes.items()}}
    marker, begun = out / SUMMARY_FILE, out / BEGUN_FILE
    found: dict[str, Any] = next((json.loads(file.read_text("utf-8")) for file in (marker, begun) if file.exists()), {})
    if marker.exists() and found.get("settings") == settings:
        return found
    for file in (marker, *(out / f"{split}.jsonl" for split in sizes)):
        if "settings" not in found and file.exists():
            raise CorpusError(f"{file}: would be overwritten, and was not made here; choose another folder")
    summary: dict[str, Any] = {"corpus": "demo", "settings": settings, "splits": {}}
    write_text_atomic(begun, json.dumps(summary) + "\n")
    marker.unlink(missing_ok=True)  # from here on the folder is incomplete
    for split, size in sizes.items():
        lines = plan(split, size, seed)
        utterances = record(lines, out / "audio" / split, seed, espeak.say)
        write_manifest(out / f"{split}.jsonl", utterances)
        summary["splits"][split] = {
            "utterances": len(utterances),
            "hours": round(hours(utterances), 4),
            "words": sum(len(line.text.split()) for line in lines),
            "voices": len({line.voice for line in lines}),
            "variants": espeak.VARIANTS[split],
        }
    write_text_atomic(marker, json.dumps(summary, indent=2) + "\n")
    begun.unlink()
    return summary


def plan(split: str, size: int, seed: int) -> list[Line]:
    """What is said in a split, and by whom: digits and commands in turn, every voice about equally often."""
    rng = random.Random(f"{seed} {split}")
    voices = [f"{accent}+{variant}" for variant in espeak.VARIANTS[split] for accent in espeak.ACCENTS]
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
