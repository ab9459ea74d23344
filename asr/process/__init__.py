"""The process: settings of system libraries that make it fast, its signals and threads, and its fellow processes."""

import ctypes
import os
import sys

# Parameters of glibc's mallopt(3), and what both are set to, in bytes.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 1 << 30


def set_up() -> None:
    """Make the settings of system libraries; call it before importing torch, so commands import torch in functions."""
    # GNU OpenMP's threads spin for milliseconds while they wait for each other. On a core shared with another program
    # that makes training ten times slower; this shorter spin costs a few per cent on a quiet machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # glibc returns large blocks to the system when they are freed. The next step asks for them again, and each of their
    # pages is cleared when it is first touched (benchmarks/RESULTS.md). Other C libraries have no such function.
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for parameter in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(parameter, _NEVER)


def cores() -> int:
    """How many cores this process may use, or, where the system does not tell, how many there are."""
    allowed = getattr(os, "sched_getaffinity", None)  # only on Linux
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def launched() -> bool:
    """Whether torchrun started this process, even if it is the only one."""
    return "TORCHELASTIC_RUN_ID" in os.environ
