"""`asr align`: recordings and manifests to files of words with times."""

import argparse
import json
from pathlib import Path

import pytest

from asr.cli import parse, run_command
from asr.commands.align import add_align
from asr.commands.common import FORMATS
from asr.writers import FORMATS as WRITTEN
from tiny_run import save_run, write_audio, write_texts

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


def command(*arguments: object) -> int:
    """The exit code of `asr align` with these arguments."""
    parser = argparse.ArgumentParser()
    add_align(parser)
    given = parse(parser, [str(argument) for argument in arguments])
    return run_command(lambda: int(given.run(given)))


def test_one_recording(capsys: Capture, run: Path, tmp_path: Path) -> None:
    audio, text = write_audio(tmp_path / "a.wav", 2.0), tmp_path / "a.txt"
    text.write_text("\ufeffBad,\r\ncab egg\n", encoding="utf-8")
    assert command(audio, text, "--model", run) == 0
    out, err = capsys.readouterr()
    record = json.loads(out)
    words = [word for segment in record["segments"] for word in segment["words"]]
    assert [word["word"] for word in words] == ["Bad,", "cab", "egg"]
    times = [time_s for word in words for time_s in (word["start"], word["end"])]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= record["duration"] == 2.0
    assert all(line.startswith(f"note: {text}: ") for line in err.splitlines())  # noise says none of this

    assert command(audio, "--text", "Bad, cab egg", "--model", run, "--out", tmp_path / "out" / "a.json") == 0
    assert capsys.readouterr().out == ""
    assert json.loads((tmp_path / "out" / "a.json").read_text()) == record
    for name in FORMATS:
        assert command(audio, text, "--model", run, "--format", name) == 0
        assert "Bad," in capsys.readouterr().out
    assert command(audio, text, "--model", run, "--format", "TextGrid") == 0
    assert capsys.readouterr().out.startswith('File type = "ooTextFile"')


def test_formats_are_those_of_the_writers() -> None:
    assert FORMATS == WRITTEN


def test_remarks_on_standard_error(capsys: Capture, run: Path, tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "a.wav", 8.0)
    text = " ".join(["bad - 1"] * 12)
    assert command(audio, "--text", text, "--model", run, "--format", "txt") == 0
    out, err = capsys.readouterr()
    assert out == f"{text.replace(' -', '')}\n"
    lines = err.splitlines()
    assert lines[0] == "note: --text: line 1, word 2 '-': left out, nothing remains of it after normalisation"
    assert len(lines) == 21
    assert lines[20].endswith(" of 24 words are doubtful: is it the transcript of this recording?")


def test_a_manifest(capsys: Capture, run: Path, tmp_path: Path) -> None:
    manifest = write_texts(tmp_path / "m.jsonl", "bad", "a" * 99, "cab", "99")
    record = {"audio_filepath": "missing.wav", "duration": 1.0, "text": "a", "id": "gone"}
    odd = {"audio_filepath": "a.wav", "duration": 0.5, "offset": 0.5, "text": "Egg a", "id": "../x.1"}
    with manifest.open("a") as file:
        file.write(json.dumps(record) + "\n" + json.dumps(odd) + "\n")
    assert command(manifest, "--model", run, "--out", tmp_path / "out", "--format", "ctm", "--batch-s", "2") == 1
    out, err = capsys.readouterr()
    assert out == ""
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert [line.split(":")[1] for line in errors] == [" utterance u1", " utterance u3", " utterance gone"]
    assert err.splitlines()[-1] == f"{tmp_path / 'out'}: 3 of 6 utterances aligned"
    written = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert sorted(written) == ["%2E.%2Fx.1.ctm", "u0.ctm", "u2.ctm"]
    assert [line.split()[0] for line in written["%2E.%2Fx.1.ctm"].splitlines()] == ["%2E.%2Fx.1", "%2E.%2Fx.1"]

    assert command(manifest, "--model", run, "--out", tmp_path / "json") == 1
    found = json.loads((tmp_path / "json" / "%2E.%2Fx.1.json").read_text())
    assert (found["audio_filepath"], found["duration"], found["text"]) == (str(tmp_path / "a.wav"), 0.5, "Egg a")
    capsys.readouterr()
    failing = write_texts(tmp_path / "f.jsonl", "99")
    assert command(failing, "--model", run, "--out", tmp_path / "none") == 2


