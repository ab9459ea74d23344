"""Decoding of whole utterances, many in one call of the kernel."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from asr.decode.hypothesis import Hypothesis, Labels
from asr.decode.inputs import discount, sums_of, to_probabilities
from asr.decode.layout import RESULT, STEP, Batch
from asr.decode.search import AT_END
from asr.decode.stream import BLOCK, NO_GAINS, NOTHING, Stream, run

if TYPE_CHECKING:
    from asr.decode.beam import BeamDecoder

_LONG_FRAMES = 512  # longer ones may need more room than a workspace starts with


def blocks_of(rows: list[NDArray[Any]], threads: int) -> list[slice]:
    """Group neighbouring utterances into blocks, enough for all threads; each long utterance is a block of its own."""
    size = min(BLOCK, sum(row.size for row in rows) // (4 * threads if threads > 1 else 1))
    blocks, first, filled = [], 0, 0
    for number, row in enumerate(rows):
        if number > first and (filled + row.size > size or max(len(row), len(rows[first])) > _LONG_FRAMES):
            blocks.append(slice(first, number))
            first, filled = number, 0
        filled += row.size
    return [*blocks, slice(first, len(rows))] if rows else []


def decode_block(decoder: "BeamDecoder", rows: list[NDArray[Any]], first: int) -> list[list[Hypothesis]]:
    """The best hypothesis of each utterance.

    Args:
        rows: (T, V) natural-log probabilities of each utterance, shapes checked.
        first: number of the first utterance in the call, for messages.

    Raises:
        DecodeError: as `BeamDecoder.__call__`.
    """
    if len(rows[0]) > _LONG_FRAMES:
        return [Stream(decoder, where=f"utterance {first}").decode(rows[0], 1)]
    starts = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=starts[1:])
    probs = np.empty((starts[-1], len(decoder.labels)), np.float32)
    for start, row in zip(starts.tolist(), rows, strict=False):
        to_probabilities(row, probs[start : start + len(row)])
    steps, lengths, results = np.empty(len(probs), STEP), np.zeros(len(rows), np.int64), np.empty(len(rows), RESULT)
    totals = sums_of(probs)
    discount(probs, decoder._discounts)
    batch = Batch(probs, totals, starts, steps, lengths, results)
    workspace = decoder._take_workspace(decoder.beam_size)
    found: list[list[Hypothesis]] = []
    while len(found) < len(rows):
        done, _ = run(decoder, workspace, batch, len(found), AT_END, NOTHING, NO_GAINS)
        places = slice(len(found), done)
        for start, length, (score, lm_score, share) in zip(
            starts[places].tolist(), lengths[places].tolist(), results[places].tolist(), strict=True
        ):
            labels = Labels.of(steps[start : start + length])
            found.append([Hypothesis(score, lm_score, share, (labels,), decoder.reading)])
        if done < len(rows):  # rare: it needs more room, has no hypothesis, or is wrong
            found.append(Stream(decoder, where=f"utterance {first + done}").decode(rows[done], 1))
    decoder._give_back(workspace)
    return found
