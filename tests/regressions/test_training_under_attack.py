"""What a hostile tester found in training: starting twice, edited run folders, damaged files."""

import errno
import fcntl
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asr import checkpoint, config
from asr.cli import main
from asr.config import Config
from asr.errors import CheckpointError, ConfigError, CorpusError, Interrupted, TrainingError
from asr.evaluate import Evaluation
from asr.process.lock import locked
from asr.shards.pack import pack
from asr.text import TOKENS_FILE
from asr.train import Trainer
from asr.training.outset import UNUSABLE_FILE
from asr.training.runlog import METRICS_FILE
from asr.training.state import state_files
from shard_corpus import make_manifest, make_shards
from tiny_run import error_line, succeed
from tones import tiny

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def settings(corpus: Path) -> Config:
    return tiny(corpus, corpus, "train.batch_s=1", "train.epochs=2")


@pytest.fixture
def stopped(settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped at the end of its first epoch."""
    return stop_after_an_epoch(settings, tmp_path / "run", monkeypatch)


def stop_after_an_epoch(settings: Config, out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run = Evaluation.run

    def run_and_stop(self: Evaluation, *arguments: Any, **options: Any) -> object:
        signal.raise_signal(signal.SIGTERM)
        return run(self, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Evaluation, "run", run_and_stop)
        with pytest.raises(Interrupted):
            Trainer(settings, out).run()
    return out


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file of a folder, but for the lock."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


# --- where shards come from -------------------------------------------------------------------------------------------


def test_urls_are_no_paths() -> None:
    for url in ("https://host/train/index.jsonl", "pipe:ssh host cat /data/index.jsonl", "s3://bucket/index.jsonl"):
        assert config.with_absolute_paths(config.load(None, [f"data.train={url}"])).data.train == url


def test_training_from_a_command(capsys: Capture, corpus: Path, packed: Path, tmp_path: Path) -> None:
    conf = tmp_path / "conf.yaml"
    conf.write_text(config.to_yaml(tiny(corpus, corpus, "train.epochs=1")))
    out = tmp_path / "run"
    assert "after epoch 1" in succeed(capsys, "train", conf, f"data.train=pipe:cat {packed}", "--out", out)[0]
    assert checkpoint.load_config(out).data.train == f"pipe:cat {packed}"


@pytest.mark.parametrize("key", ["train", "dev", "vocabulary"])
def test_a_pipe_is_no_manifest_to_train_on(capsys: Capture, corpus: Path, tmp_path: Path, key: str) -> None:
    """As bash makes of `data.train=<(grep ...)`."""
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "w") as pipe:
        pipe.write(corpus.read_text())
        pipe.close()
        data = {"train": corpus, "dev": corpus, key: f"/dev/fd/{reading}"}
        given = [f"data.{name}={path}" for name, path in data.items()]
        line = error_line(capsys, "train", *given, "--out", tmp_path / "run")
    assert line == f"error: /dev/fd/{reading}: is a pipe, wanted a file: training reads it more than once"


# --- two trainings in one folder --------------------------------------------------------------------------------------


def test_a_second_start_touches_nothing_of_a_run_under_way(settings: Config, tmp_path: Path, stopped: Path) -> None:
    before = contents(stopped)
    with locked(stopped), pytest.raises(TrainingError, match="another training is running in this folder"):
        Trainer(settings, stopped, resume=True).run()
    assert contents(stopped) == before
    spoilt = replace(settings, train=replace(settings.train, max_utterance_s=0.4, skip_unusable=True))
    with locked(tmp_path / "new"), pytest.raises(TrainingError, match="another training is running in this folder"):
        Trainer(spoilt, tmp_path / "new").run()
    assert contents(tmp_path / "new") == {}
    Trainer(spoilt, tmp_path / "new").run()
    assert (tmp_path / "new" / UNUSABLE_FILE).exists()


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(ConfigError, match=r"run: cannot be locked .* choose a folder on another"),
        locked(tmp_path / "run"),
    ):
        pass


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_another_training_advanced_meanwhile(
    settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    """Both read the folder while nobody held it; the second comes to the lock when the first has let it go."""
    out = tmp_path / "run"
    if resume:
        stop_after_an_epoch(settings, out, monkeypatch)
    second = Trainer(settings, out, resume=resume)
    Trainer(settings, out, resume=resume).run()
    before = contents(out)
    with pytest.raises(CheckpointError, match="another training saved its state here meanwhile; --resume goes on"):
        second.run()
    assert contents(out) == before


def test_a_run_folder_that_was_moved_is_not_made_again(
    settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out, moved = Evaluation.run, tmp_path / "run", tmp_path / "moved"

    def run_and_move(self: Evaluation, *arguments: Any, **options: Any) -> object:
        out.rename(moved)
        return run(self, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Evaluation, "run", run_and_move)
        with pytest.raises(CheckpointError, match="run: was moved or removed during training"):
            Trainer(settings, out).run()
    assert not out.exists()
    Trainer(settings, moved, resume=True).run()


# --- a run folder that was changed ------------------------------------------------------------------------------------


def test_edited_settings_are_refused_by_name(capsys: Capture, settings: Config, stopped: Path) -> None:
    capsys.readouterr()
    for where, key, value in (("augment", "gain_db", 3.0), ("train", "epochs", 1)):
        part = getattr(settings, where)
        edited = replace(settings, **{where: replace(part, **{key: value})})
        (stopped / checkpoint.CONFIG_FILE).write_text(config.to_yaml(edited))
        line = error_line(capsys, "train", "--resume", stopped)
        assert (
            f".safetensors: was made with {where}.{key}={getattr(part, key)}, which cannot go on with {value}" in line
        )
    free = replace(settings, train=replace(settings.train, keep_states=5))
    (stopped / checkpoint.CONFIG_FILE).write_text(config.to_yaml(free))
    assert "after epoch 2" in succeed(capsys, "train", "--resume", stopped)[0]


def test_an_edited_vocabulary_is_refused(capsys: Capture, stopped: Path) -> None:
    capsys.readouterr()
    tokens = (stopped / TOKENS_FILE).read_text()
    (stopped / TOKENS_FILE).write_text(tokens.replace("a\nb\n", "b\na\n"))
    wanted = "was made from another vocabulary than tokens.txt, bpe.model and pronunciations.txt hold now"
    assert wanted in error_line(capsys, "train", "--resume", stopped)
    (stopped / TOKENS_FILE).write_text(tokens)
    succeed(capsys, "train", "--resume", stopped)
    (stopped / TOKENS_FILE).write_text(tokens.replace("a\nb\n", "b\na\n"))
    assert wanted in error_line(capsys, "train", "--resume", stopped)  # of a finished run too


def test_shards_that_were_packed_again_are_refused(
    settings: Config, packed: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "shards" / "index.jsonl"
    pack(corpus, index.parent, shard_mb=0.001)
    settings = replace(settings, data=replace(settings.data, train=str(index)))
    out = stop_after_an_epoch(settings, tmp_path / "run", monkeypatch)
    Trainer(settings, out, resume=True)
    for path in index.parent.iterdir():
        path.unlink()
    pack(corpus, index.parent, shard_mb=1)  # the utterances are in the same order
    with pytest.raises(CheckpointError, match=r"was made from other shards than data\.train names now"):
        Trainer(settings, out, resume=True)


def test_a_state_of_an_older_version_goes_on(settings: Config, stopped: Path) -> None:
    """It holds the digest of the data alone."""
    (path,) = state_files(stopped)
    tensors, facts = checkpoint.load_tensors(path)
    checkpoint.save_tensors(path, tensors, {"position": facts["position"], "data": facts["data"]})
    Trainer(settings, stopped, resume=True)
    checkpoint.save_tensors(path, tensors, {"position": facts["position"], "data": "another"})
    with pytest.raises(CheckpointError, match=r"was made from other data than data\.train and data\.dev name now"):
        Trainer(settings, stopped, resume=True)


def test_a_vocabulary_of_other_texts_is_refused(
    settings: Config, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text(corpus.read_text())
    settings = replace(settings, data=replace(settings.data, vocabulary=str(texts)))
    out = stop_after_an_epoch(settings, tmp_path / "run", monkeypatch)
    Trainer(settings, out, resume=True)
    texts.write_text("".join(corpus.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(CheckpointError, match=r"was made from a vocabulary of other texts .*data\.vocabulary"):
        Trainer(settings, out, resume=True)


def test_data_that_moved_are_the_same_data(capsys: Capture, stopped: Path, corpus: Path) -> None:
    capsys.readouterr()
    before = checkpoint.load_config(stopped)
    moved, another = corpus.with_name("moved.jsonl"), corpus.with_name("another.jsonl")
    moved.write_text(corpus.read_text())
    another.write_text("".join(corpus.read_text().splitlines(keepends=True)[1:]))
    refused = "was made from other data than data.train and data.dev name now"
    assert refused in error_line(capsys, "train", "--resume", stopped, f"data.train={another}")
    assert checkpoint.load_config(stopped) == before
    succeed(capsys, "train", "--resume", stopped, f"data.train={moved}", f"data.dev={moved}")
    found = checkpoint.load_config(stopped).data
    assert (found.train, found.dev) == (str(moved), str(moved))
    assert "nothing is left to do" in succeed(capsys, "train", "--resume", stopped, f"data.train={corpus}")[1]
    assert refused in error_line(capsys, "train", "--resume", stopped, f"data.train={another}")


def test_paths_given_on_resuming_are_kept_absolute(
    capsys: Capture, stopped: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run may be resumed again from another folder; a tuned run's language model stays where it is in the run."""
    settings = checkpoint.load_config(stopped)
    tuned = replace(settings, decode=replace(settings.decode, lm="lm.bin"))
    (stopped / checkpoint.CONFIG_FILE).write_text(config.to_yaml(tuned))
    monkeypatch.chdir(corpus.parent)
    succeed(capsys, "train", "--resume", stopped, f"data.train={corpus.name}")
    found = checkpoint.load_config(stopped)
    assert (found.data.train, found.data.dev) == (str(corpus), str(corpus))
    assert found.decode.lm == "lm.bin"


def test_another_precision_is_refused(stopped: Path, settings: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` is another one on another device."""
    monkeypatch.setattr("asr.train.use_bfloat16", lambda precision, device: True)
    with pytest.raises(CheckpointError, match=r"made from another precision than train\.precision and train\.device"):
        Trainer(settings, stopped, resume=True)


def test_a_foreign_line_in_the_log_is_named(capsys: Capture, stopped: Path) -> None:
    log = stopped / METRICS_FILE
    lines = log.read_text()
    foreign = ((2, lines + '{"note": "mine"}\n'), (2, lines + "# mine\n"), (1, '{"step": "x"}\n' + lines))
    for number, text in foreign:
        log.write_text(text)
        line = error_line_among_others(capsys, "train", "--resume", stopped)
        assert line.startswith(f"error: {log}:{number}: must be a record of training with its step, found ")
        assert log.read_text() == text
    log.write_text(lines + '{"event": "ep')  # cut off by a power cut
    succeed(capsys, "train", "--resume", stopped)


def error_line_among_others(capsys: Capture, *arguments: object) -> str:
    """The only line of a command on standard error that is an error."""
    assert main([str(argument) for argument in arguments]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_damaged_weights_of_a_finished_run_are_told(capsys: Capture, settings: Config, tmp_path: Path) -> None:
    out = tmp_path / "run"
    Trainer(settings, out).run()
    capsys.readouterr()
    weights = out / checkpoint.WEIGHTS_FILE
    content = bytearray(weights.read_bytes())
    content[-10] ^= 1
    weights.write_bytes(content)
    assert f"{weights}: damaged: its tensors do not" in error_line(capsys, "train", "--resume", out)


# --- shards that are no longer whole ----------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_packing_again_finds_what_is_missing(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    index = make_shards(tmp_path)
    manifest = tmp_path / "audio" / "all.jsonl"
    pack(manifest, index.parent, shard_mb=0.02)  # complete: nothing is to be done
    damage(index.parent / "000001.tar")
    with pytest.raises(
        CorpusError, match=r"shards: is no longer what asr pack left there: .*000001\.tar: .*; pack aga"
    ):
        pack(manifest, index.parent, shard_mb=0.02)


def test_packing_again_finds_a_damaged_index(tmp_path: Path) -> None:
    index = make_shards(tmp_path)
    index.write_bytes(b"\xff" + index.read_bytes()[40:])
    with pytest.raises(CorpusError, match="is no longer what asr pack left there"):
        pack(make_manifest(tmp_path / "audio"), index.parent, shard_mb=0.02)
