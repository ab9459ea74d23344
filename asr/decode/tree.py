"""How the tree of prefixes stays small and what is read from it (numba kernels): word confidence, what is settled,
collection of prefixes that no entry needs, paths and final scores."""

import math

import numpy as np

from asr.decode.jit import inner, kernel
from asr.decode.layout import (
    ABOVE,
    BEST_BLANK,
    BEST_LABEL,
    BLANK,
    BORN,
    CAPACITY,
    CHILD,
    CONFIDENCE,
    DEPTH,
    END_WORD,
    ENTRIES,
    EXPONENT,
    FRAME,
    GAIN,
    IN_LABEL,
    LABEL,
    NOWHERE,
    PARENT,
    PREFIX,
    PREFIXES,
    ROOT_PREFIX,
    SETTLED,
    SIBLING,
    TRACE_BLANK,
    TRACE_LABEL,
    TRACES,
    WEIGHED,
)
from asr.decode.scoring import final_gain

_SETTLE_AT_ONCE = 16  # labels; settling fewer is not worth the collection after it
_OLDEST = 1024  # frames
_DELAY = 32  # frames that a word must have ended ago before its confidence is taken


@kernel
def finish(scorer, weights, sums, facts, tree, counters, forced, at_end, scale, scores, gains):  # type: ignore[no-untyped-def]
    """Fill the natural-log score of each entry, the part of it that is not acoustic, and its share in the beam.

    Args:
        weights: (N,) float64, filled with the shares.
        sums, facts: of this frame.
        forced: labels that a hypothesis must begin with; shorter entries score -inf.
        at_end: false leaves out what only the end of the utterance decides (for a partial result).
        scale: exponent of the masses.
    """
    shift = counters[EXPONENT] * math.log(2.0)
    heaviest, best = 0, -np.inf
    for j in range(counters[ENTRIES]):
        prefix = facts[PREFIX, j]
        mass = sums[BLANK, j] + sums[IN_LABEL, j]
        scores[j], gains[j] = -np.inf, tree.floats[prefix, GAIN]
        if mass == 0.0 or (at_end and tree.integers[prefix, DEPTH] < len(forced)):
            continue
        scores[j] = math.log(mass) + shift
        if at_end:
            gain = final_gain(scorer, tree.integers, tree.floats, prefix)
            scores[j] += gain
            gains[j] += gain
        if scores[j] > best:
            heaviest, best = j, scores[j]
    if best > -np.inf:
        total = 0.0
        for j in range(counters[ENTRIES]):
            weights[j] = math.exp((scores[j] - best) * scale)
            total += weights[j]
        for j in range(counters[ENTRIES]):
            weights[j] /= total
        if at_end:
            _date(heaviest, sums, facts, tree, counters)
            weigh_words(scorer, facts, tree, counters, weights, 0)


