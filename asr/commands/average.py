"""`asr average`."""

import argparse
import sys
from pathlib import Path

_AVERAGE = """Writes one model whose weights are the mean of those of several models that were trained from the same one
(train.init_from), with different seeds or settings. It is often better than any of them on voices that none of them
has heard, and costs no more to use."""


def add_average(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr average`."""
    parser.description = _AVERAGE
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders, two or more")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="run folder to write")
    parser.set_defaults(run=_average)


def _average(arguments: argparse.Namespace) -> int:
    from asr.training.average import average

    average(arguments.runs, arguments.out)
    print(f"{arguments.out}: the mean of {len(arguments.runs)} models", file=sys.stderr)
    return 0
