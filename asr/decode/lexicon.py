"""Words as a trie of symbols, with the score that a language model gives ahead to their beginnings."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.decode.hashing import find, insert, table_for
from asr.decode.hypothesis import Reading
from asr.decode.inputs import warn_once
from asr.decode.jit import kernel
from asr.errors import DecodeError


@dataclass(frozen=True)
class Trie:
    """Spellings in one tree.

    Attributes:
        table: hash table (node, symbol) -> node; node 0 is the empty spelling.
        parent: (nodes,) int32; the root's is 0.
        node_of: (spellings,) int32, the node where each ends.
        owners: (spellings,) int32, the word of each.
    """

    table: NDArray[np.void]
    parent: NDArray[np.int32]
    node_of: NDArray[np.int32]
    owners: NDArray[np.int32]


def build_trie(symbols: NDArray[np.int32], starts: NDArray[np.int64], owners: NDArray[np.int32]) -> Trie:
    """A trie of spellings.

    Args:
        symbols: all spellings, concatenated.
        starts: (spellings + 1,) where each begins.
        owners: (spellings,) int32, the word of each; a word may have several.
    """
    table = table_for(len(symbols))
    parent = np.zeros(len(symbols) + 1, np.int32)
    node_of = np.zeros(len(owners), np.int32)
    nodes = _insert_all(symbols, starts, table, parent, node_of)
    return Trie(table, parent[:nodes], node_of, owners)


@kernel
def _insert_all(symbols, starts, table, parent, node_of):  # type: ignore[no-untyped-def]
    nodes = 1
    for spelling in range(len(node_of)):
        node = 0
        for place in range(starts[spelling], starts[spelling + 1]):
            after = find(table, node, symbols[place])
            if after < 0:
                after = nodes
                insert(table, node, symbols[place], after, np.float32(0))
                parent[after] = node
                nodes += 1
            node = after
        node_of[spelling] = node
    return nodes


@kernel
def look_ahead(parent, node_of, scores, ahead):  # type: ignore[no-untyped-def]
    """Fill (nodes,) float64 `ahead`, -inf at first, with the best score of the spellings at and below each node."""
    for spelling in range(len(node_of)):
        ahead[node_of[spelling]] = max(ahead[node_of[spelling]], scores[spelling])
    for node in range(len(parent) - 1, 0, -1):  # children come after their parents
        ahead[parent[node]] = max(ahead[parent[node]], ahead[node])


@dataclass(frozen=True)
class Spellings:
    """Which sequences of symbols spell which words.

    Attributes:
        words: the words, as they are written.
        symbols, starts, owners: as `build_trie` takes them.
    """

    words: list[str]
    symbols: NDArray[np.int32]
    starts: NDArray[np.int64]
    owners: NDArray[np.int32]


def spell_by_characters(words: Sequence[str], alphabet: Mapping[str, int]) -> Spellings:
    """Every word that the characters of `alphabet` (character -> symbol) can spell; the others are left out."""
    kept = [word for word in words if word and _is_spelled(word, alphabet)]
    symbols = np.array([alphabet[character] for word in kept for character in word], np.int32)
    starts = np.concatenate([[0], np.cumsum([len(word) for word in kept], dtype=np.int64)]).astype(np.int64)
    return Spellings(kept, symbols, starts, np.arange(len(kept), dtype=np.int32))


def check_spelled(words: Sequence[str], found: Spellings, alphabet: Collection[str]) -> None:
    """Refuse a language model of which hardly a word can be spelled; warn, once per process, if most cannot be.

    Such words cannot be recognised and become unknown words when spoken. It happens with a model in another case, or of
    text that was not normalised.

    Args:
        words: the model's words; empty ones do not count.
        found: those of them that `spell_by_characters` spells.
        alphabet: the characters that labels write.

    Raises:
        DecodeError: more than nine in ten cannot be spelled.
    """
    count = sum(map(bool, words))
    if 2 * len(found.words) >= count:
        return
    missing = [word for word in words if not _is_spelled(word, alphabet)]
    other_case = [sum(_is_spelled(change(word), alphabet) for word in missing) for change in (str.lower, str.upper)]
    said = f"language model: {len(missing)} of {count} words cannot be spelled with these labels, e.g. {missing[0]!r}"
    advice = "is it of another unit (lm_unit), or of text that was not normalised (`asr lm train --normalize RUN`)?"
    if 2 * max(other_case) > len(missing):
        cases = ("small letters", "capitals")
        labels, others = cases if other_case[0] > other_case[1] else reversed(cases)
        said += f": the labels are {labels}"
        advice = f"make the model from text in {labels}, or write the labels in {others}"
    if 10 * len(missing) > 9 * count:
        raise DecodeError(f"{said}; {advice}")
    warn_once(said)


def _is_spelled(word: str, alphabet: Collection[str]) -> bool:
    return all(character in alphabet for character in word)


def checked_spellings(
    lexicon: Mapping[str, Sequence[Sequence[str]]], labels: Sequence[str], reading: Reading
) -> dict[str, list[Sequence[str]]]:
    """A lexicon that spells its words in labels, such as phonemes or pieces, once checked.

    A separator at the end of a spelling, as flashlight's lexicons have it, is left out, and one in front, as
    sentencepiece spells some words.

    Raises:
        DecodeError: a word has no spelling, an empty one, or one that the search could never hear: with an unknown
            label, with one that writes nothing, with one inside that begins a word, or, where nothing else separates
            words, without one in front that begins it.
    """
    index = {label: place for place, label in enumerate(labels)}
    begin = [text for text, boundary in zip(reading.texts, reading.boundary, strict=True) if boundary]
    checked: dict[str, list[Sequence[str]]] = {}
    for word, spellings in lexicon.items():
        if not spellings:
            raise DecodeError(f"lexicon: word {word!r} needs a list of spellings, each a list of labels")
        checked[word] = []
        for spelling in spellings:
            unknown = [label for label in spelling if label not in index]
            if unknown or not spelling:
                raise DecodeError(f"lexicon: word {word!r} is spelled with {unknown or 'no label'}, which is no label")
            first, last = (
                reading.boundary[index[label]] and not reading.texts[index[label]]
                for label in (spelling[0], spelling[-1])
            )
            kept = spelling[int(first) : len(spelling) - int(last)]
            silent = [label for label in kept if not reading.texts[index[label]]]
            if silent or not kept:
                raise DecodeError(f"lexicon: word {word!r} is spelled with {silent or spelling}, which writes nothing")
            begins = [label for label in kept[1:] if reading.boundary[index[label]]]
            if begins:
                raise DecodeError(f"lexicon: word {word!r} is spelled with {begins}, which begins another word")
            if begin and all(begin) and not reading.boundary[index[kept[0]]]:
                raise DecodeError(f"lexicon: word {word!r} is spelled with {kept[0]!r} in front, which begins no word")
            checked[word].append(kept)
    return checked


def spell_by_labels(lexicon: Mapping[str, Sequence[Sequence[str]]], labels: Sequence[str]) -> Spellings:
    """The words of a lexicon as `checked_spellings` gives it."""
    index = {label: place for place, label in enumerate(labels)}
    spellings = [(owner, spelling) for owner, word in enumerate(lexicon) for spelling in lexicon[word]]
    symbols = np.array([index[label] for _, spelling in spellings for label in spelling], np.int32)
    starts = np.cumsum([0, *(len(spelling) for _, spelling in spellings)], dtype=np.int64)
    return Spellings(list(lexicon), symbols, starts, np.array([owner for owner, _ in spellings], np.int32))