def test_existing_files_are_replaced_where_that_is_said(capsys: Capture, run: Path, tmp_path: Path) -> None:
    manifest, out = write_texts(tmp_path / "m.jsonl", "bad"), tmp_path / "out"
    one = (tmp_path / "a.wav", "--text", "bad", "--model", run, "--out", out / "u0.json")
    all_of_them = (manifest, "--model", run, "--out", out)
    out.mkdir()
    (out / "u0.json").write_text("corrected")
    for arguments, message in (
        (one, f"{out / 'u0.json'}: exists already; --overwrite replaces it"),
        (
            all_of_them,
            f"1 of 1 files to write exist already, such as {out / 'u0.json'} (perhaps your own transcripts, subtitles "
            "or annotations): --overwrite replaces them",
        ),
    ):
        assert command(*arguments) == 2
        assert capsys.readouterr().err == f"error: {message}\n"
        assert (out / "u0.json").read_text() == "corrected"
    for arguments in (one, all_of_them):
        (out / "u0.json").write_text("corrected")
        assert command(*arguments, "--overwrite") == 0
        assert (out / "u0.json").read_text() != "corrected"


def test_an_id_too_long_is_found_out_first(
    capsys: Capture, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_audio(tmp_path / "a.wav")
    record = {"audio_filepath": "a.wav", "duration": 0.5, "text": "a"}
    lines = [json.dumps({**record, "id": name}) + "\n" for name in ("short", 300 * "x")]
    (tmp_path / "m.jsonl").write_text("".join(lines))
    monkeypatch.setattr("asr.commands.align.load_model", lambda *_: pytest.fail("the model is loaded"))
    assert command(tmp_path / "m.jsonl", "--model", run, "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/out/{300 * 'x'}.json: File name too long\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.wav"], "a.wav: wanted the transcript as a file TEXT or --text WORDS, found neither"),
        (["a.wav", "a.txt", "--text", "a"], "a.wav: wanted the transcript as a file TEXT or --text WORDS, found both"),
        (["a.wav", "none.txt"], "none.txt: cannot read transcript: No such file or directory"),
        (["a.wav", "latin.txt"], "latin.txt: not UTF-8 text (byte 1)"),
        (["none.wav", "--text", "a"], "none.wav: cannot read audio: No such file or directory"),
        (["short.wav", "--text", "a"], "short.wav: 100 samples of audio are shorter than one frame of 512"),
        (["a.wav", "--text", ""], "--text: wanted a transcript with a word in it, found ''"),
        (["m.jsonl"], "m.jsonl: a manifest needs --out, the folder for its alignments"),
        (["m.jsonl", "a.txt", "--out", "x"], "m.jsonl: a manifest has transcripts of its own, found a.txt as well"),
        (["m.jsonl", "--text", "a", "--out", "x"], "m.jsonl: a manifest has transcripts of its own, found --text as"),
        (["m.jsonl", "--out", "a.wav"], "a.wav: is a file, wanted a folder"),
        (["none.jsonl", "--out", "x"], "none.jsonl: cannot read manifest: No such file or directory"),
    ],
)
def test_errors_of_the_command(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, run: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_audio(Path("a.wav"))
    write_audio(Path("short.wav"), 100 / 16000)
    Path("latin.txt").write_bytes(b"b\xe9d")
    Path("m.jsonl").touch()
    assert command(*arguments, "--model", run) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("content", "what", "corpus"),
    [
        ('File type = "ooTextFile"\nObject class = "TextGrid"\n', "a TextGrid", "annotations"),
        ("\n<?xml version='1.0'?>\n<ANNOTATION_DOCUMENT/>", "XML, as ELAN writes it,", "annotations"),
        ("<ANNOTATION_DOCUMENT/>", "XML, as ELAN writes it,", "annotations"),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\nbad\n", "a subtitle file", "subtitles"),
        ("1\n00:00:01,000 --> 00:00:02,000\nbad\n", "a subtitle file", "subtitles"),
        ("\n00:01.000-->00:02.000\nbad\n", "a subtitle file", "subtitles"),
    ],
)
def test_a_file_with_times_is_no_transcript(
    capsys: Capture, run: Path, tmp_path: Path, content: str, what: str, corpus: str, encoding: str
) -> None:
    audio, text = write_audio(tmp_path / "a.wav"), tmp_path / "a.txt"
    text.write_text(content, encoding=encoding)
    assert command(audio, text, "--model", run) == 2
    made = f"asr prepare {corpus} makes a manifest of it and its recording, which asr align MANIFEST takes"
    assert capsys.readouterr() == ("", f"error: {text}: is {what} and no plain text: {made}\n")


