"""`asr transcribe` with many recordings: a file for each, what is there already, one file of all, and bad ones."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cli import main
from asr.writers import FORMATS, SUFFIXES
from conftest import ROOT
from tiny_run import RATE_HZ, error_line, read_once, save_run, succeed, write_audio

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run folder that is read once and not by every command."""
    with read_once():
        yield save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three recordings in folders, and the command is started above them."""
    for number, name in enumerate(("a.wav", "one/b.flac", "one/c.wav")):
        path = tmp_path / "calls" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, 0.5 + 0.25 * number)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "calls"


NAMES = ["a", "one/b", "one/c"]


def written(folder: Path) -> dict[str, str]:
    """What is in the files below a folder, the recordings left away."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".wav", ".flac")
    }


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


# --- where results go -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_out(capsys: Capture, run: Path, calls: Path, format: str) -> None:
    """The folders below the one that was named are kept; nothing is printed."""
    out, err = succeed(capsys, "transcribe", "calls", "--model", run, "--out", "out/texts", "--format", format)
    assert (out, err) == ("", "")
    files = written(Path("out/texts"))
    assert list(files) == [f"{name}{SUFFIXES[format]}" for name in NAMES]  # type: ignore[index]
    begins = {"json": '{"audio_filepath": "calls/', "vtt": "WEBVTT\n", "tsv": "start\tend\ttext\n", "srt": "1\n00:00:0"}
    begins["eaf"] = '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT '
    begins["textgrid"] = 'File type = "ooTextFile"\n'
    for name, text in files.items():
        assert text.startswith(begins.get(format, "")), name
        assert text.endswith("\n")
        if format == "ctm":
            assert all(line.split()[:2] == [Path(name).stem, "1"] for line in text.splitlines())


@pytest.mark.parametrize("format", FORMATS)
def test_one_recording_to_standard_output(capsys: Capture, run: Path, calls: Path, format: str) -> None:
    out, _ = succeed(capsys, "transcribe", "calls/a.wav", "--model", run, "--format", format)
    succeed(capsys, "transcribe", "calls/a.wav", "--model", run, "--format", format, "--out", "out")
    [text] = written(Path("out")).values()
    if format == "eaf":  # where the audio is from there
        text = text.replace("../calls/a.wav", "./calls/a.wav")
    assert out == (f"calls/a.wav\t{text}" if format == "txt" else text)


def test_beside(capsys: Capture, run: Path, calls: Path) -> None:
    assert succeed(capsys, "transcribe", "calls", "--model", run, "--beside", "--format", "SRT") == ("", "")
    assert list(written(calls)) == ["a.srt", "one/b.srt", "one/c.srt"]


def test_texts_are_those_of_standard_output(capsys: Capture, run: Path, calls: Path) -> None:
    lines = succeed(capsys, "transcribe", "calls", "--model", run)[0].splitlines()
    succeed(capsys, "transcribe", "calls", "--model", run, "--out", "out")
    texts = dict(line.split("\t") for line in lines)
    assert [f"{text}\n" for text in texts.values()] == list(written(Path("out")).values())
    assert [os.path.relpath(name, "calls") for name in texts] == ["a.wav", "one/b.flac", "one/c.wav"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["calls/a.wav", "calls/one/b.flac"], ["a", "b"]),
        (["calls/one", "calls"], [*NAMES]),  # the outermost folder counts, and each file is written once
        (["calls/**/*.wav"], ["a", "one/c"]),
        (["calls/one/*"], ["b", "c"]),
        (["*/*.wav"], ["calls/a"]),
    ],
)
def test_names_below_out(capsys: Capture, run: Path, calls: Path, arguments: list[str], names: list[str]) -> None:
    succeed(capsys, "transcribe", *arguments, "--model", run, "--out", "out")
    assert list(written(Path("out"))) == [f"{name}.txt" for name in names]


