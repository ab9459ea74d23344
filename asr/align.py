"""A given transcript and log-probabilities to word times (forced alignment).

Words are normalised one by one, as the model's training transcripts were, and come back as they were written. They are
timed as a decoder times them: a word starts with the first frame of its first label, and ends when its last label has
been emitted, one frame after the first of that label. CTC emits a label in only a few frames of its sound, so a word
ends too early here, as it does in recognition; with the audio at hand `asr.boundaries` finds where its sound ends. See
`asr.decode.alignment` for the search, which is exact.

No word is dropped silently. A word with a symbol that the model does not know (a number, for a model of letters) is
aligned as any sound: it gets the time that the words around it do not explain. A word of which normalisation leaves
nothing (a dash) has no time and is left out. Both are reported, and so are words that the audio contradicts and places
where more is said than the transcript has.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.decode import Word
from asr.decode.alignment import ANY, Alignment, align
from asr.decode.inputs import as_array
from asr.emissions import Vocabulary
from asr.errors import TextError
from asr.lengths import ctc_frames_needed
from asr.lines import compared_name
from asr.manifest import Utterance
from asr.segmentation import mean_confidence
from asr.text import Tokenizer
from asr.transcript import Dialogue, Transcript

# Words with a lower confidence are doubtful. In benchmarks/word_times.py 3 % of the words of AN4's dev set are, with a
# model that recognises 91 % of them, and 98 % of other words put in their places.
DOUBTFUL = 0.05
# So many labels that the model hears between two labels of a transcript, and over so long, are words that it lacks. In
# AN4's dev set there never is so much where no word is missing, and of sentences taken out of a transcript 73 to 89 %
# leave it, with models of letters, phones and pieces (docs/experiments.md).
LACKING, LACKING_S = 3, 0.5


@dataclass(frozen=True)
class Written:
    """A word of a transcript as it stands there.

    Attributes:
        text: the word, as delimited by white space.
        line: its line, from 1.
        place: its place in the line, from 1.
        unknown: its symbols that have no label, after normalisation, each once.
    """

    text: str
    line: int
    place: int
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"line {self.line}, word {self.place} {self.text!r}"


@dataclass(frozen=True)
class Lack:
    """Something said that the transcript seems to lack.

    Attributes:
        near: the word behind whose first label it is; the first word if it comes before all.
        start_s: when the first label that no word explains is heard, in seconds.
        end_s: when the last has been heard.
    """

    near: Written
    start_s: float
    end_s: float


@dataclass(frozen=True, eq=False)
class AlignedText:
    """A transcript with word times; it has the properties of a decoder's hypothesis.

    Attributes:
        words: as written, with times in seconds. Their confidence is the geometric mean of the posteriors of their
            labels over the frames in which those are emitted, and 0 for a word that was aligned as any sound.
        written: where each of them stands in the transcript.
        silent: words that have no time, because normalisation leaves nothing of them.
        score: natural log of the probability of the alignment (`asr.decode.alignment.Alignment.score`).
        lacks: where the model hears, for at least `LACKING_S`, `LACKING` labels or more that no word explains.
    """

    words: tuple[Word, ...]
    written: tuple[Written, ...]
    silent: tuple[Written, ...]
    score: float
    lacks: tuple[Lack, ...]

    def later(self, by_s: float) -> "AlignedText":
        """The same, as what begins so many seconds after the beginning of a recording."""
        words = (replace(word, start_s=word.start_s + by_s, end_s=word.end_s + by_s) for word in self.words)
        lacks = (replace(lack, start_s=lack.start_s + by_s, end_s=lack.end_s + by_s) for lack in self.lacks)
        return replace(self, words=tuple(words), lacks=tuple(lacks))

    @classmethod
    def joined(cls, parts: Sequence["AlignedText"]) -> "AlignedText":
        """Several parts of a recording as one, words by their start."""
        placed = [pair for part in parts for pair in zip(part.words, part.written, strict=True)]
        words, written = zip(*sorted(placed, key=lambda pair: pair[0].start_s), strict=True)
        silent = tuple(place for part in parts for place in part.silent)
        lacks = tuple(lack for part in parts for lack in part.lacks)
        return cls(words, written, silent, sum(part.score for part in parts), lacks)

    @property
    def text(self) -> str:
        """The words, separated by single spaces."""
        return " ".join(word.text for word in self.words)

    @property
    def acoustic_score(self) -> float:
        """The whole score."""
        return self.score

    @property
    def lm_score(self) -> float:
        """Zero: no language model is involved."""
        return 0.0

    @property
    def confidence(self) -> float:
        """Geometric mean of the words' confidences."""
        return mean_confidence(self.words)

    @property
    def doubtful(self) -> list[Word]:
        """Words with a confidence below `DOUBTFUL`: they were probably not said where they stand."""
        return [word for word in self.words if word.confidence < DOUBTFUL]

    def remarks(self) -> Iterator[str]:
        """A line for each word that could not be aligned well, and why, and for each place where words are lacking."""
        for place in self.silent:
            yield f"{place}: left out, nothing remains of it after normalisation"
        for word, place in zip(self.words, self.written, strict=True):
            times = f"{word.start_s:.2f} to {word.end_s:.2f} s"
            if place.unknown:
                symbols = ", ".join(map(repr, place.unknown))
                yield f"{place}: {times}, aligned as any sound: the vocabulary lacks {symbols}"
            elif word.confidence < DOUBTFUL:
                yield f"{place}: {times}, doubtful: confidence {word.confidence:.2f}"
        for lack in self.lacks:
            times = f"{lack.start_s:.2f} to {lack.end_s:.2f} s"
            yield f"near {lack.near}: {times}, the transcript seems to lack what is said there"


