"""Labels, language model, lexicon and hotwords as the flat arrays that the search reads."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from asr.decode.hotwords import OTHER, build_hotwords
from asr.decode.hypothesis import Reading
from asr.decode.lexicon import (
    Spellings,
    Trie,
    build_trie,
    look_ahead,
    spell_by_characters,
    spell_by_labels,
    warn_of_unspelled,
)
from asr.decode.lm import NGram, NGramArrays
from asr.decode.scoring import NO_LM, TOKEN_LM, WORD_LM, Scorer
from asr.errors import DecodeError

LN_10 = math.log(10.0)
Unit = Literal["auto", "word", "token"]
Lexicon = Iterable[str] | Mapping[str, Sequence[Sequence[str]]]

# Stands for no language model: kernels take the same types with and without one.
_NO_MODEL = NGramArrays(
    np.zeros(1, np.float32),
    np.zeros(0, np.float32),
    np.full(1, -1, np.int32),
    np.zeros(8, np.uint64),
    np.zeros(8, np.int32),
)

_NO_WORDS = {"<s>", "</s>", "<unk>", "<UNK>"}
# How language models of characters write the separator, which cannot stand in an ARPA file.
_SEPARATORS = ("|", "<space>", "\u2581")


@dataclass(frozen=True)
class Composition:
    """A Scorer with what is needed to read its results.

    Attributes:
        scorer: for the kernels.
        words: what lexicon word ids mean; empty where words are read from their labels.
        first_lm, first_hot: states in which an utterance begins.
    """

    scorer: Scorer
    words: list[str]
    first_lm: int
    first_hot: int


def compose(
    labels: Sequence[str],
    reading: Reading,
    blank: int,
    *,
    lm: NGram | None,
    lm_unit: Unit,
    lexicon: Lexicon | None,
    hotwords: Mapping[str, float] | None,
    alpha: float,
    beta: float,
    unknown_offset: float,
    unknown_per_character: float,
) -> Composition:
    """Build the Scorer; see `BeamDecoder` for the arguments and errors."""
    if hotwords and isinstance(lexicon, Mapping):
        raise DecodeError("hotwords: are told by characters, which a lexicon with spellings in labels does not have")
    kind = NO_LM
    if lm is not None:
        kind = _kind_of(lm, labels, reading, blank, lm_unit)
    tracks_words = kind == WORD_LM or lexicon is not None or bool(hotwords)
    words, trie, symbols_of = _words(labels, reading, lm if kind == WORD_LM else None, lexicon)
    weights = np.array([0.0, 0.0, 0.0, 1.0, 1.0])
    if lm is not None:
        weights[:3] = alpha * LN_10, beta, alpha * unknown_offset
    if kind == WORD_LM:
        assert lm is not None
        weights[4] = math.exp(alpha * unknown_per_character)
        word_lm = np.array([lm.word_id(word) for word in words], np.int32)
        unigrams = lm.arrays.prob[word_lm].astype(np.float64)
        scores = weights[0] * unigrams + weights[1] + np.where(word_lm == 0, weights[2], 0.0)
        unknown = weights[0] * float(lm.arrays.prob[0]) + weights[1] + weights[2]
    else:
        word_lm = np.zeros(len(words), np.int32)
        scores, unknown = np.zeros(len(words)), 0.0
    depth = _depths(trie)
    ahead, enter, leave = _look_ahead(trie, scores, unknown + (depth + 1) * math.log(weights[4]), unknown)
    weights[3] = max(leave[0], enter[1:][trie.parent[1:] == 0].max(initial=0.0))
    hot = build_hotwords(hotwords or {})
    spell_start, spell = _flat(symbols_of)
    hot_start, hot_spell = _flat([[hot.alphabet.get(c, OTHER) for c in text] for text in reading.texts])
    scorer = Scorer(
        flags=np.array([kind, tracks_words, lexicon is not None, bool(hotwords)], np.int64),
        weights=weights,
        boundary=np.array(reading.boundary, np.uint8),
        has_text=np.array([bool(text) for text in reading.texts], np.uint8),
        spell_start=spell_start,
        spell=spell,
        trie_keys=trie.keys,
        trie_values=trie.values,
        ahead=ahead,
        enter=enter,
        leave=leave,
        depth=depth,
        word_start=trie.word_start,
        words=trie.words,
        word_lm=word_lm,
        token_lm=_token_ids(lm, labels, reading) if lm is not None and kind == TOKEN_LM else np.zeros(1, np.int32),
        hot_start=hot_start,
        hot_spell=hot_spell,
        hot_next=hot.next,
        hot_gain=hot.gain,
        hot_owed=hot.owed,
        **_model_arrays(lm),
    )
    first_lm = lm.begin_state if lm is not None else -1
    return Composition(scorer, words if isinstance(lexicon, Mapping) else [], first_lm, hot.first)


def _model_arrays(lm: NGram | None) -> dict[str, Any]:
    if lm is None:
        return {"ngram": _NO_MODEL, "eos": -1}
    return {"ngram": lm.arrays, "eos": lm.eos_id}


def _flat(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    starts = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(row) for row in rows], out=starts[1:])
    return starts, np.array([symbol for row in rows for symbol in row], np.int32)


def _words(
    labels: Sequence[str], reading: Reading, lm: NGram | None, lexicon: Lexicon | None
) -> tuple[list[str], Trie, list[list[int]]]:
    """The words that are known, their trie, and the trie symbols that each label writes."""
    if isinstance(lexicon, Mapping):
        found = spell_by_labels(lexicon, labels)
        symbols_of = [[place] if text else [] for place, text in enumerate(reading.texts)]
    else:
        alphabet: dict[str, int] = {}
        for text in reading.texts:
            for character in text:
                alphabet.setdefault(character, len(alphabet))
        symbols_of = [[alphabet[character] for character in text] for text in reading.texts]
        known = [word for word in lm.words if word not in _NO_WORDS] if lm is not None else []
        wanted = list(dict.fromkeys(lexicon)) if lexicon is not None else known
        found = spell_by_characters(wanted, alphabet)
        _require_spelled(found, wanted, alphabet, by_user=lexicon is not None)
    return found.words, build_trie(found.symbols, found.starts, found.owners), symbols_of


def _require_spelled(found: Spellings, wanted: Sequence[str], alphabet: Mapping[str, int], *, by_user: bool) -> None:
    if by_user and len(found.words) < len(wanted):
        spelled = set(found.words)
        word = next(word for word in wanted if word not in spelled)
        missing = sorted({character for character in word if character not in alphabet})
        raise DecodeError(f"lexicon: word {word!r} cannot be spelled with the labels: {missing or 'empty'} is missing")
    if wanted and not found.words:
        raise DecodeError(
            f"language model: none of its {len(wanted)} words ({wanted[-1]!r}) can be spelled with the labels; "
            "is it of another unit (lm_unit), or another case?"
        )
    if not by_user:
        warn_of_unspelled(wanted, found, alphabet)


def _look_ahead(
    trie: Trie, scores: NDArray[np.float64], leaving: NDArray[np.float64], unknown: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """What nodes are given ahead (the last element: words outside the trie), and factors for entering and leaving."""
    nodes = len(trie.parent)
    ahead = np.full(nodes, -np.inf)
    look_ahead(trie.parent, trie.node_of, scores[_owner_of_spelling(trie)], ahead)
    ahead[0] = 0.0  # nothing is given ahead to a word that has not begun
    enter = np.exp(ahead - ahead[trie.parent])
    leave = np.exp(leaving - ahead)
    return np.append(ahead, unknown), enter, np.append(leave, 1.0)


def _depths(trie: Trie) -> NDArray[np.int32]:
    """(nodes,) symbols from the root."""
    depth = np.zeros(len(trie.parent), np.int32)
    above = np.arange(len(depth), dtype=np.int32)
    while above.any():  # once for each level
        depth += above > 0
        above = trie.parent[above]
    return depth


def _owner_of_spelling(trie: Trie) -> NDArray[np.int32]:
    by_node = np.argsort(trie.node_of, kind="stable")
    owners = np.empty_like(trie.words)
    owners[by_node] = trie.words
    return owners


def _kind_of(lm: NGram, labels: Sequence[str], reading: Reading, blank: int, unit: Unit) -> int:
    """Whether the model is of words or of labels; `auto` asks whether it knows the separator and most labels.

    A model that states to be of characters or pieces is never taken for one of words. One that states words may be of
    text that was cut before.
    """
    stated = lm.unit in ("char", "token")
    if unit == "word" and lm.unit == "char":
        raise DecodeError("language model: lm_unit=word, but it states unit=char")
    has_separator = any(boundary and not text for text, boundary in zip(reading.texts, reading.boundary, strict=True))
    known = [
        lm.word_id(label) != 0
        for place, (label, text) in enumerate(zip(labels, reading.texts, strict=True))
        if place != blank and text
    ]
    separator = not has_separator or any(lm.word_id(name) != 0 for name in _SEPARATORS)
    fits = separator and 2 * sum(known) >= len(known) > 0
    if unit == "auto" and not stated:
        return TOKEN_LM if fits else WORD_LM
    if unit != "word" and not fits:
        name = "lm_unit=token" if unit == "token" else f"it states unit={lm.unit}"
        raise DecodeError(
            f"language model: {name}, but it knows {sum(known)} of {len(known)} labels"
            + ("" if separator else f", and no separator (one of {' '.join(_SEPARATORS)})")
        )
    return WORD_LM if unit == "word" else TOKEN_LM


def _token_ids(lm: NGram, labels: Sequence[str], reading: Reading) -> NDArray[np.int32]:
    ids = []
    for label, text, boundary in zip(labels, reading.texts, reading.boundary, strict=True):
        names = (label, *_SEPARATORS) if boundary and not text else (label,)
        ids.append(next((lm.word_id(name) for name in names if lm.word_id(name) != 0), 0))
    return np.array(ids, np.int32)
