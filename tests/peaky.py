"""Log-probabilities that spell a text clearly, and the files that decoders read."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from asr.emissions import Emissions, Vocabulary, write_emissions

LABELS = ("<blank>", " ", *"abcdefgh")
VOCABULARY = Vocabulary(LABELS, 0, " ", 0.04)


def spelled(text: str, *, peak: float = 0.9, instead: Mapping[int, str] | None = None) -> np.ndarray:
    """(T, V) float32: a frame for each character and a blank behind it.

    Args:
        text: what greedy decoding reads.
        peak: probability of the character; the others share the rest.
        instead: by the place of a character, one that is nearly as likely.
    """
    rows = np.full((2 * len(text), len(LABELS)), (1 - peak) / (len(LABELS) - 1))
    for place, character in enumerate(text):
        rows[2 * place, LABELS.index(character)] = peak
        rows[2 * place + 1, 0] = peak
    for place, character in (instead or {}).items():
        rows[2 * place] = 0.01 / (len(LABELS) - 2)
        rows[2 * place, LABELS.index(text[place])] = 0.54
        rows[2 * place, LABELS.index(character)] = 0.45
    return np.log(rows).astype(np.float32)


def write_spelled(path: Path, texts: Mapping[str, np.ndarray], refs: Mapping[str, str] | None = None) -> Path:
    """An emissions file of utterances by id; returns its path."""
    write_emissions(path, Emissions(VOCABULARY, texts, refs or {}))
    return path


def write_arpa(path: Path, words: Sequence[tuple[float, str]]) -> Path:
    """A unigram model with these log10 probabilities; returns its path."""
    rows = [(-2.0, "<unk>"), (-99.0, "<s>"), (-1.0, "</s>"), *words]
    lines = [
        f"\\data\\\nngram 1={len(rows)}\n\n\\1-grams:",
        *(f"{value}\t{word}" for value, word in rows),
        "\n\\end\\\n",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