def test_a_transcript_that_mentions_times(capsys: Capture, run: Path, tmp_path: Path) -> None:
    audio, text = write_audio(tmp_path / "a.wav"), tmp_path / "a.txt"
    text.write_text("1\nbad 00:01.000 --> webvtt <?xml egg", encoding="utf-16")
    assert command(audio, text, "--model", run, "--format", "txt") == 0
    assert capsys.readouterr().out == "1 bad 00:01.000 webvtt <?xml egg\n"


def write_talks(folder: Path) -> Path:
    """A manifest of parts of two recordings, in no order; what is said at 2 s in the first is a number."""
    records = []
    for name, said in (
        ("one/a", [("ann", 3.0, "cab"), ("bo", 0.5, "bad egg"), ("ann", 2.0, "99"), ("ann", 1.75, "a")]),
        ("two/a", [(None, 1.0, "egg")]),
    ):
        (folder / name).parent.mkdir()
        write_audio(folder / f"{name}.wav", 4.0)
        for speaker, offset, text in said:
            record = {"audio_filepath": f"{name}.wav", "offset": offset, "duration": 1.0, "text": text}
            records.append({**record, "id": f"{name}@{offset}", "speaker": speaker})
    records[1], records[4] = records[4], records[1]
    manifest = folder / "m.jsonl"
    manifest.write_text("".join(json.dumps(record) + "\n" for record in records))
    return manifest


def test_a_manifest_by_recordings(capsys: Capture, run: Path, tmp_path: Path) -> None:
    manifest, out = write_talks(tmp_path), tmp_path / "out"
    arguments = (manifest, "--model", run, "--out", out)
    assert command(*arguments, "--by", "recording") == 1
    err = capsys.readouterr().err
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [
        "error: utterance one/a@2.0: no word can be aligned: line 1, word 1 '99': the vocabulary lacks '9'"
    ]
    assert err.splitlines()[-1] == f"{out}: 4 of 5 utterances aligned"
    [note] = [
        line for line in err.splitlines() if line.startswith("note: utterance one/a@3.0: line 1, word 1 'cab': 3.")
    ]
    assert note.endswith(" s, doubtful: confidence 0.00")
    assert sorted(out.rglob("*.*")) == [out / "one" / "a.json", out / "two" / "a.json"]
    found = json.loads((out / "one" / "a.json").read_text())
    assert (found["audio_filepath"], found["duration"]) == (str(tmp_path / "one" / "a.wav"), 4.0)
    words = {
        (segment["speaker"], word["word"]): (word["start"], word["end"])
        for segment in found["segments"]
        for word in segment["words"]
    }

    # Each is where it is in its own file, later by the offset of its utterance.
    assert command(*arguments, "--out", tmp_path / "each") == 1
    for speaker, offset, texts in (("bo", 0.5, ["bad", "egg"]), ("ann", 1.75, ["a"]), ("ann", 3.0, ["cab"])):
        alone = json.loads((tmp_path / "each" / f"one%2Fa@{offset}.json").read_text())
        times = [(word["start"], word["end"]) for segment in alone["segments"] for word in segment["words"]]
        for text, (start_s, end_s) in zip(texts, times, strict=True):
            assert words.pop((speaker, text)) == pytest.approx((offset + start_s, offset + end_s))
    assert not words
    other = json.loads((out / "two" / "a.json").read_text())
    assert [segment["text"] for segment in other["segments"]] == ["egg"]
    assert other["segments"][0]["start"] >= 1


