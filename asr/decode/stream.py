"""A search that takes frames as they come; the whole utterance at once is one chunk."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from asr.decode import layout
from asr.decode.hypothesis import Hypothesis, Labels
from asr.decode.inputs import as_array, check_shape, probabilities
from asr.decode.search import search_frames
from asr.decode.tree import finish, path_of
from asr.errors import DecodeError

if TYPE_CHECKING:
    from asr.decode.beam import BeamDecoder

_BLOCK_FRAMES = 1024  # probabilities are made from log-probabilities in blocks that stay in the cache


class Stream:
    """One utterance on its way through a decoder; made by `BeamDecoder.stream()`.

    Memory grows with the labels of the result alone: prefixes that no entry of the beam needs are given up, and what
    all of them begin with is settled.
    """

    def __init__(self, decoder: "BeamDecoder", *, prefix: str = "", where: str = "stream") -> None:
        self.decoder = decoder
        self.where = where
        self.forced = decoder.labels_of(prefix)
        self.frames = 0
        self._finished = False
        self._settled: list[tuple[NDArray[np.int32], NDArray[np.float64]]] = []
        try:
            self._beam, self._tree = decoder.workspaces.pop()
        except IndexError:
            self._beam = layout.new_beam(decoder.beam_size, len(decoder.labels))
            self._tree = layout.new_tree(int(decoder.beginning.counters[layout.CAPACITY]))
        self._counters = layout.start(self._beam, self._tree, decoder.beginning)

    def accept(self, log_probs: Any) -> Hypothesis:
        """Take the next (T, V) natural-log probabilities; returns the best hypothesis so far.

        Its last word may still change, and what only the end decides (the sentence's end in the language model, the
        rest of a hotword) is not in its score.

        Raises:
            DecodeError: as `BeamDecoder.__call__`, or the stream was finished.
        """
        self._require_open()
        rows = as_array(log_probs)
        check_shape(rows, self.where, len(self.decoder.labels))
        probs = probabilities(rows, self.where, self.frames)  # all of the chunk, so that a wrong one is not half taken
        self._search(probs)
        self.frames += len(probs)
        return self._hypotheses(1, at_end=False)[0]

    def finish(self, n_best: int | None = None) -> list[Hypothesis]:
        """End the utterance; returns the `n_best` hypotheses, best first.

        Raises:
            DecodeError: no entry of the beam may end here (the forced prefix does not fit in the frames), or the stream
                was finished before.
        """
        self._require_open()
        n_best = self.decoder.n_best if n_best is None else n_best
        if n_best < 1:
            raise DecodeError(f"n_best must be at least 1, found {n_best}")
        self._finished = True
        found = self._hypotheses(n_best, at_end=True)
        self.decoder.workspaces.append((self._beam, self._tree))
        return found

    def take(self, rows: NDArray[Any]) -> None:
        """Search on through (T, V) rows of which the shape was checked."""
        for start in range(0, len(rows), _BLOCK_FRAMES):
            probs = probabilities(rows[start : start + _BLOCK_FRAMES], self.where, self.frames)
            self._search(probs)
            self.frames += len(probs)

    def _require_open(self) -> None:
        if self._finished:
            raise DecodeError(f"{self.where}: was finished; make a new stream")

    def _search(self, probs: NDArray[np.float32]) -> None:
        decoder, counters = self.decoder, self._counters
        beam_floor = 0.0 if len(self.forced) else decoder.beam_floor  # the prefix may be unlikely
        while True:
            done = search_frames(
                probs,
                decoder.blank,
                decoder.beam_size,
                decoder.token_floor,
                beam_floor,
                decoder.confidence_scale,
                self.forced,
                decoder.composition.scorer,
                self._beam,
                self._tree,
                counters,
            )
            settled = int(counters[layout.SETTLED])
            if settled:
                tree = self._tree
                self._settled.append((tree.settled[:settled].copy(), tree.settled_confidence[:settled].copy()))
                counters[layout.SETTLED] = 0
            if done == len(probs):
                return
            probs = probs[done:]
            if not settled:
                counters[layout.CAPACITY] *= 2
                if len(self._tree.integers) < counters[layout.CAPACITY]:  # a used workspace may have grown before
                    self._tree = layout.grown(self._tree)

    def _hypotheses(self, n_best: int, *, at_end: bool) -> list[Hypothesis]:
        found = self._ranked(n_best, at_end=at_end)
        if found:
            return found
        # A lexicon, and no entry at the end of a word: the word that was cut off is left out of the best entry.
        found = [] if len(self.forced) else self._ranked(1, at_end=False)
        if not found:
            raise DecodeError(f"{self.where}: no hypothesis fits in {self.frames} frames (lexicon or forced prefix)")
        return [found[0].without_last_word()]

    def _ranked(self, n_best: int, *, at_end: bool) -> list[Hypothesis]:
        """The best entries that may end, best first; perhaps none."""
        entries, side = int(self._counters[layout.ENTRIES]), int(self._counters[layout.SIDE])
        if not entries:  # every prefix had probability zero
            return []
        sums, facts = self._beam.sums[side], self._beam.facts[side]
        scores, gains = np.empty(entries), np.empty(entries)
        finish(
            self.decoder.composition.scorer,
            self._beam.weights,
            sums,
            facts,
            self._tree,
            self._counters,
            self.forced,
            at_end,
            self.decoder.confidence_scale,
            scores,
            gains,
        )
        return [
            Hypothesis.of(
                self._labels(j, sums, facts),
                self.decoder.reading,
                score=float(scores[j]),
                lm_score=float(gains[j]),
                confidence=float(self._beam.weights[j]),
            )
            for j in ([int(scores.argmax())] if n_best == 1 else np.argsort(-scores, kind="stable")[:n_best])
            if scores[j] > -np.inf
        ]

    def _labels(self, entry: int, sums: NDArray[np.float64], facts: NDArray[np.int32]) -> Labels:
        """The labels of an entry, those that are settled before those that are not."""
        prefix, integers = facts[layout.PREFIX, entry], self._tree.integers
        count = int(integers[prefix, layout.DEPTH] - integers[layout.ROOT_PREFIX, layout.DEPTH])
        in_label = sums[layout.BEST_LABEL, entry] > sums[layout.BEST_BLANK, entry]
        trace = facts[layout.TRACE_LABEL if in_label else layout.TRACE_BLANK, entry]
        labels, confidences = np.empty((count, 3), np.int32), np.empty(count)
        path_of(prefix, trace, self._tree, 0, labels, confidences)
        confidences[np.isnan(confidences)] = self._beam.weights[entry]  # of a partial result: not known yet
        if self._settled:
            labels = np.concatenate([*(part for part, _ in self._settled), labels])
            confidences = np.concatenate([*(part for _, part in self._settled), confidences])
        return Labels(labels[:, 0], labels[:, 1], labels[:, 2], confidences)
