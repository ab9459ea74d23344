"""Recordings cut in pauses between words.

Where words begin and end comes from a forced alignment. CTC says where a word is but not where its sound ends, so a cut
is made only where the audio is quiet between two words. Stretches without a pause stay whole, and so do words whose
alignment is in doubt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from asr.align import DOUBTFUL
from asr.decode import Word
from asr.pauses import runs_of

# Loudness is measured in windows of this length. A pause is more than _PAUSE_DB below a recording's 95th percentile.
_LOUDNESS_S = 0.02
_PAUSE_DB = 20.0
_LOUD = 0.95
# A word has at least this many seconds of sound above that; one that has less stays with its neighbour.
_SOUND_S = 0.1


@dataclass(frozen=True)
class Piece:
    """Audio from pause to pause.

    Attributes:
        wave: (S,) float32.
        text: its words.
    """

    wave: Tensor
    text: str


def cut(wave: Tensor, words: Sequence[Word], frame_s: float, rate_hz: int) -> list[Piece]:
    """Cut a recording in the pauses between words.

    Args:
        wave: (S,) float32.
        words: with times; a word's last label is taken to be in its last frame.
        frame_s: duration of a frame of those times, in seconds.
        rate_hz: of the waveform.

    Returns:
        Pieces that together are the whole recording, in order; a single one when there is no pause.
    """
    window = round(_LOUDNESS_S * rate_hz)
    if len(wave) < window:
        return [Piece(wave, " ".join(word.text for word in words))]
    loudness = _loudness_db(wave, window)
    loud = loudness >= np.quantile(loudness, _LOUD) - _PAUSE_DB
    cuts, groups = [0], [[words[0]]]
    for before, after in pairwise(words):
        first = round((before.end_s - frame_s) * rate_hz) // window
        last = max(first + 1, round(after.start_s * rate_hz) // window)
        pause = _middle_of_longest(~loud[first:last])
        if pause is not None and _is_said(groups[-1], loud[cuts[-1] : first + pause]):
            cuts.append(first + pause)
            groups.append([after])
        else:
            groups[-1].append(after)
    if len(cuts) > 1 and not _is_said(groups[-1], loud[cuts[-1] :]):
        cuts.pop()
        groups[-2:] = [groups[-2] + groups[-1]]
    bounds = [0, *(place * window + window // 2 for place in cuts[1:]), len(wave)]
    return [
        Piece(wave[start:end], " ".join(word.text for word in group))
        for (start, end), group in zip(pairwise(bounds), groups, strict=True)
    ]


def _is_said(words: Sequence[Word], loud: NDArray[np.bool_]) -> bool:
    """Whether there is enough sound for the words, and none is doubtful: a poor alignment is no place to cut."""
    return _LOUDNESS_S * int(loud.sum()) >= _SOUND_S * len(words) and all(w.confidence >= DOUBTFUL for w in words)


def _middle_of_longest(marks: NDArray[np.bool_]) -> int | None:
    """The middle of the longest run of true values in (N,) marks; None when there is none."""
    runs = runs_of(marks)
    if not len(runs):
        return None
    begin, end = map(int, runs[np.argmax(runs[:, 1] - runs[:, 0])])
    return (begin + end) // 2


def _loudness_db(wave: Tensor, window: int) -> NDArray[np.float64]:
    """(N,) mean power of each whole window, in decibels."""
    whole = wave.numpy().astype(np.float64)
    windows = whole[: len(whole) // window * window].reshape(-1, window)
    power: NDArray[np.float64] = np.square(windows).mean(1)
    return np.asarray(10 * np.log10(power + 1e-10))
