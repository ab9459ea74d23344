"""Forced alignment: the search against enumeration and a full table, words and their times, the command."""

import itertools
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asr.align import AlignedText, align_text
from asr.config import TextConfig
from asr.decode import alignment, greedy
from asr.decode.alignment import ANY, ANY_COST, align
from asr.emissions import Vocabulary
from asr.errors import DecodeError, TextError
from asr.lengths import ctc_frames_needed
from asr.text import BLANK_NAME, Tokenizer, build_tokenizer, normalize
from oracles.alignment import best_path
from oracles.ctc import collapse
from peaky import LABELS, VOCABULARY, spelled
from random_ctc import random_log_probs

Capture = pytest.CaptureFixture[str]
TOKENIZER = Tokenizer([BLANK_NAME, *LABELS[1:]], TextConfig())


def spikes(frames: Sequence[int], labels: Sequence[int], total: int, vocabulary: int, seed: int = 0) -> np.ndarray:
    """(T, V) log-probabilities of blanks with labels in some frames, none like another."""
    logits = np.random.default_rng(seed).normal(size=(total, vocabulary)).astype(np.float32)
    logits[:, 0] += 8
    logits[frames, labels] += 16
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 3))
def test_the_best_of_all_paths(seed: int, frames: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    rows, labels = random_log_probs(rng, frames, 4), rng.integers(1, 4, count).tolist()
    if ctc_frames_needed(labels) > frames:
        with pytest.raises(DecodeError, match=f"^labels: {frames} frames, the transcript's {count} labels need "):
            align(rows, labels)
        return
    paths = [path for path in itertools.product(range(4), repeat=frames) if collapse(path) == tuple(labels)]
    scores = [float(rows[range(frames), path].astype(np.float64).sum()) for path in paths]
    best = paths[int(np.argmax(scores))]
    found = align(rows, labels)
    assert found.score == pytest.approx(max(scores), abs=1e-5)
    own = [0] * frames
    for label, start, end in zip(labels, found.starts, found.ends, strict=True):
        own[start:end] = [label] * (end - start)
    assert tuple(own) == best


@example(seed=583, frames=42, bound=1.0)  # such a tie
@given(st.integers(0, 2**32), st.integers(1, 200), st.floats(0.01, 1e6))
def test_whatever_the_bound_that_is_tried_first(seed: int, frames: int, bound: float) -> None:
    rng = np.random.default_rng(seed)
    rows = random_log_probs(rng, frames, 5)
    labels = rng.choice([ANY, 1, 2, 3, 4], rng.integers(1, frames + 1), p=[0.1, 0.3, 0.3, 0.2, 0.1]).tolist()
    while ctc_frames_needed(labels) > frames:
        labels.pop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "_FIRST_BOUND", bound)
        found = align(rows, labels)
    rows = rows.astype(np.float64)
    starts, ends, score = best_path(rows, labels)
    assert found.score == pytest.approx(score, abs=1e-3)
    own = np.zeros(frames, int)
    for label, start, end in zip(labels, found.starts, found.ends, strict=True):
        own[start:end] = label
    assert collapse(own) == tuple(labels)
    values = np.where(own == ANY, rows.max(axis=1) - ANY_COST, rows[range(frames), own])
    assert values.sum() == pytest.approx(score, abs=1e-9)
    # ANY costs the same in any two frames whose best label is the blank: then rounding chooses one of them.
    assert ANY in labels or (found.starts.tolist(), found.ends.tolist()) == (starts, ends)


def test_as_many_frames_as_labels() -> None:
    found = align(random_log_probs(np.random.default_rng(1), 5, 4), [1, 2, 1, 3, 2])
    assert found.starts.tolist() == [0, 1, 2, 3, 4]
    assert found.ends.tolist() == [1, 2, 3, 4, 5]


