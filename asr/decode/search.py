"""The prefix beam search (Graves 2012, section 7.5; Hannun et al. 2014) as numba kernels.

Each beam entry is one prefix, with the summed probability of all its alignments that end in a blank (`BLANK`) and in
its last label (`IN_LABEL`), the scores of language model and hotwords multiplied in. They are kept in the linear
domain and scaled by powers of two, which is exact: no logarithm is taken in the loop. Beside the sums runs the best
alignment (`BEST_BLANK`, `BEST_LABEL`) with a trace of the frames in which its labels begin.

Prefixes are rows of a tree (`layout` names the columns). `slots` holds the place of a prefix in the beam, so that an
extension which is in the beam already is found through its parent and merged, without a look-up. Loops over entries
avoid branches that a processor cannot predict: they would take most of the time. A prefix that is not in the beam has
the slot N, an entry of zeros that is read like the others.
"""

import math

import numpy as np

from asr.decode.jit import inlined, inner, kernel
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
    END_FACTOR,
    END_WORD,
    ENTRIES,
    EXPONENT,
    FACTOR,
    FRAME,
    GAIN,
    HOT,
    IN_LABEL,
    LABEL,
    LAST,
    LM,
    PARENT,
    PREFIX,
    PREFIXES,
    SETTLED,
    SIBLING,
    SIDE,
    TRACE_BLANK,
    TRACE_LABEL,
    TRACES,
    TRIE,
)
from asr.decode.scoring import ROOT, TOKEN_LM, extend
from asr.decode.selection import nth_mass, shrink
from asr.decode.tree import tidy

_SCALE_BITS = 256
_LARGE, _SMALL = 2.0**_SCALE_BITS, 2.0**-_SCALE_BITS
_SCALE_EVERY = 8  # frames between looks at the scale of the best alignments, and in blanks
_TIDY_EVERY = 128  # frames


@inner
def _blank_frame(sums, facts, entries, row, blank):  # type: ignore[no-untyped-def]
    """A frame in which no label is likely enough to be tried: entries stay what they are."""
    silent = np.float64(row[blank])
    for j in range(entries):
        stay = np.float64(row[facts[LAST, j]])
        in_label = sums[IN_LABEL, j]
        sums[BLANK, j] = (sums[BLANK, j] + in_label) * silent
        sums[IN_LABEL, j] = in_label * stay
        best_blank, best_label = sums[BEST_BLANK, j], sums[BEST_LABEL, j]
        facts[TRACE_BLANK, j] = facts[TRACE_LABEL, j] if best_label > best_blank else facts[TRACE_BLANK, j]
        sums[BEST_BLANK, j] = max(best_blank, best_label) * silent
        sums[BEST_LABEL, j] = best_label * stay


@inner
def _candidates(row, blank, token_threshold, forced, candidates, order):  # type: ignore[no-untyped-def]
    """Fill the labels to try in this frame, and each one's place among them; returns their number."""
    tried = 0
    for v in range(len(row)):
        if row[v] >= token_threshold and v != blank:
            candidates[tried] = v
            order[v] = tried
            tried += 1
    if tried == 0 and row[blank] < token_threshold and len(row) > 1:  # a flat row: the likeliest label alone
        top = 1 if blank == 0 else 0
        for v in range(len(row)):
            if v != blank and row[v] > row[top]:
                top = v
        candidates[0] = top
        order[top] = 0
        tried = 1
    for label in forced:
        if order[label] < 0:
            candidates[tried] = label
            order[label] = tried
            tried += 1
    return tried


@inner
def _scaled(sums, first, entries):  # type: ignore[no-untyped-def]
    """Bring a pair of rows (in a blank, in the last label) back into range; returns the power of two taken out."""
    bits = 0
    while True:
        largest = 0.0
        for j in range(entries):
            largest = max(largest, sums[first, j] + sums[first + 1, j])
        if _SMALL < largest < _LARGE or largest == 0.0:
            return bits
        factor, step = (_LARGE, -_SCALE_BITS) if largest <= _SMALL else (_SMALL, _SCALE_BITS)
        bits += step
        for kind in range(first, first + 2):
            for j in range(entries):
                sums[kind, j] *= factor


