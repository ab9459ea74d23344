"""What a hostile tester found in the decoder and its commands."""

import contextlib
import copy
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

from asr.decode import BeamDecoder, NGram
from asr.errors import DecodeError, TextError
from asr.files import write_text_atomic
from asr.lm import estimate
from random_ctc import random_log_probs, write_random_arpa

LABELS = ["_", " ", "a", "b"]
ROWS = random_log_probs(np.random.default_rng(0), 200, 4)


def test_a_used_decoder_can_be_copied_and_pickled() -> None:
    decoder = BeamDecoder(LABELS, beam_size=20)
    wanted = decoder([ROWS])
    for twin in (copy.deepcopy(decoder), pickle.loads(pickle.dumps(decoder))):
        assert twin([ROWS]) == wanted
    assert pickle.loads(pickle.dumps(wanted[0][0])).words == wanted[0][0].words


@pytest.mark.parametrize("prefix", ["", "a"])
def test_large_bonuses_stay_in_range(prefix: str) -> None:
    spoken = np.full((2000, 4), 0.01)
    spoken[np.arange(2000), np.tile([2, 1], 1000)] = 0.97
    for beam_size in (1, 2, 5, 100):
        decoder = BeamDecoder(LABELS, hotwords={"a": 100.0}, beam_size=beam_size)
        [[found]] = decoder([np.log(spoken)], prefix=prefix)
        assert found.text.split() == ["a"] * 1000
        assert found.score == pytest.approx(100 * 1000 + 2000 * np.log(0.97), rel=1e-3)


def test_bonuses_beyond_reason_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="weight of 'a' is 1000"):
        BeamDecoder(LABELS, hotwords={"a": 1000.0})
    with pytest.raises(DecodeError, match=r"weigh 362\.5 together"):
        BeamDecoder(LABELS, hotwords={"b a b a": 100.0, "a b a": 100.0, "b a": 100.0, "a": 100.0})
    lm = NGram.load(write_random_arpa(np.random.default_rng(0), tmp_path / "lm.arpa", ["a"], 1))
    for setting in ("alpha", "beta", "unknown_offset"):
        with pytest.raises(DecodeError, match=f"{setting} must be in"):
            BeamDecoder(LABELS, lm=lm, **{setting: 1000.0})  # type: ignore[arg-type]


def test_no_hypotheses_cannot_be_asked_for() -> None:
    for n_best in (0, -1):
        with pytest.raises(DecodeError, match=f"n_best must be at least 1, found {n_best}"):
            BeamDecoder(LABELS)([ROWS], n_best=n_best)
        with pytest.raises(DecodeError, match=f"n_best must be at least 1, found {n_best}"):
            BeamDecoder(LABELS).stream().finish(n_best)


def test_a_wrong_chunk_is_not_half_taken() -> None:
    decoder = BeamDecoder(LABELS)
    rows = random_log_probs(np.random.default_rng(1), 2400, 4)
    wrong = rows.copy()
    wrong[2200, 1] = np.nan
    stream = decoder.stream()
    with pytest.raises(DecodeError, match="frame 2200"):
        stream.accept(wrong)
    stream.accept(rows)
    assert stream.finish() == decoder([rows])[0]


def test_hotwords_are_of_words_that_can_be_spelled() -> None:
    with pytest.raises(DecodeError, match="hotwords: phrase 'ab ba': the lexicon has no word 'ba'"):
        BeamDecoder(LABELS, lexicon={"ab": [["a", "b"]]}, hotwords={"ab ba": 1.0})
    spellings = [["a"] * times for times in range(1, 12)]
    with pytest.raises(DecodeError, match="phrase 'a a a' can be spelled in 1331 ways, more than 1000"):
        BeamDecoder(LABELS, lexicon={"a": spellings}, hotwords={"a a a": 1.0})


def test_a_damaged_binary_model_is_refused_or_reads_within_bounds(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    model = NGram.load(write_random_arpa(rng, tmp_path / "lm.arpa", ["a", "b", "ab"], 3))
    model.save(tmp_path / "lm.bin")
    whole = (tmp_path / "lm.bin").read_bytes()
    for place in rng.integers(0, len(whole), 400):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "damaged.bin").write_bytes(damaged)
        with contextlib.suppress(DecodeError):  # not a crash
            NGram.load(tmp_path / "damaged.bin").score(["a", "b", "ab", "x"])
    zeroed = whole[:200] + bytes(len(whole) - 200)
    (tmp_path / "damaged.bin").write_bytes(zeroed)
    with pytest.raises(DecodeError, match=r"damaged\.bin: is damaged"):
        NGram.load(tmp_path / "damaged.bin")


def test_a_pipe_is_read_from_its_beginning(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("one two\nthree\n"))
    writer.start()
    model = estimate([pipe], 1)
    writer.join()
    assert {"one", "two", "three"} <= set(model.words)


def test_names_of_the_unknown_word_are_refused_in_text() -> None:
    with pytest.raises(TextError, match="'<UNK>' is reserved"):
        estimate(["one <UNK> two"], 2)


def test_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "device"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="not a regular file"):
        write_text_atomic(pipe, "text")
    assert pipe.is_fifo()


def test_words_are_cut_at_the_separator_alone() -> None:
    labels = ["_", " ", "a", "\u00a0"]
    probs = np.full((4, 4), 0.01)
    probs[np.arange(4), [2, 3, 1, 2]] = 0.97
    [[found]] = BeamDecoder(labels)([np.log(probs)])
    assert found.text == " ".join(word.text for word in found.words) == "a\u00a0 a"
