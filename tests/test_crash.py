"""Whatever ends a training, and whenever: what is resumed equals what was never disturbed, to the bit."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import lives
from asr.checkpoint import WEIGHTS_FILE
from asr.config import Config
from asr.files import remove_temporary
from asr.train import Trainer
from asr.training.state import STATES_FOLDER, state_files
from test_resume import AT_EACH_STEP, RANDOM, assert_equal
from tones import tiny, write_corpus

pytestmark = pytest.mark.processes
KILLS = 30


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Config:
    corpus = write_corpus(tmp_path_factory.mktemp("tones"), ["ab", "cab", "bad", "a b c", "dab", "cc", "d"])
    return tiny(corpus, corpus, "train.batch_s=1.2", "train.epochs=8", AT_EACH_STEP, *RANDOM)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, settings: Config) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    Trainer(settings, out).run()
    return out


def finish(settings: Config, out: Path) -> None:
    process = lives.start(lives.train, settings, out)
    process.join(120)
    assert process.exitcode == 0


def test_killed_at_random_moments(tmp_path: Path, settings: Config, whole: Path) -> None:
    """State is written at each step, so that a good part of the moments lies inside the writing."""
    out = tmp_path / "run"
    rng = random.Random(1)
    kills, reached = 0, set()
    while kills < KILLS:
        before = state_files(out)
        process = lives.start(lives.train, settings, out)
        if kills % 2:  # soon after it has written a state, however slow the machine is; otherwise at any time
            while state_files(out) == before and process.exitcode is None:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.05))
        else:
            time.sleep(rng.uniform(0.01, 0.6))
        process.kill()
        process.join()
        if process.exitcode == 0:  # it came to the end: once more from the start
            assert_equal(out, whole)
            out.rename(tmp_path / f"finished-{kills}")
            continue
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        reached.add(len(state_files(out)) and int(state_files(out)[0].stem))
    assert len(reached) > 5  # not always at the same place
    finish(settings, out)
    assert_equal(out, whole)


def test_killed_inside_a_file(tmp_path: Path, settings: Config, whole: Path) -> None:
    """Half of the file of tensors is there when the process dies: the third, the sixth and so on."""
    out = tmp_path / "run"
    lives_taken = 0
    while True:
        process = lives.start(lives.train_and_die_writing, settings, out, 2)
        process.join(120)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        lives_taken += 1
        half_written = [*out.glob(".*.tmp"), *(out / STATES_FOLDER).glob(".*.tmp")]
        assert len(half_written) == 1  # the next life removes it
    assert lives_taken > 10
    assert_equal(out, whole)


def test_killed_while_safetensors_writes(tmp_path: Path) -> None:
    """It writes to a file of its own, which it renames onto ours; both go."""
    process = lives.start(lives.write_tensors_and_die, tmp_path / "big.safetensors", 4_000_000)
    process.join(120)
    assert process.exitcode == -signal.SIGXFSZ
    assert list(tmp_path.glob(".*"))
    remove_temporary(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_sigterm_asks_to_be_started_again(tmp_path: Path, settings: Config, whole: Path) -> None:
    out = tmp_path / "run"
    process = lives.start(lives.train, settings, out)
    lives.wait_until(lambda: state_files(out), process)
    process.terminate()
    process.join(60)
    assert process.exitcode == os.EX_TEMPFAIL == 75
    finish(settings, out)
    assert_equal(out, whole)


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_files_that_cannot_grow(tmp_path: Path, settings: Config, whole: Path) -> None:
    """With a limit on the size of files the state can be begun and not be finished."""
    out = tmp_path / "run"
    state_bytes = state_files(whole)[0].stat().st_size
    process = lives.start(lives.train_with_small_files, settings, out, state_bytes // 2)
    process.join(60)
    assert process.exitcode == 2
    error = (out / "error.txt").read_text()
    assert ".safetensors: cannot be written: " in error
    assert "File too large" in error
    assert state_files(out) == []
    (out / "error.txt").unlink()
    finish(settings, out)
    assert_equal(out, whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting a small file system is not allowed here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk(small_disk: Path, settings: Config, whole: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(512 * 1024 - 5 * state_files(whole)[0].stat().st_size // 2))
    out = small_disk / "run"
    process = lives.start(lives.train, settings, out)
    process.join(60)
    assert process.exitcode == 2
    filler.unlink()
    assert "No space left on device" in (out / "error.txt").read_text()
    (out / "error.txt").unlink()
    assert (out / WEIGHTS_FILE).exists() <= bool(state_files(out))
    finish(settings, out)
    assert_equal(out, whole)
