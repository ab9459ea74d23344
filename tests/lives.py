"""Trainings in processes of their own, which tests kill, starve and join; torch is imported once for all of them."""

import atexit
import multiprocessing
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch._dynamo  # optimisers import it when the first one is made: a second of each life
from safetensors.torch import save_file

from asr import checkpoint
from asr.batch import Batch
from asr.cli import main
from asr.config import Config
from asr.errors import AsrError, Interrupted
from asr.process.distributed import leave
from asr.train import Trainer
from asr.training.learner import Outcome
from asr.training.state import state_files


@cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # before Python 3.13 the server does not take it from here
    warm_up = context.Process(target=os.getpid)
    warm_up.start()
    warm_up.join()
    atexit.register(_kill_what_is_left)
    return context


def _kill_what_is_left() -> None:
    # After a test that failed: Python would wait for them before it ends.
    for process in multiprocessing.active_children():
        process.kill()


def start(target: Callable[..., None], *arguments: Any, **named: Any) -> ForkServerProcess:
    """A process that calls `target`; it starts in milliseconds, after the first one."""
    process = _server().Process(target=target, args=arguments, kwargs=named)
    process.start()
    return process


def wait_until(reached: Callable[[], object], *processes: ForkServerProcess) -> None:
    """Return when it is reached; fails when one of the processes has ended instead."""
    while not reached():
        codes = [process.exitcode for process in processes]
        assert codes == [None] * len(codes), codes
        time.sleep(0.01)


def train(config: Config, out: Path) -> None:
    """Start the run in `out`, or go on with it. Ends with 0, 2 after one of our errors, 75 after SIGTERM."""
    torch.set_num_threads(1)
    _write_errors_to(out.parent / f"stderr-{os.getpid()}.txt")
    try:
        Trainer(config, out, resume=bool(state_files(out))).run()
    except Interrupted as stop:
        sys.exit(stop.exit_code)
    except (AsrError, OSError) as error:
        out.mkdir(parents=True, exist_ok=True)
        (out / "error.txt").write_text(str(error))
        sys.exit(2)


def write_tensors_and_die(path: Path, size: int) -> None:
    """Write so many bytes of zeros; the system kills the process when its file is to grow past half of them."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it: the write would fail, and be tidied up after
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))
    checkpoint.save_tensors(path, {"zeros": torch.zeros(size, dtype=torch.uint8)}, {})


def command(*arguments: str, errors: Path, rank: tuple[int, int, int] | None = None) -> None:
    """`asr` with these arguments, its standard error in a file; as `rank` of a number that meet at a port."""
    torch.set_num_threads(1)
    _write_errors_to(errors)
    if rank is not None:
        _become_rank(*rank)
    sys.exit(main(arguments))


def train_and_die_writing(config: Config, out: Path, written: int) -> None:
    """As `train`, killed in the middle of the file of tensors that follows `written` whole ones."""
    left = iter(range(written))

    def save_or_die(tensors: Any, path: Path, metadata: Any) -> None:
        save_file(tensors, path, metadata=metadata)
        if next(left, None) is None:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.save_file = save_or_die
    train(config, out)


def train_with_small_files(config: Config, out: Path, limit_bytes: int) -> None:
    """As `train`, where no file may grow past `limit_bytes`: what a quota does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    train(config, out)


def train_in_folder_as_rank(config: Config, out: Path, rank: int, size: int, port: int, folder: Path) -> None:
    """As `train`, one of `size` processes on machines of their own: relative paths are from `folder`."""
    os.chdir(folder)
    _become_rank(rank, size, port)
    train(config, out)


def train_as_rank(config: Config, out: Path, rank: int, size: int, port: int) -> None:
    """As `train`, one of `size` processes that work together; keeps its gradients of each step."""
    _become_rank(rank, size, port)
    Trainer.step = keeping_gradients(Trainer.step, out.parent / f"gradients-{rank}")  # type: ignore[method-assign]
    train(config, out)
    leave()


def keeping_gradients(step: Callable[[Trainer, Batch], Outcome], folder: Path) -> Callable[[Trainer, Batch], Outcome]:
    """`Trainer.step` that writes the clipped gradients of the joint batch, and the ids of the own share."""

    def step_and_keep(self: Trainer, batch: Batch) -> Outcome:
        outcome = step(self, batch)
        folder.mkdir(exist_ok=True)
        parameters = self.learner.recognizer.named_parameters()
        gradients = {name: parameter.grad for name, parameter in parameters if parameter.grad is not None}
        path = folder / f"{self.position.epoch}-{self.position.batch}.safetensors"
        safetensors.torch.save_file(gradients, path, metadata={"ids": " ".join(batch.ids)})
        return outcome

    return step_and_keep


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _become_rank(rank: int, size: int, port: int) -> None:
    numbers = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(number) for name, number in numbers.items()}}


def _write_errors_to(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), 2)
