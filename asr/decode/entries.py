"""What a frame does to the entries of the beam: which labels are tried, and how entries continue (numba kernels)."""

import numpy as np

from asr.decode.jit import inlined, inner
from asr.decode.layout import FRAME, TRACES

_LANE = 64  # labels that are compared at once
_SCALE_BITS = 256
LARGE, SMALL = 2.0**_SCALE_BITS, 2.0**-_SCALE_BITS


@inlined
def blank_frame(now, facts, entries, row, blank):  # type: ignore[no-untyped-def]
    """Take a frame in which no label is likely enough to be tried: the entries keep their prefixes."""
    silent = np.float64(row[blank])
    for j in range(entries):
        sums = now[j]
        stay = np.float64(row[np.uint32(facts[j].last)])
        in_label, best_blank, best_label = sums.in_label, sums.best_blank, sums.best_label
        label_is_best = best_label > best_blank
        sums.blank = (sums.blank + in_label) * silent
        sums.in_label = in_label * stay
        sums.trace_blank = sums.trace_label if label_is_best else sums.trace_blank
        sums.best_blank = (best_label if label_is_best else best_blank) * silent
        sums.best_label = best_label * stay


@inlined
def _add_likely(row, first, last, token_threshold, candidates, tried):  # type: ignore[no-untyped-def]
    """Add the likely labels of row[first:last] to the `tried` candidates; returns the new number of candidates."""
    for v in range(first, last):
        candidates[tried] = v
        tried += np.uint64(row[v] >= token_threshold)
    return tried


@inlined
def find_candidates(row, blank, token_threshold, forced, candidates, order):  # type: ignore[no-untyped-def]
    """Fill `candidates` with the labels to try in this frame, and `order` with their places; returns their number."""
    spoken = row[blank] >= token_threshold
    tried = np.uint64(0)
    first = np.int64(0)
    while first + _LANE < len(row):  # a large vocabulary: skip lanes where only the blank is likely
        hits = np.int32(0)
        for v in range(first, first + _LANE):
            hits += np.int32(row[v] >= token_threshold)
        if hits > (1 if spoken and first <= blank < first + _LANE else 0):
            if first <= blank < first + _LANE:
                tried = _add_likely(row, first, blank, token_threshold, candidates, tried)
                tried = _add_likely(row, blank + 1, first + _LANE, token_threshold, candidates, tried)
            else:
                tried = _add_likely(row, first, first + _LANE, token_threshold, candidates, tried)
        first += _LANE
    tried = _add_likely(row, first, max(first, blank), token_threshold, candidates, tried)
    tried = _add_likely(row, max(first, blank + 1), len(row), token_threshold, candidates, tried)
    tried = np.int64(tried)
    if tried == 0 and not spoken and len(row) > 1:  # a flat row: the likeliest label alone
        top = 1 if blank == 0 else 0
        for v in range(len(row)):
            if v != blank and row[v] > row[top]:
                top = v
        candidates[0] = top
        tried = 1
    for k in range(tried):
        order[np.uint32(candidates[k])] = k
    for label in forced:
        if order[label] < 0:
            candidates[tried] = label
            order[label] = tried
            tried += 1
    return tried


@inner
def scaled(now, entries, best):  # type: ignore[no-untyped-def]
    """Scale the sums, or the best alignments, back into range; returns the exponent of the power of two taken out."""
    bits = 0
    while True:
        largest = 0.0
        for j in range(entries):
            mass = now[j].best_blank + now[j].best_label if best else now[j].blank + now[j].in_label
            largest = max(largest, mass)
        if SMALL < largest < LARGE or largest == 0.0 or largest == np.inf:  # in range, or beyond repair by a factor
            return bits
        factor, step = (LARGE, -_SCALE_BITS) if largest <= SMALL else (SMALL, _SCALE_BITS)
        bits += step
        for j in range(entries):
            if best:
                now[j].best_blank *= factor
                now[j].best_label *= factor
            else:
                now[j].blank *= factor
                now[j].in_label *= factor


@inlined
def stay(beam, now, after, tree, tried, entries, row, blank, counters):  # type: ignore[no-untyped-def]
    """Carry every entry over to the next frame, with what flows in from its parent.

    Returns the largest mass before, and the largest and smallest mass after.
    """
    facts, merged, mass, order = beam.facts, beam.merged, beam.mass, beam.order
    slots, traces = tree.slots, tree.traces
    silent = np.float64(row[blank])
    heaviest, largest, smallest = 0.0, 0.0, np.inf
    used, frame = np.uint32(counters[TRACES]), np.int32(counters[FRAME])
    width = np.uint32(entries) + np.uint32(1)
    for k in range(width, (np.uint32(tried) + np.uint32(1)) * width):  # the first row is for labels that are not tried
        merged[k] = 0
    for j in range(entries):
        fact, own, to = facts[j], now[j], after[j]
        last = fact.last
        prob = np.float64(row[np.uint32(last)])
        i = np.uint32(slots[np.uint32(fact.above)])
        parent = now[i]
        in_label = own.in_label
        both = own.blank + in_label
        heaviest = both if both > heaviest else heaviest
        in_blank = both * silent
        best_blank, best_label, trace_label = own.best_blank, own.best_label, own.trace_label
        label_is_best = best_label > best_blank
        to.trace_blank = trace_label if label_is_best else own.trace_blank
        to.best_blank = (best_label if label_is_best else best_blank) * silent
        differs = facts[i].last != last
        inflow = parent.blank + (parent.in_label if differs else 0.0)
        above_label = parent.best_label if differs else 0.0
        above_blank = parent.best_blank
        arriving = prob * fact.factor
        in_label = in_label * prob + inflow * arriving
        label_is_better = above_label > above_blank
        best_inflow = (above_label if label_is_better else above_blank) * arriving
        best_label *= prob
        arrives = best_inflow > best_label
        trace = traces[used]
        trace.before = parent.trace_label if label_is_better else parent.trace_blank
        trace.frame = frame
        to.trace_label = np.int32(used) if arrives else trace_label
        used += np.uint32(arrives)
        to.best_label = best_inflow if arrives else best_label
        to.blank = in_blank
        to.in_label = in_label
        merged[np.uint32(order[np.uint32(last)] + 1) * width + min(i, np.uint32(entries))] = 1
        total = in_blank + in_label
        mass[j] = total
        largest = total if total > largest else largest
        smallest = total if total < smallest else smallest
    counters[TRACES] = np.int64(used)
    return heaviest, largest, smallest
