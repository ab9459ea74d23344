"""Recordings without transcripts as training data: where they are cut, what is kept, and what is refused."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.boundaries import Levels
from asr.cli import main
from asr.decode import Word
from asr.errors import ConfigError, ManifestError
from asr.label import Labelled, label, left_of, require_labelable, write_labelled
from asr.manifest import Utterance, read_manifest
from asr.sources import Recording
from asr.transcribe import Joined
from asr.transcript import Transcript
from asr.windows import Segment
from recognised import recognised, transcript
from tiny_run import RATE_HZ, error_line, save_run, succeed, write_audio

Capture = pytest.CaptureFixture[str]


def heard(offset_s: float, duration_s: float, *words: Word) -> Segment:
    """What was recognised between two pauses; times of words count from there."""
    unheard = Levels(np.zeros(0), frame_s=0.01, window_s=0.032)
    return Segment(offset_s, duration_s, [recognised(words)], unheard)  # type: ignore[list-item]


def long(duration_s: float, *parts: Segment) -> Transcript:
    return Transcript.of([Joined(parts)], duration_s, "calls/a.wav")


CALL = Recording("calls/a.wav", Path("calls/a.wav"))


# --- where they are cut -----------------------------------------------------------------------------------------------


def test_a_short_recording_is_one_utterance() -> None:
    words = [Word("yes", 1.0, 1.2, 0.9), Word("no", 9.0, 9.2, 0.4)]
    part = Recording("u1", Path("/calls/a.wav"), 5.0, 29.5, "ann")
    (found,) = label(part, transcript(words, 29.5))
    assert found.utterance == Utterance("u1", Path("/calls/a.wav"), 29.5, "yes no", 5.0, "ann")
    assert found.confidence == pytest.approx(0.6)
    (found,) = label(
        CALL, long(0.5, heard(0.1, 0.4, words[0]))
    )  # joined of parts as well, where it was digital silence
    assert (found.utterance.offset, found.utterance.duration) == (0, 0.5)


def test_a_long_one_is_cut_where_it_was_encoded_apart() -> None:
    parts = [
        heard(1.0, 2.5, Word("a", 0.1, 0.4, 1.0), Word("b", 0.9, 1.0, 0.25)),
        heard(9.04, 31.0, Word("c", 0.3, 0.4, 0.75)),
    ]
    found = list(label(CALL, long(40.0, *parts)))
    assert [item.utterance for item in found] == [
        Utterance("calls_a@1", CALL.audio, 2.5, "a b", 1.0),  # type: ignore[arg-type]
        Utterance("calls_a@9.04", CALL.audio, pytest.approx(30.96), "c", 9.04),  # type: ignore[arg-type]
    ]
    assert [item.confidence for item in found] == pytest.approx([0.5, 0.75])
    part = Recording("u1", Path("/calls/a.wav"), 100.0, 40.0, "ann")
    assert [
        (item.utterance.id, item.utterance.offset, item.utterance.speaker) for item in label(part, long(40, *parts))
    ] == [
        ("u1@101", 101.0, "ann"),
        ("u1@109.04", 109.04, "ann"),
    ]


def test_a_part_of_separators_alone_has_no_words() -> None:
    """It divided by no words, when all was recognised."""
    found = list(label(CALL, long(40.0, heard(1.0, 2.0, Word("a", 0.1, 0.4, 0.9)), heard(9.0, 1.0))))
    assert [(item.utterance.text, item.confidence) for item in found] == [("a", pytest.approx(0.9)), ("", 0.0)]


def test_a_recording_without_a_word_is_whole_and_nothing_is_certain_of_it() -> None:
    for silent in (transcript([], 100.0), long(100.0), transcript([], 1.0)):
        (found,) = label(CALL, silent)
        assert (found.utterance.duration, found.utterance.text) == (silent.duration_s, "")
        assert found.confidence == 0


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.wav", "a"),
        ("calls/one/b.x.flac", "calls_one_b.x"),
        ("../calls/a.WAV", "calls_a"),
        ("/calls/call.01", "calls_call.01"),
        (" .wav", "recording"),
    ],
)
def test_a_file_is_called_by_its_path(name: str, wanted: str) -> None:
    (found,) = label(Recording(name, Path(name)), transcript([], 1.0))
    assert found.utterance.id == wanted


# --- what cannot be written is found out before -----------------------------------------------------------------------


def test_standard_input_cannot_be_read_again() -> None:
    with pytest.raises(ConfigError, match="standard input: is not a file, and a manifest can only name files"):
        require_labelable([Recording("standard input", b"RIFF")], Path("own.jsonl"))


def test_a_recording_named_twice_is_refused(tmp_path: Path) -> None:
    one = Recording("a.wav", tmp_path / "a.wav")
    require_labelable([one, Recording("a", tmp_path / "a.wav", 1.0, 2.0)], tmp_path / "own.jsonl")
    with pytest.raises(ConfigError, match=r"x/\.\./a\.wav: is the same recording as a\.wav"):
        require_labelable([one, Recording("x/../a.wav", tmp_path / "x" / ".." / "a.wav")], tmp_path / "own.jsonl")


@pytest.mark.parametrize("link", [False, True])
def test_a_name_that_is_no_text_is_refused(tmp_path: Path, link: bool) -> None:
    path = Path(os.fsdecode(bytes(tmp_path) + b"/a\xff.wav"))
    if link:
        path.symlink_to(tmp_path / "b.wav")
    with pytest.raises(ManifestError, match="is not UTF-8"):
        require_labelable([Recording(str(path), path)], tmp_path / "own.jsonl")


# --- what is written --------------------------------------------------------------------------------------------------


def test_what_is_less_certain_silent_or_too_long_is_kept_apart(tmp_path: Path) -> None:
    def item(name: str, text: str, confidence: float, duration_s: float = 18.0) -> Labelled:
        return Labelled(Utterance(name, tmp_path / f"{name}.wav", duration_s, text), confidence)

    out = tmp_path / "texts" / "own.jsonl"
    found = [item("a", "one two", 0.9), item("b", "three", 0.8999), item("c", "", 1.0), item("d", "four", 1.0, 30.1)]
    assert write_labelled(out, [*found, item("a", "five", 1.0), item("a~2", "six", 0.89995)], 0.9) == (
        "3 of 6 utterances, 0.015 of 0.033 h, 4 words taken, each utterance with a text, a confidence of at least "
        "0.9 and at most 30 s of audio; "
        f"the others are in {left_of(out)}"
    )
    assert left_of(out).name == "own.left.jsonl"
    assert [(one.id, one.text) for one in read_manifest(out)] == [("a", "one two"), ("a~2", "five"), ("a~2~2", "six")]
    assert [one.text for one in read_manifest(left_of(out), with_texts=False)] == ["three", "", "four"]
    assert json.loads(out.read_text().splitlines()[0]) == {
        "id": "a",
        "audio_filepath": "../a.wav",
        "duration": 18.0,
        "text": "one two",
        "confidence": 0.9,
    }


def test_without_anything_to_learn_there_is_no_manifest(tmp_path: Path) -> None:
    out = tmp_path / "own.jsonl"
    found = [Labelled(Utterance("a", tmp_path / "a.wav", 1.0, "one"), 0.5)]
    with pytest.raises(ConfigError, match="not written: none of 1 utterances has a text, a confidence of at least 0"):
        write_labelled(out, found, 0.9)
    assert not out.exists()
    assert [one.text for one in read_manifest(left_of(out))] == ["one"]


# --- the command ------------------------------------------------------------------------------------------------------


def write_calls(folder: Path) -> list[Path]:
    """A short recording, and 32 s in which half a second of noise is heard twice."""
    folder.mkdir()
    (folder / "notes.txt").write_text("no audio")
    noise = 0.1 * np.random.default_rng(1).standard_normal(RATE_HZ // 2)
    wave = 1e-4 * np.random.default_rng(2).standard_normal(32 * RATE_HZ)
    for second in (4, 20):
        wave[second * RATE_HZ :][: len(noise)] += noise
    soundfile.write(folder / "long.flac", wave, RATE_HZ)
    return [write_audio(folder / "a.wav", 0.5), folder / "long.flac"]


def test_the_command(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    run = save_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    write_calls(Path("calls"))
    asked = ["--model", run, "--min-confidence", 0]
    out, err = succeed(capsys, "label", "calls", *asked, "-o", "own/all.jsonl")
    assert out == ""
    assert err.splitlines()[0] == "note: left out, not named like an audio file: calls/notes.txt"
    assert err.splitlines()[1].startswith("own/all.jsonl: 3 of 3 utterances, 0.001 of 0.001 h, ")
    texts = dict(line.split("\t") for line in succeed(capsys, "transcribe", "calls", "--model", run)[0].splitlines())
    short, first, second = read_manifest("own/all.jsonl")
    assert (short.id, short.text, short.duration) == ("calls_a", texts["calls/a.wav"], 0.5)
    assert f"{first.text} {second.text}" == texts["calls/long.flac"]
    for piece, begins in ((first, 4), (second, 20)):
        assert piece.id == f"calls_long@{piece.offset}"
        assert piece.offset == pytest.approx(begins - 0.15, abs=0.1)
        assert piece.offset + piece.duration == pytest.approx(begins + 0.65, abs=0.1)
    assert [one.audio_filepath.resolve() for one in (short, first)] == [tmp_path / name for name in texts]

    succeed(capsys, "label", "own/all.jsonl", *asked, "-o", "own/again.jsonl")
    again = read_manifest("own/again.jsonl")
    assert [(one.id, one.offset, one.duration) for one in again] == [
        (one.id, one.offset, one.duration) for one in (short, first, second)
    ]
    succeed(capsys, "evaluate", "own/again.jsonl", "--model", run)


def test_what_has_transcripts_is_left_out(tmp_path: Path, capsys: Capture) -> None:
    run, out = save_run(tmp_path / "run"), tmp_path / "own.jsonl"
    write_calls(tmp_path / "calls")
    for name, part in (("train", {"offset": 0.1}), ("dev", {})):
        record = {"audio_filepath": f"calls/{name}.wav", "duration": 0.25, "text": "ab", **part}
        write_audio(tmp_path / "calls" / f"{name}.wav", 0.5)
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(record))
    without = [f"--without={tmp_path / name}.jsonl" for name in ("train", "dev")]
    _, err = succeed(capsys, "label", tmp_path / "calls", *without, "--model", run, "-o", out, "--min-confidence", 0)
    assert "note: 2 of 4 recordings are left out\n" in err
    assert {item.audio_filepath.name for item in read_manifest(out)} == {"a.wav", "long.flac"}


def test_speakers_are_kept(tmp_path: Path, capsys: Capture) -> None:
    run, wav, given = save_run(tmp_path / "run"), write_audio(tmp_path / "a.wav", 2.0), tmp_path / "given.jsonl"
    record = {"audio_filepath": wav.name, "duration": 1.5, "offset": 0.25, "id": "call 7", "speaker": "ann"}
    given.write_text(json.dumps(record) + "\n")
    out = tmp_path / "own.jsonl"
    succeed(capsys, "label", given, "--model", run, "-o", out, "--min-confidence", 0, "--decoder", "beam")
    (found,) = map(json.loads, out.read_text().splitlines())
    assert {key: found[key] for key in record} == record


def test_what_cannot_be_read_does_not_stop_the_others(tmp_path: Path, capsys: Capture) -> None:
    run, out = save_run(tmp_path / "run"), tmp_path / "own.jsonl"
    good = write_audio(tmp_path / "good.wav")
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    asked = ["--model", str(run), "-o", str(out), "--min-confidence", "0"]
    assert main(["label", str(bad), str(good), *asked]) == 1
    assert capsys.readouterr().err.startswith(f"error: {bad}: ")
    assert [item.audio_filepath for item in read_manifest(out)] == [good]
    before = out.read_bytes()
    assert main(["label", str(bad), *asked, "--overwrite"]) == 2
    assert out.read_bytes() == before


def test_what_makes_no_manifest_is_refused(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    run, wav, out = save_run(tmp_path / "run"), write_audio(tmp_path / "a.wav"), tmp_path / "own.jsonl"

    def refused(*arguments: object) -> str:
        line = error_line(capsys, "label", "--model", run, *arguments)
        assert not out.exists()
        return line

    assert "--min-confidence must be in 0..1, found nan" in refused(wav, "-o", out, "--min-confidence", "nan")
    assert "wanted a name that ends in .jsonl" in refused(wav, "-o", tmp_path / "own.json")
    given = tmp_path / "given.left.jsonl"
    given.write_text(json.dumps({"audio_filepath": "a.wav", "duration": 1.0}) + "\n")
    assert "is an input, and would be replaced" in refused(given, "-o", given, "--overwrite")
    assert "is an input, and would be replaced" in refused(given, "-o", tmp_path / "given.jsonl", "--overwrite")
    there = tmp_path / "there.jsonl"
    there.touch()
    assert f"{there}: exists already; --overwrite replaces it" in refused(wav, "-o", there)
    left = tmp_path / "rest.left.jsonl"
    left.touch()
    assert f"{left}: exists already; --overwrite replaces it" in refused(wav, "-o", tmp_path / "rest.jsonl")
    without = ["--without", given]
    assert "is an input, and would be replaced" in refused(wav, "-o", given, "--overwrite", *without)
    assert "every recording is in a manifest of --without" in refused(wav, "-o", out, *without)
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"audio_filepath": "b.wav", "duration": 1.0}))
    assert f"--without {other}: names none of the recordings" in refused(wav, "-o", out, "--without", other)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(wav.read_bytes())))
    assert "a manifest can only name files" in refused("-", "-o", out)
    (tmp_path / "folder.left.jsonl").mkdir()
    assert "is not a file" in refused(wav, "-o", tmp_path / "folder.jsonl", "--overwrite")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert "runs as a single process" in refused(wav, "-o", out)
