"""CTC by its definition, over every path there is: slow and obviously right."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def collapse(path: Sequence[int], blank: int = 0) -> tuple[int, ...]:
    """The labels that a path stands for: repeats merged, then blanks removed (Graves et al. 2006, section 3.1)."""
    merged = []
    for position, label in enumerate(path):
        if position == 0 or label != path[position - 1]:
            merged.append(label)
    return tuple(label for label in merged if label != blank)


def ctc_loss(log_probs: NDArray[np.float64], labels: Sequence[int], blank: int = 0) -> float:
    """-log of the summed probability of all V ** T paths over (T, V) that collapse to `labels`."""
    frames, vocabulary = log_probs.shape
    total = 0.0
    for path in itertools.product(range(vocabulary), repeat=frames):
        if collapse(path, blank) == tuple(labels):
            total += math.exp(sum(log_probs[frame, label] for frame, label in enumerate(path)))
    return -math.log(total) if total > 0 else math.inf
