"""Input of any kind to the beam search, and what it must refuse."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decode import BeamDecoder, NGram
from asr.errors import DecodeError
from random_ctc import random_log_probs, write_random_arpa

LABELS = ["_", " ", "a", "b"]


@settings(deadline=None, max_examples=25)
@given(
    frames=st.integers(0, 9),
    batch=st.integers(1, 3),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    layout=st.sampled_from(["plain", "reversed", "transposed", "torch", "list", "dlpack"]),
    seed=st.integers(0, 99),
)
def test_arrays_of_any_kind_decode_alike(frames: int, batch: int, dtype: str, layout: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.stack([random_log_probs(rng, frames, 4) for _ in range(batch)]).astype(dtype)
    lengths = rng.integers(0, frames + 1, batch)
    given_as: Any = {
        "plain": lambda: values,
        "reversed": lambda: np.ascontiguousarray(values[:, ::-1])[:, ::-1],
        "transposed": lambda: np.ascontiguousarray(values.transpose(2, 1, 0)).transpose(2, 1, 0),
        "torch": lambda: torch.from_numpy(values.copy()),
        "list": lambda: list(values),
        "dlpack": lambda: [OnlyDlpack(row) for row in values],
    }[layout]()
    decoder = BeamDecoder(LABELS)
    wanted = [decoder([row[:length]])[0][0] for row, length in zip(values.astype(np.float32), lengths, strict=True)]
    found = [hypotheses[0] for hypotheses in decoder(given_as, lengths)]
    assert found == wanted


class OnlyDlpack:
    """An array of a library that knows nothing of numpy."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.values.__dlpack_device__()


@pytest.mark.parametrize("n_best", [1, 3])
def test_threads_and_company_change_nothing(n_best: int) -> None:
    rng = np.random.default_rng(6)
    batch = [random_log_probs(rng, int(frames), 4) for frames in rng.integers(0, 60, 40)]
    batch[7] = random_log_probs(rng, 3000, 4)  # more than a workspace takes at once
    one, four = BeamDecoder(LABELS, threads=1, n_best=n_best), BeamDecoder(LABELS, threads=4, n_best=n_best)
    found = one(batch)
    assert found == four(batch) == four(batch) == [one([rows])[0] for rows in batch]
    assert [[found.words for found in hypotheses] for hypotheses in four(batch)] == [
        [hypothesis.words for hypothesis in hypotheses] for hypotheses in found
    ]


def test_one_hypothesis_is_the_first_of_many() -> None:
    rng = np.random.default_rng(8)
    batch = [random_log_probs(rng, int(frames), 4) for frames in rng.integers(0, 300, 20)]
    decoder = BeamDecoder(LABELS, beam_size=10, lexicon=["a", "ab", "bb"])
    for [first], many in zip(decoder(batch), decoder(batch, n_best=5), strict=True):
        assert first == many[0]
        assert first.words == many[0].words


def test_a_blank_from_the_end() -> None:
    batch, labels = [random_log_probs(np.random.default_rng(9), 30, 4)], ["a", " ", "b", "_"]
    last, counted = (BeamDecoder(labels, blank=blank, lexicon=["ab", "b"]) for blank in (3, -1))
    assert last(batch) == counted(batch)
    assert last.stream().accept(batch[0]) == counted.stream().accept(batch[0])


def test_no_frames_and_no_utterances() -> None:
    decoder = BeamDecoder(LABELS)
    assert decoder([]) == []
    [[found]] = decoder([np.zeros((0, 4))])
    assert (found.text, found.tokens, found.words, found.score) == ("", (), (), 0.0)


ROWS = random_log_probs(np.random.default_rng(7), 3, 4)


def changed(value: float) -> Any:
    rows = ROWS.copy()
    rows[1, 2] = value
    return rows


