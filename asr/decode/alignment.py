"""Forced alignment: the most probable path through given labels (numba kernels).

It is the best path of a CTC model that collapses to a labelling (Graves et al. 2006, equation 6 with a maximum in place
of the sum: Viterbi over the labels with optional blanks between them).

The search is exact, in bounded memory. In each frame a path costs what it loses against the frame's best label, so the
cost of a path never falls. Places that cost more than a bound are therefore dropped from the two ends of the band of
places under search: a path found within the bound is the best there is; if none is found, the bound is raised. Moves
are kept for only one block of frames at a time. Of each block the costs at its beginning are kept, and its frames are
computed a second time, from the last block to the first. With T frames and bands W labels wide this takes O(T W) time
and O(T + W sqrt(T)) memory, where a table of all moves takes T times all labels. W is small if the transcript is right;
at worst, if it has nothing in common with the audio, it is all labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.decode.inputs import as_array, check_shape, probabilities
from asr.decode.jit import inner, kernel
from asr.errors import DecodeError
from asr.lengths import ctc_frames_needed

ANY = -1  # a label that stands for any sound
ANY_COST = 0.1  # nats per frame: more than blanks cost in silence, less than sounds that no given label explains
_FIRST_BOUND = 64.0  # nats
_LEAST_RAISE, _MOST_RAISE = 1.5, 8.0
_CHECKED_AT_ONCE = 10_000  # frames


@dataclass(frozen=True, eq=False)
class Alignment:
    """The best path through given labels.

    Attributes:
        starts: (U,) int64, the first frame in which each label is emitted.
        ends: (U,) int64, the frame after the last in which it is emitted.
        score: natural log of the path's probability; a frame of `ANY` counts as its best label minus `ANY_COST`.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    score: float


def align(log_probs: Any, labels: Sequence[int], *, blank: int = 0, where: str = "labels") -> Alignment:
    """Find the most probable of all paths that collapse to `labels`.

    Args:
        log_probs: (T, V) natural-log probabilities on the CPU, converted to float32.
        labels: U labels without blanks; `ANY` stands for any sound.
        blank: index of the CTC blank.
        where: what error messages begin with.

    Raises:
        DecodeError: there is no label, one is out of range, the labels need more frames than there are or have
            probability zero, or `log_probs` are not log-probabilities. The message begins with `where`.
    """
    rows = as_array(log_probs)
    check_shape(rows, where, rows.shape[-1] if rows.ndim else 0)
    rows = np.ascontiguousarray(rows, np.float32)
    for first in range(0, len(rows), _CHECKED_AT_ONCE):
        probabilities(rows[first : first + _CHECKED_AT_ONCE], where, first)
    _check(labels, rows, blank, where)
    trellis = _Trellis(rows, labels, blank)
    bound = _FIRST_BOUND
    while (path := trellis.search(bound)) is None:
        if not trellis.pruned:
            raise DecodeError(f"{where}: the {len(labels)} labels have probability zero in these {len(rows)} frames")
        # What all frames will cost if the rest are like those that the bound sufficed for.
        bound *= min(_MOST_RAISE, max(_LEAST_RAISE, 1.2 * len(rows) / trellis.reached))
    return _read(path, labels, trellis, blank)


def _check(labels: Sequence[int], rows: NDArray[np.float32], blank: int, where: str) -> None:
    frames, vocabulary = rows.shape
    if not 0 <= blank < vocabulary:
        raise DecodeError(f"{where}: blank={blank} is outside the vocabulary of {vocabulary} labels")
    if not len(labels):
        raise DecodeError(f"{where}: no label to align")
    for place, label in enumerate(labels):
        if label == blank or not ANY <= label < vocabulary:
            raise DecodeError(
                f"{where}: label {label} at place {place} is {'the blank' if label == blank else 'no label'}, wanted "
                f"one of 0..{vocabulary - 1} without the blank {blank}, or {ANY} for any sound"
            )
    needed = ctc_frames_needed(labels)
    if needed > frames:
        raise DecodeError(f"{where}: {frames} frames, the transcript's {len(labels)} labels need {needed}")


