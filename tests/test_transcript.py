"""Words to segments: the partition, its limits and its cost; what is no transcript."""

import math
import subprocess
import sys
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decode import Word, greedy
from asr.errors import DecodeError
from asr.segmentation import LINE_CHARACTERS, MAX_LINES, MAX_SEGMENT_S, PAUSE_S, lines_of, segments_of
from asr.transcript import Transcript
from conftest import ROOT
from recognised import recognised, transcript, words


def spoken(text: str, word_s: float = 0.2, gap_s: float = 0.1) -> list[Word]:
    """Words one after another, all pauses alike; `|` in the text is a longer pause of 0.4 s, `||` one of 0.6 s."""
    found, now = [], 0.0
    for piece in text.split():
        if piece in ("|", "||"):
            now += (0.4 if piece == "|" else 0.6) - gap_s
            continue
        found.append(Word(piece, now, now + word_s, 0.5))
        now += word_s + gap_s
    return found


def texts(found: list[Word]) -> list[str]:
    return [segment.text for segment in segments_of(found)]


def lines_needed(found: tuple[Word, ...]) -> int:
    """Lines that words take when each is filled as far as it goes."""
    lines = [""]
    for word in found:
        longer = f"{lines[-1]} {word.text}".lstrip(" ") if lines[-1] else word.text
        if lines[-1] and len(longer) > LINE_CHARACTERS:
            lines.append(word.text)
        else:
            lines[-1] = longer
    return len(lines) if max(map(len, lines)) <= LINE_CHARACTERS else MAX_LINES + 1


# --- segments ---------------------------------------------------------------------------------------------------------


@given(words())
def test_segments_partition_the_words_in_order(found: list[Word]) -> None:
    segments = segments_of(found)
    assert [word for segment in segments for word in segment.words] == found
    for segment in segments:
        assert segment.text == " ".join(word.text for word in segment.words)
        assert (segment.start_s, segment.end_s) == (segment.words[0].start_s, segment.words[-1].end_s)
        assert 0 <= segment.confidence <= 1
    for before, after in pairwise(segments):
        assert before.end_s <= after.start_s


@given(words(st.text("ab", min_size=1, max_size=50)))
def test_no_segment_of_several_words_is_longer_than_the_limits_or_holds_a_pause(found: list[Word]) -> None:
    for segment in segments_of(found):
        if len(segment.words) > 1:
            assert segment.end_s - segment.start_s <= MAX_SEGMENT_S
            assert lines_needed(segment.words) <= MAX_LINES
            assert all(b.start_s - a.end_s < PAUSE_S for a, b in pairwise(segment.words))
            assert max(map(len, lines_of([word.text for word in segment.words]))) <= LINE_CHARACTERS


@given(words(st.text("ab", min_size=1, max_size=50), max_size=9))
def test_the_cut_is_the_cheapest_of_all(found: list[Word]) -> None:
    def cost(parts: list[tuple[Word, ...]]) -> float:
        """The docstring's sum; infinite for what is not allowed."""
        total = 0.0
        for part in parts:
            length_s = part[-1].end_s - part[0].start_s
            if len(part) > 1 and (length_s > MAX_SEGMENT_S or lines_needed(part) > MAX_LINES):
                return math.inf
            if any(b.start_s - a.end_s >= PAUSE_S for a, b in pairwise(part)):
                return math.inf
            characters = len(" ".join(word.text for word in part))
            fill = max(characters / (MAX_LINES * LINE_CHARACTERS), length_s / MAX_SEGMENT_S)
            total += (1 - min(1.0, fill)) ** 2
        gaps = [b[0].start_s - a[-1].end_s for a, b in pairwise(parts)]
        return total + sum(1 - gap / PAUSE_S for gap in gaps if gap < PAUSE_S)

    if found:
        places = range(1, len(found))
        cuts = (cut for count in range(len(found)) for cut in combinations(places, count))
        ways = ([tuple(found[a:b]) for a, b in pairwise((0, *cut, len(found)))] for cut in cuts)
        assert cost([segment.words for segment in segments_of(found)]) == pytest.approx(min(map(cost, ways)))


def test_a_pause_ends_a_segment_and_a_shorter_one_does_not() -> None:
    assert texts(spoken("one two || three | four")) == ["one two", "three four"]


def test_what_is_too_long_is_cut_in_its_longest_pause() -> None:
    found = spoken("a b c d e f g h | i j k l m n o p q r s t u v w x y z")  # 7.8 s
    assert texts(found) == ["a b c d e f g h", "i j k l m n o p q r s t u v w x y z"]


def test_with_equal_pauses_no_single_word_is_left_over() -> None:
    found = spoken(" ".join(["characters"] * 8), gap_s=0.0)  # 87 characters
    assert texts(found) == [" ".join(["characters"] * 4)] * 2


def test_a_word_longer_than_the_limits_is_whole_and_alone() -> None:
    long = "x" * 100
    assert texts(spoken(f"a {long} b")) == ["a", long, "b"]
    assert texts([Word("a", 0.0, 0.1, 1.0), Word("hm", 0.1, 9.0, 1.0), Word("b", 9.1, 9.2, 1.0)]) == ["a", "hm", "b"]


