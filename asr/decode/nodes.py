"""The trie of words in breadth-first order, in which the children of a node stand side by side."""

import numpy as np
from numpy.typing import NDArray

from asr.decode.hashing import EMPTY
from asr.decode.layout import Records, in_lines
from asr.decode.lexicon import Trie, look_ahead
from asr.decode.scoring import END, NODE, ROOT

_LARGEST = 700.0  # natural log of a factor: a word may be all but impossible, as with a unigram of 1e-400


def build_nodes(
    trie: Trie, scores: NDArray[np.float64], unknown: float, per_character: float
) -> tuple[Records, Records, NDArray[np.int32]]:
    """The nodes, ends and words of a `Scorer`.

    Args:
        scores: (words,) natural-log score of each word by itself.
        unknown: that of an unknown word, to which each of its characters adds `per_character`.
    """
    count = len(trie.parent)
    place, depth, symbols = _breadth_first(trie)
    parent = np.zeros(count, np.int32)
    parent[place] = place[trie.parent]
    node_of = place[trie.node_of]
    ahead = np.full(count, -np.inf)
    look_ahead(parent, node_of, scores[trie.owners], ahead)
    ahead[ROOT] = 0.0  # nothing is given ahead to a word that has not begun
    nodes, ends = in_lines(count + 2, NODE), np.zeros(count + 2, END)
    nodes["child"] = 1 + np.searchsorted(parent[1:], np.arange(count + 2))
    nodes["symbol"][:count] = symbols
    np.bitwise_or.at(nodes["follow"], parent[1:], np.int64(1) << (symbols[1:].astype(np.int64) & 63))
    nodes["enter"][:count] = np.exp(ahead - ahead[parent])
    nodes["leave"] = np.exp(per_character)
    nodes["leave"][:count] = np.exp(np.minimum(unknown + (depth + 1) * per_character - ahead, _LARGEST))
    ends["word"] = np.searchsorted(np.sort(node_of), np.arange(count + 2))
    ends["ahead"] = unknown
    ends["ahead"][:count] = ahead
    ends["characters"][:count] = depth * per_character
    return nodes, ends, trie.owners[np.argsort(node_of, kind="stable")]


def _breadth_first(trie: Trie) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """The new place of each node, and the depths and symbols by new place."""
    count = len(trie.parent)
    used = trie.table[trie.table["key"] != EMPTY]
    symbol = np.zeros(count, np.int32)
    symbol[used["value"]] = used["key"] & np.uint64(0xFFFFFFFF)
    level_of = (np.arange(count) > 0).astype(np.int32)
    above = trie.parent
    while above.any():  # each time twice as far up
        level_of += level_of[above]
        above = above[above]
    place = np.zeros(count, np.int32)
    levels = np.split(
        np.argsort(level_of, kind="stable"), np.searchsorted(np.sort(level_of), np.arange(1, level_of.max() + 1))
    )
    placed = 0
    for level in levels:
        ordered = level[np.lexsort((symbol[level], place[trie.parent[level]]))]
        place[ordered] = np.arange(placed, placed + len(level))
        placed += len(level)
    depth, symbols = np.empty(count, np.int32), np.empty(count, np.int32)
    depth[place], symbols[place] = level_of, symbol
    return place, depth, symbols
