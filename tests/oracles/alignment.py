"""Forced alignment with a table of all frames and states: nothing is left out, and nothing is bounded."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def best_path(
    log_probs: NDArray[np.float64], labels: Sequence[int], *, any_label: int = -1, any_cost: float = 0.1
) -> tuple[list[int], list[int], float]:
    """First frame and frame behind the last of each label on the best path, and its natural-log probability.

    Args:
        log_probs: (T, V); the blank is 0.
        labels: U labels; `any_label` emits each frame's best less `any_cost`.
    """
    frames, states = len(log_probs), 2 * len(labels) + 1
    tokens = np.zeros(states, int)
    tokens[1::2] = labels
    emitted = np.asarray(log_probs, np.float64)[:, np.maximum(tokens, 0)]
    emitted[:, tokens == any_label] = log_probs.max(axis=1, keepdims=True) - any_cost
    skip = np.zeros(states, bool)
    skip[3::2] = tokens[3::2] != tokens[1:-2:2]
    scores = np.full(states, -np.inf)
    scores[:2] = emitted[0, :2]
    moves = np.zeros((frames, states), np.int8)
    for frame in range(1, frames):
        ways = np.full((3, states), -np.inf)
        ways[0] = scores
        ways[1, 1:] = scores[:-1]
        ways[2, 2:] = np.where(skip[2:], scores[:-2], -np.inf)
        moves[frame] = ways.argmax(axis=0)
        scores = ways.max(axis=0) + emitted[frame]
    state = states - 1 if scores[-1] >= scores[-2] else states - 2
    score = float(scores[state])
    starts, ends = [0] * len(labels), [0] * len(labels)
    for frame in range(frames - 1, -1, -1):
        if state % 2:
            starts[state // 2] = frame
            ends[state // 2] = ends[state // 2] or frame + 1
        state -= int(moves[frame, state])
    return starts, ends, score
