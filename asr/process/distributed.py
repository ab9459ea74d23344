"""The processes that work on one job together: those that torchrun started, or this one alone."""

import atexit
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from asr.errors import ConfigError, TrainingError
from asr.process.ahead import in_background, result_of

T = TypeVar("T")

# A rank gives up after waiting this long for another; legitimate waits are for ranks that read their data more slowly.
_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class World:
    """What one process knows of the others; for a single process every method is the identity.

    Attributes:
        rank: 0..size-1; rank 0 writes files and shows progress.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """The sum over all processes of each value."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        with _together():
            dist.all_reduce(sums)
        return [float(value) for value in sums]

    def any(self, *flags: bool) -> list[bool]:
        """Whether each flag is set in any process."""
        return [value > 0 for value in self.sum(*map(float, flags))]

    def all_reduce(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over all processes; they are sent as one."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _together():
            dist.all_reduce(flat)
        pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
        torch._foreach_copy_(tensors, [piece.view_as(like) for piece, like in zip(pieces, tensors, strict=True)])

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Copy rank 0's tensors into those of all processes."""
        if self.size > 1:
            for tensor in tensors:
                with _together():
                    dist.broadcast(tensor, 0)

    def gather(self, value: T) -> list[T]:
        """The value of every process, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _together():
            dist.all_gather_object(values, value)
        return values

    def agree(self, facts: Mapping[str, Any]) -> None:
        """Make sure that all processes found the same.

        Args:
            facts: what this process found, by name.

        Raises:
            TrainingError: in every process, when one found something other than rank 0; the message names it.
        """
        (_, wanted), *others = self.gather((socket.gethostname(), dict(facts)))
        for rank, (host, found) in enumerate(others, start=1):
            for name, value in wanted.items():
                if found.get(name) != value:
                    raise TrainingError(
                        f"rank {rank} (on {host}) and rank 0 do not see the same files: {name} is {found.get(name)} "
                        f"there, {value} for rank 0"
                    )

    def barrier(self) -> None:
        """Wait until every process has called this."""
        self.gather(None)


def leads() -> bool:
    """Whether this is the process that prints; also valid before and after `join`."""
    return os.environ.get("RANK", "0") == "0"


def local_rank() -> int:
    """Number of this process on its machine, and of the CUDA device that it uses."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def processes_here() -> int:
    """How many processes of this job run on this machine and share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def restarted() -> bool:
    """Whether torchrun started these processes again after one of them had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def launch() -> str:
    """What torchrun's processes know it by, after a restart too; another torchrun has another one."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    # "none" is the name of each that was given none. It starts rank 0 again on the same machine.
    return f"{socket.gethostname()} {os.getppid()}" if name == "none" else name


def join() -> World:
    """Connect to the other processes of this job, which torchrun's environment variables describe.

    Tensors travel by NCCL between CUDA devices and by gloo between CPUs.

    Raises:
        ConfigError: the environment names several processes, but not which one this is or where they meet.
        TrainingError: they could not connect.
    """
    size = _count("WORLD_SIZE", 1)
    if size == 1:
        return World()
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE={size} is set, and not {', '.join(missing)}: start several processes with torchrun, and leave "
            "WORLD_SIZE unset for one"
        )
    rank = _count("RANK", 0)
    if rank >= size:
        raise ConfigError(f"RANK must be below WORLD_SIZE={size}, found {rank}")
    if not dist.is_initialized():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(local_rank())
        with _together():
            result_of(in_background(_meet, rank, size, "cpu:gloo,cuda:nccl" if cuda else "gloo", name="join")[1])
        if not cuda:  # NCCL would wait for the other processes of this machine, which a failed one must not
            atexit.register(_disconnect)
    return World(rank, size)


def _meet(rank: int, size: int, backend: str) -> None:
    # torchrun's store outlives a restart (torch 2.11), and so do the addresses of the processes that have died.
    store, _, _ = next(rendezvous("env://", timeout=_TIMEOUT))
    store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT)


def leave() -> None:
    """Disconnect from the other processes at the end of a job."""
    if dist.is_initialized():
        with _together():
            dist.barrier()  # a process that closes its connections early kills one that is still inside gloo
        dist.destroy_process_group()


def _disconnect() -> None:
    """End gloo's threads: while Python shuts down they abort the process, which then ends with 134 whatever it said."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _count(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or (name == "WORLD_SIZE" and int(text) == 0):
        raise ConfigError(f"{name} must be a whole number, found {text!r}; torchrun sets it")
    return int(text)


@contextmanager
def _together() -> Iterator[None]:
    """Wrap what all processes do together: where another one has ended, raise an error that says so on one line."""
    try:
        yield
    except RuntimeError as error:  # gloo's, NCCL's and the store's alike
        reason = str(error).splitlines()[0]
        raise TrainingError(
            f"rank {os.environ['RANK']} cannot go on without the others; the first of them that ended says why in its "
            f"own message ({reason})"
        ) from error
