"""Greedy (best path) CTC decoding."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.decode.hypothesis import Hypothesis
from asr.errors import DecodeError

# A row of log-probabilities must sum to one this closely; float16 input reaches about 5e-3.
SUM_TOLERANCE = 0.02


def greedy(
    log_probs: Any,
    labels: Sequence[str],
    *,
    lengths: Any = None,
    blank: int = 0,
    space: str = " ",
) -> list[Hypothesis]:
    """Take the best label of each frame, collapse repeats, drop blanks (Graves et al. 2006, section 3.2).

    Args:
        log_probs: (B, T, V) natural-log probabilities, or a list of (T, V); numpy or anything with `__array__` (a
            torch tensor on the CPU), float16, float32 or float64.
        labels: V symbols; the one at `blank` is never written.
        lengths: (B,) valid frames of each utterance; None: all.
        blank: index of the CTC blank.
        space: the word separator among the labels: " ", "|" for wav2vec2 vocabularies, or sentencepiece's U+2581,
            which stands at the beginning of a piece.

    Returns:
        One Hypothesis for each utterance.

    Raises:
        DecodeError: a value is NaN or +inf, a row is not a log-distribution (its probabilities do not sum to one
            within 0.02), V is not the number of labels, or a length is beyond T or no whole number. The message names
            utterance, frame and value; input is never guessed to be probabilities or logits, nor lengths to be shares.
    """
    if not 0 <= blank < len(labels):
        raise DecodeError(f"blank={blank} is outside the vocabulary of {len(labels)} labels")
    try:
        rows = [np.asarray(row) for row in log_probs]
    except (TypeError, RuntimeError) as error:  # a torch tensor that is on a GPU, needs gradients or is bfloat16
        raise DecodeError(f"log-probabilities cannot be read as a numpy array: {error}") from error
    limits = [None] * len(rows) if lengths is None else _frame_counts(lengths)
    if len(limits) != len(rows):
        raise DecodeError(f"{len(limits)} lengths for {len(rows)} utterances")
    return [
        _best_path(_checked(row, limit, number, len(labels)), labels, blank, space)
        for number, (row, limit) in enumerate(zip(rows, limits, strict=True))
    ]


def _frame_counts(lengths: Any) -> list[int]:
    counts = np.asarray(lengths)
    if counts.ndim != 1 or (counts.size and not np.issubdtype(counts.dtype, np.integer)):
        raise DecodeError(f"lengths must be whole frames of shape (B,), found {counts.dtype} of shape {counts.shape}")
    return [int(count) for count in counts]


def _checked(row: NDArray[Any], length: int | None, number: int, vocabulary: int) -> NDArray[np.float32 | np.float64]:
    """The valid frames (None: all) of one utterance as float32 or float64, after every check."""
    where = f"utterance {number}"
    if row.ndim != 2 or row.shape[1] != vocabulary:
        raise DecodeError(f"{where}: expected log-probabilities of shape (T, {vocabulary}), found {row.shape}")
    if not np.issubdtype(row.dtype, np.floating):
        raise DecodeError(f"{where}: expected floating-point log-probabilities, found {row.dtype}")
    if length is None:
        length = len(row)
    if not 0 <= length <= len(row):
        raise DecodeError(f"{where}: length {length} is outside 0..{len(row)}")
    valid = row[:length]
    if valid.dtype == np.float16:
        valid = valid.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.exp(valid).sum(axis=1)
    wrong = ~(np.abs(sums - 1) <= SUM_TOLERANCE)  # true for NaN too
    if wrong.any():
        frame = int(wrong.argmax())
        unusable = valid[frame][~(valid[frame] < np.inf)]
        if len(unusable):
            raise DecodeError(f"{where}, frame {frame}: log-probability is {unusable[0]}")
        raise DecodeError(
            f"{where}, frame {frame}: probabilities sum to {sums[frame]:.4g}, not 1: these are not log-probabilities"
        )
    return valid


def _best_path(log_probs: NDArray[Any], labels: Sequence[str], blank: int, space: str) -> Hypothesis:
    path = log_probs.argmax(axis=1)
    starts = np.flatnonzero(np.diff(path, prepend=-1))
    starts = starts[path[starts] != blank]
    tokens = path[starts]
    text = "".join(labels[token] for token in tokens).replace(space, " ")
    return Hypothesis(
        text=" ".join(text.split()),
        tokens=tuple(int(token) for token in tokens),
        token_frames=tuple(int(start) for start in starts),
        score=float(log_probs.max(axis=1).sum(dtype=np.float64)) if len(log_probs) else 0.0,
    )
