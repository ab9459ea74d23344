"""Models that have nothing in common but what they heard: their hypotheses as one, by minimum Bayes risk.

Of all texts that any of the models holds possible, the one is chosen from which the others differ by the fewest words,
each counted by its probability (Goel & Byrne 2000; for several systems Xu, Povey, Mangu & Zhu 2011). Labels, frames and
decoders may be different ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from asr.decode import Hypothesis


@dataclass(frozen=True)
class _Candidate:
    """A text, its probability as the mean over the models, and who holds it likeliest."""

    probability: float
    spoken: Hypothesis

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(word.text for word in self.spoken.words)


def combine(found: Sequence[Sequence[Hypothesis]], n_best: int | None = None) -> list[Hypothesis]:
    """The hypotheses of several models for one utterance as one list, the fewest expected word errors first.

    Args:
        found: of each model at least one hypothesis, best first; some twenty of a beam, for of a single one nothing is
            known but the text. Their confidences, divided by their sum, are taken for the probabilities of the texts.
        n_best: hypotheses returned; None: all.

    Returns:
        Each text once, as the model has it (times, scores) that holds it likeliest. `confidence` is the probability of
        the text, the mean over the models; of a word the sum over the texts that agree on it.
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
        # What a beam holds beyond these hypotheses is more in one model than in another; all models count alike.
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
