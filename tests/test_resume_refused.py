"""Runs that are not resumed: with other settings, data or noise, without a whole state, or of another model."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import checkpoint, config
from asr.batch import Batch
from asr.config import Config
from asr.errors import AudioError, CheckpointError, ConfigError, Interrupted
from asr.manifest import read_manifest, write_manifest
from asr.train import Trainer
from asr.training.learner import Outcome
from asr.training.state import state_files
from resuming import RANDOM, stop_after_each_batch
from tones import tiny, write_corpus


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Config:
    corpus = write_corpus(tmp_path_factory.mktemp("tones"), ["ab", "cab", "bad", "a b c", "dab", "cc", "d"])
    return tiny(corpus, corpus, "train.batch_s=1.2", "train.epochs=3", *RANDOM)


@pytest.fixture
def stopped(tmp_path: Path, settings: Config, monkeypatch: pytest.MonkeyPatch) -> tuple[Config, Path]:
    """A run on a corpus of its own, stopped after two steps."""
    train = write_corpus(tmp_path, ["ab", "cab", "dab"])
    dev = write_corpus(tmp_path, ["bad", "a"], name="dev")
    own = replace(settings, data=replace(settings.data, train=str(train), dev=str(dev)))
    step = Trainer.step

    def step_and_stop(self: Trainer, batch: Batch) -> Outcome:
        if self.position.step == 1:
            signal.raise_signal(signal.SIGINT)
        return step(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", step_and_stop)
        with pytest.raises(Interrupted):
            Trainer(own, tmp_path / "run").run()
    return own, tmp_path / "run"


def test_other_settings_are_refused_unless_they_move_no_number(stopped: tuple[Config, Path]) -> None:
    settings, out = stopped
    with pytest.raises(ConfigError, match=r"run: holds a run with encoder\.dropout=0\.2, .* go on with 0\.3"):
        Trainer(replace(settings, encoder=replace(settings.encoder, dropout=0.3)), out, resume=True)
    Trainer(replace(settings, train=replace(settings.train, checkpoint_minutes=7.0)), out, resume=True)


@pytest.mark.parametrize("name", ["train", "dev"])
def test_other_data_are_refused(stopped: tuple[Config, Path], name: str) -> None:
    settings, out = stopped
    manifest = out.parent / f"{name}.jsonl"
    first, *others = read_manifest(manifest)
    write_manifest(manifest, [replace(first, text="b"), *others])
    with pytest.raises(CheckpointError, match=r"\.safetensors: was made from other data"):
        Trainer(settings, out, resume=True)


def test_an_utterance_that_went_from_dev_to_train_is_refused(stopped: tuple[Config, Path]) -> None:
    settings, out = stopped
    train, dev = out.parent / "train.jsonl", out.parent / "dev.jsonl"
    moved, *others = read_manifest(dev)
    write_manifest(train, [*read_manifest(train), moved])
    write_manifest(dev, others)
    with pytest.raises(CheckpointError, match=r"made from the same utterances, but with others of them in data\.train"):
        Trainer(settings, out, resume=True)
    (state,) = state_files(out)
    tensors, facts = checkpoint.load_tensors(state)
    assert facts.pop("train_utterances") == 3
    checkpoint.save_tensors(state, tensors, facts)  # as an older version left it
    Trainer(settings, out, resume=True)


def test_noise_recordings_are_checked_and_stay_the_same(
    tmp_path: Path, settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "noise", tmp_path / "run"
    folder.mkdir()
    soundfile.write(folder / "a.wav", np.ones(100), 8000)
    settings = replace(settings, augment=replace(settings.augment, noise_dir=str(folder)))
    with monkeypatch.context() as patched:
        stop_after_each_batch(patched, signal.SIGINT)
        with pytest.raises(Interrupted):
            Trainer(settings, out).run()
    Trainer(settings, out, resume=True)
    (folder / "b.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError, match=r"^augment\.noise_dir: .*b\.wav: cannot read audio: format not recognised"):
        Trainer(settings, out, resume=True)
    shutil.copyfile(folder / "a.wav", folder / "b.wav")  # now each draw would be among two
    with pytest.raises(CheckpointError, match=r"made from other recordings than augment\.noise_dir holds now"):
        Trainer(settings, out, resume=True)


def test_no_whole_state_is_left(stopped: tuple[Config, Path]) -> None:
    settings, out = stopped
    (state,) = state_files(out)
    state.write_bytes(state.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"\.safetensors: damaged .*; no older state is left"):
        Trainer(settings, out, resume=True)
    state.unlink()
    with pytest.raises(
        CheckpointError, match=r"run: holds no state .*; begin it anew: asr train .*run/config\.yaml --out"
    ):
        Trainer(settings, out, resume=True)
    Trainer(settings, out)
    (out / checkpoint.WEIGHTS_FILE).touch()
    with pytest.raises(CheckpointError, match=r"run: holds no state .*begin with its weights: train\.init_from="):
        Trainer(settings, out, resume=True)
    with pytest.raises(CheckpointError, match="nowhere: run folder is missing"):
        Trainer(settings, out / "nowhere", resume=True)


def test_state_of_another_model_is_refused(stopped: tuple[Config, Path]) -> None:
    settings, out = stopped
    wider = replace(settings, encoder=replace(settings.encoder, width=20))
    (out / checkpoint.CONFIG_FILE).write_text(config.to_yaml(wider), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"\.safetensors: was made with encoder\.width=16, which cannot go on wi"):
        Trainer(wider, out, resume=True)
