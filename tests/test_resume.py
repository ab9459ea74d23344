"""A run that was stopped and resumed, however often, equals a run that was not: bit for bit, on the CPU."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from asr import checkpoint, config, train
from asr.batch import Batch
from asr.checkpoint import WEIGHTS_FILE
from asr.config import Config
from asr.errors import CheckpointError, Interrupted
from asr.evaluate import Evaluation
from asr.process.distributed import World
from asr.shards.pack import pack
from asr.train import Trainer
from asr.training.learner import Outcome
from asr.training.runlog import METRICS_FILE
from asr.training.state import is_finished, state_files
from conftest import ROOT
from ragged import CUDA
from resuming import RANDOM, stop_after_each_batch
from tones import tiny, write_corpus

AT_EACH_STEP = "train.checkpoint_minutes=1e-9"
TIMES = ("elapsed_s", "audio_hours_per_hour")


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("tones"), ["ab", "cab", "bad", "a b c", "dab", "cc", "d"])


@pytest.fixture(scope="module")
def settings(corpus: Path) -> Config:
    return tiny(corpus, corpus, "train.batch_s=1.2", "train.epochs=3", *RANDOM)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, settings: Config) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    Trainer(settings, out).run()
    return out


def metrics(out: Path) -> list[dict[str, Any]]:
    """What was logged, apart from what a clock measured."""
    lines = (out / METRICS_FILE).read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]


def assert_equal(out: Path, whole: Path) -> None:
    assert metrics(out) == metrics(whole)
    for name in (str(state_files(whole)[0].relative_to(whole)), WEIGHTS_FILE):
        found, wanted = load_file(out / name), load_file(whole / name)
        assert found.keys() == wanted.keys()
        assert [key for key in wanted if not torch.equal(found[key], wanted[key])] == []
        facts = [checkpoint.load_tensors(folder / name)[1] for folder in (out, whole)]
        for fact in facts:
            fact.get("position", {}).pop("elapsed_s", None)
        assert facts[0] == facts[1]
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.iterdir())


def curve(out: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_the_random_parts_are_on(whole: Path, corpus: Path, settings: Config, tmp_path: Path) -> None:
    Trainer(replace(settings, train=replace(settings.train, seed=2)), tmp_path / "run").run()
    assert metrics(tmp_path / "run") != metrics(whole)
    assert metrics(whole)[-1]["step"] == 12  # three epochs of four batches


def test_stopped_after_each_batch(
    tmp_path: Path, settings: Config, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after_each_batch(monkeypatch, signal.SIGINT)
    out = tmp_path / "run"
    for stops in range(12):
        with pytest.raises(Interrupted, match=r"stopped by SIGINT, state saved; go on with: .*run") as raised:
            Trainer(settings, out, resume=stops > 0).run()
        assert raised.value.signal == signal.SIGINT
    assert not is_finished(out, 3)
    Trainer(settings, out, resume=True).run()
    assert is_finished(out, 3)
    assert_equal(out, whole)


def test_curves_have_neither_a_gap_nor_a_point_twice(
    tmp_path: Path, settings: Config, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.step

    def step_and_die(self: Trainer, batch: Batch) -> Outcome:
        if self.position.step == 6:
            raise Killed  # the state is that of the end of the first epoch, step 4
        return step(self, batch)

    out = tmp_path / "run"
    monkeypatch.setattr(Trainer, "step", step_and_die)
    with pytest.raises(Killed):
        Trainer(settings, out).run()
    monkeypatch.undo()
    Trainer(settings, out, resume=True).run()
    assert [step for step, _ in curve(whole, "train/loss")] == list(range(1, 13))
    for tag in ("train/loss", "train/learning_rate", "epoch/dev_loss"):
        assert curve(out, tag) == curve(whole, tag)


def test_stopped_during_evaluation(
    tmp_path: Path, settings: Config, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Evaluation.run

    def run_and_stop(self: Evaluation, *arguments: Any, **options: Any) -> object:
        signal.raise_signal(signal.SIGTERM)
        return run(self, *arguments, **options)

    monkeypatch.setattr(Evaluation, "run", run_and_stop)
    out = tmp_path / "run"
    for epochs in (1, 2, 3):
        with pytest.raises(Interrupted, match="stopped by SIGTERM"):
            Trainer(settings, out, resume=epochs > 1).run()
        assert len(metrics(out)) == epochs
    Trainer(settings, out, resume=True).run()  # nothing is left to do
    assert_equal(out, whole)


def test_killed_during_evaluation(
    tmp_path: Path, settings: Config, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by torchrun, 30 s after SIGTERM: every step was saved before."""

    evaluate = Trainer._evaluate

    def evaluate_or_die(self: Trainer) -> dict[str, Any]:
        if self.position.epoch == 2:
            raise Killed
        return evaluate(self)

    out = tmp_path / "run"
    monkeypatch.setattr(Trainer, "_evaluate", evaluate_or_die)
    with pytest.raises(Killed):
        Trainer(settings, out).run()
    monkeypatch.undo()
    assert [int(path.stem) for path in state_files(out)] == [8, 4]
    Trainer(settings, out, resume=True).run()
    assert_equal(out, whole)


