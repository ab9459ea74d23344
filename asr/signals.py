"""Signals that ask a training to end: what was learnt is saved first, where there is anything."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from asr.errors import Interrupted

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


@contextmanager
def ending_at_once() -> Iterator[None]:
    """End with Interrupted on SIGTERM or SIGHUP: for the time in which nothing is there to be saved."""

    def end(number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        raise Interrupted(f"stopped by {name}, with nothing to save; start the same command again", number)

    with _handled(end, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def _handled(handler: _Handler, *numbers: signal.Signals) -> Iterator[None]:
    # One that is ignored stays so: that is what nohup does, and a shell to what it starts in the background.
    taken = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, handler) for number in taken}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
