"""Log-probabilities that several models wrote for the same utterances; those of models alike are averaged."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.emissions import Emissions, Vocabulary, read_emissions
from asr.errors import DecodeError


def read_ensemble(paths: Sequence[Path], meaning: Vocabulary | Path | None = None) -> Emissions:
    """Read one file of log-probabilities, or several and average them.

    The mean is that of the log-probabilities, normalised again in each frame: a label is likely where no model finds it
    unlikely. The models are best trained with the same settings from different seeds; otherwise their labels may peak
    in different frames.

    Args:
        paths: at least one .npz file; see `read_emissions`.
        meaning: of the columns of all files; as for `read_emissions`.

    Raises:
        DecodeError: a file cannot be used, or differs from the first in labels and what they mean, length of a frame,
            utterances, their frames or their references; or all models together allow no label in some frame. The
            message names file and utterance.
    """
    files = _read_each(paths, meaning)
    first = latest = next(files)
    if len(paths) == 1:
        return first
    sums = {name: rows.astype(np.float32) for name, rows in first.log_probs.items()}
    for path, latest in zip(paths[1:], files, strict=True):
        _require_same(first.vocabulary, latest.vocabulary, path, paths[0])
        for name, rows in latest.log_probs.items():
            if len(rows) != len(sums[name]):
                raise DecodeError(
                    f"{path}: utterance {name}: has {len(rows)} frames, but {len(sums[name])} in {paths[0]}"
                )
            sums[name] += rows
    means = {name: _mean(rows, len(paths), name) for name, rows in sums.items()}
    return Emissions(first.vocabulary, means, latest.refs)


def read_models(paths: Sequence[Path], meaning: Vocabulary | Path | None = None) -> list[Emissions]:
    """Read log-probabilities by models of any kind; the first returned has all references that are known.

    Args:
        paths: at least one .npz file; see `read_emissions`.
        meaning: of the columns of all files; as for `read_emissions`.

    Raises:
        DecodeError: a file cannot be used, or its utterances or their references differ from those of the first. The
            message names file and utterance.
    """
    first, *others = _read_each(paths, meaning)
    return [replace(first, refs=others[-1].refs) if others else first, *others]


def _read_each(paths: Sequence[Path], meaning: Vocabulary | Path | None) -> Iterator[Emissions]:
    """Yield one file after the other, checked against those before, with the references known by then."""
    first = read_emissions(paths[0], meaning)
    refs, said_by = first.refs, paths[0]
    yield first
    for path in paths[1:]:
        other = read_emissions(path, meaning)
        if other.log_probs.keys() != first.log_probs.keys():
            name = min(other.log_probs.keys() ^ first.log_probs.keys())
            raise DecodeError(f"{path}: utterance {name} is in only one of this file and {paths[0]}")
        if not refs:
            refs, said_by = other.refs, path
        for name, said in other.refs.items():
            if refs[name] != said:
                raise DecodeError(f"{path}: utterance {name}: its reference is not that of {said_by}")
        yield replace(other, refs=refs)


def _mean(sums: NDArray[np.float32], count: int, name: str) -> NDArray[np.float32]:
    """The mean, from (T, V) sums of log-probabilities, with probabilities that sum to one in each frame."""
    rows: NDArray[np.float32] = sums / np.float32(count)
    best = rows.max(axis=1, keepdims=True)
    if not np.isfinite(best).all():
        frame = int(np.flatnonzero(~np.isfinite(best[:, 0]))[0])
        raise DecodeError(f"utterance {name}: no label of frame {frame} is possible for all models")
    rows -= best
    rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return rows


def _require_same(first: Vocabulary, other: Vocabulary, path: Path, first_path: Path) -> None:
    for kind in ("labels", "blank", "space", "frame_s", "lexicon"):
        if getattr(first, kind) != getattr(other, kind):
            raise DecodeError(
                f"{path} and {first_path} differ in {kind}: only log-probabilities of the same kind can be averaged; "
                "asr decode --combine mbr combines the hypotheses of any models"
            )
