"""How long the first transcript takes: `asr transcribe` of a short file against Python importing torch and torchaudio.

python benchmarks/cold_start.py RUN AUDIO [--rounds 9] [--precisions float32 auto] [--json FILE]
"""

import argparse
import subprocess
import sys
from functools import partial
from pathlib import Path

from timing import alternate, ratio, report

BARE = "import torch, torchaudio"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--precisions", nargs="+", default=["float32", "auto"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    commands = {BARE: ["-c", BARE]}
    for precision in arguments.precisions:
        options = ["--model", str(arguments.run), "--precision", precision]
        commands[precision] = ["-m", "asr", "transcribe", str(arguments.audio), *options]
    tasks = {
        name: partial(subprocess.run, [sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        for name, command in commands.items()
    }
    seconds = alternate(tasks, arguments.rounds)
    facts: dict[str, object] = {"seconds": seconds}
    for precision in arguments.precisions:
        low, middle, high = facts[precision] = ratio(seconds[precision], seconds[BARE])
        print(f"{precision} / {BARE}: {middle:.2f} ({low:.2f} to {high:.2f})")
    report(facts, arguments.json)


if __name__ == "__main__":
    main()
