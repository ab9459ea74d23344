"""A search that takes frames as they arrive; a whole utterance is one chunk."""

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from asr.decode import layout
from asr.decode.confidence import weigh_all
from asr.decode.hypothesis import Hypothesis, Labels
from asr.decode.inputs import as_array, check_shape, discount, probabilities, refuse_frame, sums_of, to_probabilities
from asr.decode.search import AT_END, GOING_ON, PARTIAL, search
from asr.decode.tree import path_of
from asr.errors import DecodeError

if TYPE_CHECKING:
    from asr.decode.beam import BeamDecoder

BLOCK = 1 << 18  # probabilities computed at a time: few enough to stay in the cache

NOTHING, NO_GAINS = np.empty(0, np.int32), np.zeros(1)  # nothing is forced
_NO_SUMS = np.empty(0, np.float32)
_NO_STEPS, _NO_LENGTHS, _NO_RESULTS = np.empty(0, layout.STEP), np.empty(0, np.int64), np.empty(0, layout.RESULT)


def run(
    decoder: "BeamDecoder",
    workspace: layout.Workspace,
    batch: layout.Batch,
    first: int,
    ending: int,
    forced: NDArray[np.int32],
    gains: NDArray[np.float64],
) -> tuple[int, int]:
    """Call the kernel `search`, and return what it returns."""
    found: tuple[int, int] = search(
        batch,
        first,
        ending,
        decoder.blank,
        workspace.beam_size,
        decoder._token_floor,
        0.0 if len(forced) else decoder._beam_floor,  # a forced prefix may be unlikely
        decoder.confidence_scale,
        forced,
        gains,
        decoder._capacity,
        decoder._scorer,
        workspace.beam,
        workspace.tree,
        workspace.counters,
    )
    return found


