"""What a process asks of the system's libraries so that it computes fast."""

import os
from pathlib import Path

_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage")


def set_up() -> None:
    """Do so; before torch is imported, which is why commands import it inside. What the environment says stays."""
    # GNU OpenMP's threads spin for milliseconds where they wait for each other. On a core that another program uses too
    # that makes training ten times slower; this shorter spin costs a few per cent on a quiet machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Memory for large tensors comes in pages of 2 MB. In pages of 4 KB, of which a training step takes some thousands
    # from the system and gives them back, a step takes a tenth longer (benchmarks/RESULTS.md). torch warns where Linux
    # has none.
    if _HUGE_PAGES.exists():
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
