"""What a decoder says of a language model whose words or unit do not fit its labels."""

import logging
from pathlib import Path

import pytest

from asr.decode import BeamDecoder, NGram
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
