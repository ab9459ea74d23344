"""`python -m asr.decode.compile`: compile the kernels now, so that the first utterance does not wait for them."""

import tempfile
from pathlib import Path

import numpy as np

from asr.decode.beam import BeamDecoder
from asr.decode.lm import NGram

_MODEL = (
    "\\data\\\nngram 1=3\nngram 2=1\n\n\\1-grams:\n-1\t<s>\t0\n-1\t</s>\n-1\ta\t0\n\n\\2-grams:\n-1\ta a\n\n\\end\\\n"
)


def compile_all() -> None:
    """Decode one frame in every way that has kernels of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.arpa"
        path.write_text(_MODEL)
        lm = NGram.load(path)
        lm.score(["a"])
        lm.save(path)
        NGram.from_grammar("a")
        BeamDecoder(["_", " ", "a"], lm=NGram.load(path), n_best=2)([np.full((1, 3), np.log(1 / 3))])


if __name__ == "__main__":
    compile_all()
