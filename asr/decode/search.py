"""The prefix beam search (Graves 2012, section 7.5; Hannun et al. 2014) as numba kernels.

Each beam entry is one prefix, with the summed probability of all its alignments that end in a blank (`blank`) and of
those that end in its last label (`in_label`), the scores of language model and hotwords multiplied in. The sums are
kept in the linear domain and scaled by powers of two, which is exact: no logarithm is taken in the loop. Alongside the
sums, the best alignment (`best_blank`, `best_label`) is kept with a trace of the frames in which its labels begin.

Prefixes are rows of a tree (`layout` names the fields). `slots` holds the place of a prefix in the beam, so that an
extension that is already in the beam is found through its parent and merged, without a look-up. An entry keeps its
place, and new ones take the places of those that left, so that only sums are written in every frame. Loops over entries
avoid branches that a processor cannot predict: they would take most of the time. A prefix that is not in the beam has
the slot N, an entry of zeros that is read like the others.

Indices that are never negative are made unsigned, which saves numba's check of the sign.
"""

import math

import numpy as np

from asr.decode.entries import LARGE, SMALL, blank_frame, find_candidates, scaled, stay
from asr.decode.inputs import LARGEST_SUM, LEAST_SUM
from asr.decode.jit import inlined, inner, kernel
from asr.decode.layout import (
    BEST,
    BUCKETS,
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
)
from asr.decode.scoring import NO_LM, ROOT, TOKEN_LM, extend
from asr.decode.selection import drop_ties, nth_mass, shrink
from asr.decode.tree import finish, move, tidy

_SCALE_EVERY = 8  # frames between checks of the scale: of best alignments, and of sums in blanks
_TIDY_EVERY = 256  # frames

# What `search` does once all frames are taken.
GOING_ON, PARTIAL, AT_END = range(3)


@inner
def _begin(blank, scorer, beam, tree, counters, beam_size):  # type: ignore[no-untyped-def]
    """Make the empty prefix the only entry, whatever an earlier search left behind."""
    rules = scorer.rules[0]
    for place in range(2):
        row = tree.prefixes[place]
        row.parent, row.label, row.child, row.sibling, row.depth, row.born = 0, blank, -1, -1, 0, 0
        row.trie, row.lm, row.hot, row.end_lm, row.end_word = ROOT, rules.first_lm, rules.first_hot, 0, -1
        row.factor, row.end_factor, row.confidence = 1.0, np.nan, np.nan
    # Of all settled labels: their factor in natural log; and the language model's state after them and by how much they
    # score better than in the search, once words that are spelled alike are chosen (`homophones`).
    origin = tree.prefixes[NOWHERE]
    origin.factor, origin.lm, origin.end_factor = 0.0, rules.first_lm, 0.0
    tree.slots[NOWHERE], tree.slots[ROOT_PREFIX] = beam_size, 0
    sums, fact = beam.sums[0][0], beam.facts[0]
    sums.blank, sums.in_label, sums.best_blank, sums.best_label = 1.0, 0.0, 1.0, 0.0
    sums.trace_blank, sums.trace_label = -1, -1
    fact.prefix, fact.last, fact.above = ROOT_PREFIX, blank, NOWHERE
    fact.factor, fact.most = 1.0, rules.most_first
    fact.leave, fact.follow = scorer.nodes[ROOT].leave, scorer.nodes[ROOT].follow
    counters[ENTRIES], counters[PREFIXES] = 1, 2


@inlined
def _extend_plain(beam, now, tried, entries, row, cut, beam_size, heaviest, largest):  # type: ignore[no-untyped-def]
    """Gather new prefixes heavier than `cut` where only acoustics count; returns their number and the largest mass."""
    facts, merged, mass, found, candidates = beam.facts, beam.merged, beam.mass, beam.found, beam.candidates
    width = np.uint32(entries) + np.uint32(1)
    count = np.uint32(0)
    for k in range(tried):
        label = candidates[k]
        prob = np.float64(row[np.uint32(label)])
        if heaviest * prob <= cut:
            continue
        if count + entries >= len(found):
            kept, bound = shrink(beam, entries, np.int64(count), beam_size, largest)
            count = np.uint32(kept)
            cut = max(cut, bound)
        for i in range(entries):
            in_blank = now[i].blank
            heavy = (in_blank if label == facts[i].last else in_blank + now[i].in_label) * prob
            heavy = 0.0 if merged[(np.uint32(k) + np.uint32(1)) * width + np.uint32(i)] else heavy
            mass[np.uint32(entries) + count] = heavy
            new = found[count]
            new.entry, new.label = i, label
            largest = heavy if heavy > largest else largest
            count += np.uint32(heavy > cut)
    return np.int64(count), largest


