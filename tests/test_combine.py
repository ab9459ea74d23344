"""Hypotheses of several models as one: the text with the fewest expected word errors."""

import json
from pathlib import Path

import numpy as np
import pytest

from asr.cli import main
from asr.combine import combine
from asr.decode import BeamDecoder, Hypothesis
from asr.emissions import Emissions, Vocabulary, write_emissions
from peaky import spelled, write_spelled
from tiny_run import error_line

Capture = pytest.CaptureFixture[str]
WORDS = ("_", "▁a", "▁b", "▁c", "▁d")  # a label a word


def choices(*rows: dict[str, float]) -> np.ndarray:
    """(2 T - 1, V) log-probabilities of words one after the other, surely a blank between two."""
    found = np.full((2 * len(rows) - 1, len(WORDS)), 1e-12)
    found[1::2, 0] = 1
    for place, row in enumerate(rows):
        for word, probability in row.items():
            found[2 * place, WORDS.index(word.replace("_", "▁") if len(word) > 1 else word)] = probability
    return np.log(found / found.sum(axis=1, keepdims=True))


def heard(*rows: dict[str, float]) -> list[Hypothesis]:
    return BeamDecoder(WORDS, space="▁", frame_s=0.1, confidence_scale=1)([choices(*rows)], n_best=20)[0]


def test_the_least_risk_is_not_the_likeliest_text() -> None:
    """Nobody holds "a b" likeliest, from which both of the others differ by a word."""
    first = heard({"_a": 0.6, "_c": 0.4}, {"_d": 0.6, "_b": 0.4})  # a d .36, c d .24, a b .24, c b .16
    second = heard({"_c": 0.55, "_a": 0.45}, {"_b": 0.9, "_d": 0.1})  # c b .495, a b .405, c d .055, a d .045
    assert (first[0].text, second[0].text) == ("a d", "c b")
    best, *others = combine([first, second])
    # Errors expected of the first word: 1 - .525 for a, 1 - .475 for c; of the second 1 - .65 for b, 1 - .35 for d.
    assert [best.text, *(one.text for one in others)] == ["a b", "c b", "a d", "c d"]
    assert best.confidence == pytest.approx((0.24 + 0.405) / 2, abs=1e-4)
    assert [word.confidence for word in best.words] == pytest.approx([0.525, 0.65], abs=1e-4)


def test_of_one_model() -> None:
    """Its own probabilities, over its hypotheses."""
    rows = {"_a": 0.7, "_": 0.3}, {"_b": 0.8, "_": 0.2}
    best = combine([heard(*rows)])[0]
    assert best.text == "a b"
    assert best.confidence == pytest.approx(0.56, abs=1e-4)
    assert [word.confidence for word in best.words] == pytest.approx([0.7, 0.8], abs=1e-4)


def test_models_count_alike_however_little_of_their_beams_is_given() -> None:
    sure, unsure = heard({"_a": 0.9, "_b": 0.1}), heard({"_c": 0.4, "_a": 0.3, "_b": 0.2, "_d": 0.1})[:2]
    of_text = {one.text: one.confidence for one in combine([sure, unsure])}
    assert of_text == pytest.approx({"a": (0.9 + 0.3 / 0.7) / 2, "b": 0.05, "c": 0.4 / 0.7 / 2}, abs=1e-4)


def test_words_line_up_where_some_are_missing() -> None:
    """What agrees is found by the fewest edits: the "b" behind a deleted word is the same "b"."""
    best = combine([heard({"_a": 0.5, "_": 0.5}, {"_b": 1.0}), heard({"_a": 1.0}, {"_b": 1.0})])[0]
    assert best.text == "a b"
    assert [word.confidence for word in best.words] == pytest.approx([0.75, 1.0], abs=1e-4)


def test_times_and_scores_are_of_the_model_that_is_surest() -> None:
    sure = heard({"_a": 0.9, "_b": 0.1})
    unsure = heard({"_": 1.0}, {"_a": 0.6, "_b": 0.4})
    for lists in ([sure, unsure], [unsure, sure]):
        best = combine(lists)[0]
        assert best.confidence == pytest.approx(0.75, abs=1e-4)
        assert best.words[0].start_s == 0
        assert best.score == sure[0].score


