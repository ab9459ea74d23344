"""What a hostile tester found in transcription, streams, alignment and export."""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import asr
from asr import audio
from asr.backends import make_backend
from asr.cli import main
from asr.config import AudioConfig
from asr.errors import AudioError, ConfigError, DecodeError
from asr.export import export_onnx
from asr.online import OnlineRecognizer
from asr.sources import Recording, find_recordings
from asr.transcribe import Transcriber
from asr.writers import ctm_name
from tiny_run import RATE_HZ, error_line, read_once, save_run, succeed, write_audio, write_texts

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def model(run: Path) -> asr.Transcriber:
    return asr.load(run, "cpu")


@pytest.fixture(autouse=True)
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    with read_once():
        yield


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_audio(tmp_path / "a.wav", 0.5)


def noise(samples: int = RATE_HZ) -> np.ndarray:
    return 0.1 * np.random.default_rng(1).standard_normal(samples)


# --- samples in memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [np.int64(RATE_HZ), np.uint32(RATE_HZ), np.array(RATE_HZ), torch.tensor(RATE_HZ)])
def test_a_rate_may_be_any_integer(model: asr.Transcriber, rate_hz: Any) -> None:
    wanted = model.transcribe(noise(), sample_rate_hz=RATE_HZ)
    assert model.transcribe(noise(), sample_rate_hz=rate_hz) == wanted


def test_samples_of_the_other_byte_order(model: asr.Transcriber) -> None:
    samples = (noise() * 32768).astype(np.int16)
    wanted = model.transcribe(samples, sample_rate_hz=RATE_HZ)
    assert model.transcribe(samples.astype(">i2"), sample_rate_hz=RATE_HZ) == wanted


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([[0.0, 0.1], [0.2]], "found list, which is not an array: setting an array element with a sequence"),
        ((noise(), RATE_HZ), "found tuple, which is not an array"),  # all that soundfile.read gives
        (torch.zeros(9).to_sparse(), "found Tensor, which is not an array: can't convert Sparse layout tensor"),
        (torch.zeros(9, device="meta"), "found Tensor, which is not an array: Cannot copy out of meta tensor"),
        (io.BytesIO(b"RIFF"), "found shape () of object"),
        (np.full(9, 1e300), "sample 0 is not finite (inf)"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_no_array(model: asr.Transcriber, source: Any, message: str) -> None:
    with pytest.raises(AudioError) as caught:
        model.transcribe(source, sample_rate_hz=RATE_HZ)
    assert str(caught.value).startswith("samples: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n_best", [0, -1, 1.5, "2"])
def test_no_number_of_hypotheses(model: asr.Transcriber, recording: Path, n_best: Any) -> None:
    """Greedy decoding took any."""
    with pytest.raises(DecodeError, match="n_best must be at least 1"):
        model.transcribe(recording, n_best=n_best)
    with pytest.raises(DecodeError, match="n_best must be at least 1"):
        model.transcribe(noise(), sample_rate_hz=RATE_HZ, n_best=n_best)


def test_settings_that_cannot_be(model: asr.Transcriber) -> None:
    for batch_s in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="batch_s must be a positive number of seconds"):
            Transcriber(model.recognizer, batch_s=batch_s)
    with pytest.raises(ConfigError, match="precision: wanted one of auto, float32, bfloat16, int8, found 'fp8'"):
        make_backend(model.recognizer, "fp8")  # type: ignore[arg-type]


