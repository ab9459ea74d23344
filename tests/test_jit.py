"""Kernels are compiled once on a machine, and whoever waits for that is told why."""

import os
import subprocess
import sys
from pathlib import Path

from oracles.ngram import SMALL_ARPA


def test_the_notice_comes_with_the_compiling_and_not_before(tmp_path: Path) -> None:
    arpa = tmp_path / "lm.arpa"
    arpa.write_text(SMALL_ARPA)

    def said(program: str) -> str:
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        command = [sys.executable, "-c", program, str(arpa)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr

    load = "import sys; from asr.decode import NGram; NGram.load(sys.argv[1])"
    assert said("from asr.decode import NGram") == ""
    assert said(load) == "compiling for this machine, once: ten seconds or more\n"
    assert said(load) == ""
    generated = (
        "import numba; from asr.decode import NGram; exec('def f(x): return x', made := {}); numba.njit(made['f'])(1)"
    )
    assert said(generated) == ""