@inner
def _stay(sums, facts, after, facts_after, slots, merged, order, tried, entries, row, blank, traces, counters):  # type: ignore[no-untyped-def]
    """Every entry as it goes on, with what flows in from its parent; returns largest and smallest of the masses."""
    silent = np.float64(row[blank])
    largest, smallest = 0.0, np.inf
    used = counters[TRACES]
    frame = counters[FRAME]
    for j in range(entries):
        last = facts[LAST, j]
        prob = np.float64(row[last])
        in_label = sums[IN_LABEL, j]
        in_blank = (sums[BLANK, j] + in_label) * silent
        best_blank, best_label = sums[BEST_BLANK, j], sums[BEST_LABEL, j]
        trace_label = facts[TRACE_LABEL, j]
        facts_after[TRACE_BLANK, j] = trace_label if best_label > best_blank else facts[TRACE_BLANK, j]
        after[BEST_BLANK, j] = max(best_blank, best_label) * silent
        i = slots[facts[ABOVE, j]]
        differs = facts[LAST, i] != last
        inflow = sums[BLANK, i] + (sums[IN_LABEL, i] if differs else 0.0)
        above_label = sums[BEST_LABEL, i] if differs else 0.0
        above_blank = sums[BEST_BLANK, i]
        arriving = prob * sums[FACTOR, j]
        in_label = in_label * prob + inflow * arriving
        best_inflow = max(above_blank, above_label) * arriving
        best_label *= prob
        arrives = best_inflow > best_label
        traces[used, 0] = facts[TRACE_LABEL, i] if above_label > above_blank else facts[TRACE_BLANK, i]
        traces[used, 1] = frame
        facts_after[TRACE_LABEL, j] = used if arrives else trace_label
        used += 1 if arrives else 0
        after[BEST_LABEL, j] = max(best_inflow, best_label)
        after[BLANK, j] = in_blank
        after[IN_LABEL, j] = in_label
        at = order[last]
        merged[i * (tried + 1) + (at if at >= 0 else tried)] = 1
        total = in_blank + in_label
        largest = max(largest, total)
        smallest = min(smallest, total)
    counters[TRACES] = used
    return largest, smallest


@inlined
def _extend_plain(beam, sums, facts, after, tried, entries, row, cut, beam_size, largest):  # type: ignore[no-untyped-def]
    """Gather new prefixes heavier than `cut` where acoustics alone count; returns their number and the largest mass."""
    merged, found, found_facts, candidates = beam.merged, beam.found, beam.found_facts, beam.candidates
    count = 0
    for i in range(entries):
        if count + tried >= len(found):
            count, bound = shrink(beam, after, entries, count, beam_size, largest)
            cut = max(cut, bound)
        in_blank = sums[BLANK, i]
        both = in_blank + sums[IN_LABEL, i]
        last = facts[LAST, i]
        for k in range(tried):
            label = candidates[k]
            mass = (in_blank if label == last else both) * np.float64(row[label])
            mass = 0.0 if merged[i * (tried + 1) + k] == 1 else mass
            found[count, 0], found[count, 1] = mass, 1.0
            found_facts[count, 0], found_facts[count, 1] = i, label
            largest = max(largest, mass)
            count += 1 if mass > cut else 0
    return count, largest


@inlined
def _extend_scored(  # type: ignore[no-untyped-def]
    beam, tree, scorer, sums, facts, after, tried, entries, row, cut, beam_size, largest, forced
):
    """The same with language model, lexicon, hotwords and a forced beginning."""
    merged, found, found_facts, candidates = beam.merged, beam.found, beam.found_facts, beam.candidates
    integers, floats = tree.integers, tree.floats
    bounded = scorer.flags[0] != TOKEN_LM and scorer.flags[3] == 0
    count = 0
    for i in range(entries):
        if count + tried >= len(found):
            count, bound = shrink(beam, after, entries, count, beam_size, largest)
            cut = max(cut, bound)
        prefix = facts[PREFIX, i]
        in_blank = sums[BLANK, i]
        both = in_blank + sums[IN_LABEL, i]
        last = facts[LAST, i]
        depth = integers[prefix, DEPTH]
        is_forced = depth < len(forced)
        # The most that a label inside a word can bring: what is given ahead falls, or unknown words are likely.
        trie = integers[prefix, TRIE]
        most = scorer.weights[3] if trie == ROOT else max(1.0, scorer.leave[trie])
        for k in range(tried):
            label = candidates[k]
            if merged[i * (tried + 1) + k] == 1 or (is_forced and label != forced[depth]):
                continue
            mass = (in_blank if label == last else both) * np.float64(row[label])
            if bounded and scorer.boundary[label] == 0 and mass * most <= cut and not is_forced:
                continue  # whatever it will be given
            factor, trie, state, hot = extend(scorer, integers, floats, prefix, label)
            mass *= factor
            if mass > cut or (is_forced and mass > 0.0):
                found[count, 0], found[count, 1] = mass, factor
                found_facts[count, 0], found_facts[count, 1] = i, label
                found_facts[count, 2], found_facts[count, 3], found_facts[count, 4] = trie, state, hot
                largest = max(largest, mass)
                count += 1
    return count, largest


