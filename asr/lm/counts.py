"""N-grams of a text and how often they occur there, by sorting.

The n-gram that ends at a position is the pair of the rank of the (n-1)-gram that ends one position before and the last
word. Both fit into one 64-bit key, so that one sort of the positions gives all n-grams of an order in the order of
their word ids, their counts, and the ranks for the next order.
"""

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.errors import TextError
from asr.lm.text import BEGIN, SPECIAL, Unit, sentences

BEGIN_ID, END_ID = SPECIAL.index(BEGIN), len(SPECIAL) - 1
_LIMIT = 2**31 - 1  # positions and ranks are int32


@dataclass(frozen=True)
class Grams:
    """The n-grams of one order, sorted by their word ids; M of them.

    Attributes:
        last: (M,) int32, id of the last word.
        prefix: (M,) int32, row of the first n-1 words among the (n-1)-grams; zeros for unigrams.
        suffix: (M,) int32, row of the last n-1 words among the (n-1)-grams; zeros for unigrams.
        raw: (M,) int64, how often the n-gram occurs in the text.
        adjusted: (M,) int64, what Kneser-Ney counts: how many different words precede the n-gram. It is `raw` in the
            highest order (the same array) and for n-grams that begin with `<s>`, which nothing can precede.
    """

    last: NDArray[np.int32]
    prefix: NDArray[np.int32]
    suffix: NDArray[np.int32]
    raw: NDArray[np.int64]
    adjusted: NDArray[np.int64]


def read_ids(
    text: Iterable[str | Path], unit: Unit, normalize: Callable[[str], str] | None = None
) -> tuple[NDArray[np.int32], list[str]]:
    """Read a text as word ids; see `asr.lm.text.sentences` for the arguments.

    Returns:
        (T,) int32, each sentence between `<s>` and `</s>`, and the (V,) words: `<unk>`, `<s>`, `</s>`, then in the
        order in which they first occur in the text.

    Raises:
        TextError: see `asr.lm.text.sentences`; or there is no token at all, or more than 2**31 - 1.
    """
    vocabulary = _Vocabulary((word, number) for number, word in enumerate(SPECIAL))
    ids = array("i")
    for _, tokens in sentences(text, unit, normalize):
        ids.append(BEGIN_ID)
        ids.extend(map(vocabulary.__getitem__, tokens))
        ids.append(END_ID)
    if len(vocabulary) == len(SPECIAL):
        raise TextError("the text for the language model holds no token")
    if len(ids) > _LIMIT:
        raise TextError(f"the text has {len(ids)} tokens; more than {_LIMIT} cannot be counted")
    return np.frombuffer(ids, np.int32), list(vocabulary)


def count(ids: NDArray[np.int32], vocabulary: int, order: int) -> list[Grams]:
    """Count all n-grams up to `order`; <s> occurs only in front.

    Each order takes about 40 bytes per token of the text during its sort; an n-gram found takes 28 bytes.

    Args:
        ids: (T,) int32 from `read_ids`.
        vocabulary: V, the number of ids.
        order: the highest n, >= 1.

    Returns:
        One `Grams` for each n. Unigrams are all V ids, with a count of 0 for `<unk>` and `<s>`. A high order may be
        empty when all sentences are short.
    """
    raw = np.bincount(ids, minlength=vocabulary)
    raw[BEGIN_ID] = 0
    begins = np.arange(vocabulary) == BEGIN_ID  # which (n-1)-grams begin with <s>
    nothing = np.zeros(vocabulary, np.int32)
    grams = [Grams(np.arange(vocabulary, dtype=np.int32), nothing, nothing, raw, raw)]
    ranks = ids  # (T,) the rank of the (n-1)-gram that ends at each position, -1 where there is none
    for _ in range(1, order):
        ends = np.flatnonzero((ids[1:] != BEGIN_ID) & (ranks[:-1] >= 0)).astype(np.int32)
        ends += 1
        keys = ranks[ends - 1] * np.int64(vocabulary) + ids[ends]
        keys, rank, raw = _distinct(keys)
        suffix = np.empty(len(keys), np.int32)
        suffix[rank] = ranks[ends]
        ranks = np.full(len(ids), -1, np.int32)
        ranks[ends] = rank
        del ends, rank
        lower = grams[-1]
        before = np.bincount(suffix, minlength=len(lower.last))
        grams[-1] = replace(lower, adjusted=np.where(begins, lower.raw, before))
        prefix = (keys // vocabulary).astype(np.int32)
        begins = begins[prefix]
        grams.append(Grams((keys % vocabulary).astype(np.int32), prefix, suffix, raw, raw))
    return grams


class _Vocabulary(dict[str, int]):
    """Word -> id; a new word gets the next id."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


def _distinct(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """The distinct keys in order, the rank of each key among them, and how often each occurs, as `np.unique`.

    It takes half the memory of `np.unique`, because ranks are int32 and temporary arrays are freed as soon as possible.
    """
    order = np.argsort(keys)
    keys = keys[order]
    new = np.ones(len(keys), np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=new[1:])
    starts = np.flatnonzero(new)
    keys = keys[starts]
    sorted_ranks = np.cumsum(new, dtype=np.int32)
    sorted_ranks -= 1
    ranks = np.empty_like(sorted_ranks)
    ranks[order] = sorted_ranks
    return keys, ranks, np.diff(starts, append=len(new))
