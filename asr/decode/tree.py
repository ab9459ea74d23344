"""How the tree of prefixes is kept small, and what is read from it (numba kernels).

Settled labels, removal of prefixes that no entry needs, paths and final scores.
"""

import math

import numpy as np

from asr.decode.confidence import needed, next_turn, trace_of, weigh_best, weigh_words
from asr.decode.homophones import read_again
from asr.decode.jit import inlined, inner, kernel
from asr.decode.layout import (
    BEST,
    CAPACITY,
    ENTRIES,
    EXPONENT,
    FRAME,
    LENGTH,
    NOWHERE,
    PREFIXES,
    ROOT_PREFIX,
    SETTLED,
    SIDE,
    TRACES,
    WEIGHED,
)
from asr.decode.scoring import ROOT, final_gain

_SETTLE_AT_ONCE = 16  # labels; settling fewer is not worth the collection after it
_OLDEST = 1024  # frames
_DELAY = 32  # frames from the end of a word until its confidence is taken


@inner
def finish(scorer, beam, tree, counters, gains, at_end, scale):  # type: ignore[no-untyped-def]
    """Score the entries and take out the path of the best one; BEST is -1 if no entry may end here.

    `results` gets the natural-log score of each entry, the part of it that comes with the end, and its share in the
    beam; entries that may not end score -inf.

    Args:
        gains: of the labels that a hypothesis must begin with, as `search` takes them.
        at_end: false leaves out what only the end of the utterance decides (for a partial result).
        scale: exponent of the masses.
    """
    now, facts, results = beam.sums[counters[SIDE]], beam.facts, beam.results
    shift = counters[EXPONENT] * math.log(2.0)
    heaviest, best = np.int64(-1), -np.inf
    for j in range(counters[ENTRIES]):
        prefix = tree.prefixes[facts[j].prefix]
        mass = now[j].blank + now[j].in_label
        results[j].score, results[j].lm_score = -np.inf, 0.0
        if mass == 0.0 or (at_end and prefix.depth < len(gains) - 1):
            continue
        gain = gains[min(prefix.depth, len(gains) - 1)]
        if at_end:
            gain += final_gain(scorer, prefix)
        if scorer.rules[0].homophones == 1 and gain > -np.inf:
            _write_path(np.int64(facts[j].prefix), trace_of(now[j]), tree, np.int64(0), np.nan)
            count = prefix.depth - tree.prefixes[ROOT_PREFIX].depth
            gain += read_again(scorer, tree, np.int64(0), count, np.int64(0), at_end)
        score = math.log(mass) + shift + gain
        results[j].score, results[j].lm_score = score, gain
        if score > best:
            heaviest, best = j, score
    counters[BEST] = heaviest
    if heaviest < 0:
        return
    total = 0.0
    for j in range(counters[ENTRIES]):
        results[j].share = math.exp((results[j].score - best) * scale)
        total += results[j].share
    for j in range(counters[ENTRIES]):
        results[j].share /= total
    if at_end:
        weigh_best(heaviest, now, scorer, beam, tree, counters)
    path_of(heaviest, at_end, scorer, beam, tree, counters)


