"""Words with times, and how they are cut into segments, as subtitles show them."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from asr.decode.hypothesis import Word

# A pause this long ends a segment: the middle of the 0.2 to 1 s that Campione & Veronis (2002, "A large-scale
# multilingual study of silent pause duration") call medium pauses; chosen, not measured.
PAUSE_S = 0.6
# Netflix' Timed Text Style Guide, General Requirements and English: a subtitle has at most two lines of 42 characters
# and stands for at most 7 s. Characters are Unicode code points, a space between two words is one.
MAX_SEGMENT_S = 7.0
LINE_CHARACTERS = 42
MAX_LINES = 2


def mean_confidence(words: Sequence[Word]) -> float:
    """The geometric mean of the confidences of one or more words."""
    logs = [math.log(word.confidence) if word.confidence > 0 else -math.inf for word in words]
    return math.exp(sum(logs) / len(logs))


@dataclass(frozen=True)
class Segment:
    """Words that belong together on a screen.

    Attributes:
        start_s: when its first word begins, in seconds.
        end_s: when its last word ends, in seconds.
        text: the words, separated by single spaces.
        words: at least one.
        confidence: 0 to 1, geometric mean of the words'.
    """

    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...]
    confidence: float

    @classmethod
    def of(cls, words: Sequence[Word]) -> "Segment":
        """The segment of one or more words."""
        return cls(
            start_s=words[0].start_s,
            end_s=words[-1].end_s,
            text=" ".join(word.text for word in words),
            words=tuple(words),
            confidence=mean_confidence(words),
        )

    def as_json(self) -> dict[str, Any]:
        """The segment as JSON has it; see `Transcript.as_json`."""
        return {
            "start": round(self.start_s, 3),
            "end": round(self.end_s, 3),
            "text": self.text,
            "confidence": round(self.confidence, 4),
            "words": words_of(self.words),
        }


def words_of(words: Sequence[Word]) -> list[dict[str, Any]]:
    """What JSON says of words; see `Transcript.as_json`."""
    return [
        {
            "word": word.text,
            "start": round(word.start_s, 3),
            "end": round(word.end_s, 3),
            "probability": round(word.confidence, 4),
        }
        for word in words
    ]


def segments_of(words: Sequence[Word]) -> tuple[Segment, ...]:
    """Cut words into segments, never inside a word.

    A pause of `PAUSE_S` ends a segment. The words between two such pauses are one segment if they fit; otherwise they
    are cut where the sum of these costs is smallest, as Knuth & Plass (1981) break a paragraph into lines:
    (1 - pause / PAUSE_S) for each cut and (1 - fill)^2 for each segment, where fill is its share of the characters or
    seconds that a segment may have, whichever is more. So cuts fall into the longest pauses, and no single word is
    left over when there is a choice. The time is linear in the number of words.

    A segment fits when it is no longer than `MAX_SEGMENT_S` and its words stand in `MAX_LINES` lines of
    `LINE_CHARACTERS`. A word that is longer than that is a segment of its own. (Where a vocabulary has no separator
    of words, as in Chinese, all of an utterance is one word.)

    Args:
        words: in order, none beginning before the one before it ends.
    """
    return tuple(Segment.of(part) for run in _runs(words) for part in _parts(run))


def lines_of(words: Sequence[str]) -> list[str]:
    """The words on one line or, if it does not hold them, on two lines of lengths as equal as possible.

    A line is longer than `LINE_CHARACTERS` only if the words do not fit into two. Of two equally good ways the one with
    the shorter first line is taken, as subtitlers do.
    """
    whole = " ".join(words)
    if len(whole) <= LINE_CHARACTERS or len(words) == 1:
        return [whole]
    ways = [(" ".join(words[:place]), " ".join(words[place:])) for place in range(1, len(words))]
    return list(min(ways, key=lambda lines: max(map(len, lines))))


def _runs(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """The words between consecutive pauses."""
    pauses = [place for place, (a, b) in enumerate(pairwise(words), 1) if b.start_s - a.end_s >= PAUSE_S]
    for first, end in pairwise([0, *pauses, len(words)]):
        if first < end:
            yield words[first:end]


def _parts(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """The cheapest cut of a run; see `segments_of`."""
    offsets = [0]  # of each word in the text of the run
    for word in words:
        offsets.append(offsets[-1] + len(word.text) + 1)
    cheapest = [0.0]  # cost of the words before a place, and where the last segment of that cut begins
    begins = [0]
    for end in range(1, len(words) + 1):
        best = math.inf, end - 1
        for first in range(end - 1, -1, -1):
            if first < end - 1 and not _fits(words, offsets, first, end):
                break  # nor does anything longer
            cut = 0.0 if first == 0 else 1 - (words[first].start_s - words[first - 1].end_s) / PAUSE_S
            best = min(best, (cheapest[first] + cut + (1 - _fill(words, offsets, first, end)) ** 2, first))
        cheapest.append(best[0])
        begins.append(best[1])
    ends = [len(words)]
    while begins[ends[-1]] > 0:
        ends.append(begins[ends[-1]])
    for first, end in pairwise([0, *reversed(ends)]):
        yield words[first:end]


def _fits(words: Sequence[Word], offsets: Sequence[int], first: int, end: int) -> bool:
    if words[end - 1].end_s - words[first].start_s > MAX_SEGMENT_S:
        return False
    for _ in range(MAX_LINES):  # as many words as fit on each line
        first = bisect_right(offsets, offsets[first] + LINE_CHARACTERS + 1, first, end + 1) - 1
    return first == end


def _fill(words: Sequence[Word], offsets: Sequence[int], first: int, end: int) -> float:
    characters = (offsets[end] - offsets[first] - 1) / (MAX_LINES * LINE_CHARACTERS)
    return min(1.0, max(characters, (words[end - 1].end_s - words[first].start_s) / MAX_SEGMENT_S))
