"""Every labelling there is with its score, by definition: slow and obviously right."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from oracles.ctc import collapse


def labellings(log_probs: NDArray[np.floating], blank: int = 0) -> dict[tuple[int, ...], float]:
    """Natural-log probability of every labelling of (T, V), summed over its alignments."""
    frames, vocabulary = log_probs.shape
    probs = np.exp(log_probs.astype(np.float64))
    total: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(vocabulary), repeat=frames):
        mass = math.prod(float(probs[frame, label]) for frame, label in enumerate(path))
        labels = collapse(path, blank)
        total[labels] = total.get(labels, 0.0) + mass
    return {labels: math.log(mass) for labels, mass in total.items() if mass > 0}


def best_alignment(log_probs: NDArray[np.floating], labels: Sequence[int], blank: int = 0) -> tuple[float, list[int]]:
    """Natural-log probability of the best path of a labelling, and the frames in which its labels begin."""
    frames, vocabulary = log_probs.shape
    best, starts = -math.inf, []
    for path in itertools.product(range(vocabulary), repeat=frames):
        if collapse(path, blank) == tuple(labels):
            score = sum(float(log_probs[frame, label]) for frame, label in enumerate(path))
            if score > best:
                best = score
                starts = [t for t, v in enumerate(path) if v != blank and (t == 0 or path[t - 1] != v)]
    return best, starts


def ranked(
    log_probs: NDArray[np.floating], bonus: Callable[[tuple[int, ...]], float], blank: int = 0
) -> list[tuple[float, tuple[int, ...]]]:
    """All labellings with their scores, best first; `bonus` gives what is not acoustic (-inf: not allowed)."""
    found = [(score + bonus(labels), labels) for labels, score in labellings(log_probs, blank).items()]
    return sorted([item for item in found if item[0] > -math.inf], reverse=True)
