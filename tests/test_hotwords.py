"""The hotword automaton: what a text is given for its phrases, and how much room it takes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr.decode import BeamDecoder, NGram
from asr.decode.hotwords import OTHER, WORD_END, Hotwords, build_hotwords
from asr.decoder_files import read_hotwords
from asr.errors import DecodeError
from peaky import LABELS, VOCABULARY, write_arpa
from random_ctc import random_log_probs


def bonus(hot: Hotwords, text: str) -> float:
    """What a finished text is given, step by step through its words and their ends."""
    states, state, total = hot.states, hot.first, 0.0
    for character in text + " ":
        symbol = WORD_END if character == " " else hot.alphabet.get(character, OTHER)
        owed = states["owed"][state]
        while True:
            children = range(states["child"][state], states["child"][state + 1])
            after = [child for child in children if states["symbol"][child] == symbol]
            if after or state == 0:
                break
            state = states["failure"][state]
        state = after[0] if after else 0
        total += float(states["complete"][state] + states["owed"][state] - owed)
    return total - float(states["owed"][state])


def occurrences(phrase: str, words: list[str]) -> int:
    wanted = phrase.split()
    return sum(words[place : place + len(wanted)] == wanted for place in range(len(words)))


def test_each_occurrence_as_whole_words() -> None:
    phrases = {"ab": 1.0, "ab cd": 4.0, "cd ab": -2.0, "b": 0.5, "cd": 0.25}
    hot = build_hotwords(phrases)
    rng = np.random.default_rng(0)
    for _ in range(200):
        words = rng.choice(["ab", "cd", "b", "abc", "x"], int(rng.integers(1, 7))).tolist()
        wanted = sum(weight * occurrences(phrase, words) for phrase, weight in phrases.items())
        assert bonus(hot, " ".join(words)) == pytest.approx(wanted)


def test_a_list_of_phrases_has_the_weight_that_files_leave_out(tmp_path: Path) -> None:
    (tmp_path / "hotwords").write_text("ab\ncd ab\n")
    batch = [random_log_probs(np.random.default_rng(1), 20, len(LABELS))]
    listed = BeamDecoder(LABELS, hotwords=["ab", "cd ab"])(batch, n_best=5)
    assert listed == BeamDecoder(LABELS, hotwords=read_hotwords(tmp_path / "hotwords", VOCABULARY))(batch, n_best=5)
    assert listed != BeamDecoder(LABELS)(batch, n_best=5)


def test_a_phrase_that_no_label_writes() -> None:
    with pytest.raises(
        DecodeError, match=r"hotwords: phrase 'New York' cannot be matched: no label writes \['N', 'Y'\]"
    ):
        BeamDecoder(["_", " ", *"ekorwy"], hotwords={"york": 1.0, "New York": 5.0})


def test_a_phrase_of_words_that_the_lexicon_lacks() -> None:
    with pytest.raises(DecodeError, match=r"hotwords: phrase 'york new': the lexicon has no word 'new'"):
        BeamDecoder(["_", " ", *"eknorwy"], lexicon=["york"], hotwords={"york new": 1.0})


def test_thousands_of_phrases_in_a_large_alphabet_take_little_room() -> None:
    rng = np.random.default_rng(1)
    characters = [chr(0x4E00 + number) for number in range(1000)]
    phrases = {"".join(rng.choice(characters, 5)): 5.0 for _ in range(1000)}
    hot = build_hotwords(phrases)
    assert len(hot.alphabet) > 900
    assert hot.states.nbytes < 500_000
    said = list(phrases)[123]
    labels = ["_", " ", *characters]
    probs = np.full((5, len(labels)), 1e-5)
    probs[np.arange(5), [labels.index(character) for character in said]] = 0.4
    probs[np.arange(5), rng.integers(2, 1002, 5)] += 0.5  # something else is likelier
    [[found]] = BeamDecoder(labels, hotwords=phrases)([np.log(probs / probs.sum(1, keepdims=True))])
    assert found.text == said


@pytest.mark.parametrize("lm", [False, True])
def test_a_lexicon_that_spells_in_letters_is_one_of_words(tmp_path: Path, lm: bool) -> None:
    """Phrases known by their labels are given what phrases known by their characters are."""
    words = ["ab", "ba", "abba", "a", "dab"]
    model = NGram.load(write_arpa(tmp_path / "lm.arpa", [(-1.0 - place, word) for place, word in enumerate(words)]))
    options: dict[str, Any] = {
        "hotwords": {"ab ba": 3.0, "abba": -2.0, "dab": 1.5},
        "n_best": 5,
        "lm": model if lm else None,
    }
    by_characters = BeamDecoder(LABELS, lexicon=words, **options)
    by_labels = BeamDecoder(LABELS, lexicon={word: [list(word)] for word in words}, **options)
    rows = [random_log_probs(np.random.default_rng(seed), 12, len(LABELS)) for seed in range(20)]
    for wanted, found in zip(by_characters(rows), by_labels(rows), strict=True):
        assert [one.text for one in found] == [one.text for one in wanted]
        assert [one.score for one in found] == pytest.approx([one.score for one in wanted])


def test_words_of_phones_by_any_of_their_pronunciations() -> None:
    labels = ["_", " ", "T", "UW", "IY", "DH"]
    lexicon = {"two": [["T", "UW"]], "tea": [["T", "IY"]], "the": [["DH", "UW"], ["DH", "IY"]]}
    rows = np.full((9, 6), 1e-6)
    rows[[1, 3, 5, 7], 0] = 1.0
    rows[0, 5] = rows[4, 1] = rows[6, 2] = 1.0
    rows[2, [4, 3]] = rows[8, [4, 3]] = 0.6, 0.4  # the vowels
    log_probs = np.log(rows / rows.sum(1, keepdims=True))
    assert [one.text for one in BeamDecoder(labels, lexicon=lexicon)([log_probs])[0]] == ["the tea"]
    decoder = BeamDecoder(labels, lexicon=lexicon, hotwords={"the two": 2.0, "tea the": 9.0})
    [[found]] = decoder([log_probs])
    assert found.text == "the two"
    stream = decoder.stream()
    for row in log_probs:
        stream.accept(row[None])
    assert stream.finish() == [found]
    assert found.lm_score == pytest.approx(2.0)
