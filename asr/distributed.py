"""The processes that work on one job together: those that torchrun started, or this one alone."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

T = TypeVar("T")

# A rank that waits this long for another one gives up: the slowest honest wait is for rank 0 to fit the normaliser.
_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class World:
    """What one process knows of the others; alone, every method is the identity.

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

    def total(self, *values: float) -> list[float]:
        """The sum over all processes of each value."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums)
        return [float(value) for value in sums]

    def any(self, *flags: bool) -> list[bool]:
        """Of each flag, whether it is up in any process."""
        return [value > 0 for value in self.total(*map(float, flags))]

    def add_up(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over all processes; they travel as one."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
        torch._foreach_copy_(tensors, [piece.view_as(like) for piece, like in zip(pieces, tensors, strict=True)])

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Copy rank 0's tensors into everybody's."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def gather(self, value: T) -> list[T]:
        """The value of every process, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Return when every process has come here."""
        self.gather(None)


def leads() -> bool:
    """Whether this is the process that prints, also before and after `join`."""
    return os.environ.get("RANK", "0") == "0"


def local_rank() -> int:
    """Number of this process on its machine: the CUDA device that it takes."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def processes_here() -> int:
    """Processes of this job on this machine, which share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def restarted() -> bool:
    """Whether torchrun started these processes again after one of them had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def join() -> World:
    """Meet the other processes of this job, as torchrun's environment names them.

    Tensors travel by NCCL between CUDA devices and by gloo between CPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not dist.is_initialized():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(local_rank())
        # torchrun's store outlives a restart (torch 2.11), and so do the addresses of the processes that have died.
        store, rank, _ = next(rendezvous("env://", timeout=_TIMEOUT))
        store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)  # type: ignore[attr-defined]
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT)
    return World(dist.get_rank(), size)


def leave() -> None:
    """Part from the other processes, at the end of a job."""
    if dist.is_initialized():
        dist.barrier()  # one that closes its connections early kills another that is still inside gloo
        dist.destroy_process_group()
