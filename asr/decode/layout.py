"""The arrays of a search: the beam's entries, the tree of prefixes, and what their rows and columns mean."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Integer columns of a prefix.
PARENT, LABEL, BORN, TRIE, LM, HOT, END_LM, END_WORD, DEPTH, CHILD, SIBLING = range(11)
INTEGERS = 11
# Floating-point columns: ln of the product of the factors of all its labels, the factor that completing the current
# word would bring (NaN: not asked yet), and the confidence of the word that ends here (NaN: not known yet).
GAIN, END_FACTOR, CONFIDENCE = range(3)
FLOATS = 3

# Counters of a search; SIDE is the half of the beam's arrays that holds this frame.
ENTRIES, PREFIXES, TRACES, EXPONENT, FRAME, CAPACITY, WEIGHED, SIDE, SETTLED = range(9)
COUNTERS = 9

# Rows of an entry's numbers: the four sums, and the factor from the parent.
BLANK, IN_LABEL, BEST_BLANK, BEST_LABEL, FACTOR = range(5)
# Rows of its integers; the traces are of the best alignments, -1: none.
PREFIX, LAST, ABOVE, TRACE_BLANK, TRACE_LABEL = range(5)

NOWHERE, ROOT_PREFIX = 0, 1  # rows of the tree: what stands above the empty prefix, and the empty prefix

BUCKETS = 256  # of `selection`


class Beam(NamedTuple):
    """The entries of the beam and where the prefixes of the next frame are gathered.

    Attributes:
        sums: (2, 5, N + 1) float64, this frame and the next; the last entry is zero.
        facts: (2, 5, N + 1) int32.
        merged: ((N + 1) * (V + 1),) uint8, which (entry, candidate label) is an entry already.
        found: (M, 2) float64: mass and factor of new prefixes.
        found_facts: (M, 5) int32: parent entry, label, trie node, LM state, hotword state.
        scratch: (N + M,) float64; scratch_bits: the same memory as int64.
        buckets: (256,) int32.
        candidates: (V,) int32, the labels tried in this frame.
        order: (V,) int32, the place of a label among them, or -1.
        weights: (N,) float64 scratch.
    """

    sums: NDArray[np.float64]
    facts: NDArray[np.int32]
    merged: NDArray[np.uint8]
    found: NDArray[np.float64]
    found_facts: NDArray[np.int32]
    scratch: NDArray[np.float64]
    scratch_bits: NDArray[np.int64]
    buckets: NDArray[np.int32]
    candidates: NDArray[np.int32]
    order: NDArray[np.int32]
    weights: NDArray[np.float64]


class Tree(NamedTuple):
    """The prefixes that are or were in the beam.

    Attributes:
        integers, floats: (P, columns), a row each; parents stand before their children.
        slots: (P,) int32, the entry of each prefix, N where it has none.
        traces: (2 P, 2) int32: previous trace, frame in which the label begins.
        settled: (2 P, 3) int32, labels that no later frame can change, with frame and word; settled_confidence: (2 P,).
        mass, complete: (P,) float64 scratch; marks, only: (P,) int32; trace_marks: (2 P,) int32.
    """

    integers: NDArray[np.int32]
    floats: NDArray[np.float64]
    slots: NDArray[np.int32]
    traces: NDArray[np.int32]
    settled: NDArray[np.int32]
    settled_confidence: NDArray[np.float64]
    mass: NDArray[np.float64]
    complete: NDArray[np.float64]
    marks: NDArray[np.int32]
    only: NDArray[np.int32]
    trace_marks: NDArray[np.int32]


def new_beam(beam_size: int, vocabulary: int) -> Beam:
    """Room for `beam_size` entries and what they may become in one frame."""
    found = 4 * beam_size + vocabulary
    scratch = np.zeros(beam_size + found + 1)
    facts = np.zeros((2, 5, beam_size + 1), np.int32)
    facts[:, LAST, beam_size] = -1  # the last label of nothing is none
    return Beam(
        sums=np.zeros((2, 5, beam_size + 1)),
        facts=facts,
        merged=np.zeros((beam_size + 1) * (vocabulary + 1), np.uint8),
        found=np.zeros((found + 1, 2)),
        found_facts=np.zeros((found + 1, 5), np.int32),
        scratch=scratch,
        scratch_bits=scratch.view(np.int64),
        buckets=np.zeros(BUCKETS, np.int32),
        candidates=np.zeros(vocabulary, np.int32),
        order=np.full(vocabulary, -1, np.int32),
        weights=np.zeros(beam_size),
    )


def new_tree(prefixes: int) -> Tree:
    """Room for this many prefixes and twice as many traces."""
    return Tree(
        integers=np.zeros((prefixes, INTEGERS), np.int32),
        floats=np.zeros((prefixes, FLOATS)),
        slots=np.zeros(prefixes, np.int32),
        traces=np.zeros((2 * prefixes, 2), np.int32),
        settled=np.zeros((2 * prefixes, 3), np.int32),
        settled_confidence=np.zeros(2 * prefixes),
        mass=np.zeros(prefixes),
        complete=np.zeros(prefixes),
        marks=np.zeros(prefixes, np.int32),
        only=np.zeros(prefixes, np.int32),
        trace_marks=np.zeros(2 * prefixes, np.int32),
    )


def grown(tree: Tree) -> Tree:
    """The same tree with twice the room."""
    return Tree(*(np.concatenate([part, np.zeros_like(part)]) for part in tree))


class Beginning(NamedTuple):
    """The rows of a search that holds nothing but the empty prefix, to be copied over those of an earlier search."""

    integers: NDArray[np.int32]
    floats: NDArray[np.float64]
    slots: NDArray[np.int32]
    sums: NDArray[np.float64]
    facts: NDArray[np.int32]
    counters: NDArray[np.int64]


def beginning(beam_size: int, capacity: int, blank: int, lm: int, hot: int) -> Beginning:
    """How a search begins that uses `capacity` rows of the tree; `lm` and `hot` are states."""
    integers = np.zeros((2, INTEGERS), np.int32)
    integers[:, [CHILD, SIBLING]] = -1
    integers[ROOT_PREFIX, [LABEL, LM, HOT, END_WORD]] = blank, lm, hot, -1
    counters = np.zeros(COUNTERS, np.int64)
    counters[[ENTRIES, PREFIXES, CAPACITY]] = 1, 2, capacity
    return Beginning(
        integers=integers,
        floats=np.array([[0.0, np.nan, np.nan]] * 2),
        slots=np.array([beam_size, 0], np.int32),
        sums=np.array([1.0, 0.0, 1.0, 0.0, 1.0]),
        facts=np.array([ROOT_PREFIX, blank, NOWHERE, -1, -1], np.int32),
        counters=counters,
    )


def start(beam: Beam, tree: Tree, first: Beginning) -> NDArray[np.int64]:
    """Make the empty prefix the only entry; returns the counters of the new search."""
    tree.integers[:2] = first.integers
    tree.floats[:2] = first.floats
    tree.slots[:2] = first.slots
    beam.sums[0, :, 0] = first.sums
    beam.facts[0, :, 0] = first.facts
    return np.array(first.counters)
