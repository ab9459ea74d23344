"""How the kernels are compiled: once for a machine, cached on disk, and run without the interpreter's lock.

`_nrt=False` leaves reference counts of arrays alone. A count is an atomic operation; numba takes several for each array
that a function is given, which was half the time of the search. Every array that a kernel reads is held by its caller,
and kernels make none.

numba compiles a function once more for each literal that it is given, also where it finds out later that the variable
takes other values too: a zero that is passed on is written `np.int64(0)`.
"""

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit

_MARK = "asr-kernels"
_OPTIONS: dict[str, Any] = {"nogil": True, "_nrt": False}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls."""
    compiled: Any = njit(**_OPTIONS, cache=True)(function)
    _forget_other_versions(Path(compiled.stats.cache_path))
    return compiled


def inner(function: Callable[..., Any], *, inline: bool = False) -> Any:
    """Compile a function that kernels alone call: without the entry from Python, which takes long to compile.

    Called from Python it would crash the interpreter.
    """
    options = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": inline}
    return njit(**options)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """The same, made part of its caller: a call passes every array of a named tuple by value, a kilobyte and more."""
    return inner(function, inline=True)


@cache
def _forget_other_versions(folder: Path) -> None:
    """Remove kernels that were cached from other sources.

    numba compares the file of a kernel alone with its cache. What a kernel calls stands in other files, and is part of
    what was compiled.
    """
    here = Path(__file__).parent
    digest = hashlib.blake2b(digest_size=8)
    for source in sorted(here.glob("*.py")):
        digest.update(source.read_bytes())
    mark = folder / f"{_MARK}-{digest.hexdigest()}"
    if mark.exists():
        return
    logging.getLogger("asr.decode").warning("compiling for this machine, once: about ten seconds")
    for stale in [*folder.glob("*.nbi"), *folder.glob(f"{_MARK}-*")]:
        stale.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
