"""A signal that comes while a kernel computes leaves the memory of the process alone."""

import os
import subprocess
import sys

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