def recording_of(
    parts: Sequence[tuple[Utterance, AlignedText]], duration_s: float, source: Path
) -> Transcript | Dialogue:
    """What was said in a recording whose utterances were aligned one by one.

    Words that overlap others of the same side are cut: one begins no earlier than the one before it ends.

    Args:
        parts: at least one utterance of the recording, each with its words, timed from the recording's beginning.
        duration_s: of the recording.
        source: what it is called.

    Returns:
        A transcript, if all is of one speaker and channel; otherwise a dialogue, with a side for each in the order in
        which they first speak.
    """
    sides: defaultdict[tuple[str | None, int | None], list[AlignedText]] = defaultdict(list)
    for utterance, aligned in sorted(parts, key=lambda part: part[0].offset):
        sides[_side_of(utterance)].append(aligned)
    made = [
        Transcript.of([AlignedText.joined(spoken)], duration_s, source, channel=channel, speaker=speaker)
        for (speaker, channel), spoken in sides.items()
    ]
    return made[0] if len(made) == 1 else Dialogue(tuple(made))


def overlapping(parts: Iterable[tuple[Utterance, AlignedText]]) -> list[Utterance]:
    """The utterances of a recording whose words begin before those of another one of the same side have ended.

    Args:
        parts: as for `recording_of`.
    """
    reached_s: dict[tuple[str | None, int | None], float] = {}
    found = []
    for utterance, aligned in sorted(parts, key=lambda part: part[1].words[0].start_s):
        side = _side_of(utterance)
        if aligned.words[0].start_s < reached_s.get(side, 0.0):
            found.append(utterance)
        reached_s[side] = max(reached_s.get(side, 0.0), aligned.words[-1].end_s)
    return found


def _side_of(utterance: Utterance) -> tuple[str | None, int | None]:
    """The speaker, as names are compared, and the channel."""
    return compared_name(utterance.speaker or "") or None, utterance.channel


def align_text(
    log_probs: Any, text: str, tokenizer: Tokenizer, vocabulary: Vocabulary, *, where: str = "transcript"
) -> AlignedText:
    """Find when each word of a transcript was said.

    Args:
        log_probs: (T, V) natural-log probabilities of a whole recording, on the CPU.
        text: the transcript as written, on any number of lines.
        tokenizer: gives the words their labels.
        vocabulary: what the columns of `log_probs` mean.
        where: what messages begin with.

    Raises:
        TextError: the transcript holds no word that can be aligned, several words for a model without a space, or more
            than the frames can emit.
        DecodeError: it has probability zero, or `log_probs` are not log-probabilities.
    """
    written, silent = _read(text, tokenizer)
    if not written:
        raise TextError(f"{where}: wanted a transcript with a word in it, found {_shortened(text)}")
    known = [word for word in written if not word.unknown]
    if not known:
        raise TextError(
            f"{where}: no word can be aligned: {written[0]}: the vocabulary lacks {written[0].unknown[0]!r}"
        )
    labels, spans = _labels(written, tokenizer, vocabulary, where)
    rows = as_array(log_probs)
    needed, audio_s = ctc_frames_needed(labels), len(rows) * vocabulary.frame_s
    if needed > len(rows):
        raise TextError(
            f"{where}: the transcript needs {needed} frames, but {audio_s:.2f} s of audio have {len(rows)}: does it "
            "belong to this recording?"
        )
    found = align(rows, labels, blank=vocabulary.blank, where=where)
    confidences = _confidences(rows, np.asarray(labels), found, spans)
    words = []
    for word, (first, last), confidence in zip(written, spans, confidences, strict=True):
        confidence = 0.0 if word.unknown else confidence
        # A word ends as in `Reading.words`; any sound is not a single label, and ends with its last frame.
        end = found.ends[last] if word.unknown else found.starts[last] + 1
        frame_s = vocabulary.frame_s
        words.append(Word(word.text, float(found.starts[first] * frame_s), float(end * frame_s), confidence))
    lacks = tuple(_lacks(rows, np.asarray(labels), found, vocabulary, written, spans))
    return AlignedText(tuple(words), tuple(written), tuple(silent), found.score, lacks)


