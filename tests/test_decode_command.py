"""`asr decode`: log-probabilities of any model to text, without torch."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asr.cli import main
from asr.decode import Word
from asr.writers import FORMATS, SUFFIXES, Format, render
from conftest import ROOT
from peaky import LABELS, spelled, write_arpa, write_spelled
from recognised import transcript
from tiny_run import error_line

Capture = pytest.CaptureFixture[str]
REFS = {"u1": "cb", "u0": "ab h"}


@pytest.fixture
def emissions(tmp_path: Path) -> Path:
    """Greedy reads "ab" for "cb"."""
    rows = {"u1": spelled("ab", instead={0: "c"}), "u0": spelled("ab h")}
    return write_spelled(tmp_path / "e.npz", rows, REFS)


@pytest.fixture
def lm(tmp_path: Path) -> Path:
    return write_arpa(tmp_path / "lm.arpa", [(-2.0, "ab"), (-0.5, "cb"), (-2.0, "h")])


def test_greedy_then_with_a_language_model(capsys: Capture, emissions: Path, lm: Path) -> None:
    assert main(["decode", str(emissions)]) == 0
    out, err = capsys.readouterr()
    assert out == "u1\tab\nu0\tab h\n"
    assert err.startswith("WER 33.33% [1 / 3, 0 ins, 0 del, 1 sub] ")
    assert main(["decode", str(emissions), "--lm", str(lm), "--alpha", "0.5"]) == 0
    out, err = capsys.readouterr()
    assert out == "u1\tcb\nu0\tab h\n"
    assert err.startswith("WER 0.00% [0 / 3, 0 ins, 0 del, 0 sub] ")
    assert len(err.splitlines()) == 1


def test_references_are_words_whatever_the_white_space(capsys: Capture, tmp_path: Path) -> None:
    rows = {"u1": spelled("ab"), "u0": spelled("ab h")}
    emissions = write_spelled(tmp_path / "e.npz", rows, {"u1": " ab\n", "u0": "ab\u00a0\th"})
    assert main(["decode", str(emissions)]) == 0
    assert capsys.readouterr().err.startswith("WER 0.00% [0 / 3, ")


def test_models_of_which_one_has_no_times(capsys: Capture, emissions: Path, tmp_path: Path) -> None:
    other = write_spelled(tmp_path / "other.npz", {"u1": spelled("ab"), "u0": spelled("ab h")}, REFS)
    facts = json.loads(other.with_suffix(".json").read_text())
    del facts["frame_s"]
    other.with_suffix(".json").write_text(json.dumps(facts))
    for order in ((emissions, other), (other, emissions)):
        line = error_line(capsys, "decode", *order, "--combine", "mbr", "--format", "ctm")
        assert line == f"error: {other}: does not say how long a frame is, as the others do: frame_s in its JSON does"


def test_without_what_scores(capsys: Capture, emissions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the decoder was installed alone: numpy and numba."""
    monkeypatch.setitem(sys.modules, "jiwer", None)
    assert main(["decode", str(emissions)]) == 0
    out, err = capsys.readouterr()
    assert out == "u1\tab\nu0\tab h\n"
    (line,) = err.splitlines()
    assert line.startswith("note: not scored against the references, which needs the package jiwer: pip install jiwer")


