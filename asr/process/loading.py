"""Loading processes: which signals they obey, and how it is told that one of them has died."""

import multiprocessing.queues
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType

from asr.errors import TrainingError


def begin_loading(_: int) -> None:
    """What a loading process begins with: it obeys its parent alone, and ends when a batch does not reach it."""
    _leave_signals_to_the_parent()
    # Called by the thread that hands batches over; Python's own prints a traceback and forgets the batch.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_for)  # type: ignore[attr-defined]


def _end_for(error: Exception, _: object) -> None:
    reason = " ".join(str(error).splitlines())
    print(f"error: a loading process cannot hand over a batch: {reason} (is /dev/shm too small?)", file=sys.stderr)
    sys.stderr.flush()
    os._exit(1)


def _leave_signals_to_the_parent() -> None:
    """Block the signals that ask a program to end, from all but the parent.

    A terminal signals the whole process group, and some schedulers signal every process. The parent then saves its
    state, and its workers must not die before it has. It ends them by SIGTERM itself, so signals from it count.
    """
    parent, signals = os.getppid(), {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    if not hasattr(signal, "sigwaitinfo"):  # macOS does not tell who sent a signal: any SIGTERM counts
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def end_with_the_parent() -> None:
        while signal.sigwaitinfo(signals).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=end_with_the_parent, daemon=True).start()


@contextmanager
def told_of_deaths() -> Iterator[None]:
    """Turn torch's errors about a loading process that died into a TrainingError of one line; others pass."""
    try:
        yield
    except ConnectionError as error:
        raise TrainingError("a loading process died; the system may have run out of memory") from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise TrainingError(f"a loading process died: {str(error).splitlines()[0].strip()}") from error


def tell_of_deaths_at_once() -> None:
    """Let `told_of_deaths` hold for the handler of SIGCHLD too; call it once there are loading processes.

    torch installs that handler with its first loading process. It raises the error at any moment of the main thread:
    in the middle of a step, or while other processes are waited for.
    """
    if threading.current_thread() is threading.main_thread():  # in others torch has no handler either
        _wrap_handler()


@cache
def _wrap_handler() -> None:
    handler = signal.getsignal(signal.SIGCHLD)

    def told(number: int, frame: FrameType | None) -> None:
        with told_of_deaths():
            if callable(handler):
                handler(number, frame)

    signal.signal(signal.SIGCHLD, told)
