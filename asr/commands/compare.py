"""`asr compare`: two systems on the same references."""

import argparse
import sys
from pathlib import Path

from asr.commands.common import require_html
from asr.errors import ScoringError


def add_compare(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr compare`."""
    parser.add_argument("a", type=Path, help="hypotheses.jsonl of one system, or the folder that it is in")
    parser.add_argument("b", type=Path, help="the same of the other system, for the same references")
    parser.add_argument(
        "--html", type=Path, metavar="FILE.html", help="also write a page of the differences, with audio players"
    )
    parser.set_defaults(run=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    from asr.hypotheses import read_hypotheses
    from asr.report import render_comparison
    from asr.wer import compare

    a, b = _hypotheses(arguments.a), _hypotheses(arguments.b)
    if arguments.html is None:
        comparison = compare(read_hypotheses(a), read_hypotheses(b))
    else:
        from asr.files import write_text_atomic
        from asr.pages.comparison import comparison_page

        require_html("--html", arguments.html)
        comparison, page = comparison_page(a, b, str(arguments.a), str(arguments.b))
        write_text_atomic(arguments.html, page)
        print(f"page: {arguments.html}", file=sys.stderr)
    print(render_comparison(comparison, str(arguments.a), str(arguments.b)), end="")
    return 0


def _hypotheses(path: Path) -> Path:
    """A file of hypotheses: `path`, or the one in that folder; if it has none, a ScoringError names those below it."""
    from asr.hypotheses import HYPOTHESES_FILE

    if not path.is_dir():
        return path
    if (path / HYPOTHESES_FILE).is_file():
        return path / HYPOTHESES_FILE
    below = sorted(path.glob(f"*/{HYPOTHESES_FILE}"))
    inside = " or ".join(str(file.parent) for file in below[:3])
    hint = f"; did you mean {inside}?" if below else "; asr evaluate writes one"
    raise ScoringError(f"{path}: is a folder without {HYPOTHESES_FILE}{hint}")
