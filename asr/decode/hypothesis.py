"""What a decoder returns, and how labels are read as words."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from asr.decode.inputs import warn_once
from asr.errors import DecodeError
from asr.lexicon import Lexicon, first_words

_PIECE = "\u2581"  # what sentencepiece puts before a word
_FAIRSEQ_BLANK = "<s>"  # beside a <pad> that is none
_BLANK = re.compile(r"[<\[](blank|pad|ctc_blank|blk)[>\]]", re.IGNORECASE)  # what toolkits call the blank
_UTF_32 = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"


@dataclass(frozen=True)
class Word:
    """One word of a hypothesis.

    Attributes:
        text: the word.
        start_s: when its first label begins on the best alignment, in seconds.
        end_s: when the first frame of its last label ends, in seconds.
        confidence: 0 to 1; the decoder says what it measures.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True, eq=False)
class Reading:
    """How the labels of a decoder are read.

    A label may end the word before it, and may hold text of its own.

    Attributes:
        texts: for each label what it writes.
        boundary: for each label whether it ends the word before it.
        frame_s: seconds from one frame to the next.
        lexicon: words of a lexicon by number; empty where words are read from their labels.
        pronounced: the word that a sequence of labels is read as, where no number of `lexicon` names it.
    """

    texts: tuple[str, ...]
    boundary: tuple[bool, ...]
    frame_s: float
    lexicon: tuple[str, ...] = ()
    pronounced: Mapping[tuple[int, ...], str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        labels: Sequence[str],
        blank: int,
        space: str,
        frame_s: float,
        pronunciations: Lexicon | None = None,
    ) -> "Reading":
        """The reading of a vocabulary.

        `space` alone is a separator (" ", or "|" in HuggingFace's vocabularies); as the first character of a longer
        label it begins a word (sentencepiece's U+2581). The blank writes nothing. Of several words that share a
        pronunciation the first counts.

        Raises:
            DecodeError: a pronunciation contains something that is not a label.
        """
        _warn_of_blank(labels, blank)
        texts, boundary = [], []
        for place, label in enumerate(labels):
            starts = place != blank and space != "" and label.startswith(space)
            texts.append("" if place == blank else label.removeprefix(space) if starts else label)
            boundary.append(starts)
        if space and not any(boundary):
            _warn_of_separator(labels, blank, space)
        return cls(tuple(texts), tuple(boundary), frame_s, pronounced=_pronounced(pronunciations or {}, labels))

    @cached_property
    def written(self) -> tuple[str, ...]:
        """For each label what it adds to a text, with a space in front if it ends the word before it."""
        return tuple(" " + text if starts else text for text, starts in zip(self.texts, self.boundary, strict=True))

    @cached_property
    def characters(self) -> NDArray[np.uint32] | None:
        """The code point that each label writes, 0 for nothing; None if one writes several, or a null character."""
        if any(len(written) > 1 or written == "\0" for written in self.written):
            return None
        return np.array([ord(written or "\0") for written in self.written], np.uint32)

    def write(self, tokens: NDArray[np.integer]) -> str:
        """The text that labels write, with a space wherever a word ends."""
        if self.characters is None:
            return "".join([self.written[token] for token in tokens.tolist()])
        written: str = self.characters[tokens].tobytes().decode(_UTF_32, "surrogatepass")
        return written.replace("\0", "")

    def words(self, labels: "Labels") -> list[Word]:
        """The words with times and confidences."""
        tokens, frames, chosen = labels.tokens.tolist(), labels.frames.tolist(), labels.words.tolist()
        found: list[Word] = []
        for first, last in self.groups(tokens):
            spelled = tokens[first : last + 1]
            if self.lexicon and chosen[last] >= 0:
                text = self.lexicon[chosen[last]]
            else:
                text = self.pronounced.get(tuple(spelled)) or "".join([self.texts[token] for token in spelled])
            found.append(
                Word(
                    text=text,
                    start_s=frames[first] * self.frame_s,
                    end_s=(frames[last] + 1) * self.frame_s,
                    confidence=min(1.0, float(labels.confidences[last])),
                )
            )
        return found

    def groups(self, tokens: Sequence[int]) -> list[tuple[int, int]]:
        """For each word the places of its first and last token with text."""
        texts, boundary = self.texts, self.boundary
        firsts: list[int] = []
        lasts: list[int] = []
        begin = True
        for place, token in enumerate(tokens):
            begin = begin or boundary[token]
            if not texts[token]:
                continue
            if begin:
                firsts.append(place)
                lasts.append(place)
                begin = False
            else:
                lasts[-1] = place
        return list(zip(firsts, lasts, strict=True))


def _warn_of_blank(labels: Sequence[str], blank: int) -> None:
    """Warn if another label than the blank, and no second one, has the name of a blank."""
    named = [place for place, label in enumerate(labels) if _BLANK.fullmatch(label)]
    if len(named) == 1 and named[0] != blank and labels[blank] != _FAIRSEQ_BLANK:
        warn_once(
            f"blank={blank} is the label {labels[blank]!r}, but a label called {labels[named[0]]!r} is usually the "
            f"blank: that would be blank={named[0]}"
        )


