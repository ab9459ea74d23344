"""Batches in threads of their own: the same results in the same order, and the caller's settings stay as they were."""

import threading
from collections.abc import Iterator

import pytest
import torch

from asr.process.parallel import batches_at_once, map_batches

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 4])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_each_batch_once_in_order(threads: int) -> None:
    weights = torch.ones(3, requires_grad=True)

    def run(batch: int) -> tuple[int, bool, int]:
        return batch * batch, (weights * batch).requires_grad, torch.get_num_threads()

    found = list(map_batches(run, range(9), CPU))
    assert found == [(batch, (batch * batch, False, 1)) for batch in range(9)]
    assert torch.get_num_threads() == threads
    assert (weights * 2).requires_grad  # the caller keeps its gradients


def test_as_many_at_once_as_torch_has_threads(threads: int) -> None:
    together = threading.Barrier(threads)
    list(map_batches(lambda batch: together.wait(20), range(2 * threads), CPU))


def test_one_batch_has_all_threads(threads: int) -> None:
    assert list(map_batches(lambda batch: torch.get_num_threads(), ["only"], CPU)) == [("only", threads)]


def test_threads_that_begin_later_have_as_many_as_before(threads: int) -> None:
    list(map_batches(lambda batch: None, range(4), CPU))
    found: list[int] = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [threads]


def test_threads_that_begin_meanwhile_have_as_many_as_before(threads: int) -> None:
    found: list[int] = []

    def ask() -> None:
        found.append(torch.get_num_threads())
        found.extend(number for _, number in map_batches(lambda batch: torch.get_num_threads(), range(2), CPU))

    batches = map_batches(lambda batch: None, range(40), CPU)
    for _ in range(4):
        next(batches)
        beside = threading.Thread(target=ask)
        beside.start()
        beside.join()
    batches.close()  # type: ignore[attr-defined]
    assert found == [threads, *[max(1, threads // 2)] * 2] * 4
    assert torch.get_num_threads() == threads


def test_an_error_goes_to_the_caller(threads: int) -> None:
    def run(batch: int) -> int:
        if batch == 3:
            raise ValueError("batch 3")
        return batch

    done = []
    with pytest.raises(ValueError, match="batch 3"):
        done += [batch for batch, _ in map_batches(run, range(6), CPU)]
    assert torch.get_num_threads() == threads


def test_other_devices_take_one_at_a_time() -> None:
    assert batches_at_once(torch.device("meta")) == 1
    assert list(map_batches(lambda batch: batch, "ab", torch.device("meta"))) == [("a", "a"), ("b", "b")]
    assert list(map_batches(lambda batch: batch, [], CPU)) == []
