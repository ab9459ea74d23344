"""Models as ARPA text.

The first line, `# asr unit=char order=6`, says what the tokens are (`NGram.unit`). Other readers skip it, KenLM because
it begins with `#`.
N-grams are sorted by order, then by their words in the order of the unigrams: `<unk>`, `<s>`, `</s>`, then as they
first occur in the text. The same text gives the same bytes.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.files import atomic_path
from asr.lm.kneser_ney import Model, Order

_CHUNK = 1 << 16  # n-grams turned into text at a time


def write_arpa(model: Model, path: Path) -> None:
    """Write `model` to `path`, gzipped if the name ends in .gz; the file is whole or absent."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if path.suffix == ".gz":
            # No name and time, so that the same model gives the same bytes.
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                for text in _pieces(model):
                    packed.write(text.encode())
        else:
            for text in _pieces(model):
                file.write(text.encode())


def _pieces(model: Model) -> Iterator[str]:
    counts = "".join(f"ngram {n}={len(order.last)}\n" for n, order in enumerate(model.orders, start=1))
    yield f"# asr unit={model.unit} order={len(model.orders)}\n\\data\\\n{counts}"
    words = np.array(model.words, np.object_)
    for n, order in enumerate(model.orders, start=1):
        yield f"\n\\{n}-grams:\n"
        for start in range(0, len(order.last), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(order.last)))
            text = map(" ".join, zip(*(words[column] for column in _columns(model.orders[:n], rows)), strict=True))
            log_prob = order.log_prob[rows].tolist()
            if n < len(model.orders):
                lines = map("%.8g\t%s\t%.8g\n".__mod__, zip(log_prob, text, order.backoff[rows].tolist(), strict=True))
            else:
                lines = map("%.8g\t%s\n".__mod__, zip(log_prob, text, strict=True))
            yield "".join(lines)
    yield "\n\\end\\\n"


def _columns(orders: list[Order], rows: NDArray[np.integer[Any]]) -> list[NDArray[np.int32]]:
    """Word ids of the n-grams `rows` of the highest order: n columns, first words first."""
    columns: list[NDArray[np.int32]] = []
    for order in reversed(orders):
        columns.append(order.last[rows])
        rows = order.prefix[rows]
    return columns[::-1]