def test_second_interrupt_stops_at_once(tmp_path: Path, settings: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_twice(*_: object) -> float:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("went on")

    monkeypatch.setattr(Trainer, "step", stop_twice)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        Trainer(settings, tmp_path / "run").run()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("overrides", [(), (AT_EACH_STEP,)])
def test_killed_before_each_file_is_replaced(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    """Files appear one by one (configuration, vocabulary, state, weights): death may come between any two."""
    config = tiny(corpus, corpus, "train.batch_s=3", "train.epochs=2", *RANDOM, *overrides)
    Trainer(config, tmp_path / "whole").run()
    replace_file: Callable[..., Path] = pathlib.Path.replace
    for life in range(1, 100):
        out = tmp_path / f"killed-{life}"
        left = iter(range(life))

        def replace_or_die(self: Path, target: Path, left: Any = left) -> Path:
            if next(left, None) is None:
                raise Killed
            return replace_file(self, target)

        monkeypatch.setattr(pathlib.Path, "replace", replace_or_die)
        try:
            Trainer(config, out).run()
        except Killed:
            monkeypatch.undo()
            Trainer(config, out, resume=bool(state_files(out))).run()
            assert_equal(out, tmp_path / "whole")
        else:
            break
    assert life > (8 if overrides else 5)


KILLED = """
import os, signal, sys
from pathlib import Path
from asr import config
from asr.train import Trainer

class Doomed(Trainer):
    def step(self, batch):
        if self.position.step == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(batch)

Doomed(config.load(sys.argv[1]), Path(sys.argv[2])).run()
"""


def test_killed_for_good(tmp_path: Path, settings: Config, whole: Path) -> None:
    settings = replace(settings, train=replace(settings.train, checkpoint_minutes=1e-9))
    conf, out = tmp_path / "conf.yaml", tmp_path / "run"
    conf.write_text(config.to_yaml(settings), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, conf, out], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    trainer = Trainer(settings, out, resume=True)
    assert (trainer.position.step, trainer.position.epoch, trainer.position.batch) == (6, 1, 2)
    trainer.run()
    assert_equal(out, whole)


# Python 3.12 warns of any fork beside a thread; TensorBoard's writer is one.
@pytest.mark.filterwarnings("default:.*multi-threaded.*fork:DeprecationWarning")
def test_loading_processes_change_no_number(tmp_path: Path, settings: Config, whole: Path) -> None:
    Trainer(replace(settings, train=replace(settings.train, workers=1)), tmp_path / "run").run()
    assert_equal(tmp_path / "run", whole)


# --- the states -------------------------------------------------------------------------------------------------------


def test_damaged_state_is_passed_over_for_the_one_before(
    tmp_path: Path, settings: Config, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    newest, before = state_files(out)
    content = bytearray(newest.read_bytes())
    content[-10] ^= 1  # one bit of one number
    newest.write_bytes(content)
    trainer = Trainer(settings, out, resume=True)
    assert trainer.position.step == int(before.stem)
    capsys.readouterr()
    trainer.run()
    assert f"state not used: {newest}: damaged: its tensors do not have the checksum" in capsys.readouterr().err
    assert_equal(out, whole)


def test_a_damaged_state_takes_the_place_of_no_good_one(
    tmp_path: Path, settings: Config, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        stop_after_each_batch(patched, signal.SIGINT)
        for stops in range(6):
            with pytest.raises(Interrupted):
                Trainer(settings, out, resume=stops > 0).run()
    newest, _ = state_files(out)
    newest.write_bytes(newest.read_bytes()[:-10])
    step = Trainer.step

    def step_and_stop(self: Trainer, batch: Batch) -> Outcome:
        if self.position.step == 6:  # the next state is newer than the damaged one
            signal.raise_signal(signal.SIGINT)
        return step(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", step_and_stop)
        with pytest.raises(Interrupted):
            Trainer(settings, out, resume=True).run()
    assert [int(path.stem) for path in state_files(out)] == [7, 5]
    assert newest.with_suffix(".damaged").exists()
    Trainer(settings, out, resume=True).run()
    assert_equal(out, whole)


def test_the_newest_states_are_kept(tmp_path: Path, settings: Config) -> None:
    for keep in (1, 3):
        config = replace(settings, train=replace(settings.train, keep_states=keep))
        Trainer(config, tmp_path / f"run-{keep}").run()
        assert [int(path.stem) for path in state_files(tmp_path / f"run-{keep}")] == [12, 8, 4][:keep]


# --- training from shards ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sharded(corpus: Path, settings: Config, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The settings on the same corpus in shards."""
    folder = tmp_path_factory.mktemp("shards")
    packed = pack(corpus, folder / "shards", shard_mb=0.01, seed=1, threads=1)
    assert packed.shards == 2
    index = folder / "shards" / "index.jsonl"
    return replace(settings, data=replace(settings.data, train=str(index)))


def test_from_shards_too(tmp_path: Path, sharded: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    Trainer(sharded, tmp_path / "whole").run()
    stop_after_each_batch(monkeypatch, signal.SIGTERM)
    out = tmp_path / "run"
    for stops in range(12):
        with pytest.raises(Interrupted):
            Trainer(sharded, out, resume=stops > 0).run()
    Trainer(sharded, out, resume=True).run()
    assert_equal(out, tmp_path / "whole")


def test_the_rest_of_an_epoch_of_shards_needs_as_many_processes(
    tmp_path: Path, sharded: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which utterances are left of it depends on who has read which shards."""
    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        stop_after_each_batch(patched, signal.SIGTERM)
        with pytest.raises(Interrupted):
            Trainer(sharded, out).run()
    monkeypatch.setattr(train, "join", lambda: replace(World(), size=2))
    monkeypatch.setattr(World, "broadcast", lambda *_: None)
    monkeypatch.setattr(World, "gather", lambda _, value: [value, value])
    with pytest.raises(
        CheckpointError, match=r"over shards that 1 processes shared; go on with as many processes, not 2"
    ):
        Trainer(sharded, out, resume=True)


@pytest.mark.parametrize("device", [CUDA])
def test_on_cuda_with_kernels_that_add_in_a_fixed_order(
    tmp_path: Path, settings: Config, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    fixed = replace(settings, train=replace(settings.train, device=device, deterministic=True))
    whole, out = tmp_path / "whole", tmp_path / "run"
    try:
        Trainer(fixed, whole).run()
        stop_after_each_batch(monkeypatch, signal.SIGINT)
        for stops in range(12):
            with pytest.raises(Interrupted):
                Trainer(fixed, out, resume=stops > 0).run()
        monkeypatch.undo()
        Trainer(fixed, out, resume=True).run()
        assert_equal(out, whole)
    finally:
        torch.use_deterministic_algorithms(False)
