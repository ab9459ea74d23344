"""Small random CTC outputs and language models, for tests of the decoder."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def random_log_probs(rng: np.random.Generator, frames: int, vocabulary: int) -> NDArray[np.float32]:
    """(T, V) log-probabilities, from flat to peaky."""
    logits = rng.normal(size=(frames, vocabulary)) * rng.choice([0.3, 1.0, 3.0])
    return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)), np.float32)


def write_random_arpa(rng: np.random.Generator, path: Path, words: list[str], order: int) -> Path:
    """An ARPA file with random weights over all words and a random part of the longer n-grams."""
    orders = [[("<unk>",), ("<s>",), ("</s>",), *((word,) for word in words)]]
    for _ in range(1, order):
        contexts = [gram for gram in orders[-1] if gram[-1] not in ("<unk>", "</s>")]
        orders.append([(*gram, word) for gram in contexts for word in [*words, "</s>"] if rng.random() < 0.4])
    lines = ["\\data\\", *(f"ngram {n}={len(grams)}" for n, grams in enumerate(orders, 1))]
    for n, grams in enumerate(orders, 1):
        lines += ["", f"\\{n}-grams:"]
        for gram in grams:
            backoff = f"\t{-rng.random():.4f}" if n < order else ""
            lines.append(f"{-2 * rng.random():.4f}\t{' '.join(gram)}{backoff}")
    path.write_text("\n".join([*lines, "", "\\end\\", ""]))
    return path