def test_repeats_are_kept_apart_by_a_blank() -> None:
    rows = random_log_probs(np.random.default_rng(1), 3, 3)
    assert align(rows, [1, 1]).starts.tolist() == [0, 2]
    assert align(rows, [1, 2, 1]).starts.tolist() == [0, 1, 2]
    with pytest.raises(DecodeError, match=r"^labels: 3 frames, the transcript's 3 labels need 4$"):
        align(rows, [1, 1, 2])


def test_another_blank_and_other_types() -> None:
    rows = random_log_probs(np.random.default_rng(1), 9, 4)
    wanted = align(rows, [2, 3, 1])
    turned = align(rows[:, [1, 2, 3, 0]].astype(np.float64), [1, 2, 0], blank=3)
    assert turned.starts.tolist() == wanted.starts.tolist()
    assert align(list(rows), [2, 3, 1]).ends.tolist() == wanted.ends.tolist()


def test_labels_of_probability_zero() -> None:
    rows = np.log(np.array([[0.5, 0.5, 1e-30], [0.5, 0.5, 1e-30]], np.float64))
    assert align(rows, [2]).score == pytest.approx(np.log(0.5) + np.log(1e-30), rel=1e-5)
    rows[:, 2] = -np.inf
    assert align(rows, [1]).score == pytest.approx(2 * np.log(0.5))
    with pytest.raises(DecodeError, match=r"^labels: the 1 labels have probability zero in these 2 frames$"):
        align(rows, [2])


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        (np.log(np.full((4, 2), 0.5)), [], r"x: no label to align"),
        (
            np.log(np.full((4, 2), 0.5)),
            [1, 0],
            r"x: label 0 at place 1 is the blank, wanted one of 0\.\.1 without the blank",
        ),
        (np.log(np.full((4, 2), 0.5)), [2], r"x: label 2 at place 0 is no label"),
        (np.log(np.full((4, 2), 0.5)), [-2], r"x: label -2 at place 0 is no label"),
        (np.full((4, 2), 0.5), [1], r"x, frame 0: probabilities sum to 3\.297, not 1"),
        (np.full((4, 2), np.nan), [1], r"x, frame 0: log-probability is nan"),
        (np.zeros((0, 2)), [1], r"x: 0 frames, the transcript's 1 labels need 1"),
        (np.zeros(3), [1], r"x: expected log-probabilities of shape \(T, 3\), found \(3,\)"),
        (np.zeros((3, 1), int), [1], r"x: expected floating-point log-probabilities, found int64"),
    ],
)
def test_what_cannot_be_aligned(rows: np.ndarray, labels: list[int], message: str) -> None:
    with pytest.raises(DecodeError, match=f"^{message}"):
        align(rows, labels, where="x")


@pytest.mark.slow
def test_an_hour_equals_the_table_of_all_moves() -> None:
    rng = np.random.default_rng(5)
    frames = np.sort(rng.choice(90_000, 300, replace=False))
    labels = rng.integers(1, 30, 300)
    said = np.where(rng.random(300) < 0.2, rng.integers(1, 30, 300), labels)
    rows = spikes(frames.tolist(), said.tolist(), 90_000, 30)
    found = align(rows, labels.tolist())
    starts, ends, score = best_path(rows.astype(np.float64), labels.tolist())
    assert found.score == pytest.approx(score, abs=0.05)
    assert (found.starts.tolist(), found.ends.tolist()) == (starts, ends)


@pytest.mark.slow
def test_an_hour_of_speech_in_bounded_memory() -> None:
    rng = np.random.default_rng(5)
    frames = 2 * np.sort(rng.choice(45_000, 36_000, replace=False))
    labels = rng.integers(1, 30, 36_000)
    said = np.where(rng.random(36_000) < 0.05, rng.integers(1, 30, 36_000), labels)
    rows = spikes(frames.tolist(), said.tolist(), 90_000, 30)
    align(rows[:100], [1])  # compiled before memory is counted
    tracemalloc.start()
    found = align(rows, labels.tolist())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # the table of all moves has 6.5e9 cells
    right = said == labels
    assert (found.starts[right] == frames[right]).mean() > 0.995