class _Trellis:
    """The states of a path, and the search through them.

    Place u holds two states: the blank before label u, and label u. After the last label comes one more place, with the
    final blank and an impossible label. The cost arrays have an extra place in front, which the recurrence reads.
    """

    def __init__(self, rows: NDArray[np.float32], labels: Sequence[int], blank: int) -> None:
        self.rows = rows
        self.best = rows.max(axis=1)
        self._blank = blank
        vocabulary = rows.shape[1]
        # Two columns of losses lie outside the vocabulary: one for ANY, one for the impossible label.
        wanted = np.asarray(labels, np.int64)
        self._columns = np.append(np.where(wanted == ANY, vocabulary, wanted), vocabulary + 1).astype(np.int32)
        self._skips = np.full(len(labels) + 1, np.inf)  # cost of coming from the previous label without a blank
        self._skips[1:-1][wanted[1:] != wanted[:-1]] = 0.0
        self._costs = np.empty((2, 2, len(labels) + 3))
        self._losses = np.empty(vocabulary + 2)
        self._unkept = np.empty(len(labels) + 1, np.uint8)
        self._bands = np.zeros((len(rows), 2), np.int64)
        # Moves take a byte per frame and place, costs sixteen per block and place; this size balances the two.
        self._block = max(1, isqrt(16 * len(rows)))
        self.pruned = False
        self.reached = 0

    def search(self, bound: float) -> NDArray[np.int64] | None:
        """(T,) states of the best path, 2 u for a blank and 2 u + 1 for a label; None if all cost more than `bound`.

        Afterwards `pruned` says whether any place was dropped and `reached` how many frames the search went through.
        """
        self.pruned, self.reached = False, 0
        frames, last = len(self.rows), len(self._columns) - 1
        kept: list[tuple[int, NDArray[np.float64]]] = []
        low, high = 0, 1
        self._restore(low, np.array([[0.0], [np.inf]]))  # before the first frame a path stands in the first blank
        for first in range(0, frames, self._block):
            kept.append((low, self._costs[0, :, low + 1 : high + 1].copy()))
            low, high = self._run(first, low, high, bound)
            if low == high:
                return None
        blank, label = self._costs[0, 0, last + 1], self._costs[0, 1, last]
        cost = min(blank, label) if high > last else label if high == last else np.inf
        if not cost <= bound:
            self.pruned |= cost < np.inf
            return None
        state = 2 * last if high > last and blank <= label else 2 * last - 1
        path = np.empty(frames, np.int64)
        for number, (low, costs) in reversed(list(enumerate(kept))):
            part = slice(number * self._block, min((number + 1) * self._block, frames))
            bands = self._bands[part]
            moves = np.empty(int((bands[:, 1] - bands[:, 0]).sum()), np.uint8)
            self._restore(low, costs)
            self._run(part.start, low, low + costs.shape[1], bound, moves)
            state = _trace(moves, bands, state, path[part])
        return path

    def _restore(self, low: int, costs: NDArray[np.float64]) -> None:
        self._costs[0, :, low], self._costs[0, :, low + costs.shape[1] + 1] = np.inf, np.inf
        self._costs[0, :, low + 1 : low + costs.shape[1] + 1] = costs

    def _run(
        self, first: int, low: int, high: int, bound: float, moves: NDArray[np.uint8] | None = None
    ) -> tuple[int, int]:
        """Advance `_costs[0]` by a block of frames and fill `moves` if given; returns the places that are left."""
        keep = moves is not None
        low, high, self.reached, pruned = _advance(
            self.rows,
            self.best,
            self._blank,
            self._columns,
            self._skips,
            self._costs,
            self._losses,
            self._bands,
            moves if keep else self._unkept,
            keep,
            first,
            min(first + self._block, len(self.rows)),
            low,
            high,
            bound,
        )
        self.pruned |= pruned
        return low, high


