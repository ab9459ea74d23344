"""An open-addressing hash table from (int32, int32) to int32 in two flat arrays (numba kernels)."""

import numpy as np
from numpy.typing import NDArray

from asr.decode.jit import inlined, inner

EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)


def table_for(entries: int) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Empty keys and values for this many entries: a power of two, at most half full."""
    size = 1 << max(3, (2 * entries - 1).bit_length())
    return np.full(size, EMPTY, np.uint64), np.full(size, -1, np.int32)


@inlined
def _place(keys, a, b):  # type: ignore[no-untyped-def]
    """Where the pair stands, or the empty place where it would."""
    key = (np.uint64(a) << np.uint64(32)) | np.uint64(b)
    mask = np.uint64(len(keys) - 1)
    mixed = key * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: the high bits depend on all of the key
    place = (mixed ^ (mixed >> np.uint64(32))) & mask
    while keys[place] != key and keys[place] != EMPTY:
        place = (place + np.uint64(1)) & mask
    return place, key


@inlined
def find(keys, values, a, b):  # type: ignore[no-untyped-def]
    """The value of (a, b), or -1."""
    place, _ = _place(keys, a, b)
    return values[place]


@inner
def insert(keys, values, a, b, value):  # type: ignore[no-untyped-def]
    """Set the value of (a, b); returns what stood there before, or -1."""
    place, key = _place(keys, a, b)
    before = values[place]
    keys[place] = key
    values[place] = value
    return before
