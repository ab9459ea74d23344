"""What a hostile tester found in training by several processes: halves of environments, other data, lost ranks."""

import atexit
import json
import os
import re
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import lives
from asr import config
from asr.config import Config
from asr.errors import ConfigError, Interrupted, TrainingError
from asr.features import Normalizer
from asr.manifest import read_manifest, write_manifest
from asr.process import distributed
from asr.process.distributed import World, join
from asr.train import Trainer
from asr.training.runlog import METRICS_FILE
from asr.training.state import state_files
from test_resume import AT_EACH_STEP, stop_after_each_batch
from tones import tiny, write_corpus

TEXTS = ["ab", "cab", "bad", "dab"]


@pytest.fixture
def settings(corpus: Path) -> Config:
    return tiny(corpus, corpus, "train.batch_s=1", "train.epochs=2")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 is set, and not RANK, MASTER_ADDR, MASTER_PORT: start several processes"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE=2 is set, and not MASTER_ADDR, MASTER_PORT: start several"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a whole number, found 'two'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE must be a whole number, found '0'"),
        (
            {"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"},
            "RANK must be below WORLD_SIZE=2, found 2",
        ),
    ],
)
def test_half_an_environment_of_several_processes(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        join()


def test_what_ranks_see_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "gather", lambda _, value: [value, ("node7", {**value[1], "data": "x"})])
    World(0, 2).agree({"step": 3, "data": "x"})
    wanted = r"^rank 1 \(on node7\) and rank 0 do not see the same files: data is x there, y for rank 0$"
    with pytest.raises(TrainingError, match=wanted):
        World(0, 2).agree({"step": 3, "data": "y"})


def test_a_rank_that_loses_another_says_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object) -> None:
        raise RuntimeError("[pair.cc:553] Connection closed by peer [127.0.0.1]:2\nException raised from\nframe #0")

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(dist, "all_reduce", lost)
    with pytest.raises(TrainingError) as raised:
        World(1, 2).sum(1.0)
    assert str(raised.value) == (
        "rank 1 cannot go on without the others; the first of them that ended says why in its own message "
        "([pair.cc:553] Connection closed by peer [127.0.0.1]:2)"
    )


def test_gloo_ends_before_python_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads aborted every fourth process or so that ended with an error, which has no chance to `leave`."""

    def meet(*_: object) -> None:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)

    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr(distributed, "_meet", meet)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(atexit, "register", at_exit.append)
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert join() == World(0, 2)
    assert dist.is_initialized()
    for end in at_exit:
        end()
    assert not dist.is_initialized()


@pytest.mark.parametrize("empty", [False, True])
def test_normalisation_fitted_in_shares_is_that_of_the_whole(empty: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.randn(2, 50, 16, generator=generator) * 3 - 7, torch.tensor([50, 30])) for _ in range(5)]
    whole, shared = (Normalizer(config.FeatureConfig(mel_bins=16)) for _ in range(2))
    whole.fit(batches)
    others: list[torch.Tensor] = []
    split = 0 if empty else 2  # empty: this process was given no batch
    Normalizer(config.FeatureConfig(mel_bins=16)).fit(batches[split:], others.extend)
    kept = [tensor.clone() for tensor in others]
    shared.fit(batches[:split], lambda sums: torch._foreach_add_(sums, kept))
    torch.testing.assert_close(shared.mean, whole.mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(shared.std, whole.std, rtol=1e-6, atol=0)


def test_splits_of_other_ranks_are_logged(settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 1, which is played here, did its share of each batch in four parts."""
    monkeypatch.setattr(World, "any", lambda _, *flags: [*flags[:2], True] if len(flags) == 3 else list(flags))
    gather = World.gather
    pieces = (4, ["other"])
    monkeypatch.setattr(
        World, "gather", lambda self, value: [value, pieces] if value == (1, []) else gather(self, value)
    )
    monkeypatch.setattr(Trainer, "split", property(lambda _: (1, []), lambda *_: None), raising=False)
    Trainer(settings, tmp_path / "run").run()
    lines = [json.loads(line) for line in (tmp_path / "run" / METRICS_FILE).read_text().splitlines()]
    events = [facts for facts in lines if facts["event"] == "out of memory"]
    assert events
    assert {(facts["rank"], facts["parts"], *facts["ids"]) for facts in events} == {(1, 4, "other")}


