"""Scores as text: the summary line, the report with alignments and confusions, and the verdict of a comparison.

What the text and the pages of `asr.pages` have in common is public here: which utterances come first, how they are
grouped and which errors are frequent.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from asr.lines import escaped, in_columns, padded, width_of
from asr.wer import Column, Comparison, Counts, Score, Scored, wer_interval

GAP = "***"
LINE_WIDTH = 100  # terminal cells after which an alignment goes on in a new block
COUNT_HEADS = ("WER", "errors", "words", "ins", "del", "sub", "utterances")
MOST_FREQUENT = 20  # rows of each table of errors
_SIGNIFICANT = 0.05
Key = TypeVar("Key", bound=Hashable)


def summary_line(scored: Score) -> str:
    """One line such as `WER 6.47% [50 / 773, 2 ins, 3 del, 45 sub] 95% CI 4.7-8.3 (speaker bootstrap) CER 2.61%`.

    The interval is that of `asr.wer.wer_interval`; without any error a bootstrap has none to show. The character
    error rate counts spaces as characters.
    """
    return f"WER {counts_text(scored.words)} 95% CI {interval_text(scored)} CER {scored.characters.percent:.2f}%"


def counts_text(counts: Counts) -> str:
    """Rate and counts, as `6.47% [50 / 773, 2 ins, 3 del, 45 sub]`."""
    return (
        f"{counts.percent:.2f}% [{counts.errors} / {counts.reference}, "
        f"{counts.insertions} ins, {counts.deletions} del, {counts.substitutions} sub]"
    )


def count_cells(counts: Counts, size: int) -> list[str]:
    """Cells for `COUNT_HEADS`."""
    numbers = (counts.errors, counts.reference, counts.insertions, counts.deletions, counts.substitutions, size)
    return [f"{counts.percent:.2f}%", *map(str, numbers)]


def interval_text(scored: Score) -> str:
    """The interval of the word error rate, as `4.7-8.3 (speaker bootstrap)`, or why there is none."""
    interval = wer_interval(scored)
    if scored.words.errors == 0:
        return "n/a (no errors to resample)"
    if interval is None:
        return f"n/a ({plural(len(scored.utterances), 'utterance')})"
    return f"{interval.low:.1f}-{interval.high:.1f} ({interval.unit} bootstrap)"


def sentence_text(utterances: Sequence[Scored]) -> str:
    """The sentence error rate with its counts, as `50.00% [1 / 2]`."""
    wrong = sum(bool(utterance.words.errors) for utterance in utterances)
    return f"{100 * wrong / len(utterances):.2f}% [{wrong} / {len(utterances)}]"


def size_text(utterances: Sequence[Scored]) -> str:
    """How many utterances there are, and how long their audio is, as `2 utterances, 0.1 minutes`."""
    minutes = sum(utterance.result.duration for utterance in utterances) / 60
    return f"{plural(len(utterances), 'utterance')}, {minutes:.1f} minutes"


def render_report(scored: Score) -> str:
    """The text of `report.txt`.

    It holds the summary line, the sentence error rate, a table of speakers (worst first, when any is known), the most
    frequent substitutions, deletions and insertions, and the alignment of each utterance that has an error, most
    errors first. Under each word of an alignment stands S, D or I when it was substituted, deleted or inserted.
    """
    utterances = scored.utterances
    wrong = worst_first(utterances)
    lines = [summary_line(scored), f"Sentence error rate {sentence_text(utterances)}", size_text(utterances)]
    if any(utterance.result.speaker is not None for utterance in utterances):
        lines += ["", "Speakers, highest WER first", *_speakers(utterances)]
    for title, ranked in frequent_errors(wrong).items():
        lines += ["", *_frequent(title, ranked)]
    lines += ["", "Utterances with errors, most errors first" if wrong else "No utterance has an error"]
    for utterance in wrong:
        lines += ["", *_utterance(utterance)]
    return "\n".join(lines) + "\n"


def render_comparison(comparison: Comparison, name_a: str = "A", name_b: str = "B") -> str:
    """A few lines: both word error rates, their difference with interval and p-value, and which is better."""
    lines = [
        f"{name_a}: WER {counts_text(comparison.a.words)}",
        f"{name_b}: WER {counts_text(comparison.b.words)}",
        difference_text(comparison, name_a, name_b),
        f"Utterances: {name_b} better on {comparison.better}, worse on {comparison.worse}, same on {comparison.same}",
        verdict(comparison, name_a, name_b),
    ]
    return "\n".join(lines) + "\n"


def difference_text(comparison: Comparison, name_a: str, name_b: str) -> str:
    """The difference in word error rate with interval and p-value."""
    difference = f"{name_b} - {name_a}: {comparison.difference_points:+.2f} points, 95% CI "
    interval, p_value = comparison.interval, comparison.p_value
    if interval is None or p_value is None:
        return difference + "n/a (1 utterance)"
    p_text = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
    limits = f"{interval.low:+.2f} to {interval.high:+.2f} (paired {interval.unit} bootstrap)"
    return f"{difference}{limits}, {p_text} (permutation)"


def verdict(comparison: Comparison, name_a: str, name_b: str) -> str:
    """Which of the two is better, and whether that is significant."""
    points, p_value = comparison.difference_points, comparison.p_value
    if points == 0:
        return f"{name_a} and {name_b} have the same word error rate."
    better = f"{name_b if points < 0 else name_a} is better"
    if p_value is None:
        return f"{better}; one utterance cannot show whether that is significant."
    return f"{better}, {'' if p_value < _SIGNIFICANT else 'not '}significant at 5%."


def worst_first(utterances: Iterable[Scored]) -> list[Scored]:
    """The utterances that have an error, most errors first."""
    return sorted(
        (utterance for utterance in utterances if utterance.words.errors),
        key=lambda utterance: (-utterance.words.errors, -utterance.words.percent, utterance.result.id),
    )


def grouped(utterances: Iterable[Scored], key: Callable[[Scored], Key]) -> dict[Key, tuple[Counts, int]]:
    """Word counts and number of utterances for each value of `key`, in the order in which they come."""
    groups: dict[Key, tuple[Counts, int]] = {}
    for utterance in utterances:
        counts, size = groups.get(key(utterance), (Counts(), 0))
        groups[key(utterance)] = counts + utterance.words, size + 1
    return groups


def speakers_worst_first(utterances: Iterable[Scored]) -> list[tuple[str, Counts, int]]:
    """Each speaker's word counts and number of utterances, highest WER first."""
    rows = [(speaker, *row) for speaker, row in grouped(utterances, lambda scored: scored.result.speaker).items()]
    rows.sort(key=lambda row: (-row[1].percent, -row[1].errors, row[0] or ""))
    return [("(unknown)" if speaker is None else speaker, counts, size) for speaker, counts, size in rows]