def test_in_elan_audio_stands_beside_times_that_are_its_own(capsys: Capture, run: Path, tmp_path: Path) -> None:
    manifest = write_texts(tmp_path / "m.jsonl", "bad")
    record = {"audio_filepath": "a.wav", "duration": 0.5, "offset": 0.5, "text": "egg a", "id": "late"}
    manifest.write_text(manifest.read_text() + json.dumps(record) + "\n")
    for by, named in (("utterance", {"u0": True, "late": False}), ("recording", {"a": True})):
        assert command(manifest, "--model", run, "-o", tmp_path / by, "--by", by, "--format", "eaf") == 0
        documents = {path.stem: path.read_text() for path in (tmp_path / by).iterdir()}
        assert {name: 'MEDIA_URL="file:../a.wav"' in text for name, text in documents.items()} == named
        assert {name: "MEDIA_DESCRIPTOR" in text for name, text in documents.items()} == named


def test_a_textgrid_has_tiers_for_each_speaker(capsys: Capture, run: Path, tmp_path: Path) -> None:
    manifest, out = write_talks(tmp_path), tmp_path / "out"
    assert command(manifest, "--model", run, "-o", out, "--by", "recording", "--format", "textgrid") == 1
    for name, tiers in (
        ("one", ["segments bo", "words bo", "segments ann", "words ann"]),
        ("two", ["segments", "words"]),
    ):
        lines = (out / name / "a.TextGrid").read_text().splitlines()
        assert [line.split('"')[1] for line in lines if line.startswith("        name")] == tiers
        assert lines[4] == "xmax = 4"


def test_alignments_of_recordings_are_replaced_where_that_is_said(capsys: Capture, run: Path, tmp_path: Path) -> None:
    manifest, there = write_talks(tmp_path), tmp_path / "out" / "one" / "a.srt"
    there.parent.mkdir(parents=True)
    there.write_text("corrected")
    arguments = (manifest, "--model", run, "-o", tmp_path / "out", "--by", "recording", "--format", "srt")
    assert command(*arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: 1 of 2 files to write exist already, such as {there} (perhaps ")
    assert there.read_text() == "corrected"
    assert command(*arguments, "--overwrite") == 1
    assert "ann: cab" in there.read_text()


def test_utterances_that_overlap_are_told(capsys: Capture, run: Path, tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", 4.0)
    spoken = [("u0", 0.5, None, None), ("u1", 1.0, None, None), ("u2", 1.5, "ann", None), ("u3", 1.0, None, 0)]
    spoken += [("u4", 2.48, "ann", None), ("u5", 2.5, "ann ", None)]  # touches u2, and is in u4
    records = [
        {
            "id": name,
            "audio_filepath": "a.wav",
            "offset": offset,
            "duration": 1.0,
            "text": "a",
            "speaker": who,
            "channel": side,
        }
        for name, offset, who, side in spoken
    ]
    manifest, out = tmp_path / "m.jsonl", tmp_path / "out"
    manifest.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert command(manifest, "--model", run, "-o", out, "--by", "recording", "--format", "textgrid") == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "that they overlap" in line]
    assert told == [
        f"note: {out / 'a.TextGrid'}: words of 2 utterances stand among those of others that they overlap, such as u1: "
        "with the same speaker and channel, or none, they cannot be told apart"
    ]
    names = [line.split('"')[1] for line in (out / "a.TextGrid").read_text().splitlines() if "  name" in line]
    assert names == ["segments", "words", "segments #0", "words #0", "segments ann", "words ann"]


def test_one_recording_is_not_divided(capsys: Capture, run: Path, tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "a.wav")
    assert command(audio, "--text", "bad", "--model", run, "--by", "recording") == 2
    assert capsys.readouterr().err == f"error: {audio}: --by goes with a manifest (NAME.jsonl)\n"