@inlined
def _extend_scored(beam, tree, scorer, now, tried, entries, row, cut, beam_size, largest, forced, gains):  # type: ignore[no-untyped-def]
    """As `_extend_plain`, with language model, lexicon, hotwords and a forced beginning.

    What the scores say of forced labels is alike in all hypotheses: it goes into `gains`, not into the sums, where a
    beginning that they find unlikely would be lost beside the empty one.
    """
    facts, merged, mass, found, candidates = beam.facts, beam.merged, beam.mass, beam.found, beam.candidates
    prefixes, counts, new_mass = tree.prefixes, beam.counts, beam.undecided
    rules = scorer.rules[0]
    bounded = rules.kind != TOKEN_LM and rules.hotwords == 0
    width = np.uint32(entries) + np.uint32(1)
    count = np.int64(0)
    for k in range(tried):
        label = np.uint32(candidates[k])
        prob = np.float64(row[label])
        first = scorer.labels[label].spell
        inside = bounded and scorer.labels[label].boundary == 0 and first < scorer.labels[label + np.uint32(1)].spell
        unbounded = not inside or len(forced) > 0
        follows = np.int64(1) << np.int64(scorer.spell[first] & 63) if inside else np.int64(0)
        if count + entries >= len(found):
            count, bound = shrink(beam, entries, count, beam_size, largest)
            cut = max(cut, bound)
        promising = np.uint32(BUCKETS)  # end of the list of entries that can exceed `cut` with the largest factor
        for i in range(entries):
            fact = facts[i]
            in_blank = now[i].blank
            heavy = (in_blank if candidates[k] == fact.last else in_blank + now[i].in_label) * prob
            new_mass[i] = heavy
            limit = heavy * (fact.most if fact.follow & follows else fact.leave)
            is_new = merged[(np.uint32(k) + np.uint32(1)) * width + np.uint32(i)] == 0
            counts[promising] = i
            promising += np.uint32(is_new & (unbounded | (limit > cut)))
        for p in range(BUCKETS, promising):
            i = np.uint32(counts[p])
            prefix, heavy = prefixes[np.uint32(facts[i].prefix)], new_mass[i]
            is_forced = False
            if len(forced) > 0 and prefix.depth < len(forced):
                is_forced = True
                if candidates[k] != forced[prefix.depth]:
                    continue
            factor, trie, state, hot = extend(scorer, prefix, label)
            if is_forced and factor > 0.0:
                gains[prefix.depth + 1] = gains[prefix.depth] + math.log(factor)
                factor = 1.0
            heavy *= factor
            if heavy > cut or (is_forced and heavy > 0.0):
                mass[entries + count] = heavy
                new = found[count]
                new.entry, new.label, new.factor = i, candidates[k], factor
                new.trie, new.lm, new.hot = trie, state, hot
                largest = heavy if heavy > largest else largest
                count += 1
    return count, largest


@inlined
def _prefix_of(prefixes, above, new, plain, counters):  # type: ignore[no-untyped-def]
    """The row of a prefix that enters the beam: its old one if it was there before, or a new one."""
    parent = prefixes[np.uint32(above)]
    first, label = parent.child, new.label
    place = first
    while place >= 0 and prefixes[np.uint32(place)].label != label:
        place = prefixes[np.uint32(place)].sibling
    if place < 0:
        place = np.int32(counters[PREFIXES])
        counters[PREFIXES] += 1
        parent.child = place
        row = prefixes[np.uint32(place)]
        row.parent, row.label, row.child, row.sibling, row.depth = above, label, -1, first, parent.depth + 1
        row.factor, row.end_word = new.factor, -1
        if not plain:
            row.trie, row.lm, row.hot, row.end_factor = new.trie, new.lm, new.hot, np.nan
    return place


