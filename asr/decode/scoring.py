"""What a label adds to a prefix besides its acoustic probability: language model, lexicon and hotwords (numba kernels).

Within a word the language model looks ahead: the beginning of a word is given the best unigram score among the words
that it may become. Once the word is complete, its true score replaces what was given ahead, so the score of a whole
hypothesis does not depend on it.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.decode.automaton import NGramArrays, advance, is_possible
from asr.decode.jit import inlined, inner
from asr.decode.layout import Records, record

NO_LM, WORD_LM, TOKEN_LM = 0, 1, 2
ROOT = 0  # trie node of the empty word
# Natural log, of a word or label that is possible at all: sums in the linear domain would not survive a smaller one.
LEAST_GAIN = -400.0

RULES = record(
    "kind tracks_words lexicon homophones hotwords first_lm first_hot eos",
    float64="alpha beta unknown most_first unknown_character",
)
LABEL = record("boundary has_text spell hot_spell token_lm")
NODE = record("child symbol", int64="follow", float64="enter leave")  # half a line of the processor's cache
END = record("word", float64="ahead characters")
HOT_STATE = record("child symbol failure", float64="complete owed")


class Scorer(NamedTuple):
    """Flat arrays of everything that scores prefixes; V labels.

    Attributes:
        rules: (1,) RULES: kind of language model; whether words are tracked, whether only words of the trie are
            allowed, whether the language model has to tell some of them apart, whether there are hotwords; states in
            which an utterance begins; id of the sentence's end in the language model, -1 if it has none. alpha * ln 10,
            beta, alpha times the offset of unknown words, all natural log; the largest factor that the first label of a
            word may bring; the factor of each character of an unknown word.
        labels: (V + 1,) LABEL: 1 where the label ends the word before it; 1 where it is more than a separator; the
            trie symbols of label v are spell[labels[v].spell : labels[v + 1].spell], its hotword symbols likewise; its
            id in a language model of labels.
        spell, hot_spell: symbols. Hotword symbol 0 is any other character, 1 the end of a word.
        nodes: (nodes + 2,) NODE: the children of node n are nodes[n].child up to nodes[n + 1].child, in the order of
            their symbols. Which symbols those are, as in `layout.FACTS`; factors for entering the node from its parent
            and for leaving the trie there. The row after the nodes is that of words that have left the trie.
        ends: (nodes + 2,) END: the words that node n spells are words[ends[n].word : ends[n + 1].word]; natural-log
            scores: what was given ahead to a word that has reached the node, and the price of its characters if it is
            not a word.
        words: word numbers; word_lm: (words,) int32, each word's id in the language model.
        hot_states: (states + 1,) HOT_STATE, the hotword automaton: children as in `nodes`, and the state to try next
            where no child follows; natural-log bonus of the phrases that end there, and what was given ahead for a
            phrase that is not complete.
        ngram: the language model.
    """

    rules: Records
    labels: Records
    spell: NDArray[np.int32]
    hot_spell: NDArray[np.int32]
    nodes: Records
    ends: Records
    words: NDArray[np.int32]
    word_lm: NDArray[np.int32]
    hot_states: Records
    ngram: NGramArrays


@inlined
def child_of(nodes, node, symbol):  # type: ignore[no-untyped-def]
    """The child of `node` for a symbol, or -1 (a binary search without branches)."""
    place = np.uint32(nodes[np.uint32(node)].child)
    count = np.uint32(nodes[np.uint32(node) + np.uint32(1)].child) - place
    if count == 0:
        return np.int32(-1)
    while count > 1:
        half = np.uint32(count >> np.uint32(1))
        place = place + half if nodes[place + half].symbol <= symbol else place
        count = count - half
    return np.int32(place) if nodes[place].symbol == symbol else np.int32(-1)


@inlined
def _hot_step(scorer, state, symbol):  # type: ignore[no-untyped-def]
    """The hotword state after a symbol, and the natural-log bonus of the step."""
    states = scorer.hot_states
    owed = states[np.uint32(state)].owed
    after = child_of(states, state, symbol)
    while after < 0 and state > 0:
        state = states[np.uint32(state)].failure
        after = child_of(states, state, symbol)
    after = np.int32(0) if after < 0 else after
    reached = states[np.uint32(after)]
    return after, reached.complete + reached.owed - owed


@inlined
def _lm_gain(scorer, state, lm_word):  # type: ignore[no-untyped-def]
    """The natural-log score of a word or label by its id in the language model, and the model's state after it."""
    rules = scorer.rules[0]
    log10_prob, after = advance(scorer.ngram, state, lm_word)
    gain = rules.alpha * log10_prob + rules.beta
    if lm_word == 0:
        gain += rules.unknown
    return max(gain, LEAST_GAIN) if is_possible(log10_prob) else -np.inf, after


