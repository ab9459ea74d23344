"""N-gram language models estimated from text: interpolated modified Kneser-Ney, written as ARPA.

Data flows through `text` (files -> sentences of tokens), `counts` (tokens -> n-grams and how often they occur),
`kneser_ney` (counts -> probabilities) and `arpa` (probabilities -> file); `score` measures text with a model read
back by `asr.decode`.

    from pathlib import Path

    from asr.lm import estimate, write_arpa

    write_arpa(estimate([Path("text.txt.gz")], order=3, prune=(0, 0, 1)), Path("word3.arpa.gz"))

The public names are imported on first use (PEP 562), so that the help of `asr lm` needs no numpy.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.lm.arpa import write_arpa
    from asr.lm.kneser_ney import Model, estimate
    from asr.lm.score import Perplexity, perplexity

__all__ = ["Model", "Perplexity", "estimate", "perplexity", "write_arpa"]

_MODULES = {
    "Model": "kneser_ney",
    "Perplexity": "score",
    "estimate": "kneser_ney",
    "perplexity": "score",
    "write_arpa": "arpa",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import and return the public object `name`."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