@inlined
def _prefix_of(integers, floats, parent, label, trie, state, hot, factor, counters):  # type: ignore[no-untyped-def]
    """The row of a prefix that comes into the beam: one that was there before and left, or a new one."""
    prefix = integers[parent, CHILD]
    while prefix >= 0 and integers[prefix, LABEL] != label:
        prefix = integers[prefix, SIBLING]
    if prefix < 0:
        prefix = np.int32(counters[PREFIXES])
        counters[PREFIXES] += 1
        integers[prefix, CHILD] = -1
        integers[prefix, SIBLING] = integers[parent, CHILD]
        integers[parent, CHILD] = prefix
        integers[prefix, PARENT] = parent
        integers[prefix, LABEL] = label
        integers[prefix, TRIE] = trie
        integers[prefix, LM] = state
        integers[prefix, HOT] = hot
        integers[prefix, END_WORD] = -1
        integers[prefix, DEPTH] = integers[parent, DEPTH] + 1
        floats[prefix, GAIN] = floats[parent, GAIN] + (math.log(factor) if factor != 1.0 else 0.0)
        floats[prefix, END_FACTOR] = np.nan
    return prefix


@inlined
def _select(beam, tree, sums, facts, after, facts_after, entries, count, row, bound, beam_size, largest, counters):  # type: ignore[no-untyped-def]
    """The best of entries and new prefixes become the beam of the next frame; returns their number."""
    found, found_facts, slots, integers, floats = beam.found, beam.found_facts, tree.slots, tree.integers, tree.floats
    traces = tree.traces
    nowhere = sums.shape[1] - 1
    ties = beam_size
    if entries + count > beam_size:
        nth, room = nth_mass(
            after, found, beam.scratch, beam.scratch_bits, beam.buckets, entries, count, beam_size, largest
        )
        if nth >= bound:
            bound, ties = nth, room
    kept = 0
    for j in range(entries):
        in_blank, in_label = after[BLANK, j], after[IN_LABEL, j]
        total = in_blank + in_label
        stays = total > bound
        if total == bound and ties > 0 and total > 0.0:
            stays = True
            ties -= 1
        prefix = facts[PREFIX, j]
        slots[prefix] = kept if stays else nowhere
        after[BLANK, kept], after[IN_LABEL, kept] = in_blank, in_label
        after[BEST_BLANK, kept], after[BEST_LABEL, kept] = after[BEST_BLANK, j], after[BEST_LABEL, j]
        after[FACTOR, kept] = sums[FACTOR, j]
        facts_after[PREFIX, kept], facts_after[LAST, kept], facts_after[ABOVE, kept] = (
            prefix,
            facts[LAST, j],
            facts[ABOVE, j],
        )
        facts_after[TRACE_BLANK, kept] = facts_after[TRACE_BLANK, j]
        facts_after[TRACE_LABEL, kept] = facts_after[TRACE_LABEL, j]
        kept += 1 if stays else 0
    frame = counters[FRAME]
    trace = counters[TRACES]
    for k in range(count):
        mass = found[k, 0]
        if mass <= bound:
            if mass < bound or ties == 0:
                continue
            ties -= 1
        if kept == beam_size:  # never, but beyond stands other memory
            break
        i, label, factor = found_facts[k, 0], found_facts[k, 1], found[k, 1]
        parent = facts[PREFIX, i]
        prefix = _prefix_of(
            integers, floats, parent, label, found_facts[k, 2], found_facts[k, 3], found_facts[k, 4], factor, counters
        )
        slots[prefix] = kept
        integers[prefix, BORN] = frame
        floats[prefix, CONFIDENCE] = np.nan
        best, before = sums[BEST_BLANK, i], facts[TRACE_BLANK, i]
        if facts[LAST, i] != label and sums[BEST_LABEL, i] > best:
            best, before = sums[BEST_LABEL, i], facts[TRACE_LABEL, i]
        traces[trace, 0], traces[trace, 1] = before, frame
        facts_after[PREFIX, kept], facts_after[LAST, kept], facts_after[ABOVE, kept] = prefix, label, parent
        facts_after[TRACE_BLANK, kept], facts_after[TRACE_LABEL, kept] = -1, trace
        after[BLANK, kept], after[IN_LABEL, kept] = 0.0, mass
        after[BEST_BLANK, kept], after[BEST_LABEL, kept] = 0.0, best * np.float64(row[label]) * factor
        after[FACTOR, kept] = factor
        trace += 1
        kept += 1
    counters[TRACES] = trace
    return kept


