"""The folders that `asr inspect` writes: pictures as PNG and SVG, and a page that explains them."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr import html
from asr.decode import Word
from asr.files import write_text_atomic
from asr.gates import Trace
from asr.html import Html, element
from asr.inspection import Compared, Inspection
from asr.memory import HELD, HalfLives, Memory, Reach
from asr.pictures import memory, recording
from asr.pictures.style import save
from asr.wer import Counts

PAGE = "index.html"
FIGURES = "memory.json"
MEMORY_HEAD = ("layer", "units", "10 %, ms", "median, ms", "90 %, ms", "longer than seen")

_STYLE = """
figure { margin: 0; }
.wide img { display: block; max-width: none; }
@media print { .wide img { max-width: 100%; } }
"""
_GATES = """Each row is one unit, the same in every panel. Rows are ordered so that units whose states rise and fall
together are neighbours (Ward's clustering of the {state} state over this part); the order says nothing else. Where the
forget gate is open a unit keeps what it has; where it is shut the unit starts anew. Lines mark where the words that
were heard begin (full) and end (dashed), by the labels that the model emitted: CTC may emit a label long before or
behind its sound."""
_GRU = """Each row is one unit, the same in every panel, ordered so that units whose states rise and fall together are
neighbours (Ward's clustering of the hidden state over this part). Where the update gate is open a unit keeps its state;
the reset gate says how much of the old states a new one is made from. Lines mark words as above."""
_RNN = """A plain recurrent network has no gates. Each row is the state of one unit, ordered so that units that rise and
fall together are neighbours (Ward's clustering over this part). Lines mark words as above."""
_HALF_LIVES = """The half-life of a unit is the time in which the product of its forget gates (of a GRU's update gates)
falls to one half. It is the median over all frames to start from, with recordings that end before counted as
what they are: times of which only a lower bound is known (Kaplan and Meier's estimate). A unit that stays above one
half for longer than could be seen stands in the hatched bar."""
_REACH = """How much the log-probabilities of a frame change with the input before and behind it: the norm of their
derivatives by the mel bins of one input frame, root mean square over {probes} output frames. This takes every path
through the network, the half-lives only the direct one through a unit. Lags that fewer than a quarter of the frames
have, because their recordings begin or end before, are left out: in short recordings the reach is cut off there."""


def write_recording(shown: Inspection, names: Sequence[str], folder: Path) -> list[Path]:
    """Write the pictures of a recording and the page that holds them; returns the files, the page first.

    Args:
        shown: what to draw.
        names: the gates and states to draw of each layer, of those that the cell has.
        folder: made where it is missing; files of the same names are replaced.

    Raises:
        ConfigError: the cell has none of a name.
    """
    drawn = [(trace, trace.only(names)) for trace in shown.traces]
    png = save(recording.overview(shown), folder, "overview")
    sections = [("heard", "What was heard", [_facts(shown), _word_table(shown.heard)])]
    if shown.compared is not None and shown.counts is not None:
        sections.append(("compared", "What was said", _compared(shown.compared, shown.counts, shown.unknown)))
    sections.append(
        ("sound", "Sound, posteriors and words", [_picture(png, _alt(shown), f"{shown.name}, {shown.part}")])
    )
    sections.append(("reading", "How to read the pictures of the layers", [element("p", _explained(shown.traces[0]))]))
    stems = ["overview"]
    for trace, values in drawn:
        stem = f"layer{trace.layer}-{trace.direction}"
        png = save(recording.gates(shown, trace, values), folder, stem)
        stems.append(stem)
        sections.append((stem, trace.name.capitalize(), [_picture(png, _gates_alt(trace, values, shown), trace.name)]))
    return [_write_page(f"What the model did with {shown.name}", sections, folder), *_files(folder, stems)]


def write_memory(measured: Memory, about: str, folder: Path) -> list[Path]:
    """Write a model's memory as pictures, a page and figures in JSON; returns the files, page and figures first.

    Args:
        measured: half-lives and reach.
        about: what was measured on, in a sentence.
        folder: made where it is missing; files of the same names are replaced.
    """
    layers, found = measured.half_lives, measured.reach
    sections = [("about", "What was measured", [element("p", about)])]
    stems = []
    if layers:
        png = save(memory.half_lives(layers), folder, "half_lives")
        stems.append("half_lives")
        alt = "Histograms of half-lives, one for each layer and direction; the table has their quantiles."
        table = html.table("Half-lives, quantiles over the units", MEMORY_HEAD, memory_rows(layers))
        content = [element("p", _HALF_LIVES), _picture(png, alt, "Half-lives of the units"), table]
        sections.append(("half-lives", "Half-lives of the units", content))
    png = save(memory.reach(found), folder, "reach")
    stems.append("reach")
    alt = f"A curve that is highest near a lag of zero and falls to both sides. {reach_line(found)}"
    content = [element("p", _REACH.format(probes=found.probes)), _picture(png, alt, reach_line(found))]
    sections.append(("reach", "Reach of the outputs", content))
    figures = folder / FIGURES
    write_text_atomic(figures, json.dumps(_figures(layers, found, about), indent=1) + "\n")
    return [_write_page("What the model remembers", sections, folder), figures, *_files(folder, stems)]


def _write_page(title: str, sections: Sequence[tuple[str, str, list[Html]]], folder: Path) -> Path:
    contents = [(anchor, name) for anchor, name, _ in sections]
    parts = [html.section(anchor, name, *content) for anchor, name, content in sections]
    write_text_atomic(folder / PAGE, html.page(title, contents, *parts, style=_STYLE))
    return folder / PAGE


def _files(folder: Path, stems: Sequence[str]) -> list[Path]:
    return [folder / (stem + suffix) for stem in stems for suffix in (".png", ".svg")]


def _picture(png: bytes, alt: str, caption: str) -> Html:
    """A picture inside the page at its own size."""
    address = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    image = html.scrolling(caption, element("img", src=address, alt=alt))
    return element("figure", image, element("figcaption", caption))


def memory_rows(layers: Sequence[HalfLives]) -> list[tuple[str, ...]]:
    """The cells of the table that `MEMORY_HEAD` heads."""
    return [
        (
            part.name,
            str(len(part.ms)),
            *(_ms(part.quantile_ms(share), part.watched_ms) for share in (0.1, 0.5, 0.9)),
            str(part.censored),
        )
        for part in layers
    ]


def reach_line(found: Reach) -> str:
    """The span in a sentence, and between which lags it was looked for."""
    first_ms, last_ms = found.span_ms()
    return (
        f"{HELD:.0%} of the reach lies between {first_ms:+.0f} and {last_ms:+.0f} ms of a frame "
        f"(seen: {found.lags_ms[0]:+.0f} to {found.lags_ms[-1]:+.0f} ms)."
    )


def _figures(layers: Sequence[HalfLives], found: Reach, about: str) -> dict[str, object]:
    """Everything measured, for programs; a half-life that is longer than was seen is null."""
    return {
        "about": about,
        "half_lives": [
            {
                "layer": part.layer,
                "direction": part.direction,
                "watched_ms": part.watched_ms,
                "ms": [round(ms, 3) if np.isfinite(ms) else None for ms in part.ms.tolist()],
            }
            for part in layers
        ],
        "reach": {
            "probes": found.probes,
            "span_ms": found.span_ms(),
            "lags_ms": found.lags_ms.round(3).tolist(),
            "gradient": found.gradient.tolist(),
        },
    }


def _ms(value: float, watched_ms: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else f"over {watched_ms:.0f}"


def _facts(shown: Inspection) -> Html:
    return html.facts(
        [
            ("Recording", shown.name),
            ("Shown", f"{shown.part}, which the model was given alone and as a whole"),
            ("Text", shown.hypothesis.text or "(nothing was heard)"),
        ]
    )


def _compared(columns: Sequence[Compared], counts: Counts, unknown: Sequence[str]) -> list[Html]:
    """Where reference and hypothesis part."""
    said = (
        f"{counts.errors} of {counts.reference} words are wrong: {counts.substitutions} substituted, "
        f"{counts.deletions} deleted, {counts.insertions} inserted. What was said is dated by forced alignment."
    )
    rows = []
    for column in columns:
        verdict = column.verdict if column.verdict == "right" else element("strong", column.verdict)
        rows.append((verdict, *_dated(column.said), *_dated(column.heard)))
    heads = ("verdict", "said", "from, s", "to, s", "heard", "from, s", "to, s")
    table = html.table("Reference and hypothesis", heads, rows, text_columns=2)
    return [element("p", said), table, *[element("p", line) for line in unknown]]


def _dated(word: Word | None) -> tuple[str, str, str]:
    return ("", "", "") if word is None else (word.text, f"{word.start_s:.2f}", f"{word.end_s:.2f}")


def _word_table(words: Sequence[Word]) -> Html:
    rows = [(*_dated(word), f"{word.confidence:.2f}") for word in words]
    return html.table("Words", ("word", "from, s", "to, s", "confidence"), rows)


def _explained(trace: Trace) -> str:
    if "forget" in trace.values:
        return _GATES.format(state="cell")
    return _GRU if "update" in trace.values else _RNN


def _alt(shown: Inspection) -> str:
    heard = ", ".join(f"{word.text} at {word.start_s:.2f} s" for word in shown.heard) or "no word"
    return f"Waveform, log-mel energies and label posteriors over {shown.part}. Heard: {heard}."


def _gates_alt(trace: Trace, values: Mapping[str, NDArray[np.float32]], shown: Inspection) -> str:
    means = ", ".join(f"{name} {value.mean():.2f}" for name, value in values.items())
    units = next(iter(values.values())).shape[1]
    return f"Heat maps of {units} units over {shown.part}, {trace.name}. Means over units and time: {means}."
