"""Prior probabilities of labels: estimated, written and read; `asr.decode.BeamDecoder` discounts them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.decode.inputs import discounts
from asr.errors import DecodeError
from asr.files import write_text_atomic
from asr.lines import read_text, written_label


def estimate(log_probs: Iterable[NDArray[Any]], labels: int) -> NDArray[np.float64]:
    """The mean probability of each label over all frames, as a natural log, as if each were seen once more.

    Args:
        log_probs: (T, V) natural-log probabilities of utterances.
        labels: V.
    """
    sums, frames = np.ones(labels), labels
    for rows in log_probs:
        sums += np.exp(rows, dtype=np.float64).sum(axis=0)
        frames += len(rows)
    return np.log(sums / frames)


def write(path: Path, labels: Sequence[str], log_priors: NDArray[np.floating]) -> None:
    """Write a line for each label: the label, TAB, the natural log of its prior probability."""
    pairs = zip(labels, log_priors.tolist(), strict=True)
    lines = [f"{written_label(label)}\t{value:.6f}\n" for label, value in pairs]
    write_text_atomic(path, "".join(lines))


def read(path: Path, labels: Sequence[str]) -> NDArray[np.float64]:
    """Read what `write` wrote, for these labels in this order.

    Raises:
        DecodeError: the file cannot be read, a line is malformed, the labels are others, or the probabilities are not a
            distribution. The message names the file, and the line if one is wrong.
    """
    lines = read_text(path, "priors", DecodeError).removesuffix("\n").split("\n")
    if len(lines) != len(labels):
        raise DecodeError(f"{path}: has {len(lines)} lines for {len(labels)} labels")
    found = np.empty(len(labels))
    for place, (line, label) in enumerate(zip(lines, labels, strict=True)):
        name, tab, number = line.rpartition("\t")
        try:
            found[place] = float(number)
        except ValueError:
            tab = ""
        if not tab or not -np.inf < found[place] <= 0:
            raise DecodeError(f"{path}:{place + 1}: wanted label TAB natural-log probability, found {line!r}")
        if name != written_label(label):
            raise DecodeError(f"{path}:{place + 1}: is of label {name!r}, wanted {written_label(label)!r}")
    try:
        discounts(found, 1.0, len(labels))
    except DecodeError as error:
        raise DecodeError(f"{path}: {error}") from error
    return found
