"""Sentences of AN4's kind, spoken by synthesisers: for `run.py --outside`.

    python recipes/an4/spoken.py [--texts exp/an4/data/train.jsonl] [--out exp/an4/spoken] [--sentences 10000]
        [--kokoro FOLDER]

The sentences are drawn from a word 3-gram of the transcripts; one in eight is a made-up date or number, for words that
are rare in the transcripts. Voices: see recipes/synthesis.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

# A script finds modules in its own folder only; the speaking processes import those of `recipes` by name.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from asr.cli import parse, run_command
from asr.manifest import read_manifest
from recipes.synthesis import voices

ORDER = 3
LONGEST = 14  # words
# How letters and words are written so that synthesisers say them as people do.
SPELLED = {"a": "ay", "z": "zee", "rubout": "rub out", "o": "oh"}
MONTHS = "january february march april may june july august september october november december".split()
ONES = "one two three four five six seven eight nine".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
FIRSTS = "first second third fourth fifth sixth seventh eighth ninth".split()
ORDINALS = [
    *FIRSTS,
    *"tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth".split(),
    "twentieth",
    *(f"twenty {word}" for word in FIRSTS),
    "thirtieth",
    "thirty first",
]


def run() -> int:
    """Draws the sentences and speaks them; returns the exit code."""
    made = Path("exp/an4")
    parser = argparse.ArgumentParser(prog="recipes/an4/spoken.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--texts",
        type=Path,
        default=made / "data" / "train.jsonl",
        help="manifest of transcripts to speak (%(default)s)",
    )
    voices.add_arguments(parser, made / "spoken")
    parser.add_argument(
        "--sentences", type=voices.at_least(1), default=10_000, metavar="N", help="how many to make (%(default)s)"
    )
    arguments = parse(parser)
    texts = [utterance.text.lower() for utterance in read_manifest(arguments.texts)]
    drawn = sentences(texts, arguments.sentences, arguments.seed)
    voices.speak(drawn, voices.installed(arguments.kokoro), arguments, _read)
    return 0


def sentences(texts: Sequence[str], count: int, seed: int) -> list[str]:
    """New sentences drawn from an n-gram model of `texts`, with dates and numbers among them."""
    import numpy as np

    from asr.lm.text import END, UNKNOWN
    from asr.splicing.succession import Succession

    succession = Succession(texts, ORDER)
    words = {number: word for word, number in succession.id_of.items()}
    rng = np.random.default_rng(seed)
    of_dates = random.Random(seed)
    found: list[str] = []
    while len(found) < count:
        if len(found) % 8 == 0:
            found.append(_date(of_dates))
            continue
        said: list[str] = []
        while len(said) < LONGEST:
            probabilities = succession.after(said)
            probabilities[succession.id_of[UNKNOWN]] = 0
            word = words[int(rng.choice(len(probabilities), p=probabilities / probabilities.sum()))]
            if word == END:
                break
            said.append(word)
        if said:
            found.append(" ".join(said))
    return found


def _date(rng: random.Random) -> str:
    year = " ".join(["nineteen", rng.choice(TENS), *([] if rng.random() < 0.15 else [rng.choice(ONES)])])
    if rng.random() < 0.85:
        return f"{rng.choice(MONTHS)} {rng.choice(ORDINALS)} {year}"
    return (
        f"{rng.choice(ONES)} {rng.choice(['hundred', 'thousand', 'hundred and'])} {rng.choice(TENS)} {rng.choice(ONES)}"
    )


def _read(text: str) -> str:
    return " ".join(SPELLED.get(word, word.upper() if len(word) == 1 else word) for word in text.split())


if __name__ == "__main__":
    sys.exit(run_command(run))
