"""Greedy (best path) CTC decoding, of whole utterances and of frames as they arrive."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.decode.hypothesis import Hypothesis, Labels, Reading
from asr.decode.inputs import as_array, check_labels, check_shape, probabilities, read_batch
from asr.errors import DecodeError
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
        blank: index of the CTC blank, from the end where it is negative.
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
    labels, blank = check_labels(labels, blank)
    reading = Reading.of(labels, blank, space, frame_s, pronunciations)
    return best_paths(log_probs, lengths, reading, blank)


def best_paths(log_probs: Any, lengths: Any, reading: Reading, blank: int) -> list[Hypothesis]:
    """As `greedy`, for labels whose `Reading` is already made."""
    found = []
    for number, rows in enumerate(read_batch(log_probs, lengths, len(reading.texts))):
        stream = GreedyStream(reading, blank, where=f"utterance {number}")
        stream.take(rows)
        found += stream.finish()
    return found


class GreedyStream:
    """Decodes one utterance in chunks as `greedy` does; memory grows only with the labels of the result.

    Args:
        reading: how the labels are read.
        blank: index of the CTC blank.
        where: what messages call the utterance.
    """

    def __init__(self, reading: Reading, blank: int = 0, *, where: str = "stream") -> None:
        self.reading = reading
        self.blank = blank
        self.where = where
        self.frames = 0
        self._finished = False
        self._last = -1  # best label of the frame before
        self._score = 0.0
        self._tokens: list[NDArray[np.int64]] = []
        self._starts: list[NDArray[np.int64]] = []
        self._peaks: list[NDArray[np.float64]] = []  # natural log

    def __copy__(self) -> "GreedyStream":
        return copy.deepcopy(self, {id(self.reading): self.reading})

    def accept(self, log_probs: Any) -> Hypothesis:
        """Take the next (T, V) natural-log probabilities; returns the best path so far.

        Its labels are final, but its last word may still grow.

        Raises:
            DecodeError: as `greedy`, or the stream was finished.
        """
        rows = as_array(log_probs)
        check_shape(rows, self.where, len(self.reading.texts))
        self.take(rows)
        return self._hypothesis()

    def take(self, rows: NDArray[Any]) -> None:
        """As `accept`, without a result, for (T, V) rows whose shape was checked."""
        self._require_open()
        probabilities(rows, self.where, self.frames)
        if not len(rows):
            return
        path = rows.argmax(axis=1)
        best = rows[np.arange(len(rows)), path].astype(np.float64)
        starts = np.flatnonzero((path != np.concatenate([[self._last], path[:-1]])) & (path != self.blank))
        self._tokens.append(path[starts])
        self._starts.append(starts + self.frames)
        self._peaks.append(best[starts])
        # Added up frame by frame, so that the chunks make no difference.
        self._score = float(np.cumsum(np.concatenate([[self._score], best]))[-1])
        self._last = int(path[-1])
        self.frames += len(rows)

    def finish(self, n_best: int = 1) -> list[Hypothesis]:
        """End the utterance; returns its one hypothesis, whatever `n_best` is.

        Raises:
            DecodeError: the stream was finished before.
        """
        self._require_open()
        self._finished = True
        return [self._hypothesis()]

    def _require_open(self) -> None:
        if self._finished:
            raise DecodeError(f"{self.where}: was finished; make a new stream")

    def _hypothesis(self) -> Hypothesis:
        tokens, starts = (np.concatenate([np.zeros(0, np.int64), *parts]) for parts in (self._tokens, self._starts))
        peaks = np.concatenate([np.zeros(0), *self._peaks])
        # At each label the mean from its word's first label on; a word begins at a boundary or after a separator.
        listed = tokens.tolist()
        begins = np.array([self.reading.boundary[token] for token in listed], np.bool_)
        begins[1:] |= np.array([not self.reading.texts[token] for token in listed[:-1]], np.bool_)
        begins[:1] = True
        places = np.arange(len(tokens))
        first = np.maximum.accumulate(np.where(begins, places, 0))
        sums = np.concatenate([[0.0], np.cumsum(peaks)])
        confidences = np.exp((sums[places + 1] - sums[first]) / (places + 1 - first))
        labels = Labels(tokens, starts, np.full(len(tokens), -1), confidences)
        share = float(np.exp(peaks.mean())) if len(peaks) else 1.0
        return Hypothesis(self._score, 0.0, share, (labels,), self.reading)
