"""Batches on the cores of a CPU: one thread for each batch, rather than several for one."""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import torch

from asr.process.ahead import map_ahead

T = TypeVar("T")
R = TypeVar("R")

# Each batch takes memory, so no more are computed at once; on a CPU with more cores, several share a batch.
_AT_ONCE = 16
_LIMITING = threading.Lock()


def batches_at_once(device: torch.device) -> int:
    """How many batches `map_batches` computes at a time, at most."""
    return min(_AT_ONCE, torch.get_num_threads()) if device.type == "cpu" else 1


def map_batches(run: Callable[[T], R], batches: Sequence[T], device: torch.device) -> Iterator[tuple[T, R]]:
    """Each batch with `run(batch)`, in order, computed without gradients.

    On a CPU the threads that torch may use here (`torch.set_num_threads`) are shared out among the batches: the steps
    of a recurrent layer are too short for several to work on one (docs/decisions/0006-cpu-inference.md).
    """
    workers = min(batches_at_once(device), len(batches))
    if workers < 2:
        for batch in batches:
            yield batch, torch.inference_mode()(run)(batch)
        return
    threads = torch.get_num_threads()
    prepare = partial(_limit_this_thread, threads // workers, threads)
    yield from map_ahead(torch.inference_mode()(run), batches, threads=workers, ahead=workers, prepare=prepare)


def _limit_this_thread(share: int, threads: int) -> None:
    """Let torch use `share` threads in this thread, and still `threads` in those that start later."""
    torch.get_num_threads()  # the first call in a thread takes the program's number, and would undo an earlier setting
    with _LIMITING:
        torch.set_num_threads(share)
        other = threading.Thread(target=torch.set_num_threads, args=(threads,))
        other.start()
        other.join()