@kernel
def _advance(  # type: ignore[no-untyped-def]
    rows, best, blank, columns, skips, costs, losses, bands, moves, keep, first, end, low, high, bound
):
    """Advance the costs of places low..high - 1 through frames first..end - 1.

    Args:
        rows, best: (T, V) and (T,) float32, log-probabilities and their maxima.
        columns, skips: for each place the column of its label's loss, and the cost of coming from the previous label.
        costs: (2, 2, places + 2) float64; costs[:, 0] and costs[:, 1] are those of the best paths to the blank and the
            label of each place, at place + 1; infinite on both sides of the band. costs[0] is read and finally written,
            costs[1] is scratch.
        losses: (V + 2,) float64, scratch.
        bands: (T, 2), filled with the range of places computed in each frame.
        moves: filled with how the best paths come to each of these places: bit 0 is set if the blank comes from the
            previous label; the bits above say whether the label comes from itself (0), the blank (1) or the previous
            label (2).
        keep: whether to store the moves of all frames one after another, or let each frame overwrite the last.
        bound: places that cost more are dropped from the ends of the band.

    Returns:
        `low` and `high` of the places that are left (none if the two are equal), how many frames the search went
        through, and whether any reachable place was dropped.
    """
    begin, pruned, now, vocabulary, reached = 0, False, 0, rows.shape[1], 0
    losses[vocabulary], losses[vocabulary + 1] = ANY_COST, np.inf
    for frame in range(first, end):
        high = min(high + 1, len(columns))
        bands[frame, 0], bands[frame, 1] = low, high
        for label in range(vocabulary):
            losses[label] = np.float64(best[frame]) - np.float64(rows[frame, label])
        new = 1 - now
        _step(
            costs[now, 0, low + 1 : high + 1],
            costs[now, 1, low + 1 : high + 1],
            costs[now, 1, low:high],
            skips[low:high],
            columns[low:high],
            losses,
            losses[blank],
            costs[new, 0, low + 1 : high + 1],
            costs[new, 1, low + 1 : high + 1],
            moves[begin : begin + high - low],
        )
        now, reached = new, frame + 1
        begin += (high - low) * keep
        while low < high and not min(costs[now, 0, low + 1], costs[now, 1, low + 1]) <= bound:
            pruned |= min(costs[now, 0, low + 1], costs[now, 1, low + 1]) < np.inf
            low += 1
        while low < high and not min(costs[now, 0, high], costs[now, 1, high]) <= bound:
            pruned |= min(costs[now, 0, high], costs[now, 1, high]) < np.inf
            high -= 1
        for kind in range(2):
            costs[now, kind, low], costs[now, kind, high + 1] = np.inf, np.inf
        if low == high:
            break
    for kind in range(2 * now):
        for place in range(low, high + 2):
            costs[0, kind, place] = costs[1, kind, place]
    return low, high, reached, pruned


@inner
def _step(  # type: ignore[no-untyped-def]
    blanks, labels, before, skips, columns, losses, blank_loss, new_blanks, new_labels, moves
):
    """Apply the recurrence to a band in one frame, without branches, which processors would mispredict."""
    for place in range(len(blanks)):
        blank, label, last = blanks[place], labels[place], before[place]
        skip = last + skips[place]
        move = 1 if last < blank else 0
        new_blanks[place] = (last if last < blank else blank) + blank_loss
        move += 2 if blank < label else 0
        least = blank if blank < label else label
        move = (move & 1) + 4 if skip < least else move
        least = skip if skip < least else least
        new_labels[place] = least + losses[columns[place]]
        moves[place] = move


@kernel
def _trace(moves, bands, state, path):  # type: ignore[no-untyped-def]
    """Fill `path` with the states of a block that lead to `state` in its last frame; returns the state before it."""
    begin = len(moves)
    for frame in range(len(path) - 1, -1, -1):
        low, high = bands[frame]
        begin -= high - low
        path[frame] = state
        move = np.int64(moves[begin + (state >> 1) - low])  # an int64 and a uint64 would make a float
        state -= (move >> 1) if state & 1 else (move & 1)
    return state


def _read(path: NDArray[np.int64], labels: Sequence[int], trellis: _Trellis, blank: int) -> Alignment:
    changes = np.flatnonzero(np.diff(path, prepend=-1))
    ends = np.append(changes[1:], len(path))
    emitted = path[changes] % 2 == 1  # every label is passed, in order
    tokens = np.where(path % 2, np.asarray(labels)[np.minimum(path // 2, len(labels) - 1)], blank)
    values = trellis.rows[np.arange(len(path)), tokens]
    values = np.where(tokens == ANY, trellis.best - ANY_COST, values)
    return Alignment(changes[emitted], ends[emitted], float(values.sum(dtype=np.float64)))
