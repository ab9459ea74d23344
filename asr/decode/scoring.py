"""What a label adds to a prefix beside its acoustic probability: language model, lexicon and hotwords (numba kernels).

Within a word the language model's score is looked ahead: a prefix of a word is given the best unigram among the words
that it may become, and the true score of the word takes its place once the word is complete. What was given ahead is
taken back, so the score of a whole hypothesis does not depend on it.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.decode.automaton import NGramArrays, advance
from asr.decode.hashing import find
from asr.decode.jit import inlined, inner
from asr.decode.layout import END_FACTOR, END_LM, END_WORD, HOT, LM, TRIE

NO_LM, WORD_LM, TOKEN_LM = 0, 1, 2
ROOT = 0  # trie node of the empty word
UNKNOWN = -1  # trie node of a word that has left the trie


class Scorer(NamedTuple):
    """Flat arrays of everything that scores prefixes; V labels.

    Attributes:
        flags: (4,) int64: kind of language model; words are tracked; only words of the trie are allowed; hotwords.
        weights: (5,) float64: alpha * ln 10, beta, alpha times the offset of unknown words, all natural log; the
            largest factor that the first label of a word may bring; the factor of each character of an unknown word.
        boundary: (V,) uint8, 1 where the label ends the word before it.
        has_text: (V,) uint8, 1 where the label is more than a separator.
        spell_start, spell: the trie symbols of label v are spell[spell_start[v] : spell_start[v + 1]].
        trie_keys, trie_values: hash table (node, symbol) -> node.
        ahead: (nodes,) float64, natural-log score given ahead to a word that has come to this node; the last element is
            for words that have left the trie.
        enter: (nodes,) float64, factor for coming to a node from its parent.
        leave: (nodes + 1,) float64, factor for leaving the trie there; the last element is for words that have left.
        depth: (nodes,) int32, symbols from the root.
        word_start, words: the words spelled by node n are words[word_start[n] : word_start[n + 1]].
        word_lm: (words,) int32, each word's id in the language model.
        token_lm: (V,) int32, each label's id in a token language model.
        hot_start, hot_spell: the hotword symbols of each label, as spell_start and spell.
        hot_next: (states, symbols) int32 transitions of the hotword automaton; symbol 0 is any other character, 1 the
            end of a word.
        hot_gain: (states, symbols) float64, natural-log bonus of a transition.
        hot_owed: (states,) float64, bonus given ahead for a phrase that is not complete.
        ngram: the language model.
        eos: id of the sentence's end in the language model, -1 where it has none.
    """

    flags: NDArray[np.int64]
    weights: NDArray[np.float64]
    boundary: NDArray[np.uint8]
    has_text: NDArray[np.uint8]
    spell_start: NDArray[np.int32]
    spell: NDArray[np.int32]
    trie_keys: NDArray[np.uint64]
    trie_values: NDArray[np.int32]
    ahead: NDArray[np.float64]
    enter: NDArray[np.float64]
    leave: NDArray[np.float64]
    depth: NDArray[np.int32]
    word_start: NDArray[np.int32]
    words: NDArray[np.int32]
    word_lm: NDArray[np.int32]
    token_lm: NDArray[np.int32]
    hot_start: NDArray[np.int32]
    hot_spell: NDArray[np.int32]
    hot_next: NDArray[np.int32]
    hot_gain: NDArray[np.float64]
    hot_owed: NDArray[np.float64]
    ngram: NGramArrays
    eos: int


@inlined
def complete_word(scorer, integers, floats, node):  # type: ignore[no-untyped-def]
    """Fill END_FACTOR, END_LM and END_WORD of a prefix that stands inside a word; the factor is 0 where it may not end.

    Of several words with this spelling the one that the language model likes best is taken.
    """
    trie = integers[node, TRIE]
    state = integers[node, LM]
    first, last = 0, 0
    if trie > ROOT:
        first, last = scorer.word_start[trie], scorer.word_start[trie + 1]
    best, word, next_state = -np.inf, -1, state
    if scorer.flags[0] != WORD_LM:
        if first < last or scorer.flags[2] == 0:
            best = 0.0
            word = scorer.words[first] if first < last else -1
    elif first < last:
        for place in range(first, last):
            candidate = scorer.words[place]
            lm_word = scorer.word_lm[candidate]
            log10_prob, after = advance(scorer.ngram, state, lm_word)
            gain = scorer.weights[0] * log10_prob + scorer.weights[1]
            if lm_word == 0:
                gain += scorer.weights[2]
            if gain > best:
                best, word, next_state = gain, candidate, after
    elif scorer.flags[2] == 0:
        log10_prob, next_state = advance(scorer.ngram, state, 0)
        best = scorer.weights[0] * log10_prob + scorer.weights[1] + scorer.weights[2]
        if trie > ROOT:
            best += scorer.depth[trie] * math.log(scorer.weights[4])
    floats[node, END_FACTOR] = math.exp(best - scorer.ahead[trie])  # UNKNOWN is -1: the last element
    integers[node, END_LM] = next_state
    integers[node, END_WORD] = word


@inlined
def extend(scorer, integers, floats, node, label):  # type: ignore[no-untyped-def]
    """The factor that `label` brings to a prefix (0: not allowed), and trie node, LM and hotword state after it."""
    trie = integers[node, TRIE]
    state = integers[node, LM]
    hot = integers[node, HOT]
    factor = 1.0
    if scorer.flags[0] == TOKEN_LM:
        log10_prob, state = advance(scorer.ngram, state, scorer.token_lm[label])
        gain = scorer.weights[0] * log10_prob + scorer.weights[1]
        if scorer.token_lm[label] == 0:
            gain += scorer.weights[2]
        factor = math.exp(gain)
    if scorer.flags[1] == 0:
        return factor, trie, state, hot
    ends = scorer.boundary[label] == 1 and trie != ROOT
    if ends:
        if math.isnan(floats[node, END_FACTOR]):
            complete_word(scorer, integers, floats, node)
        factor *= floats[node, END_FACTOR]
        if scorer.flags[0] == WORD_LM:
            state = integers[node, END_LM]
        trie = ROOT
    for place in range(scorer.spell_start[label], scorer.spell_start[label + 1]):
        if trie == UNKNOWN:
            factor *= scorer.weights[4]
            continue
        after = find(scorer.trie_keys, scorer.trie_values, trie, scorer.spell[place])
        if after < 0:
            if scorer.flags[2] == 1:
                return 0.0, trie, state, hot
            factor *= scorer.leave[trie]
            trie = UNKNOWN
        else:
            factor *= scorer.enter[after]
            trie = after
    if scorer.flags[3] == 1:
        gain = 0.0
        if ends:
            gain += scorer.hot_gain[hot, 1]
            hot = scorer.hot_next[hot, 1]
        for place in range(scorer.hot_start[label], scorer.hot_start[label + 1]):
            symbol = scorer.hot_spell[place]
            gain += scorer.hot_gain[hot, symbol]
            hot = scorer.hot_next[hot, symbol]
        if gain != 0.0:
            factor *= math.exp(gain)
    return factor, trie, state, hot


@inner
def final_gain(scorer, integers, floats, node):  # type: ignore[no-untyped-def]
    """Natural-log score that the end of the utterance adds to a prefix; -inf where it may not end here."""
    gain = 0.0
    state = integers[node, LM]
    hot = integers[node, HOT]
    if scorer.flags[1] == 1:
        if integers[node, TRIE] != ROOT:
            if math.isnan(floats[node, END_FACTOR]):
                complete_word(scorer, integers, floats, node)
            if floats[node, END_FACTOR] == 0.0:
                return -np.inf
            gain += math.log(floats[node, END_FACTOR])
            if scorer.flags[0] == WORD_LM:
                state = integers[node, END_LM]
            if scorer.flags[3] == 1:
                gain += scorer.hot_gain[hot, 1]
                hot = scorer.hot_next[hot, 1]
        if scorer.flags[3] == 1:
            gain -= scorer.hot_owed[hot]
    if scorer.flags[0] != NO_LM and scorer.eos >= 0:
        log10_prob, _ = advance(scorer.ngram, state, scorer.eos)
        gain += scorer.weights[0] * log10_prob
    return gain
