"""What was recognised in one recording, and the turns of a dialogue."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from asr.decode.hypothesis import Word
from asr.errors import DecodeError
from asr.segmentation import Segment, mean_confidence, segments_of, words_of

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
        speaker: who said it; None if unknown.
    """

    text: str
    words: tuple[Word, ...]
    segments: tuple[Segment, ...]
    duration_s: float
    alternatives: tuple[Recognised, ...]
    source: str
    channel: int | None = None
    speaker: str | None = None

    @classmethod
    def of(
        cls,
        hypotheses: Sequence[Recognised],
        duration_s: float,
        source: str | os.PathLike[str],
        *,
        words: Sequence[Word] | None = None,
        channel: int | None = None,
        speaker: str | None = None,
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
            speaker: who said it, a name on one line; None if unknown.

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
        return cls(best.text, inside, segments_of(inside), duration_s, tuple(hypotheses), source, channel, speaker)

    @property
    def side(self) -> str:
        """What it is called as a side of a dialogue: by its speaker or, if that is unknown, its channel."""
        if self.speaker is not None:
            return self.speaker
        return "unknown" if self.channel is None else str(self.channel)

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
        of several, 0 being the first, and `speaker`, if known.
        """
        return {
            "audio_filepath": self.source,
            **_whose(self),
            "duration": round(self.duration_s, 3),
            "language": None,  # a model does not know it
            "text": self.text,
            "confidence": round(self.confidence, 4),
            "segments": [{"id": number, **segment.as_json()} for number, segment in enumerate(self.segments)],
            "alternatives": _alternatives_of(self.alternatives),
        }


@dataclass(frozen=True)
class Dialogue:
    """What was said in one recording by each of several speakers, or in each channel, to be read as a conversation.

    Attributes:
        sides: a transcript for each; at least one.

    Raises:
        DecodeError: two sides are not told apart, or there is none; the message names the recording.
    """

    sides: tuple[Transcript, ...]

    def __post_init__(self) -> None:
        whose = [(side.speaker, side.channel) for side in self.sides]
        if not whose or len({*whose}) < len(whose):
            name = self.sides[0].source if self.sides else "dialogue"
            raise DecodeError(f"{name}: wanted sides of different speakers or channels, found {whose}")

    @property
    def source(self) -> str:
        """The recording's name, in most cases its path."""
        return self.sides[0].source

    @property
    def duration_s(self) -> float:
        """Seconds of audio, of the longest side."""
        return max(side.duration_s for side in self.sides)

    @property
    def turns(self) -> list[tuple[Transcript, Segment]]:
        """The segments with the sides that they are of, by start, then side; they overlap where two speak at once."""
        turns = [(side, segment) for side in self.sides for segment in side.segments]
        return sorted(turns, key=lambda turn: turn[1].start_s)  # keeps the order of sides

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
        """The dialogue as JSON: as `Transcript.as_json`, without `alternatives`.

        Each segment has the `channel` and the `speaker` of its side, if known.
        """
        return {
            "audio_filepath": self.source,
            "duration": round(self.duration_s, 3),
            "language": None,
            "text": self.text,
            "confidence": round(self.confidence, 4),
            "segments": [
                {"id": number, **_whose(side), **segment.as_json()} for number, (side, segment) in enumerate(self.turns)
            ],
        }


def _whose(side: Transcript) -> dict[str, Any]:
    known = {"channel": side.channel, "speaker": side.speaker}
    return {key: value for key, value in known.items() if value is not None}


def facts_of(found: Sequence[Recognised]) -> dict[str, Any]:
    """What JSON says of an utterance without segments, from its hypotheses, best first; see `Transcript.as_json`."""
    best = found[0]
    return {
        "text": best.text,
        "confidence": round(_confidence(best.words, best), 4),
        "words": words_of(best.words),
        "alternatives": _alternatives_of(found),
    }


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
