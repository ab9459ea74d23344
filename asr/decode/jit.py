"""How the kernels are compiled: once per machine, cached on disk, and run without the interpreter's lock.

`_nrt=False` turns off reference counting of arrays. Each count is an atomic operation; numba makes several for every
array passed to a function, which took half the time of the search. Counts are not needed: callers hold every array that
a kernel reads, and kernels create none.

numba compiles a function anew for each literal that is passed to it, even where it finds out later that the variable
also takes other values: so a zero that is passed on is written `np.int64(0)`.
"""

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.event import Event, Listener, register

_MARK = "asr-kernels"
_OPTIONS: dict[str, Any] = {"nogil": True, "_nrt": False}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls."""
    compiled: Any = njit(**_OPTIONS, cache=True)(function)
    _forget_other_versions(Path(compiled.stats.cache_path))
    return compiled


def inner(function: Callable[..., Any], *, inline: bool = False) -> Any:
    """Compile a function that only kernels call, without the entry from Python, which takes long to compile.

    Calling it from Python would crash the interpreter.
    """
    options = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": inline}
    return njit(**options)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """As `inner`, but inlined: a call passes every array of a named tuple by value, a kilobyte and more."""
    return inner(function, inline=True)


class _Notice(Listener):
    """Says that kernels are compiled, where they are not in the cache."""

    def __init__(self) -> None:
        self._said = False

    def on_start(self, event: Event) -> None:
        module = event.data["dispatcher"].py_func.__module__ or ""  # generated code has none
        if not self._said and module.startswith(f"{__package__}."):
            self._said = True
            logging.getLogger("asr.decode").warning("compiling for this machine, once: ten seconds or more")

    def on_end(self, event: Event) -> None:
        pass


register("numba:compile", _Notice())  # type: ignore[no-untyped-call]


@cache
def _forget_other_versions(folder: Path) -> None:
    """Remove kernels that were cached from other versions of the sources.

    numba checks its cache only against the file of the kernel itself, but what was compiled includes functions that the
    kernel calls from other files.
    """
    here = Path(__file__).parent
    digest = hashlib.blake2b(digest_size=8)
    for source in sorted(here.glob("*.py")):
        digest.update(source.read_bytes())
    mark = folder / f"{_MARK}-{digest.hexdigest()}"
    if mark.exists():
        return
    for stale in [*folder.glob("*.nbi"), *folder.glob(f"{_MARK}-*")]:
        stale.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
