"""A lock on a folder, so that only one process works in it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from asr.errors import ConfigError

_NAME = ".lock"
_held: set[IO[str]] = set()  # files of the locks that this process holds


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold the folder's lock, at most until the process ends; yields false at once when another process holds it.

    Raises:
        ConfigError: the folder's file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _NAME).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            raise ConfigError(
                f"{folder}: cannot be locked against other processes ({error.strerror}): its file system has no flock; "
                "choose a folder on another one, or have it mounted with locks (Lustre: -o flock)"
            ) from error
        _held.add(file)
        try:
            yield True
        finally:
            _held.discard(file)


def is_held(folder: Path) -> bool:
    """Whether this process holds the folder's lock; false where another folder, or none, has its name by now."""
    try:
        there = (folder / _NAME).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return any(os.path.samestat(os.fstat(file.fileno()), there) for file in _held)


def _let_go() -> None:
    # A loading process outlives a killed parent by seconds, and would hold the lock for that long.
    for file in _held:
        file.close()
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