def test_words_are_dated_as_greedy_decoding_dates_them() -> None:
    rows = spelled("bad cab  egg a")
    aligned = align_text(rows, "bad cab egg a", TOKENIZER, VOCABULARY)
    (wanted,) = greedy([rows], LABELS, frame_s=VOCABULARY.frame_s)
    assert [(word.text, word.start_s, word.end_s) for word in aligned.words] == [
        (word.text, word.start_s, word.end_s) for word in wanted.words
    ]
    assert [word.confidence for word in aligned.words] == pytest.approx([0.9] * 4, abs=1e-5)
    assert aligned.text == "bad cab egg a"
    assert aligned.confidence == pytest.approx(0.9, abs=1e-5)
    assert aligned.score == aligned.acoustic_score + aligned.lm_score
    assert not list(aligned.remarks())


def test_words_come_back_as_they_were_written() -> None:
    aligned = align_text(
        spelled("bad cab bed egg"), "\ufeff“Bad”,\tCAB-bed\n\n ﬀ — egg!".replace("ﬀ ", ""), TOKENIZER, VOCABULARY
    )
    assert [word.text for word in aligned.words] == ["\ufeff“Bad”,", "CAB-bed", "egg!"]
    assert [round(word.start_s / 0.04) for word in aligned.words] == [0, 8, 24]
    assert [round(word.end_s / 0.04) for word in aligned.words] == [5, 21, 29]
    assert [str(place) for place in aligned.silent] == ["line 3, word 1 '—'"]
    assert list(aligned.remarks()) == ["line 3, word 1 '—': left out, nothing remains of it after normalisation"]


def test_a_number_takes_the_time_that_the_words_around_it_leave() -> None:
    aligned = align_text(spelled("bad cage egg"), "bad 42 egg", TOKENIZER, VOCABULARY)
    wanted = align_text(spelled("bad cage egg"), "bad cage egg", TOKENIZER, VOCABULARY)
    assert [word.start_s for word in aligned.words] == [word.start_s for word in wanted.words]
    assert aligned.words[2] == wanted.words[2]
    assert aligned.words[1].text == "42"
    assert aligned.words[1].confidence == 0
    assert aligned.words[1].end_s == pytest.approx(wanted.words[1].end_s, abs=0.041)
    assert list(aligned.remarks()) == [
        "line 1, word 2 '42': 0.32 to 0.60 s, aligned as any sound: the vocabulary lacks '4', '2'"
    ]
    assert aligned.doubtful == [aligned.words[1]]


def test_a_word_that_was_not_said_is_doubtful() -> None:
    aligned = align_text(spelled("bad cage egg", peak=0.999), "bad head egg", TOKENIZER, VOCABULARY)
    assert [word.text for word in aligned.doubtful] == ["head"]
    assert [remark.split(":")[0] for remark in aligned.remarks()] == ["line 1, word 2 'head'"]


def test_what_the_transcript_lacks() -> None:
    def lacking(said: str, text: str) -> list[str]:
        aligned = align_text(spelled(said, peak=0.99), text, TOKENIZER, VOCABULARY)
        return [remark for remark in aligned.remarks() if "lack what is said" in remark]

    lacks = "the transcript seems to lack what is said there"
    assert lacking("bad cacacaca egg", "bad\negg") == [f"near line 1, word 1 'bad': 0.32 to 0.92 s, {lacks}"]
    assert lacking("e  g  g bad", "bad") == [f"near line 1, word 1 'bad': 0.00 to 0.52 s, {lacks}"]
    assert lacking("bad  ec   hef", "bad") == [f"near line 1, word 1 'bad': 0.40 to 1.00 s, {lacks}"]
    assert not lacking("bad c        a egg", "bad egg")
    assert not lacking("bad cab egg", "bad egg")  # which may be how a word is said
    assert not lacking("bad" + " " * 99 + "egg", "bad egg")
    assert not lacking("bad cabbage egg", "bad 42 egg")


