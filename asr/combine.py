"""Models that have nothing in common but what they heard: their hypotheses as one, by minimum Bayes risk.

Of all texts that any of the models holds possible, the one is chosen from which the others differ by the fewest words,
each counted by its probability (Goel & Byrne 2000; for several systems Xu, Povey, Mangu & Zhu 2011). Labels, frames and
decoders may be different ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from asr.decode import Hypothesis


@dataclass(frozen=True)
class _Candidate:
    """A text, its probability as the mean over the models, and who holds it likeliest."""

    words: tuple[str, ...]
    probability: float
    spoken: Hypothesis


def combine(found: Sequence[Sequence[Hypothesis]]) -> list[Hypothesis]:
    """The hypotheses of several models for one utterance as one list, the fewest expected word errors first.

    Args:
        found: of each model at least one hypothesis, best first, with scores in natural log.

    Returns:
        Each text once, as the model has it (times, scores) that holds it likeliest. `confidence` is the probability of
        the text, the mean over the models of what it has among their hypotheses; of a word the sum over the texts
        that agree on it.
    """
    candidates = _candidates(found)
    risks = [
        sum(other.probability * Levenshtein.distance(other.words, one.words) for other in candidates)
        for one in candidates
    ]
    order = sorted(range(len(candidates)), key=lambda place: (risks[place], -candidates[place].probability))
    return [_believed(candidates[place], candidates) for place in order]


def _candidates(found: Sequence[Sequence[Hypothesis]]) -> list[_Candidate]:
    probabilities: dict[str, float] = {}
    likeliest: dict[str, tuple[float, Hypothesis]] = {}
    for hypotheses in found:
        shares = [math.exp(one.score - hypotheses[0].score) for one in hypotheses]
        for one, share in zip(hypotheses, shares, strict=True):
            own = share / sum(shares)
            probabilities[one.text] = probabilities.get(one.text, 0.0) + own / len(found)
            if one.text not in likeliest or own > likeliest[one.text][0]:
                likeliest[one.text] = own, one
    return [
        _Candidate(tuple(text.split()), probability, likeliest[text][1]) for text, probability in probabilities.items()
    ]


def _believed(chosen: _Candidate, candidates: Sequence[_Candidate]) -> Hypothesis:
    agreed = [0.0] * len(chosen.words)
    for other in candidates:
        for block in Levenshtein.editops(other.words, chosen.words).as_matching_blocks():
            for place in range(block.b, block.b + block.size):
                agreed[place] += other.probability
    return chosen.spoken.with_confidences(min(1.0, chosen.probability), agreed)
