"""Recordings of several channels, as the two sides of a call: one of them in manifests and shards, each transcribed."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr import audio, checkpoint
from asr.cli import main
from asr.config import AudioConfig
from asr.corpora import prepare
from asr.errors import AudioError, CorpusError, ManifestError
from asr.manifest import Utterance, read_manifest, write_manifest
from asr.outside import join
from asr.pages.recordings import Recordings
from asr.shards.pack import encode
from asr.sources import Recording, each_channel
from asr.training.state import fingerprint
from asr.transcribe import Failure, Transcriber
from calls import side, write_call
from tiny_run import RATE_HZ, error_line, save_run, succeed, write_audio

Capture = pytest.CaptureFixture[str]
CONFIG = AudioConfig(sample_rate_hz=RATE_HZ)


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_one_channel_is_read(tmp_path: Path, channels: int) -> None:
    path = write_call(tmp_path / "call.wav", channels)
    for channel in range(channels):
        wanted = side(path, channel)
        assert torch.equal(audio.load(path, CONFIG, channel=channel), wanted)
        assert torch.equal(torch.cat(list(audio.blocks(path, CONFIG, channel=channel, block_s=0.1))), wanted)
        utterance = Utterance("u1", path, 0.25, "yes", 0.125, channel=channel)
        assert torch.equal(audio.load_utterance(utterance, CONFIG), wanted[RATE_HZ // 8 : RATE_HZ * 3 // 8])


def test_a_channel_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write_call(tmp_path / "call.wav")
    message = r"call\.wav: wanted channel 2, 0 being the first, found 2 in all"
    with pytest.raises(AudioError, match=message):
        audio.load(path, CONFIG, channel=2)
    with pytest.raises(AudioError, match=message):
        next(audio.blocks(path, CONFIG, channel=2))
    with pytest.raises(AudioError, match=f"utterance u1: .*{message}"):
        encode(Utterance("u1", path, 0.5, "yes", channel=2))


# --- manifests and shards ---------------------------------------------------------------------------------------------


def test_manifests_say_which(tmp_path: Path) -> None:
    path, manifest = write_call(tmp_path / "call.wav"), tmp_path / "calls.jsonl"
    written = [Utterance("a", path, 0.5, "yes", channel=0), Utterance("b", path, 0.5, "no", channel=1)]
    write_manifest(manifest, written)
    assert [json.loads(line)["channel"] for line in manifest.read_text().splitlines()] == [0, 1]
    assert read_manifest(manifest) == written
    record = {"audio_filepath": "call.wav", "duration": 0.25, "text": "yes", "offset": 0.25, "channel": 1}
    manifest.write_text(json.dumps(record))
    assert read_manifest(manifest)[0].id == "call@0.25#1"
    for wrong in (-1, 0.5, "1", True):
        manifest.write_text(json.dumps({**record, "channel": wrong}))
        with pytest.raises(
            ManifestError, match=r"calls\.jsonl:1: channel must be a whole number, 0 for the first, found"
        ):
            read_manifest(manifest)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_shards_hold_the_channel_alone(tmp_path: Path, suffix: str) -> None:
    path = write_call(tmp_path / f"call.{suffix}")
    made, content = encode(Utterance("u1", path, 0.5, "yes", channel=1))
    (tmp_path / "made").write_bytes(content)
    assert made == "flac"
    assert torch.equal(side(tmp_path / "made", 0), side(path, 1))
    assert soundfile.info(tmp_path / "made").channels == 1
    utterance = Utterance("u1", tmp_path / "x.tar" / "made", 0.5, "yes")
    assert torch.equal(audio.load_utterance(utterance, CONFIG, content), side(path, 1))


def test_data_of_another_channel_are_others(tmp_path: Path) -> None:
    first, second, plain = (
        [Utterance("a", tmp_path / "call.wav", 0.5, "yes", channel=channel)] for channel in (0, 1, None)
    )
    assert len({fingerprint(first), fingerprint(second), fingerprint(plain)}) == 3
    join(first, tmp_path / "all.jsonl")
    join(first, tmp_path / "all.jsonl")
    with pytest.raises(CorpusError, match="was made from other recordings"):
        join(second, tmp_path / "all.jsonl")


def test_shards_of_another_channel_are_others(tmp_path: Path, capsys: Capture) -> None:
    path, manifest = write_call(tmp_path / "call.wav"), tmp_path / "calls.jsonl"
    write_manifest(manifest, [Utterance("a", path, 0.5, "yes", channel=0)])
    succeed(capsys, "pack", manifest, "--out", tmp_path / "shards")
    write_manifest(manifest, [Utterance("a", path, 0.5, "yes", channel=1)])
    assert "holds shards of another manifest" in error_line(capsys, "pack", manifest, "--out", tmp_path / "shards")


def test_evaluation_reads_the_channel(tmp_path: Path, capsys: Capture) -> None:
    run, path = save_run(tmp_path / "run"), write_call(tmp_path / "call.wav")
    for channel in (0, 1):
        soundfile.write(tmp_path / f"{channel}.wav", side(path, channel), RATE_HZ)
    write_manifest(tmp_path / "sides.jsonl", [Utterance(f"u{n}", path, 0.5, "ab", channel=n) for n in range(2)])
    write_manifest(tmp_path / "apart.jsonl", [Utterance(f"u{n}", tmp_path / f"{n}.wav", 0.5, "ab") for n in range(2)])
    found = []
    for name in ("sides", "apart"):
        succeed(capsys, "evaluate", tmp_path / f"{name}.jsonl", "--model", run, "--out", tmp_path / name)
        found.append((tmp_path / name / "hypotheses.jsonl").read_text())
    assert found[0] == found[1]
    texts = [json.loads(line)["hypothesis"] for line in found[0].splitlines()]
    assert texts[0] != texts[1], "both sides sound alike, and this tests nothing"


# --- corpora ----------------------------------------------------------------------------------------------------------


def test_a_table_has_a_column_of_channels(tmp_path: Path) -> None:
    write_call(tmp_path / "call.wav")
    write_call(tmp_path / "mono.wav", 1)
    table = tmp_path / "my.csv"
    table.write_text("audio,text,channel\ncall.wav,yes,0\ncall.wav,no,1\nmono.wav,yes,\n")
    prepare("csv", source=table, out=tmp_path / "out", dev_share=0)
    found = read_manifest(tmp_path / "out" / "train.jsonl")
    assert [(item.id, item.text, item.channel) for item in found] == [
        ("call#0", "yes", 0),
        ("call#1", "no", 1),
        ("mono", "yes", None),
    ]
    for cell, message in (
        ("2", "wanted channel 2"),
        ("A", "channel must be a whole number.*found 'A'"),
        ("-1", "'-1'"),
        ("9" * 5000, "9'"),
    ):
        table.write_text(f"audio,text,channel\ncall.wav,yes,{cell}\n")
        with pytest.raises(CorpusError, match=rf"my\.csv:2: call\.wav: .*{message}"):
            prepare("csv", source=table, out=tmp_path / "more", dev_share=0)


def write_kaldi(folder: Path, *entries: str) -> Path:
    write_call(folder / "call.wav")
    names = [f"r{number}" for number in range(len(entries))]
    tables = {"wav.scp": entries, "text": ["yes"] * len(names), "utt2spk": ["ann"] * len(names)}
    for table, values in tables.items():
        lines = [f"{name} {value}\n" for name, value in zip(names, values, strict=True)]
        (folder / table).write_text("".join(lines))
    return folder


@pytest.mark.parametrize("segments", [False, True])
def test_commands_of_kaldi_that_decode_are_read_and_not_run(tmp_path: Path, segments: bool) -> None:
    folder = write_kaldi(
        tmp_path / "train",
        "/opt/kaldi/tools/sph2pipe_v2.5/sph2pipe -f wav -p -c 1 call.wav |",
        "sph2pipe -c 2 -f wav 'call.wav'|",
        "sph2pipe -f wav -p call.wav |",
        "flac -c -d -s call.wav |",
        "flac -cds call.wav |",
        "call.wav",
    )
    if segments:
        (folder / "segments").write_text("".join(f"r{number} r{number} 0.1 0.3\n" for number in range(6)))
    prepare("kaldi", source=folder, out=tmp_path / "out", dev_share=0)
    found = read_manifest(tmp_path / "out" / "train.jsonl")
    assert [item.channel for item in found] == [0, 1, None, None, None, None]
    assert {item.audio_filepath.resolve() for item in found} == {folder / "call.wav"}
    assert [item.duration for item in found] == pytest.approx([0.2 if segments else 0.5] * 6)


def test_segments_of_kaldi_may_name_the_channel(tmp_path: Path) -> None:
    folder = write_kaldi(tmp_path / "train", "call.wav", "call.wav")
    (folder / "segments").write_text("r0 r0 0.1 0.3 0\nr1 r1 0.1 0.3 1\n")
    prepare("kaldi", source=folder, out=tmp_path / "out", dev_share=0)
    assert [item.channel for item in read_manifest(tmp_path / "out" / "train.jsonl")] == [0, 1]
    for wrong, message in (
        ("2", "wanted channel 2"),
        ("B", r"or a channel \(0 for the first\)"),
        ("0 1", "or a channel"),
    ):
        (folder / "segments").write_text(f"r0 r0 0.1 0.3 {wrong}\nr1 r1 0.1 0.3 1\n")
        with pytest.raises(CorpusError, match=f"segments: r0: .*{message}"):
            prepare("kaldi", source=folder, out=tmp_path / "more", dev_share=0)
    folder = write_kaldi(tmp_path / "test", "sph2pipe -f wav -c 1 call.wav |")
    (folder / "segments").write_text("r0 r0 0.1 0.3 1\n")
    with pytest.raises(CorpusError, match="r0: names channel 1 of 'r0', which is one channel already"):
        prepare("kaldi", source=folder, out=tmp_path / "more", dev_share=0)


@pytest.mark.parametrize(
    "command",
    [
        "sox call.wav -t wav - |",
        "sph2pipe -f wav -p -c 3 call.wav |",
        "sph2pipe -f wav -t 1:2 call.wav |",
        "sph2pipe -f wav call.wav | sox -t wav - -r 8000 -t wav - |",
        "sph2pipe -f wav |",
        "flac -cd call.wav other.wav |",
        "flac -c call.wav |",
        "flac -d call.wav |",
        "flac -cdf call.wav |",
        "flac --force call.wav |",
        "'|",
        "|",
    ],
)
def test_other_commands_are_refused(tmp_path: Path, command: str) -> None:
    folder = write_kaldi(tmp_path / "train", command)
    with pytest.raises(CorpusError, match=r"wav\.scp: r0: wanted the path of an audio file, found the command"):
        prepare("kaldi", source=folder, out=tmp_path / "out", dev_share=0)


# --- each one transcribed ---------------------------------------------------------------------------------------------


def test_each_channel_of_files_that_have_several(tmp_path: Path) -> None:
    call, mono = write_call(tmp_path / "call.wav"), write_call(tmp_path / "mono.wav", 1)
    gone = Recording("gone.wav", tmp_path / "gone.wav")
    given = [Recording("call.wav", call), Recording("mono.wav", mono), gone, Recording("u1", call, 0.0, 0.25)]
    given.append(Recording("u2", call, 0.0, 0.25, channel=1))
    given.append(Recording("standard input", call.read_bytes()))
    found = list(each_channel(given))
    assert [(one.name, one.channel) for one in found] == [
        ("call.wav", 0),
        ("call.wav", 1),
        ("mono.wav", None),
        ("gone.wav", None),
        ("u1", 0),
        ("u1", 1),
        ("u2", 1),
        ("standard input", 0),
        ("standard input", 1),
    ]


def test_transcripts_of_each_channel(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    run = save_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    write_call(tmp_path / "calls" / "call.wav")
    write_call(tmp_path / "calls" / "long.wav", duration_s=31)
    write_call(tmp_path / "calls" / "mono.wav", 1)
    asked = ["transcribe", "calls", "--model", run, "--channels", "each"]
    lines = dict(line.split("\t") for line in succeed(capsys, *asked)[0].splitlines())
    names = ["call.wav#0", "call.wav#1", "long.wav#0", "long.wav#1", "mono.wav"]
    assert list(lines) == [f"calls/{name}" for name in names]
    for name in names[:4]:
        call, _, channel = f"calls/{name}".partition("#")
        soundfile.write(tmp_path / "side.wav", side(Path(call), int(channel)), RATE_HZ)
        alone, _ = succeed(capsys, "transcribe", "side.wav", "--model", run)
        assert alone == f"side.wav\t{lines[f'calls/{name}']}\n"
    assert lines["calls/call.wav#0"] != lines["calls/call.wav#1"]

    records = [json.loads(line) for line in succeed(capsys, *asked, "--format", "json")[0].splitlines()]
    assert [(one["audio_filepath"], one.get("channel"), one["text"]) for one in records] == [
        (f"calls/{name.partition('#')[0]}", int(name[-1]) if "#" in name else None, lines[f"calls/{name}"])
        for name in names
    ]
    times = [line.split()[:2] for line in succeed(capsys, *asked, "--format", "ctm")[0].splitlines()]
    sides = [["call", "1"], ["call", "2"], ["long", "1"], ["long", "2"], ["mono", "1"]]
    assert [name for place, name in enumerate(times) if name not in times[:place]] == sides

    for where in (["--out", "texts"], ["--beside"]):
        _, err = succeed(capsys, *asked, *where, "--merged", "all.txt", "--skip-existing")
        assert err == ""
        folder = Path("texts" if where[0] == "--out" else "calls")
        made = {one.name: one.read_text() for one in folder.glob("*.txt")}
        assert made == {f"{name.replace('.wav', '')}.txt": f"{lines[f'calls/{name}']}\n" for name in names}
        assert Path("all.txt").read_text() == "".join(f"{name}\t{text}\n" for name, text in lines.items())
    assert succeed(capsys, *asked, "--beside", "--skip-existing") == ("", "")  # its own transcripts are no surprise


def test_a_channel_of_a_manifest_is_said_where_formats_have_a_place(tmp_path: Path, capsys: Capture) -> None:
    run, path = save_run(tmp_path / "run"), write_call(tmp_path / "call.wav")
    write_manifest(tmp_path / "calls.jsonl", [Utterance("u1", path, 0.5, "ab", channel=1)])
    asked = ["transcribe", tmp_path / "calls.jsonl", "--model", run, "--format"]
    assert succeed(capsys, *asked, "txt")[0].startswith("u1\t")
    assert succeed(capsys, *asked, "ctm")[0].startswith("u1 2 ")
    assert json.loads(succeed(capsys, *asked, "json")[0])["channel"] == 1


def test_both_channels_of_standard_input(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    run, path = save_run(tmp_path / "run"), write_call(tmp_path / "call.wav")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    succeed(capsys, "transcribe", "-", "--model", run, "--channels", "each", "--out", "texts")
    texts = {one.name: one.read_text() for one in Path("texts").iterdir()}
    assert set(texts) == {"standard-input#0.txt", "standard-input#1.txt"}
    assert texts["standard-input#0.txt"] != texts["standard-input#1.txt"]


def test_names_that_are_those_of_channels_are_refused(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = save_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    for name, channels in (("c/call.wav", 2), ("c/call#0.wav", 1), ("d/call.wav", 2), ("e/call.wav", 1)):
        write_call(Path(name), channels)
    asked = ["--model", run, "--channels", "each"]
    line = error_line(capsys, "transcribe", "c", *asked, "--out", "texts")
    assert "would both be written to texts/call#0.txt" in line
    line = error_line(capsys, "transcribe", "d/call.wav", "e/call.wav", *asked, "--format", "ctm")
    assert "d/call.wav and e/call.wav would both be called call in one CTM file" in line


def test_sides_that_fail_are_told_apart(tmp_path: Path, capsys: Capture) -> None:
    run, path = save_run(tmp_path / "run"), tmp_path / "call.wav"
    soundfile.write(path, np.full((RATE_HZ, 2), np.nan, np.float32), RATE_HZ, subtype="FLOAT")
    assert main(["transcribe", str(path), "--model", str(run), "--channels", "each"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines] == [f"{path}#0", f"{path}#1"]


# --- averaged ---------------------------------------------------------------------------------------------------------


def test_that_two_channels_were_averaged_is_said(tmp_path: Path, capsys: Capture) -> None:
    run, path = save_run(tmp_path / "run"), write_call(tmp_path / "call.wav")
    note = "note: the two channels of 1 recordings were averaged; if they are the sides of a call, --channels each"
    assert note in succeed(capsys, "transcribe", path, "--model", run)[1]
    assert succeed(capsys, "transcribe", path, "--model", run, "--channels", "mean")[1] == ""
    assert succeed(capsys, "transcribe", path, "--model", run, "--channels", "each")[1] == ""
    note = f"note: the two channels of {path} were averaged; if they are the sides of a call, --channels first takes"
    for command in (["align", path, "--text", "ab"], ["inspect", path, "--out", tmp_path / "out"]):
        assert note in succeed(capsys, *command, "--model", run)[1]
        assert "averaged" not in succeed(capsys, *command, "--model", run, "--channels", "mean")[1]


def test_each_channel_becomes_training_data(tmp_path: Path, capsys: Capture) -> None:
    run, path = save_run(tmp_path / "run"), write_call(tmp_path / "call.wav")
    out = tmp_path / "own.jsonl"
    succeed(capsys, "label", path, "--model", run, "-o", out, "--channels", "each", "--min-confidence", 0)
    first, second = read_manifest(out)
    assert (first.channel, second.channel) == (0, 1)
    assert (first.id[-2:], second.id[-2:]) == ("#0", "#1")
    assert first.text != second.text


def test_a_file_that_is_no_audio_is_named_once(tmp_path: Path, capsys: Capture) -> None:
    run, bad = save_run(tmp_path / "run"), tmp_path / "bad.wav"
    bad.write_text("no audio")
    good = write_audio(tmp_path / "good.wav", 0.5)
    assert main(["transcribe", str(bad), str(good), "--model", str(run), "--channels", "each"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{good}\t")
    assert err.count("error: ") == 1


def test_evaluation_takes_no_channels_apart(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "x.jsonl", "--model", "x", "--channels", "each"])
    assert "invalid choice: 'each'" in capsys.readouterr().err


# --- everywhere else that audio is read -------------------------------------------------------------------------------


def test_a_long_segment_of_a_channel(tmp_path: Path) -> None:
    path = write_call(tmp_path / "call.wav", duration_s=40)
    soundfile.write(tmp_path / "side.wav", side(path, 1), RATE_HZ)
    model = Transcriber(checkpoint.load(save_run(tmp_path / "run")))
    parts = [Recording("u1", path, 2.0, 35.0, channel=1), Recording("u2", tmp_path / "side.wav", 2.0, 35.0)]
    one, other = model.transcribe_all(parts)
    assert not isinstance(one, Failure)
    assert not isinstance(other, Failure)
    assert one.text
    assert one.words == other.words


def test_alignments_say_the_channel_and_read_it(tmp_path: Path, capsys: Capture) -> None:
    run, path = save_run(tmp_path / "run"), write_call(tmp_path / "call.wav", duration_s=1)
    soundfile.write(tmp_path / "side.wav", side(path, 1), RATE_HZ)
    found = []
    for name, utterance in (
        ("channel", Utterance("u1", path, 1.0, "ab", channel=1)),
        ("alone", Utterance("u1", tmp_path / "side.wav", 1.0, "ab")),
    ):
        write_manifest(tmp_path / f"{name}.jsonl", [utterance])
        succeed(
            capsys, "align", tmp_path / f"{name}.jsonl", "--model", run, "--out", tmp_path / name, "--format", "json"
        )
        found.append(json.loads((tmp_path / name / "u1.json").read_text()))
    assert found[0]["channel"] == 1
    assert found[0]["segments"] == found[1]["segments"]


def test_dev_of_a_channel_that_is_not_there_is_found_before_training(tmp_path: Path, capsys: Capture) -> None:
    run, path = save_run(tmp_path / "run"), write_call(tmp_path / "call.wav")
    write_manifest(tmp_path / "train.jsonl", [Utterance("u1", path, 0.5, "ab", channel=1)])
    write_manifest(tmp_path / "dev.jsonl", [Utterance("u2", path, 0.5, "ab", channel=2)])
    asked = [f"data.{name}={tmp_path / name}.jsonl" for name in ("train", "dev")]
    line = error_line(capsys, "train", run / "config.yaml", *asked, "--out", tmp_path / "out")
    assert "utterance u2: " in line
    assert "wanted channel 2, 0 being the first, found 2 in all" in line


def test_what_a_page_plays_is_the_channel(tmp_path: Path) -> None:
    path = write_call(tmp_path / "call.wav")
    played = str(Recordings().player("u1", {"u1": Utterance("u1", path, 0.5, "ab", channel=1)}))
    content = base64.b64decode(re.search(r"base64,([A-Za-z0-9+/=]+)", played)[1])  # type: ignore[index]
    assert np.array_equal(soundfile.read(io.BytesIO(content), dtype="float32")[0], side(path, 1).numpy())