@pytest.mark.parametrize("samples", [RATE_HZ // 2, 29 * RATE_HZ, 31 * RATE_HZ])
def test_digital_silence_has_no_text(model: asr.Transcriber, samples: int) -> None:
    """What was encoded as a whole had words in it, and what was longer had none."""
    transcript = model.transcribe(np.zeros(samples, np.int16), sample_rate_hz=RATE_HZ)
    assert (transcript.text, transcript.words) == ("", ())
    assert transcript.duration_s == samples / RATE_HZ


# --- files and segments -----------------------------------------------------------------------------------------------


def test_a_path_that_no_file_can_have(model: asr.Transcriber) -> None:
    with pytest.raises(AudioError, match=r"'a\\x00b.wav': a path cannot hold a null character"):
        model.transcribe("a\0b.wav")


def test_a_pipe_is_not_called_empty(model: asr.Transcriber, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(
        AudioError, match=r"a\.wav: is a pipe or device, not a file; `-` takes audio from standard input"
    ):
        model.transcribe(tmp_path / "a.wav")


@pytest.mark.parametrize(("offset_s", "duration_s"), [(np.nan, None), (np.inf, None), (0.0, np.nan), (0.0, np.inf)])
def test_segments_without_a_place(
    model: asr.Transcriber, recording: Path, offset_s: float, duration_s: float | None
) -> None:
    (found,) = model.transcribe_all([Recording("call 7", recording, offset_s, duration_s)])
    assert "call 7: segment at" in str(getattr(found, "error", None))
    with pytest.raises(AudioError, match="wanted finite numbers"):
        audio.load(recording, model.recognizer.config.audio, offset_s=offset_s, duration_s=duration_s)


def test_a_list_that_begins_with_a_byte_order_mark(recording: Path) -> None:
    found, _ = find_recordings(["-"], io.BytesIO(b"\xef\xbb\xbfa.wav\r\n"))
    assert [item.name for item in found] == ["a.wav"]


def test_standard_input_is_there_once() -> None:
    with pytest.raises(AudioError, match="standard input: is named twice"):
        find_recordings(["-", "-"], io.BytesIO(b"a.wav\n"))


# --- asr transcribe ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to_files", [False, True])
def test_a_line_a_recording_whatever_its_name(capsys: Capture, run: Path, to_files: bool) -> None:
    write_audio(Path("a\nb\tc.wav"), 0.3)
    lines, _ = succeed(capsys, "transcribe", "a\nb\tc.wav", "--model", run)
    if to_files:
        succeed(capsys, "transcribe", "a\nb\tc.wav", "--model", run, "--out", "out", "--merged", "all.txt")
        lines = Path("all.txt").read_text()
    (line,) = lines.splitlines()
    assert line.split("\t")[0] == r"a\nb\tc.wav"
    assert line.count("\t") == 1


@pytest.mark.parametrize("ids", [("a/b", "a_b"), ("a b", "a-b"), (".a", "_a")])
def test_ids_that_give_the_same_file(capsys: Capture, run: Path, recording: Path, ids: tuple[str, str]) -> None:
    """The second transcript replaced the first, and nothing was said."""
    records = [{"audio_filepath": "a.wav", "duration": 0.2 + 0.1 * place, "id": id_} for place, id_ in enumerate(ids)]
    Path("m.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    line = error_line(capsys, "transcribe", "m.jsonl", "--model", run, "--out", "out")
    assert f"{ids[0]} and {ids[1]} would both be written to out/" in line
    Path("n.jsonl").write_text(json.dumps({**records[1], "id": ids[0]}) + "\n")
    line = error_line(capsys, "transcribe", "m.jsonl", "n.jsonl", "--model", run, "--beside")
    assert "would both be written to" in line


def loads_nothing(*_: object) -> None:
    raise AssertionError("the model was loaded before the command was looked at")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "a.wav"], "a.wav: is a file, wanted a folder"),
        (["--out", "/proc/none"], "/proc/none: No such file or directory"),
        (["--out", "out", "--merged", "/proc/none/all.txt"], "/proc/none: No such file or directory"),
        (["--out", "out", "--merged", "/proc/all.txt"], "/proc: No such file or directory"),
        (["--out", "taken", "--overwrite"], "taken/a.txt: is not a file, but one would be written there"),
        (["--out", "taken", "--skip-existing"], "taken/a.txt: is not a file, but one would be written there"),
    ],
)
def test_places_that_cannot_be_written(
    capsys: Capture, run: Path, recording: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were found out when the first recording had been recognised, or with --merged the last."""
    Path("taken", "a.txt").mkdir(parents=True)
    monkeypatch.setattr("asr.commands.recordings.load_model", loads_nothing)
    assert message in error_line(capsys, "transcribe", recording.name, "--model", run, *arguments)


def test_a_name_too_long_is_found_out_first(
    capsys: Capture, run: Path, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("m.jsonl").write_text(json.dumps({"audio_filepath": "a.wav", "duration": 0.2, "id": "x" * 300}) + "\n")
    monkeypatch.setattr("asr.commands.recordings.load_model", loads_nothing)
    assert "File name too long" in error_line(capsys, "transcribe", "m.jsonl", "--model", run, "--out", "out")


@pytest.mark.parametrize("content", [b'{"text": "ab', b"\xff\xfe"])
def test_a_transcript_that_was_damaged_is_named(capsys: Capture, run: Path, recording: Path, content: bytes) -> None:
    flags = ("--model", run, "--out", "out", "--format", "json", "--merged", "all.json", "--skip-existing")
    succeed(capsys, "transcribe", "a.wav", *flags)
    Path("out/a.json").write_bytes(content)
    line = error_line(capsys, "transcribe", "a.wav", *flags)
    assert "out/a.json: is not a transcript, remove it or use --overwrite: " in line


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--n-best", "3", "--format", "json"], "--stream gives the best hypothesis alone, found --n-best 3"),
        (["--precision", "int8"], "--stream computes in float32, found --precision int8"),
        (["--channels", "first"], "--channels goes with files, not with --stream"),
        (["--max-duration-s", "3"], "--max-duration-s goes with files, not with --stream"),
    ],
)
def test_flags_that_a_stream_would_not_heed(capsys: Capture, run: Path, flags: list[str], message: str) -> None:
    assert message in error_line(capsys, "transcribe", "--model", run, "--stream", "--sample-rate", "16000", *flags)


@pytest.mark.parametrize("format", ["wav", "flac", "ogg"])
def test_a_file_is_no_stream_of_raw_samples(
    capsys: Capture, run: Path, recording: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its header and its compressed bytes were recognised as samples."""
    soundfile.write(f"b.{format}", noise(), RATE_HZ)
    with open(f"b.{format}", "rb") as file:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
        assert main(["transcribe", "--model", str(run), "--stream", "--sample-rate", "16000"]) == 2
    assert "error: standard input is an audio file, wanted raw samples" in capsys.readouterr().err


def test_a_result_is_never_final_before_it_was_heard(
    capsys: Capture, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last frame reaches beyond the end of the audio: the latency was -0.00."""
    for samples in (600, 700, 800, 1100, 1300):
        Path("raw").write_bytes((noise(samples) * 32767).astype("<i2").tobytes())
        with open("raw", "rb") as file:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
            assert main(["transcribe", "--model", str(run), "--stream", "--sample-rate", "16000"]) == 0
        assert "\t-0.0" not in capsys.readouterr().out


@pytest.mark.parametrize("rate_hz", [0, -1, 999, 8000.0, True, "8000"])
def test_rates_of_a_stream(model: asr.Transcriber, rate_hz: Any) -> None:
    """0 was the model's rate, and -1 was taken."""
    with pytest.raises(AudioError, match=r"stream: sample_rate_hz must be a whole number in 1000\.\.768000"):
        OnlineRecognizer(model.recognizer, sample_rate_hz=rate_hz)


def test_a_stream_takes_what_a_recording_takes(model: asr.Transcriber) -> None:
    samples = (noise() * 32767).astype(np.int16)
    found = []
    for piece in (samples, torch.from_numpy(samples), samples / 32768, torch.from_numpy(samples).float() / 32768):
        online = OnlineRecognizer(model.recognizer, sample_rate_hz=np.int64(RATE_HZ))
        online.accept(piece[:0])
        online.accept(piece)
        found.append(online.finish())
    assert found[0].segments
    assert found[1:] == found[:1] * 3  # integers were taken for samples 32768 times as loud


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((100, 2)), "stream: wanted samples of one channel, found 2 channels"),
        (torch.zeros(1, 100), "stream: wanted samples of one channel, found 100 channels"),
        (np.array([0.0, 1e30]), "stream: a sample of 1e+30, where full scale is 1"),
        (np.array([0.0, np.nan]), "stream: sample 101 is not finite (nan)"),
        (np.zeros(100, np.int64), "stream: wanted (S,) or (S, channels) samples, "),
    ],
)
def test_samples_that_no_stream_takes(model: asr.Transcriber, samples: Any, message: str) -> None:
    online = OnlineRecognizer(model.recognizer)
    online.accept(np.zeros(100))
    with pytest.raises(AudioError) as caught:
        online.accept(samples)
    assert message in str(caught.value)


