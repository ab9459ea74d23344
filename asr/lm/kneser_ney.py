"""Interpolated modified Kneser-Ney (Chen and Goodman 1998, section 3), as KenLM's `lmplz` estimates it.

With a(h w) the adjusted count of the n-gram "h w" (see `counts.Grams`), A(h) = sum over w of a(h w), and h' the history
h without its first word:

    p(w | h) = (a(h w) - D(a(h w))) / A(h) + gamma(h) p(w | h')
    gamma(h) = (sum over w of D(a(h w))) / A(h)

so that every history's probabilities sum to one. Below the unigrams lies the uniform distribution over the words,
`</s>` and `<unk>`; this alone gives `<unk>` its probability. `<s>` is never predicted: its log-probability is written
as 0, as lmplz does. D is one of three discounts of the order, for a = 1, 2 and 3 or more, computed from the numbers
n_k of n-grams with adjusted count k (equation 26; `counts_of_counts` has a detail):

    Y = n_1 / (n_1 + 2 n_2)        D_k = k - (k + 1) Y n_{k+1} / n_k

Where n_1, n_2 or n_3 is zero or a discount is negative, as with few n-grams (the unigrams of a model of characters) or
an artificial text, that order gets `FALLBACK` and the model says so in `fallbacks`; lmplz stops there, or does the same
with --discount_fallback.

Pruning drops the n-grams of order n that occur `prune[n-1]` times or fewer in the text (not by adjusted count). All of
their a(h w) goes to gamma(h). Discounts are still estimated from all n-grams. Thresholds do not decrease with n, so
that whatever is in the model has its prefixes and suffixes there too.

The models of lmplz are the same except for two things: the logarithm of zero is -99 here (`LOG_ZERO`) and -inf there,
and a threshold for unigrams can remove `</s>` there, but no special word here.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.errors import TextError
from asr.lm.counts import BEGIN_ID, Grams, count, read_ids
from asr.lm.text import SPECIAL, Unit

FALLBACK = (0.5, 1.0, 1.5)
_HIGHEST_ORDER = 1000
LOG_ZERO = -99.0  # how ARPA files write the logarithm of zero


@dataclass(frozen=True)
class Order:
    """The n-grams of one order in the model, sorted by their word ids; M of them.

    Attributes:
        last: (M,) int32, id of the last word.
        prefix: (M,) int32, row of the first n-1 words in the order below; zeros for unigrams.
        log_prob: (M,) float64, log10 p(last | prefix).
        backoff: (M,) float64, log10 gamma of the n-gram as a history; 0 where nothing follows it.
    """

    last: NDArray[np.int32]
    prefix: NDArray[np.int32]
    log_prob: NDArray[np.float64]
    backoff: NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """A backoff n-gram model.

    Attributes:
        unit: what a token is.
        words: (V,) `<unk>`, `<s>`, `</s>`, then in the order in which they first occur in the text; pruned ones too.
        orders: n-grams for n = 1, 2, ...
        discounts: (N, 3) float64, D_1, D_2 and D_3+ of each order.
        fallbacks: the orders whose discounts could not be estimated and are `FALLBACK`.
    """

    unit: Unit
    words: list[str]
    orders: list[Order]
    discounts: NDArray[np.float64]
    fallbacks: tuple[int, ...]


def estimate(
    text: Iterable[str | Path],
    order: int,
    *,
    unit: Unit = "word",
    prune: Sequence[int] = (0,),
    normalize: Callable[[str], str] | None = None,
) -> Model:
    """Estimate a model from text.

    Everything is held in memory: at the peak about 40 bytes for each token of the text, or 60 bytes for each different
    n-gram of all orders (before pruning) where that is more.

    Args:
        text: a `Path` is a file of UTF-8 text, one sentence a line, gzip or not, or a manifest (`.jsonl`); a `str` is
            one sentence. An empty line is an empty sentence and counts.
        order: the longest n-gram, 1 to 1000.
        unit: what a token is; see `asr.lm.text`.
        prune: for n = 1, 2, ..., drop n-grams that occur this often or less; the last one holds for all higher orders.
        normalize: rewrites each sentence first, as `asr.text.normalize` does; None: nothing.

    Raises:
        TextError: the text cannot be used (the message names file and line) or is empty; order or thresholds are wrong.
        ManifestError: a manifest cannot be used.
    """
    if not 1 <= order <= _HIGHEST_ORDER:
        raise TextError(f"order={order}: a model has an order from 1 to {_HIGHEST_ORDER}")
    thresholds = _thresholds(prune, order)
    ids, words = read_ids(text, unit, normalize)
    grams = count(ids, len(words), order)
    del ids
    estimates = [estimate_discounts(n) for n in counts_of_counts(grams)]
    discounts = np.array([FALLBACK if found is None else found for found in estimates])
    fallbacks = tuple(n for n, found in enumerate(estimates, start=1) if found is None)
    keep = [each.raw > threshold for each, threshold in zip(grams, thresholds, strict=True)]
    keep[0][: len(SPECIAL)] = True
    return Model(unit, words, _interpolate(grams, discounts, keep), discounts, fallbacks)


def counts_of_counts(grams: list[Grams]) -> list[list[int]]:
    """n_0, n_1, ..., n_4 of each order: how many n-grams have the adjusted count k.

    As in lmplz (`AdjustCounts::Run`), one n-gram of each order but the highest enters with its raw count: the last one
    when n-grams are sorted by their last word, then the word before it, and so on. This moves no more than one n-gram,
    but where types are few, as with characters, it shows in the discounts; without it the models would differ.
    """
    counts: list[list[int]] = [np.bincount(each.adjusted[each.adjusted < 5], minlength=5).tolist() for each in grams]
    row = len(grams[0].last) - 1
    for n, (each, longer) in enumerate(pairwise(grams), start=1):
        for number, change in ((each.adjusted[row], -1), (each.raw[row], 1)):
            if number < 5:
                counts[n - 1][number] += change
        extended = np.flatnonzero(longer.suffix == row)
        if not len(extended):  # it begins with <s>, and so do those that lmplz sorts last in the orders above
            break
        first: NDArray[np.integer[Any]] = extended
        for order in reversed(grams[1 : n + 1]):
            first = order.prefix[first]
        row = extended[first.argmax()]
    return counts


def estimate_discounts(n: Sequence[int]) -> tuple[float, float, float] | None:
    """D_1, D_2 and D_3+ of one order from n_0, ..., n_4, or None where they cannot be estimated."""
    if not (n[1] and n[2] and n[3]):
        return None
    # In whole numbers, so that a discount of exactly 0 does not come out negative; D_k never exceeds k.
    one, two, three = (
        (k * (n[1] + 2 * n[2]) * n[k] - (k + 1) * n[1] * n[k + 1]) / ((n[1] + 2 * n[2]) * n[k]) for k in (1, 2, 3)
    )
    return (one, two, three) if min(one, two, three) >= 0 else None


def _thresholds(prune: Sequence[int], order: int) -> list[int]:
    given = list(prune)
    if not 0 < len(given) <= order:
        raise TextError(f"{len(given)} pruning thresholds for a model of order {order}; give 1 to {order}")
    if given[0] < 0 or given != sorted(given):
        raise TextError(f"pruning thresholds {' '.join(map(str, given))}: they must be >= 0 and must not decrease")
    return given + given[-1:] * (order - len(given))


def _interpolate(grams: list[Grams], discounts: NDArray[np.float64], keep: list[NDArray[np.bool_]]) -> list[Order]:
    # The unigrams have one empty history, and below it lies the uniform distribution, without <s>.
    lower = np.array([1 / (np.count_nonzero(keep[0]) - 1)])
    orders: list[Order] = []
    for (one, two, three), kept in zip(discounts, keep, strict=True):
        each = grams.pop(0)  # so that the counts of an order are freed when it is done
        discount = np.array([0.0, one, two, three])[np.minimum(each.adjusted, 3)]
        total = np.bincount(each.prefix, each.adjusted, len(lower))
        freed = np.bincount(each.prefix, np.where(kept, discount, each.adjusted), len(lower))
        gamma = np.divide(freed, total, out=np.ones(len(lower)), where=total > 0)
        if orders:
            orders[-1].backoff[:] = _log10(gamma)[keep[len(orders) - 1]]
        prob = (each.adjusted - discount) / total[each.prefix] + gamma[each.prefix] * lower[each.suffix]
        log_prob = np.minimum(_log10(prob), 0.0)  # rounding may bring a probability of 1 slightly above it
        if not orders:
            log_prob[BEGIN_ID] = 0.0
            prefix = each.prefix
        else:
            prefix = (np.cumsum(keep[len(orders) - 1], dtype=np.int32) - 1)[each.prefix]
        orders.append(Order(each.last[kept], prefix[kept], log_prob[kept], np.zeros(np.count_nonzero(kept))))
        lower = prob
    return orders


def _log10(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log10(values, out=np.full(len(values), LOG_ZERO), where=values > 0)
