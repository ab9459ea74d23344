"""CTC decoding of log-probabilities from any acoustic model; needs numpy and numba, never torch.

Names that need numba are imported on first use (PEP 562); `greedy` needs only numpy.
"""

import importlib
from typing import TYPE_CHECKING

from asr.decode.greedy import greedy
from asr.decode.hypothesis import Hypothesis, Word

if TYPE_CHECKING:
    from asr.decode.beam import BeamDecoder
    from asr.decode.lm import NGram
    from asr.decode.stream import Stream

__all__ = ["BeamDecoder", "Hypothesis", "NGram", "Stream", "Word", "greedy"]

_MODULES = {
    "BeamDecoder": "beam",
    "NGram": "lm",
    "Stream": "stream",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import and return the public object `name`."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
