"""What the benchmarks share: alternating rounds, medians, and the machine that they ran on."""

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def alternate(tasks: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each task in each round, the tasks taking turns: a machine that slows down slows all of them."""
    for task in tasks.values():
        task()  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            started = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(a: list[float], b: list[float]) -> tuple[float, float, float]:
    """Smallest, median and largest of a / b, round by round."""
    ratios = [x / y for x, y in zip(a, b, strict=True)]
    return min(ratios), statistics.median(ratios), max(ratios)


def machine() -> dict[str, str]:
    """Processor, versions and commit, for the record."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    return {
        "cpu": cpu,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "commit": commit.stdout.strip(),
    }


def report(facts: dict[str, Any], path: Path | None) -> None:
    """Print the machine, and write everything as JSON when a path is given."""
    facts = {**facts, "machine": machine()}
    print(", ".join(f"{key} {value}" for key, value in facts["machine"].items()))
    if path is not None:
        path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
