"""What a model remembers, as a page: half-lives and reach, drawn and in figures."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asr import html
from asr.files import write_text_atomic
from asr.html import element
from asr.memory import HELD, HalfLives, Memory, Reach
from asr.pictures import memory
from asr.pictures.page import picture, picture_files, write_page
from asr.pictures.style import save

FIGURES = "memory.json"
MEMORY_HEAD = ("layer", "units", "10 %, ms", "median, ms", "90 %, ms", "longer than seen")

_HALF_LIVES = """The half-life of a unit is the time in which the product of its forget gates (of a GRU's update gates)
falls to one half. It is the median over all frames to start from, with recordings that end before counted as
what they are: times of which only a lower bound is known (Kaplan and Meier's estimate). A unit that stays above one
half for longer than could be seen stands in the hatched bar."""
_REACH = """How much the log-probabilities of a frame change with the input before and behind it: the norm of their
derivatives by the mel bins of one input frame, root mean square over {probes} output frames. This takes every path
through the network, the half-lives only the direct one through a unit. Lags that fewer than a quarter of the frames
have, because their recordings begin or end before, are left out: in short recordings the reach is cut off there."""


def write_memory(measured: Memory, about: str, folder: Path) -> list[Path]:
    """Write a model's memory as pictures, a page and figures in JSON; returns the files, page and figures first.

    Args:
        measured: half-lives and reach.
        about: what the measurement was made on, in a sentence.
        folder: created where it is missing; files of the same names are replaced.
    """
    layers, found = measured.half_lives, measured.reach
    sections = [("about", "What was measured", [element("p", about)])]
    stems = []
    if layers:
        png = save(memory.half_lives(layers), folder, "half_lives")
        stems.append("half_lives")
        alt = "Histograms of half-lives, one for each layer and direction; the table has their quantiles."
        table = html.table("Half-lives, quantiles over the units", MEMORY_HEAD, memory_rows(layers))
        content = [element("p", _HALF_LIVES), picture(png, alt, "Half-lives of the units"), table]
    else:
        content = [element("p", "The cells of this model have no gate that forgets, so they have no half-life.")]
    sections.append(("half-lives", "Half-lives of the units", content))
    png = save(memory.reach(found), folder, "reach")
    stems.append("reach")
    alt = f"A curve that is highest near a lag of zero and falls to both sides. {reach_line(found)}"
    content = [element("p", _REACH.format(probes=found.probes)), picture(png, alt, reach_line(found))]
    sections.append(("reach", "Reach of the outputs", content))
    figures = folder / FIGURES
    write_text_atomic(figures, json.dumps(_figures(layers, found, about), indent=1) + "\n")
    return [write_page("What the model remembers", sections, folder), figures, *picture_files(folder, stems)]


def memory_rows(layers: Sequence[HalfLives]) -> list[tuple[str, ...]]:
    """The rows of the table whose head is `MEMORY_HEAD`."""
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
    """The span in a sentence, with the lags between which it was looked for."""
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