def test_84_characters_that_do_not_fit_on_two_lines_are_two_segments() -> None:
    parts = ["x" * 30, "y" * 22, "z" * 30]  # 84 with the spaces, but no two of them on one line
    assert len(" ".join(parts)) == 84
    assert len(texts(spoken(" ".join(parts)))) == 2


def test_confidence_of_a_segment_is_the_geometric_mean_of_its_words() -> None:
    found = [Word("a", 0.0, 0.1, 0.25), Word("b", 0.1, 0.2, 1.0)]
    assert segments_of(found)[0].confidence == pytest.approx(0.5)
    assert segments_of([replace(found[0], confidence=0.0), found[1]])[0].confidence == 0.0


# --- lines ------------------------------------------------------------------------------------------------------------


def test_lines_are_balanced_and_the_first_is_the_shorter() -> None:
    assert lines_of(["one", "line"]) == ["one line"]
    assert lines_of("the quick brown fox jumps over the lazy dog again".split()) == [
        "the quick brown fox jumps",
        "over the lazy dog again",
    ]
    assert lines_of(["a" * 20, "b" * 10, "c" * 20]) == ["a" * 20, f"{'b' * 10} {'c' * 20}"]
    assert lines_of(["x" * 50]) == ["x" * 50]
    assert lines_of([]) == [""]


# --- transcripts ------------------------------------------------------------------------------------------------------


def test_a_decoder_s_hypotheses_are_a_transcript() -> None:
    path = [1, 1, 0, 2, 3, 0, 0, 1]
    found = greedy(np.log(np.full((1, 8, 4), 0.01) + 0.96 * np.eye(4)[None, path]), ["", "a", "b", " "], frame_s=0.04)
    made = Transcript.of(found, 0.3, "a.wav")
    assert (made.text, made.source) == ("ab a", "a.wav")
    assert made.words[0] == found[0].words[0]
    assert made.words[1].end_s == 0.3  # the last frame ends at 0.32 s
    assert made.alternatives == tuple(found)
    assert made.confidence == found[0].confidence == pytest.approx(0.97)


def test_silence_is_a_transcript() -> None:
    made = transcript([], 2.0)
    assert (made.text, made.words, made.segments) == ("", (), ())
    assert made.as_json()["segments"] == []


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3))))
def test_words_are_cut_to_the_audio_and_to_each_other(times: list[tuple[float, float]]) -> None:
    found = [Word("a", start, start + length, 1.0) for start, length in sorted(times)]
    made = transcript(found, 2.0 + len(found) / 1000)
    ends = [0.0, *(time for word in made.words for time in (word.start_s, word.end_s)), made.duration_s]
    assert ends == sorted(ends)
    assert len(made.words) == len(found)


def test_confidence_is_at_most_one() -> None:
    """Rows of half-precision numbers sum to a little more than one."""
    made = Transcript.of([replace(recognised([]), confidence=1.01)], 1.0, "a.wav")
    assert made.confidence == made.as_json()["alternatives"][0]["confidence"] == 1.0


@pytest.mark.parametrize(
    ("found", "duration_s", "message"),
    [
        ([], math.nan, "a.wav: wanted a duration of more than 0 s, found nan"),
        ([], 0.0, "a.wav: wanted a duration of more than 0 s, found 0.0"),
        ([Word("b", 2.0, 1.0, 1.0)], 3.0, "a.wav: word 1 ('b'): wanted times in order from 0.0 s, found 2.0 to 1.0 s"),
        ([Word("b", -1.0, 1.0, 1.0)], 3.0, "found -1.0 to 1.0 s"),
        ([Word("b", 0.0, math.nan, 1.0)], 3.0, "found 0.0 to nan s"),
        ([Word("b", 0.0, math.inf, 1.0)], 3.0, "found 0.0 to inf s"),
        ([Word("b", 2.0, 2.1, 1.0), Word("c", 1.0, 2.0, 1.0)], 3.0, "word 2 ('c'): wanted times in order from 2.0 s"),
        ([Word("b", 0.0, 1.0, 1.5)], 3.0, "word 1 ('b'): wanted a confidence from 0 to 1, found 1.5"),
        ([Word("b", 0.0, 0.0, 1.0)] * 3, 0.002, "wanted at most one word per millisecond, found 3 in 0.002 s"),
    ],
)
def test_what_cannot_be_is_an_error_that_names_source_and_word(
    found: list[Word], duration_s: float, message: str
) -> None:
    with pytest.raises(DecodeError) as caught:
        transcript(found, duration_s, "a.wav")
    assert str(caught.value).startswith("a.wav: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_scores_that_cannot_be_are_errors() -> None:
    with pytest.raises(DecodeError, match=r"^a\.wav: wanted at least one hypothesis, found none$"):
        Transcript.of([], 1.0, "a.wav")
    good = recognised([])
    with pytest.raises(DecodeError, match=r"^a\.wav: hypothesis 2: wanted a finite lm_score, found nan$"):
        Transcript.of([good, replace(good, lm_score=math.nan)], 1.0, "a.wav")
    with pytest.raises(DecodeError, match=r"^a\.wav: hypothesis 1: wanted a confidence from 0 to 1, found nan$"):
        Transcript.of([replace(good, confidence=math.nan)], 1.0, "a.wav")


def test_needs_neither_torch_nor_numba() -> None:
    code = "import sys, asr.transcript, asr.writers; print({'torch', 'numba'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
