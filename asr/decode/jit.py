"""How the kernels are compiled: once per machine, cached on disk, and run without the interpreter's lock.

`_nrt=False` turns off reference counting of arrays. Each count is an atomic operation; numba makes several for every
array passed to a function, which took half the time of the search. Counts are not needed: callers hold every array that
a kernel reads, and kernels create none.

numba compiles a function anew for each literal that is passed to it, even where it finds out later that the variable
also takes other values: so a zero that is passed on is written `np.int64(0)`.
"""

import atexit
import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import config as _config
from numba.core.event import Event, Listener, register

from asr.files import atomic_path

_MARK = "asr-kernels"
_OPTIONS: dict[str, Any] = {"nogil": True, "_nrt": False}
_numba: Any = _config  # its settings

if _numba.DISABLE_JIT:
    raise ImportError("asr.decode needs numba's compiler, and NUMBA_DISABLE_JIT turns it off: unset it")


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls."""
    compiled = _cached(function)
    _bring_up_to_date(Path(compiled.stats.cache_path))
    return compiled


def _cached(function: Callable[..., Any]) -> Any:
    """The function with numba's cache; in a temporary folder where it can write neither beside it nor in the home."""
    try:
        return njit(**_OPTIONS, cache=True)(function)
    except RuntimeError:
        before = _numba.CACHE_DIR
        _numba.CACHE_DIR = _folder_of_this_process()
        try:
            return njit(**_OPTIONS, cache=True)(function)
        finally:
            _numba.CACHE_DIR = before


@cache
def _folder_of_this_process() -> str:
    folder = tempfile.mkdtemp(prefix=f"{_MARK}-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


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
def _bring_up_to_date(folder: Path) -> None:
    """Remove kernels that were cached from other versions of the sources, and take over those beside the package.

    numba checks its cache only against the file of the kernel itself, but what was compiled includes functions that the
    kernel calls from other files. And it reads from no folder that it cannot write to, such as the package's own when
    another user installed it.
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
    beside = here / "__pycache__"
    if (beside / mark.name).exists():
        for kernels in [*beside.glob("*.nbc"), *beside.glob("*.nbi")]:  # the index last
            with atomic_path(folder / kernels.name) as temporary:
                shutil.copyfile(kernels, temporary)
    mark.touch()