def _read(text: str, tokenizer: Tokenizer) -> tuple[list[Written], list[Written]]:
    """The words that are spoken, and those of which normalisation leaves nothing."""
    written: list[Written] = []
    silent: list[Written] = []
    for line, content in enumerate(text.split("\n"), 1):
        for place, word in enumerate(content.split(), 1):
            unknown = tuple(dict.fromkeys(tokenizer.out_of_vocabulary(word)))
            kept = written if tokenizer.normalize(word) else silent
            kept.append(Written(word, line, place, unknown))
    return written, silent


def _labels(
    written: Sequence[Written], tokenizer: Tokenizer, vocabulary: Vocabulary, where: str
) -> tuple[list[int], list[tuple[int, int]]]:
    """The labels of a transcript, and the places of the first and last label with text of each word."""
    separator: list[int] = []
    if tokenizer.config.unit != "bpe" and len(written) > 1:
        if vocabulary.space not in vocabulary.labels:
            raise TextError(f"{where}: {len(written)} words, but the vocabulary has no space: wanted one word")
        separator = [vocabulary.labels.index(vocabulary.space)]
    labels: list[int] = []
    spans = []
    for word in written:
        own = [ANY] if word.unknown else tokenizer.encode(word.text, where=where)
        if labels:
            labels += separator
        groups = [(0, 0)] if word.unknown else vocabulary.reading.groups(own)
        spans.append((len(labels) + groups[0][0], len(labels) + groups[-1][1]))
        labels += own
    return labels, spans


def _confidences(
    log_probs: NDArray[Any], labels: NDArray[np.int64], found: Alignment, spans: Sequence[tuple[int, int]]
) -> list[float]:
    """Geometric mean of the posteriors of each word's labels over their frames; meaningless for any sound."""
    counts = found.ends - found.starts
    label_of = np.repeat(np.arange(len(labels)), counts)
    frames = np.arange(len(label_of)) - np.repeat(np.cumsum(counts) - counts - found.starts, counts)
    tokens = labels[label_of]
    values = np.where(tokens == ANY, 0.0, log_probs[frames, tokens])
    sums = np.append(0.0, np.cumsum(values, dtype=np.float64))
    begins = np.append(0, np.cumsum(counts))
    firsts, behind = begins[[first for first, _ in spans]], begins[[last + 1 for _, last in spans]]
    means = np.exp((sums[behind] - sums[firsts]) / (behind - firsts))
    return [min(1.0, mean) for mean in means.tolist()]


def _lacks(
    log_probs: NDArray[Any],
    labels: NDArray[np.int64],
    found: Alignment,
    vocabulary: Vocabulary,
    written: Sequence[Written],
    spans: Sequence[tuple[int, int]],
) -> Iterator[Lack]:
    """Where the likeliest labels frame by frame, as greedy decoding reads them, go on between two of the transcript."""
    space = vocabulary.labels.index(vocabulary.space) if vocabulary.space in vocabulary.labels else vocabulary.blank
    best = log_probs.argmax(axis=1)
    changes = best != np.append(vocabulary.blank, best[:-1])
    heard = np.flatnonzero(changes & (best != vocabulary.blank) & (best != space))  # frames
    own = np.flatnonzero(labels != space)
    begins, ends = np.append(0, found.ends[own]), np.append(found.starts[own], len(best))
    behind = np.searchsorted(heard, ends)
    before = np.searchsorted(heard, begins)
    firsts = [first for first, _ in spans]
    for gap in np.flatnonzero(behind - before >= LACKING).tolist():
        place = bisect_right(firsts, own[gap - 1]) - 1 if gap else 0
        start_s = float(heard[before[gap]] * vocabulary.frame_s)
        end_s = float((heard[behind[gap] - 1] + 1) * vocabulary.frame_s)
        if end_s - start_s >= LACKING_S:
            yield Lack(written[max(0, place)], start_s, end_s)


def _shortened(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:57]!r}..."