def _warn_of_separator(labels: Sequence[str], blank: int, space: str) -> None:
    """Warn if no label that writes begins with `space`, but one looks like a separator: all would be one word."""
    writing = [label for place, label in enumerate(labels) if place != blank]
    piece = next((label for label in writing if label.startswith(_PIECE)), None)
    if labels[blank].startswith(space):
        warn_once(
            f"no label begins with the separator {space!r} but {labels[blank]!r}, which is taken for the blank, as "
            f"blank={blank}: is the blank another label?"
        )
    elif piece is not None:
        warn_once(
            f"no label begins with the separator {space!r}, but {piece!r} begins with {_PIECE!r}: with "
            f"space={_PIECE!r} such labels begin words"
        )
    elif "|" in writing and space != "|":
        warn_once(f"no label begins with the separator {space!r}, but '|' is one: with space='|' it separates words")


def _pronounced(pronunciations: Lexicon, labels: Sequence[str]) -> dict[tuple[int, ...], str]:
    index = {label: place for place, label in enumerate(labels)}
    found = {}
    for spelling, word in first_words(pronunciations).items():
        unknown = next((label for label in spelling if label not in index), None)
        if unknown is not None:
            raise DecodeError(f"pronunciations: word {word!r} is spelled with {unknown!r}, which is no label")
        found[tuple([index[label] for label in spelling])] = word
    return found


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of a hypothesis, or a part of them, in order.

    Attributes:
        tokens: (U,) label indices.
        frames: (U,) first frame of each.
        words: (U,) number of the lexicon word that ends with it, -1 where none was chosen.
        confidences: (U,) confidence of the word that ends with it.
    """

    tokens: NDArray[np.integer]
    frames: NDArray[np.integer]
    words: NDArray[np.integer]
    confidences: NDArray[np.floating]

    @classmethod
    def of(cls, steps: NDArray[np.void]) -> "Labels":
        """The labels in (U,) `layout.STEP` records."""
        return cls(steps["label"], steps["frame"], steps["word"], steps["confidence"])

    def written(self, reading: Reading) -> str:
        """The text they write; cached, as hypotheses of a stream share labels, and labels have only one reading."""
        written: str | None = self.__dict__.get("_written")
        if written is None:
            written = self.__dict__["_written"] = reading.write(self.tokens)
        return written


@dataclass(frozen=True, eq=False, repr=False)
class Hypothesis:
    """One transcript of one utterance; text, tokens and words are computed when first asked for.

    Attributes:
        score: natural log of what the decoder maximised: `acoustic_score + lm_score`.
        lm_score: the weighted part of language model, word bonus and hotwords in the score.
        confidence: 0 to 1; the decoder says what it measures.
    """

    score: float
    lm_score: float
    confidence: float
    _parts: tuple[Labels, ...]
    _reading: Reading

    @property
    def acoustic_score(self) -> float:
        """The acoustic model's part of the score."""
        return self.score - self.lm_score

    @cached_property
    def text(self) -> str:
        """The words, separated by single spaces."""
        if self._reading.lexicon or self._reading.pronounced:
            return " ".join([word.text for word in self.words])
        written = "".join([part.written(self._reading) for part in self._parts]).strip(" ")
        return " ".join([word for word in written.split(" ") if word]) if "  " in written else written

    @cached_property
    def tokens(self) -> tuple[int, ...]:
        """Label indices, without blanks."""
        return tuple(self._labels.tokens.tolist())

    @cached_property
    def token_frames(self) -> tuple[int, ...]:
        """For each token the frame in which it is first emitted on the best alignment."""
        return tuple(self._labels.frames.tolist())

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """The words with times and confidences."""
        return tuple(self._reading.words(self._labels))

    @cached_property
    def _labels(self) -> Labels:
        if len(self._parts) == 1:
            return self._parts[0]
        columns = ([getattr(part, field.name) for part in self._parts] for field in fields(Labels))
        return Labels(*map(np.concatenate, columns))

    def without_last_word(self) -> "Hypothesis":
        """The same hypothesis, with the same scores, up to where its last word begins."""
        groups, labels = self._reading.groups(self.tokens), self._labels
        keep = groups[-1][0] if groups else 0
        part = Labels(labels.tokens[:keep], labels.frames[:keep], labels.words[:keep], labels.confidences[:keep])
        return replace(self, _parts=(part,))

    def with_confidences(self, whole: float, words: Sequence[float]) -> "Hypothesis":
        """The same hypothesis with other confidences: of itself, and of each of its words."""
        labels = self._labels
        confidences = labels.confidences.copy()
        for (_, last), confidence in zip(self._reading.groups(self.tokens), words, strict=True):
            confidences[last] = confidence
        return replace(self, confidence=whole, _parts=(replace(labels, confidences=confidences),))

    def _compared(self) -> tuple[object, ...]:
        return self.text, self.tokens, self.token_frames, self.score, self.lm_score, self.confidence

    def __eq__(self, other: object) -> bool:
        return self._compared() == other._compared() if isinstance(other, Hypothesis) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._compared())

    def __repr__(self) -> str:
        shown = ("text", "tokens", "token_frames", "score", "acoustic_score", "lm_score", "confidence")
        return f"Hypothesis({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"
