"""Frames that come in chunks give what one call gives, to the bit, in memory that does not grow."""

import copy
import math
import pickle
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from asr.decode import BeamDecoder, Hypothesis, NGram, Stream
from asr.errors import DecodeError
from random_ctc import random_log_probs, write_random_arpa

LABELS = ["_", " ", *map(chr, range(97, 123))]


def speech_like(seed: int, frames: int) -> NDArray[np.float32]:
    """Peaky rows with a close second now and then, mostly blank, as a trained model gives."""
    rng = np.random.default_rng(seed)
    path = np.where(rng.random(frames) < 0.4, rng.integers(1, len(LABELS), frames), 0)
    logits = rng.normal(size=(frames, len(LABELS)))
    logits[np.arange(frames), path] += 7
    logits[np.arange(frames), rng.integers(0, len(LABELS), frames)] += 5 * rng.random(frames)
    return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)), np.float32)


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> list[BeamDecoder]:
    arpa = tmp_path_factory.mktemp("lm") / "lm.arpa"
    lm = NGram.load(write_random_arpa(np.random.default_rng(0), arpa, ["a", "b", "the", "cat", "sat"], 3))
    return [
        BeamDecoder(LABELS, beam_size=8, n_best=4, frame_s=0.04),
        BeamDecoder(LABELS, lm=lm, beam_size=16, n_best=4, hotwords={"the cat": 2.0}),
    ]


def everything(hypotheses: list[Hypothesis]) -> list[tuple[object, ...]]:
    return [(found, found.words) for found in hypotheses]


@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(0, 700), max_size=12), seed=st.integers(0, 50), which=st.integers(0, 1))
def test_any_chunks_give_the_same_to_the_bit(
    decoders: list[BeamDecoder], cuts: list[int], seed: int, which: int
) -> None:
    rows = speech_like(seed, 700)
    stream = decoders[which].stream()
    for chunk in np.split(rows, sorted(cuts)):
        stream.accept(chunk)
    assert everything(stream.finish()) == everything(decoders[which]([rows])[0])


@settings(deadline=None, max_examples=10)
@given(cuts=st.lists(st.integers(0, 3000), max_size=8), seed=st.integers(0, 50))
def test_any_chunks_give_what_a_batch_gives(decoders: list[BeamDecoder], cuts: list[int], seed: int) -> None:
    rows = speech_like(seed, 3000)
    for decoder in decoders:
        stream = decoder.stream()
        for chunk in np.split(rows, sorted(cuts)):
            stream.accept(chunk)
        wanted = [everything(found) for found in decoder([rows[:300], rows, rows[:150]], n_best=1)]
        assert everything(stream.finish(1)) == wanted[1]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda stream: pickle.loads(pickle.dumps(stream))])
def test_a_copy_goes_on_by_itself(decoders: list[BeamDecoder], copied: Callable[[Stream], Stream]) -> None:
    rows, others = speech_like(1, 900), speech_like(2, 500)
    for decoder in decoders:
        stream = decoder.stream()
        stream.accept(rows[:400])
        other = copied(stream)
        for start in range(0, 500, 100):
            stream.accept(rows[400 + start : 500 + start])
            other.accept(others[start : start + 100])
        assert everything(stream.finish()) == everything(decoder([rows])[0])
        assert everything(other.finish()) == everything(decoder([np.concatenate([rows[:400], others])])[0])


def test_what_is_settled_is_not_read_again(decoders: list[BeamDecoder]) -> None:
    stream = decoders[0].stream()
    partial = [stream.accept(speech_like(seed, 500)) for seed in range(20)]
    before, after = partial[-2:]
    settled = before._parts[:-1]
    assert len(settled) > 5
    assert all(part is same for part, same in zip(settled, after._parts, strict=False))
    assert len(after._parts[-1].tokens) < 1000  # of 10,000 frames
    assert after.text.split() == [word.text for word in after.words]


def test_frame_by_frame(decoders: list[BeamDecoder]) -> None:
    rows = speech_like(1, 500)
    for decoder in decoders:
        stream = decoder.stream()
        partial = [stream.accept(row[None]) for row in rows]
        assert everything(stream.finish()) == everything(decoder([rows])[0])
        assert len(partial[-1].tokens) > len(partial[100].tokens) > 0


def test_a_used_decoder_decodes_as_a_new_one(decoders: list[BeamDecoder]) -> None:
    short, long = speech_like(2, 150), speech_like(3, 3000)
    for decoder in decoders:
        before = everything(decoder([short])[0])
        decoder([long, short, long])
        assert everything(decoder([short])[0]) == before


def test_labels_of_a_long_recording_begin_one_after_the_other() -> None:
    """Between long silences the best alignments of the entries differ for a long time."""
    rng = np.random.default_rng(2483)
    parts = []
    for _ in range(25):
        heard = rng.normal(size=(int(rng.integers(1, 120)), 5)) * rng.choice([0.1, 0.5, 1, 2])
        silence = np.full((int(rng.integers(10, 1500)), 5), -14.0)
        silence[:, 0] = 0
        parts += [heard, silence]
    logits = np.concatenate(parts)
    rows = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    decoder = BeamDecoder(["_", " ", "a", "b", "c"], lexicon=["abcab", "cc"], beam_size=100)
    [[found]] = decoder([rows])
    assert all(before < after for before, after in pairwise(found.token_frames))


def test_memory_stays_for_long_audio(decoders: list[BeamDecoder]) -> None:
    stream = decoders[0].stream()
    stream.accept(speech_like(4, 2000))
    before = len(stream._workspace.tree.prefixes)
    for seed in range(10):
        stream.accept(speech_like(seed, 2000))
    assert len(stream._workspace.tree.prefixes) == before
    [found, *_] = stream.finish()
    assert len(found.tokens) > 5000
    assert found.token_frames == tuple(sorted(found.token_frames))
    assert found.token_frames[-1] < 22000


def test_settled_labels_are_those_of_a_tree_that_never_tidies() -> None:
    rng = np.random.default_rng(5)
    for _ in range(10):
        rows = random_log_probs(rng, 300, 4)
        [found] = BeamDecoder(["_", " ", "a", "b"], beam_size=12, n_best=3)([rows])
        again = BeamDecoder(["_", " ", "a", "b"], beam_size=12, n_best=3).stream()
        for chunk in np.split(rows, [10, 100, 101]):
            again.accept(chunk)
        assert everything(again.finish()) == everything(found)
        for hypothesis in found:
            frames = hypothesis.token_frames
            assert all(a < b for a, b in pairwise(frames))


def test_a_partial_result_has_no_end_yet(decoders: list[BeamDecoder]) -> None:
    rows = speech_like(6, 60)
    stream = decoders[1].stream()
    partial = stream.accept(rows)
    [final, *_] = stream.finish()
    assert partial.score != final.score
    assert math.isfinite(partial.score)


def test_wrong_chunks_are_named(decoders: list[BeamDecoder]) -> None:
    stream = decoders[0].stream()
    stream.accept(speech_like(7, 10))
    bad = speech_like(7, 10)
    bad[3, 3] = np.nan
    with pytest.raises(DecodeError, match="stream, frame 13: log-probability is nan"):
        stream.accept(bad)
    with pytest.raises(DecodeError, match=r"stream: expected log-probabilities of shape \(T, 28\), found \(10,\)"):
        stream.accept(bad[:, 0])
    stream.finish()
    with pytest.raises(DecodeError, match="stream: was finished"):
        stream.accept(speech_like(7, 10))
    with pytest.raises(DecodeError, match="stream: was finished"):
        stream.finish()
