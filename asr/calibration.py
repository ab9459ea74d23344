"""Confidences of recognised words: kept in a file beside the hypotheses, and how far they can be trusted."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from asr.decode import Word
from asr.errors import ScoringError
from asr.files import write_text_atomic
from asr.lines import numbered_lines
from asr.segmentation import words_of
from asr.wer import Scored

WORDS_FILE = "words.jsonl"
BINS = 10


@dataclass(frozen=True)
class Bin:
    """Words of similar confidence: their number, mean confidence and share that is right (both 0 to 1)."""

    words: int
    confidence: float
    right: float


@dataclass(frozen=True)
class Calibration:
    """Bins by rising confidence, and the expected calibration error (0 to 1) over them."""

    bins: tuple[Bin, ...]
    error: float


def calibrate(confidences: ArrayLike, right: ArrayLike) -> Calibration:
    """How well confidences match what they claim to be: the probability that a word is right.

    The expected calibration error is the mean distance between mean confidence and share of right words over the bins,
    weighted by their words (Guo et al., "On calibration of modern neural networks", ICML 2017). Bins hold equally many
    words, give or take one, where theirs have equal width: most confidences of a recogniser are close to one.

    Args:
        confidences: (N,) 0 to 1, N > 0.
        right: (N,) whether each word is right.
    """
    claimed, truth = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=bool)
    # A stable sort keeps words of equal confidence in their order, so that the bins are the same everywhere.
    parts = np.array_split(np.argsort(claimed, kind="stable"), BINS)
    found = tuple(Bin(len(part), float(claimed[part].mean()), float(truth[part].mean())) for part in parts if len(part))
    error = sum(bin_.words * abs(bin_.confidence - bin_.right) for bin_ in found) / len(claimed)
    return Calibration(found, error)


def judge(scored: Sequence[Scored], words: Mapping[str, Sequence[Word]]) -> tuple[list[float], list[bool]]:
    """The confidence of every recognised word, and whether it is right by the alignment with the reference.

    Raises:
        ScoringError: an utterance has no words, or not those of its hypothesis; the message names it.
    """
    confidences: list[float] = []
    right: list[bool] = []
    for utterance in scored:
        name = utterance.result.id
        columns = [(said, heard) for said, heard in utterance.alignment if heard is not None]
        hypothesis = [heard for _, heard in columns]
        found = words.get(name)
        if found is None or [word.text for word in found] != hypothesis:
            kept = "none" if found is None else repr(" ".join(word.text for word in found))
            raise ScoringError(f"utterance {name!r}: its words are {kept}, its hypothesis is {' '.join(hypothesis)!r}")
        confidences += [word.confidence for word in found]
        right += [said == heard for said, heard in columns]
    return confidences, right


def write_words(path: Path, words: Mapping[str, Sequence[Word]]) -> None:
    """Write `words.jsonl` atomically: on each line an utterance's words, as `asr.segmentation` has them."""
    lines = [json.dumps({"id": name, "words": words_of(found)}, ensure_ascii=False) for name, found in words.items()]
    write_text_atomic(path, "".join(line + "\n" for line in lines))


def read_words(path: Path) -> dict[str, list[Word]]:
    """Read what `write_words` wrote.

    Raises:
        ScoringError: the file cannot be read or is of an earlier version, or a line is not such a record; the message
            names file and line.
    """
    found: dict[str, list[Word]] = {}
    for number, line in numbered_lines(path, "words", ScoringError):
        try:
            record = json.loads(line)
            if any("start_s" in word for word in record["words"]):
                raise ScoringError(f"{path}:{number}: is of an earlier version of asr: asr evaluate makes it anew")
            words = [Word(*(word[key] for key in ("word", "start", "end", "probability"))) for word in record["words"]]
            if not all(isinstance(word.text, str) and 0 <= word.confidence <= 1 for word in words):
                raise ValueError("a word must be a string and a probability in 0..1")
            found[str(record["id"])] = words
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ScoringError(f"{path}:{number}: not a record of words: {error}") from error
    return found
