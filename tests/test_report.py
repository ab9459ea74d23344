"""The rendered texts as whole pictures: each expectation was laid out by hand."""

import textwrap
import unicodedata

from asr.hypotheses import Result
from asr.lines import in_columns
from asr.report import LINE_WIDTH, render_comparison, render_report, summary_line
from asr.wer import Comparison, Counts, Interval, Score, compare, score


def picture(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


def test_summary_line() -> None:
    # Five equal speakers, so that the interval has no width: 1 deletion, 6 substitutions, 1 insertion in 100 words.
    words = [f"w{number:02d}" for number in range(100)]
    heard = [f"x{number:02d}" if number in range(20, 80, 10) else word for number, word in enumerate(words)]
    results = [Result(f"u{s}", f"s{s}", " ".join(words), " ".join([*heard[1:], "zz"]), 30.0) for s in range(5)]
    # Characters: 4 deleted, 6 substituted and 3 inserted of 399.
    assert summary_line(score(results)) == (
        "WER 8.00% [40 / 500, 5 ins, 5 del, 30 sub] 95% CI 8.0-8.0 (speaker bootstrap) CER 3.26%"
    )


def test_summary_line_of_one_utterance_has_no_interval() -> None:
    scored = score([Result("u", "s", "a b c", "a b d", 1.0)])
    assert summary_line(scored) == "WER 33.33% [1 / 3, 0 ins, 0 del, 1 sub] 95% CI n/a (1 utterance) CER 20.00%"


def test_report() -> None:
    scored = score(
        [
            Result("u3", "ann", "hello world", "hello big world", 30.0),
            Result("u1", "bob", "the cat sat on the mat", "the cat sit on mat", 60.0),
            Result("u2", None, "yes", "yes", 30.0),
        ]
    )
    # With three utterances the interval reaches from the lowest to the highest rate: 1 in 27 resamples is one of them
    # three times. Characters: 5 + 4 errors of 22 + 11 + 3.
    assert render_report(scored) == picture(
        """
        WER 33.33% [3 / 9, 1 ins, 1 del, 1 sub] 95% CI 0.0-50.0 (utterance bootstrap) CER 25.00%
        Sentence error rate 66.67% [2 / 3]
        3 utterances, 2.0 minutes

        Speakers, highest WER first
        speaker       WER  errors  words  ins  del  sub  utterances
        ann        50.00%       1      2    1    0    0           1
        bob        33.33%       2      6    0    1    1           1
        (unknown)   0.00%       0      1    0    0    0           1

        Substitutions: 1
             1  sat -> sit

        Deletions: 1
             1  the

        Insertions: 1
             1  big

        Utterances with errors, most errors first

        u1 (speaker bob): WER 33.33% [2 / 6, 0 ins, 1 del, 1 sub]
        REF: the cat sat on the mat
        HYP: the cat sit on *** mat
                     S      D

        u3 (speaker ann): WER 50.00% [1 / 2, 1 ins, 0 del, 0 sub]
        REF: hello *** world
        HYP: hello big world
                   I
        """
    )


def test_report_without_errors_or_speakers() -> None:
    assert render_report(score([Result("u", None, "a b", "a b", 6.0)])) == picture(
        """
        WER 0.00% [0 / 2, 0 ins, 0 del, 0 sub] 95% CI n/a (no errors to resample) CER 0.00%
        Sentence error rate 0.00% [0 / 1]
        1 utterance, 0.1 minutes

        Substitutions: 0

        Deletions: 0

        Insertions: 0

        No utterance has an error
        """
    )


def test_empty_sides_are_shown_as_gaps() -> None:
    scored = score([Result("u1", None, "", "uh", 1.0), Result("u2", None, "go on", "", 1.0)])
    assert render_report(scored).endswith(
        picture(
            """
            u2: WER 100.00% [2 / 2, 0 ins, 2 del, 0 sub]
            REF: go  on
            HYP: *** ***
                 D   D

            u1: WER inf% [1 / 0, 1 ins, 0 del, 0 sub]
            REF: ***
            HYP: uh
                 I
            """
        )
    )


def test_worst_utterances_come_first() -> None:
    pairs = {
        "few": ("a b c", "a b x"),
        "many": ("a b c d e f", "x y z d e f"),
        "short": ("a", "x"),
        "right": ("a", "a"),
    }
    report = render_report(score([Result(name, None, *pair, 1.0) for name, pair in pairs.items()]))
    heads = [line.split(":")[0] for line in report.splitlines() if ": WER " in line]
    assert heads == ["many", "short", "few"]


def test_frequent_errors_come_first_and_the_rest_is_counted() -> None:
    # 23 different deletions, number n made n times: the 20 most frequent are listed, 3 others make 1 + 2 + 3.
    results = [Result("u", None, "kept", "kept", 1.0)]
    results += [Result(f"{n}-{k}", None, f"w{n:02d}", "", 1.0) for n in range(1, 24) for k in range(n)]
    lines = render_report(score(results)).splitlines()
    start = lines.index("Deletions: 276")
    assert lines[start + 1 : start + 3] == ["    23  w23", "    22  w22"]
    assert lines[start + 20 : start + 23] == ["     4  w04", "     6  in 3 others", ""]


def test_columns_align_with_combining_and_wide_characters() -> None:
    # A combining accent takes no cell and an ideograph takes two; both sides need five cells in the first column.
    scored = score([Result("u", None, "cafe\u0301s \u65e5\u672c end", "cafes \u65e5 fin", 1.0)])
    assert render_report(scored).splitlines()[-3:] == [
        "REF: cafe\u0301s \u65e5\u672c end",
        "HYP: cafes \u65e5   fin",
        "     S     S    S",
    ]


def test_tables_align_with_combining_and_wide_characters() -> None:
    assert in_columns([("cafe\u0301", "9"), ("\u65e5\u672c\u8a9e", "\u65e5"), ("a", "10")]) == [
        "cafe\u0301     9",
        "\u65e5\u672c\u8a9e  \u65e5",
        "a       10",
    ]


def test_long_alignments_go_on_in_new_blocks() -> None:
    words = [f"word{number}" for number in range(50)]
    heard = [*words[:36], "changed", *words[37:]]
    report = render_report(score([Result("u", None, " ".join(words), " ".join(heard), 20.0)]))
    lines = report[report.index("REF:") :].splitlines()
    assert max(map(len, lines)) <= LINE_WIDTH
    references = [line.removeprefix("REF: ") for line in lines if line.startswith("REF: ")]
    hypotheses = [line.removeprefix("HYP: ") for line in lines if line.startswith("HYP: ")]
    assert len(references) > 1
    assert " ".join(references).split() == words
    assert " ".join(hypotheses).split() == heard
    marked = next(row for row, line in enumerate(lines) if line.strip() == "S")
    place = lines[marked].index("S")
    assert lines[marked - 1][place:].startswith("changed ")
    assert lines[marked - 2][place:].startswith("word36  ")


def test_word_longer_than_a_line_is_not_cut() -> None:
    word = "a" * (2 * LINE_WIDTH)
    report = render_report(score([Result("u", None, f"b {word} c", f"b {word} d", 1.0)]))
    assert f"REF: {word}\n" in report


def test_control_characters_in_names_are_escaped() -> None:
    text = render_report(score([Result("new\nline", "t\tab", "a", "b", 1.0)]))
    assert "\nnew\\nline (speaker t\\tab): WER" in text
    assert "\nt\\tab" in text


def test_report_is_plain_text() -> None:
    report = render_report(score([Result("u", None, "caf\u00e9", "cafe", 1.0)]))
    assert all(unicodedata.category(character) != "Cc" for character in report.replace("\n", ""))
    assert report.endswith("S\n")


def test_comparison_of_a_better_system() -> None:
    comparison = Comparison(
        Score((), Counts(728, 40, 5, 5), Counts()),
        Score((), Counts(740, 30, 3, 2), Counts()),
        Interval(-3.04, -0.85, "speaker"),
        0.0123,
        better=12,
        worse=3,
        same=85,
    )
    assert render_comparison(comparison, "greedy", "beam") == picture(
        """
        greedy: WER 6.47% [50 / 773, 5 ins, 5 del, 40 sub]
        beam: WER 4.53% [35 / 773, 2 ins, 3 del, 30 sub]
        beam - greedy: -1.94 points, 95% CI -3.04 to -0.85 (paired speaker bootstrap), p = 0.012 (permutation)
        Utterances: beam better on 12, worse on 3, same on 85
        beam is better, significant at 5%.
        """
    )


def test_verdicts() -> None:
    a, b = (Score((), words, Counts()) for words in (Counts(90, 10), Counts(80, 20)))

    def last_lines(first: Score, second: Score, interval: Interval | None, p_value: float | None) -> list[str]:
        return render_comparison(Comparison(first, second, interval, p_value, 1, 2, 3)).splitlines()[2::2]

    assert last_lines(a, b, Interval(0.5, 19, "utterance"), 0.0002) == [
        "B - A: +10.00 points, 95% CI +0.50 to +19.00 (paired utterance bootstrap), p < 0.001 (permutation)",
        "A is better, significant at 5%.",
    ]
    assert last_lines(b, a, Interval(-19, 0.5, "utterance"), 0.05)[1] == "B is better, not significant at 5%."
    assert last_lines(a, a, Interval(-1, 1, "utterance"), 1.0)[1] == "A and B have the same word error rate."
    assert last_lines(b, a, None, None) == [
        "B - A: -10.00 points, 95% CI n/a (1 utterance)",
        "B is better; one utterance cannot show whether that is significant.",
    ]


def test_compared_lists_render() -> None:
    a = [Result(f"u{row}", None, "yes", "no", 1.0) for row in range(20)]
    b = [Result(f"u{row}", None, "yes", "yes", 1.0) for row in range(20)]
    assert render_comparison(compare(a, b)).splitlines()[2:] == [
        "B - A: -100.00 points, 95% CI -100.00 to -100.00 (paired utterance bootstrap), p < 0.001 (permutation)",
        "Utterances: B better on 20, worse on 0, same on 0",
        "B is better, significant at 5%.",
    ]
