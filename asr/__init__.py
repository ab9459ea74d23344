"""A speech recogniser: log-mel features, a stacked bidirectional LSTM, CTC and a decoder for any CTC model.

The public names are imported on first use (PEP 562): `import asr` loads neither torch nor numba.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.config import Config
    from asr.config import load as load_config
    from asr.decode import greedy
    from asr.transcribe import Transcriber, load
    from asr.transcript import Transcript

__version__ = "0.1.0"
__all__ = ["Config", "Transcriber", "Transcript", "__version__", "greedy", "load", "load_config"]

_PUBLIC = {
    "Config": "asr.config:Config",
    "greedy": "asr.decode:greedy",
    "Transcriber": "asr.transcribe:Transcriber",
    "Transcript": "asr.transcript:Transcript",
    "load": "asr.transcribe:load",
    "load_config": "asr.config:load",
}

if not TYPE_CHECKING:  # hidden from type checkers, so that they still find a misspelled name

    def __getattr__(name: str) -> object:
        """The public object of this name, imported on first use and kept."""
        if name not in _PUBLIC:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, attribute = _PUBLIC[name].split(":")
        value = getattr(importlib.import_module(module), attribute)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
