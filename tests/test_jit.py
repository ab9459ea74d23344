"""Kernels are compiled once on a machine, and whoever waits for that is told why."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import asr
from oracles.ngram import SMALL_ARPA

LOAD = "import sys; from asr.decode import NGram; NGram.load(sys.argv[1])"
COMPILING = "compiling for this machine, once: ten seconds or more\n"


def run(folder: Path, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program beside a copy of the package, which the first call makes, with the path of an ARPA file."""
    if not (folder / "asr").exists():
        (folder / "asr").mkdir()
        source = Path(asr.__file__).parent
        modules = "__init__ characters config errors files lengths lexicon lines overrides".split()
        for name in (f"{module}.py" for module in modules):
            shutil.copyfile(source / name, folder / "asr" / name)
        for name in ("decode", "process"):
            shutil.copytree(source / name, folder / "asr" / name, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "lm.arpa").write_text(SMALL_ARPA)
    settings = {**os.environ, "PYTHONPATH": str(folder), **environment}
    command = [sys.executable, "-c", program, str(folder / "lm.arpa")]
    return subprocess.run(command, env=settings, cwd=folder, capture_output=True, text=True, check=False)


def test_the_notice_comes_with_the_compiling_and_not_before(tmp_path: Path) -> None:
    def said(program: str) -> str:
        found = run(tmp_path, program)
        assert found.returncode == 0, found.stderr
        return found.stderr

    assert said("from asr.decode import NGram") == ""
    assert said(LOAD) == COMPILING
    assert said(LOAD) == ""
    generated = (
        "import numba; from asr.decode import NGram; exec('def f(x): return x', made := {}); numba.njit(made['f'])(1)"
    )
    assert said(generated) == ""


def test_kernels_beside_the_package_are_used_where_they_may_only_be_read(tmp_path: Path) -> None:
    assert run(tmp_path, LOAD).stderr == COMPILING
    # numba takes the folder that is named; without one, beside another user's package, it would take one in the home
    elsewhere = tmp_path / "elsewhere"
    assert run(tmp_path, LOAD, NUMBA_CACHE_DIR=str(elsewhere)).stderr == ""
    assert list(elsewhere.rglob("*.nbi"))
    # and here none at all
    nowhere = {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator", "TMPDIR": str(tmp_path)}
    found = run(tmp_path, LOAD, **nowhere)
    assert (found.returncode, found.stderr) == (0, "")
    assert not list(tmp_path.glob("asr-kernels-*"))


def test_without_a_compiler_it_is_said(tmp_path: Path) -> None:
    found = run(tmp_path, "from asr.decode import BeamDecoder", NUMBA_DISABLE_JIT="1")
    assert found.stderr.endswith("needs numba's compiler, and NUMBA_DISABLE_JIT turns it off: unset it\n")
