"""Scoring: hypotheses against references, as counts, bootstrap intervals and paired comparisons.

Texts come in normalised (`asr.text.normalize`) and nothing is changed here: words are what stands between spaces, and
the character error rate counts spaces as characters and every Unicode code point as one. Alignments are jiwer's. Where
several alignments have the same, smallest number of errors, jiwer chooses how they split into substitutions,
deletions and insertions; their sum does not depend on that choice.

Rates, intervals and differences are in percent of the reference words or characters.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from asr.errors import ScoringError
from asr.hypotheses import Result, require_unique

if TYPE_CHECKING:
    from jiwer import AlignmentChunk

Column = tuple[str | None, str | None]  # (reference word, hypothesis word); None is a gap

HARDLY_ANYTHING = 90.0  # per cent of words wrong: a model that is still on the plateau of blanks
RESAMPLES = 10_000
_RESAMPLES_AT_ONCE = 1_000  # keeps the weights of 5,000 different clusters in 40 MB
_SEED = 1
_MIN_SPEAKERS = 5  # with fewer, resampling speakers says nothing useful about their spread


@dataclass(frozen=True)
class Counts:
    """Outcome of an alignment, in words or in characters."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def reference(self) -> int:
        """Length of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Edit distance."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def percent(self) -> float:
        """Errors in percent of the reference; infinite when something was inserted into an empty reference."""
        if self.reference == 0:
            return math.inf if self.errors else 0.0
        return 100 * self.errors / self.reference

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


@dataclass(frozen=True)
class Scored:
    """One utterance, its counts and its word alignment."""

    result: Result
    words: Counts
    characters: Counts
    alignment: tuple[Column, ...]


@dataclass(frozen=True)
class Score:
    """All utterances of a test set and their sums."""

    utterances: tuple[Scored, ...]
    words: Counts
    characters: Counts


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval in percent, and what was resampled for it."""

    low: float
    high: float
    unit: Literal["speaker", "utterance"]


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same references.

    Attributes:
        a: score of the first system.
        b: score of the second system, its utterances in the order of the first.
        interval: of `difference_points`; None with fewer than two utterances.
        p_value: two-sided; None with fewer than two utterances.
        better: utterances on which b has fewer word errors than a.
        worse: utterances on which b has more.
        same: utterances on which both have equally many.
    """

    a: Score
    b: Score
    interval: Interval | None
    p_value: float | None
    better: int
    worse: int
    same: int

    @property
    def difference_points(self) -> float:
        """WER of b minus WER of a in percentage points: negative when b is better."""
        return 100 * (self.b.words.errors - self.a.words.errors) / self.a.words.reference


def score(results: Sequence[Result]) -> Score:
    """Align and count every utterance.

    An empty hypothesis is all deletions; words recognised where the reference is empty are insertions.

    Raises:
        ScoringError: an id occurs twice, or there is not one reference word.
    """
    import jiwer

    require_unique(results)
    if not any(result.reference.strip(" ") for result in results):
        raise ScoringError(f"the references of {len(results)} utterances hold no word; WER needs at least one")
    # jiwer's default transforms trim and squeeze white space: these two only cut the text into pieces.
    to_words = jiwer.Compose([jiwer.ReduceToListOfListOfWords(" ")])
    to_characters = jiwer.Compose([jiwer.ReduceToListOfListOfChars()])
    references = [result.reference for result in results]
    hypotheses = [result.hypothesis for result in results]
    words = jiwer.process_words(references, hypotheses, to_words, to_words)
    characters = jiwer.process_characters(references, hypotheses, to_characters, to_characters)
    utterances = tuple(
        Scored(result, _count(word_chunks), _count(character_chunks), _columns(word_chunks, reference, hypothesis))
        for result, word_chunks, character_chunks, reference, hypothesis in zip(
            results, words.alignments, characters.alignments, words.references, words.hypotheses, strict=True
        )
    )
    return Score(
        utterances,
        sum((utterance.words for utterance in utterances), Counts()),
        sum((utterance.characters for utterance in utterances), Counts()),
    )


def word_errors(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """The word errors of each (reference, hypothesis) among `pairs`; every word is one if nothing was said."""
    found = {(said, heard): len(heard.split()) for said, heard in pairs}
    spoken = [pair for pair in found if pair[0].strip()]
    if spoken:  # if no reference has a word there is no error rate, and `score` raises
        scored = score([Result(str(n), None, said, heard, 0.0) for n, (said, heard) in enumerate(spoken)])
        found.update(zip(spoken, (one.words.errors for one in scored.utterances), strict=True))
    return found


def wer_interval(scored: Score) -> Interval | None:
    """Percentile bootstrap interval of the word error rate; None with fewer than two utterances.

    10,000 resamples with a fixed seed. Utterances of one speaker tend to be hard or easy together, so whole speakers
    are resampled when at least five are known (an utterance of unknown speaker then stands for itself), otherwise
    utterances. A resample that drew no reference word has no error rate and is left out.
    """
    utterances = scored.utterances
    if len(utterances) < 2:
        return None
    counts = np.array([(utterance.words.errors, utterance.words.reference) for utterance in utterances])
    totals, unit = _by_cluster(counts, [utterance.result for utterance in utterances])
    errors, reference = _resample(totals).T
    return _interval(100 * errors / reference, unit)


def compare(a: Sequence[Result], b: Sequence[Result]) -> Comparison:
    """Compare two systems on the same utterances, by a paired bootstrap and a permutation test.

    The interval is the bootstrap's. Each resample draws the same speakers or utterances (chosen as in `wer_interval`,
    by the speakers in `a`) for both systems, so that what makes an utterance hard for both cancels out (Bisani and Ney,
    "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004). With a handful of
    speakers it is too narrow.

    The two-sided p-value is the permutation test's, exact however few there are. If the systems were alike, each might
    as well have made the other's errors on any speaker or utterance. The p-value is the share, of all ways to exchange
    these, in which the totals differ by at least as many errors as were found (Pitman 1937; Noreen, "Computer-intensive
    methods for testing hypotheses", 1989). Five speakers cannot show one below 1/16.

    Neither accounts for how much two trainings of one system differ.

    Raises:
        ScoringError: the ids or references differ (the message names the first such id), an id occurs twice, or there
            is not one reference word.
    """
    score_a, score_b = score(a), score(_in_order_of(a, b))
    pairs = [(one.words, two.words) for one, two in zip(score_a.utterances, score_b.utterances, strict=True)]
    better = sum(two.errors < one.errors for one, two in pairs)
    worse = sum(two.errors > one.errors for one, two in pairs)
    interval, p_value = None, None
    if len(pairs) >= 2:
        counts = np.array([(two.errors - one.errors, one.reference) for one, two in pairs])
        totals, unit = _by_cluster(counts, a)
        difference, reference = _resample(totals).T
        interval = _interval(100 * difference / reference, unit)
        p_value = _by_exchange(totals[:, 0])
    return Comparison(score_a, score_b, interval, p_value, better, worse, len(pairs) - better - worse)


def _in_order_of(a: Sequence[Result], b: Sequence[Result]) -> list[Result]:
    """The results of `b` in the order of `a`, after checking that they fit together."""
    require_unique(b)
    of_id = {result.id: result for result in b}
    for result in a:
        if result.id not in of_id:
            raise ScoringError(f"id {result.id!r} is missing from the second hypotheses")
        other = of_id[result.id].reference
        if other != result.reference:
            raise ScoringError(
                f"id {result.id!r} has reference {result.reference!r} in the first hypotheses, {other!r} in the second"
            )
    known = {result.id for result in a}
    for result in b:
        if result.id not in known:
            raise ScoringError(f"id {result.id!r} is missing from the first hypotheses")
    return [of_id[result.id] for result in a]


def _count(chunks: "Sequence[AlignmentChunk]") -> Counts:
    lengths: Counter[str] = Counter()
    for chunk in chunks:
        # Both sides are equally long, or one of them is empty.
        lengths[chunk.type] += max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
    return Counts(lengths["equal"], lengths["substitute"], lengths["delete"], lengths["insert"])


def _columns(
    chunks: "Sequence[AlignmentChunk]", reference: Sequence[str], hypothesis: Sequence[str]
) -> tuple[Column, ...]:
    columns: list[Column] = []
    for chunk in chunks:
        said = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        heard = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "delete":
            columns += [(word, None) for word in said]
        elif chunk.type == "insert":
            columns += [(None, word) for word in heard]
        else:
            columns += zip(said, heard, strict=True)
    return tuple(columns)


def _by_cluster(
    counts: npt.NDArray[np.int64], results: Sequence[Result]
) -> tuple[npt.NDArray[np.int64], Literal["speaker", "utterance"]]:
    """Sum the (utterances, columns) counts over what is resampled together."""
    if len({result.speaker for result in results if result.speaker is not None}) < _MIN_SPEAKERS:
        return counts, "utterance"
    # The flag keeps a speaker apart from an utterance whose id looks like the speaker's name.
    names = [(result.speaker is None, result.id if result.speaker is None else result.speaker) for result in results]
    row_of = {name: row for row, name in enumerate(dict.fromkeys(names))}
    totals = np.zeros((len(row_of), counts.shape[1]), dtype=np.int64)
    np.add.at(totals, [row_of[name] for name in names], counts)
    return totals, "speaker"


def _resample(totals: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Sums over clusters drawn with replacement, as many as there are.

    Args:
        totals: (clusters, columns) counts of each cluster; the last column is the reference words.

    Returns:
        (resamples, columns) sums, without the resamples that drew no reference word.
    """
    # Clusters with equal counts are interchangeable: draw how often each different row occurs. It is much less work
    # than drawing every cluster, and the result does not depend on the order of the utterances.
    different, times = np.unique(totals, axis=0, return_counts=True)
    generator = np.random.default_rng(_SEED)
    shares = times / len(totals)
    sums = np.concatenate(
        [
            generator.multinomial(len(totals), shares, size=_RESAMPLES_AT_ONCE) @ different
            for _ in range(RESAMPLES // _RESAMPLES_AT_ONCE)
        ]
    )
    kept: npt.NDArray[np.int64] = sums[sums[:, -1] > 0]
    return kept


def _by_exchange(differences: npt.NDArray[np.int64]) -> float:
    """The probability that the sum of these numbers, with random signs, is at least as far from zero as it is now."""
    sizes, times = np.unique(np.abs(differences), return_counts=True)
    most = int(sizes @ times)
    sums = np.arange(2 * most + 1)
    # The transform of the distribution of a sum is the product of those of its parts: a cosine for +size or -size.
    angles = 2 * np.pi * sums / len(sums)
    transform = np.ones(len(sums))
    for size, count in zip(sizes, times, strict=True):
        transform *= np.cos(size * angles) ** count
    chances = np.fft.ifft(transform).real
    sums[most + 1 :] -= len(sums)  # sums are modulo the length
    return float(np.clip(chances[np.abs(sums) >= abs(int(differences.sum()))].sum(), 0, 1))


def _interval(percents: npt.NDArray[np.float64], unit: Literal["speaker", "utterance"]) -> Interval:
    low, high = np.quantile(percents, [0.025, 0.975])
    return Interval(float(low), float(high), unit)
