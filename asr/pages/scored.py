"""One scored set of utterances as a part of a page."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.calibration import WORDS_FILE, calibrate, judge, read_words
from asr.decoding import describe
from asr.evaluate import Provenance
from asr.html import Html, element, facts, section, table
from asr.hypotheses import read_hypotheses
from asr.manifest import Utterance
from asr.pages.alignment import LEGEND, of_one, picture
from asr.pages.charts import Series, grid, line_chart
from asr.pages.recordings import LIMITS, Recordings, utterances_of
from asr.report import (
    COUNT_HEADS,
    MOST_FREQUENT,
    count_cells,
    counts_text,
    frequent_errors,
    grouped,
    interval_text,
    plural,
    sentence_text,
    size_text,
    speakers_worst_first,
    worst_first,
)
from asr.wer import Score, Scored, score

MOST_SPEAKERS = 100


@dataclass(frozen=True)
class ScoredSet:
    """A folder of results.

    Attributes:
        name: what the page calls it.
        scored: its utterances.
        interval: of the word error rate, as text.
        made: manifest and decoder, where they are known.
        judged: the confidence of every recognised word, and whether it is right, where the words were kept.
        utterances: of the manifest, where it can be read.
        notes: what is missing, a line each.
    """

    name: str
    scored: Score
    interval: str
    made: Provenance | None
    judged: tuple[list[float], list[bool]] | None
    utterances: Mapping[str, Utterance]
    notes: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> "ScoredSet":
        """Read what `asr evaluate` wrote into the folder of `path`, its file of hypotheses.

        Raises:
            ScoringError: hypotheses or words are damaged, or do not belong together.
        """
        folder = path.parent
        scored = score(read_hypotheses(path))
        made = Provenance.read(folder)
        utterances, silence = utterances_of(made, folder)
        notes = [silence] if silence else []
        judged = None
        if (folder / WORDS_FILE).exists():
            judged = judge(scored.utterances, read_words(folder / WORDS_FILE))
        else:
            notes.append(f"{folder}: no {WORDS_FILE}, so no confidences; asr evaluate writes it")
        return cls(folder.resolve().name, scored, interval_text(scored), made, judged, utterances, tuple(notes))

    def decoder(self) -> str:
        """How it was decoded."""
        return "unknown" if self.made is None else describe(self.made.decode)


def scored_section(scored_set: ScoredSet, anchor: str, recordings: Recordings, worst: int) -> Html:
    """Everything about a set: rates, groups, frequent errors, confidences and the worst utterances with their audio.

    Args:
        scored_set: what to show.
        anchor: of this part of the page; the anchors of its own parts begin with it.
        recordings: what the page can play.
        worst: how many utterances at most are shown in full.
    """
    scored = scored_set.scored
    wrong = worst_first(scored.utterances)
    summary = facts(
        [
            ("Word error rate", counts_text(scored.words)),
            ("95% interval", scored_set.interval),
            ("Character error rate", counts_text(scored.characters)),
            ("Sentence error rate", sentence_text(scored.utterances)),
            ("Size", size_text(scored.utterances)),
            ("Decoder", scored_set.decoder()),
            ("Manifest", "unknown" if scored_set.made is None else str(scored_set.made.manifest)),
        ]
    )
    return element(
        "div",
        summary,
        section(f"{anchor}-speakers", "Speakers", _speakers(scored.utterances), level=3),
        section(f"{anchor}-lengths", "Lengths", *_lengths(scored.utterances), level=3),
        section(f"{anchor}-errors", "Most frequent errors", _errors(wrong), level=3),
        section(f"{anchor}-confidence", "Confidence", *_confidence(scored_set), level=3),
        section(
            f"{anchor}-worst", "Utterances with most errors", *_worst(scored_set, wrong, recordings, worst), level=3
        ),
    )


def _speakers(utterances: Sequence[Scored]) -> Html:
    if all(utterance.result.speaker is None for utterance in utterances):
        return element("p", "No speaker is known.")
    rows = speakers_worst_first(utterances)
    shown = [[name, *count_cells(counts, size)] for name, counts, size in rows[:MOST_SPEAKERS]]
    left = len(rows) - len(shown)
    caption = "Speakers, highest WER first" + (f" ({left} with lower ones left out)" if left else "")
    return table(caption, ["speaker", *COUNT_HEADS], shown)


def _lengths(utterances: Sequence[Scored]) -> list[Html]:
    return [
        _by_size("By words of the reference", "words", utterances, lambda scored: scored.words.reference, 1),
        _by_size("By seconds of audio", "seconds", utterances, lambda scored: int(scored.result.duration), 0),
    ]


def _by_size(
    caption: str, head: str, utterances: Sequence[Scored], size: Callable[[Scored], int], inclusive: int
) -> Html:
    """A table of sizes 0, 1, 2-3, 4-7, ...: each row reaches twice as far as the one before."""
    groups = grouped(utterances, lambda scored: size(scored).bit_length())
    rows = []
    for power in sorted(groups):
        low, high = (1 << power) // 2, (1 << power) - inclusive
        name = str(low) if low >= high else f"{low}-{high}"
        rows.append([name, *count_cells(*groups[power])])
    return table(caption, [head, *COUNT_HEADS], rows)


def _errors(wrong: Iterable[Scored]) -> Html:
    tables = []
    for title, ranked in frequent_errors(wrong).items():
        rows = [[words, str(count)] for words, count in ranked[:MOST_FREQUENT]]
        rest = ranked[MOST_FREQUENT:]
        if rest:
            rows.append([f"{len(rest)} others", str(sum(count for _, count in rest))])
        head = "said -> heard" if title == "Substitutions" else "word"
        total = sum(count for _, count in ranked)
        tables.append(table(f"{title}: {total}", [head, "times"], rows) if rows else element("p", f"{title}: 0"))
    return element("div", *tables, class_="beside")


def _confidence(scored_set: ScoredSet) -> list[Html]:
    if scored_set.judged is None:
        return [element("p", "The confidences were not kept.")]
    confidences, right = scored_set.judged
    if not confidences:
        return [element("p", "No word was recognised.")]
    found = calibrate(confidences, right)
    mean, share = sum(confidences) / len(confidences), sum(right) / len(right)
    rows = [
        [
            str(number),
            str(row.words),
            f"{row.confidence:.3f}",
            f"{row.right:.3f}",
            f"{round(row.confidence - row.right, 3) + 0.0:+.3f}",  # + 0.0 turns minus zero into zero
        ]
        for number, row in enumerate(found.bins, start=1)
    ]
    points = [(bin_.confidence, bin_.right) for bin_ in found.bins]
    note = (
        f"Expected calibration error {found.error:.3f}: {plural(len(right), 'word')}, {100 * share:.1f}% right, mean "
        f"confidence {mean:.3f}. On the thin line a confidence is the share of right words; below it the decoder is "
        "too sure."
    )
    chart = line_chart("Share of right words", "mean confidence", [Series("right", points)], diagonal=True, note=note)
    caption = "Words in bins of equal size, lowest confidence first"
    return [grid([chart, table(caption, ["bin", "words", "confidence", "right", "difference"], rows)])]


def _worst(scored_set: ScoredSet, wrong: Sequence[Scored], recordings: Recordings, worst: int) -> list[Html]:
    if not wrong:
        return [element("p", "No utterance has an error.")]
    shown = wrong[:worst]
    left = f"The other {len(wrong) - len(shown)} are in report.txt. " if len(wrong) > len(shown) else ""
    intro = f"{len(shown)} of the {plural(len(wrong), 'utterance')} with errors, most errors first. {left}"
    parts = [element("p", intro, LIMITS if scored_set.utterances else ""), LEGEND]
    for utterance in shown:
        result = utterance.result
        speaker = "" if result.speaker is None else f", speaker {result.speaker}"
        parts.append(
            element(
                "article",
                element("h4", result.id),
                element("p", f"{counts_text(utterance.words)}, {result.duration:.1f} s{speaker}", class_="soft"),
                picture(of_one(utterance.alignment), ["heard"]),
                recordings.player(result.id, scored_set.utterances),
            )
        )
    return parts


STYLE = """
.beside { display: flex; flex-wrap: wrap; gap: 0 2.5rem; align-items: start; }
.beside .wide { max-width: 100%; }
article { border-top: 1px solid var(--line); padding: .2rem 0 .8rem; }
article h3, article h4 { font-size: 1rem; margin: .6rem 0 0; overflow-wrap: anywhere; }
article p { margin: .1rem 0 .4rem; overflow-wrap: anywhere; }
audio { display: block; width: 100%; max-width: 26rem; height: 2.4rem; }
"""
