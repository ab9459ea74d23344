"""Edit distance by its definition: slow and obviously right."""

from collections.abc import Sequence
from functools import cache


def edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Fewest substitutions, deletions and insertions that turn `a` into `b` (Wagner and Fischer 1974)."""

    @cache
    def distance(i: int, j: int) -> int:
        """Between the first i symbols of a and the first j of b."""
        if i == 0 or j == 0:
            return i + j
        return min(
            distance(i - 1, j) + 1,
            distance(i, j - 1) + 1,
            distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]),
        )

    return distance(len(a), len(b))
