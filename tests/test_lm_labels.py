"""What a decoder says of a language model whose words or unit do not fit its labels."""

import logging
import math
from pathlib import Path

import numpy as np
import pytest

from asr.decode import BeamDecoder, NGram
from asr.decode.compose import LmUnit
from asr.decode.scoring import TOKEN_LM, WORD_LM
from asr.errors import DecodeError
from asr.lm import estimate, write_arpa
from asr.lm.text import Unit


def model_of(folder: Path, text: str, unit: Unit = "word") -> NGram:
    write_arpa(estimate([text], 2, unit=unit), folder / "lm.arpa")
    return NGram.load(folder / "lm.arpa")


@pytest.mark.parametrize(
    ("labels", "text", "said"),
    [
        ("AB", "ab ba b AB", "3 of 4 words cannot be spelled with these labels, e.g. 'ab': the labels are capitals"),
        (
            "ab",
            "AB BA aB ab",
            "3 of 4 words cannot be spelled with these labels, e.g. 'AB': the labels are small letters",
        ),
        ("ab", "ab cd ef", "2 of 3 words cannot be spelled with these labels, e.g. 'cd'"),
    ],
)
def test_words_that_cannot_be_spelled_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, labels: str, text: str, said: str
) -> None:
    lm = model_of(tmp_path, text)
    with caplog.at_level(logging.WARNING, "asr.decode"):
        for _ in range(3):
            BeamDecoder(["_", " ", *labels], lm=lm, lm_unit="word")
    assert [message for message in caplog.messages if "spelled" in message] == [f"language model: {said}"]


@pytest.mark.parametrize(
    ("labels", "known", "text", "advice"),
    [
        ("AB", "AB", "ab", ": the labels are capitals; make the model from text in capitals, or write the labels in s"),
        ("ab", "ab", "AB", ": the labels are small letters; make the model from text in small letters, or write the "),
        ("ab", "ab", "cd", "; is it of another unit (lm_unit), or of text that was not normalised (`asr lm train --n"),
    ],
)
def test_a_model_of_which_hardly_a_word_is_spelled_is_refused(
    tmp_path: Path, labels: str, known: str, text: str, advice: str
) -> None:
    others = [text * count for count in range(1, 11)]
    nine = model_of(tmp_path, " ".join([known, *others[:9]]))
    BeamDecoder(["_", " ", *labels], lm=nine, lm_unit="word")  # a tenth, which is warned of
    ten = model_of(tmp_path, " ".join([known, *others]))
    with pytest.raises(DecodeError) as raised:
        BeamDecoder(["_", " ", *labels], lm=ten, lm_unit="word")
    said = f"language model: 10 of 11 words cannot be spelled with these labels, e.g. {text!r}{advice}"
    assert str(raised.value).startswith(said)
    BeamDecoder(["_", " ", *labels], lm=ten, lm_unit="word", lexicon=[known])


def test_half_of_the_words_is_enough(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    BeamDecoder(["_", " ", "a", "b"], lm=model_of(tmp_path, "ab cd"), lm_unit="word")
    BeamDecoder(["_", " ", "a", "b"], lm=model_of(tmp_path, "ab cd ef"), lm_unit="word", lexicon=["ab"])
    assert not [message for message in caplog.messages if "spelled" in message]


def test_a_model_of_characters_is_none_of_words(tmp_path: Path) -> None:
    lm = model_of(tmp_path, "ab ba", "char")
    with pytest.raises(DecodeError, match="language model: lm_unit=word, but it states unit=char"):
        BeamDecoder(["_", " ", "a", "b"], lm=lm, lm_unit="word")
    with pytest.raises(DecodeError, match="language model: it states unit=char, but it knows 1 of 3 labels"):
        BeamDecoder(["_", " ", "a", "ab", "abb"], lm=lm)
    BeamDecoder(["_", " ", "a", "b"], lm=lm)


def test_a_model_of_words_may_know_all_letters_and_a_bar(tmp_path: Path) -> None:
    kinds = []
    for text in ("a b | a b", "a b ab ba aab bba bab | abb"):
        decoder = BeamDecoder(["_", " ", "a", "b"], lm=model_of(tmp_path, text))
        kinds.append(decoder._scorer.rules["kind"][0])
    assert kinds == [TOKEN_LM, WORD_LM]


def test_pieces_that_begin_words_need_no_mark_alone(tmp_path: Path) -> None:
    """sentencepiece has it as a label, and writes it in few texts."""
    labels = ["_", "\u2581", "\u2581a", "b", "\u2581b"]
    decoder = BeamDecoder(labels, space="\u2581", lm=model_of(tmp_path, "\u2581a b \u2581b b \u2581a \u2581b"))
    assert decoder._scorer.rules["kind"][0] == TOKEN_LM


def test_labels_and_words_that_look_like_sentence_marks_are_unknown(tmp_path: Path) -> None:
    lm = model_of(tmp_path, "a b | a b")
    labels = ["_", "|", "<s>", "</s>", "a", "b"]
    decoder = BeamDecoder(labels, space="|", lm=lm, lm_unit="token", alpha=1.0, beta=0.0, beam_threshold=-99.0)
    scores = []
    for label in (2, 3):
        [[found]] = decoder([np.log(np.full((1, 6), 1e-9) + (1 - 6e-9) * np.eye(6)[[label]])])
        assert found.tokens == (label,)
        scores.append(found.lm_score)
    assert scores == pytest.approx([math.log(10) * lm.score(["unheard"]) - 5.0] * 2)
    decoder = BeamDecoder(["_", " ", "<s>", "a"], lm=lm, lm_unit="word", lexicon=["<s>", "a"], beta=0.0)
    with np.errstate(divide="ignore"):
        [[found]] = decoder([np.log(np.eye(4)[[2]])])
    assert found.lm_score == pytest.approx(0.5 * (math.log(10) * lm.score(["unheard"]) - 5.0))


@pytest.mark.parametrize("unit", ["word", "token"])
def test_what_is_all_but_impossible_can_still_be_all_there_is(tmp_path: Path, unit: LmUnit) -> None:
    lm = model_of(tmp_path, "bb a" if unit == "word" else "b b | b")
    decoder = BeamDecoder(["_", " ", "a", "b"], lm=lm, lm_unit=unit, alpha=10.0, beta=0.0, unknown_offset=-1000.0)
    with np.errstate(divide="ignore"):
        rows = np.log(np.eye(4)[[2, 2, 0, 3]])  # "ab", and nothing else
    [[found]] = decoder([rows])
    assert found.text == "ab"
    [[found]] = decoder([np.log(np.full((6, 4), 0.25))], prefix="ab ")
    assert found.text.startswith("ab")