# --- asr align and asr export -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["a.wav", "../{}/a.wav", "text.txt"])
def test_an_alignment_never_replaces_what_was_aligned(
    capsys: Capture, run: Path, recording: Path, out: str, tmp_path: Path
) -> None:
    """`--out` took the recording itself, and it was gone."""
    Path("text.txt").write_text("ab cd\n")
    before = recording.read_bytes()
    line = error_line(capsys, "align", "a.wav", "text.txt", "--model", run, "--out", out.format(tmp_path.name))
    assert "is an input, and would be replaced" in line
    assert recording.read_bytes() == before


def test_notes_are_lines(capsys: Capture, run: Path, tmp_path: Path) -> None:
    manifest = write_texts(tmp_path / "m.jsonl", "ab zz")
    manifest.write_text(manifest.read_text().replace('"u0"', '"u\\n0"'))
    assert main(["align", str(manifest), "--model", str(run), "--out", "aligned"]) == 0
    assert all(line.startswith(("note: utterance u 0: ", "aligned: ")) for line in capsys.readouterr().err.splitlines())


def test_an_export_never_replaces_a_runs_own_files(model: asr.Transcriber, run: Path) -> None:
    weights = run / "weights.safetensors"
    before = weights.read_bytes()
    with pytest.raises(ConfigError, match=r"weights\.safetensors: wanted a file NAME\.onnx to write to"):
        export_onnx(model.recognizer, weights)
    assert weights.read_bytes() == before


