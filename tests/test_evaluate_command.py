"""`asr evaluate` and `asr compare`: what is printed, written and refused."""

import errno
import json
import os
from pathlib import Path

import pytest

from asr.cli import main
from asr.hypotheses import read_hypotheses
from tiny_run import error_line, save_run, succeed, write_texts

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


def test_evaluate(capsys: Capture, run: Path, tmp_path: Path) -> None:
    manifest = write_texts(tmp_path / "m.jsonl", "Abc, abc!", "a b c", "xyz")
    recognised = succeed(capsys, "transcribe", tmp_path / "a.wav", "--model", run)[0].rstrip("\n").split("\t")[1]
    out, err = succeed(capsys, "evaluate", manifest, "--model", run, "--out", tmp_path / "out")
    assert out.startswith("WER ")
    assert " / 6, " in out  # words of the references
    assert len(out.splitlines()) == 1
    assert err == f"{tmp_path / 'out'}: hypotheses.jsonl, report.txt, words.jsonl, evaluation.json\n"
    assert (tmp_path / "out" / "report.txt").read_text().splitlines()[0] == out.rstrip("\n")
    results = read_hypotheses(tmp_path / "out" / "hypotheses.jsonl")
    assert [result.id for result in results] == ["u0", "u1", "u2"]
    assert [result.reference for result in results] == ["abc abc", "a b c", "xyz"]
    assert {result.hypothesis for result in results} == {recognised}  # the same audio
    assert [result.speaker for result in results] == ["s0", "s1", "s2"]


def test_references_without_a_word_are_noted(capsys: Capture, run: Path, tmp_path: Path) -> None:
    manifest = write_texts(tmp_path / "m.jsonl", "???", "a b c", "...")
    out, err = succeed(capsys, "evaluate", manifest, "--model", run, "--out", tmp_path / "out")
    assert " / 3, " in out
    assert err.splitlines()[0] == (
        "note: 2 texts have no word after normalisation, so every word recognised there is an insertion: u0; u2"
    )


def test_evaluate_keeps_log_probabilities(capsys: Capture, run: Path, tmp_path: Path) -> None:
    manifest, kept = write_texts(tmp_path / "m.jsonl", "Abc, abc!", "a b c"), tmp_path / "kept" / "m.npz"
    command = ("evaluate", manifest, "--model", run, "--out", tmp_path / "out", "--emissions")
    out, _ = succeed(capsys, *command, kept)
    printed, err = succeed(capsys, "decode", kept)
    results = read_hypotheses(tmp_path / "out" / "hypotheses.jsonl")
    assert printed == "".join(f"{result.id}\t{result.hypothesis}\n" for result in results)
    assert err.split(" 95%")[0] == out.split(" 95%")[0]  # speakers are not kept, so that intervals differ
    kept.unlink()  # as a stop between the two files leaves it
    succeed(capsys, *command, kept)
    assert kept.exists()
    assert main([str(argument) for argument in (*command, tmp_path / "m.bin")]) == 2
    assert capsys.readouterr().err.endswith("m.bin: the name of a file of log-probabilities must end in .npz\n")


@pytest.fixture
def no_recognition(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: object, **named: object) -> None:
        raise AssertionError("recognised before it was refused")

    monkeypatch.setattr("asr.evaluate.Evaluation.run", run)


@pytest.mark.usefixtures("no_recognition")
def test_what_cannot_be_kept_is_refused_before_recognition(capsys: Capture, run: Path, tmp_path: Path) -> None:
    manifest = write_texts(tmp_path / "test.json", "abc")  # as NeMo calls its manifests
    before, file, own = manifest.read_bytes(), tmp_path / "file", tmp_path / "own"
    figures = tmp_path / "figures"
    own.mkdir()
    figures.mkdir()
    for path in (file, own / "array.npz", own / "report.txt"):
        path.touch()
    (own / "labels.json").write_text('{"labels": ["cat", "dog"]}')
    (figures / "evaluation.json").write_text('{"wer": 3}')
    for flags, message in (
        (
            ("--emissions", tmp_path / "test.npz"),
            f"{tmp_path / 'test.npz'}: would replace {manifest}, which asr evaluate has not written",
        ),
        (
            ("--emissions", own / "array.npz"),
            f"{own / 'array.npz'}: would replace {own / 'array.npz'}, which asr evaluate has not written",
        ),
        (
            ("--emissions", own / "labels.npz"),
            f"{own / 'labels.npz'}: would replace {own / 'labels.json'}, which asr evaluate has not written",
        ),
        (
            ("--out", own),
            f"{own / 'report.txt'}: would be replaced, and is not of asr evaluate; --out chooses another folder",
        ),
        (
            ("--out", figures),
            f"{figures / 'evaluation.json'}: would be replaced, and is not of asr evaluate; --out chooses another "
            "folder",
        ),
        (("--emissions", file / "test.npz"), f"{file}: is a file, wanted a folder"),
        (("--out", file / "out"), f"{file}: is a file, wanted a folder for {file / 'out'}"),
    ):
        assert error_line(capsys, "evaluate", manifest, "--model", run, *flags) == f"error: {message}"
    assert manifest.read_bytes() == before


