"""Interpolated modified Kneser-Ney by its definition, with dictionaries and whole counts: slow and obviously right.

Counts of counts are those of lmplz: in each order but the highest, the n-gram that it sorts last has its raw count.
"""

import math
from collections import Counter
from collections.abc import Sequence

Gram = tuple[str, ...]


def kneser_ney(sentences: Sequence[Sequence[str]], order: int, prune: Sequence[int]) -> dict[Gram, tuple[float, float]]:
    """(log10 probability, log10 backoff) of each n-gram (Chen and Goodman 1998); `prune` has a threshold an order."""
    raw: Counter[Gram] = Counter()
    for sentence in sentences:
        words = ["<s>", *sentence, "</s>"]
        for n in range(1, order + 1):
            for start in range(len(words) - n + 1):
                raw[tuple(words[start : start + n])] += 1

    adjusted: dict[Gram, int] = {}
    for gram, number in raw.items():
        if len(gram) == order or gram[0] == "<s>":
            adjusted[gram] = number
        else:
            adjusted[gram] = len({longer[0] for longer in raw if longer[1:] == gram})
    adjusted["<s>",] = 0
    adjusted["<unk>",] = 0
    special = (("<s>",), ("</s>",), ("<unk>",))
    kept = {gram for gram in adjusted if gram in special or raw[gram] > prune[len(gram) - 1]}

    rank = {word: number for number, word in enumerate(dict.fromkeys(word for words in sentences for word in words), 3)}
    rank.update({"<unk>": 0, "<s>": 1, "</s>": 2})
    full = [gram for gram in raw if len(gram) == order or (gram[0] == "<s>" and len(gram) > 1)]
    last = max(full, key=lambda gram: [rank[word] for word in reversed(gram)], default=())
    entered = {**adjusted, **{last[-n:]: raw[last[-n:]] for n in range(1, min(order, len(last) + 1))}}
    discounts = {n: _discounts([entered[gram] for gram in entered if len(gram) == n]) for n in range(1, order + 1)}

    def discount(gram: Gram) -> float:
        return discounts[len(gram)][min(adjusted[gram], 3)]

    def total(history: Gram) -> int:
        return sum(adjusted[gram] for gram in adjusted if len(gram) == len(history) + 1 and gram[:-1] == history)

    def gamma(history: Gram) -> float:
        following = [gram for gram in adjusted if len(gram) == len(history) + 1 and gram[:-1] == history]
        return sum(discount(gram) if gram in kept else adjusted[gram] for gram in following) / total(history)

    def prob(gram: Gram) -> float:
        if not gram:
            return 1 / sum(len(other) == 1 and other != ("<s>",) for other in kept)
        history = gram[:-1]
        return (adjusted[gram] - discount(gram)) / total(history) + gamma(history) * prob(gram[1:])

    model = {}
    for gram in kept:
        backoff = gamma(gram) if len(gram) < order and total(gram) else 1.0
        model[gram] = (0.0 if gram == ("<s>",) else _log10(prob(gram)), _log10(backoff))
    return model


def _discounts(adjusted: Sequence[int]) -> tuple[float, float, float, float]:
    n1, n2, n3, n4 = (list(adjusted).count(k) for k in (1, 2, 3, 4))
    if n1 == 0 or n2 == 0 or n3 == 0:
        return 0, 0.5, 1, 1.5
    y = n1 / (n1 + 2 * n2)
    found = (0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if min(found) > -1e-12 else (0, 0.5, 1, 1.5)


def _log10(value: float) -> float:
    return math.log10(value) if value > 1e-12 else -99.0
