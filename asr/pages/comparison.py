"""The page of two systems on the same utterances: what differs, for whom, and whether it is more than chance."""

from pathlib import Path

from asr.evaluate import Provenance
from asr.html import Html, element, page, table
from asr.hypotheses import read_hypotheses
from asr.pages import alignment, scored
from asr.pages.alignment import LEGEND, of_two, picture
from asr.pages.recordings import LIMITS, Recordings, utterances_of
from asr.pages.scored import MOST_SPEAKERS
from asr.report import (
    COUNT_HEADS,
    count_cells,
    counts_text,
    difference_text,
    grouped,
    interval_text,
    plural,
    verdict,
)
from asr.wer import Comparison, Score, Scored, compare

STYLE = alignment.STYLE + scored.STYLE
Pair = tuple[Scored, Scored]
_SHOWN = 30  # utterances that each list shows in full, at most


def comparison_page(a: Path, b: Path, name_a: str, name_b: str) -> tuple[Comparison, str]:
    """The comparison of two files of hypotheses, and the page about it, which calls them A and B.

    Args:
        a, b: hypotheses of two systems for the same references.
        name_a, name_b: names of the systems, which the page gives once.

    Raises:
        ScoringError: a file is damaged, or the two do not have the same utterances and references.
    """
    comparison = compare(read_hypotheses(a), read_hypotheses(b))
    pairs = list(zip(comparison.a.utterances, comparison.b.utterances, strict=True))
    differing = [pair for pair in pairs if pair[0].result.hypothesis != pair[1].result.hypothesis]
    differing.sort(key=lambda pair: (-abs(_change(pair)), pair[0].result.id))
    lists = {
        ("worse", "Where B is worse"): [pair for pair in differing if _change(pair) > 0],
        ("better", "Where B is better"): [pair for pair in differing if _change(pair) < 0],
        ("other", "Where both have as many errors, but different ones"): [
            pair for pair in differing if _change(pair) == 0
        ],
    }
    utterances, silence = utterances_of(Provenance.read(a.parent), a.parent)
    recordings = Recordings()
    counts = f"B is better on {comparison.better}, worse on {comparison.worse}, the same on {comparison.same}"
    summary = element(
        "div",
        element("p", element("b", verdict(comparison, "A", "B"))),
        element("p", difference_text(comparison, "A", "B")),
        element("p", f"Of {plural(len(pairs), 'utterance')} {counts}."),
        _totals({f"A: {name_a}": comparison.a, f"B: {name_b}": comparison.b}),
        element("p", silence or LIMITS, class_="soft"),
        LEGEND,
    )
    parts = [
        ("summary", "Summary", summary),
        ("speakers", "Speakers", _speakers(comparison.a, comparison.b)),
    ]
    for (anchor, title), chosen in lists.items():
        shown = [_article(pair, recordings.player(pair[0].result.id, utterances)) for pair in chosen[:_SHOWN]]
        intro = f"{len(shown)} of {plural(len(chosen), 'utterance')}, largest difference first." if chosen else "None."
        parts.append((anchor, title, element("div", element("p", intro), *shown)))
    return comparison, page(f"{name_a} and {name_b}", parts, style=STYLE)


def _change(pair: Pair) -> int:
    """How many more word errors the second system has: positive where it is worse."""
    return pair[1].words.errors - pair[0].words.errors


def _totals(scores: dict[str, Score]) -> Html:
    rate, *counts, _ = COUNT_HEADS  # both have the same utterances
    rows = []
    for name, each in scores.items():
        percent, *numbers, _ = count_cells(each.words, len(each.utterances))
        rows.append([name, percent, interval_text(each), *numbers, f"{each.characters.percent:.2f}%"])
    return table("Both systems", ["system", rate, "95% interval", *counts, "CER"], rows)


def _speakers(score_a: Score, score_b: Score) -> Html:
    """A row for each speaker (of the first system), the largest loss first."""
    if all(utterance.result.speaker is None for utterance in score_a.utterances):
        return element("p", "No speaker is known.")
    speaker_of = {utterance.result.id: utterance.result.speaker for utterance in score_a.utterances}
    groups_a, groups_b = (
        grouped(each.utterances, lambda scored: speaker_of[scored.result.id]) for each in (score_a, score_b)
    )
    rows = [(speaker, counts, groups_b[speaker][0], size) for speaker, (counts, size) in groups_a.items()]
    rows.sort(key=lambda row: (row[1].errors - row[2].errors, row[0] or ""))
    cells = [
        [
            "(unknown)" if speaker is None else speaker,
            str(size),
            str(a.reference),
            f"{a.percent:.2f}%",
            f"{b.percent:.2f}%",
            f"{b.errors - a.errors:+d}",
        ]
        for speaker, a, b, size in rows[:MOST_SPEAKERS]
    ]
    heads = ["speaker", "utterances", "words", "WER of A", "WER of B", "change in errors"]
    left = f" ({len(rows) - len(cells)} left out)" if len(rows) > len(cells) else ""
    return table(f"Speakers, those who lose most from A to B first{left}", heads, cells)


def _article(pair: Pair, player: Html) -> Html:
    a, b = pair
    speaker = "" if a.result.speaker is None else f"speaker {a.result.speaker}, "
    return element(
        "article",
        element("h3", a.result.id),
        element("p", f"{speaker}{a.result.duration:.1f} s", class_="soft"),
        element("p", f"A: {counts_text(a.words)}", class_="soft"),
        element("p", f"B: {counts_text(b.words)}", class_="soft"),
        picture(of_two(a.alignment, b.alignment), ["A", "B"]),
        player,
    )