@inner
def tidy(scorer, weights, sums, facts, tree, counters, scale):  # type: ignore[no-untyped-def]
    """Take word confidences; where the tree is half full, give up what no entry needs, and settle what all share.

    Entries that differ from the best one in what is older than `_OLDEST` frames are given up too: no frame to come
    tells such prefixes apart, and they would fill the beam of a long recording.
    """
    best, largest = 0, 0.0
    for j in range(counters[ENTRIES]):
        mass = sums[BLANK, j] + sums[IN_LABEL, j]
        weights[j] = mass
        if mass > largest:
            best, largest = j, mass
    if scale != 1.0:
        for j in range(counters[ENTRIES]):
            weights[j] = (weights[j] / largest) ** scale
    full = 2 * max(counters[PREFIXES], counters[TRACES] // 2) > counters[CAPACITY]
    if full:
        _collect(facts, tree, counters, ROOT_PREFIX)
    _date(best, sums, facts, tree, counters)
    weigh_words(scorer, facts, tree, counters, weights, _DELAY)
    best = _decide_the_oldest(best, sums, facts, tree, counters)
    if not full:
        return
    root = _shared_by_all(scorer, facts, tree, counters)
    if tree.integers[root, DEPTH] - tree.integers[ROOT_PREFIX, DEPTH] >= _SETTLE_AT_ONCE:
        in_label = sums[BEST_LABEL, best] > sums[BEST_BLANK, best]
        trace = facts[TRACE_LABEL if in_label else TRACE_BLANK, best]
        for _ in range(tree.integers[facts[PREFIX, best], DEPTH] - tree.integers[root, DEPTH]):
            trace = tree.traces[trace, 0]
        first = counters[SETTLED]
        path_of(root, trace, tree, first, tree.settled, tree.settled_confidence)
        counters[SETTLED] = first + tree.integers[root, DEPTH] - tree.integers[ROOT_PREFIX, DEPTH]
        _collect(facts, tree, counters, root)


@inner
def _date(best, sums, facts, tree, counters):  # type: ignore[no-untyped-def]
    """Let prefixes be born when their best alignment emits them; a later birth makes the confidence unknown again.

    A prefix may come into the beam, unlikely, long before its label is heard.
    """
    integers, traces, seen = tree.integers, tree.traces, tree.only
    for prefix in range(counters[PREFIXES]):
        seen[prefix] = 0
    for turn in range(-1, counters[ENTRIES]):
        j = best if turn < 0 else turn  # the best entry dates what it shares with others
        prefix = facts[PREFIX, j]
        trace = facts[TRACE_LABEL if sums[BEST_LABEL, j] > sums[BEST_BLANK, j] else TRACE_BLANK, j]
        while prefix > ROOT_PREFIX and trace >= 0 and seen[prefix] == 0:
            seen[prefix] = 1
            if traces[trace, 1] > integers[prefix, BORN]:
                integers[prefix, BORN] = traces[trace, 1]
                tree.floats[prefix, CONFIDENCE] = np.nan
            prefix = integers[prefix, PARENT]
            trace = traces[trace, 0]


@inner
def weigh_words(scorer, facts, tree, counters, weights, delay):  # type: ignore[no-untyped-def]
    """Set the confidence of words that ended at least `delay` frames ago and have none yet.

    The confidence of a word is the share that the prefixes which end in it or go on after it have in all prefixes that
    share what stands before it: its posterior within the beam, given its history.

    Args:
        weights: (N,) float64 weight of each entry.
    """
    integers, floats, mass, complete = tree.integers, tree.floats, tree.mass, tree.complete
    count = counters[PREFIXES]
    for prefix in range(count):
        mass[prefix] = complete[prefix] = 0.0
    for j in range(counters[ENTRIES]):
        mass[facts[PREFIX, j]] += weights[j]
        complete[facts[PREFIX, j]] += weights[j]
    for prefix in range(count - 1, ROOT_PREFIX, -1):  # children stand behind their parents
        parent = integers[prefix, PARENT]
        mass[parent] += mass[prefix]
        if scorer.boundary[integers[prefix, LABEL]] == 1:
            complete[parent] += mass[prefix]
    latest = counters[FRAME] - delay
    for prefix in range(ROOT_PREFIX, count):
        if complete[prefix] == 0.0 or integers[prefix, BORN] > latest or not math.isnan(floats[prefix, CONFIDENCE]):
            continue
        if scorer.has_text[integers[prefix, LABEL]] == 0 or integers[prefix, DEPTH] == 0:
            continue  # no word ends here
        first = prefix
        while first > ROOT_PREFIX:
            starts = scorer.boundary[integers[first, LABEL]] == 1
            first = integers[first, PARENT]
            if starts or scorer.has_text[integers[first, LABEL]] == 0:
                break
        floats[prefix, CONFIDENCE] = complete[prefix] / mass[first]
    counters[WEIGHED] = counters[FRAME]


@kernel
def path_of(prefix, trace, tree, first, labels, confidences):  # type: ignore[no-untyped-def]
    """Write a prefix below the root: (place, 3) labels, frames and words, and confidences, from place `first` on."""
    place = first + tree.integers[prefix, DEPTH] - tree.integers[ROOT_PREFIX, DEPTH]
    while place > first:
        place -= 1
        labels[place, 0] = tree.integers[prefix, LABEL]
        labels[place, 1] = tree.traces[trace, 1]
        labels[place, 2] = tree.integers[prefix, END_WORD]
        confidences[place] = tree.floats[prefix, CONFIDENCE]
        trace = tree.traces[trace, 0]
        prefix = tree.integers[prefix, PARENT]


@inner
def _decide_the_oldest(best, sums, facts, tree, counters):  # type: ignore[no-untyped-def]
    """Give up entries that differ from the best one in what is old; returns the place of the best one after that."""
    if counters[FRAME] <= _OLDEST:
        return best
    integers = tree.integers
    decided = facts[PREFIX, best]
    while decided > ROOT_PREFIX and integers[decided, BORN] > counters[FRAME] - _OLDEST:
        decided = integers[decided, PARENT]
    if decided == ROOT_PREFIX:
        return best
    nowhere = sums.shape[1] - 1
    kept = 0
    for j in range(counters[ENTRIES]):
        prefix = facts[PREFIX, j]
        above = prefix
        while above > decided:  # parents stand before their children
            above = integers[above, PARENT]
        if above != decided:
            tree.slots[prefix] = nowhere
            continue
        if j == best:
            best = kept
        tree.slots[prefix] = kept
        for row in range(sums.shape[0]):
            sums[row, kept] = sums[row, j]
            facts[row, kept] = facts[row, j]
        kept += 1
    if kept < counters[ENTRIES]:
        counters[ENTRIES] = kept
        _collect(facts, tree, counters, ROOT_PREFIX)
    return best


@inner
def _shared_by_all(scorer, facts, tree, counters):  # type: ignore[no-untyped-def]
    """The deepest prefix that all entries begin with and whose words were weighed; every prefix is needed by one."""
    integers, floats, only = tree.integers, tree.floats, tree.only
    count = counters[PREFIXES]
    for prefix in range(count):  # the one child, -1 where there are several or an entry stands
        only[prefix] = 0
    for j in range(counters[ENTRIES]):
        only[facts[PREFIX, j]] = -1
    for prefix in range(count - 1, ROOT_PREFIX, -1):
        parent = integers[prefix, PARENT]
        only[parent] = prefix if only[parent] == 0 else -1
    root = ROOT_PREFIX
    while only[root] > 0 and integers[only[root], BORN] <= counters[WEIGHED] - _DELAY:
        child = only[root]
        ends_word = scorer.boundary[integers[child, LABEL]] == 1 and scorer.has_text[integers[root, LABEL]] == 1
        if ends_word and integers[root, DEPTH] > 0 and math.isnan(floats[root, CONFIDENCE]):
            break
        root = child
    return root


@inner
def _collect(facts, tree, counters, root):  # type: ignore[no-untyped-def]
    """Keep the prefixes and traces that entries need; `root`, which all of them begin with, comes to the root's row."""
    integers, traces, marks, trace_marks = tree.integers, tree.traces, tree.marks, tree.trace_marks
    for prefix in range(counters[PREFIXES]):
        marks[prefix] = 0
    for j in range(counters[ENTRIES]):
        prefix = facts[PREFIX, j]
        while prefix > NOWHERE and marks[prefix] == 0:
            marks[prefix] = 1
            prefix = integers[prefix, PARENT]
    base = integers[root, DEPTH]
    used = counters[TRACES]
    for trace in range(used):
        trace_marks[trace] = -1
    for j in range(counters[ENTRIES]):
        for kind in (TRACE_BLANK, TRACE_LABEL):
            trace = facts[kind, j]
            steps = integers[facts[PREFIX, j], DEPTH] - base
            while trace >= 0 and steps > 0 and trace_marks[trace] < 0:
                trace_marks[trace] = 0
                trace = traces[trace, 0]
                steps -= 1
    kept = 0
    for trace in range(used):
        if trace_marks[trace] == 0:
            before = traces[trace, 0]
            traces[kept, 0] = trace_marks[before] if before >= 0 else -1
            traces[kept, 1] = traces[trace, 1]
            trace_marks[trace] = kept
            kept += 1
    counters[TRACES] = kept
    kept = ROOT_PREFIX
    integers[NOWHERE, CHILD] = -1
    for prefix in range(root, counters[PREFIXES]):
        if marks[prefix] == 0:
            continue
        parent = NOWHERE if prefix == root else marks[integers[prefix, PARENT]]
        marks[prefix] = kept  # from here on its new row
        for column in range(integers.shape[1]):
            integers[kept, column] = integers[prefix, column]
        for column in range(tree.floats.shape[1]):
            tree.floats[kept, column] = tree.floats[prefix, column]
        tree.slots[kept] = tree.slots[prefix]
        integers[kept, PARENT] = parent
        integers[kept, CHILD] = -1
        integers[kept, SIBLING] = integers[parent, CHILD]
        integers[parent, CHILD] = kept
        kept += 1
    counters[PREFIXES] = kept
    for j in range(counters[ENTRIES]):
        prefix = marks[facts[PREFIX, j]]
        facts[PREFIX, j] = prefix
        facts[ABOVE, j] = integers[prefix, PARENT]
        for kind in (TRACE_BLANK, TRACE_LABEL):
            if facts[kind, j] >= 0:
                facts[kind, j] = trace_marks[facts[kind, j]]
