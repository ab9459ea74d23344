"""Sentences spoken by Kokoro's voices of Mandarin and of English in turn: for `run.py --outside`.

    python recipes/speechocean/spoken.py --kokoro FOLDER exp/speechocean/data/train.jsonl examples.txt
        [--out exp/speechocean/spoken] [--sentences 4000]

Texts are manifests, or files with a sentence a line; `examples.py` makes one. Each text is shuffled, and the texts take
turns. Every other voice is a mixture of two, and voices are raised by up to 20 %, to sound like children's.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from itertools import cycle, islice, zip_longest
from pathlib import Path

# A script finds modules in its own folder only; the speaking processes import those of `recipes` by name.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from asr.cli import parse, run_command
from asr.errors import ConfigError
from asr.lm.text import sentences
from recipes.synthesis import kokoro, voices

PITCH = (45, 81)  # a factor of 1.06 for each 10 above 50


def run() -> int:
    """Mixes the sentences and speaks them; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="recipes/speechocean/spoken.py", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "texts", type=Path, nargs="+", metavar="TEXT", help="manifests, or files with a sentence a line, to speak"
    )
    voices.add_arguments(parser, Path("exp/speechocean/spoken"))
    parser.add_argument(
        "--sentences",
        type=voices.at_least(1),
        default=4000,
        metavar="N",
        help="how many to make at most (%(default)s)",
    )
    arguments = parse(parser)
    if not arguments.kokoro:
        raise ConfigError("--kokoro FOLDER is missing: speech made of formants or diphones did not help here")
    english = voices.installed(arguments.kokoro, kokoro.ENGLISH)["kokoro"]
    mandarin = voices.installed(arguments.kokoro, kokoro.MANDARIN)["kokoro"]
    turns = {"english": english + pairs(english, english), "mandarin": mandarin + pairs(mandarin, english)}
    voices.speak(mixed(arguments.texts, arguments.seed)[: arguments.sentences], turns, arguments, pitch=PITCH)
    return 0


def mixed(texts: Sequence[Path], seed: int) -> list[str]:
    """The sentences of all texts in lower case, each text shuffled, taken in turn."""
    rng = random.Random(seed)
    columns = []
    for text in texts:
        column = [" ".join(words).lower() for _, words in sentences([text], "word")]
        rng.shuffle(column)
        columns.append(column)
    return [sentence for row in zip_longest(*columns) for sentence in row if sentence]


def pairs(some: Sequence[str], others: Sequence[str]) -> list[str]:
    """Mixtures of one of `some` and another of `others`, as many as the longer of the two has."""
    between = zip(cycle(some), cycle([*others[1:], others[0]]), strict=False)
    return [f"{one}+{other.partition(':')[2]}" for one, other in islice(between, max(len(some), len(others)))]


if __name__ == "__main__":
    sys.exit(run_command(run))
