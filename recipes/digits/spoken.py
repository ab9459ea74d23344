"""Single digits by Kokoro's voices of all languages, who say them with an accent: for `run.py --outside`.

python recipes/digits/spoken.py --kokoro FOLDER [--out exp/digits/spoken] [--recordings 2700]
"""

import argparse
import random
import sys
from pathlib import Path

# A script finds modules in its own folder only; the speaking processes import those of `recipes` by name.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from asr.cli import parse, run_command
from asr.corpora.digits import WORDS
from recipes.synthesis import kokoro, voices


def run() -> int:
    """Speaks each digit about equally often, in random order; returns the exit code."""
    parser = argparse.ArgumentParser(prog="recipes/digits/spoken.py", description=(__doc__ or "").partition("\n")[0])
    voices.add_arguments(parser, Path("exp/digits/spoken"))
    parser.add_argument(
        "--recordings", type=voices.at_least(1), default=2700, metavar="N", help="how many to make (%(default)s)"
    )
    arguments = parse(parser)
    rng = random.Random(arguments.seed)
    words: list[str] = []
    while len(words) < arguments.recordings:
        words += rng.sample(WORDS, k=len(WORDS))
    voices.speak(words[: arguments.recordings], voices.installed(arguments.kokoro, kokoro.ANY), arguments)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(run))