@pytest.mark.parametrize(
    ("log_probs", "options", "message"),
    [
        (changed(math.nan), {}, "utterance 1, frame 1: log-probability is nan"),
        (changed(math.inf), {}, "utterance 1, frame 1: log-probability is inf"),
        (np.exp(ROWS), {}, "utterance 1, frame 0: probabilities sum to 5.*; of logits, log-softmax makes them"),
        (np.vstack([ROWS, np.zeros(4)]), {}, "utterance 1, frame 3: probabilities sum to 4, not 1: .* by `lengths`"),
        (ROWS[0], {}, r"utterance 1: expected .* \(T, 4\), found \(4,\): a single utterance goes in a list"),
        (ROWS[:, :3], {}, r"utterance 1: expected log-probabilities of shape \(T, 4\), found \(3, 3\)"),
        (ROWS.astype(np.int32), {}, "utterance 1: expected floating-point log-probabilities, found int32"),
        (ROWS, {"lengths": [3, 4]}, r"utterance 1: length 4 is outside 0\.\.3"),
        (ROWS, {"lengths": [3, -1]}, r"utterance 1: length -1 is outside 0\.\.3"),
        (ROWS, {"lengths": [1.0, 0.5]}, "lengths must be whole frames"),
        (ROWS, {"lengths": [3]}, "1 lengths for 2 utterances"),
        (ROWS, {"lengths": ["a", "b"]}, "lengths must be whole frames"),
        (ROWS, {"n_best": "x"}, "n_best must be at least 1, found 'x'"),
        (ROWS, {"prefix": None}, "prefix must be a string, found None"),
        ("abc", {}, r"utterance 1: expected log-probabilities of shape \(T, 4\), found \(\)"),
    ],
)
def test_wrong_input_is_named(log_probs: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        BeamDecoder(LABELS)([ROWS, log_probs], **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blank": 4}, "blank=4 is outside the vocabulary of 4 labels"),
        ({"labels": ["_", "a", "b", "a"]}, "label 'a' stands twice in the vocabulary, at 1 and 3"),
        ({"beam_size": 0}, "beam_size must be in 1..100000, found 0"),
        ({"beam_size": 100_001}, "beam_size must be in 1..100000, found 100001"),
        ({"token_threshold": 0.1}, "token_threshold must be at most 0, found 0.1"),
        ({"beam_threshold": 0.0}, "beam_threshold must be below 0"),
        ({"alpha": math.nan}, "alpha must be"),
        ({"confidence_scale": 0.0}, "confidence_scale must be"),
        ({"lexicon": ["ab", "ax"]}, r"lexicon: word 'ax' cannot be spelled with the labels: \['x'\]"),
        ({"lexicon": {"ab": "ab"}}, "lexicon: spellings of 'ab' must be a list of lists of labels, found 'ab'"),
        ({"lexicon": {"ab": [["a", "x"]]}}, r"lexicon: word 'ab' is spelled with \['x'\]"),
        ({"hotwords": {" ": 1.0}}, "hotwords: phrase ' ' is empty"),
        ({"hotwords": {"a": math.inf}}, "hotwords: weight of 'a' is inf"),
        ({"labels": 5}, "labels must be a list of strings, found 5"),
        (
            {"labels": {"_": 0, "a": 1}},
            r"of the columns, found a dict; .* it is sorted\(labels, key=labels.get\)",
        ),
        ({"labels": {"_", "a"}}, "labels must be a list in the order of the columns, found a set"),
        ({"labels": ["_", 1]}, "labels must be a list of strings, found 1 at 1"),
        ({"blank": "_"}, "blank=_ is outside the vocabulary of 4 labels"),
        ({"space": None}, "space must be a string, found None"),
        ({"beam_size": "x"}, "beam_size must be in 1..100000, found 'x'"),
        ({"beam_size": 2.5}, "beam_size must be in 1..100000, found 2.5"),
        ({"n_best": "1"}, "n_best must be at least 1, found '1'"),
        ({"alpha": None}, "alpha must be in 0..10, found None"),
        ({"threads": "two"}, "threads must be at least 1, found 'two'"),
        ({"lm": "words.arpa"}, "lm must be an NGram"),
        ({"lm_unit": "letter"}, "lm_unit must be one of auto, word, token, found 'letter'"),
        ({"lexicon": "ab"}, "lexicon must be a list of words, or a mapping of words to spellings, found 'ab'"),
        ({"lexicon": [1]}, "lexicon: word must be a string, found 1"),
        ({"lexicon": {"ab": 5}}, "lexicon: spellings of 'ab' must be a list of lists of labels, found 5"),
        ({"hotwords": "a"}, "hotwords must be a mapping of phrases to weights, or a list of phrases, found 'a'"),
        ({"hotwords": 5}, "hotwords must be a mapping of phrases to weights, or a list of phrases, found 5"),
        ({"hotwords": ["a", 1]}, "hotwords: phrase must be a string, found 1"),
        ({"hotwords": {"a": "x"}}, "hotwords: weight of 'a' must be a number, found 'x'"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        BeamDecoder(**{"labels": LABELS, **options})


def test_a_language_model_of_another_unit_is_refused(tmp_path: Path) -> None:
    upper = NGram.load(write_random_arpa(np.random.default_rng(0), tmp_path / "upper.arpa", ["AB", "BA"], 2))
    with pytest.raises(DecodeError, match=r"2 of 2 words cannot be spelled with these labels, e\.g\. 'AB': "):
        BeamDecoder(LABELS, lm=upper)
    with pytest.raises(DecodeError, match="lm_unit=token, but it knows 0 of 2 labels, and no separator"):
        BeamDecoder(LABELS, lm=upper, lm_unit="token")


def test_importing_needs_no_torch() -> None:
    code = (
        "import sys, json, asr.decode; early = 'numba' in sys.modules; from asr.decode import BeamDecoder; "
        "print(json.dumps([early, 'torch' in sys.modules, BeamDecoder.__name__]))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == [False, False, "BeamDecoder"]


@pytest.mark.parametrize("n_best", [1, 2])
def test_a_sum_that_overflows_is_an_error_and_no_warning(n_best: int) -> None:
    """Neither are flags that BLAS raises beside the rows: warnings are errors here."""
    rows = np.full((3, 2), 88.5, np.float32)  # e^88.5 fits into float32, twice that does not
    with pytest.raises(DecodeError, match="utterance 0, frame 0: probabilities sum to inf"):
        BeamDecoder(["_", "a"], n_best=n_best)([rows])