def frequent_errors(utterances: Iterable[Scored]) -> dict[str, list[tuple[str, int]]]:
    """Substitutions, deletions and insertions: what was taken for what, and how often, most frequent first."""
    times: dict[str, Counter[str]] = {"S": Counter(), "D": Counter(), "I": Counter()}
    for utterance in utterances:
        for column in utterance.alignment:
            if column[0] != column[1]:
                times[mark(column)][" -> ".join(word for word in column if word is not None)] += 1
    return {
        title: sorted(counter.items(), key=lambda item: (-item[1], item[0]))
        for title, counter in zip(("Substitutions", "Deletions", "Insertions"), times.values(), strict=True)
    }


def plural(count: int, noun: str) -> str:
    """A number of things in words, as `1 utterance`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def mark(column: Column) -> str:
    """S, D or I for a word that was substituted, deleted or inserted, and a space for one that is right."""
    said, heard = column
    if said is None:
        return "I"
    if heard is None:
        return "D"
    return " " if said == heard else "S"


def _speakers(utterances: Sequence[Scored]) -> list[str]:
    rows = [["speaker", *COUNT_HEADS]]
    rows += [[escaped(name), *count_cells(counts, size)] for name, counts, size in speakers_worst_first(utterances)]
    return in_columns(rows)


def _frequent(title: str, ranked: Sequence[tuple[str, int]]) -> list[str]:
    """A table of the most frequent errors of one kind, with a last row that counts those left out."""
    lines = [f"{title}: {sum(count for _, count in ranked)}"]
    lines += [f"{count:6d}  {words}" for words, count in ranked[:MOST_FREQUENT]]
    rest = ranked[MOST_FREQUENT:]
    if rest:
        lines.append(f"{sum(count for _, count in rest):6d}  in {len(rest)} others")
    return lines


def _utterance(utterance: Scored) -> list[str]:
    speaker = "" if utterance.result.speaker is None else f" (speaker {escaped(utterance.result.speaker)})"
    lines = [f"{escaped(utterance.result.id)}{speaker}: WER {counts_text(utterance.words)}"]
    for block in _blocks(utterance.alignment):
        widths = [max(width_of(said or GAP), width_of(heard or GAP)) for said, heard in block]
        lines += [
            _row("REF:", [said or GAP for said, _ in block], widths),
            _row("HYP:", [heard or GAP for _, heard in block], widths),
        ]
        marks = _row("    ", [mark(column) for column in block], widths)
        if marks:
            lines.append(marks)
    return lines


def _blocks(alignment: Iterable[Column]) -> Iterable[list[Column]]:
    """Cut an alignment into pieces that fit LINE_WIDTH; a column is never cut."""
    block: list[Column] = []
    used = 0
    for said, heard in alignment:
        # One cell more for the space before the word; "REF:" takes four in front.
        needed = 1 + max(width_of(said or GAP), width_of(heard or GAP))
        if block and 4 + used + needed > LINE_WIDTH:
            yield block
            block, used = [], 0
        block.append((said, heard))
        used += needed
    if block:
        yield block


def _row(name: str, words: Sequence[str], widths: Sequence[int]) -> str:
    return " ".join([name, *(padded(word, width) for word, width in zip(words, widths, strict=True))]).rstrip(" ")
