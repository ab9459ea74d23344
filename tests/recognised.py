"""Transcripts for tests: hypotheses without a decoder behind them, and words of all kinds."""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from asr.decode import Word
from asr.transcript import Transcript


@dataclass(frozen=True)
class Recognised:
    """A hypothesis as `asr.transcript.Recognised` asks for it."""

    text: str
    words: tuple[Word, ...]
    score: float = -3.25
    acoustic_score: float = -4.5
    lm_score: float = 1.25
    confidence: float = 0.875


def recognised(words: Sequence[Word]) -> Recognised:
    return Recognised(" ".join(word.text for word in words), tuple(words))


def transcript(words: Sequence[Word], duration_s: float, source: str = "talk.wav") -> Transcript:
    return Transcript.of([recognised(words)], duration_s, source)


# Whatever a label may hold: line ends, columns, markup, quotes, both directions, wide and combining characters.
_BLANK = ["\n", "\r", "\t", " ", "\x00", "\x85", "\u2028"]
_MARKUP = ["-->", "--", ">", "<i>", "&amp;", "&", '"', '""', "{", "\\", ";;", "@"]
_LETTERS = ["a", "I", "1", "straße", "שלום", "مرحبا", "小", "e\u0301", "👍🏽", "\u200f"]
_PIECES = st.sampled_from([*_BLANK, *_MARKUP, *_LETTERS])
TEXTS = st.lists(_PIECES, min_size=1, max_size=4).map("".join) | st.text("abc", min_size=1, max_size=60)
_GAPS_S = st.sampled_from([0.0, 0.0004, 0.04, 0.12, 0.599, 0.6]) | st.floats(0, 1.5)
_LENGTHS_S = st.sampled_from([0.0, 0.0004, 0.04, 0.3]) | st.floats(0, 3) | st.just(8.0)
_CONFIDENCES = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)


@st.composite
def words(draw: st.DrawFn, texts: st.SearchStrategy[str] = TEXTS, max_size: int = 12) -> list[Word]:
    """Words in order that do not overlap; some last no time, some begin hours after midnight."""
    now = draw(st.sampled_from([0.0, 0.0, 0.1, 359_998.7]))
    found = []
    for _ in range(draw(st.integers(0, max_size))):
        start_s = now + draw(_GAPS_S)
        now = start_s + draw(_LENGTHS_S)
        found.append(Word(draw(texts), start_s, now, draw(_CONFIDENCES)))
    return found


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    """The above in audio that ends with the last word, or later, and holds a millisecond a word at least."""
    found = draw(words())
    end_s = found[-1].end_s if found else 0.0
    return transcript(found, max(end_s + draw(st.sampled_from([0.0, 0.0003, 2.0])), (len(found) + 1) / 1000))
