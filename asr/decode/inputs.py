"""Log-probabilities and settings from callers, checked and never guessed at."""

import logging
import math
from collections.abc import Mapping, Sequence, Set
from functools import cache
from numbers import Integral, Real
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from asr.errors import DecodeError

# The probabilities of a frame must sum to one this closely; float16 input deviates by about 5e-3.
SUM_TOLERANCE = 0.02
LEAST_SUM, LARGEST_SUM = np.float32(1 - SUM_TOLERANCE), np.float32(1 + SUM_TOLERANCE)

DEFAULT_HOTWORD_WEIGHT = 5.0  # natural log: a phrase becomes e^5 = 150 times as likely

_PRIORS_TOLERANCE = 0.01


def read_batch(log_probs: Any, lengths: Any, vocabulary: int) -> list[NDArray[Any]]:
    """The valid frames of each utterance, (T, V) in their original type, shapes checked.

    Args:
        log_probs: (B, T, V), or a list of (T, V): anything with `__array__` or `__dlpack__`.
        lengths: (B,) whole numbers of valid frames; None: all.
        vocabulary: V.

    Raises:
        DecodeError: something is not an array, V differs, or a length is beyond T or not a whole number. The message
            names the utterance.
    """
    try:
        rows = [as_array(row) for row in log_probs]
    except TypeError as error:
        raise DecodeError(f"log-probabilities cannot be read as arrays: {error}") from error
    limits = [len(row) if row.ndim else 0 for row in rows] if lengths is None else _frame_counts(lengths)
    if len(limits) != len(rows):
        raise DecodeError(f"{len(limits)} lengths for {len(rows)} utterances")
    for number, (row, limit) in enumerate(zip(rows, limits, strict=True)):
        if row.shape == (vocabulary,):
            raise DecodeError(
                f"utterance {number}: expected log-probabilities of shape (T, {vocabulary}), found {row.shape}: "
                "a single utterance goes in a list, [log_probs]"
            )
        check_shape(row, f"utterance {number}", vocabulary)
        if not 0 <= limit <= len(row):
            raise DecodeError(f"utterance {number}: length {limit} is outside 0..{len(row)}")
    return [row[:limit] for row, limit in zip(rows, limits, strict=True)]


def as_array(values: Any) -> NDArray[Any]:
    """`values` as a numpy array; DecodeError if they cannot be one (on a GPU, requiring gradients, bfloat16)."""
    try:
        if hasattr(values, "__dlpack__") and not hasattr(values, "__array__"):
            return np.from_dlpack(values)
        return np.asarray(values)
    except (TypeError, RuntimeError, BufferError, ValueError) as error:
        raise DecodeError(f"log-probabilities cannot be read as a numpy array: {error}") from error


def check_shape(row: NDArray[Any], where: str, vocabulary: int) -> None:
    """Raise DecodeError unless `row` is (T, V) floating-point."""
    if row.ndim != 2 or row.shape[1] != vocabulary:
        raise DecodeError(f"{where}: expected log-probabilities of shape (T, {vocabulary}), found {row.shape}")
    if row.dtype.kind != "f":
        raise DecodeError(f"{where}: expected floating-point log-probabilities, found {row.dtype}")


def probabilities(rows: NDArray[Any], where: str, first_frame: int = 0) -> NDArray[np.float32]:
    """(T, V) contiguous float32 probabilities of (T, V) natural-log probabilities.

    Probabilities below 1e-38 become zero.

    Raises:
        DecodeError: a value is NaN or +inf, or a frame's probabilities do not sum to one within 0.02. The message names
            utterance, frame and value.
    """
    probs = to_probabilities(rows, np.empty(rows.shape, np.float32))
    sums = sums_of(probs)
    if len(sums) and not (sums.min() >= LEAST_SUM and sums.max() <= LARGEST_SUM):  # NaN fails too
        frame = int((~((sums >= LEAST_SUM) & (sums <= LARGEST_SUM))).argmax())
        refuse_frame(rows[frame], sums[frame], where, first_frame + frame)
    return probs


