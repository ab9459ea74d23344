"""The arrays of a search: the beam's entries, the tree of prefixes, and the fields of their records."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


def record(int32: str = "", float32: str = "", int64: str = "", float64: str = "") -> np.dtype[np.void]:
    """A record type; each argument lists the names of the fields of that type."""
    kinds = ((np.int32, int32), (np.float32, float32), (np.int64, int64), (np.float64, float64))
    return np.dtype([(name, kind) for kind, names in kinds for name in names.split()], align=True)


# An entry of the beam in one frame: its sums, and the traces of the best alignments (-1: none).
SUMS = record("trace_blank trace_label", float64="blank in_label best_blank best_label")
# What an entry is: its prefix, the prefix's last label and parent, and the factor that the label brought. Which symbols
# may follow inside a word (bit n: those that are n modulo 64), the most that a label beginning with one of them can
# bring, and the most that any other label can.
FACTS = record("prefix last above", int64="follow", float64="factor most leave")
# A new prefix: the entry that it extends, its last label with the factor it brings, and the states after it.
FOUND = record("entry label trie lm hot", float64="factor")
# Scores of an entry at the end, in natural log; its share in the beam, which also serves as scratch.
RESULT = record(float64="score lm_score share")
# A prefix: its links in the tree, its last label with the factor it brought, the frame of its birth, and the states
# after it. What completing the current word would bring: a factor (NaN: not computed yet), LM state and word. The
# confidence of the word that ends here (NaN: not known yet).
PREFIX = record(
    "parent label child sibling depth born trie lm hot end_lm end_word", "confidence", float64="factor end_factor"
)
# The frame in which a label begins, and the trace of the label before it.
TRACE = record("before frame")
# A label of a path, its frame, the word that it ends (-1: not known) and that word's confidence.
STEP = record("label frame word", "confidence")
# Scratch of a prefix: two marks; the share of all that begins with it, and of the part that ends its word with it.
NOTE = record("seen only", float64="share complete")
# A reading of a path up to the end of a word: language model state, the word, the reading before it, natural-log score;
# in the first one, that of the words that the search took.
READING = record("state word before", float64="gain plain")
READINGS = 16  # of which so many go on; an n-gram model of order N tells apart those of its last N - 1 words

# Counters of a search. SIDE is the half of `sums` that holds this frame; SETTLED counts labels in `path` that no later
# frame can change; BEST is the best entry at the end (-1: none), and LENGTH counts the labels of its path.
ENTRIES, PREFIXES, TRACES, EXPONENT, FRAME, CAPACITY, WEIGHED, SIDE, SETTLED, BEST, LENGTH = range(11)
COUNTERS = 11

NOWHERE, ROOT_PREFIX = 0, 1  # rows of the tree: the parent of the empty prefix, and the empty prefix

BUCKETS = 256  # of `selection`
_LINE_BYTES = 64

Records = NDArray[np.void]


class Beam(NamedTuple):
    """The entries of the beam, and the room where the prefixes of the next frame are gathered.

    Attributes:
        sums: (2, N + 1) SUMS, this frame and the next; the last entry is zero.
        facts: (N + 1,) FACTS: an entry keeps its place as long as it is in the beam.
        before: (N + 1, 2) int32, prefix and last label in the frame before.
        merged: ((V + 1) * (N + 1),) uint8, 1 where an entry extended by a candidate label is in the beam already.
        mass: (N + M + 1,) float64, of the entries, then of new prefixes; bits: the same memory as int64.
        found: (M + 1,) FOUND.
        undecided: (N + M + 1,) float64 scratch of `selection`.
        counts: (256 + N + M + 2,) int32, the counts of `selection`, then the places that became free and the new
            prefixes that were chosen.
        candidates: (V + 1,) int32, the labels tried in this frame.
        order: (V,) int32, the place of a label among the candidates, or -1.
        results: (N,) RESULT.
    """

    sums: Records
    facts: Records
    before: NDArray[np.int32]
    merged: NDArray[np.uint8]
    mass: NDArray[np.float64]
    bits: NDArray[np.int64]
    found: Records
    undecided: NDArray[np.float64]
    counts: NDArray[np.int32]
    candidates: NDArray[np.int32]
    order: NDArray[np.int32]
    results: Records


class Tree(NamedTuple):
    """The prefixes that are or were in the beam.

    Attributes:
        prefixes: (P,) PREFIX, each in a cache line of its own; parents stand before their children.
        slots: (P,) int32, the entry of each prefix, N where it has none.
        traces: (2 P,) TRACE.
        path: (2 P,) STEP: labels of paths taken out of the tree.
        notes: (P,) NOTE scratch; `seen` is the turn in which a prefix was last gone through.
        live: (P,) int32 scratch; moved: (2 P,) int32.
        readings: (P + 1, READINGS) READING scratch; (1, READINGS) where no two words are spelled alike.
    """

    prefixes: Records
    slots: NDArray[np.int32]
    traces: Records
    path: Records
    notes: Records
    live: NDArray[np.int32]
    moved: NDArray[np.int32]
    readings: Records


class Batch(NamedTuple):
    """Frames for the kernel, and the results of whole utterances.

    Attributes:
        probs: (F, V) float32 probabilities of all utterances.
        totals: (F,) their sums, which the kernel checks; empty if they were checked before.
        starts: (B + 1,) int64 where each utterance begins.
        steps: (F,) STEP: the path of each best hypothesis, from its utterance's start on; lengths: (B,) int64.
        results: (B,) RESULT.
    """

    probs: NDArray[np.float32]
    totals: NDArray[np.float32]
    starts: NDArray[np.int64]
    steps: Records
    lengths: NDArray[np.int64]
    results: Records


class Workspace(NamedTuple):
    """The memory of one search, used again for the next one.

    Attributes:
        beam_size: N.
    """

    beam_size: int
    beam: Beam
    tree: Tree
    counters: NDArray[np.int64]


def new_workspace(beam_size: int, vocabulary: int, capacity: int, *, homophones: bool) -> Workspace:
    """Room for `beam_size` entries and `capacity` prefixes."""
    tree = _new_tree(capacity, homophones=homophones)
    return Workspace(beam_size, _new_beam(beam_size, vocabulary), tree, np.zeros(COUNTERS, np.int64))


def _new_beam(beam_size: int, vocabulary: int) -> Beam:
    found = 4 * beam_size
    mass = np.zeros(beam_size + found + 1)
    facts = np.zeros(beam_size + 1, FACTS)
    new = np.zeros(found + 1, FOUND)
    new["factor"] = 1.0  # stays so where only acoustics count
    facts["last"][beam_size] = -1  # the entry of zeros has no last label
    return Beam(
        sums=np.zeros((2, beam_size + 1), SUMS),
        facts=facts,
        before=np.zeros((beam_size + 1, 2), np.int32),
        merged=np.zeros((vocabulary + 1) * (beam_size + 1), np.uint8),
        mass=mass,
        bits=mass.view(np.int64),
        found=new,
        undecided=np.zeros(beam_size + found + 1),
        counts=np.zeros(BUCKETS + beam_size + found + 2, np.int32),
        candidates=np.zeros(vocabulary + 1, np.int32),
        order=np.full(vocabulary, -1, np.int32),
        results=np.zeros(beam_size, RESULT),
    )


def sharing(beam: Beam) -> Beam:
    """A copied beam whose `mass` and `bits` share memory again."""
    return beam._replace(bits=beam.mass.view(np.int64))


def _new_tree(prefixes: int, *, homophones: bool) -> Tree:
    return Tree(
        prefixes=in_lines(prefixes, PREFIX),
        slots=np.zeros(prefixes, np.int32),
        traces=np.zeros(2 * prefixes, TRACE),
        path=np.zeros(2 * prefixes, STEP),
        notes=np.zeros(prefixes, NOTE),
        live=np.zeros(prefixes, np.int32),
        moved=np.zeros(2 * prefixes, np.int32),
        readings=np.zeros((prefixes + 1 if homophones else 1, READINGS), READING),
    )


def grown(tree: Tree) -> Tree:
    """The same tree with twice the room."""
    larger = _new_tree(2 * len(tree.prefixes), homophones=len(tree.readings) > 1)
    for old, new in zip(tree, larger, strict=True):
        new[: len(old)] = old
    return larger


def in_lines(count: int, kind: np.dtype[np.void]) -> Records:
    """Zeroed records that begin at a line of the processor's cache."""
    memory = np.zeros(count * kind.itemsize + _LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % _LINE_BYTES
    return memory[start : start + count * kind.itemsize].view(kind)