@inlined
def _select(  # type: ignore[no-untyped-def]
    beam, tree, scorer, plain, now, after, entries, count, row, bound, beam_size, largest, counters
):
    """Make the best of entries and new prefixes the beam of the next frame; returns their number."""
    facts, before, mass, found, counts = beam.facts, beam.before, beam.mass, beam.found, beam.counts
    slots, prefixes, traces = tree.slots, tree.prefixes, tree.traces
    nodes, most_first = scorer.nodes, scorer.rules[0].most_first
    nowhere = len(facts) - 1
    if entries + count > beam_size:
        nth, ties = nth_mass(mass, beam.bits, counts, beam.undecided, entries + count, beam_size, largest, bound)
        if nth >= bound:
            bound = nth
            if ties > 0:  # as rows of equal probabilities make them
                drop_ties(mass, entries + count, bound, ties)
    if bound > 0.0:  # so that masses equal to it stay
        mass[entries + count] = bound
        beam.bits[entries + count] -= 1
        bound = mass[entries + count]
    free = np.uint32(BUCKETS)
    for j in range(entries):
        before[j, 0], before[j, 1] = facts[j].prefix, facts[j].last
        counts[free] = j
        free += np.uint32(mass[j] <= bound)
    frees = np.int64(free) - BUCKETS
    for k in range(frees):
        slots[np.uint32(facts[np.uint32(counts[BUCKETS + k])].prefix)] = nowhere
    chosen = np.uint32(free)
    for k in range(count):
        counts[chosen] = k
        chosen += np.uint32(mass[entries + k] > bound)
    comers = min(np.int64(chosen - free), beam_size - entries + frees)  # a safeguard: other memory lies beyond
    frame, used = np.int32(counters[FRAME]), np.uint32(counters[TRACES])
    for c in range(comers):
        k = np.uint32(counts[free + np.uint32(c)])
        to = np.uint32(counts[BUCKETS + c] if c < frees else entries + c - frees)
        heavy = mass[np.uint32(entries) + k]
        new = found[k]
        i = np.uint32(new.entry)
        above = before[i, 0]
        place = _prefix_of(prefixes, above, new, plain, counters)
        prefix = prefixes[np.uint32(place)]
        slots[np.uint32(place)] = to
        prefix.born = frame
        prefix.confidence = np.nan
        parent = now[i]
        label_is_better = before[i, 1] != new.label and parent.best_label > parent.best_blank
        trace = traces[used]
        trace.before = parent.trace_label if label_is_better else parent.trace_blank
        trace.frame = frame
        best = parent.best_label if label_is_better else parent.best_blank
        fact = facts[to]
        fact.prefix, fact.last, fact.above, fact.factor = place, new.label, above, new.factor
        if not plain:
            node = nodes[np.uint32(new.trie)]
            fact.most = most_first if new.trie == ROOT else max(1.0, node.leave)
            fact.leave, fact.follow = node.leave, node.follow
        sums = after[to]
        sums.blank, sums.in_label, sums.best_blank = 0.0, heavy, 0.0
        sums.best_label = best * np.float64(row[np.uint32(new.label)]) * new.factor
        sums.trace_blank, sums.trace_label = -1, used
        used += np.uint32(1)
    counters[TRACES] = np.int64(used)
    kept = entries + max(comers - frees, 0)
    for k in range(frees - 1, comers - 1, -1):  # more left than came: the last entries fill the holes
        hole = np.int64(counts[BUCKETS + k])
        kept -= 1
        if hole < kept:
            move(after, facts, kept, hole)
            slots[facts[hole].prefix] = hole
    return kept


@inlined
def _take_out(steps, first, path, count):  # type: ignore[no-untyped-def]
    """Copy labels of a path to their place in a batch; returns the place after them."""
    for k in range(count):
        steps[first + k] = path[k]
    return first + count


