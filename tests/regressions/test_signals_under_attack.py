"""What a hostile tester found in training: signals at bad moments, loading processes, sources that stall."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

import asr.batch
import asr.shards.order
from asr import checkpoint, config
from asr.batch import Batch, Batches, BatchOrder, Examples
from asr.cli import main
from asr.config import Config
from asr.errors import Interrupted, TrainingError
from asr.features import Normalizer
from asr.manifest import read_manifest
from asr.process.signals import ending_at_once
from asr.shards.index import Shard, read_shard
from asr.shards.order import ShardOrder
from asr.train import Trainer
from asr.training.learner import Outcome
from asr.training.state import state_files
from tones import tiny

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def settings(corpus: Path) -> Config:
    return tiny(corpus, corpus, "train.batch_s=1", "train.epochs=2")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_before_the_first_step(
    capsys: Capture, settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    conf, out = tmp_path / "conf.yaml", tmp_path / "run"
    conf.write_text(config.to_yaml(settings))
    command = ["train", str(conf), "--out", str(out), "--auto-resume"]
    before = signal.getsignal(number)
    with monkeypatch.context() as patched:
        patched.setattr(Normalizer, "fit", lambda *_: signal.raise_signal(number))
        assert main(command) == os.EX_TEMPFAIL == 75
    assert signal.getsignal(number) == before
    wanted = f"stopped by {number.name}, with nothing to save; start the same command again\n"
    assert capsys.readouterr().err == wanted
    assert main(command) == 0


def test_sigterm_while_the_first_batch_is_loaded(
    settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a state already: normalisation need not be fitted again."""
    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_next", lambda *_: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            Trainer(settings, out).run()
    assert [int(path.stem) for path in state_files(out)] == [0]
    Trainer(settings, out, resume=True).run()
    Trainer(settings, tmp_path / "whole").run()
    for one, other in zip(state_files(out), state_files(tmp_path / "whole"), strict=True):
        found, wanted = checkpoint.load_tensors(one)[0], checkpoint.load_tensors(other)[0]
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_at_once():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12, of forking beside threads
def test_loading_processes_outlive_signals_that_are_not_their_parents(corpus: Path) -> None:
    """Schedulers send SIGTERM to every process of a job; the one that trains has a state to save first."""
    utterances = read_manifest(corpus)
    examples = Examples(utterances, [[1]] * len(utterances), config.load(None, ["audio.sample_rate_hz=8000"]).audio, 1)
    order = BatchOrder([item.duration for item in utterances], 0.1, shuffle=False)
    batches = Batches(examples, order, workers=1, pin_memory=False)
    before = set(mp.active_children())  # of other tests, until they are collected
    found = iter(batches)
    next(found)
    (worker,) = set(mp.active_children()) - before
    assert worker.pid is not None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        send_from_another_process(worker.pid, number)
    assert len(list(found)) == len(utterances) - 1
    assert worker.is_alive()
    worker.terminate()  # by the parent
    worker.join(60)
    assert worker.exitcode == 0


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12, of forking beside threads
def test_a_batch_that_cannot_be_handed_over_ends_its_loading_process(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where /dev/shm is full it was lost, and training waited for it for ever."""
    utterances = read_manifest(corpus)
    examples = Examples(utterances, [[1]] * len(utterances), config.load(None, ["audio.sample_rate_hz=8000"]).audio, 1)
    order = BatchOrder([item.duration for item in utterances], 0.1, shuffle=False)
    monkeypatch.setattr(asr.batch, "collate", lambda _: threading.Lock())  # can be sent nowhere
    batches = Batches(examples, order, workers=1, pin_memory=False)
    batches.loader.timeout = 30  # seconds
    with pytest.raises(TrainingError, match=r"^a loading process died: DataLoader worker .*exited unexpectedly"):
        list(batches)
    wanted = "error: a loading process cannot hand over a batch: cannot pickle '_thread.lock' object (is /dev/shm too "
    assert capfd.readouterr().err == f"{wanted}small?)\n"


def send_from_another_process(pid: int, number: signal.Signals) -> None:
    assert os.spawnlp(os.P_WAIT, "kill", "kill", f"-{number.value}", str(pid)) == 0


STALL_S = 60


class Stalling:
    """`read_shard` that stalls at its third shard until it is told to go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.calls = iter(range(1000))

    def __call__(self, shard: Shard) -> Iterator[tuple[int, bytes]]:
        if next(self.calls) == 2:
            assert self.go_on.wait(STALL_S)
        yield from read_shard(shard)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_source_that_stalls_holds_up_no_signal(
    settings: Config, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    settings = replace(
        settings,
        data=replace(settings.data, train=str(packed)),
        features=replace(settings.features, normalization="utterance"),
    )
    stalling = Stalling()
    monkeypatch.setattr(asr.shards.order, "read_shard", stalling)
    # A pool for each shard: the first two are trained on.
    monkeypatch.setattr(ShardOrder.__init__, "__kwdefaults__", {**ShardOrder.__init__.__kwdefaults__, "pool": 1})
    timer = threading.Timer(0.5, os.kill, (os.getpid(), number))
    step = Trainer.step
    stalled = []

    def step_and_set_the_timer(self: Trainer, batch: Batch) -> Outcome:
        outcome = step(self, batch)
        if self.position.step == 2:  # on a slow machine it takes long to come here
            stalled.append(time.monotonic())
            timer.start()
        return outcome

    monkeypatch.setattr(Trainer, "step", step_and_set_the_timer)
    try:
        with pytest.raises(Interrupted, match="state saved"):
            Trainer(settings, tmp_path / "run").run()
        assert time.monotonic() - stalled[0] < STALL_S / 2
        assert [int(path.stem) for path in state_files(tmp_path / "run")] == [2]
    finally:
        timer.cancel()
        stalling.go_on.set()
