"""What a model did with a recording, as a page: its words, sound and posteriors, and the gates of each layer."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr import html
from asr.decode import Word
from asr.gates import Trace
from asr.html import Html, element
from asr.inspection import Compared, Inspection
from asr.pictures import recording
from asr.pictures.page import picture, picture_files, write_page
from asr.pictures.style import save
from asr.wer import Counts

_SOUND = """Bars are words, from the first of their labels to the last; [S], [D] and [I] mark one that was substituted,
deleted or inserted. Lines mark where a word that was heard begins (full) and ends (dashed). A circle stands where the
decoder first emitted a label."""
_GATES = """Each row is one unit, the same in every panel. Rows are ordered so that units whose states rise and fall
together are neighbours (Ward's clustering of the cell state over this part); the order says nothing else. Where the
forget gate is open a unit keeps what it has; where it is shut the unit starts anew. Lines mark where the words that
were heard begin (full) and end (dashed), by the labels that the model emitted: CTC may emit a label long before or
behind its sound."""
_GRU = """Each row is one unit, the same in every panel, ordered so that units whose states rise and fall together are
neighbours (Ward's clustering of the hidden state over this part). Where the update gate is open a unit keeps its state;
the reset gate says how much of the old states a new one is made from. Lines mark words as above."""
_RNN = """A plain recurrent network has no gates. Each row is the state of one unit, ordered so that units that rise and
fall together are neighbours (Ward's clustering over this part). Lines mark words as above."""


def write_recording(shown: Inspection, names: Sequence[str], folder: Path) -> list[Path]:
    """Write the pictures of a recording and the page that holds them; returns the files, the page first.

    Args:
        shown: what to draw.
        names: the gates and states to draw for each layer, among those that the cell has.
        folder: created where it is missing; files of the same names are replaced.

    Raises:
        ConfigError: the cell has no gate or state of that name.
    """
    drawn = [(trace, trace.only(names)) for trace in shown.traces]
    png = save(recording.overview(shown), folder, "overview")
    sections = [("heard", "What was heard", [_facts(shown), _word_table(shown.heard)])]
    if shown.compared is not None and shown.counts is not None:
        sections.append(("compared", "What was said", _compared(shown.compared, shown.counts, shown.unknown)))
    heard = [element("p", _SOUND), picture(png, _alt(shown), f"{shown.name}, {shown.part}")]
    sections.append(("sound", "Sound, posteriors and words", heard))
    sections.append(("reading", "How to read the pictures of the layers", [element("p", _explained(shown.traces[0]))]))
    stems = ["overview"]
    for trace, values in drawn:
        stem = f"layer{trace.layer}-{trace.direction}"
        png = save(recording.gates(shown, trace, values), folder, stem)
        stems.append(stem)
        sections.append((stem, trace.name.capitalize(), [picture(png, _gates_alt(trace, values, shown), trace.name)]))
    return [write_page(f"What the model did with {shown.name}", sections, folder), *picture_files(folder, stems)]


def _facts(shown: Inspection) -> Html:
    return html.facts(
        [
            ("Recording", shown.name),
            ("Shown", f"{shown.part}, which the model was given alone and as a whole"),
            ("Text", shown.hypothesis.text or "(nothing was heard)"),
        ]
    )


def _compared(columns: Sequence[Compared], counts: Counts, unknown: Sequence[str]) -> list[Html]:
    """How reference and hypothesis compare."""
    said = (
        f"{counts.errors} errors in {counts.reference} words: {counts.substitutions} substituted, "
        f"{counts.deletions} deleted, {counts.insertions} inserted. What was said is dated by forced alignment."
    )
    rows = []
    for column in columns:
        verdict = column.verdict if column.verdict == "right" else element("strong", column.verdict)
        rows.append((verdict, *_dated(column.said), *_dated(column.heard)))
    heads = ("verdict", "said", "from, s", "to, s", "heard", "from, s", "to, s")
    table = html.table("Reference and hypothesis", heads, rows, text_columns=(0, 1, 4))
    return [element("p", said), table, *[element("p", line) for line in unknown]]


def _dated(word: Word | None) -> tuple[str, str, str]:
    return ("", "", "") if word is None else (word.text, f"{word.start_s:.2f}", f"{word.end_s:.2f}")


def _word_table(words: Sequence[Word]) -> Html:
    rows = [(*_dated(word), f"{word.confidence:.2f}") for word in words]
    return html.table("Words", ("word", "from, s", "to, s", "confidence"), rows)


def _explained(trace: Trace) -> str:
    if "forget" in trace.values:
        return _GATES
    return _GRU if "update" in trace.values else _RNN


def _alt(shown: Inspection) -> str:
    heard = ", ".join(f"{word.text} at {word.start_s:.2f} s" for word in shown.heard) or "no word"
    return f"Waveform, log-mel energies and label posteriors over {shown.part}. Heard: {heard}."


def _gates_alt(trace: Trace, values: Mapping[str, NDArray[np.float32]], shown: Inspection) -> str:
    means = ", ".join(f"{name} {value.mean():.2f}" for name, value in values.items())
    units = next(iter(values.values())).shape[1]
    return f"Heat maps of {units} units over {shown.part}, {trace.name}. Means over units and time: {means}."
