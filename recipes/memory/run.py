"""Long lags: a tanh RNN, a GRU and an LSTM of equal size on tasks that need memory over 10 to 1,000 steps."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which the installed package lacks

from asr import stages
from asr.cli import parse, run_command
from asr.files import require_folder, write_text_atomic

TRIALS_FILE = "trials.jsonl"
TABLE_FILE = "table.md"


def run() -> int:
    """Every trial that is missing, then the table and the picture; returns the exit code."""
    parser = argparse.ArgumentParser(prog="recipes/memory/run.py", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("exp/memory"), help="where everything goes (%(default)s)")
    keys = "tasks, cells, lags, seeds, updates or processes, such as lags=[10,100]"
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=keys)
    arguments = parse(parser)
    from recipes.memory import grid, summary  # they import torch, after the settings that `run_command` makes

    wanted = grid.read_grid(arguments.overrides)
    require_folder(arguments.out)
    summary.require_drawing()
    trials = grid.run_grid(wanted, arguments.out / TRIALS_FILE)
    text = f"{summary.table(trials)}\n{summary.totals(trials)}"
    write_text_atomic(arguments.out / TABLE_FILE, text)
    print(text, end="")
    summary.draw(trials, arguments.out)
    stages.say(f"picture: {arguments.out / 'long_lags.svg'}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(run))
