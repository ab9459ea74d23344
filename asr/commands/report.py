"""`asr report`: a run as one HTML page."""

import argparse
from pathlib import Path

from asr.commands.common import PARTLY_FAILED, print_line, require_html
from asr.errors import ConfigError


def add_report(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr report`."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="run folder, or a folder that asr evaluate wrote")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE.html", help="where the page goes (RUN/report.html)")
    parser.add_argument(
        "--worst",
        type=int,
        default=30,
        metavar="N",
        help="how many of the worst utterances of each set to show in full (%(default)s)",
    )
    parser.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> int:
    from asr.files import write_text_atomic
    from asr.pages.run import run_page

    if arguments.worst < 0:
        raise ConfigError(f"--worst must be at least 0, found {arguments.worst}")
    out = arguments.out or arguments.run_folder / "report.html"
    require_html("--out", out)
    found = run_page(arguments.run_folder, worst=arguments.worst)
    write_text_atomic(out, found.html)
    for kind, lines in (("damaged", found.faults), ("note", found.notes)):
        for line in lines:
            print_line(kind, line)
    print(out)
    return PARTLY_FAILED if found.faults else 0
