"""A process: what it asks of the system's libraries so that it computes fast, its signals, threads and fellows."""

import ctypes
import os
import sys

# Parameters of glibc's mallopt(3), and what both are set to, in bytes.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 1 << 30


def set_up() -> None:
    """Do so; before torch is imported, which is why commands import it inside."""
    # GNU OpenMP's threads spin for milliseconds where they wait for each other. On a core that another program uses too
    # that makes training ten times slower; this shorter spin costs a few per cent on a quiet machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # glibc returns large blocks to the system when they are freed. The next step asks for them again, and each of their
    # pages is cleared when it is first touched (benchmarks/RESULTS.md). Other C libraries have no such function.
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for parameter in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(parameter, _NEVER)


def cores() -> int:
    """How many cores this process may use; where the system does not tell, how many there are."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux has it alone
    return len(allowed(0)) if allowed else os.cpu_count() or 1
