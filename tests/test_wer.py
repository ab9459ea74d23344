"""Counts against an edit-distance oracle, intervals and p-values against exact probabilities, files round trip."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import ScoringError
from asr.hypotheses import Result, read_hypotheses, write_hypotheses
from asr.wer import Counts, Interval, compare, score, wer_interval, word_errors
from oracles.edit_distance import edit_distance


def make(reference: str, hypothesis: str, name: str = "u1", speaker: str | None = None) -> Result:
    return Result(name, speaker, reference, hypothesis, 1.0)


def one_word_each(right: list[bool], speakers: list[str] | None = None) -> list[Result]:
    """One-word utterances, recognised or substituted: the number of errors in a resample is then binomial."""
    return [
        make("yes", "yes" if hit else "no", f"u{row}", speakers[row] if speakers else None)
        for row, hit in enumerate(right)
    ]


def binomial_quantile(share: float, draws: int, probability: float) -> int:
    cumulative, successes = 0.0, -1
    while cumulative < share:
        successes += 1
        chance = math.comb(draws, successes) * probability**successes * (1 - probability) ** (draws - successes)
        cumulative += chance
    return successes


# --- counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "hypothesis", "words", "characters"),
    [
        ("the cat sat on the mat", "the cat sit on mat", Counts(4, 1, 1, 0), Counts(17, 1, 4, 0)),
        ("hello world", "hello big world", Counts(2, 0, 0, 1), Counts(11, 0, 0, 4)),
        ("a b c", "a b c", Counts(3, 0, 0, 0), Counts(5, 0, 0, 0)),
        ("kitten", "sitting", Counts(0, 1, 0, 0), Counts(4, 2, 0, 1)),
        ("ice cream", "icecream", Counts(0, 1, 1, 0), Counts(8, 0, 1, 0)),  # the space counts as a character
        ("two words", "", Counts(0, 0, 2, 0), Counts(0, 0, 9, 0)),
        # Nothing but the spaces separates words, and no character is trimmed or squeezed away.
        ("a\tb", "a b", Counts(0, 1, 0, 1), Counts(2, 1, 0, 0)),
        ("a", "\u00a0a", Counts(0, 1, 0, 0), Counts(1, 0, 0, 1)),
        (" a  b ", "a b", Counts(2, 0, 0, 0), Counts(3, 0, 3, 0)),
        ("caf\u00e9", "cafe\u0301", Counts(0, 1, 0, 0), Counts(3, 1, 0, 1)),  # code points
    ],
)
def test_known_counts(reference: str, hypothesis: str, words: Counts, characters: Counts) -> None:
    scored = score([make(reference, hypothesis)])
    assert scored.words == words
    assert scored.characters == characters


def test_empty_reference_counts_insertions() -> None:
    scored = score([make("", "uh oh"), make("yes", "yes", "u2"), make("", "", "u3")])
    assert [utterance.words for utterance in scored.utterances] == [Counts(0, 0, 0, 2), Counts(1), Counts()]
    assert scored.utterances[0].characters == Counts(insertions=5)
    assert scored.utterances[0].alignment == ((None, "uh"), (None, "oh"))
    assert scored.utterances[0].words.percent == math.inf
    assert scored.utterances[2].words.percent == 0
    assert scored.words.percent == 200  # two errors on one reference word


def test_sums_are_over_words_not_means_of_utterances() -> None:
    scored = score([make("a", "b"), make("a b c d e f g h i", "a b c d e f g h i", "u2")])
    assert scored.words.percent == pytest.approx(10)


def test_alignment_holds_a_column_for_each_word_or_gap() -> None:
    scored = score([make("the cat sat on the mat", "big the cat sit on mat")])
    assert scored.utterances[0].alignment == (
        (None, "big"),
        ("the", "the"),
        ("cat", "cat"),
        ("sat", "sit"),
        ("on", "on"),
        ("the", None),
        ("mat", "mat"),
    )


sentences = st.lists(st.sampled_from(["a", "b", "ab", "ba"]), max_size=6).map(" ".join)


@given(st.lists(st.tuples(sentences, sentences), max_size=4))
def test_errors_equal_the_edit_distance(pairs: list[tuple[str, str]]) -> None:
    pairs = [("a", "a"), *pairs]  # at least one reference word
    scored = score([make(said, heard, f"u{row}") for row, (said, heard) in enumerate(pairs)])
    for (said, heard), utterance in zip(pairs, scored.utterances, strict=True):
        words, characters = utterance.words, utterance.characters
        assert words.errors == edit_distance(said.split(), heard.split())
        assert characters.errors == edit_distance(said, heard)
        assert (words.reference, characters.reference) == (len(said.split()), len(said))
        assert words.hits + words.substitutions + words.insertions == len(heard.split())
        # The alignment is one: its two sides are the texts, and it shows the errors that were counted.
        assert [left for left, _ in utterance.alignment if left is not None] == said.split()
        assert [right for _, right in utterance.alignment if right is not None] == heard.split()
        assert sum(left != right for left, right in utterance.alignment) == words.errors
    assert scored.words.errors == sum(edit_distance(said.split(), heard.split()) for said, heard in pairs)


@pytest.mark.parametrize("results", [[], [make("", "uh")], [make(" ", "uh")]])
def test_no_reference_word_is_an_error(results: list[Result]) -> None:
    with pytest.raises(ScoringError, match=f"references of {len(results)} utterances hold no word"):
        score(results)


def test_id_twice_is_an_error() -> None:
    with pytest.raises(ScoringError, match="id 'u1' stands more than once"):
        score([make("a", "a"), make("b", "b")])


# --- intervals --------------------------------------------------------------------------------------------------------


def test_interval_is_that_of_the_binomial_distribution() -> None:
    scored = score(one_word_each([False] * 10 + [True] * 40))
    low, high = (100 * binomial_quantile(share, 50, 0.2) / 50 for share in (0.025, 0.975))
    assert wer_interval(scored) == Interval(low, high, "utterance")


def test_interval_is_reproducible_and_ignores_the_order() -> None:
    results = [make("a b c d", "a b c d" if row % 3 else "a x", f"u{row}") for row in range(20)]
    assert wer_interval(score(results)) == wer_interval(score(results)) == wer_interval(score(results[::-1]))


@pytest.mark.parametrize(("speakers", "unit"), [(4, "utterance"), (5, "speaker")])
def test_five_speakers_are_resampled_whole(speakers: int, unit: str) -> None:
    # Each speaker has one utterance right and one wrong: speakers do not differ, utterances do.
    names = [f"s{row // 2}" for row in range(2 * speakers)]
    interval = wer_interval(score(one_word_each([True, False] * speakers, names)))
    assert interval is not None
    assert interval.unit == unit
    if unit == "speaker":
        assert (interval.low, interval.high) == (50, 50)
    else:
        assert interval.low < 50 < interval.high


def test_an_utterance_of_unknown_speaker_stands_for_itself() -> None:
    # Five faultless speakers, of whom one is called as the two wrong utterances of nobody in particular.
    known = [make("a", "a", f"k{row}", f"u{row}") for row in range(5)]
    unknown = [make("a", "b", f"u{row}") for row in range(2)]
    high = 100 * binomial_quantile(0.975, 7, 2 / 7) / 7
    assert wer_interval(score(known + unknown)) == Interval(0, high, "speaker")


def test_no_interval_for_one_utterance() -> None:
    assert wer_interval(score([make("a", "b", speaker="s")])) is None


def test_resamples_without_reference_words_are_left_out() -> None:
    # A quarter of the resamples holds the silent utterance twice and has no error rate.
    assert wer_interval(score([make("a b", "a x"), make("", "", "u2")])) == Interval(50, 50, "utterance")


# --- comparison -------------------------------------------------------------------------------------------------------


def test_identical_systems_do_not_differ() -> None:
    results = one_word_each([True, False] * 5)
    comparison = compare(results, results)
    assert comparison.difference_points == 0
    assert comparison.interval == Interval(0, 0, "utterance")
    assert comparison.p_value == 1
    assert (comparison.better, comparison.worse, comparison.same) == (0, 0, 10)


@given(st.lists(st.integers(-4, 4), min_size=5, max_size=9))
def test_p_value_is_the_share_of_exchanges_that_differ_as_much(differences: list[int]) -> None:
    """Each speaker says "yes" nine times and has four errors more or less with the second system."""
    names = [f"s{row}" for row in range(len(differences)) for _ in range(9)]
    a = one_word_each([word >= 4 for _ in differences for word in range(9)], names)
    b = one_word_each([word >= 4 + more for more in differences for word in range(9)], names)
    signs = list(itertools.product((1, -1), repeat=len(differences)))
    sums = [abs(sum(sign * size for sign, size in zip(row, differences, strict=True))) for row in signs]
    exact = sum(one >= abs(sum(differences)) for one in sums) / len(sums)
    assert compare(a, b).p_value == pytest.approx(exact, abs=1e-9)
    assert compare(b, a).p_value == pytest.approx(exact, abs=1e-9)


def test_p_value_of_many_utterances_is_binomial() -> None:
    """Of 60 utterances on which one of two is wrong, the second is right on 40."""
    right = [row < 40 for row in range(60)] + [True] * 1000
    comparison = compare(one_word_each([not hit for hit in right[:60]] + [True] * 1000), one_word_each(right))
    assert comparison.p_value == pytest.approx(2 * sum(math.comb(60, k) for k in range(40, 61)) / 2**60, rel=1e-9)
    assert (comparison.better, comparison.worse, comparison.same) == (40, 20, 1000)


def test_difference_of_one_sign_has_the_smallest_p_value() -> None:
    comparison = compare(one_word_each([False] * 30), one_word_each([True] * 30))
    assert comparison.p_value == pytest.approx(2 / 2**30, abs=1e-15)
    assert comparison.interval == Interval(-100, -100, "utterance")


def test_comparison_is_paired() -> None:
    # Utterances differ widely in difficulty, and b makes exactly one error of ten words less on each.
    words = list("abcdefghij")
    a = [make(" ".join(words), " ".join(words[: row % 10]), f"u{row}") for row in range(40)]
    b = [make(" ".join(words), " ".join(words[: row % 10 + 1]), f"u{row}") for row in range(40)]
    assert compare(a, b).interval == Interval(-10, -10, "utterance")


def test_speakers_are_compared_whole() -> None:
    names = [f"s{row // 2}" for row in range(10)]
    comparison = compare(one_word_each([False] * 10, names), one_word_each([True, False] * 5, names))
    assert comparison.interval == Interval(-50, -50, "speaker")


def test_order_of_the_second_list_does_not_matter() -> None:
    a, b = one_word_each([False, True, True]), one_word_each([True, True, True])
    assert compare(a, b) == compare(a, b[::-1])


def test_one_utterance_has_no_p_value() -> None:
    comparison = compare([make("a b", "a x")], [make("a b", "a b")])
    assert (comparison.interval, comparison.p_value) == (None, None)
    assert comparison.difference_points == -50


@pytest.mark.parametrize(
    ("b", "message"),
    [
        ([make("a", "a", "u1")], "id 'u2' is missing from the second"),
        ([make("a", "a", "u1"), make("b", "b", "u2"), make("c", "c", "u3")], "id 'u3' is missing from the first"),
        ([make("a", "a", "u1"), make("x", "b", "u2")], "id 'u2' has reference 'b' in the first hypotheses, 'x' in"),
        ([make("a", "a", "u1"), make("a", "a", "u1")], "id 'u1' stands more than once"),
    ],
)
def test_different_test_sets_are_not_compared(b: list[Result], message: str) -> None:
    with pytest.raises(ScoringError, match=message):
        compare([make("a", "a", "u1"), make("b", "b", "u2")], b)


# --- files ------------------------------------------------------------------------------------------------------------


def test_hypotheses_round_trip(tmp_path: Path) -> None:
    results = [
        Result("u1", "ann", "grüße", "", 1.25),
        Result("u2", None, "", "line\u2028separator\x85 \u65e5\u672c", 0.0),
    ]
    path = tmp_path / "new" / "hypotheses.jsonl"
    write_hypotheses(path, iter(results))
    found = read_hypotheses(path)
    assert found[0] == results[0]
    assert found[1] == replace(results[1], hypothesis="line separator 日本")  # words are separated by single spaces
    first = path.read_text(encoding="utf-8").split("\n")[0]
    assert first == '{"id": "u1", "speaker": "ann", "reference": "grüße", "hypothesis": "", "duration": 1.25}'


def test_whole_seconds_and_blank_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text(
        '\n{"id": "u", "speaker": null, "reference": "a", "hypothesis": "b", "duration": 2}\r\n\n', encoding="utf-8"
    )
    assert read_hypotheses(path) == [Result("u", None, "a", "b", 2.0)]


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    write_hypotheses(path, [make("a", "a")])
    with pytest.raises(ScoringError, match="id 'u1' stands more than once"):
        write_hypotheses(path, [make("a", "a"), make("b", "b")])
    assert read_hypotheses(path) == [make("a", "a")]
    assert [item.name for item in tmp_path.iterdir()] == ["h.jsonl"]


def test_a_duration_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_hypotheses(tmp_path / "h.jsonl", [Result("u", None, "a", "a", math.nan)])
    assert not list(tmp_path.iterdir())


GOOD = {"id": "u", "speaker": "s", "reference": "a", "hypothesis": "b", "duration": 1.0}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not a JSON record"),
        ("[" * 100_000, "not a JSON record"),
        ("[]", "expected a JSON object, found list"),
        (json.dumps({key: GOOD[key] for key in GOOD if key != "speaker"}), "key 'speaker' is missing"),
        (json.dumps({**GOOD, "text": "a"}), "unknown key 'text'"),
        (json.dumps({**GOOD, "id": 3}), r"id must be a string, found 3\.0"),
        (json.dumps({**GOOD, "id": " "}), "id is empty"),
        (json.dumps({**GOOD, "speaker": ""}), "speaker is empty"),
        (json.dumps({**GOOD, "speaker": ["s"]}), "speaker must be a string"),
        (json.dumps({**GOOD, "hypothesis": None}), "hypothesis must be a string, found None"),
        (json.dumps({**GOOD, "reference": "\ud800"}), r"reference must be valid Unicode, found '\\ud800'"),
        (json.dumps({**GOOD, "duration": "1"}), "duration must be a number of seconds"),
        (json.dumps({**GOOD, "duration": True}), "duration must be a number of seconds"),
        (json.dumps({**GOOD, "duration": -1}), "duration must be a number of seconds"),
        (json.dumps({**GOOD, "duration": math.nan}), "duration must be a number of seconds"),
        (
            '{"id": "u", "speaker": null, "reference": "", "hypothesis": "", "duration": 1' + "0" * 5000 + "}",
            "duration",
        ),
        (json.dumps({**GOOD, "id": "first"}), "id 'first' was already used on line 1"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text(json.dumps({**GOOD, "id": "first"}) + "\n\n" + line + "\n", encoding="utf-8")
    with pytest.raises(ScoringError, match=message) as caught:
        read_hypotheses(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot read hypotheses"), (b"\xff", "not UTF-8"), (b"\n", "holds no hypothesis")]
)
def test_unusable_file_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "h.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ScoringError, match=message) as caught:
        read_hypotheses(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_word_errors_of_pairs() -> None:
    pairs = [("a b", "a"), ("a b", "a b"), ("", "a b"), ("  ", "a"), ("a b", "a"), ("", "")]
    assert word_errors(pairs) == {("a b", "a"): 1, ("a b", "a b"): 0, ("", "a b"): 2, ("  ", "a"): 1, ("", ""): 0}
    assert word_errors([(" ", "a b")]) == {(" ", "a b"): 2}