# --- processes of their own -------------------------------------------------------------------------------------------


def machines(tmp_path: Path, *texts: list[str]) -> list[Path]:
    """A folder for each machine, where the same names stand for other files."""
    folders = []
    for number, said in enumerate(texts):
        folder = tmp_path / f"machine-{number}"
        write_manifest(folder / "both.jsonl", read_manifest(write_corpus(folder, said)))
        folders.append(folder)
    return folders


def train_together(settings: Config, folders: list[Path]) -> list[str]:
    """What each machine's process failed with."""
    port, size = lives.free_port(), len(folders)
    ranks = [
        lives.start(lives.train_in_folder_as_rank, settings, Path("run"), rank, size, port, folder)
        for rank, folder in enumerate(folders)
    ]
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [2] * size
    return [(folder / "run" / "error.txt").read_text() for folder in folders]


HERE = tiny(Path("both.jsonl"), Path("both.jsonl"), "train.batch_s=1", "train.epochs=2000")


@pytest.mark.processes
def test_ranks_that_read_other_data_end_with_its_name(tmp_path: Path) -> None:
    errors = train_together(HERE, machines(tmp_path, TEXTS, [*TEXTS[:-1], "bab"]))
    for error in errors:
        assert re.match(r"rank 1 \(on .*\) and rank 0 do not see the same files: data is \w+ there, \w+ for", error)


@pytest.mark.processes
def test_ranks_that_see_another_state_end_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One goes on, the other begins: the first waited for the second, which waited in another place."""
    folders = machines(tmp_path, TEXTS, TEXTS)
    monkeypatch.chdir(folders[0])
    with monkeypatch.context() as patched:
        stop_after_each_batch(patched, signal.SIGTERM)
        with pytest.raises(Interrupted):
            Trainer(HERE, Path("run")).run()
    for error in train_together(HERE, folders):
        assert error.endswith("the newest state is none there, 000000001.safetensors for rank 0"), error


@pytest.mark.processes
def test_sigterm_to_every_process_of_several_ranks(tmp_path: Path, corpus: Path) -> None:
    settings = tiny(corpus, corpus, "train.batch_s=1", "train.epochs=2000", "train.workers=1", AT_EACH_STEP)
    out, port = tmp_path / "run", lives.free_port()
    ranks = [lives.start(lives.train_as_rank, settings, out, rank, 2, port) for rank in range(2)]
    lives.wait_until(lambda: len(state_files(out)) >= 2, *ranks)
    pids = [process.pid for process in ranks]
    children = [child for pid in pids for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    assert len(children) >= 2  # what loads
    for pid in [*map(int, children), *pids]:
        os.kill(pid, signal.SIGTERM)
    for process in ranks:
        process.join(60)
    assert [process.exitcode for process in ranks] == [os.EX_TEMPFAIL] * 2


@pytest.mark.processes
def test_a_rank_that_is_killed_ends_the_others_with_one_line(tmp_path: Path, settings: Config) -> None:
    settings = replace(settings, train=replace(settings.train, epochs=2000))
    out, port = tmp_path / "run", lives.free_port()
    ranks = [lives.start(lives.train_as_rank, settings, out, rank, 2, port) for rank in range(2)]
    lives.wait_until(lambda: state_files(out), *ranks)
    ranks[1].kill()
    ranks[0].join(60)
    assert ranks[0].exitcode == 2
    assert re.fullmatch(r"rank 0 cannot go on without the others; .*Connection.*", (out / "error.txt").read_text())


@pytest.mark.processes
def test_sigterm_while_the_others_are_waited_for(tmp_path: Path, settings: Config) -> None:
    conf, errors = tmp_path / "conf.yaml", tmp_path / "errors.txt"
    conf.write_text(config.to_yaml(settings))
    command = ("train", str(conf), "--out", str(tmp_path / "run"))
    port = lives.free_port()
    process = lives.start(lives.command, *command, errors=errors, rank=(0, 2, port))
    with socket.socket() as caller:
        lives.wait_until(lambda: not caller.connect_ex(("127.0.0.1", port)), process)
    process.terminate()
    process.join(60)
    assert process.exitcode == os.EX_TEMPFAIL
    assert errors.read_text().endswith("stopped by SIGTERM, with nothing to save; start the same command again\n")