def test_results_are_written_before_log_probabilities(
    capsys: Capture, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "m.npz")

    monkeypatch.setattr("asr.emissions.write_emissions", full)
    manifest, out = write_texts(tmp_path / "m.jsonl", "abc"), tmp_path / "out"
    arguments = ("evaluate", manifest, "--model", run, "--out", out, "--emissions", tmp_path / "m.npz")
    assert main([str(argument) for argument in arguments]) == 2
    assert capsys.readouterr().err == "error: m.npz: No space left on device\n"
    assert len(read_hypotheses(out / "hypotheses.jsonl")) == 1


@pytest.mark.usefixtures("no_recognition")
def test_texts_without_words_are_refused_before_recognition(capsys: Capture, run: Path, tmp_path: Path) -> None:
    manifest = write_texts(tmp_path / "m.jsonl", "...", "-")
    line = error_line(capsys, "evaluate", manifest, "--model", run, "--out", tmp_path / "out")
    assert line == f"error: {manifest}: no text has a word after normalisation; WER needs at least one"


def test_evaluate_writes_into_the_run_folder_by_default(capsys: Capture, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    succeed(capsys, "evaluate", write_texts(tmp_path / "test-clean.jsonl", "abc"), "--model", run)
    found = sorted(path.name for path in (run / "test-clean").iterdir())
    assert found == ["evaluation.json", "hypotheses.jsonl", "report.txt", "words.jsonl"]


@pytest.mark.usefixtures("no_recognition")
def test_results_of_a_pipe_need_a_place(capsys: Capture, tmp_path: Path) -> None:
    """As bash makes of `asr evaluate <(grep ...)`; its number would name the folder."""
    run = save_run(tmp_path / "run")
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "w") as pipe:
        pipe.write(write_texts(tmp_path / "m.jsonl", "abc").read_text())
        pipe.close()
        line = error_line(capsys, "evaluate", f"/dev/fd/{reading}", "--model", run)
    assert line == f"error: /dev/fd/{reading}: is a pipe, whose name says nothing: give --out, a folder for the results"


def test_results_of_other_utterances_are_not_overwritten(capsys: Capture, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    manifests = [tmp_path / name / "test.jsonl" for name in ("mine", "yours")]
    for manifest, text in zip(manifests, ("abc", "cab"), strict=True):
        manifest.parent.mkdir()
        write_texts(manifest, text, "ab")
    mine, yours = manifests
    succeed(capsys, "evaluate", mine, "--model", run)
    before = (run / "test" / "hypotheses.jsonl").read_bytes()
    line = error_line(capsys, "evaluate", yours, "--model", run)
    assert line == (f"error: {run / 'test'}: holds results of {mine}, not of {yours}; --out chooses another folder")
    assert (run / "test" / "hypotheses.jsonl").read_bytes() == before
    succeed(capsys, "evaluate", yours, "--model", run, "--out", run / "yours")
    write_texts(mine, "abc", "ab", "cab")  # of the same manifest, which has grown
    succeed(capsys, "evaluate", mine, "--model", run)
    assert len(read_hypotheses(run / "test" / "hypotheses.jsonl")) == 3
    (run / "test" / "evaluation.json").unlink()  # as an older version left it
    line = error_line(capsys, "evaluate", yours, "--model", run)
    assert line.startswith(f"error: {run / 'test'}: holds results of other utterances, not of {yours}; --out")


@pytest.mark.parametrize("command", ["evaluate", "transcribe", "tune"])
@pytest.mark.parametrize("value", ["nan", "-1", "0", "inf"])
def test_batches_that_cannot_be(capsys: Capture, run: Path, command: str, value: str) -> None:
    given = ["tune", run] if command == "tune" else [command, "x.jsonl", "--model", run]
    line = error_line(capsys, *given, "--batch-s", value)
    assert line == f"error: --batch-s must be a positive number of seconds, found {value}"


def write_hypotheses(path: Path, *hypotheses: str) -> Path:
    path.write_text(
        "".join(
            json.dumps({"id": f"u{i}", "speaker": None, "reference": "a b c d", "hypothesis": text, "duration": 1.0})
            + "\n"
            for i, text in enumerate(hypotheses)
        )
    )
    return path


def test_compare(capsys: Capture, tmp_path: Path) -> None:
    a = write_hypotheses(tmp_path / "a.jsonl", "a b c d", "a b x d", "a b c")
    b = write_hypotheses(tmp_path / "b.jsonl", "a b c d", "a b c d", "a b c d")
    out, err = succeed(capsys, "compare", a, b)
    assert err == ""
    assert f"{a}: WER 16.67% [2 / 12, 0 ins, 1 del, 1 sub]\n" in out
    assert f"{b}: WER 0.00% [0 / 12, 0 ins, 0 del, 0 sub]\n" in out
    assert f"{b} is better" in out
    assert "have the same word error rate" in succeed(capsys, "compare", a, a)[0]


def test_compare_folders(capsys: Capture, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "test").mkdir(parents=True)
        write_hypotheses(tmp_path / name / "test" / "hypotheses.jsonl", "a b c d", "a b")
    a, b = tmp_path / "a", tmp_path / "b"
    assert succeed(capsys, "compare", a / "test", b / "test")[0].startswith(f"{a / 'test'}: WER 25.00% ")
    line = error_line(capsys, "compare", a / "test", b)
    assert line == f"error: {b}: is a folder without hypotheses.jsonl; did you mean {b / 'test'}?"
    (tmp_path / "c").mkdir()
    line = error_line(capsys, "compare", tmp_path / "c", b)
    assert line == f"error: {tmp_path / 'c'}: is a folder without hypotheses.jsonl; asr evaluate writes one"