@kernel
def search_frames(  # type: ignore[no-untyped-def]
    probs, blank, beam_size, token_threshold, beam_threshold, scale, forced, scorer, beam, tree, counters
):
    """Search on through (T, V) float32 probabilities; returns how many frames were taken before there was no room.

    Args:
        token_threshold, beam_threshold: linear; the first absolute, the second relative to the best entry.
        scale: exponent of the masses in word confidences.
        forced: (P,) int32 labels that every prefix begins with.
    """
    side = counters[SIDE]
    sums, after = beam.sums[side], beam.sums[1 - side]
    facts, facts_after = beam.facts[side], beam.facts[1 - side]
    merged, candidates, order = beam.merged, beam.candidates, beam.order
    plain = scorer.flags[0] == 0 and scorer.flags[1] == 0 and len(forced) == 0
    capacity = counters[CAPACITY]
    taken = 0
    while taken < len(probs):
        entries = counters[ENTRIES]
        # One frame makes at most N prefixes and 2 N traces.
        if counters[PREFIXES] + beam_size > capacity or counters[TRACES] + 2 * beam_size >= 2 * capacity:
            break
        if counters[SETTLED] > capacity:
            break
        row = probs[taken]
        taken += 1
        tried = _candidates(row, blank, token_threshold, forced, candidates, order)
        largest = 1.0
        if tried == 0:
            _blank_frame(sums, facts, entries, row, blank)
        else:
            for k in range((entries + 1) * (tried + 1)):
                merged[k] = 0
            largest, smallest = _stay(
                sums,
                facts,
                after,
                facts_after,
                tree.slots,
                merged,
                order,
                tried,
                entries,
                row,
                blank,
                tree.traces,
                counters,
            )
            cut = largest * beam_threshold
            if entries == beam_size:
                cut = max(cut, smallest)
            if plain:
                count, largest = _extend_plain(beam, sums, facts, after, tried, entries, row, cut, beam_size, largest)
            else:
                count, largest = _extend_scored(
                    beam, tree, scorer, sums, facts, after, tried, entries, row, cut, beam_size, largest, forced
                )
            for k in range(tried):
                order[candidates[k]] = -1
            entries = _select(
                beam,
                tree,
                sums,
                facts,
                after,
                facts_after,
                entries,
                count,
                row,
                largest * beam_threshold,
                beam_size,
                largest,
                counters,
            )
            counters[ENTRIES] = entries
            sums, after = after, sums
            facts, facts_after = facts_after, facts
            side = 1 - side
        counters[FRAME] += 1
        if counters[FRAME] % _SCALE_EVERY == 0 or not _SMALL < largest < _LARGE:
            counters[EXPONENT] += _scaled(sums, BLANK, counters[ENTRIES])
            # The best alignment's share of all alignments falls with the length: it has a scale of its own, which
            # nobody asks for.
            _scaled(sums, BEST_BLANK, counters[ENTRIES])
        if counters[FRAME] % _TIDY_EVERY == 0:
            tidy(scorer, beam.weights, sums, facts, tree, counters, scale)
    counters[SIDE] = side
    return taken
