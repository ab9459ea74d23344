"""Selection of the entries and new prefixes that stay in the beam (numba kernels)."""

import numpy as np

from asr.decode.jit import inlined, inner
from asr.decode.layout import BUCKETS

# Masses are counted in buckets by exponent and the first three bits of the fraction, down from the largest.
_BUCKET_SHIFT = 49


@inner
def nth_largest(values, count, n):  # type: ignore[no-untyped-def]
    """The n-th largest (from 1) of values[:count], which are reordered (Hoare's quickselect)."""
    low, high, target = 0, count - 1, n - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if target <= j:
            high = j
        elif target >= i:
            low = i
        else:
            break
    return values[target]


@inlined
def nth_mass(mass, bits, counts, undecided, total, n, largest, least):  # type: ignore[no-untyped-def]
    """The n-th largest of mass[:total], 0 if below `least`; and how many masses equal to it lie beyond the first n.

    Args:
        largest: of all masses.
    """
    mass[total] = largest
    top = bits[total] >> _BUCKET_SHIFT
    mass[total] = least
    last = min(top - (bits[total] >> _BUCKET_SHIFT) + 1, BUCKETS - 1)
    for b in range(last + 1):
        counts[b] = 0
    for k in range(total):
        counts[np.uint32(min(top - (bits[k] >> _BUCKET_SHIFT), last))] += 1
    above, bucket, inside = np.int64(0), 0, np.int64(0)
    while above + counts[bucket] < n:
        above += counts[bucket]
        bucket += 1
    if bucket == last and last < BUCKETS - 1:
        return 0.0, 0
    for k in range(total):  # compare exactly only the few in the bucket where the bound lies
        undecided[inside] = mass[k]
        inside += 1 if min(top - (bits[k] >> _BUCKET_SHIFT), last) == bucket else 0
    bound = nth_largest(undecided, inside, n - above)
    ties = 0
    for k in range(n - above, inside):  # the larger ones are in front now
        ties += 1 if undecided[k] == bound else 0
    return bound, ties


@inner
def drop_ties(mass, total, bound, ties):  # type: ignore[no-untyped-def]
    """Set the last `ties` masses that equal the bound to zero."""
    for k in range(total - 1, -1, -1):
        if ties > 0 and mass[k] == bound:
            mass[k] = 0.0
            ties -= 1


@inner
def shrink(beam, entries, count, n, largest):  # type: ignore[no-untyped-def]
    """Keep the found prefixes that can still be among the `n` best; returns their number and the bound."""
    mass, found = beam.mass, beam.found
    bound, ties = nth_mass(mass, beam.bits, beam.counts, beam.undecided, entries + count, n, largest, 0.0)
    if ties > 0:
        drop_ties(mass, entries + count, bound, ties)
    kept = 0
    for k in range(count):
        if mass[entries + k] >= bound:
            mass[entries + kept] = mass[entries + k]
            found[kept] = found[k]
            kept += 1
    return kept, bound