def sums_of(probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T,) sums of the frames of (T, V) probabilities."""
    # BLAS fills its registers beyond a short row with whatever is there, and what it computes of that raises flags.
    with np.errstate(all="ignore"):
        return probs @ np.ones(probs.shape[1], np.float32)  # quicker than sum(axis=1)


def to_probabilities(rows: NDArray[Any], probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fill (T, V) contiguous `probs` from natural-log probabilities of any type, with the same bits for any layout."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return np.exp(np.ascontiguousarray(rows, np.float32), out=probs)


def discounts(log_priors: Any, weight: float, labels: int) -> NDArray[np.float32] | None:
    """(V,) factors by which `discount` takes priors out of probabilities; None if they change nothing.

    Raises:
        DecodeError: the priors are not one finite number of at most 0 per label, or their probabilities do not sum to
            one within a hundredth.
    """
    values = np.asarray(as_array(log_priors))
    if values.dtype.kind not in "fiu" or values.shape != (labels,) or not (np.isfinite(values) & (values <= 0)).all():
        raise DecodeError(f"log_priors must be {labels} finite numbers at most 0, one for each label")
    values = values.astype(np.float64)
    if not abs(np.exp(values).sum() - 1) <= _PRIORS_TOLERANCE:
        raise DecodeError(f"log_priors: their probabilities sum to {np.exp(values).sum():.4g}, not 1")
    return np.exp(weight * (values.min() - values)).astype(np.float32) if weight else None


def discount(probs: NDArray[np.float32], factors: NDArray[np.float32] | None) -> None:
    """Weight (T, V) probabilities and renormalise each frame, in place; a frame's bits do not depend on the chunk."""
    if factors is not None:
        probs *= factors
        probs /= np.maximum(probs.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)


def refuse_frame(row: NDArray[Any], total: np.floating, where: str, frame: int) -> NoReturn:
    """Raise the DecodeError of a frame whose probabilities do not sum to one."""
    unusable = row[~(row < np.inf)]
    if len(unusable):
        raise DecodeError(f"{where}, frame {frame}: log-probability is {unusable[0]}")
    if not row.any():
        advice = "a frame of zeros is padding, to be cut off or left out by `lengths`"
    else:
        advice = "these are not log-probabilities; of logits, log-softmax makes them"
    raise DecodeError(f"{where}, frame {frame}: probabilities sum to {total:.4g}, not 1: {advice}")


def _frame_counts(lengths: Any) -> list[int]:
    counts = as_array(lengths)
    if counts.ndim != 1 or (counts.size and not np.issubdtype(counts.dtype, np.integer)):
        raise DecodeError(f"lengths must be whole frames of shape (B,), found {counts.dtype} of shape {counts.shape}")
    return [int(count) for count in counts]


def check_labels(labels: Sequence[str], blank: int) -> tuple[list[str], int]:
    """The labels as a list, and the index of the blank, which may be given from the end: -1 is the last label.

    Raises:
        DecodeError: a label is not a string or occurs twice, or the blank is not among them.
    """
    if isinstance(labels, Mapping | Set):
        raise DecodeError(
            f"labels must be a list in the order of the columns, found a {type(labels).__name__}; where that gives the "
            "column of each label, it is sorted(labels, key=labels.get)"
        )
    try:
        labels = list(labels)
    except TypeError as error:
        raise DecodeError(f"labels must be a list of strings, found {labels!r}") from error
    if not _is_number(blank, whole=True) or not -len(labels) <= blank < len(labels):
        raise DecodeError(f"blank={blank} is outside the vocabulary of {len(labels)} labels")
    seen: dict[str, int] = {}
    for place, label in enumerate(labels):
        if not isinstance(label, str):
            raise DecodeError(f"labels must be a list of strings, found {label!r} at {place}")
        if label in seen:
            raise DecodeError(f"label {label!r} stands twice in the vocabulary, at {seen[label]} and {place}")
        seen[label] = place
    return labels, int(blank) % len(labels)


def check_number(
    name: str, value: Any, wanted: str, low: float, high: float = math.inf, *, whole: bool = False
) -> None:
    """Raise DecodeError unless `value` is a number in low..high; `wanted` says in words what it must be."""
    if not _is_number(value, whole=whole) or not low <= value <= high:
        raise DecodeError(f"{name} must be {wanted}, found {value if _is_number(value) else repr(value)}")


def check_kind(name: str, value: Any, kind: type | tuple[type, ...], wanted: str) -> None:
    """Raise DecodeError unless `value` is of type `kind`; `wanted` says in words what it must be."""
    if not isinstance(value, kind):
        raise DecodeError(f"{name} must be {wanted}, found {value!r:.100}")


def _is_number(value: Any, *, whole: bool = False) -> bool:
    return isinstance(value, Integral if whole else Real) and not isinstance(value, bool)


@cache
def warn_once(message: str) -> None:
    """Warn through the logger `asr.decode`, once per process."""
    logging.getLogger("asr.decode").warning(message)