@inner
def tidy(scorer, now, beam, tree, counters, scale):  # type: ignore[no-untyped-def]
    """Take word confidences; if the tree is half full, drop what no entry needs and settle what all share.

    Entries that differ from the best one in labels older than `_OLDEST` frames are dropped too: no future frame can
    tell such prefixes apart, and they would fill the beam of a long recording.
    """
    facts, results = beam.facts, beam.results
    best, largest = np.int64(0), 0.0
    for j in range(counters[ENTRIES]):
        mass = now[j].blank + now[j].in_label
        results[j].share = mass
        if mass > largest:
            best, largest = j, mass
    if scale != 1.0:
        for j in range(counters[ENTRIES]):
            results[j].share = (results[j].share / largest) ** scale
    count = needed(best, now, facts, tree, counters)
    weigh_words(scorer, facts, results, tree, counters, count, counters[FRAME] - _DELAY)
    best = _decide_the_oldest(best, now, beam, tree, counters)
    if 2 * max(counters[PREFIXES], counters[TRACES] // 2) <= counters[CAPACITY]:
        return
    _collect(now, facts, tree, counters, np.int64(ROOT_PREFIX))
    root = _shared_by_all(scorer, now, facts, tree, counters)
    settled = tree.prefixes[root].depth - tree.prefixes[ROOT_PREFIX].depth
    if settled >= _SETTLE_AT_ONCE:
        trace = trace_of(now[best])
        for _ in range(tree.prefixes[facts[best].prefix].depth - tree.prefixes[root].depth):
            trace = tree.traces[trace].before
        first = counters[SETTLED]
        tree.prefixes[NOWHERE].factor += _write_path(root, trace, tree, first, np.nan)
        if scorer.rules[0].homophones == 1:
            place = np.int64(facts[best].prefix)
            _write_path(place, trace_of(now[best]), tree, first, np.nan)
            last = first + tree.prefixes[place].depth - tree.prefixes[ROOT_PREFIX].depth
            read_again(scorer, tree, first, last, settled, False)
        counters[SETTLED] = first + settled
        _collect(now, facts, tree, counters, root)


@kernel
def path_of(entry, at_end, scorer, beam, tree, counters):  # type: ignore[no-untyped-def]
    """Take out the path of an entry that `finish` has scored, set LENGTH, and complete its `lm_score`.

    A word that has no confidence yet, as in a partial result, gets that of the entry.
    """
    result, place = beam.results[entry], beam.facts[entry].prefix
    trace = trace_of(beam.sums[counters[SIDE]][entry])
    gain = _write_path(np.int64(place), trace, tree, np.int64(0), result.share)
    result.lm_score += tree.prefixes[NOWHERE].factor + gain
    counters[LENGTH] = tree.prefixes[place].depth - tree.prefixes[ROOT_PREFIX].depth
    if scorer.rules[0].homophones == 1:
        read_again(scorer, tree, np.int64(0), counters[LENGTH], np.int64(0), at_end)


@inner
def _write_path(place, trace, tree, first, unknown):  # type: ignore[no-untyped-def]
    """Write the labels below the root to `path` from `first` on; returns the natural log of what they brought."""
    gain = 0.0
    for k in range(first + tree.prefixes[place].depth - tree.prefixes[ROOT_PREFIX].depth - 1, first - 1, -1):
        prefix, step = tree.prefixes[place], tree.path[k]
        step.label, step.frame, step.word = prefix.label, tree.traces[trace].frame, prefix.end_word
        step.confidence = unknown if math.isnan(prefix.confidence) else prefix.confidence
        if prefix.factor != 1.0:
            gain += math.log(prefix.factor)
        trace, place = tree.traces[trace].before, prefix.parent
    return gain


@inlined
def move(now, facts, j, to):  # type: ignore[no-untyped-def]
    """Move entry `j` to the place `to`."""
    now[to] = now[j]
    facts[to] = facts[j]


@inner
def _decide_the_oldest(best, now, beam, tree, counters):  # type: ignore[no-untyped-def]
    """Drop entries that differ from the best one in old labels; returns the new place of the best one."""
    if counters[FRAME] <= _OLDEST:
        return best
    prefixes, facts = tree.prefixes, beam.facts
    decided = facts[best].prefix
    while decided > ROOT_PREFIX and prefixes[decided].born > counters[FRAME] - _OLDEST:
        decided = prefixes[decided].parent
    if decided == ROOT_PREFIX:
        return best
    notes, verdicts, nowhere = tree.notes, beam.before, len(facts) - 1
    turn = next_turn(notes)
    kept = np.int64(0)
    for j in range(counters[ENTRIES]):
        place = facts[j].prefix
        above = place
        while above > decided and notes[np.uint32(above)].seen != turn:  # parents stand before their children
            notes[np.uint32(above)].seen, notes[np.uint32(above)].only = turn, j
            above = prefixes[np.uint32(above)].parent
        verdicts[j, 0] = verdicts[notes[np.uint32(above)].only, 0] if above > decided else above == decided
        if verdicts[j, 0] == 0:
            tree.slots[place] = nowhere
            continue
        if j == best:
            best = kept
        tree.slots[place] = kept
        move(now, facts, j, kept)
        kept += 1
    counters[ENTRIES] = kept
    return best


@inner
def _shared_by_all(scorer, now, facts, tree, counters):  # type: ignore[no-untyped-def]
    """The deepest prefix that all entries begin with, in the same frames, and whose words were weighed.

    Given that no prefix and no trace is unneeded.
    """
    prefixes, notes, labels = tree.prefixes, tree.notes, scorer.labels
    count = counters[PREFIXES]
    for place in range(count):  # `only` is the one child, -1 if there are several or an entry ends here
        notes[place].only = 0
    for j in range(counters[ENTRIES]):
        notes[facts[j].prefix].only = -1
    for place in range(count - 1, ROOT_PREFIX, -1):
        parent = notes[prefixes[place].parent]
        parent.only = place if parent.only == 0 else -1
    root = np.int64(ROOT_PREFIX)
    while notes[root].only > 0 and prefixes[notes[root].only].born <= counters[WEIGHED] - _DELAY:
        child = np.int64(notes[root].only)
        ends_word = labels[prefixes[child].label].boundary == 1 and labels[prefixes[root].label].has_text == 1
        if ends_word and prefixes[root].depth > 0 and math.isnan(prefixes[root].confidence):
            break
        root = child
    aligned = prefixes[ROOT_PREFIX].depth + _aligned_by_all(now, tree, counters)
    while prefixes[root].depth > aligned:
        root = np.int64(prefixes[root].parent)
    if scorer.rules[0].homophones == 1 and root != ROOT_PREFIX:  # not where a word ends that is still to be chosen
        below, root = root, np.int64(prefixes[root].parent)
        while labels[prefixes[below].label].boundary == 1 and prefixes[root].trie != ROOT:
            below, root = root, np.int64(prefixes[root].parent)
    return root


@inner
def _aligned_by_all(now, tree, counters):  # type: ignore[no-untyped-def]
    """How many labels below the root begin in the same frame in the best alignments of all entries.

    Were others settled, later labels of the entry that wins in the end could begin before them.
    """
    traces, moved = tree.traces, tree.moved
    count = counters[TRACES]
    for trace in range(count):  # `moved` holds the one trace that goes on from each, -1 if there are several or none
        moved[trace] = 0
    for j in range(counters[ENTRIES]):
        if now[j].best_blank > 0.0 and now[j].trace_blank >= 0:
            moved[now[j].trace_blank] = -1
        if now[j].best_label > 0.0 and now[j].trace_label >= 0:
            moved[now[j].trace_label] = -1
    first = np.int64(-1)
    for trace in range(count - 1, -1, -1):
        before = traces[trace].before
        if before < 0:
            first = np.int64(trace) if first == -1 else np.int64(-2)
        else:
            moved[before] = trace if moved[before] == 0 else -1
    labels, trace, before = 0, first, np.int64(-1)
    while trace > before:  # later labels have later traces
        labels += 1
        before, trace = trace, np.int64(moved[trace])
    return labels


@inner
def _collect(now, facts, tree, counters, root):  # type: ignore[no-untyped-def]
    """Keep only prefixes and traces that entries need; `root`, with which all begin, moves to the root's row."""
    prefixes, notes, traces, moved = tree.prefixes, tree.notes, tree.traces, tree.moved
    for place in range(counters[PREFIXES]):
        notes[place].only = 0
    for j in range(counters[ENTRIES]):
        place = facts[j].prefix
        while place > NOWHERE and notes[place].only == 0:
            notes[place].only = 1
            place = prefixes[place].parent
    base = prefixes[root].depth
    for trace in range(counters[TRACES]):
        moved[trace] = -1
    for j in range(counters[ENTRIES]):
        for kind in range(2):
            trace = now[j].trace_blank if kind == 0 else now[j].trace_label
            steps = prefixes[facts[j].prefix].depth - base
            while trace >= 0 and steps > 0 and moved[trace] < 0:
                moved[trace] = 0
                trace = traces[trace].before
                steps -= 1
    kept = 0
    for trace in range(counters[TRACES]):
        if moved[trace] == 0:
            before = traces[trace].before
            traces[kept].before = moved[before] if before >= 0 else -1
            traces[kept].frame = traces[trace].frame
            moved[trace] = kept
            kept += 1
    counters[TRACES] = kept
    kept = ROOT_PREFIX
    prefixes[NOWHERE].child = -1
    for place in range(root, counters[PREFIXES]):
        if notes[place].only == 0:
            continue
        parent = NOWHERE if place == root else notes[prefixes[place].parent].only
        notes[place].only = kept  # from here on its new row
        prefixes[kept] = prefixes[place]
        tree.slots[kept] = tree.slots[place]
        row = prefixes[kept]
        row.parent, row.child, row.sibling = parent, -1, prefixes[parent].child
        prefixes[parent].child = kept
        kept += 1
    counters[PREFIXES] = kept
    for j in range(counters[ENTRIES]):
        place = notes[facts[j].prefix].only
        facts[j].prefix, facts[j].above = place, prefixes[place].parent
        if now[j].trace_blank >= 0:
            now[j].trace_blank = moved[now[j].trace_blank]
        if now[j].trace_label >= 0:
            now[j].trace_label = moved[now[j].trace_label]
