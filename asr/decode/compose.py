"""Labels, language model, lexicon and hotwords as the flat arrays that the search reads."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from asr.decode.automaton import STATE, NGramArrays
from asr.decode.expressions import NO_WORDS
from asr.decode.hashing import table_for
from asr.decode.hotwords import OTHER, build_hotwords
from asr.decode.hypothesis import Reading
from asr.decode.inputs import DEFAULT_HOTWORD_WEIGHT, check_kind
from asr.decode.lexicon import (
    Spellings,
    Trie,
    build_trie,
    check_spelled,
    checked_spellings,
    spell_by_characters,
    spell_by_labels,
)
from asr.decode.lm import NGram
from asr.decode.nodes import build_nodes
from asr.decode.scoring import LABEL, LEAST_GAIN, NO_LM, RULES, TOKEN_LM, WORD_LM, Scorer
from asr.errors import DecodeError

LN_10 = math.log(10.0)
LmUnit = Literal["auto", "word", "token"]
HotwordsGiven = Mapping[str, float] | Sequence[str]
Lexicon = Iterable[str] | Mapping[str, Sequence[Sequence[str]]]

# Stands in where there is no language model, so that kernels take the same types with and without one.
_NO_MODEL = NGramArrays(np.zeros(1, np.float32), np.zeros(0, STATE), np.full(1, -1, np.int32), table_for(0))

# How language models of characters write the separator, since an ARPA file cannot hold a space as a word.
_SEPARATORS = ("|", "<space>", "\u2581")


def compose(
    labels: Sequence[str],
    reading: Reading,
    blank: int,
    *,
    lm: NGram | None,
    lm_unit: LmUnit,
    lexicon: Lexicon | None,
    hotwords: HotwordsGiven | None,
    alpha: float,
    beta: float,
    unknown_offset: float,
    unknown_per_character: float,
) -> tuple[Scorer, list[str]]:
    """The Scorer, and the lexicon's words by id, none where words are read from their labels.

    See `BeamDecoder` for the arguments and errors.
    """
    phrases = _weighted(hotwords)
    lexicon = _checked(lexicon)
    if isinstance(lexicon, Mapping):
        lexicon = checked_spellings(lexicon, labels, reading)
    kind = NO_LM if lm is None else _kind_of(lm, labels, reading, blank, lm_unit)
    lm_of_words = lm if kind == WORD_LM else None
    words, trie, symbols_of = _words(labels, reading, lm_of_words, lexicon)
    rules = np.zeros(1, RULES)
    rules["kind"], rules["tracks_words"] = kind, kind == WORD_LM or lexicon is not None or bool(phrases)
    grammar = lm_of_words is not None and lm_of_words.is_grammar
    rules["lexicon"], rules["hotwords"] = lexicon is not None or grammar, bool(phrases)
    rules["first_lm"], rules["eos"] = (-1, -1) if lm is None else (lm.begin_state, lm.eos_id)
    if lm is not None:
        rules["alpha"], rules["beta"], rules["unknown"] = alpha * LN_10, beta, alpha * unknown_offset
    word_lm, scores, unknown = _word_scores(lm_of_words, words, alpha, beta, unknown_offset)
    rules["unknown_character"] = math.exp(alpha * unknown_per_character) if kind == WORD_LM else 1.0
    nodes, ends, word_numbers = build_nodes(trie, scores, unknown, math.log(rules["unknown_character"][0]))
    first_labels = nodes["enter"][1 : nodes["child"][1]]  # of the root's children
    rules["most_first"] = max(nodes["leave"][0], first_labels.max(initial=0.0))
    if rules["lexicon"][0]:
        nodes["leave"] = 0.0
    rules["homophones"] = kind == WORD_LM and np.diff(ends["word"]).max() > 1
    spelled = lexicon if isinstance(lexicon, Mapping) else None
    hot = build_hotwords(phrases, spelled)
    if spelled is None:
        _require_written(phrases, reading, None if lexicon is None else set(words))
    rules["first_hot"] = hot.first
    signs = np.zeros(len(labels) + 1, LABEL)
    signs["boundary"][:-1], signs["has_text"][:-1] = reading.boundary, [bool(text) for text in reading.texts]
    if lm is not None and kind == TOKEN_LM:
        signs["token_lm"][:-1] = _token_ids(lm, labels, reading)
    signs["spell"], spell = _flat(symbols_of)
    parts = [
        list(text) if spelled is None else [label] if text else []
        for label, text in zip(labels, reading.texts, strict=True)
    ]
    signs["hot_spell"], hot_spell = _flat([[hot.alphabet.get(part, OTHER) for part in row] for row in parts])
    scorer = Scorer(
        rules=rules,
        labels=signs,
        spell=spell,
        hot_spell=hot_spell,
        nodes=nodes,
        ends=ends,
        words=word_numbers,
        word_lm=word_lm,
        hot_states=hot.states,
        ngram=_NO_MODEL if lm is None else lm.arrays,
    )
    return scorer, words if spelled is not None else []


def _checked(lexicon: Lexicon | None) -> Lexicon | None:
    """The lexicon, checked: it is not empty, every word is a string, every spelling a list of strings."""
    if lexicon is None:
        return None
    if isinstance(lexicon, str) or not isinstance(lexicon, Iterable):
        raise DecodeError(f"lexicon must be a list of words, or a mapping of words to spellings, found {lexicon!r}")
    if not isinstance(lexicon, Mapping):
        lexicon = list(lexicon)
    if not lexicon:
        raise DecodeError("lexicon holds no word")
    for word in lexicon:
        check_kind("lexicon: word", word, str, "a string")
    if isinstance(lexicon, Mapping):
        for word, spellings in lexicon.items():
            _check_list(f"lexicon: spellings of {word!r}", spellings, "a list of lists of labels")
            for spelling in spellings:
                _check_list(f"lexicon: a spelling of {word!r}", spelling, "a list of labels")
                for label in spelling:
                    check_kind(f"lexicon: a label of {word!r}", label, str, "a string")
    return lexicon


def _weighted(hotwords: HotwordsGiven | None) -> Mapping[str, float]:
    """Phrases and their weights; those of a list have the default."""
    if hotwords is None or isinstance(hotwords, Mapping):
        return hotwords or {}
    _check_list("hotwords", hotwords, "a mapping of phrases to weights, or a list of phrases")
    for phrase in hotwords:
        check_kind("hotwords: phrase", phrase, str, "a string")
    return dict.fromkeys(hotwords, DEFAULT_HOTWORD_WEIGHT)


def _require_written(hotwords: Mapping[str, float], reading: Reading, lexicon: Collection[str] | None) -> None:
    characters = set("".join(reading.texts))
    for phrase in hotwords:
        missing = sorted(set("".join(phrase.split())) - characters)
        if missing:
            raise DecodeError(f"hotwords: phrase {phrase!r} cannot be matched: no label writes {missing}")
        lacking = [word for word in phrase.split() if lexicon is not None and word not in lexicon]
        if lacking:
            raise DecodeError(f"hotwords: phrase {phrase!r}: the lexicon has no word {lacking[0]!r}")


def _check_list(name: str, value: object, wanted: str) -> None:
    check_kind(name, value, Sequence, wanted)
    if isinstance(value, str):  # which is a sequence too
        raise DecodeError(f"{name} must be {wanted}, found {value!r}")


def _flat(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    starts = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(row) for row in rows], out=starts[1:])
    return starts, np.array([symbol for row in rows for symbol in row], np.int32)


def _words(
    labels: Sequence[str], reading: Reading, lm: NGram | None, lexicon: Lexicon | None
) -> tuple[list[str], Trie, list[list[int]]]:
    """The known words, their trie, and the trie symbols that each label writes."""
    known = [word for word in lm.words if word not in NO_WORDS] if lm is not None else []
    if lm is not None and lm.is_grammar and lexicon is not None:
        spelled = set(lexicon)
        lacking = next((word for word in known if word not in spelled), None)
        if lacking is not None:
            raise DecodeError(f"grammar: the lexicon has no word {lacking!r}")
    if isinstance(lexicon, Mapping):
        found = spell_by_labels(lexicon, labels)
        symbols_of = [[place] if text else [] for place, text in enumerate(reading.texts)]
    else:
        alphabet: dict[str, int] = {}
        for text in reading.texts:
            for character in text:
                alphabet.setdefault(character, len(alphabet))
        symbols_of = [[alphabet[character] for character in text] for text in reading.texts]
        wanted = list(dict.fromkeys(lexicon)) if lexicon is not None else known
        found = spell_by_characters(wanted, alphabet)
        if lexicon is not None or (lm is not None and lm.is_grammar):
            _require_spelled("grammar" if lexicon is None else "lexicon", found, wanted, alphabet)
        else:
            check_spelled(wanted, found, alphabet)
    return found.words, build_trie(found.symbols, found.starts, found.owners), symbols_of


def _word_scores(
    lm: NGram | None, words: Sequence[str], alpha: float, beta: float, unknown_offset: float
) -> tuple[NDArray[np.int32], NDArray[np.float64], float]:
    """Each word's id in a model of words and its score as a unigram, natural log; and the score of an unknown word."""
    if lm is None:
        return np.zeros(len(words), np.int32), np.zeros(len(words)), 0.0
    ids = np.array([*(0 if word in NO_WORDS else lm.word_id(word) for word in words), 0], np.int32)
    if words and not ids.any():
        raise DecodeError(f"language model: none of the lexicon's {len(words)} words is in it; is it in another case?")
    scores = alpha * LN_10 * lm.arrays.unigrams[ids].astype(np.float64) + beta
    scores = np.maximum(scores + np.where(ids == 0, alpha * unknown_offset, 0.0), LEAST_GAIN)
    return ids[:-1], scores[:-1], float(scores[-1])


