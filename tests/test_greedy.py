"""Greedy decoding against collapsing written out, and input of every kind that must be refused."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from asr.decode import Hypothesis, greedy
from asr.decode.inputs import warn_once
from asr.errors import DecodeError
from oracles.ctc import collapse

LABELS = ["<blank>", "a", "b", "c"]


def log_probs_of(frames: int, vocabulary: int = 4, seed: int = 0) -> NDArray[np.float64]:
    logits = 3 * np.random.default_rng(seed).normal(size=(frames, vocabulary))
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


def spelled(path: list[int], vocabulary: int = 4) -> NDArray[np.float64]:
    """Log-probabilities whose best path is the given one, at probability 0.7 each frame."""
    probs = np.full((len(path), vocabulary), 0.3 / (vocabulary - 1))
    probs[np.arange(len(path)), path] = 0.7
    return np.asarray(np.log(probs))


def text_of(path: list[int], labels: list[str], **options: Any) -> str:
    return greedy(spelled(path, len(labels))[None], labels, **options)[0].text


def facts_of(found: Hypothesis) -> tuple[Any, ...]:
    return (found.text, found.tokens, found.token_frames, found.score, found.confidence, found.words)


# --- what is decoded --------------------------------------------------------------------------------------------------


@given(frames=st.integers(0, 12), seed=st.integers(0, 1000), blank=st.integers(0, 3))
def test_best_path_collapsed_as_the_paper_says(frames: int, seed: int, blank: int) -> None:
    log_probs = log_probs_of(frames, seed=seed)
    path = [row.tolist().index(max(row)) for row in log_probs]
    starts = [frame for frame, label in enumerate(path) if label != blank and (frame == 0 or path[frame - 1] != label)]
    [found] = greedy(log_probs[None], LABELS, blank=blank)
    assert found.tokens == collapse(path, blank) == tuple(path[start] for start in starts)
    assert found.token_frames == tuple(starts)
    assert found.text == "".join(LABELS[label] for label in collapse(path, blank))
    assert found.score == pytest.approx(sum(row[label] for row, label in zip(log_probs, path, strict=True)))


def test_each_part_of_a_hypothesis() -> None:
    [found] = greedy(spelled([0, 1, 1, 0, 1, 2, 2, 0])[None], LABELS)
    assert found.text == "aab"
    assert found.tokens == (1, 1, 2)
    assert found.token_frames == (1, 4, 5)
    assert found.score == pytest.approx(8 * np.log(0.7))
    assert all(type(value) is int for value in found.tokens + found.token_frames)
    assert type(found.score) is float


def test_lengths_cut_each_utterance() -> None:
    batch = np.stack([spelled([1, 2, 3, 1]), spelled([3, 2, 1, 2])])
    assert [found.text for found in greedy(batch, LABELS, lengths=[2, 3])] == ["ab", "cba"]
    assert [found.text for found in greedy(batch, LABELS)] == ["abca", "cbab"]
    batch[0, 2:] = np.nan  # padding is not looked at
    assert greedy(batch, LABELS, lengths=np.array([2, 4], dtype=np.int32))[0].text == "ab"
    assert greedy(batch, LABELS, lengths=torch.tensor([2, 4]))[1].text == "cbab"


def test_utterances_of_unequal_length_as_a_list() -> None:
    rows = [spelled([1, 2]), spelled([]), spelled([3])]
    assert [found.text for found in greedy(rows, LABELS)] == ["ab", "", "c"]


def test_nothing_to_decode() -> None:
    empty = ("", (), (), 0.0, 1.0, ())
    assert [facts_of(found) for found in greedy(np.zeros((2, 0, 4)), LABELS)] == [empty, empty]
    assert [facts_of(found) for found in greedy(np.full((1, 3, 4), np.nan), LABELS, lengths=[0])] == [empty]
    assert greedy(np.zeros((0, 5, 4)), LABELS) == []
    assert greedy([], LABELS, lengths=[]) == []


def test_certain_frames_are_allowed() -> None:
    with np.errstate(divide="ignore"):
        certain = np.log(np.eye(4)[[1, 0, 2]])
    assert facts_of(greedy(certain[None], LABELS)[0])[:5] == ("ab", (1, 2), (0, 2), 0.0, 1.0)


def test_words_with_times_and_confidences() -> None:
    labels = ["<blank>", " ", "a", "b"]
    [found] = greedy(spelled([1, 2, 2, 0, 3, 1, 1, 3], 4)[None], labels, frame_s=0.02)
    assert found.text == "ab b"
    assert [(word.text, round(word.start_s, 2), round(word.end_s, 2)) for word in found.words] == [
        ("ab", 0.02, 0.1),
        ("b", 0.14, 0.16),
    ]
    assert [word.confidence for word in found.words] == pytest.approx([0.7, 0.7])
    assert (found.acoustic_score, found.lm_score) == (found.score, 0.0)


# --- word separators --------------------------------------------------------------------------------------------------


def test_space_is_trimmed_and_single() -> None:
    labels = ["<blank>", " ", "a", "b"]
    assert text_of([1, 2, 1, 0, 1, 3, 1], labels) == "a b"


def test_wav2vec2_vocabulary() -> None:
    labels = ["<pad>", "|", "A", "B"]
    assert text_of([1, 2, 0, 2, 1, 1, 3, 1], labels, space="|") == "AA B"
    assert text_of([2, 1, 3], labels) == "A|B"


def test_pieces_without_their_separator_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    labels = ["<blank>", "\u2581one", "\u2581two"]
    assert text_of([1, 0, 2], labels, space="\u2581") == "one two"
    assert not caplog.messages
    assert text_of([1, 0, 2], labels) == "\u2581one\u2581two"
    [message] = caplog.messages
    assert message.startswith("no label begins with the separator ' ', but '\u2581one' begins with '\u2581'")


def test_a_bar_that_separates_nothing_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    warn_once.cache_clear()
    assert text_of([2, 1, 3], ["<pad>", "|", "A", "B"]) == "A|B"
    [message] = caplog.messages
    assert message.startswith("no label begins with the separator ' ', but '|' is one")


@pytest.mark.parametrize(
    ("labels", "blank", "space", "said"),
    [
        (["a", "b", "<blank>"], 0, "", "blank=0 is the label 'a', but a label called '<blank>' is usually the blank"),
        (["|", "[PAD]", "a"], 2, "|", "blank=2 is the label 'a', but a label called '[PAD]' is usually the blank"),
        (["<blk>", "a"], 0, "", ""),
        (["<s>", "<pad>", "</s>", "a"], 0, "", ""),  # as fairseq has it
        (["a", "<pad>", "<blank>"], 0, "", ""),
        (["_", "blank", "pad"], 0, "", ""),
        (
            ["\u2581", "b"],
            0,
            "\u2581",
            "no label begins with the separator '\u2581' but '\u2581', which is taken for the blank, as blank=0: ",
        ),
        ([" ", "a", "_"], 0, " ", "no label begins with the separator ' ' but ' ', which is taken for the blank, as "),
    ],
)
def test_a_blank_that_is_hardly_one_is_named(
    caplog: pytest.LogCaptureFixture, labels: list[str], blank: int, space: str, said: str
) -> None:
    warn_once.cache_clear()
    for _ in range(2):
        greedy([np.zeros((0, len(labels)))], labels, blank=blank, space=space)
    assert [message[: len(said)] for message in caplog.messages] == ([said] if said else [])


def test_sentencepiece_vocabulary_with_the_blank_at_its_end() -> None:
    labels = ["\u2581the", "\u2581c", "at", "\u2581", "<blank>"]
    assert text_of([0, 4, 1, 2, 3, 4, 3, 0], labels, blank=4, space="\u2581") == "the cat the"


def test_a_blank_from_the_end() -> None:
    labels = ["a", "b", "<blank>"]
    assert text_of([0, 2, 0, 1], labels, blank=-1) == text_of([0, 2, 0, 1], labels, blank=2) == "aab"


# --- kinds of array ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_floats_of_any_width(dtype: str) -> None:
    log_probs = log_probs_of(40, 4, seed=3)
    [expected], [found] = greedy(log_probs[None], LABELS), greedy(log_probs[None].astype(dtype), LABELS)
    assert found.tokens == expected.tokens
    assert found.token_frames == expected.token_frames
    assert found.score == pytest.approx(expected.score, rel=2e-3 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize("vocabulary", [2, 30, 1000, 20000])
def test_float16_log_probabilities_count_as_normalised(vocabulary: int) -> None:
    labels = [str(label) for label in range(vocabulary)]
    for scale in (0.0, 1.0, 5.0):
        logits = scale * np.random.default_rng(1).normal(size=(1, 5, vocabulary))
        log_probs = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
        assert len(greedy(log_probs.astype(np.float16), labels)) == 1


def test_views_that_are_not_contiguous() -> None:
    log_probs = np.stack([log_probs_of(9, seed=seed) for seed in range(3)])
    expected = greedy(log_probs, LABELS)
    by_time = np.ascontiguousarray(log_probs.transpose(1, 0, 2)).transpose(1, 0, 2)
    spaced = np.full((3, 18, 8), np.nan)
    spaced[:, ::2, ::2] = log_probs
    backward = np.ascontiguousarray(log_probs[:, ::-1])[:, ::-1]
    for view in (by_time, spaced[:, ::2, ::2], backward, np.asfortranarray(log_probs)):
        assert greedy(view, LABELS) == expected


def test_torch_tensors() -> None:
    log_probs = np.stack([log_probs_of(9, seed=seed) for seed in range(3)]).astype(np.float32)
    tensor = torch.from_numpy(log_probs)
    assert greedy(tensor, LABELS, lengths=torch.tensor([9, 4, 0])) == greedy(log_probs, LABELS, lengths=[9, 4, 0])
    assert greedy(list(tensor.half()), LABELS)[1].tokens == greedy(log_probs, LABELS)[1].tokens


def test_input_is_left_as_it_was() -> None:
    log_probs = log_probs_of(5)[None].astype(np.float32)
    before = log_probs.copy()
    log_probs.flags.writeable = False
    greedy(log_probs, LABELS)
    np.testing.assert_array_equal(log_probs, before)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf")])
def test_values_that_are_no_log_probabilities(value: float, shown: str, dtype: Any) -> None:
    batch = np.stack([log_probs_of(6, seed=seed) for seed in range(3)]).astype(dtype)
    batch[1, 4, 2] = value
    with pytest.raises(DecodeError, match=rf"^utterance 1, frame 4: log-probability is {shown}$"):
        greedy(batch, LABELS)


@pytest.mark.parametrize(
    ("make", "total"),
    [
        (lambda log_probs: np.exp(log_probs), None),  # probabilities
        (lambda log_probs: log_probs + 5, "148.4"),  # logits
        (lambda log_probs: log_probs / np.log(10), None),  # base 10
        (lambda log_probs: log_probs - 0.03, "0.9704"),
        (lambda log_probs: log_probs + 0.03, "1.03"),
        (lambda log_probs: log_probs * 0 - np.inf, "0"),
        (lambda log_probs: log_probs * 0 + 800, "inf"),
    ],
)
def test_rows_that_do_not_sum_to_one(make: Any, total: str | None) -> None:
    batch = np.stack([log_probs_of(6, seed=seed) for seed in range(2)])
    batch[1, 3] = make(batch[1, 3])
    wanted = r"[\d.e+]+" if total is None else total.replace(".", r"\.")
    with pytest.raises(DecodeError, match=rf"^utterance 1, frame 3: probabilities sum to {wanted}, not 1: "):
        greedy(batch, LABELS)
    batch[1, 3] = log_probs_of(1)[0] + 0.01  # within the tolerance
    assert len(greedy(batch, LABELS)) == 2


@pytest.mark.parametrize(
    ("log_probs", "message"),
    [
        (np.zeros((1, 2, 5)), r"^utterance 0: expected log-probabilities of shape \(T, 4\), found \(2, 5\)$"),
        (np.zeros((2, 4)), r"^utterance 0: expected log-probabilities of shape \(T, 4\), found \(4,\): a single "),
        (np.zeros(4), r"^utterance 0: expected log-probabilities of shape \(T, 4\), found \(\)$"),
        (np.zeros((1, 1, 2, 4)), r"found \(1, 2, 4\)$"),
        ([log_probs_of(2), np.zeros((2, 3))], r"^utterance 1: .* found \(2, 3\)$"),
        (np.zeros((1, 2, 4), dtype=np.int64), r"^utterance 0: expected floating-point log-probabilities, found int64$"),
    ],
)
def test_shapes_and_types_that_do_not_fit(log_probs: Any, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        greedy(log_probs, LABELS)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([3, 7], r"^utterance 1: length 7 is outside 0\.\.6$"),
        ([-1, 6], r"^utterance 0: length -1 is outside 0\.\.6$"),
        ([6], r"^1 lengths for 2 utterances$"),
        ([6, 6, 6], r"^3 lengths for 2 utterances$"),
        (6, r"^lengths must be whole frames of shape \(B,\), found int64 of shape \(\)$"),
        ([[6], [6]], r"^lengths must be whole frames of shape \(B,\), found int64 of shape \(2, 1\)$"),
        # Shares of the longest, as some toolkits carry lengths: rounding them to frames would be a guess.
        ([1.0, 0.5], r"^lengths must be whole frames of shape \(B,\), found float64 of shape \(2,\)$"),
    ],
)
def test_lengths_that_do_not_fit(lengths: Any, message: str) -> None:
    batch = np.stack([log_probs_of(6, seed=seed) for seed in range(2)])
    with pytest.raises(DecodeError, match=message):
        greedy(batch, LABELS, lengths=lengths)


@pytest.mark.parametrize("blank", [-5, 4])
def test_blank_outside_the_vocabulary(blank: int) -> None:
    with pytest.raises(DecodeError, match=rf"^blank={blank} is outside the vocabulary of 4 labels$"):
        greedy(log_probs_of(2)[None], LABELS, blank=blank)
    with pytest.raises(DecodeError, match=r"^blank=0 is outside the vocabulary of 0 labels$"):
        greedy(np.zeros((1, 0, 0)), [])