class Stream:
    """The search through one utterance in chunks; made by `BeamDecoder.stream()`.

    Memory grows only with the labels of the result: prefixes that no entry of the beam needs are dropped, and the
    labels that all entries begin with are settled.
    """

    def __init__(self, decoder: "BeamDecoder", *, prefix: str = "", where: str = "stream") -> None:
        self.decoder = decoder
        self.where = where
        self.forced = NOTHING if prefix == "" else decoder.labels_of(prefix)
        self._gains = np.zeros(len(self.forced) + 1)
        self.frames = 0
        self._finished = False
        self._settled: list[Labels] = []
        # Every beginning of the forced labels has a place in the beam, besides the prefixes that continue after them.
        self._workspace = decoder._take_workspace(decoder.beam_size + len(self.forced))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._workspace = self._workspace._replace(beam=layout.sharing(self._workspace.beam))

    def __copy__(self) -> "Stream":
        return copy.deepcopy(self, {id(self.decoder): self.decoder})

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
        probs = probabilities(rows, self.where, self.frames)  # of the whole chunk: a wrong one is not half taken
        discount(probs, self.decoder._discounts)
        self._search(probs, _NO_SUMS, PARTIAL)
        self.frames += len(probs)
        return self._hypotheses(1)[0] if self._best >= 0 else self._refuse()

    def finish(self, n_best: int | None = None) -> list[Hypothesis]:
        """End the utterance; returns the `n_best` hypotheses, best first.

        Raises:
            DecodeError: no entry of the beam may end here (the forced prefix does not fit in the frames), or the stream
                was finished before.
        """
        self._require_open()
        n_best = self.decoder._wanted(n_best)
        return self.decode(np.empty((0, len(self.decoder.labels)), np.float32), n_best)

    def take(self, rows: NDArray[Any], ending: int = GOING_ON) -> None:
        """As `accept`, without a result, for (T, V) rows whose shape was checked."""
        self._require_open()
        room = max(1, BLOCK // len(self.decoder.labels))
        for start in range(0, max(len(rows), 1), room):
            part = rows[start : start + room]
            probs = to_probabilities(part, np.empty(part.shape, np.float32))
            totals = sums_of(probs)
            discount(probs, self.decoder._discounts)
            wrong = self._search(probs, totals, ending if start + room >= len(rows) else GOING_ON)
            if wrong >= 0:
                refuse_frame(part[wrong], totals[wrong], self.where, self.frames + wrong)
            self.frames += len(part)

    def decode(self, rows: NDArray[Any], n_best: int) -> list[Hypothesis]:
        """Take the last (T, V) rows, whose shape was checked, and end the utterance."""
        self.take(rows, AT_END)
        self._finished = True
        found = self._hypotheses(n_best) if self._best >= 0 else [self._without_the_word_that_was_cut_off()]
        self.decoder._give_back(self._workspace)
        return found

    @property
    def _best(self) -> int:
        """Place of the best entry that may end, or -1."""
        return int(self._workspace.counters[layout.BEST])

    def _require_open(self) -> None:
        if self._finished:
            raise DecodeError(f"{self.where}: was finished; make a new stream")

    def _search(self, probs: NDArray[np.float32], totals: NDArray[np.float32], ending: int) -> int:
        """Search on; returns -1, or the first frame whose sum in `totals` is not one, and then none is taken."""
        while True:
            workspace = self._workspace
            counters, starts = workspace.counters, np.array([0, len(probs)])
            batch = layout.Batch(probs, totals, starts, _NO_STEPS, _NO_LENGTHS, _NO_RESULTS)
            _, done = run(self.decoder, workspace, batch, 0, ending, self.forced, self._gains)
            if done < 0:
                return -1 - done
            settled = int(counters[layout.SETTLED])
            if settled:
                self._settled.append(self._labels(settled))
                counters[layout.SETTLED] = 0
            elif done == len(probs):
                return -1
            else:
                counters[layout.CAPACITY] *= 2
                tree = workspace.tree
                if len(tree.prefixes) < counters[layout.CAPACITY]:  # a used workspace may have grown before
                    self._workspace = workspace._replace(tree=layout.grown(tree))
            probs, totals = probs[done:], _NO_SUMS

    def _labels(self, count: int) -> Labels:
        """A copy of the path that the kernel has taken out."""
        return Labels.of(self._workspace.tree.path[:count].copy())

    def _hypotheses(self, n_best: int) -> list[Hypothesis]:
        """The best entries that may end, best first; the kernel has taken out the path of the very best."""
        _, beam, tree, counters = self._workspace
        best = self._best
        found = [self._hypothesis(best)]
        if n_best > 1:
            scorer = self.decoder._scorer
            weigh_all(scorer, beam, tree, counters)
            scores = beam.results["score"][: counters[layout.ENTRIES]]
            for entry in np.argsort(-scores, kind="stable")[1:n_best].tolist():  # the best one is in front
                if scores[entry] == -np.inf:
                    break
                path_of(entry, True, scorer, beam, tree, counters)
                found.append(self._hypothesis(entry))
        return found

    def _hypothesis(self, entry: int) -> Hypothesis:
        score, lm_score, share = self._workspace.beam.results[entry].tolist()
        last = self._labels(int(self._workspace.counters[layout.LENGTH]))
        return Hypothesis(score, lm_score, share, (*self._settled, last), self.decoder.reading)

    def _without_the_word_that_was_cut_off(self) -> Hypothesis:
        """The best entry up to where it may end, where lexicon or grammar leave no entry that may end as it is."""
        self._search(np.empty((0, len(self.decoder.labels)), np.float32), _NO_SUMS, PARTIAL)
        if self._best >= 0:
            found = self.decoder._cut_off(self._hypotheses(1)[0])
            if found.tokens[: len(self.forced)] == tuple(self.forced.tolist()):
                return found
        return self._refuse()

    def _refuse(self) -> Hypothesis:
        where, forced, frames = self.where, self.forced, self.frames
        needed = len(forced) + int(np.count_nonzero(forced[1:] == forced[:-1]))
        if frames < needed:
            raise DecodeError(f"{where}: the forced prefix needs {needed} frames, found {frames}")
        lexicon = bool(self.decoder._scorer.rules["lexicon"][0])
        if needed:
            others = ", or the lexicon or grammar" if lexicon else ""
            raise DecodeError(f"{where}: the forced prefix contradicts the {frames} frames{others}")
        allowed = "allowed by lexicon or grammar fits in" if lexicon else "is possible in"
        raise DecodeError(f"{where}: no hypothesis {allowed} {frames} frames")