def test_json(capsys: Capture, emissions: Path) -> None:
    assert main(["decode", str(emissions), "--format", "json", "--n-best", "2"]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["id"], second["id"]) == ("u1", "u0")
    assert [item["text"] for item in first["alternatives"]] == ["ab", "cb"]
    assert first["confidence"] == first["words"][0]["probability"]
    assert [(word["word"], word["start"]) for word in second["words"]] == [("ab", 0.0), ("h", 0.24)]
    as_transcribed = transcript([Word("ab", 0.0, 0.1, 1.0)], 1.0).as_json()
    assert list(first) == ["id", "text", "confidence", "words", "alternatives"]
    for mine, others in (
        (first["words"], as_transcribed["segments"][0]["words"]),
        (first["alternatives"], as_transcribed["alternatives"]),
    ):
        assert list(mine[0]) == list(others[0])


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_for_each_utterance(capsys: Capture, tmp_path: Path, format: Format) -> None:
    path = write_spelled(tmp_path / "e.npz", {"u1": spelled("ab h"), ".a/b": spelled("cd")})
    command = ["decode", str(path), "--format", format.upper(), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert capsys.readouterr().out == ""
    files = [tmp_path / "out" / f"{name}{SUFFIXES[format]}" for name in ("%2Ea%2Fb", "u1")]
    assert sorted((tmp_path / "out").iterdir()) == files
    text = files[1].read_text()
    if format == "json":
        assert json.loads(text)["id"] == "u1"
    else:  # words begin and end with their labels
        words = [Word("ab", 0.0, 0.12, 1.0), Word("h", 0.24, 0.28, 1.0)]
        expected = render(transcript(words, 0.32, "u1"), format)
        assert re.sub(r"[01]\.\d{4}$", "1.0000", text, flags=re.MULTILINE) == expected  # confidences of CTM
    files[0].unlink()
    assert "1 of 2 files to write exist already, such as" in error_line(capsys, *command)
    assert main([*command, "--overwrite"]) == 0
    assert files[0].exists()


def test_what_may_follow_one_another(capsys: Capture, emissions: Path, tmp_path: Path) -> None:
    assert main(["decode", str(emissions), "--format", "ctm"]) == 0
    assert [line.split()[:5] for line in capsys.readouterr().out.splitlines()] == [
        ["u1", "1", "0.000", "0.120", "ab"],
        ["u0", "1", "0.000", "0.120", "ab"],
        ["u0", "1", "0.240", "0.040", "h"],
    ]
    line = error_line(capsys, "decode", emissions, "--format", "srt")
    assert line == (
        "error: 2 utterances in one stream of srt could not be told apart: --out DIR writes a file for each"
    )
    alone = write_spelled(tmp_path / "alone.npz", {"u": spelled("ab")})
    assert main(["decode", str(alone), "--format", "srt"]) == 0
    assert capsys.readouterr().out == "1\n00:00:00,000 --> 00:00:00,160\nab\n"
    alike = write_spelled(tmp_path / "alike.npz", {"a b": spelled("ab"), "a_b": spelled("ab")})
    line = error_line(capsys, "decode", alike, "--format", "ctm")
    assert line.startswith("error: two utterances would be called a_b in one CTM file: --out DIR")


def test_times_need_the_length_of_a_frame(capsys: Capture, tmp_path: Path) -> None:
    np.save(tmp_path / "talk.npy", spelled("ab"))
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(label.replace(" ", "<space>") for label in LABELS))
    command = ["decode", str(tmp_path / "talk.npy"), "--labels", str(labels)]
    assert main(command) == 0
    assert capsys.readouterr().out == "talk\tab\n"
    line = error_line(capsys, *command, "--format", "vtt")
    assert line.startswith("error: --format vtt has times, and nothing says how long a frame is: give --frame-s")
    assert main([*command, "--format", "vtt", "--frame-s", "0.5"]) == 0
    assert capsys.readouterr().out == "WEBVTT\n\n00:00:00.000 --> 00:00:01.800\nab\n"


def test_labels_from_elsewhere(capsys: Capture, tmp_path: Path) -> None:
    """As a model of HuggingFace's has them: blank last, and a bar for the space."""
    order = [*range(1, len(LABELS)), 0]
    np.savez(tmp_path / "e.npz", u=spelled("ab h")[:, order])
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join("|" if LABELS[place] == " " else LABELS[place] for place in order) + "\n")
    command = ["decode", str(tmp_path / "e.npz"), "--labels", str(labels), "--space", "|"]
    for blank in ("9", "-1", LABELS[0]):
        assert main([*command, "--blank", blank, "--frame-s", "0.5", "--format", "json"]) == 0
        out, err = capsys.readouterr()
        assert err == ""  # no reference, no error rate
        assert json.loads(out)["text"] == "ab h"
        assert json.loads(out)["words"][1]["start"] == 3.0
    line = error_line(capsys, *command, "--blank", "<pad>")
    assert line == f"error: {labels}: blank '<pad>' is none of the 10 labels"