def test_one_word() -> None:
    aligned = align_text(spelled("  bad "), "bad", TOKENIZER, VOCABULARY)
    assert [(word.text, round(word.start_s / 0.04)) for word in aligned.words] == [("bad", 4)]
    spaceless = Tokenizer([BLANK_NAME, *"abcdefgh"], TextConfig())
    meaning = Vocabulary(tuple(spaceless.tokens), 0, " ", 0.04)
    rows = np.delete(spelled("bad", peak=1 - 1e-6), 1, axis=1)
    assert align_text(rows, "Bad!", spaceless, meaning).text == "Bad!"
    with pytest.raises(TextError, match=r"^transcript: 2 words, but the vocabulary has no space: wanted one word$"):
        align_text(rows, "a b", spaceless, meaning)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "wanted a transcript with a word in it, found ''"),
        (" \n... ", "wanted a transcript with a word in it, found ' \\n... '"),
        ("42 xyz", "no word can be aligned: line 1, word 1 '42': the vocabulary lacks '4'"),
        (
            "bad cab bad",
            "the transcript needs 11 frames, but 0.40 s of audio have 10: does it belong to this recording?",
        ),
    ],
)
def test_texts_that_cannot_be_aligned(text: str, message: str) -> None:
    with pytest.raises(TextError, match=r"^talk\.txt: ") as caught:
        align_text(spelled("abcde"), text, TOKENIZER, VOCABULARY, where="talk.txt")
    assert str(caught.value) == f"talk.txt: {message}"


def test_a_text_that_needs_every_frame() -> None:
    aligned = align_text(spelled("abcde"), "abcde hgfe", TOKENIZER, VOCABULARY)
    assert [(word.text, round(word.start_s / 0.04)) for word in aligned.words] == [("abcde", 0), ("hgfe", 6)]


def aligned_pieces(text: str, said: str) -> tuple[AlignedText, Tokenizer, list[int]]:
    """`text` aligned with pieces that spell `said`, each in every third frame, and the labels of what was said."""
    corpus = ["the cat sat on the mat", "a cat and a hat", "that is the hat of a cat"]
    tokenizer = build_tokenizer(corpus, TextConfig(unit="bpe", bpe_size=24))
    labels = tokenizer.encode(said, where="x")
    rows = spikes([3 * place + 1 for place in range(len(labels))], labels, 3 * len(labels) + 1, len(tokenizer))
    meaning = Vocabulary(tuple(tokenizer.tokens), 0, "\u2581", 1.0)
    return align_text(rows, text, tokenizer, meaning), tokenizer, labels


def test_pieces() -> None:
    aligned, tokenizer, labels = aligned_pieces("The cat sat, on a Hat.", "the cat sat on a hat")
    assert [word.text for word in aligned.words] == "The cat sat, on a Hat.".split()
    counts = [len(tokenizer.encode(word, where="x")) for word in "the cat sat on a hat".split()]
    assert sum(counts) == len(labels)  # words have the same pieces alone and in a sentence
    # Where the mark of a word is a piece of its own, the word begins with the piece behind it, as it does in a decoder.
    pieces = [tokenizer.tokens[label] for label in labels]
    firsts = np.cumsum([0, *counts[:-1]])
    begins = [first + (pieces[first] == "\u2581") for first in firsts.tolist()]
    assert [word.start_s for word in aligned.words] == [3.0 * first + 1 for first in begins]
    assert [word.end_s for word in aligned.words] == [3.0 * last - 1 for last in np.cumsum(counts).tolist()]

    aligned, _, _ = aligned_pieces("the cat 77 on a hat", "the cat sat on a hat")
    assert aligned.words[3].start_s == 3.0 * begins[3] + 1
    assert [place.unknown for place in aligned.written if place.unknown] == [("77",)]


@given(st.text(), st.sampled_from(["strip", "keep"]), st.sampled_from(["lower", "upper", "keep"]))
def test_words_are_normalised_alone_as_in_their_text(text: str, punctuation: str, case: str) -> None:
    config = TextConfig(punctuation=punctuation, case=case)
    assert " ".join(" ".join(normalize(word, config) for word in text.split()).split()) == normalize(text, config)
