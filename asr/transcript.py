"""What was recognised in one recording: words with times, the segments of subtitles, the turns of a dialogue."""

import math
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from asr.decode.hypothesis import Word
from asr.errors import DecodeError

# A pause this long ends a segment: the middle of the 0.2 to 1 s that Campione & Veronis (2002, "A large-scale
# multilingual study of silent pause duration") call medium pauses; chosen, not measured.
PAUSE_S = 0.6
# Netflix' Timed Text Style Guide, General Requirements and English: a subtitle has at most two lines of 42 characters
# and stands for at most 7 s. Characters are Unicode code points, a space between two words is one.
MAX_SEGMENT_S = 7.0
LINE_CHARACTERS = 42
MAX_LINES = 2
_MS_PER_S = 1000


class Recognised(Protocol):
    """What a transcript is made of; `asr.decode.Hypothesis` is one."""

    @property
    def text(self) -> str: ...
    @property
    def words(self) -> Sequence[Word]: ...
    @property
    def score(self) -> float: ...
    @property
    def acoustic_score(self) -> float: ...
    @property
    def lm_score(self) -> float: ...
    @property
    def confidence(self) -> float: ...


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


@dataclass(frozen=True)
class Transcript:
    """What was recognised in one recording; without a word where nothing was said.

    Attributes:
        text: the words of the best hypothesis, separated by single spaces.
        words: in order and inside the recording; none begins before the one before it ends.
        segments: the words cut by `segments_of`.
        duration_s: seconds of audio.
        alternatives: the hypotheses, best first; at least one.
        source: the recording's name, in most cases its path.
        channel: which channel of the source, 0 being the first; None: as `AudioConfig.channels` says.
    """

    text: str
    words: tuple[Word, ...]
    segments: tuple[Segment, ...]
    duration_s: float
    alternatives: tuple[Recognised, ...]
    source: str
    channel: int | None = None

    @classmethod
    def of(
        cls,
        hypotheses: Sequence[Recognised],
        duration_s: float,
        source: str | os.PathLike[str],
        *,
        words: Sequence[Word] | None = None,
        channel: int | None = None,
    ) -> "Transcript":
        """The transcript of one recording.

        The last output frame reaches beyond the end of the audio, and words that were joined from two windows may
        overlap. Times are cut: a word ends no later than the audio, and begins no earlier than the one before it ends.

        Args:
            hypotheses: at least one, best first, their times in seconds.
            duration_s: seconds of audio, more than 0.
            source: the recording's name, in most cases its path.
            words: those of the best hypothesis with times of their sounds (`asr.boundaries`); None: of their labels.
            channel: of the source, 0 being the first; None: as `AudioConfig.channels` says.

        Raises:
            DecodeError: there is no hypothesis, a duration, time, score or confidence cannot be, words are not in
                order, or there are more words than milliseconds. The message names the source and the word.
        """
        source = os.fspath(source)
        if not (math.isfinite(duration_s) and duration_s > 0):
            raise DecodeError(f"{source}: wanted a duration of more than 0 s, found {duration_s}")
        if not hypotheses:
            raise DecodeError(f"{source}: wanted at least one hypothesis, found none")
        for number, found in enumerate(hypotheses, 1):
            _check_scores(found, f"{source}: hypothesis {number}")
        best = hypotheses[0]
        inside = _inside(best.words if words is None else words, duration_s, source)
        return cls(best.text, inside, segments_of(inside), duration_s, tuple(hypotheses), source, channel)

    @property
    def confidence(self) -> float:
        """0 to 1, geometric mean of the words' confidences; without a word, the decoder's for the best hypothesis."""
        return _confidence(self.words, self.alternatives[0])

    def as_json(self) -> dict[str, Any]:
        """The transcript as JSON: the fields that Whisper's JSON has, and ours; times in seconds with three decimals.

        Whisper's are `text`, `language` and `segments` (`id`, `start`, `end`, `text`, and `words` of `word`, `start`,
        `end`, `probability`); a word stands without the space that Whisper puts before it. Ours are `audio_filepath`,
        `duration`, `confidence` (also of a segment) and `alternatives`, best first, with natural-log scores and a
        confidence (of a recording in one part the decoder's own, otherwise from its words); and `channel`, if it is one
        of several, 0 being the first.
        """
        return {
            "audio_filepath": self.source,
            **({} if self.channel is None else {"channel": self.channel}),
            "duration": round(self.duration_s, 3),
            "language": None,  # a model does not know it
            "text": self.text,
            "confidence": round(self.confidence, 4),
            "segments": [{"id": number, **segment.as_json()} for number, segment in enumerate(self.segments)],
            "alternatives": _alternatives_of(self.alternatives),
        }