def _require_spelled(whose: str, found: Spellings, wanted: Sequence[str], alphabet: Mapping[str, int]) -> None:
    if len(found.words) < len(wanted):
        spelled = set(found.words)
        word = next(word for word in wanted if word not in spelled)
        missing = sorted({character for character in word if character not in alphabet})
        reason = f"{missing} is missing" if missing else "it is empty"
        raise DecodeError(f"{whose}: word {word!r} cannot be spelled with the labels: {reason}")


def _kind_of(lm: NGram, labels: Sequence[str], reading: Reading, blank: int, unit: LmUnit) -> int:
    """Whether the model is of words or of labels.

    `auto` asks whether it knows the separator, where words need one, and half of the labels, and whether half of what
    it knows are labels. It never takes a model that states characters or pieces for one of words. One that states words
    may be of text that was cut into labels beforehand.
    """
    stated = lm.unit in ("char", "token")
    if unit == "word" and lm.unit == "char":
        raise DecodeError("language model: lm_unit=word, but it states unit=char")
    boundaries = [text for text, boundary in zip(reading.texts, reading.boundary, strict=True) if boundary]
    has_separator = bool(boundaries) and not any(boundaries)  # pieces that begin words may do without the bare mark
    written = [label for place, label in enumerate(labels) if place != blank and reading.texts[place]]
    known = [label not in NO_WORDS and lm.word_id(label) != 0 for label in written]
    separator = not has_separator or any(lm.word_id(name) != 0 for name in _SEPARATORS)
    fits = separator and 2 * sum(known) >= len(known) > 0
    if unit == "auto" and not stated:
        units = {*written, *_SEPARATORS}
        return TOKEN_LM if fits and 2 * sum(word in units for word in lm.words) >= len(lm.words) else WORD_LM
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
        names = (label, *_SEPARATORS) if boundary and not text else () if label in NO_WORDS else (label,)
        ids.append(next((lm.word_id(name) for name in names if lm.word_id(name) != 0), 0))
    return np.array(ids, np.int32)
