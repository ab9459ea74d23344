"""Where a long recording is cut: in its pauses, or into windows that overlap where it has none."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.errors import ConfigError
from asr.features import POWER_FLOOR

# A recording's loud level is judged over this much audio and the window that follows.
JUDGED_S = 30.0
# The loud level is what this much of it exceeds: a word is long enough, a click is not.
LOUD_S = 0.3
# Speakers and rooms change: the levels for each second are those of this much audio on either side of it, but the loud
# one is never taken to be lower than the recording's by more than _SOFTER (20 dB).
_AROUND_S = 4.0
_SOFTER = 4.6
# The quiet level is at most this far below the loud one (39 dB): digital silence is no measure of what is quiet.
_DEEPEST = 9.0
# Audio with less than this (4 dB) between quiet and loud is all taken for speech.
_FLATTEST = 1.0
# Digital silence is POWER_FLOOR in every bin; dither is not much more.
DIGITAL_SILENCE = math.log(10 * POWER_FLOOR)
# Quiet is what lies below this part of the way from the quiet level to the loud one.
_QUIET_SHARE = 0.25
# This many frames are averaged to a level.
SMOOTHED = 5


@dataclass(frozen=True)
class Cutting:
    """Where a recording is cut; the defaults were best on the development speakers of AN4.

    Attributes:
        window_s: longest stretch that is encoded at once, and how far ahead a cut is looked for.
        overlap_s: of two windows where there is no pause to cut in; each window's outer half of it is thrown away.
        pause_s: shortest pause that is cut in.
        margin_s: how much of a pause goes with the speech on each side of it.
    """

    window_s: float = 30.0
    overlap_s: float = 4.0
    pause_s: float = 0.8
    margin_s: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < 2 * self.overlap_s <= self.window_s <= 600:
            raise ConfigError(
                f"windows of {self.window_s:g} s that overlap by {self.overlap_s:g} s: wanted at most 600 s, of which "
                "at most half overlaps"
            )
        if not 0 <= 2 * self.margin_s < self.pause_s <= self.window_s:
            raise ConfigError(
                f"pauses of {self.pause_s:g} s with margins of {self.margin_s:g} s: wanted margins below half of the "
                "pause, and a pause within the window"
            )


@dataclass(frozen=True)
class Stretch:
    """Feature frames that are encoded at once.

    Attributes:
        feats: (T, F) log-mel energies, not normalised.
        first: number in the recording of the first feature frame, a multiple of the subsampling.
        keep: number of the first feature frame whose log-probabilities count, and of the first after those.
    """

    feats: Tensor
    first: int
    keep: tuple[int, int]


class Cutter:
    """Cuts the feature frames of a recording into stretches, the same in whatever pieces the frames come.

    Where it cuts is decided one window at a time: in its first pause, or at its end. A frame is quiet if its level, the
    mean over mel bins of natural-log energy, is in the lowest quarter between the quiet and the loud level of the
    seconds around it: their 10th percentile, and what `LOUD_S` of them exceeds. What is quiet for longer than a pause
    is taken for silence and not recognised, for instance a voice 30 dB below another one right beside it.

    Args:
        cutting: what is wanted.
        frame_s: seconds from one feature frame to the next.
        subsampling: feature frames per frame of log-probabilities.
    """

    def __init__(self, cutting: Cutting, frame_s: float, subsampling: int) -> None:
        def frames(seconds: float) -> int:  # whole frames of log-probabilities
            return round(seconds / frame_s / subsampling) * subsampling

        self.subsampling = subsampling
        self.overlap = 2 * frames(cutting.overlap_s / 2)
        self.margin = frames(cutting.margin_s)
        # At least two frames of log-probabilities lie between two stretches.
        self.pause = max(frames(cutting.pause_s), 2 * self.margin + 3 * subsampling)
        self.window = max(frames(cutting.window_s), 2 * self.overlap, 2 * self.pause)
        self._judged = round(JUDGED_S / frame_s)
        self._loud = round(LOUD_S / frame_s)
        self._second, self._around = round(1 / frame_s), round(_AROUND_S / frame_s)
        self._waiting = torch.zeros(0, 0)  # frames not yet dealt with
        self._first = 0  # number of the first of them
        self._speech = False  # whether a stretch begins there
        self._keep = 0  # number of the first frame that was not yet given
        self._before = np.zeros(0)  # levels of the frames before the first

    def accept(self, feats: Tensor) -> Iterator[Stretch]:
        """Take (T, F) frames; yields what can be cut."""
        # Only one window is ever looked at, so it does not matter how much comes at once.
        self._waiting = torch.cat([self._waiting, feats]) if len(self._waiting) else feats
        while len(self._waiting) >= self.window:
            yield from self._cut(self._waiting[: self.window], at_end=False)

    def finish(self) -> Iterator[Stretch]:
        """Yields what is left at the end of the recording."""
        while len(self._waiting):
            yield from self._cut(self._waiting, at_end=True)

    def _cut(self, feats: Tensor, *, at_end: bool) -> Iterator[Stretch]:
        levels = levels_of(feats)
        quiet = self._quiet(levels)
        if not self._speech:
            loud = np.flatnonzero(~quiet)
            if len(loud):
                self._speech = True
                begin = self._aligned(int(loud[0]) - self.margin)
            else:
                begin = len(feats) if at_end else self._aligned(len(feats) - self.margin)
            self._go_on(max(begin, self._keep - self._first), levels)
            return
        end = next((first for first, behind in runs_of(quiet).tolist() if behind - first >= self.pause), None)
        if end is not None:
            end = self._aligned(end + self.margin)
            yield from self._give(feats[:end], end)
            # Leave room for a separator after it, wherever the pause is found to end.
            self._keep += self.subsampling
            self._speech = False
            self._go_on(end, levels)
        elif at_end:
            yield from self._give(feats, len(feats))
            self._go_on(len(feats), levels)
        else:
            yield from self._give(feats, len(feats) - self.overlap // 2)
            self._go_on(len(feats) - self.overlap, levels)

    def _give(self, feats: Tensor, kept: int) -> Iterator[Stretch]:
        """The stretch of these frames, of which the first `kept` count, unless all of them were given already."""
        behind = self._first + kept
        if behind > self._keep:
            yield Stretch(
                feats.clone() if len(feats) < len(self._waiting) else feats, self._first, (self._keep, behind)
            )
            self._keep = behind

    def _go_on(self, frames: int, levels: NDArray[np.float64]) -> None:
        """Drop the first `frames` of those that wait."""
        self._before = np.concatenate([self._before, levels[:frames]])[-self._judged :]
        self._waiting = self._waiting[frames:]
        self._first += frames
        self._keep = max(self._keep, self._first)

    def _aligned(self, frame: int) -> int:
        return max(0, frame) // self.subsampling * self.subsampling

    def _quiet(self, levels: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which frames of a window with these levels are quiet."""
        judged, place = np.concatenate([self._before, levels]), len(self._before)
        loudest = _largest(judged, self._loud) - _SOFTER
        thresholds = np.empty(len(levels))
        for start in range(0, len(levels), self._second):
            first, behind = place + start - self._around, place + start + self._second + self._around
            near = judged[max(0, first) : behind]
            thresholds[start : start + self._second] = quiet_below(near, self._loud, loudest)
        before = self._before[-(SMOOTHED // 2) :]
        return np.asarray(smoothed(np.concatenate([before, levels]))[len(before) :] < thresholds)


def levels_of(feats: Tensor) -> NDArray[np.float64]:
    """(..., T, F) log-mel energies, not normalised -> (..., T) levels of the frames."""
    return np.asarray(feats.mean(dim=-1).double().cpu().numpy())


def smoothed(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) levels, each averaged with its neighbours."""
    padded = np.pad(levels, SMOOTHED // 2, mode="edge")
    return np.convolve(padded, np.full(SMOOTHED, 1 / SMOOTHED), mode="valid")


def quiet_below(
    levels: NDArray[np.float64], loud_frames: int, at_least: float = -math.inf, *, share: float = _QUIET_SHARE
) -> float:
    """The level below which a frame among these is quiet; minus infinite if none is.

    Args:
        levels: (T,) levels of frames.
        loud_frames: how many frames must be as loud as the loud level.
        at_least: the loud level is taken to be no lower than this.
        share: which part of the way from the quiet level to the loud one counts as quiet.
    """
    last, loudest = len(levels) - 1, max(0, len(levels) - loud_frames)
    below = last // 10  # the 10th percentile lies between this place and the next
    above = min(below + 1, last)
    ordered = np.partition(levels, (below, above, loudest))
    quiet = float(ordered[below] + (last / 10 - below) * (ordered[above] - ordered[below]))
    loud = max(float(ordered[loudest]), at_least)
    if loud <= DIGITAL_SILENCE:
        return DIGITAL_SILENCE  # a short word is all that is loud
    if loud - quiet < _FLATTEST:
        return -math.inf
    quiet = max(quiet, loud - _DEEPEST)
    return quiet + share * (loud - quiet)


def quiet_beside_silence(levels: NDArray[np.float64], loud_frames: int, *, share: float = _QUIET_SHARE) -> float:
    """As `quiet_below`, of levels among which digital silence does not count: it is quiet anyway, and so is nothing."""
    return max(DIGITAL_SILENCE, quiet_below(levels, loud_frames, share=share)) if len(levels) else math.inf


def _largest(values: NDArray[np.float64], count: int) -> float:
    """The `count`-th largest value, or the smallest if there are fewer."""
    place = min(count, len(values))
    return float(np.partition(values, -place)[-place])


def runs_of(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(R, 2) for each run of true values, the place of its first and the place after its last."""
    return np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]))).reshape(-1, 2)
