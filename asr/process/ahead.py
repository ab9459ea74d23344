"""Work that threads do ahead of need."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_POLL_S = 0.2  # latest after which `result_of` handles a signal


def map_ahead(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    threads: int,
    ahead: int,
    prepare: Callable[[], None] | None = None,
) -> Iterator[tuple[T, R]]:
    """Each item with its result, in order; at most `ahead` results wait, and closing the iterator cancels the rest.

    `prepare` is called once in each of the threads, before any of them takes an item.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        if prepare is not None:
            _in_each(pool, threads, prepare)
        try:
            for item in items:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) > ahead:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _in_each(pool: ThreadPoolExecutor, threads: int, prepare: Callable[[], None]) -> None:
    together = threading.Barrier(threads)  # so no thread makes a second call before all have made one

    def once() -> None:
        try:
            prepare()
        except BaseException:
            together.abort()
            raise
        together.wait()

    try:
        for future in [pool.submit(once) for _ in range(threads)]:
            future.result()
    except BaseException:
        together.abort()  # free threads that wait at the barrier: the pool waits for them
        raise


def in_background(function: Callable[..., R], *arguments: Any, name: str) -> tuple[threading.Thread, Future[R]]:
    """Call `function` in a thread that the program does not wait for at its end, as it would for an executor's.

    Signals are handled while `result_of` waits, which they are not inside a call that blocks outside Python.
    """
    future: Future[R] = Future()
    thread = threading.Thread(target=_keep_result, args=(future, function, arguments), name=name, daemon=True)
    thread.start()
    return thread, future


def result_of(future: Future[R]) -> R:
    """The result, when it is there; signals are handled meanwhile.

    `Future.result` lets one pass that comes just before it falls asleep: Python then handles it when it wakes up.
    """
    try:
        while not wait([future], timeout=_POLL_S).done:
            pass
        return future.result()
    finally:
        del future  # its exception refers to this frame


def _keep_result(future: "Future[R]", function: Callable[..., R], arguments: tuple[Any, ...]) -> None:
    try:
        future.set_result(function(*arguments))
    except BaseException as error:
        future.set_exception(error)
        del future  # the error refers to this frame