def test_manifest(capsys: Capture, run: Path, calls: Path) -> None:
    """A file for each segment, named by its id."""
    records = [
        {"audio_filepath": "a.wav", "duration": 0.25, "id": "call 7/1.5"},
        {"audio_filepath": "a.wav", "duration": 0.2, "offset": 0.3, "id": "call 7/1.75", "text": "ab"},
        {"audio_filepath": "one/c.wav", "duration": 1.0},
        {"audio_filepath": "a.wav", "duration": 0.3, "id": "../a"},
    ]
    (calls / "m.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    succeed(capsys, "transcribe", "calls/m.jsonl", "--model", run, "--out", "out", "--format", "json")
    files = written(Path("out"))
    assert list(files) == ["_._a.json", "c.json", "call-7_1.5.json", "call-7_1.75.json"]
    found = [json.loads(text) for text in files.values()]
    assert [(facts["audio_filepath"], facts["duration"]) for facts in found] == [
        ("../a", 0.3),
        ("c", 1.0),
        ("call 7/1.5", 0.25),
        ("call 7/1.75", 0.2),
    ]
    lines = succeed(capsys, "transcribe", "calls/m.jsonl", "--model", run)[0].splitlines()
    assert [line.split("\t")[0] for line in lines] == ["call 7/1.5", "call 7/1.75", "c", "../a"]


def test_standard_input(capsys: Capture, run: Path, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = succeed(capsys, "transcribe", "calls/a.wav", "--model", run)[0].split("\t")[1]
    feed(monkeypatch, (calls / "a.wav").read_bytes())
    assert succeed(capsys, "transcribe", "-", "--model", run)[0] == f"standard input\t{text}"
    feed(monkeypatch, (calls / "a.wav").read_bytes())
    succeed(capsys, "transcribe", "-", "--model", run, "--out", "out")
    assert written(Path("out")) == {"standard-input.txt": text}
    feed(monkeypatch, b"calls/one/c.wav\ncalls/a.wav\n")
    lines = succeed(capsys, "transcribe", "-", "--model", run)[0].splitlines()
    assert [line.split("\t")[0] for line in lines] == ["calls/one/c.wav", "calls/a.wav"]


def test_standard_input_that_is_closed(
    capsys: Capture, run: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    succeed(capsys, "transcribe", "calls", "--model", run)
    assert error_line(capsys, "transcribe", "-", "--model", run) == "error: standard input: is closed"


# --- what is there already --------------------------------------------------------------------------------------------


def test_what_is_there_is_not_replaced_unasked(capsys: Capture, run: Path, calls: Path) -> None:
    command = ("transcribe", "calls", "--model", run, "--out", "out")
    Path("out/one").mkdir(parents=True)
    Path("out/one/b.txt").write_text("by hand\n")
    assert error_line(capsys, *command) == (
        "error: 1 of 3 files to write exist already, such as out/one/b.txt (perhaps your own transcripts, subtitles or "
        "annotations): --skip-existing keeps them, --overwrite replaces them"
    )
    assert list(written(Path("out"))) == ["one/b.txt"]
    assert succeed(capsys, *command, "--skip-existing") == ("", "")
    files = written(Path("out"))
    assert list(files) == ["a.txt", "one/b.txt", "one/c.txt"]
    assert files["one/b.txt"] == "by hand\n"
    Path("all.txt").write_text("by hand\n")
    line = error_line(capsys, "transcribe", "calls", "--model", run, "--out", "new", "--merged", "all.txt")
    assert line == "error: all.txt: exists already; --overwrite replaces it"
    succeed(capsys, *command, "--overwrite")
    replaced = written(Path("out"))
    assert replaced["one/b.txt"] != "by hand\n"
    assert replaced["a.txt"] == files["a.txt"]


def test_one_process_of_torchrun_goes_on_as_several_do(
    capsys: Capture, run: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("out/one").mkdir(parents=True)
    Path("out/one/b.txt").write_text("by hand\n")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert succeed(capsys, "transcribe", "calls", "--model", run, "--out", "out") == ("", "")
    assert written(Path("out"))["one/b.txt"] == "by hand\n"
    assert list(written(Path("out"))) == ["a.txt", "one/b.txt", "one/c.txt"]


def test_with_nothing_left_to_do_no_model_is_loaded(
    capsys: Capture, run: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("transcribe", "calls", "--model", run, "--out", "out", "--skip-existing")
    succeed(capsys, *command)
    monkeypatch.setattr("asr.commands.recordings.load_model", lambda *_: pytest.fail("was loaded"))
    succeed(capsys, *command, "--merged", "all.txt")
    assert len(Path("all.txt").read_text().splitlines()) == 3


# --- all in one file --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["txt", "json", "ctm"])
def test_merged_is_what_standard_output_shows(capsys: Capture, run: Path, calls: Path, format: str) -> None:
    command = ("transcribe", "calls/one", "calls/a.wav", "--model", run, "--format", format)
    shown, _ = succeed(capsys, *command)
    assert succeed(capsys, *command, "--out", "out", "--merged", f"merged/all.{format}") == ("", "")
    assert Path(f"merged/all.{format}").read_text() == shown
    assert shown


def test_merged_with_a_name_that_is_not_text(capsys: Capture, run: Path, calls: Path) -> None:
    path = Path(os.fsdecode(b"calls/caf\xe9.wav"))
    try:
        path.write_bytes((calls / "a.wav").read_bytes())
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    for format in ("txt", "json", "ctm"):
        command = ("transcribe", path, "--model", run, "--format", format, "--out", "out", "--merged", f"all.{format}")
        succeed(capsys, *command)
        assert "caf\\udce9" in Path(f"all.{format}").read_text(encoding="utf-8")


def test_merged_leaves_out_what_failed(capsys: Capture, run: Path, calls: Path) -> None:
    (calls / "one/b.flac").write_bytes(b"")
    arguments = ["transcribe", "calls", "--model", str(run), "--beside", "--merged", "all.txt"]
    assert main(arguments) == 1
    names = [line.split("\t")[0] for line in Path("all.txt").read_text().splitlines()]
    assert names == ["calls/a.wav", "calls/one/c.wav"]
    (calls / "a.wav").write_bytes(b"")  # its transcript of this start stays, but is not one of the next
    assert main([*arguments, "--overwrite"]) == 1
    assert (calls / "a.txt").exists()
    assert [line.split("\t")[0] for line in Path("all.txt").read_text().splitlines()] == ["calls/one/c.wav"]


def test_a_name_too_long_for_its_transcript(capsys: Capture, run: Path, calls: Path) -> None:
    name = f"{251 * 'x'}.wav"
    (calls / "a.wav").rename(calls / name)
    line = error_line(capsys, "transcribe", "calls", "--model", run, "--out", "out", "--format", "json")
    assert line == f"error: calls/{name}: its transcript out/{251 * 'x'}.json cannot be written: File name too long"


# --- what cannot be meant ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["calls", "--format", "srt"],
            "3 recordings in one stream of srt could not be told apart: --out DIR or --beside",
        ),
        (["calls", "--format", "textgrid"], "3 recordings in one stream of textgrid could not be told apart"),
        (["calls", "--merged", "all.txt"], "--merged, --skip-existing and --overwrite go with --out DIR or --beside"),
        (["calls", "--skip-existing"], "--merged, --skip-existing and --overwrite go with --out DIR or --beside"),
        (["calls", "--overwrite"], "--merged, --skip-existing and --overwrite go with --out DIR or --beside"),
        (
            ["calls", "--beside", "--merged", "a", "--format", "vtt"],
            "--merged joins txt, json, ctm, found --format vtt",
        ),
        ([], "give PATH: audio files, folders, manifests, or - for standard input"),
        (["calls", "--stream", "--sample-rate", "8000"], "--stream reads standard input; leave out PATH"),
        (["--stream", "--sample-rate", "8000", "--out", "o"], "--out goes with files, not with --stream"),
        (["--stream", "--sample-rate", "8000", "--beside"], "--beside goes with files, not with --stream"),
        (["--stream", "--format", "srt"], "--stream writes txt or json, found --format srt"),
        (["--stream"], "--stream needs --sample-rate HZ, the rate of the raw samples, in 1000..768000, found none"),
        (["calls", "--sample-rate", "8000"], "--sample-rate goes with --stream; a file states its own rate"),
        (["calls", "--look-ahead-s", "1"], "--look-ahead-s goes with --stream"),
        (["calls", "--batch-s", "0"], "--batch-s must be a positive number of seconds, found 0"),
        (["calls", "--max-duration-s", "nan"], "audio.max_duration_s must be positive, found nan"),
        (["*.mp3"], "*.mp3: no file matches this pattern"),
        (["none.jsonl"], "none.jsonl: cannot read manifest: No such file or directory"),
        (["calls", "calls/a.wav", "--format", "ctm"], "calls/a.wav: is named twice, and one CTM file can hold it only"),
        (
            ["calls", "calls/a.wav", "--format", "ctm", "--out", "out", "--merged", "all.ctm"],
            "calls/a.wav: is named twice",
        ),
        (["calls", "same/a.wav", "--out", "out"], "calls/a.wav and same/a.wav would both be written to out/a.txt"),
        (["calls", "--out", "calls/a.wav"], "calls/a.wav"),
        (["calls", "--beside", "--merged", "same"], "same: is not a file"),
        (
            ["calls", "--out", "out", "--merged", "same/../calls/a.wav"],
            "same/../calls/a.wav: is an input, and would be replaced",
        ),
        (
            ["same/m.jsonl", "--out", "out", "--merged", "same/m.jsonl", "--overwrite"],
            "same/m.jsonl: is an input, and would be replaced",
        ),
        (
            ["calls", "--out", "out", "--merged", "out/one/c.txt"],
            "--merged out/one/c.txt: is where the transcript of one recording goes",
        ),
    ],
)
def test_what_cannot_be_meant(capsys: Capture, run: Path, calls: Path, arguments: list[str], message: str) -> None:
    (calls.parent / "same").mkdir()
    write_audio(calls.parent / "same" / "a.wav")
    (calls.parent / "same" / "m.jsonl").write_text('{"audio_filepath": "a.wav", "duration": 0.5, "text": "a"}\n')
    assert message in error_line(capsys, "transcribe", *arguments, "--model", run)


def test_standard_input_has_no_place_beside(
    capsys: Capture, run: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, (calls / "a.wav").read_bytes())
    line = error_line(capsys, "transcribe", "-", "--model", run, "--beside")
    assert line == "error: --beside has no folder for audio from standard input: use --out DIR"


def test_standard_input_that_is_nothing(
    capsys: Capture, run: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content, message in ((b"", "neither audio nor a list"), (bytes(99), "byte 0 is null")):
        feed(monkeypatch, content)
        assert message in error_line(capsys, "transcribe", "-", "--model", run)


# --- bad files --------------------------------------------------------------------------------------------------------


def spoil(folder: Path) -> list[str]:
    """Bad recordings of every kind; returns how the messages about them begin."""
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("This is no audio, whatever the name says.\n")
    whole = write_audio(folder / "cut.flac", 3.0).read_bytes()
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])
    soundfile.write(folder / "nan.wav", np.full(RATE_HZ, np.nan), RATE_HZ, subtype="FLOAT")
    soundfile.write(folder / "many.wav", np.zeros((RATE_HZ, 5)), RATE_HZ)
    return [
        f"error: {folder}/cut.flac: cannot read audio: damaged, truncated, or in a codec",
        f"error: {folder}/empty.wav: file is empty (0 bytes)",
        f"error: {folder}/many.wav: 5 channels; audio.channels=auto accepts one or two",
        f"error: {folder}/nan.wav: sample 0 is not finite (nan)",
        f"error: {folder}/text.wav: cannot read audio: format not recognised",
    ]


def test_bad_files_among_good_ones(capsys: Capture, run: Path, calls: Path) -> None:
    """They are named, in order; the others are written; and again, they are all that is left to try."""
    begins = spoil(calls / "one")
    command = ["transcribe", str(calls), "--model", str(run), "--out", "out"]
    for more in ([], ["--skip-existing"]):
        assert main([*command, *more]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        lines = err.splitlines()
        assert len(lines) == len(begins)
        assert all(line.startswith(begin) for line, begin in zip(lines, begins, strict=True))
        assert list(written(Path("out"))) == ["a.txt", "one/b.txt", "one/c.txt"]


@pytest.mark.parametrize("more", [[], ["--out", "out"], ["--out", "out", "--merged", "all.txt"]])
def test_nothing_but_bad_files(capsys: Capture, run: Path, tmp_path: Path, more: list[str], monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "bad").mkdir()
    monkeypatch.chdir(tmp_path)
    begins = spoil(Path("bad"))
    assert main(["transcribe", "bad", "--model", str(run), *more]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == len(begins)
    assert written(tmp_path / "out") == {}


def test_longest_audio_to_take(capsys: Capture, run: Path, calls: Path) -> None:
    write_audio(calls / "long.wav", 31.0)
    assert main(["transcribe", "calls", "--model", str(run), "--max-duration-s", "0.6"]) == 1
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == ["calls/a.wav"]
    assert err.splitlines() == [
        f"error: calls/{name}: {seconds} s of audio, wanted at most 0.6 s"
        for name, seconds in (("long.wav", "31.0"), ("one/b.flac", "0.8"), ("one/c.wav", "1.0"))
    ]


def test_files_that_are_not_audio_by_their_names_are_counted(capsys: Capture, run: Path, calls: Path) -> None:
    for name in ("my\nnotes.txt", "one/list.csv", "a.txt", "one/c.TextGrid"):  # the last two may be transcripts
        (calls / name).touch()
    assert succeed(capsys, "transcribe", "calls", "--model", run)[1] == (
        "note: left out, not named like an audio file: calls/my notes.txt and 1 more\n"
    )


@pytest.mark.slow
def test_hours_of_silence_in_a_small_file_take_little_memory(run: Path, tmp_path: Path) -> None:
    """An hour and a half, 346 MB as float32, in a quarter of a megabyte of FLAC."""
    path = tmp_path / "silence.flac"
    with soundfile.SoundFile(path, "w", RATE_HZ, 1, "PCM_16") as file:
        for _ in range(90):
            file.write(np.zeros(60 * RATE_HZ, np.int16))
    write_audio(tmp_path / "second.wav")
    assert path.stat().st_size < 1_000_000
    peaks = []
    for recording in (tmp_path / "second.wav", path):
        command = [sys.executable, "-m", "asr", "transcribe", recording, "--model", run, "--format", "json"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            found = json.loads(process.stdout.read())
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss)
    assert (found["duration"], found["text"], found["segments"]) == (5400, "", [])
    assert peaks[1] - peaks[0] < 80_000  # KiB