def test_a_text_that_is_spelled_in_several_ways() -> None:
    """Its spellings count together, and the best one is shown."""
    labels = ("_", "▁a", "b", "▁ab")
    rows = np.full((3, 4), 1e-12)
    rows[0, [1, 3]] = 0.55, 0.45  # "a", then "b" (0.55 of all), or "ab" as one
    rows[1, [0, 2]] = 0.4, 0.6
    rows[2, [0]] = 1
    several = BeamDecoder(labels, space="▁")([np.log(rows)], n_best=20)[0]
    texts = [one.text for one in several]
    assert texts.count("ab") == 2
    late = np.vstack([choices({"_": 1.0}), np.log(np.array([[0.5, 0.5, 1e-12, 1e-12, 1e-12]]))])
    best = combine([several, BeamDecoder(("_", "▁ab", "▁b", "▁c", "▁d"), space="▁")([late], n_best=20)[0]])[0]
    assert best.text == "ab"
    assert best.confidence == pytest.approx(
        (sum(one.confidence for one in several if one.text == "ab") + 0.5) / 2, abs=0.03
    )
    assert best.score == next(one.score for one in several if one.text == "ab")


@pytest.mark.parametrize("label", ["new york", "new\u00a0york", "new\u3000york"])
def test_labels_with_white_space_in_them(label: str) -> None:
    found = BeamDecoder(("_", label, "b"), space="")([np.log([[0.1, 0.8, 0.1]])], n_best=5)[0]
    best = combine([found])[0]
    assert best.text == found[0].text
    assert [word.text for word in best.words] == [label]


def test_silence_for_all() -> None:
    best = combine([heard({"_": 1.0}), heard({"_": 1.0}, {"_": 1.0})])[0]
    assert best.text == ""
    assert best.words == ()
    assert best.confidence == pytest.approx(1.0)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A model of letters that hears "ab" or "cb", and one of words, on frames half as long, that is sure of "cb"."""
    letters = write_spelled(tmp_path / "letters.npz", {"u": spelled("ab", instead={0: "c"})}, {"u": "cb"})
    words = tmp_path / "words.npz"
    rows = np.log(np.array([[0.05, 0.05, 0.9], [0.9, 0.05, 0.05]], np.float32))
    write_emissions(words, Emissions(Vocabulary(("_", "▁ab", "▁cb"), 0, "▁", 0.02), {"u": rows}, {}))
    return letters, words


def test_decode_takes_models_of_any_labels(capsys: Capture, files: tuple[Path, Path]) -> None:
    given = [str(path) for path in files]
    line = error_line(capsys, "decode", *files)
    assert "differ in labels" in line
    assert "--combine mbr" in line
    assert main(["decode", *given, "--combine", "mbr", "--decoder", "beam", "--format", "json", "--n-best", "2"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert [one["text"] for one in facts["alternatives"]] == ["cb", "ab"]
    assert facts["text"] == "cb"
    confidence = facts["alternatives"][0]["confidence"]
    assert 0.4 < confidence < 0.68  # of which 0.45 and 0.9 are the mean, but for what else may be heard
    assert facts["words"][0]["probability"] > confidence
    assert err.startswith("WER 0.00% [0 / 1, ")
    assert main(["decode", *reversed(given), "--combine", "mbr"]) == 0  # which takes the beam, unless greedy is wanted
    out, err = capsys.readouterr()
    assert out == "u\tcb\n"
    assert err.startswith("WER ")  # the references of the second
    line = error_line(capsys, "decode", *files, "--combine", "mbr", "--decoder", "greedy")
    assert "--combine mbr needs --decoder beam" in line
    line = error_line(capsys, "decode", *files, "--combine", "mbr", "--labels", files[0].with_suffix(".json"))
    assert "--labels describes one model" in line


def test_the_number_shown_changes_nothing(capsys: Capture, files: tuple[Path, Path]) -> None:
    shown = []
    for count in ("1", "2", "40"):
        assert main(["decode", *map(str, files), "--combine", "mbr", "--format", "json", "--n-best", count]) == 0
        facts = json.loads(capsys.readouterr().out)
        facts["alternatives"] = facts["alternatives"][:1]
        shown.append(facts)
    assert shown[0] == shown[1] == shown[2]


def test_utterances_must_be_the_same(capsys: Capture, tmp_path: Path, files: tuple[Path, Path]) -> None:
    other = write_spelled(tmp_path / "other.npz", {"v": spelled("ab")})
    assert "utterance u is in only one of this file and" in error_line(
        capsys, "decode", files[0], other, "--combine", "mbr"
    )
    said = write_spelled(tmp_path / "said.npz", {"u": spelled("ab")}, {"u": "ab"})
    line = error_line(capsys, "decode", files[0], said, "--combine", "mbr")
    assert "said.npz: utterance u: its reference is not that of" in line
