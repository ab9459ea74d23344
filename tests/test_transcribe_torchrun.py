"""Several processes transcribe many files: each of them once, also when one of the processes is killed half-way."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cli import main
from asr.process.distributed import World
from elastic import torchrun, workers_of
from tiny_run import RATE_HZ, error_line, save_run

pytestmark = pytest.mark.processes
FILES = 1000
EXACT = ("--precision", "float32")  # the text of a file does not depend on what is in its batch


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of 0.2 to 0.6 s in two folders."""
    folder = tmp_path_factory.mktemp("calls")
    random = np.random.default_rng(5)
    for number in range(FILES):
        path = folder / "ab"[number % 2] / f"{number:04d}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.1 * random.standard_normal(random.integers(3200, 9600)), RATE_HZ)
    return folder


@pytest.fixture(scope="module")
def alone(calls: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What one process merges."""
    folder = tmp_path_factory.mktemp("alone")
    arguments = ["transcribe", calls, "--model", run, "--out", folder / "out", "--merged", folder / "all.txt", *EXACT]
    assert main(list(map(str, arguments))) == 0
    text = (folder / "all.txt").read_text()
    assert [Path(line.split("\t")[0]).stem for line in text.splitlines()] == [
        *(f"{number:04d}" for number in range(0, FILES, 2)),
        *(f"{number:04d}" for number in range(1, FILES, 2)),
    ]
    return text


def test_two_processes_share_the_files(calls: Path, run: Path, alone: str, tmp_path: Path) -> None:
    """One of the files is bad: the exit code is 1 in both processes, which torchrun calls a failure."""
    (calls / "b" / "0100.wav").touch()
    out, merged = tmp_path / "out", tmp_path / "all.txt"
    with torchrun("transcribe", calls, "--model", run, "--out", out, "--merged", merged, *EXACT) as job:
        printed = job.communicate(timeout=120)[0]
    (calls / "b" / "0100.wav").unlink()
    assert job.returncode != 0
    assert printed.count(f"error: {calls}/b/0100.wav: file is empty (0 bytes)\n") == 1
    assert merged.read_text() == alone
    assert len(list(out.rglob("*.txt"))) == FILES
    assert list(out.rglob(".*")) == []


def test_a_killed_process_is_made_up_for(calls: Path, run: Path, alone: str, tmp_path: Path) -> None:
    out, merged = tmp_path / "out", tmp_path / "all.txt"
    # A script in place of `-m asr`: groups of one file, so that files are written one by one while others are left.
    arguments = ["transcribe", calls, "--model", run, "--out", out, "--merged", merged, *EXACT]
    with torchrun(*arguments, restarts=2, script=[__file__]) as job:
        while len(done := sorted(out.rglob("[0-9]*.txt"))) < FILES // 2:
            assert job.poll() is None, job.communicate()[0]
            time.sleep(0.02)
        before = {path: path.stat().st_mtime_ns for path in done}
        os.kill(max(workers_of(out)), signal.SIGKILL)
        printed = job.communicate(timeout=120)[0]
    assert job.returncode == 0, printed
    assert len(before) < FILES
    assert merged.read_text() == alone
    assert sorted(path.stem for path in out.rglob("[0-9]*.txt")) == [f"{number:04d}" for number in range(FILES)]
    # What was there was not done again: each file was transcribed by one process, once.
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_processes_cannot_share(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, calls: Path, run: Path
) -> None:
    monkeypatch.setattr("asr.process.distributed.join", lambda: World(0, 2))
    for arguments, message in (
        ([calls], "several processes need --out DIR or --beside: each recording becomes a file of its own"),
        (["-", "--out", "out"], "several processes cannot share standard input: name files, folders, patterns or a"),
    ):
        assert message in error_line(capsys, "transcribe", *arguments, "--model", run)


if __name__ == "__main__":
    from asr import transcribe

    transcribe.GROUP_S = 0.0
    transcribe._READ_AHEAD = 1
    write = transcribe.Transcriber._group

    def slowly(self, group, n_best):  # type: ignore[no-untyped-def]
        time.sleep(0.01)
        return write(self, group, n_best)

    transcribe.Transcriber._group = slowly  # type: ignore[method-assign]
    sys.exit(main())