# --- found later ------------------------------------------------------------------------------------------------------


def test_a_stream_in_which_separators_alone_were_heard_has_no_result(
    model: asr.Transcriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = model.recognizer.tokenizer.tokens.index(" ")

    def spaces(encoder: Any, feats: torch.Tensor) -> torch.Tensor:
        rows = torch.full((len(feats) // 4, len(model.recognizer.tokenizer.tokens)), -20.0)
        rows[:, space] = 0.0
        return rows.log_softmax(1)

    monkeypatch.setattr("asr.encoder_stream.EncoderStream.accept", spaces)
    online = OnlineRecognizer(model.recognizer, pauses=None)
    online.accept(noise(4 * RATE_HZ))
    assert online.finish().segments == []


def test_ids_with_dots_stay_whole_in_ctm(run: Path, recording: Path, capsys: Capture) -> None:
    parts = [{"audio_filepath": "a.wav", "duration": 0.2, "offset": offset} for offset in (0.125, 0.25)]
    Path("m.jsonl").write_text("\n".join(map(json.dumps, parts)))
    assert main(["transcribe", "--model", str(run), "m.jsonl", "--format", "ctm", "--out", "out"]) == 0
    assert [ctm_name(name) for name in ("a@0.125", "a@0.25", "x/a.b.wav", "x.y")] == ["a@0.125", "a@0.25", "a.b", "x.y"]
    for folder in ("x", "y"):
        Path(folder).mkdir()
        write_audio(Path(folder) / "a.wav", 0.3)
    line = error_line(capsys, "transcribe", "--model", run, "x/a.wav", "y/a.wav", "--format", "ctm")
    assert line.startswith("error: x/a.wav and y/a.wav would both be called a in one CTM file")


@pytest.mark.parametrize("name", ["note.au", "note.snd"])
def test_a_name_does_not_make_audio(name: str) -> None:
    Path(name).write_bytes(b"This is not audio, whatever it is called. " * 1000)
    with pytest.raises(AudioError, match=f"{name}: cannot read audio: format not recognised"):
        audio.load(Path(name), AudioConfig())


@pytest.mark.parametrize(
    ("data_bytes", "riff_bytes"), [(0x7FFFF000, 0x7FFFF024), (0x7FFFFF00, 0x7FFFFF24), (0xFFFFFF9B, 0xFFFFFFBF)]
)
def test_headers_that_writers_leave_in_a_pipe(recording: Path, data_bytes: int, riff_bytes: int) -> None:
    content = bytearray(recording.read_bytes())
    wanted = audio.load(bytes(content), AudioConfig(sample_rate_hz=RATE_HZ))
    assert content[36:40] == b"data"
    content[4:8], content[40:44] = riff_bytes.to_bytes(4, "little"), data_bytes.to_bytes(4, "little")
    assert torch.equal(audio.load(bytes(content), AudioConfig(sample_rate_hz=RATE_HZ)), wanted)


def test_codecs_of_telephony_are_read_on_from_where_they_are() -> None:
    config = AudioConfig(sample_rate_hz=8000)
    soundfile.write("gsm.wav", noise(40000), 8000, subtype="GSM610")
    whole = audio.load(Path("gsm.wav"), config)
    assert 40000 <= len(whole) < 40400
    assert torch.equal(audio.load(Path("gsm.wav"), config, offset_s=1.0, duration_s=2.0), whole[8000:24000])
    assert torch.equal(torch.cat(list(audio.blocks(Path("gsm.wav"), config, block_s=1.0))), whole)
    with audio.opened(Path("gsm.wav")) as opened:
        opened.read(800, 800)
        with pytest.raises(AudioError, match="cannot go back to sample 0: GSM610 can only be read forwards"):
            opened.read(0, 800)


def test_an_empty_path_is_not_the_folder_that_we_are_in(recording: Path) -> None:
    with pytest.raises(AudioError, match="a path is empty"):
        find_recordings([""], None)


@pytest.mark.parametrize("arguments", [["a.wav"], ["--stream", "--sample-rate", str(RATE_HZ)]])
def test_closed_standard_streams(
    run: Path, recording: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", None)
        assert main(["transcribe", "--model", str(run), *arguments]) == 2
    assert "error: standard output is closed" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", None)
    assert main(["transcribe", "--model", str(run), "--stream", "--sample-rate", str(RATE_HZ)]) == 2
    assert "error: standard input: is closed" in capsys.readouterr().err
