"""An n-gram model as an automaton in flat arrays, and the numba kernels that walk it.

Each listed n-gram is an entry; entries of order < N are the states (contexts). With a word, a state leads to the entry
of that context and word if there is one; if not, to the state of its longest listed suffix, at the price of its backoff
weight. A state is one int32: an entry, or -1 for the empty context.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.decode.hashing import place_of
from asr.decode.jit import inlined, kernel

# log10 probability of what can never be, as in a grammar; one of arrays, as a number that can be added to others.
IMPOSSIBLE = -1e30
LEAST_POSSIBLE = 0.5 * IMPOSSIBLE

# How a state backs off from a word that it has no entry for: log10 backoff weight (0 where the file has none), and the
# entry of its longest listed proper suffix (-1 for unigrams).
STATE = np.dtype([("backoff", "<f4"), ("suffix", "<i4")], align=True)


class NGramArrays(NamedTuple):
    """E entries in order of length, unigrams first; the S of them with fewer than N words are the states.

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
def is_possible(log10_prob):  # type: ignore[no-untyped-def]
    """Whether a log10 probability is not that of something impossible."""
    return log10_prob > LEAST_POSSIBLE


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
    """The state after an entry: the entry itself, or its longest suffix if it has N words and so is no context."""
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
    """Fill in the log10 probability of each word of a sentence, and the entry that it came from."""
    for place in range(len(words)):
        log10_probs[place], entry = match(model, state, words[place])
        entries[place] = entry
        state = _state_of(model, entry)
