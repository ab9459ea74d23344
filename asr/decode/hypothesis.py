"""What a decoder returns, and how labels are read as words."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Word:
    """One word of a hypothesis.

    Attributes:
        text: the word.
        start_s: when its first label begins on the best alignment, in seconds.
        end_s: when its last label has been emitted, in seconds.
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
    """

    texts: tuple[str, ...]
    boundary: tuple[bool, ...]
    frame_s: float
    lexicon: tuple[str, ...] = ()

    @classmethod
    def of(cls, labels: Sequence[str], blank: int, space: str, frame_s: float) -> "Reading":
        """The reading of a vocabulary.

        `space` alone is a separator (" ", or "|" in HuggingFace's vocabularies); as the first character of a longer
        label it begins a word (sentencepiece's U+2581). The blank writes nothing.
        """
        texts, boundary = [], []
        for place, label in enumerate(labels):
            starts = place != blank and space != "" and label.startswith(space)
            texts.append("" if place == blank else label.removeprefix(space) if starts else label)
            boundary.append(starts)
        return cls(tuple(texts), tuple(boundary), frame_s)

    @cached_property
    def _written(self) -> tuple[str, ...]:
        return tuple(" " + text if starts else text for text, starts in zip(self.texts, self.boundary, strict=True))

    def text(self, labels: "Labels") -> str:
        """The words, one space between two."""
        if self.lexicon:
            return " ".join(word.text for word in self.words(labels))
        written = "".join([self._written[token] for token in labels.tokens.tolist()])
        return " ".join([word for word in written.split(" ") if word])

    def words(self, labels: "Labels") -> list[Word]:
        """The words with times and confidences."""
        tokens = labels.tokens.tolist()
        found: list[Word] = []
        for first, last in self.groups(tokens):
            chosen = int(labels.words[last])
            spelled = "".join(self.texts[token] for token in tokens[first : last + 1])
            found.append(
                Word(
                    text=self.lexicon[chosen] if self.lexicon and chosen >= 0 else spelled,
                    start_s=float(labels.frames[first] * self.frame_s),
                    end_s=float((labels.frames[last] + 1) * self.frame_s),
                    confidence=min(1.0, float(labels.confidences[last])),
                )
            )
        return found

    def groups(self, tokens: Sequence[int]) -> list[tuple[int, int]]:
        """First and last place of the tokens with text of each word."""
        found: list[tuple[int, int]] = []
        begin = True
        for place, token in enumerate(tokens):
            begin = begin or self.boundary[token]
            if not self.texts[token]:
                continue
            if begin:
                found.append((place, place))
                begin = False
            else:
                found[-1] = (found[-1][0], place)
        return found


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of a hypothesis, in order.

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


@dataclass(frozen=True)
class Hypothesis:
    """One transcript of one utterance.

    Attributes:
        text: the words, one space between two.
        tokens: label indices, without blanks.
        token_frames: for each token the frame in which it is first emitted on the best alignment.
        score: natural log of what the decoder maximised: `acoustic_score + lm_score`.
        acoustic_score: the part of the acoustic model.
        lm_score: the part of language model, word bonus and hotwords, weighted.
        confidence: 0 to 1; the decoder says what it measures.
    """

    text: str
    tokens: tuple[int, ...]
    token_frames: tuple[int, ...]
    score: float
    acoustic_score: float
    lm_score: float
    confidence: float
    _labels: Labels = field(repr=False, compare=False)
    _reading: Reading = field(repr=False, compare=False)

    @classmethod
    def of(cls, labels: Labels, reading: Reading, *, score: float, lm_score: float, confidence: float) -> "Hypothesis":
        """Read labels as a transcript."""
        return cls(
            text=reading.text(labels),
            tokens=tuple(labels.tokens.tolist()),
            token_frames=tuple(labels.frames.tolist()),
            score=score,
            acoustic_score=score - lm_score,
            lm_score=lm_score,
            confidence=confidence,
            _labels=labels,
            _reading=reading,
        )

    def without_last_word(self) -> "Hypothesis":
        """The same hypothesis, scores as they are, up to where its last word begins."""
        groups = self._reading.groups(self.tokens)
        keep = groups[-1][0] if groups else 0
        labels = self._labels
        part = Labels(labels.tokens[:keep], labels.frames[:keep], labels.words[:keep], labels.confidences[:keep])
        return Hypothesis.of(part, self._reading, score=self.score, lm_score=self.lm_score, confidence=self.confidence)

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """The words with times and confidences; read when they are first asked for."""
        return tuple(self._reading.words(self._labels))