@inlined
def word_gain(scorer, state, word):  # type: ignore[no-untyped-def]
    """The natural-log score of a known word, and the language model's state after it."""
    return _lm_gain(scorer, state, scorer.word_lm[word])


@inlined
def end_gain(scorer, state):  # type: ignore[no-untyped-def]
    """The natural-log score of a sentence's end in a state of the language model."""
    rules = scorer.rules[0]
    if rules.kind == NO_LM or rules.eos < 0:
        return 0.0
    log10_prob, _ = advance(scorer.ngram, state, rules.eos)
    return rules.alpha * log10_prob if is_possible(log10_prob) else -np.inf


@inlined
def likeliest_word(scorer, node, state):  # type: ignore[no-untyped-def]
    """Of the words that a trie node spells the one that scores best: its score, its number and the state after it."""
    best, word, reached = -np.inf, np.int32(-1), state
    for place in range(scorer.ends[node].word, scorer.ends[node + np.uint32(1)].word):
        candidate = scorer.words[place]
        gain, after = word_gain(scorer, state, candidate)
        if gain > best:
            best, word, reached = gain, candidate, after
    return best, word, reached


@inlined
def complete_word(scorer, prefix):  # type: ignore[no-untyped-def]
    """Fill `end_factor`, `end_lm` and `end_word` of a prefix inside a word; the factor is 0 where it may not end.

    Of several words with this spelling the one with the best language model score is taken (see `homophones`).
    """
    rules, end = scorer.rules[0], scorer.ends[np.uint32(prefix.trie)]
    first, last = end.word, scorer.ends[np.uint32(prefix.trie) + np.uint32(1)].word
    best, word, state = -np.inf, np.int32(-1), prefix.lm
    if rules.kind != WORD_LM:
        if first < last or rules.lexicon == 0:
            best = 0.0
            word = scorer.words[first] if first < last else np.int32(-1)
    elif first < last:
        best, word, state = likeliest_word(scorer, np.uint32(prefix.trie), prefix.lm)
    elif rules.lexicon == 0:
        best, state = _lm_gain(scorer, prefix.lm, np.int32(0))
        best += end.characters
    prefix.end_factor = math.exp(best - end.ahead)
    prefix.end_lm = state
    prefix.end_word = word


@inlined
def extend(scorer, prefix, label):  # type: ignore[no-untyped-def]
    """The factor that `label` brings to a prefix (0: not allowed), and trie node, LM and hotword state after it."""
    rules, sign, after_it = scorer.rules[0], scorer.labels[label], scorer.labels[label + np.uint32(1)]
    trie, state, hot = prefix.trie, prefix.lm, prefix.hot
    factor = 1.0
    if rules.kind == TOKEN_LM:
        gain, state = _lm_gain(scorer, state, sign.token_lm)
        factor = math.exp(gain)
    if rules.tracks_words == 0:
        return factor, trie, state, hot
    ends = sign.boundary == 1 and trie != ROOT
    if ends:
        if math.isnan(prefix.end_factor):
            complete_word(scorer, prefix)
        factor *= prefix.end_factor
        if rules.kind == WORD_LM:
            state = prefix.end_lm
        trie = np.int32(ROOT)
    outside = np.int32(len(scorer.nodes) - 2)
    for place in range(sign.spell, after_it.spell):
        if trie == outside:
            factor *= rules.unknown_character
            continue
        after = child_of(scorer.nodes, trie, scorer.spell[place])
        if after < 0:
            if rules.lexicon == 1:
                return 0.0, trie, state, hot
            factor *= scorer.nodes[np.uint32(trie)].leave
            trie = outside
        else:
            factor *= scorer.nodes[np.uint32(after)].enter
            trie = after
    if rules.hotwords == 1:
        gain = 0.0
        if ends:
            hot, bonus = _hot_step(scorer, hot, np.int32(1))
            gain += bonus
        for place in range(sign.hot_spell, after_it.hot_spell):
            hot, bonus = _hot_step(scorer, hot, scorer.hot_spell[place])
            gain += bonus
        if gain != 0.0:
            factor *= math.exp(gain)
    return factor, trie, state, hot


@inner
def final_gain(scorer, prefix):  # type: ignore[no-untyped-def]
    """Natural-log score that the end of the utterance adds to a prefix; -inf where it may not end here."""
    rules = scorer.rules[0]
    gain = 0.0
    state, hot = prefix.lm, prefix.hot
    if rules.tracks_words == 1:
        if prefix.trie != ROOT:
            if math.isnan(prefix.end_factor):
                complete_word(scorer, prefix)
            if prefix.end_factor == 0.0:
                return -np.inf
            gain += math.log(prefix.end_factor)
            if rules.kind == WORD_LM:
                state = prefix.end_lm
            if rules.hotwords == 1:
                hot, bonus = _hot_step(scorer, hot, np.int32(1))
                gain += bonus
        if rules.hotwords == 1:
            gain -= scorer.hot_states[hot].owed
    return gain + end_gain(scorer, state)
