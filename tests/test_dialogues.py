"""The channels of a recording as one transcript, such as the two sides of a call, turn by turn."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cli import main
from asr.manifest import Utterance, write_manifest
from asr.process.distributed import World
from calls import side, write_call
from tiny_run import RATE_HZ, error_line, save_run, succeed

Capture = pytest.CaptureFixture[str]


def test_dialogues(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    run = save_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    write_call(tmp_path / "calls" / "call.wav")
    write_call(tmp_path / "calls" / "mono.wav", 1)
    bursts, random = np.zeros((32 * RATE_HZ, 2)), np.random.default_rng(5)
    for second in range(1, 31):  # by turns
        bursts[second * RATE_HZ :][: RATE_HZ // 3, second % 2] = 0.1 * random.standard_normal(RATE_HZ // 3)
    soundfile.write(tmp_path / "calls" / "long.wav", bursts, RATE_HZ)
    names = ["call", "long", "mono"]
    command = ["transcribe", "calls", "--model", run, "--channels"]
    plain = succeed(capsys, "transcribe", "calls/mono.wav", "--model", run)[0]
    each = [json.loads(line) for line in succeed(capsys, *command, "each", "--format", "json")[0].splitlines()]
    asked = [*command, "dialogue"]
    shown, err = succeed(capsys, *asked)
    assert err == ""

    wanted = []
    for name in names[:2]:
        sides = [record for record in each if record["audio_filepath"] == f"calls/{name}.wav"]
        turns = [(part["start"], side["channel"], part["text"]) for side in sides for part in side["segments"]]
        assert {channel for _, channel, _ in turns} == {0, 1}
        wanted += [f"calls/{name}.wav\t{channel}: {text}" for _, channel, text in sorted(turns)]
    assert [line.split("\t")[1][:3] for line in wanted[-4:]] == ["1: ", "0: ", "1: ", "0: "]
    assert shown == "\n".join([*wanted, plain])

    for where, folder in ((["--out", "texts"], "texts"), (["--beside"], "calls")):
        kept = Path(folder) / "mono.txt"
        kept.parent.mkdir(exist_ok=True)
        kept.write_text("by hand\n")
        assert succeed(capsys, *asked, *where, "--merged", "all.txt", "--skip-existing") == ("", "")
        assert {one.stem for one in Path(folder).glob("*.txt")} == {*names}
        assert kept.read_text() == "by hand\n"
        assert Path("all.txt").read_text() == "\n".join([*wanted, "calls/mono.wav\tby hand\n"])
        assert succeed(capsys, *asked, *where, "--merged", "all.txt", "--overwrite") == ("", "")
        assert Path("all.txt").read_text() == shown

    for format in ("json", "ctm"):
        shown, _ = succeed(capsys, *asked, "--format", format)
        succeed(capsys, *asked, "--format", format, "--out", "texts", "--merged", f"all.{format}")
        assert Path(f"all.{format}").read_text() == shown
    assert shown == succeed(capsys, *command, "each", "--format", "ctm")[0]
    alone, _ = succeed(
        capsys, "transcribe", "calls/call.wav", "--model", run, "--channels", "dialogue", "--format", "vtt"
    )
    assert alone.startswith("WEBVTT\n")
    assert "\n<v 0>" in alone


def test_dialogues_of_manifests_and_standard_input(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, path = save_run(tmp_path / "run"), write_call(tmp_path / "call.wav")
    monkeypatch.chdir(tmp_path)
    parts = [Utterance("both", path, 0.25, "ab", 0.125), Utterance("right", path, 0.5, "ab", channel=1)]
    write_manifest(tmp_path / "calls.jsonl", parts)
    asked = ["--model", run, "--channels", "dialogue"]
    both, right = succeed(capsys, "transcribe", "calls.jsonl", *asked, "--format", "json")[0].splitlines()
    assert {segment["channel"] for segment in json.loads(both)["segments"]} == {0, 1}
    assert json.loads(both)["duration"] == 0.25
    assert (json.loads(right)["channel"], len(json.loads(right)["alternatives"])) == (1, 1)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    succeed(capsys, "transcribe", "-", *asked, "--out", "texts")
    assert [one.name for one in Path("texts").iterdir()] == ["standard-input.txt"]


def test_dialogues_with_a_side_that_is_silent_or_fails(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, heard = save_run(tmp_path / "run"), side(write_call(tmp_path / "heard.wav"), 0).numpy()
    monkeypatch.chdir(tmp_path)
    Path("c").mkdir()
    nothing, broken = np.zeros_like(heard), np.full_like(heard, np.nan)
    for name, sides in (
        ("a", (nothing, heard)),
        ("b", (nothing, nothing)),
        ("c", (heard, broken)),
        ("d", (broken,) * 2),
    ):
        soundfile.write(f"c/{name}.wav", np.stack(sides, 1), RATE_HZ, subtype="FLOAT")
    Path("c/e.wav").touch()
    assert main(["transcribe", "c", "--model", str(run), "--channels", "dialogue"]) == 1
    out, err = capsys.readouterr()
    *turns, last = out.splitlines()
    assert turns
    assert all(line.startswith("c/a.wav\t1: ") for line in turns)
    assert last == "c/b.wav\t"
    assert [line.split(": ")[1] for line in err.splitlines()] == ["c/c.wav", "c/d.wav", "c/e.wav"]
    assert main(["transcribe", "c/c.wav", "--model", str(run), "--channels", "dialogue", "--out", "texts"]) == 2
    assert list(Path("texts").iterdir()) == []


def test_what_dialogues_cannot_be(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    run = save_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    write_call(tmp_path / "a" / "call.wav")
    write_call(tmp_path / "b" / "call.wav")
    write_manifest(tmp_path / "m.jsonl", [Utterance("call", tmp_path / "b" / "call.wav", 0.5, "ab", channel=1)])
    asked = ["--model", run, "--channels", "dialogue"]
    for arguments, message in (
        (["a", "--n-best", "2"], "error: --channels dialogue has no alternatives, found --n-best 2"),
        (["a", "b", "--format", "srt"], "2 recordings in one stream of srt could not be told apart"),
        (["a", "b", "--out", "texts"], "a/call.wav and b/call.wav would both be written to texts/call.txt"),
        (["a", "b", "--format", "ctm"], "a/call.wav and b/call.wav would both be called call in one CTM file"),
        (["a", "m.jsonl", "--format", "ctm"], "a/call.wav and call would both be called call in one CTM file"),
        (["a", "a", "--format", "ctm"], "a/call.wav: is named twice"),
    ):
        assert message in error_line(capsys, "transcribe", *arguments, *asked)
    for command in (["label", "a", "-o", "heard.jsonl"], ["evaluate", "m.jsonl"]):
        with pytest.raises(SystemExit):
            main([*command, *map(str, asked)])
        assert "invalid choice: 'dialogue'" in capsys.readouterr().err


def test_a_dialogue_stays_in_one_process(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two processes takes the second of two calls."""
    run, calls = save_run(tmp_path / "run"), tmp_path / "calls"
    write_call(calls / "a.wav")
    write_call(calls / "b.wav")
    monkeypatch.setattr("asr.process.distributed.join", lambda: World(1, 2))
    monkeypatch.setattr(World, "gather", lambda self, value: [value])
    succeed(capsys, "transcribe", calls, "--model", run, "--channels", "dialogue", "--out", tmp_path / "texts")
    assert [one.name for one in (tmp_path / "texts").iterdir()] == ["b.txt"]
