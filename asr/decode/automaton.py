"""An n-gram model as an automaton in flat arrays, and the numba kernels that walk it.

Each listed n-gram is an entry; entries of order < N are the states (contexts). A state goes by a word to the entry of
that context and word where there is one, and to the state of its longest listed suffix, at the price of its backoff
weight, where there is none. A state is one int32: an entry, or -1 for the empty context.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.decode.hashing import find
from asr.decode.jit import inlined, kernel


class NGramArrays(NamedTuple):
    """E entries in the order of their length, unigrams first; the S of them that are shorter than N are the states.

    Attributes:
        prob: (E,) float32, log10 probability of the last word of an entry after the others.
        backoff: (S,) float32, log10 backoff weight, 0 where the file has none.
        suffix: (E,) int32, entry of the longest proper suffix that is listed; -1 for unigrams.
        keys, values: hash table (state, word) -> entry, for entries of two words and more. Unigrams are not in it: the
            entry of a unigram is the id of its word.
    """

    prob: NDArray[np.float32]
    backoff: NDArray[np.float32]
    suffix: NDArray[np.int32]
    keys: NDArray[np.uint64]
    values: NDArray[np.int32]


@inlined
def match(model, state, word):  # type: ignore[no-untyped-def]
    """The log10 probability of `word` in `state` with backoff, and the entry that it came from.

    P(w | h) = prob(h w) where it is listed, else backoff(h) P(w | h without its first word); a context that is not
    listed has no backoff weight, so only listed ones are visited.
    """
    total = 0.0
    while state >= 0:
        entry = find(model.keys, model.values, state, word)
        if entry >= 0:
            return total + model.prob[entry], entry
        total += model.backoff[state]
        state = model.suffix[state]
    return total + model.prob[word], word


@kernel
def advance(model, state, word):  # type: ignore[no-untyped-def]
    """The log10 probability of `word` in `state`, and the state after it: its longest suffix that is a state.

    Args:
        model: NGramArrays.
        state: int32, an entry below S, or -1.
        word: int32, the id of a word, never negative; 0 for an unknown one.
    """
    log10_prob, entry = match(model, state, word)
    return log10_prob, entry if entry < len(model.backoff) else model.suffix[entry]  # an entry of N words is no context


@kernel
def walk(model, state, words, log10_probs, entries):  # type: ignore[no-untyped-def]
    """Fill the log10 probability of each word, and the entry that it came from, along a sentence."""
    for place in range(len(words)):
        log10_probs[place], entry = match(model, state, words[place])
        entries[place] = entry
        state = entry if entry < len(model.backoff) else model.suffix[entry]
