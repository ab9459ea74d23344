"""An open-addressing hash table from (int32, int32) to int32 and a number beside it (numba kernels)."""

import numpy as np
from numpy.typing import NDArray

from asr.decode.jit import inlined, inner

EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
# A pair and its value together in one cache line: look-ups in a table larger than the cache mostly wait for memory.
SLOT = np.dtype([("key", "<u8"), ("value", "<i4"), ("number", "<f4")], align=True)


def table_for(entries: int) -> NDArray[np.void]:
    """An empty table for this many entries: a power of two of slots, at most half full."""
    table = np.zeros(1 << max(3, (2 * entries - 1).bit_length()), SLOT)
    table["key"], table["value"] = EMPTY, -1
    return table


@inlined
def place_of(table, a, b):  # type: ignore[no-untyped-def]
    """The slot of the pair, or the empty one (value -1) where it would go; and the pair as a key."""
    key = (np.uint64(a) << np.uint64(32)) | np.uint64(b)
    mask = np.uint64(len(table) - 1)
    mixed = key * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: the high bits depend on all of the key
    place = (mixed ^ (mixed >> np.uint64(32))) & mask
    while table[place].key != key and table[place].key != EMPTY:
        place = (place + np.uint64(1)) & mask
    return place, key


@inlined
def find(table, a, b):  # type: ignore[no-untyped-def]
    """The value of (a, b), or -1."""
    place, _ = place_of(table, a, b)
    return table[place].value


@inner
def insert(table, a, b, value, number):  # type: ignore[no-untyped-def]
    """Set the value and number of (a, b); returns the previous value, or -1."""
    place, key = place_of(table, a, b)
    slot = table[place]
    before = slot.value
    slot.key, slot.value, slot.number = key, value, number
    return before
