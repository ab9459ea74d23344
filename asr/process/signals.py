"""Signals that ask a program to end: what was learnt is saved first, if there is anything, and no litter is left."""

import ctypes
import faulthandler
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from asr.errors import Interrupted
from asr.process import launched

_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
_Handler = Callable[[int, FrameType | None], None]


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in a list instead of dying; the second SIGINT interrupts at once."""
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if number in received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    with _handled(note, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield received


def end_with_parent() -> None:
    """On Linux, let SIGTERM come when the process dies that started this one, which would go on without it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def serve() -> None:
    """In a process of a pool: end with the one that started it, and at Ctrl-C without a word, as that one says it."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Raise Interrupted on SIGTERM or SIGHUP: for as long as there is nothing to save."""

    def end(number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        raise Interrupted(f"stopped by {name}, with nothing to save; start the same command again", number)

    with _handled(end, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def unwinding() -> Iterator[None]:
    """Raise SystemExit on SIGTERM, with the code that a shell gives it, so that temporary files are removed.

    Only in the main thread, which signals go to. Not under torchrun: a process that waits there for others, in a
    library, would notice the signal only when they come.
    """

    def end(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    if launched() or threading.current_thread() is not threading.main_thread():
        yield
        return
    with _handled(end, signal.SIGTERM):
        yield


def use_own_stack() -> None:
    """Let signal handlers run on a stack of their own; call it from the main thread, which signals go to.

    While oneDNN's generated matrix kernels run, as in torch's LSTM on a CPU, the stack pointer may point into the heap
    (uxlfoundation/oneDNN issue 4845, fixed in its pull request 4855). A signal's frame then overwrites what lies there,
    and the process dies soon after: "corrupted size vs. prev_size". Python installs all its handlers for an alternate
    stack, if there is one; faulthandler sets one up.
    """
    if not faulthandler.is_enabled():
        faulthandler.enable(file=2)


@contextmanager
def _handled(handler: _Handler, *numbers: signal.Signals) -> Iterator[None]:
    use_own_stack()
    # A signal that is ignored stays so: nohup sets that, and a shell does for what it starts in the background.
    taken = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, handler) for number in taken}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
