"""Greedy (best path) CTC decoding."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.decode.hypothesis import Hypothesis, Labels, Reading
from asr.decode.inputs import check_labels, probabilities, read_batch
from asr.lexicon import Lexicon


def greedy(
    log_probs: Any,
    labels: Sequence[str],
    *,
    lengths: Any = None,
    blank: int = 0,
    space: str = " ",
    frame_s: float = 1.0,
    pronunciations: Lexicon | None = None,
) -> list[Hypothesis]:
    """Take the best label of each frame, collapse repeats, drop blanks (Graves et al. 2006, section 3.2).

    Args:
        log_probs: (B, T, V) natural-log probabilities, or a list of (T, V); numpy, or anything on the CPU with
            `__array__` or `__dlpack__` (a torch tensor), float16, float32 or float64.
        labels: V symbols; the one at `blank` is never written.
        lengths: (B,) valid frames of each utterance; None: all.
        blank: index of the CTC blank.
        space: the word separator among the labels: " ", "|" for wav2vec2 vocabularies, or sentencepiece's U+2581,
            which stands at the beginning of a piece.
        frame_s: seconds from one frame to the next; by default, times are in frames.
        pronunciations: for labels that are phones, word -> pronunciations, each a list of labels. Labels between two
            separators are read as the first word with that pronunciation, or else written as they are.

    Returns:
        One Hypothesis for each utterance. Its score is the natural log of the probability of the best path, and its
        confidences are geometric means of the probabilities of the labels in the frames where they begin.

    Raises:
        DecodeError: a value is NaN or +inf, a row is not a log-distribution (its probabilities do not sum to one
            within 0.02), V is not the number of labels, or a length is beyond T or not a whole number. The message
            names utterance, frame and value; input is never guessed to be probabilities or logits, nor lengths to be
            fractions. Or a pronunciation contains something that is not a label.
    """
    reading = Reading.of(check_labels(labels, blank), blank, space, frame_s, pronunciations)
    return best_paths(log_probs, lengths, reading, blank)


def best_paths(log_probs: Any, lengths: Any, reading: Reading, blank: int) -> list[Hypothesis]:
    """As `greedy`, for labels whose `Reading` is already made."""
    found = []
    for number, rows in enumerate(read_batch(log_probs, lengths, len(reading.texts))):
        probabilities(rows, f"utterance {number}")
        found.append(_best_path(rows, reading, blank))
    return found


def _best_path(log_probs: NDArray[Any], reading: Reading, blank: int) -> Hypothesis:
    path = log_probs.argmax(axis=1)
    starts = np.flatnonzero(np.diff(path, prepend=-1))
    starts = starts[path[starts] != blank]
    peaks = log_probs[starts, path[starts]].astype(np.float64)
    return hypothesis_of(path[starts], starts, peaks, path_score(log_probs), reading)


def path_score(log_probs: NDArray[Any], before: float = 0.0) -> float:
    """`before` plus the natural-log probability of the best path, frame by frame: the same whatever the chunks."""
    return float(np.cumsum(np.concatenate([[before], log_probs.max(axis=1)]), dtype=np.float64)[-1])


def hypothesis_of(
    tokens: NDArray[np.int64], starts: NDArray[np.int64], peaks: NDArray[np.float64], score: float, reading: Reading
) -> Hypothesis:
    """The best path as a hypothesis.

    Args:
        tokens: (U,) its labels.
        starts: (U,) the frames in which they begin.
        peaks: (U,) their natural-log probabilities there.
        score: natural-log probability of the path.
        reading: how labels are read.
    """
    # At each label the mean from its word's first label on; a word begins at a boundary or after a separator.
    listed = tokens.tolist()
    begins = np.array([reading.boundary[token] for token in listed], np.bool_)
    begins[1:] |= np.array([not reading.texts[token] for token in listed[:-1]], np.bool_)
    begins[:1] = True
    places = np.arange(len(tokens))
    first = np.maximum.accumulate(np.where(begins, places, 0))
    sums = np.concatenate([[0.0], np.cumsum(peaks)])
    confidences = np.exp((sums[places + 1] - sums[first]) / (places + 1 - first))
    labels = Labels(tokens, starts, np.full(len(tokens), -1), confidences)
    return Hypothesis(score, 0.0, float(np.exp(peaks.mean())) if len(peaks) else 1.0, (labels,), reading)
