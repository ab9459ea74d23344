"""Several models of the same labels and frames as one, on the log-probabilities that they wrote."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.emissions import Emissions, Vocabulary, read_emissions
from asr.errors import DecodeError


def read_ensemble(paths: Sequence[Path], meaning: Vocabulary | Path | None = None) -> Emissions:
    """Read one file of log-probabilities, or several and average them.

    The mean is that of the log-probabilities, normalised anew in each frame: a label is likely where no model finds it
    unlikely. Its models are best trained from different seeds by the same settings, or their labels may peak in
    different frames.

    Args:
        paths: at least one .npz file; see `read_emissions`.
        meaning: of the columns of all files; as for `read_emissions`.

    Raises:
        DecodeError: a file cannot be used, or does not go with the first: its labels, length of a frame, utterances,
            their frames or their references are others, or a frame is left without any label that all models allow.
            The message names file and utterance.
    """
    first = read_emissions(paths[0], meaning)
    if len(paths) == 1:
        return first
    sums = {name: rows.astype(np.float32) for name, rows in first.log_probs.items()}
    refs = first.refs
    for path in paths[1:]:
        other = read_emissions(path, meaning)
        _require_same(first.vocabulary, other.vocabulary, path, paths[0])
        if other.log_probs.keys() != sums.keys():
            name = min(other.log_probs.keys() ^ sums.keys())
            raise DecodeError(f"{path}: utterance {name} is in one of it and {paths[0]}, and not in the other")
        for name, rows in other.log_probs.items():
            if len(rows) != len(sums[name]):
                raise DecodeError(
                    f"{path}: utterance {name}: has {len(rows)} frames, and {len(sums[name])} in {paths[0]}"
                )
            if refs and other.refs and refs[name] != other.refs[name]:
                raise DecodeError(f"{path}: utterance {name}: its reference is not that of {paths[0]}")
            sums[name] += rows
        refs = refs or other.refs
    return Emissions(first.vocabulary, {name: _mean(rows, len(paths), name) for name, rows in sums.items()}, refs)


def _mean(sums: NDArray[np.float32], count: int, name: str) -> NDArray[np.float32]:
    """(T, V) sums of log-probabilities to their mean, whose probabilities sum to one in each frame."""
    rows: NDArray[np.float32] = sums / np.float32(count)
    best = rows.max(axis=1, keepdims=True)
    if not np.isfinite(best).all():
        frame = int(np.flatnonzero(~np.isfinite(best[:, 0]))[0])
        raise DecodeError(f"utterance {name}: no label of frame {frame} is possible for all models")
    rows -= best
    rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return rows


def _require_same(first: Vocabulary, other: Vocabulary, path: Path, first_path: Path) -> None:
    for kind in ("labels", "blank", "space", "frame_s"):
        if getattr(first, kind) != getattr(other, kind):
            raise DecodeError(f"{path} and {first_path} differ in {kind}: only models alike can be averaged")
