"""`asr` under torchrun, and the processes that it starts."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from conftest import ROOT


def torchrun(
    *arguments: object, processes: int = 2, restarts: int = 0, script: Sequence[str] = ("-m", "asr")
) -> subprocess.Popen[str]:
    """Processes of `script` with these arguments, started again `restarts` times when one of them dies."""
    options = ["--standalone", "--nproc-per-node", str(processes), "--max-restarts", str(restarts)]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *options, *script, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def workers_of(out: Path) -> list[int]:
    """Processes that were told to write to `out`, torchrun itself left away."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:  # it has ended
                continue
            if str(out) in words and "torch.distributed.run" not in words:
                found.append(int(folder.name))
    return found