@dataclass(frozen=True)
class Dialogue:
    """What was recognised in each channel of one recording, a speaker on each, to be read as a conversation.

    Attributes:
        sides: the transcripts of the channels 0, 1, ..., at least one.

    Raises:
        DecodeError: the sides are of other channels; the message names the recording.
    """

    sides: tuple[Transcript, ...]

    def __post_init__(self) -> None:
        channels = [side.channel for side in self.sides]
        if not channels or channels != list(range(len(channels))):
            whose = self.sides[0].source if self.sides else "dialogue"
            raise DecodeError(f"{whose}: wanted sides of the channels 0, 1, ..., found {channels}")

    @property
    def source(self) -> str:
        """The recording's name, in most cases its path."""
        return self.sides[0].source

    @property
    def duration_s(self) -> float:
        """Seconds of audio, of the longest side."""
        return max(side.duration_s for side in self.sides)

    @property
    def turns(self) -> list[tuple[int, Segment]]:
        """The segments of all sides with their channels, by start, then channel; they overlap where both speak."""
        turns = [(channel, segment) for channel, side in enumerate(self.sides) for segment in side.segments]
        return sorted(turns, key=lambda turn: turn[1].start_s)  # keeps the order of channels

    @property
    def text(self) -> str:
        """The words of all turns, separated by single spaces."""
        return " ".join(segment.text for _, segment in self.turns)

    @property
    def confidence(self) -> float:
        """0 to 1, geometric mean of the words' confidences; without a word, that of the least certain side."""
        words = [word for side in self.sides for word in side.words]
        return mean_confidence(words) if words else min(side.confidence for side in self.sides)

    def as_json(self) -> dict[str, Any]:
        """The dialogue as JSON: as `Transcript.as_json`, without `alternatives`; each segment has its `channel`."""
        return {
            "audio_filepath": self.source,
            "duration": round(self.duration_s, 3),
            "language": None,
            "text": self.text,
            "confidence": round(self.confidence, 4),
            "segments": [
                {"id": number, "channel": channel, **segment.as_json()}
                for number, (channel, segment) in enumerate(self.turns)
            ],
        }


def facts_of(found: Sequence[Recognised]) -> dict[str, Any]:
    """What JSON says of an utterance without segments, from its hypotheses, best first; see `Transcript.as_json`."""
    best = found[0]
    return {
        "text": best.text,
        "confidence": round(_confidence(best.words, best), 4),
        "words": words_of(best.words),
        "alternatives": _alternatives_of(found),
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


def _alternatives_of(found: Sequence[Recognised]) -> list[dict[str, Any]]:
    return [
        {
            "text": hypothesis.text,
            "confidence": round(_share(hypothesis), 4),
            "score": round(hypothesis.score, 4),
            "acoustic_score": round(hypothesis.acoustic_score, 4),
            "lm_score": round(hypothesis.lm_score, 4),
        }
        for hypothesis in found
    ]


def _check_scores(found: Recognised, where: str) -> None:
    for name in ("score", "acoustic_score", "lm_score"):
        value = getattr(found, name)
        if not math.isfinite(value):
            raise DecodeError(f"{where}: wanted a finite {name}, found {value}")
    if not 0 <= found.confidence < math.inf:
        raise DecodeError(f"{where}: wanted a confidence from 0 to 1, found {found.confidence}")


def _confidence(words: Sequence[Word], best: Recognised) -> float:
    return mean_confidence(words) if words else _share(best)


def _share(found: Recognised) -> float:
    """A confidence of at most 1: rows that sum to a little more than one, which decoders allow, would exceed it."""
    return min(1.0, found.confidence)


def _inside(words: Sequence[Word], duration_s: float, source: str) -> tuple[Word, ...]:
    """The words, their times cut to the audio and to each other."""
    if len(words) > duration_s * _MS_PER_S:  # no writer could give each a time of its own
        raise DecodeError(f"{source}: wanted at most one word per millisecond, found {len(words)} in {duration_s} s")
    found: list[Word] = []
    begun, ended = 0.0, 0.0
    for number, word in enumerate(words, 1):
        where = f"{source}: word {number} ({word.text!r})"
        if not (begun <= word.start_s <= word.end_s < math.inf):  # false for NaN as well
            raise DecodeError(f"{where}: wanted times in order from {begun} s, found {word.start_s} to {word.end_s} s")
        if not 0 <= word.confidence <= 1:
            raise DecodeError(f"{where}: wanted a confidence from 0 to 1, found {word.confidence}")
        begun = word.start_s
        start_s = min(max(word.start_s, ended), duration_s)
        ended = min(max(word.end_s, start_s), duration_s)
        found.append(Word(word.text, start_s, ended, word.confidence))
    return tuple(found)


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
