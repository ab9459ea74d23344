"""Several processes train one model: each sees its share; together they do what one with the whole batch does."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, safe_open

import lives
from asr import config
from asr.config import Config
from asr.training.runlog import METRICS_FILE
from asr.training.state import state_files
from conftest import ROOT
from elastic import torchrun, workers_of
from test_resume import AT_EACH_STEP, RANDOM, assert_equal
from tones import tiny, write_corpus

pytestmark = pytest.mark.processes
TEXTS = ["ab", "cab", "bad", "a b c", "dab", "cc", "d"]
TWO_VIEWS = ("train.consistency=0.3", "train.intermediate_ctc=0.3", "encoder.layers=2")
# Nor rooms and microphones: gradients are larger with them, and their last bits differ by more than 1e-6.
LEFT_OUT = ("encoder.", "augment.reverb_probability", "augment.filter_db")
NO_DROPOUT = (*(item for item in RANDOM if not item.startswith(LEFT_OUT)), "encoder.dropout=0")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("tones"), TEXTS)


def train_together(settings: Config, out: Path, size: int) -> None:
    port = lives.free_port()
    ranks = [lives.start(lives.train_as_rank, settings, out, rank, size, port) for rank in range(size)]
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0] * size


def gradients(folder: Path, rank: int, step: str) -> tuple[dict[str, torch.Tensor], list[str]]:
    path = folder / f"gradients-{rank}" / f"{step}.safetensors"
    with safe_open(path, framework="pt") as file:
        return load_file(path), file.metadata()["ids"].split()


def logged(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / METRICS_FILE).read_text().splitlines()]


@pytest.mark.parametrize(
    ("size", "overrides"),
    [
        (2, ["train.loss_per=utterance"]),
        (3, ["train.loss_per=utterance"]),
        (2, ["train.loss_per=label"]),
        (3, ["train.loss_per=label"]),
        (2, TWO_VIEWS),
    ],
)
def test_equals_one_process_with_the_joint_batch(
    tmp_path: Path, corpus: Path, size: int, overrides: Sequence[str]
) -> None:
    """Batches of three, three and one utterances: in the last one of them some process has nothing to do."""
    settings = tiny(corpus, corpus, "train.batch_s=1.5", "train.epochs=2", *overrides, *NO_DROPOUT)
    for name, processes in (("alone", 1), ("together", size)):
        (tmp_path / name).mkdir()
        train_together(settings, tmp_path / name / "run", processes)
    alone, together = tmp_path / "alone", tmp_path / "together"
    steps = sorted(path.stem for path in (alone / "gradients-0").iterdir())
    for rank in range(size):
        assert sorted(path.stem for path in (together / f"gradients-{rank}").iterdir()) == steps
        found, _ = gradients(together, rank, steps[0])
        wanted, _ = gradients(alone, 0, steps[0])
        assert found.keys() == wanted.keys()
        # Sums in another order: what float32 rounds away is a share of the whole, 0.9e-6 of its largest with AVX-512.
        norm = float(torch.cat([gradient.flatten() for gradient in wanted.values()]).norm())
        for key in wanted:
            torch.testing.assert_close(found[key], wanted[key], rtol=1e-5, atol=1e-6 * norm)
    for step in steps:
        shares = [name for rank in range(size) for name in gradients(together, rank, step)[1]]
        assert sorted(shares) == sorted(gradients(alone, 0, step)[1])
    assert any([] in [gradients(together, rank, step)[1] for rank in range(size)] for step in steps)
    for one, many in zip(logged(alone / "run"), logged(together / "run"), strict=True):
        assert many["step"] == one["step"]
        assert many["padding_percent"] >= 0
        for key in ("train_loss", "dev_loss", "dev_wer_percent"):
            assert many[key] == pytest.approx(one[key], rel=1e-3)


def test_stopped_and_resumed_by_several_processes(tmp_path: Path, corpus: Path) -> None:
    """Only one of the processes is told to stop; all of them stop after the same step. Dropout differs between them."""
    settings = tiny(corpus, corpus, "train.batch_s=1.5", "train.epochs=20", AT_EACH_STEP, *RANDOM)
    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    train_together(settings, tmp_path / "whole" / "run", 2)
    out, port = tmp_path / "stopped" / "run", lives.free_port()
    ranks = [lives.start(lives.train_as_rank, settings, out, rank, 2, port) for rank in range(2)]
    lives.wait_until(lambda: state_files(out), *ranks)
    ranks[1].terminate()
    for process in ranks:
        process.join(60)
    assert [process.exitcode for process in ranks] == [os.EX_TEMPFAIL] * 2
    train_together(settings, out, 2)
    assert_equal(out, tmp_path / "whole" / "run")


# --- torchrun ---------------------------------------------------------------------------------------------------------


def test_torchrun_starts_a_killed_worker_again(tmp_path: Path, corpus: Path) -> None:
    settings = tiny(corpus, corpus, "train.batch_s=1.5", "train.epochs=15", AT_EACH_STEP, *RANDOM)
    conf, out = tmp_path / "conf.yaml", tmp_path / "run"
    conf.write_text(config.to_yaml(settings))
    with torchrun("train", conf, "--out", out, restarts=3) as job:
        while not state_files(out):
            assert job.poll() is None, job.communicate()[0]
            time.sleep(0.05)
        os.kill(workers_of(out)[0], signal.SIGKILL)
        printed = job.communicate(timeout=180)[0]
    assert job.returncode == 0, printed
    assert re.search(r"resuming at epoch \d+, step \d+", printed), printed
    assert [facts["epoch"] for facts in logged(out)] == list(range(1, 16))
    (tmp_path / "whole").mkdir()
    train_together(settings, tmp_path / "whole" / "run", 2)
    assert_equal(out, tmp_path / "whole" / "run")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells a process that torchrun has died")
@pytest.mark.parametrize("processes", [1, 2])
def test_processes_end_with_the_torchrun_that_started_them(tmp_path: Path, corpus: Path, processes: int) -> None:
    conf, out = tmp_path / "conf.yaml", tmp_path / "run"
    conf.write_text(config.to_yaml(tiny(corpus, corpus, "train.batch_s=1.5", "train.epochs=2000", AT_EACH_STEP)))
    with torchrun("train", conf, "--out", out, processes=processes) as job:
        while not state_files(out):
            assert job.poll() is None, job.communicate()[0]
            time.sleep(0.05)
        job.kill()
        printed = job.communicate(timeout=60)[0]  # the processes have its pipe too: they have ended
    assert "stopped by SIGTERM, state saved" in printed
    assert not workers_of(out)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells a process that torchrun has died")
def test_processes_end_with_torchrun_while_they_import_torch(tmp_path: Path) -> None:
    """They would wait for each other and for torchrun's store afterwards, for half an hour."""
    importing = tmp_path / "importing"
    (tmp_path / "torch.py").write_text(f"import time\nopen({str(importing)!r}, 'w').close()\ntime.sleep(60)\n")
    starts = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"]
    command = [sys.executable, "-m", "asr", "train", "data.train=none.jsonl", "--out", str(tmp_path / "run")]
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    with subprocess.Popen(
        [*starts, *command],
        env={**os.environ, "PYTHONPATH": paths, "TORCHELASTIC_RUN_ID": "none"},
        stderr=subprocess.PIPE,
        text=True,
    ) as job:
        while not importing.exists():
            assert job.poll() is None, job.communicate()[1]
            time.sleep(0.05)
        job.kill()
        printed = job.communicate(timeout=30)[1]  # the process has its pipe too: it has ended
    assert printed == "stopped by SIGTERM, with nothing to save; start the same command again\n"
