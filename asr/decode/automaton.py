"""An n-gram model as an automaton in flat arrays, and the numba kernels that walk it.

Each listed n-gram is an entry; entries of order < N are the states (contexts). A state goes by a word to the entry of
that context and word where there is one, and to the state of its longest listed suffix, at the price of its backoff
weight, where there is none. A state is one int32: an entry, or -1 for the empty context.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.decode.hashing import place_of
from asr.decode.jit import inlined, kernel

# What a state does with a word that it has no entry for: log10 backoff weight, 0 where the file has none, and the entry
# of its longest proper suffix that is listed, -1 for unigrams.
STATE = np.dtype([("backoff", "<f4"), ("suffix", "<i4")], align=True)


class NGramArrays(NamedTuple):
    """E entries in the order of their length, unigrams first; the S of them that are shorter than N are the states.

    Attributes:
        unigrams: (V,) float32, log10 probability of each word by itself. The entry of a unigram is the id of its word.
        states: (S,) STATE.
        after: (E - S,) int32, the state after each entry of N words: its longest proper suffix that is listed, or -1.
        table: hash table (state, word) -> entry, and log10 probability of the word in the state; for entries of two
            words and more.
    """

    unigrams: NDArray[np.float32]
    states: NDArray[np.void]
    after: NDArray[np.int32]
    table: NDArray[np.void]


@inlined
def match(model, state, word):  # type: ignore[no-untyped-def]
    """The log10 probability of `word` in `state` with backoff, and the entry that it came from.

    P(w | h) = prob(h w) where it is listed, else backoff(h) P(w | h without its first word); a context that is not
    listed has no backoff weight, so only listed ones are visited.
    """
    total = 0.0
    while state >= 0:
        place, _ = place_of(model.table, state, word)
        slot = model.table[place]
        if slot.value >= 0:
            return total + slot.number, slot.value
        context = model.states[np.uint32(state)]
        total += context.backoff
        state = context.suffix
    return total + model.unigrams[np.uint32(word)], word


@inlined
def _state_of(model, entry):  # type: ignore[no-untyped-def]
    """The state after an entry: itself, or its longest suffix where it has N words and is no context."""
    above = entry - len(model.states)
    return entry if above < 0 else model.after[above]


@kernel
def advance(model, state, word):  # type: ignore[no-untyped-def]
    """The log10 probability of `word` in `state`, and the state after it: its longest suffix that is a state.

    Args:
        model: NGramArrays.
        state: int32, an entry below S, or -1.
        word: int32, the id of a word, never negative; 0 for an unknown one.
    """
    log10_prob, entry = match(model, state, word)
    return log10_prob, _state_of(model, entry)


@kernel
def walk(model, state, words, log10_probs, entries):  # type: ignore[no-untyped-def]
    """Fill the log10 probability of each word, and the entry that it came from, along a sentence."""
    for place in range(len(words)):
        log10_probs[place], entry = match(model, state, words[place])
        entries[place] = entry
        state = _state_of(model, entry)
