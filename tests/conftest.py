"""What all tests share: signals, one thread for each library, hypothesis' profile, the folder of real recordings."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
DATA_VARIABLE = "ASR_TEST_DATA"

# Before torch is imported: the tests' arrays are too small to share out, and results must not vary with the cores.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# Under nohup, or in the background of a script, these are ignored, and so they would be by what the tests start.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: the first example of a numba kernel pays for its compilation.
settings.register_profile("asr", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("asr")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of published corpora as they are distributed; a test that wants it is skipped where there is none."""
    folder = Path(os.environ.get(DATA_VARIABLE, ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; {DATA_VARIABLE} names the folder of the corpora")
    return folder


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """A training in the test's own process sets torch's number of threads: the next test starts with one again."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def pytest_collection_finish() -> None:
    """Leave what the imports made out of the collector's rounds, of which each took a third of a second."""
    gc.collect()
    gc.freeze()
