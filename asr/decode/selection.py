"""Which of entries and new prefixes stay in the beam (numba kernels)."""

from asr.decode.jit import inner
from asr.decode.layout import BLANK, BUCKETS, IN_LABEL

# Masses are counted by their exponent and the first three bits of their fraction, down from the largest.
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


@inner
def nth_mass(after, found, scratch, bits, buckets, entries, count, beam_size, largest):  # type: ignore[no-untyped-def]
    """The `beam_size`-th largest mass of entries and new prefixes, and how many equal to it there is room for."""
    total = entries + count
    for j in range(entries):
        scratch[j] = after[BLANK, j] + after[IN_LABEL, j]
    for k in range(count):
        scratch[entries + k] = found[k, 0]
    scratch[total] = largest
    top = bits[total] >> _BUCKET_SHIFT
    for b in range(BUCKETS):
        buckets[b] = 0
    for k in range(total):
        buckets[min(top - (bits[k] >> _BUCKET_SHIFT), BUCKETS - 1)] += 1
    above, bucket = 0, 0
    while above + buckets[bucket] < beam_size:
        above += buckets[bucket]
        bucket += 1
    inside = 0  # the few in the bucket where the bound lies are told apart exactly
    for k in range(total):
        value = scratch[k]
        here = min(top - (bits[k] >> _BUCKET_SHIFT), BUCKETS - 1) == bucket
        scratch[inside] = value
        inside += 1 if here else 0
    bound = nth_largest(scratch, inside, beam_size - above)
    ties = beam_size - above
    for k in range(beam_size - above):  # the larger ones stand in front now
        ties -= 1 if scratch[k] > bound else 0
    return bound, ties


@inner
def shrink(beam, after, entries, count, beam_size, largest):  # type: ignore[no-untyped-def]
    """Keep the found prefixes that can still be among the `beam_size` best; returns their number and the bound."""
    found, found_facts = beam.found, beam.found_facts
    bound, ties = nth_mass(
        after, found, beam.scratch, beam.scratch_bits, beam.buckets, entries, count, beam_size, largest
    )
    kept = 0
    for k in range(count):
        mass = found[k, 0]
        if mass == bound:
            ties -= 1
        if mass > bound or (mass == bound and ties >= 0):
            found[kept, 0], found[kept, 1] = found[k, 0], found[k, 1]
            for column in range(5):
                found_facts[kept, column] = found_facts[k, column]
            kept += 1
    return kept, bound
