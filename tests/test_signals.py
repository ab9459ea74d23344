"""A signal that comes while a kernel computes leaves the memory alone; processes of a pool end with the first one."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes
DURING_KERNELS = """
import signal
import torch
from asr.process.signals import stop_requests

torch.set_num_threads(1)
cell, inputs = torch.nn.LSTM(512, 256), torch.randn(40, 12, 512, requires_grad=True)
received = []
signal.signal(signal.SIGALRM, lambda number, _: received.append(number))
with stop_requests():
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    for _ in range(150):
        cell(inputs)[0].sum().backward()
    signal.setitimer(signal.ITIMER_REAL, 0)
print(len(received) > 100)
"""


def test_signals_during_the_kernels_of_a_step() -> None:
    """On a CPU with AVX2 alone the heap is corrupted after some dozens where they run on the stack of the kernel."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONFAULTHANDLER"}
    command = [sys.executable, "-c", DURING_KERNELS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


POOL = """
import os
import sys
import time
from pathlib import Path

from asr.cli import run_command

folder = Path(sys.argv[2])

def trial(task, cell, lag, seed, limit):
    (folder / str(seed)).touch()
    while len(list(folder.iterdir())) < 2:  # both processes have a trial
        time.sleep(0.05)
    os.write(1, b"at work\\n")  # at once: two processes write
    time.sleep(600 if seed == 1 else 0)  # the other one waits for more work

def say(line):
    os.write(1, b"at work\\n")
    time.sleep(600)

def run():
    if sys.argv[1] == "memory":
        from recipes.memory import grid

        grid.run_trial = trial
        list(grid._run([("adding", "rnn", 10, seed) for seed in (1, 2)], grid.Grid()))
    else:
        from recipes.synthesis.recording import Line, record

        record([Line("a", "one", "v", 170, 50, 50, 0)], folder, 1, say)

if __name__ == "__main__":
    sys.exit(run_command(run))
"""


def started(recipe: str, folder: Path) -> subprocess.Popen[str]:
    """A recipe whose processes are at work, in a group of its own."""
    (folder / "made").mkdir()
    (folder / "pool.py").write_text(POOL)
    process = subprocess.Popen(
        [sys.executable, folder / "pool.py", recipe, folder / "made"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert process.stdout is not None
    for _ in range(2 if recipe == "memory" else 1):
        assert process.stdout.readline() == "at work\n"
    return process


def told_by_all(process: subprocess.Popen[str]) -> str:
    """What has been written to standard error when all processes of a group have ended."""
    try:
        return process.communicate(timeout=120)[1]  # once nobody has the pipes any more
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a process that its parent has died")
@pytest.mark.parametrize("recipe", ["memory", "synthesis"])
def test_the_processes_of_a_killed_recipe_end(recipe: str, tmp_path: Path) -> None:
    process = started(recipe, tmp_path)
    process.kill()
    told_by_all(process)
    assert process.returncode == -signal.SIGKILL


def test_an_interrupted_recipe_says_so_once(tmp_path: Path) -> None:
    process = started("memory", tmp_path)
    time.sleep(0.5)  # for the process that waits
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert told_by_all(process) == "interrupted\n"
    assert process.returncode == 130
