"""Which of the words that are spelled alike a path holds (numba kernel).

The search takes at the end of each word the one that is likeliest after the words before it. What follows may speak for
another, so a finished path is read once more: the likeliest sequence of words that its labels spell (Viterbi 1967).
"""

import numpy as np

from asr.decode.jit import inner
from asr.decode.layout import NOWHERE, READINGS, ROOT_PREFIX
from asr.decode.scoring import LEAST_GAIN, ROOT, child_of, end_gain, likeliest_word, word_gain


@inner
def read_again(scorer, tree, first, last, settled, at_end):  # type: ignore[no-untyped-def]
    """Write the likeliest words to the labels path[first:last], which lie below the root of the tree.

    Args:
        settled: how many of them are about to be settled, with the words that are chosen now.
        at_end: whether the last word and the sentence end here.

    Returns:
        By how much, in natural log, all words score better than those that the search took, earlier ones included.
    """
    path, readings = tree.path, tree.readings
    root, origin = tree.prefixes[ROOT_PREFIX], tree.prefixes[NOWHERE]
    trie, state, gain = root.trie, root.lm, 0.0  # as the search took them
    empty = readings[0, 0]
    empty.state, empty.word, empty.before, empty.gain = origin.lm, -1, -1, 0.0
    words, alive = np.int64(0), np.int64(1)
    for k in range(first, last + 1):
        ends = at_end if k == last else scorer.labels[path[k].label].boundary == 1
        if ends and trie != ROOT:
            tree.moved[words] = k - 1
            alive = _add_word(scorer, np.uint32(trie), readings[words], readings[words + 1], alive)
            more, _, state = likeliest_word(scorer, np.uint32(trie), state)
            words, gain, trie = words + 1, gain + more, np.int32(ROOT)
            readings[words, 0].plain = gain
        if k < last:
            for place in range(scorer.labels[path[k].label].spell, scorer.labels[path[k].label + 1].spell):
                trie = child_of(scorer.nodes, trie, scorer.spell[place])
    if at_end:
        gain += end_gain(scorer, state)
        for c in range(alive):
            reading = readings[words, c]
            reading.gain += max(end_gain(scorer, reading.state), LEAST_GAIN)
    chosen = np.int64(0)
    for c in range(1, alive):
        if readings[words, c].gain > readings[words, chosen].gain:
            chosen = c
    better = readings[words, chosen].gain - gain + origin.end_factor
    for word in range(words - 1, -1, -1):
        reading, place = readings[word + 1, chosen], tree.moved[word]
        if place < first + settled:  # the last word among them: from here on it is the history
            origin.lm = reading.state
            origin.end_factor += reading.gain - readings[word + 1, 0].plain
            settled = 0
        path[place].word = reading.word
        chosen = reading.before
    return better


@inner
def _add_word(scorer, node, before, after, alive):  # type: ignore[no-untyped-def]
    """Go on from each reading with each word of a trie node; returns how many, the best for each state of the model."""
    count = np.int64(0)
    for c in range(alive):
        for place in range(scorer.ends[node].word, scorer.ends[node + np.uint32(1)].word):
            word = scorer.words[place]
            more, state = word_gain(scorer, before[c].state, word)
            more = max(more, LEAST_GAIN)  # a grammar may allow none of the readings that are left
            to = np.int64(0)
            while to < count and after[to].state != state:
                to += 1
            if to == count and count < READINGS:
                after[to].gain = -np.inf
                count += 1
            elif to == count:
                to = np.int64(0)
                for other in range(1, count):
                    to = other if after[other].gain < after[to].gain else to
            if before[c].gain + more > after[to].gain:
                reading = after[to]
                reading.state, reading.word, reading.before, reading.gain = state, word, c, before[c].gain + more
    return count
