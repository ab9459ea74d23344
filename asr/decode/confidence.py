"""Word confidences (numba kernels).

The confidence of a word is its posterior within the beam, given its history: among all prefixes with that history, the
share of those that end in the word or go on after it.
"""

import math

import numpy as np

from asr.decode.jit import inlined, inner, kernel
from asr.decode.layout import BEST, ENTRIES, FRAME, NOWHERE, ROOT_PREFIX, SIDE, WEIGHED


@kernel
def weigh_all(scorer, beam, tree, counters):  # type: ignore[no-untyped-def]
    """Set the confidences of the words of all entries, once `finish` has set those of the best one."""
    count = needed(counters[BEST], beam.sums[counters[SIDE]], beam.facts, tree, counters)
    weigh_words(scorer, beam.facts, beam.results, tree, counters, count, counters[FRAME])


@inner
def weigh_words(scorer, facts, results, tree, counters, count, latest):  # type: ignore[no-untyped-def]
    """Set the confidence of words that ended in frame `latest` or before and have none yet.

    Args:
        results: of the entries; `share` holds the weight of each.
        count: number of prefixes that `needed` listed.
    """
    prefixes, notes, live, labels = tree.prefixes, tree.notes, tree.live, scorer.labels
    for j in range(counters[ENTRIES]):
        note = notes[np.uint32(facts[j].prefix)]
        note.share += results[j].share
        note.complete += results[j].share
    waiting = 0  # words to weigh, kept in the part of `live` already gone through
    for k in range(count - 1, -1, -1):
        place = np.uint32(live[k])
        prefix, note = prefixes[place], notes[place]
        above, label = notes[np.uint32(prefix.parent)], labels[np.uint32(prefix.label)]
        above.share += note.share
        above.complete += note.share if label.boundary == 1 else 0.0
        ends_word = label.has_text == 1 and prefix.depth > 0 and note.complete > 0.0
        if ends_word and prefix.born <= latest and math.isnan(prefix.confidence):
            waiting += 1
            live[count - waiting] = place
    for k in range(count - waiting, count):
        first = np.uint32(live[k])
        history = _history_of(prefixes, labels, first)
        prefixes[first].confidence = notes[first].complete / notes[history].share
    counters[WEIGHED] = counters[FRAME]


@inner
def weigh_best(best, now, scorer, beam, tree, counters):  # type: ignore[no-untyped-def]
    """As `weigh_words`, for the words of the best entry alone, with far fewer look-ups.

    Every entry leaves the best path at some prefix and adds its share there. `before` holds that prefix for each entry,
    and whether it ends a word for this entry; where another entry has gone before, both leave at the same one.
    """
    prefixes, notes, labels, facts, results = tree.prefixes, tree.notes, scorer.labels, beam.facts, beam.results
    leaves = beam.before
    turn = next_turn(notes)
    leaf, trace = facts[best].prefix, trace_of(now[best])
    place = leaf
    while place > NOWHERE:
        note = notes[np.uint32(place)]
        note.seen, note.only, note.share, note.complete = turn, -1, 0.0, 0.0
        trace = _date(prefixes, tree.traces, place, trace)
        place = prefixes[np.uint32(place)].parent
    for j in range(counters[ENTRIES]):
        place, below = facts[j].prefix, np.int32(-1)
        while notes[np.uint32(place)].seen != turn:
            note = notes[np.uint32(place)]
            note.seen, note.only = turn, j
            below, place = place, prefixes[np.uint32(place)].parent
        through = notes[np.uint32(place)].only
        if through < 0:
            leaves[j, 0] = place
            leaves[j, 1] = below < 0 or labels[np.uint32(prefixes[np.uint32(below)].label)].boundary == 1
        else:
            leaves[j, 0], leaves[j, 1] = leaves[through, 0], leaves[through, 1]
        note = notes[np.uint32(leaves[j, 0])]
        note.share += results[j].share
        note.complete += results[j].share if leaves[j, 1] == 1 else 0.0
    place = leaf
    while place > ROOT_PREFIX:
        prefix, note = prefixes[np.uint32(place)], notes[np.uint32(place)]
        above = notes[np.uint32(prefix.parent)]
        above.share += note.share
        above.complete += note.share if labels[np.uint32(prefix.label)].boundary == 1 else 0.0
        place = prefix.parent
    place = leaf
    while place > ROOT_PREFIX:
        prefix, note = prefixes[np.uint32(place)], notes[np.uint32(place)]
        if labels[np.uint32(prefix.label)].has_text == 1 and note.complete > 0.0 and math.isnan(prefix.confidence):
            prefix.confidence = note.complete / notes[_history_of(prefixes, labels, np.uint32(place))].share
        place = prefix.parent


@inner
def needed(best, now, facts, tree, counters):  # type: ignore[no-untyped-def]
    """List the prefixes that entries begin with, parents before children; returns their number.

    On the way the birth of each prefix is set to when its best alignment emits it, if later: an unlikely one may enter
    the beam long before its label is heard. A later birth makes the confidence unknown again. The best entry goes
    first, and dates what it shares with others.
    """
    prefixes, traces, notes, live = tree.prefixes, tree.traces, tree.notes, tree.live
    count = 0
    turn = next_turn(notes)
    for number in range(-1, counters[ENTRIES]):
        j = best if number < 0 else number
        place, trace = facts[j].prefix, trace_of(now[j])
        first = count
        while place > NOWHERE and notes[np.uint32(place)].seen != turn:
            note = notes[np.uint32(place)]
            note.seen, note.share, note.complete = turn, 0.0, 0.0
            live[count] = place
            count += 1
            trace = _date(prefixes, traces, place, trace)
            place = prefixes[np.uint32(place)].parent
        last = count - 1
        while first < last:
            live[first], live[last] = live[last], live[first]
            first += 1
            last -= 1
    return count


@inlined
def _date(prefixes, traces, place, trace):  # type: ignore[no-untyped-def]
    """Set the birth of a prefix to when `trace` emits it, if later; returns the trace of the label before it."""
    if trace < 0 or place == ROOT_PREFIX:
        return trace
    step, prefix = traces[np.uint32(trace)], prefixes[np.uint32(place)]
    if step.frame > prefix.born:
        prefix.born = step.frame
        prefix.confidence = np.nan
    return step.before


@inlined
def _history_of(prefixes, labels, place):  # type: ignore[no-untyped-def]
    """The prefix that the word which ends with `place` goes on from."""
    while place > ROOT_PREFIX:
        starts = labels[np.uint32(prefixes[place].label)].boundary == 1
        place = np.uint32(prefixes[place].parent)
        if starts or labels[np.uint32(prefixes[place].label)].has_text == 0:
            break
    return place


@inlined
def trace_of(sums):  # type: ignore[no-untyped-def]
    """The trace of the best alignment of an entry."""
    return sums.trace_label if sums.best_label > sums.best_blank else sums.trace_blank


@inlined
def next_turn(notes):  # type: ignore[no-untyped-def]
    """A mark that no prefix has been `seen` with; the note of NOWHERE keeps the last one."""
    notes[NOWHERE].seen += 1
    return notes[NOWHERE].seen
