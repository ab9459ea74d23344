"""Confidences against what turned out to be right."""

import json
from pathlib import Path

import numpy as np
import pytest

from asr import calibration
from asr.calibration import Bin, calibrate, judge, read_words, write_words
from asr.decode import Word
from asr.errors import ScoringError
from asr.hypotheses import Result
from asr.wer import score


def test_expected_calibration_error_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "BINS", 2)
    found = calibrate([0.9, 0.2, 0.4, 0.7], [True, False, True, False])
    assert found.bins == (Bin(2, pytest.approx(0.3), 0.5), Bin(2, pytest.approx(0.8), 0.5))
    assert found.error == pytest.approx((0.2 + 0.3) / 2)


def test_bins_of_unequal_size_count_by_their_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [row.words for row in calibrate([0.5] * 3, [True] * 3).bins] == [1, 1, 1]
    monkeypatch.setattr(calibration, "BINS", 2)
    found = calibrate([0.1, 0.2, 0.9], [False, False, False])
    assert [row.words for row in found.bins] == [2, 1]
    assert found.error == pytest.approx((2 * 0.15 + 0.9) / 3)


def test_confidences_that_are_probabilities_have_no_error() -> None:
    rng = np.random.default_rng(0)
    claimed = rng.uniform(size=50_000)
    right = rng.uniform(size=50_000) < claimed
    assert calibrate(claimed, right).error < 0.01
    assert calibrate(claimed, ~right).error > 0.4


def words(text: str, *confidences: float) -> list[Word]:
    return [Word(word, 0.0, 1.0, value) for word, value in zip(text.split(), confidences, strict=True)]


SCORED = score(
    [
        Result("u1", None, "the cat sat", "a cat sat on", 1.0),
        Result("u2", None, "yes", "", 1.0),
    ]
).utterances


def test_judge() -> None:
    found = {"u1": words("a cat sat on", 0.1, 0.9, 0.8, 0.3), "u2": []}
    assert judge(SCORED, found) == ([0.1, 0.9, 0.8, 0.3], [False, True, True, False])


def test_words_of_another_hypothesis() -> None:
    with pytest.raises(
        ScoringError, match=r"^utterance 'u1': its words are 'a cat', its hypothesis is 'a cat sat on'$"
    ):
        judge(SCORED, {"u1": words("a cat", 1, 1), "u2": []})
    with pytest.raises(ScoringError, match=r"^utterance 'u2': its words are none, its hypothesis is ''$"):
        judge(SCORED, {"u1": words("a cat sat on", 1, 1, 1, 1)})


def test_words_are_read_as_they_were_written(tmp_path: Path) -> None:
    found = {"u\u2028 1": words("a é", 0.25, 1.0), "u2": []}
    write_words(tmp_path / "words.jsonl", found)
    assert read_words(tmp_path / "words.jsonl") == found


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"id": "u"}',
        '{"id": "u", "words": [{"word": "a"}]}',
        '{"id": "u", "words": [{"word": "a", "start": 0, "end": 1, "probability": 1.5}]}',
        '{"id": "u", "words": [{"word": "a", "start": 0, "end": 1, "probability": NaN}]}',
        '{"id": "u", "words": [{"word": 3, "start": 0, "end": 1, "probability": 1}]}',
        '{"id": "u", "words": [{"word": "a", "start": 0, "end": 1, "probability": "1"}]}',
    ],
)
def test_damaged_words(tmp_path: Path, line: str) -> None:
    path = tmp_path / "words.jsonl"
    path.write_text(json.dumps({"id": "v", "words": []}) + f"\n\n{line}\n")
    with pytest.raises(ScoringError) as caught:
        read_words(path)
    assert str(caught.value).startswith(f"{path}:3: not a record of words: ")


def test_words_of_an_earlier_version(tmp_path: Path) -> None:
    path = tmp_path / "words.jsonl"
    word = {"word": "a", "start_s": 0.0, "end_s": 1.0, "confidence": 0.5}
    path.write_text(json.dumps({"id": "u", "words": [word]}) + "\n")
    with pytest.raises(
        ScoringError, match=r"words\.jsonl:1: is of an earlier version of asr: asr evaluate makes it anew$"
    ):
        read_words(path)


def test_no_words(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match=r"words\.jsonl: cannot read words: No such file or directory$"):
        read_words(tmp_path / "words.jsonl")
    (tmp_path / "words.jsonl").write_bytes(b"\xff")
    with pytest.raises(ScoringError, match=r"words\.jsonl: not UTF-8 text \(byte 0\): save it as UTF-8$"):
        read_words(tmp_path / "words.jsonl")
