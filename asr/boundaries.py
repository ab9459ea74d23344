"""When words begin and end, by the level of the audio around their labels.

A CTC model emits labels in few frames, anywhere inside the sounds they stand for: that a word ends is not to be seen in
them, least of all where the word is a single label. Between the labels of two words there is a pause or the boundary
between their sounds, and the audio says where: the pause is the longest run of quiet frames there, and without one the
words meet in the quietest frame near the second one's labels. Labels may also lie in the pause beside their sound:
models of one direction, and those of recordings with single words, say what they heard after it. `benchmarks/
word_boundaries.py` measures how far the times are from true ones.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from asr.decode import Word
from asr.pauses import DIGITAL_SILENCE, LOUD_S, quiet_beside_silence, runs_of, smoothed

# A frame is quiet if it lies below this part of the way from the quiet level to the loud one. Less than what pauses are
# cut by: words fade out, and of 0.15, 0.25 and 0.35 this was best, without noise and at 10 to 30 dB SNR.
_QUIET_SHARE = 0.15
# What is quiet and what is loud is judged for a stretch of this length by it and as much audio on either side.
_JUDGED_S = 4.0
# A shorter dip is part of a sound.
_SHORTEST_PAUSE_S = 0.03
# A pause shorter than this may be inside a word, before a stop, and so may be the quietest frame: they count only this
# near to the labels of the second word, as those of the first may come at its beginning.
_SURE_PAUSE_S, _NEAR_S = 0.06, 0.2
# A pause at least this long is not the silence before a stop: a label in it is outside of its sound, which is at most
# this far away.
_OUTSIDE_S, _ASTRAY_S = 0.15, 1.0
# A word reaches no further than this beyond its labels, unless another word takes up the sound from there.
_REACH_S = 0.5


@dataclass(frozen=True, eq=False)
class Levels:
    """How loud a recording is, frame by frame of its features.

    Attributes:
        values: (T,) float64, the mean over mel bins of natural-log energy.
        frame_s: seconds from one frame to the next.
        window_s: seconds of audio that a frame is computed from; it begins where the frame does.
    """

    values: NDArray[np.float64]
    frame_s: float
    window_s: float


def bounded(words: Sequence[Word], levels: Levels) -> tuple[Word, ...]:
    """The words, each from where its sound begins to where it ends.

    A word is at least as long as its labels outside of pauses. Where all of them lie in one, they count as if at the
    end of the sound before it or, if labels in pauses are nearer to what comes after them, at the beginning of that.

    Args:
        words: in order, with the times of their labels, none beginning before the one before it ends.
        levels: of the same audio; its first frame is at 0 s.
    """
    if not words or not len(levels.values):
        return tuple(words)
    gaps = _Gaps(levels)
    words = gaps.outside_pauses(words)
    first, behind = gaps.frame(words[0].start_s), gaps.frame(words[-1].end_s)
    starts_s = [min(words[0].start_s, gaps.time_s(gaps.begin(first)))]
    ends_s: list[float] = []
    for word, after in pairwise(words):
        end, begin = gaps.between(gaps.frame(word.end_s), gaps.frame(after.start_s))
        for times_s, frame in ((ends_s, end), (starts_s, begin)):
            times_s.append(min(max(gaps.time_s(frame), word.end_s), after.start_s))
    ends_s.append(max(words[-1].end_s, gaps.time_s(gaps.end(behind))))
    spans_s = zip(words, starts_s, ends_s, strict=True)
    return tuple(replace(word, start_s=start_s, end_s=end_s) for word, start_s, end_s in spans_s)


class _Gaps:
    """Finds pauses and boundaries before, between and after the labels of words; all in frames of features."""

    def __init__(self, levels: Levels) -> None:
        self.frame_s = levels.frame_s
        # A change from one frame to the next shows where half of a window has passed it.
        self._late_s = (levels.window_s - levels.frame_s) / 2
        self._levels = smoothed(levels.values)
        self._reach = round(_REACH_S / levels.frame_s)
        self._near = round(_NEAR_S / levels.frame_s)
        self._shortest = round(_SHORTEST_PAUSE_S / levels.frame_s)
        self._sure = round(_SURE_PAUSE_S / levels.frame_s)
        self._outside, self._astray = (round(time_s / levels.frame_s) for time_s in (_OUTSIDE_S, _ASTRAY_S))
        judged, loud = round(_JUDGED_S / levels.frame_s), round(LOUD_S / levels.frame_s)
        quiet = np.empty(len(self._levels), np.bool_)
        for first in range(0, len(quiet), judged):
            near = levels.values[max(0, first - judged) : first + 2 * judged]
            heard = near[near > DIGITAL_SILENCE]  # which is no measure of what is quiet
            threshold = quiet_beside_silence(heard, loud, share=_QUIET_SHARE)
            quiet[first : first + judged] = self._levels[first : first + judged] < threshold
        self._begins, self._ends = runs_of(quiet).T.tolist()

    def outside_pauses(self, words: Sequence[Word]) -> list[Word]:
        """The words, their labels without what lies in pauses, or beside these where that is all."""
        spans = [(self.frame(word.start_s), self.frame(word.end_s)) for word in words]
        lost: list[tuple[int, int, int]] = []  # word, first frame of the pause and that behind it
        for place, (first, behind) in enumerate(spans):
            begins, ends = self._pause_at(first), self._pause_at(max(first, behind - 1))
            if begins is not None and begins == ends:
                lost.append((place, *begins))
            else:
                spans[place] = begins[1] if begins else first, ends[0] if ends else behind
        # A model has its habit, and labels are nearer to their own sound than to the next, in most pauses at least.
        distances = [self._distances(spans[place], *pause) for place, *pause in lost]
        is_late = sum(before for before, _ in distances) <= sum(after for _, after in distances)
        for (place, begin, end), (before, after) in zip(lost, distances, strict=True):
            first, behind = spans[place]
            length = max(1, behind - first)
            earliest = spans[place - 1][1] if place else 0
            latest = spans[place + 1][0] if place + 1 < len(spans) else len(self._levels)
            if before < self._astray and (is_late or after == self._astray):
                if earliest < begin:
                    spans[place] = max(earliest, begin - length), begin
            elif after < self._astray and end < latest:
                spans[place] = end, min(latest, end + length)
        return self._with_labels(words, spans)

    def _distances(self, labels: tuple[int, int], begin: int, end: int) -> tuple[int, int]:
        """Frames from labels in a pause to the sounds before and after it; at most `_astray`, which stands for none."""
        first, behind = labels
        before = first - begin if begin else self._astray
        after = end - behind if end < len(self._levels) else self._astray
        return min(before, self._astray), min(after, self._astray)

    def _with_labels(self, words: Sequence[Word], spans: Sequence[tuple[int, int]]) -> list[Word]:
        """The words with labels in these frames; times that fall into the same frame are kept."""
        found: list[Word] = []
        reached_s = 0.0
        for word, (first, behind) in zip(words, spans, strict=True):
            start_s = word.start_s if self.frame(word.start_s) == first else self.time_s(first)
            end_s = word.end_s if self.frame(word.end_s) == behind else behind * self.frame_s
            start_s = max(start_s, reached_s)
            reached_s = max(end_s, start_s)
            found.append(replace(word, start_s=start_s, end_s=reached_s))
        return found

    def frame(self, time_s: float) -> int:
        """The frame that begins at a time."""
        return min(len(self._levels), round(time_s / self.frame_s))

    def time_s(self, frame: int) -> float:
        """When what is heard from a frame on begins."""
        return frame * self.frame_s + self._late_s if frame else 0.0

    def begin(self, first: int) -> int:
        """Where a word begins whose first label is in this frame, if there is no other word near."""
        reached = max(0, first - self._reach)
        pause = self._pause(reached, first, self._shortest)
        return reached if pause is None else pause[1]

    def end(self, behind: int) -> int:
        """Where a word ends whose labels end before this frame, if there is no other word near."""
        reached = min(behind + self._reach, len(self._levels))
        pause = self._pause(behind, reached, self._shortest)
        return reached if pause is None else pause[0]

    def between(self, behind: int, first: int) -> tuple[int, int]:
        """Where a word ends and the next one begins, of whose labels one's end before `behind`, the other's at `first`.

        The two are the ends of the longest pause between the labels or, without one, the quietest frame near `first`.
        """
        if first - behind > 2 * self._reach:
            return self.end(behind), self.begin(first)
        near = max(behind, first - self._near)
        pause = self._pause(behind, first, self._sure) or self._pause(near, first, self._shortest)
        if pause is not None:
            return pause
        quietest = near + int(np.argmin(self._levels[near:first])) if near < first else first
        return quietest, quietest

    def _pause_at(self, frame: int) -> tuple[int, int] | None:
        """The pause that a frame lies in, if it is one of those that have no label."""
        frame = min(frame, len(self._levels) - 1)  # labels' last frame may reach beyond the audio
        place = bisect_right(self._begins, frame) - 1
        if place < 0 or frame >= self._ends[place] or self._ends[place] - self._begins[place] < self._outside:
            return None
        return self._begins[place], self._ends[place]

    def _pause(self, first: int, behind: int, shortest: int) -> tuple[int, int] | None:
        """The longest run of quiet frames in this span; None if none has `shortest` frames."""
        longest, found = shortest - 1, None
        for place in range(bisect_right(self._ends, first), len(self._begins)):
            if self._begins[place] >= behind:
                break
            begin, end = max(self._begins[place], first), min(self._ends[place], behind)
            if end - begin > longest:
                longest, found = end - begin, (begin, end)
        return found
