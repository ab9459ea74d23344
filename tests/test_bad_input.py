"""Whatever is wrong with the input, a command says so on one line that names it, and exits with 2."""

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asr import checkpoint
from asr.cli import main
from tiny_run import FRAME_SAMPLES, RATE_HZ, error_line, read_once, save_run, write_noise

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run folder that is read once and not by every command."""
    with read_once():
        yield save_run(tmp_path_factory.mktemp("run"))


# --- manifests --------------------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {"audio_filepath": "a.wav", "duration": 1.0, "text": "abc"}


def write_manifest(path: Path, *records: dict[str, Any] | bytes) -> Path:
    """A manifest, and the audio file beside it that `GOOD` names."""
    write_noise(path.parent / "a.wav")
    lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([GOOD, b'{"audio_filepath": "b.wav", '], ":2: not a JSON record: "),
        ([GOOD, b"[1, 2]"], ":2: expected a JSON object, found list"),
        ([GOOD, {**GOOD, "id": "u2"}, GOOD], ":3: id 'a' was already used on line 1"),
        ([{**GOOD, "duration": -1.5}], ":1: duration must be positive, found -1.5"),
        ([{**GOOD, "duration": 0}], ":1: duration must be positive, found 0.0"),
        ([b'{"audio_filepath": "a.wav", "duration": NaN, "text": "x"}'], ":1: duration must be a number of seconds,"),
        ([{**GOOD, "duration": "1.0"}], ":1: duration must be a number of seconds, found '1.0'"),
        ([{**GOOD, "duration": True}], ":1: duration must be a number of seconds, found True"),
        ([{**GOOD, "offset": -0.1}], ":1: offset must not be negative, found -0.1"),
        ([{**GOOD, "text": "  "}], ":1: text is empty"),
        ([{**GOOD, "text": 7}], ":1: text must be a string, found 7"),
        ([{"audio_filepath": "a.wav", "duration": 1.0}], ":1: key 'text' is missing"),
        ([{**GOOD, "speker": "x"}], ":1: unknown key 'speker'; did you mean 'speaker'?"),
        ([GOOD, b'{"text": "caf\xe9"}'], ": not UTF-8 text (byte "),
        ([], ": manifest holds no utterance"),
        ([b"[" * 100_000], ":1: not a JSON record: "),
        ([{**GOOD, "audio_filepath": "a\0.wav"}], ":1: audio_filepath holds a null character"),
        ([{**GOOD, "duration": 10**400}], ":1: duration must be a number of seconds"),
        ([{**GOOD, "text": "a\ud800"}], ":1: text holds half of a surrogate pair"),
    ],
)
def test_manifest(
    capsys: Capture, run: Path, tmp_path: Path, records: list[dict[str, Any] | bytes], message: str
) -> None:
    manifest = write_manifest(tmp_path / "m.jsonl", *records)
    line = error_line(capsys, "evaluate", manifest, "--model", run, "--out", tmp_path / "out")
    assert line.startswith(f"error: {manifest}{message}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"audio_filepath": "."}, "{folder}: is a folder, not an audio file"),
        ({"duration": 1.5}, "{folder}/a.wav: segment 0..1.5 s is not inside the audio, which is 1.000 s long"),
        ({"offset": 3.0}, "{folder}/a.wav: segment 3..4 s is not inside the audio, which is 1.000 s long"),
        ({"duration": 1e-9}, "{folder}/a.wav: segment 0..0 s is not inside the audio, which is 1.000 s long"),
        ({"duration": 0.01}, f"160 samples of audio are shorter than one frame of {FRAME_SAMPLES}"),
    ],
)
def test_audio_of_a_manifest(capsys: Capture, run: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    manifest = write_manifest(tmp_path / "m.jsonl", {**GOOD, "id": "good"}, {**GOOD, **change, "id": "u2"})
    line = error_line(capsys, "evaluate", manifest, "--model", run, "--out", tmp_path / "out")
    assert line.startswith(f"error: utterance u2: {message.format(folder=tmp_path)}")


# As messages end where a manifest was moved, or joined from others.
MOVED = "; paths in a manifest are relative to its folder, so one that is moved or joined from others must lie in "


@pytest.mark.parametrize("command", ["align", "evaluate", "label", "pack", "splice", "transcribe"])
def test_manifest_that_was_moved(capsys: Capture, tmp_path: Path, command: str) -> None:
    (tmp_path / "moved").mkdir()
    there = [{**GOOD, "offset": offset, "id": f"u{offset}"} for offset in range(5)]
    records = [*there, {**GOOD, "audio_filepath": "b.wav"}]
    manifest = write_manifest(tmp_path / "m.jsonl", *records).rename(tmp_path / "moved" / "m.jsonl")
    more = ["--keep-order"] if command == "pack" else ["--model", tmp_path / "none"]  # refused before it is loaded
    out = [] if command == "transcribe" else ["--out", tmp_path / "out.jsonl"]
    line = error_line(capsys, command, manifest, *more, *out)
    gone = tmp_path / "moved" / "a.wav"
    assert line.startswith(f"error: 2 of 2 audio files are missing: utterance u0: {gone} and more{MOVED}")
    assert command == "pack" or not (tmp_path / "out.jsonl").exists()  # shards that are there need no audio


@pytest.mark.parametrize("command", ["evaluate", "pack", "splice"])
def test_audio_of_a_manifest_that_is_missing(capsys: Capture, run: Path, tmp_path: Path, command: str) -> None:
    records = [{**GOOD, "id": "good"}, {**GOOD, "offset": 0.5}, {**GOOD, "audio_filepath": "none.wav"}]
    records += [{**GOOD, "audio_filepath": f"{name}.wav"} for name in "bc"]
    manifest = write_manifest(tmp_path / "m.jsonl", *records)
    for name in "bc":
        write_noise(tmp_path / f"{name}.wav")
    model = [] if command == "pack" else ["--model", run]
    line = error_line(capsys, command, manifest, *model, "--out", tmp_path / "out")
    assert line == f"error: 1 of 4 audio files are missing: utterance none: {tmp_path / 'none.wav'}"


@pytest.mark.parametrize("command", ["align", "transcribe"])
def test_the_audio_of_a_manifest_that_is_there_is_used(
    capsys: Capture, run: Path, tmp_path: Path, command: str
) -> None:
    missing = [{**GOOD, "audio_filepath": f"{name}.wav"} for name in ("none", "gone")]
    manifest = write_manifest(tmp_path / "m.jsonl", *missing, GOOD)
    arguments = [command, str(manifest), "--model", str(run), "--out", str(tmp_path / "out"), "--format", "json"]
    assert main(arguments) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert [line.rsplit(": ", 2)[1:] for line in errors] == [["cannot read audio", "No such file or directory"]] * 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.json"]


@pytest.mark.parametrize("what", ["none.jsonl", "folder"])
def test_manifest_that_is_no_file(capsys: Capture, run: Path, tmp_path: Path, what: str) -> None:
    (tmp_path / "folder").mkdir()
    line = error_line(capsys, "evaluate", tmp_path / what, "--model", run)
    assert line.startswith(f"error: {tmp_path / what}: cannot read manifest: ")


def test_results_that_cannot_be_written(capsys: Capture, run: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.jsonl", GOOD)
    line = error_line(capsys, "evaluate", manifest, "--model", run, "--out", manifest)
    assert str(manifest) in line


# --- training data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "dev", "message"),
    [
        (
            {},
            {"text": "abz"},
            "data.dev, utterance a: symbol 'z' is not in the vocabulary of 4 tokens (transcript 'abz')",
        ),
        ({}, {"text": "..."}, "data.dev, utterance a: transcript '...' is empty after normalisation"),
        ({"text": "..."}, {}, "no transcript to build a vocabulary from"),
        ({"text": "abc" * 30}, {}, "1 of 1 training utterances cannot be used (train.skip_unusable=true leaves them"),
        ({"duration": 31.0}, {}, "1 of 1 training utterances cannot be used (train.skip_unusable=true leaves them"),
    ],
)
def test_training_data(
    capsys: Capture, tmp_path: Path, train: dict[str, Any], dev: dict[str, Any], message: str
) -> None:
    manifests = [
        write_manifest(tmp_path / name, {**GOOD, **change})
        for name, change in (("train.jsonl", train), ("dev.jsonl", dev))
    ]
    (tmp_path / "conf.yaml").write_text(f"data:\n  train: {manifests[0]}\n  dev: {manifests[1]}\n")
    overrides = ("encoder.width=8", "encoder.layers=1", "train.threads=1")
    line = error_line(capsys, "train", tmp_path / "conf.yaml", *overrides, "--out", tmp_path / "run")
    assert line.startswith(f"error: {message}")


def test_training_without_data(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "conf.yaml").touch()
    line = error_line(capsys, "train", tmp_path / "conf.yaml", "--out", tmp_path / "run")
    assert line.startswith("error: data.train is not set: give data.train=MANIFEST.jsonl")


# --- configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train:\n  epoch: 3\n", "unknown key 'train.epoch'; did you mean 'train.epochs'?"),
        ("trian:\n  epochs: 3\n", "unknown key 'trian'; did you mean 'train'?"),
        ("epochs: 3\n", "unknown key 'epochs'; did you mean 'train.epochs'?"),
        ("train:\n  width: 3\n", "unknown key 'train.width'; did you mean 'encoder.width'?"),
        ("augment: {noise_snr_db: [1, 2, 3]}\n", "augment.noise_snr_db: wanted 2 elements, found 3"),
        ("augment: {speeds: [a]}\n", "augment.speeds: an element of the list could not be converted to Float"),
        ("augment: {speeds: {a: 1}}\n", "augment.speeds: wanted a list, as [1, 2]"),
        ("- a\n- b\n", "wanted keys with values, found a list"),
        ("train:\n  epochs: many\n", "train.epochs: Value 'many' of type 'str' could not be converted to Integer"),
        ("train:\n  epochs: null\n", "train.epochs: "),
        ("encoder:\n  cell: lstn\n", "encoder.cell: Invalid value 'lstn', expected one of ['lstm', 'gru', 'rnn']"),
        ("augment:\n  speeds: 3\n", "augment.speeds: "),
        ("train: [1\n", "not valid YAML: while parsing a flow sequence"),
        ("train:\n  epochs: 1\n  epochs: 2\n", "not valid YAML: "),
        ("!!python/object/apply:os.getcwd []\n", "not valid YAML: could not determine a constructor"),
        ("3\n", "cannot read configuration: Invalid loaded object type: int"),
        ("train: 3\n", ""),
        ("augment:\n  noise_snr_db: [1]\n", ""),
    ],
)
def test_configuration(capsys: Capture, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert error_line(capsys, "config", path).startswith(f"error: {path}: {message}")


def test_configuration_that_is_not_utf8(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"data:\n  train: caf\xe9\n")
    assert error_line(capsys, "config", path).startswith(f"error: {path}: 'utf-8' codec can't decode byte 0xe9")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.yaml"], "none.yaml: cannot read configuration: No such file or directory"),
        (["."], ".: cannot read configuration: Is a directory"),
        (["train.epochs"], "train.epochs: cannot read configuration: No such file or directory"),
        (["train.epochs=0"], "train.epochs must be at least 1, found 0"),
        (["train.learning_rate=nan"], "train.learning_rate must be positive, found nan"),
        (["train.epohcs=3"], "override 'train.epohcs=3': unknown key 'train.epohcs'; did you mean 'train.epochs'?"),
        (["features.high_hz=9000"], "features.high_hz must be above low_hz, at most 8000, found 9000.0"),
        (["train.epochs=[1"], "override 'train.epochs=[1': not valid YAML: while parsing a flow sequence"),
        (["features.hop_ms=10.03"], "features.hop_ms: 10.03 ms at 16000 Hz is 160.48 samples, not a whole number"),
    ],
)
def test_overrides(capsys: Capture, arguments: list[str], message: str) -> None:
    assert error_line(capsys, "config", *arguments).startswith(f"error: {message}")


def test_override_without_equals_sign(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").touch()
    line = error_line(capsys, "config", tmp_path / "c.yaml", "train.epochs")
    assert line == "error: override 'train.epochs' is not of the form key=value"


# --- run folders ------------------------------------------------------------------------------------------------------


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(run: Path) -> None:
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new))

    return change


def cut(name: str) -> Callable[[Path], object]:
    return lambda run: (run / name).write_bytes((run / name).read_bytes()[: (run / name).stat().st_size // 2])


def spoil_weight(run: Path) -> None:
    tensors, facts = checkpoint.load_tensors(run / "weights.safetensors")
    tensors["encoder.output.bias"][0] = float("nan")
    checkpoint.save_tensors(run / "weights.safetensors", tensors, facts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, "{run}: run folder is missing"),
        (lambda run: (run / "config.yaml").unlink(), "{run}: not a run folder (config.yaml is missing)"),
        (edit("config.yaml", "  width: 8", "  widht: 8"), "{run}/config.yaml: unknown key 'encoder.widht'; did you"),
        (edit("config.yaml", "  layers: 1", "  layers: 2"), "{run}/weights.safetensors: tensor encoder.layers.1."),
        (
            edit("config.yaml", "  width: 8", "  width: 9"),
            "{run}/weights.safetensors: tensor encoder.layers.0.cell.bias_hh_l0 has shape (32,), the configuration "
            "wants (36,)",
        ),
        (lambda run: (run / "weights.safetensors").unlink(), "{run}/weights.safetensors: file is missing"),
        (cut("weights.safetensors"), "{run}/weights.safetensors: damaged or not a safetensors file: "),
        (lambda run: (run / "weights.safetensors").write_bytes(b""), "{run}/weights.safetensors: damaged or not a"),
        (
            lambda run: (run / "weights.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}"),
            "{run}/weights.safetensors: damaged or not a safetensors file: ",
        ),
        (spoil_weight, "{run}/weights.safetensors: tensor encoder.output.bias holds values that are not finite"),
        (lambda run: (run / "tokens.txt").unlink(), "{run}/tokens.txt"),
        (lambda run: (run / "tokens.txt").write_bytes(b"\xff\n"), "{run}"),
        (
            edit("tokens.txt", "h\n", "h\ni\n"),
            "{run}/weights.safetensors: the vocabulary has 11 tokens, the weights have 10 outputs",
        ),
        (lambda run: (run / "tokens.txt").write_bytes(b""), "{run}"),
        (edit("tokens.txt", "b\n", "a\n"), "{run}"),
    ],
)
def test_run_folder(capsys: Capture, tmp_path: Path, change: Callable[[Path], object], message: str) -> None:
    run = save_run(tmp_path / "run")
    change(run)
    line = error_line(capsys, "transcribe", write_noise(tmp_path / "a.wav"), "--model", run)
    assert message.format(run=run) in line


@pytest.mark.skipif(os.path.exists("/proc/driver/nvidia"), reason="has a GPU")
def test_no_gpu(capsys: Capture, run: Path, tmp_path: Path) -> None:
    path = write_noise(tmp_path / "a.wav")
    assert "cuda" in error_line(capsys, "transcribe", path, "--model", run, "--device", "cuda")


# --- corpora and hypotheses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["an5"], "there is no corpus 'an5'; did you mean 'an4'?"),
        (["xyz"], "there is no corpus 'xyz'; there are an4, "),
        (["an4", "--source", "none"], "none: the source does not exist"),
        (["csv"], "corpus csv has no official address; give --source PATH (a .csv file, .tsv file, folder or archive)"),
        (["an4", "speakers=3"], "corpus an4 has no option 'speakers'"),
        (["an4", "speakers"], "option 'speakers' is not of the form key=value; --source names what to read"),
        (["an4", "test-share=0.1"], "'test-share=0.1' is spelled --test-share here"),
        (["an4", "--dev-share", "1.5"], "dev_share must be at least 0 and below 1, found 1.5"),
    ],
)
def test_prepare(capsys: Capture, tmp_path: Path, arguments: list[str], message: str) -> None:
    line = error_line(capsys, "prepare", *arguments, "--out", tmp_path / "out")
    assert line.startswith(f"error: {message}")
    assert not (tmp_path / "out").exists()


def hypotheses(path: Path, *ids: str) -> Path:
    record = {"speaker": None, "reference": "a b", "hypothesis": "a b", "duration": 1.0}
    path.write_text("".join(json.dumps({"id": name, **record}) + "\n" for name in ids))
    return path


def test_compare(capsys: Capture, tmp_path: Path) -> None:
    a = hypotheses(tmp_path / "a.jsonl", "u1", "u2")
    b = hypotheses(tmp_path / "b.jsonl", "u1")
    assert "u2" in error_line(capsys, "compare", a, b)
    assert str(tmp_path / "none") in error_line(capsys, "compare", a, tmp_path / "none")
    b.write_text('{"id": "u1"')
    assert f"{b}:1" in error_line(capsys, "compare", a, b)


# --- seen from outside ------------------------------------------------------------------------------------------------


def test_from_outside(run: Path, tmp_path: Path) -> None:
    """A process of its own: what libraries write without Python is seen, and a name that is not UTF-8."""
    name = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    try:
        os.close(os.open(name, os.O_CREAT, 0o644))
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    shutil.copyfile(write_noise(tmp_path / "a.wav"), os.fsdecode(name))
    truncated = write_noise(tmp_path / "truncated.flac", 3 * RATE_HZ)
    truncated.write_bytes(truncated.read_bytes()[:30_000])
    (tmp_path / "empty.wav").touch()
    command = [sys.executable, "-m", "asr", "transcribe", name, tmp_path / "empty.wav", truncated, "--model", run]
    environment = {**os.environ, "PYTHONUTF8": "1"}
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([*command, "--format", "json"], capture_output=True, timeout=60, env=environment, cwd=root)
    assert done.returncode == 1
    assert json.loads(done.stdout)["audio_filepath"] == os.fsdecode(name)
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 2
    assert lines[0] == f"error: {tmp_path / 'empty.wav'}: file is empty (0 bytes)"
    assert lines[1].startswith(f"error: {truncated}: cannot read audio: damaged, truncated")