def test_the_vocabulary_of_huggingface(capsys: Capture, tmp_path: Path) -> None:
    """vocab.json gives the column of each label, in any order."""
    order = [*range(1, len(LABELS)), 0]
    np.savez(tmp_path / "e.npz", u=spelled("ab h")[:, order])
    names = [{" ": "|", LABELS[0]: "<pad>"}.get(LABELS[place], LABELS[place]) for place in order]
    labels = tmp_path / "vocab.json"
    labels.write_text(json.dumps(dict(sorted((name, column) for column, name in enumerate(names)))))
    command = ["decode", str(tmp_path / "e.npz"), "--labels", str(labels)]
    assert main([*command, "--frame-s", "0.5"]) == 0
    assert capsys.readouterr().out == "u\tab h\n"
    labels.write_text(json.dumps({{"<pad>": "[PAD]"}.get(name, name): column for column, name in enumerate(names)}))
    assert main(command) == 0
    assert capsys.readouterr().out == "u\tab h\n"
    labels.write_text(json.dumps({{"<pad>": "?"}.get(name, name): column for column, name in enumerate(names)}))
    assert "which label is the blank? --blank says so" in error_line(capsys, *command)
    assert main([*command, "--blank", "9"]) == 0
    assert capsys.readouterr().out == "u\tab h\n"
    for damaged in ({"a": 0, "b": 2}, {"a": 0, "b": 0}, {"a": 0, "b": "x"}):
        labels.write_text(json.dumps(damaged))
        line = error_line(capsys, *command)
        assert line == f"error: {labels}: wanted labels, or the column of each label, from 0 to 1"


def test_json_of_another_name(capsys: Capture, emissions: Path) -> None:
    moved = emissions.with_suffix(".json").rename(emissions.parent / "meaning.json")
    assert main(["decode", str(emissions), "--labels", str(moved)]) == 0
    assert capsys.readouterr().out.startswith("u1\tab\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--blank", "0"], "--blank goes with --labels that are labels alone; this JSON states its own"),
        (["--labels", "none.txt"], "none.txt: cannot read labels: No such file or directory"),
        (["--labels", "{labels}", "--blank", "10"], "{labels}: blank=10 is outside the vocabulary of 10 labels"),
        (
            ["--labels", "{labels}", "--space", "|"],
            "{labels}: space '|' is none of the 10 labels and none begins with it",
        ),
        (["--labels", "{labels}", "--frame-s", "0"], "{labels}: frame_s must be positive, found 0"),
        (["--beta", "1"], "--beta does nothing without a language model: give --lm FILE"),
        (["--lm", "{labels}"], "{labels}: not an ARPA language model"),
        (["--n-best", "2"], "--n-best above 1 needs --format json"),
        (["--overwrite"], "--overwrite goes with --out DIR"),
        (["--out", "{labels}"], "{labels}: is a file, wanted a folder"),
    ],
)
def test_flags_that_cannot_be(capsys: Capture, emissions: Path, flags: list[str], message: str) -> None:
    labels = emissions.parent / "labels.txt"
    labels.write_text("\n".join(label.replace(" ", "<space>") for label in LABELS))
    given = [flag.format(labels=labels) for flag in flags]
    line = error_line(capsys, "decode", emissions, *given)
    assert line.startswith(f"error: {message.format(labels=labels)}")


def test_no_torch(emissions: Path, lm: Path) -> None:
    program = (
        "import sys; from asr.cli import main; code = main(sys.argv[1:]); "
        "print({'torch', 'torchaudio', 'omegaconf'} & set(sys.modules), code, file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, "decode", str(emissions), "--lm", str(lm)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stderr.splitlines()[-1] == "set() 0", done.stderr


def test_without_the_json(capsys: Capture, emissions: Path) -> None:
    emissions.with_suffix(".json").unlink()
    line = error_line(capsys, "decode", emissions)
    assert line.startswith(f"error: {emissions.with_suffix('.json')}: is missing; it says what the columns of ")
    assert "give --labels with one label a line, or vocab.json" in line
    emissions.unlink()
    assert "e.npz: cannot be read" in error_line(capsys, "decode", emissions)


def test_an_id_is_a_part_of_one_line(capsys: Capture, tmp_path: Path) -> None:
    path = write_spelled(tmp_path / "e.npz", {"new\nline": spelled("ab"), "t\tab": spelled("cd")}, {})
    assert main(["decode", str(path)]) == 0
    assert capsys.readouterr().out == "new\\nline\tab\nt\\tab\tcd\n"


def test_a_batch_in_one_array(capsys: Capture, emissions: Path) -> None:
    np.savez(emissions, np.stack([spelled("ab"), spelled("cd")]))
    line = error_line(capsys, "decode", emissions)
    assert "utterance arr_0: is a batch of shape (2, 4, 10), wanted a matrix (T, V) per utterance: numpy.savez(" in line