@kernel
def search(  # type: ignore[no-untyped-def]
    batch,
    first,
    ending,
    blank,
    beam_size,
    token_threshold,
    beam_threshold,
    scale,
    forced,
    gains,
    capacity,
    scorer,
    beam,
    tree,
    counters,
):
    """Search through the utterances of a batch from `first` on, each from its beginning to its end.

    If `results` is empty, the search continues with the next frames of one utterance instead, or begins if the counters
    are zero.

    Args:
        batch: layout.Batch.
        ending: GOING_ON, or what `finish` is to do once all frames are taken and no settled labels are left in `path`.
        token_threshold, beam_threshold: linear; the first absolute, the second relative to the best entry.
        scale: exponent of the masses in confidences.
        forced: (P,) int32 labels that every prefix begins with.
        gains: (P + 1,) float64, natural log of what the scores say of so many of them; filled in.
        capacity: rows of the tree that each whole utterance may use.

    Returns:
        The first utterance that was not finished, or their number if all were; and how many of its frames were taken
        before the room ran out. If the sum of its frame t is wrong, none is taken and this number is -1 - t.
    """
    whole = len(batch.results) > 0
    rules = scorer.rules[0]
    plain = rules.kind == NO_LM and rules.tracks_words == 0 and len(forced) == 0
    for number in range(first, len(batch.starts) - 1):
        start, end = batch.starts[number], batch.starts[number + 1]
        for frame in range(start, min(end, len(batch.totals))):
            if not LEAST_SUM <= batch.totals[frame] <= LARGEST_SUM:
                return number, start - 1 - frame
        if whole:
            for k in range(len(counters)):
                counters[k] = 0
            counters[CAPACITY] = capacity
        if counters[PREFIXES] == 0:
            _begin(blank, scorer, beam, tree, counters, beam_size)
        room = counters[CAPACITY]
        now, after = beam.sums[counters[SIDE]], beam.sums[1 - counters[SIDE]]
        frame, length = start, np.int64(0)
        while frame < end:
            entries = counters[ENTRIES]
            # One frame makes at most N prefixes and 2 N traces.
            if counters[PREFIXES] + beam_size > room or counters[TRACES] + 2 * beam_size >= 2 * room:
                break
            if counters[SETTLED] > room:
                if not whole:
                    break
                length = _take_out(batch.steps, start + length, tree.path, counters[SETTLED]) - start
                counters[SETTLED] = 0
            row = batch.probs[frame]
            frame += 1
            tried = find_candidates(row, blank, token_threshold, forced, beam.candidates, beam.order)
            largest = 1.0
            if tried == 0:
                blank_frame(now, beam.facts, entries, row, blank)
            else:
                heaviest, largest, smallest = stay(beam, now, after, tree, tried, entries, row, blank, counters)
                cut = largest * beam_threshold
                if entries == beam_size:
                    cut = max(cut, smallest)
                if plain:
                    count, largest = _extend_plain(beam, now, tried, entries, row, cut, beam_size, heaviest, largest)
                else:
                    count, largest = _extend_scored(
                        beam, tree, scorer, now, tried, entries, row, cut, beam_size, largest, forced, gains
                    )
                for k in range(tried):
                    beam.order[np.uint32(beam.candidates[k])] = -1
                bound = largest * beam_threshold
                counters[ENTRIES] = _select(
                    beam, tree, scorer, plain, now, after, entries, count, row, bound, beam_size, largest, counters
                )
                now, after = after, now
                counters[SIDE] = 1 - counters[SIDE]
            counters[FRAME] += 1
            if counters[FRAME] % _SCALE_EVERY == 0 or not SMALL < largest < LARGE:
                for best in range(2):
                    # The best alignment's share of all alignments falls with the length: it has a scale of its own,
                    # which need not be remembered.
                    bits = scaled(now, counters[ENTRIES], best == 1)
                    counters[EXPONENT] += bits if best == 0 else 0
            if counters[FRAME] % _TIDY_EVERY == 0:
                tidy(scorer, now, beam, tree, counters, scale)
        if whole:
            length = _take_out(batch.steps, start + length, tree.path, counters[SETTLED]) - start
            counters[SETTLED] = 0
        if frame < end or counters[SETTLED] > 0:
            return number, frame - start
        if ending != GOING_ON:
            finish(scorer, beam, tree, counters, gains, ending == AT_END, scale)
        if not whole or counters[BEST] < 0:
            return number, frame - start
        batch.results[number] = beam.results[counters[BEST]]
        batch.lengths[number] = _take_out(batch.steps, start + length, tree.path, counters[LENGTH]) - start
    return len(batch.starts) - 1, 0
