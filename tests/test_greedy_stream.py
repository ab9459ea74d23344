"""Greedy decoding in chunks gives what one call gives."""

import copy
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from asr.decode import greedy
from asr.decode.greedy import GreedyStream
from asr.decode.hypothesis import Reading
from asr.errors import DecodeError

LABELS = ["_", " ", "a", "b", "c"]
PIECES = ["\u2581a", "b", "\u2581c", "d", "<blank>"]


def rows_of(seed: int, frames: int) -> NDArray[np.float32]:
    logits = 3 * np.random.default_rng(seed).normal(size=(frames, 5))
    return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)), np.float32)


@given(cuts=st.lists(st.integers(0, 60), max_size=8), frames=st.integers(0, 60), seed=st.integers(0, 99))
@pytest.mark.parametrize(("labels", "blank", "space"), [(LABELS, 0, " "), (PIECES, 4, "\u2581")])
def test_any_chunks_give_what_one_call_gives(
    labels: list[str], blank: int, space: str, cuts: list[int], frames: int, seed: int
) -> None:
    rows = rows_of(seed, frames)
    [expected] = greedy([rows], labels, blank=blank, space=space, frame_s=0.04)
    stream = GreedyStream(Reading.of(labels, blank, space, 0.04), blank)
    for chunk in np.split(rows, sorted(cuts)):
        stream.accept(chunk)
    [found] = stream.finish()
    assert (found.text, found.tokens, found.token_frames) == (expected.text, expected.tokens, expected.token_frames)
    assert found.score == expected.score
    assert found.confidence == pytest.approx(expected.confidence)
    assert [(word.text, word.start_s, word.end_s) for word in found.words] == [
        (word.text, word.start_s, word.end_s) for word in expected.words
    ]
    assert [word.confidence for word in found.words] == pytest.approx([word.confidence for word in expected.words])


def test_labels_so_far_stay() -> None:
    rows = rows_of(1, 50)
    stream = GreedyStream(Reading.of(LABELS, 0, " ", 1.0))
    found = [stream.accept(row[None]).tokens for row in rows]
    assert all(after[: len(before)] == before for before, after in pairwise(found))
    assert stream.finish()[0].tokens == found[-1]


def test_a_copy_goes_on_by_itself() -> None:
    rows = rows_of(1, 90)
    reading = Reading.of(LABELS, 0, " ", 1.0)
    stream = GreedyStream(reading)
    stream.accept(rows[:30])
    other = copy.copy(stream)
    stream.accept(rows[30:60])
    other.accept(rows[60:])
    assert other.reading is reading
    assert stream.finish() == greedy([rows[:60]], LABELS)
    assert other.finish() == greedy([np.concatenate([rows[:30], rows[60:]])], LABELS)


def test_wrong_chunks_are_named() -> None:
    stream = GreedyStream(Reading.of(LABELS, 0, " ", 1.0), where="call 7")
    stream.accept(rows_of(0, 10))
    bad = rows_of(0, 10)
    bad[3, 2] = np.nan
    with pytest.raises(DecodeError, match="call 7, frame 13: log-probability is nan"):
        stream.accept(bad)
    with pytest.raises(DecodeError, match=r"call 7: expected log-probabilities of shape \(T, 5\)"):
        stream.accept(bad[:, :4])
    stream.finish()
    for act in (stream.finish, lambda: stream.accept(rows_of(0, 1))):
        with pytest.raises(DecodeError, match="call 7: was finished"):
            act()
