"""Combines the hypotheses of models that share nothing but the audio, by minimum Bayes risk.

Of all texts that any of the models considers possible, it chooses the one from which the others differ by the fewest
words, weighted by their probabilities (Goel & Byrne 2000; for several systems Xu, Povey, Mangu & Zhu 2011). Labels,
frames and decoders may differ between the models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from asr.decode import Hypothesis


@dataclass(frozen=True)
class _Candidate:
    """A text: its mean probability over the models, and the hypothesis of the model that finds it likeliest."""

    probability: float
    spoken: Hypothesis

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(word.text for word in self.spoken.words)


def combine(found: Sequence[Sequence[Hypothesis]], n_best: int | None = None) -> list[Hypothesis]:
    """Merge the hypotheses of several models for one utterance into one list, fewest expected word errors first.

    Args:
        found: for each model at least one hypothesis, best first; about twenty from a beam, since a single one tells
            nothing but its text. Their confidences, divided by their sum, are taken for the probabilities of the texts.
        n_best: hypotheses returned; None: all.

    Returns:
        Each text once, with times and scores from the model that finds it likeliest. Its `confidence` is the
        probability of the text, the mean over the models; a word's is the sum over the texts that agree on it.
    """
    candidates = _candidates(found)
    texts = [candidate.words for candidate in candidates]
    probabilities = np.array([candidate.probability for candidate in candidates])
    risks = cdist(texts, texts, scorer=Levenshtein.distance) @ probabilities
    order = sorted(range(len(candidates)), key=lambda place: (risks[place], -probabilities[place]))
    return [_believed(candidates[place], candidates) for place in order[:n_best]]


def _candidates(found: Sequence[Sequence[Hypothesis]]) -> list[_Candidate]:
    of_models: dict[str, list[tuple[float, Hypothesis]]] = {}
    for hypotheses in found:
        own: dict[str, tuple[float, Hypothesis]] = {}
        for one in hypotheses:  # a text may be spelled in several ways; the best one comes first
            before, spoken = own.get(one.text, (0.0, one))
            own[one.text] = before + one.confidence, spoken
        # How much probability these hypotheses leave out differs from model to model, but all models count alike.
        whole = sum(share for share, _ in own.values())
        for text, (share, spoken) in own.items():
            of_models.setdefault(text, []).append((share / whole, spoken))
    return [
        _Candidate(sum(share for share, _ in held) / len(found), max(held, key=lambda each: each[0])[1])
        for held in of_models.values()
    ]


def _believed(chosen: _Candidate, candidates: Sequence[_Candidate]) -> Hypothesis:
    words = chosen.words
    agreed = np.zeros(len(words))
    for other in candidates:
        for block in Levenshtein.editops(other.words, words).as_matching_blocks():
            agreed[block.b : block.b + block.size] += other.probability
    return chosen.spoken.with_confidences(min(1.0, chosen.probability), np.minimum(agreed, 1.0).tolist())
