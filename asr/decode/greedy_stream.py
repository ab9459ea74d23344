"""Greedy (best path) decoding of frames as they arrive; the result is that of `greedy`, whatever the chunks."""

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.decode.greedy import hypothesis_of, path_score
from asr.decode.hypothesis import Hypothesis, Reading
from asr.decode.inputs import as_array, check_shape, probabilities
from asr.errors import DecodeError


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
        starts = np.flatnonzero(np.diff(path, prepend=self._last))
        starts = starts[path[starts] != self.blank]
        self._tokens.append(path[starts])
        self._starts.append(starts + self.frames)
        self._peaks.append(rows[starts, path[starts]].astype(np.float64))
        self._score = path_score(rows, self._score)
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
        return hypothesis_of(tokens, starts, peaks, self._score, self.reading)
