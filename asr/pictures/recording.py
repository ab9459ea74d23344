"""Pictures of one recording: sound, posteriors and words; gates and states of a layer."""

import math
from collections.abc import Mapping, Sequence

import librosa.display
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage

from asr.decode import Word
from asr.gates import Trace
from asr.html import printable
from asr.inspection import Compared, Inspection
from asr.pictures.style import Panels, mark_words, styled

Array = NDArray[np.float32]

# Labels whose posterior stays below this in all frames are left out of the picture of posteriors.
SHOWN_POSTERIOR = 0.1
MOST_LABELS = 40
# The share of the absolute cell states that is inside the colour scale.
_INSIDE_SCALE = 0.99
_MARKS = {"right": "", "substituted": "S", "deleted": "D", "inserted": "I"}
_DB_PER_NAT = 10 / math.log(10)  # of an energy


def overview(shown: Inspection) -> Figure:
    """Waveform, log-mel energies, CTC posteriors with the decoded labels, and the words over one axis of time."""
    rows = shown_labels(shown)
    lanes = 1 if shown.compared is None else 2
    heights = (0.4 * lanes, 1.1, 2.0, max(1.2, 0.14 * len(rows)))
    with styled():
        panels = Panels(shown.start_s, shown.end_s, heights, f"{shown.name}, {shown.part}")
        strip, waveform, mel, posteriors = panels.axes
        _words(strip, shown)
        librosa.display.waveshow(
            shown.wave,
            sr=shown.rate_hz,
            offset=shown.start_s,
            max_points=4000,
            axis=None,
            ax=waveform,
            color="tab:blue",
        )
        waveform.set_ylabel("amplitude,\nfull scale 1")
        energies = librosa.display.specshow(
            _DB_PER_NAT * shown.log_mel.T,
            x_coords=shown.mel_start_s + shown.hop_s * np.arange(len(shown.log_mel)),
            y_axis="mel",
            sr=shown.rate_hz,
            fmin=shown.mel_hz[0],
            fmax=shown.mel_hz[1],
            ax=mel,
            cmap="magma",
            rasterized=True,
        )
        mel.set_ylabel("mel filter, Hz")
        panels.scale(2, energies, "energy, dB")
        image = _heat_map(posteriors, np.exp(shown.log_probs[:, rows]), shown, "Blues", 0, 1)
        panels.scale(3, image, "probability")
        _decoded(posteriors, shown, rows)
        mark_words([waveform, mel, posteriors], shown.heard)
        panels.axes[0].set_xlim(shown.start_s, shown.end_s)  # librosa sets it to what it drew
        return panels.finish()


def shown_labels(shown: Inspection) -> list[int]:
    """The labels in the picture of posteriors: those that are likely somewhere, at most `MOST_LABELS` of them."""
    peaks = shown.log_probs.max(axis=0)
    peaks[list(shown.hypothesis.tokens)] = 0  # decoded labels come first
    likeliest = np.argsort(-peaks, kind="stable")[:MOST_LABELS]
    return sorted(int(label) for label in likeliest if peaks[label] >= math.log(SHOWN_POSTERIOR))


def gates(shown: Inspection, trace: Trace, values: Mapping[str, Array]) -> Figure:
    """Heat maps of some values of one direction of a layer; a row is a unit, the same one in each panel.

    Above them stand the words and, small, the log-mel energies.
    """
    order = order_of(trace)
    with styled():
        title = f"{trace.name}: {len(order)} units, similar ones beside each other"
        panels = Panels(shown.start_s, shown.end_s, (0.4, 0.8, *(1.7 for _ in values)), title)
        _lane(panels.axes[0], shown.heard, 0, ["black"] * len(shown.heard))
        panels.axes[0].set_yticks([0], ["heard"])
        energies = _small_mel(panels.axes[1], shown)
        panels.scale(1, energies, "dB")
        for number, (name, value) in enumerate(values.items(), 2):
            axes = panels.axes[number]
            if name in ("cell", "hidden", "candidate"):
                edge = max(float(np.quantile(np.abs(value), _INSIDE_SCALE)), 1e-6)
                image = _heat_map(axes, value[:, order], shown, "RdBu_r", -edge, edge)
                label = f"{name} state, no unit" if name != "candidate" else "candidate, no unit"
            else:
                image = _heat_map(axes, value[:, order], shown, "viridis", 0, 1)
                label = "0 shut, 1 open"
            panels.scale(number, image, label)
            axes.set_ylabel(f"{name}\nunit")
        mark_words(panels.axes[1:], shown.heard)
        return panels.finish()


def order_of(trace: Trace) -> NDArray[np.int64]:
    """(H,) units in an order in which similar ones are neighbours.

    Similar are units whose states (the cell's where there is one) rise and fall together: Ward's (1963) clustering of
    the states, each scaled to mean zero and variance one over the part, and its leaves in the order that puts
    neighbours closest (Bar-Joseph et al. 2001).
    """
    states = trace.values.get("cell", trace.values["hidden"]).T.astype(np.float64)
    if len(states) < 3 or states.shape[1] < 2:
        return np.arange(len(states))
    states = states - states.mean(axis=1, keepdims=True)
    states /= states.std(axis=1, keepdims=True) + 1e-6
    order: NDArray[np.int64] = leaves_list(linkage(states, "ward", optimal_ordering=True)).astype(np.int64)
    return order


def _heat_map(axes: Axes, values: Array, shown: Inspection, colours: str, low: float, high: float) -> object:
    """Draw (T', rows) values, each frame over its own stretch of time, the first row on top."""
    end_s = shown.start_s + len(values) * shown.vocabulary.frame_s
    extent = (shown.start_s, end_s, values.shape[1] - 0.5, -0.5)
    return axes.imshow(
        values.T, aspect="auto", interpolation="nearest", extent=extent, cmap=colours, vmin=low, vmax=high
    )


def _small_mel(axes: Axes, shown: Inspection) -> object:
    """Draw the log-mel energies with filters by number, the lowest at the bottom."""
    start_s = shown.mel_start_s - shown.hop_s / 2
    extent = (start_s, start_s + len(shown.log_mel) * shown.hop_s, -0.5, shown.log_mel.shape[1] - 0.5)
    axes.set_ylabel("mel\nfilter")
    energies = _DB_PER_NAT * shown.log_mel.T
    return axes.imshow(energies, aspect="auto", interpolation="nearest", origin="lower", extent=extent, cmap="magma")


def _decoded(axes: Axes, shown: Inspection, rows: Sequence[int]) -> None:
    """Name the rows, and draw a circle where the decoder first emitted each label."""
    vocabulary = shown.vocabulary
    names = ["blank" if row == vocabulary.blank else _spelled(vocabulary.labels[row]) for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    axes.set_ylabel("label")
    place = {row: number for number, row in enumerate(rows)}
    times = [shown.start_s + (frame + 0.5) * vocabulary.frame_s for frame in shown.hypothesis.token_frames]
    heights = [place.get(token, math.nan) for token in shown.hypothesis.tokens]
    axes.plot(times, heights, "o", markerfacecolor="none", markeredgecolor="tab:red", markersize=8)


def _spelled(label: str) -> str:
    return "space" if label == " " else printable(label)


def _words(axes: Axes, shown: Inspection) -> None:
    """Draw what was heard, and above it what was said, with the errors marked by letter and colour."""
    if shown.compared is None:
        _lane(axes, shown.heard, 0, ["black"] * len(shown.heard))
        axes.set_yticks([0], ["heard"])
        return
    for lane, side in enumerate(("said", "heard")):
        columns = [column for column in shown.compared if getattr(column, side) is not None]
        words = [_marked(column, getattr(column, side)) for column in columns]
        _lane(axes, words, lane, ["black" if column.verdict == "right" else "tab:red" for column in columns])
    axes.set_yticks([0, 1], ["said", "heard"])


def _marked(column: Compared, word: Word) -> Word:
    mark = _MARKS[column.verdict]
    return Word(f"{word.text} [{mark}]" if mark else word.text, word.start_s, word.end_s, word.confidence)


def _lane(axes: Axes, words: Sequence[Word], lane: int, colours: Sequence[str]) -> None:
    """Draw words as bars from beginning to end with their text, every second one a little lower."""
    axes.set_ylim(max(lane, axes.get_ylim()[0]) + 0.5, -0.5)
    axes.tick_params(length=0, labelsize=8)
    for number, (word, colour) in enumerate(zip(words, colours, strict=True)):
        height = lane - 0.22 + 0.44 * (number % 2)
        axes.plot(
            [word.start_s, word.end_s],
            [height, height],
            color=colour,
            alpha=0.25,
            linewidth=8,
            zorder=1,
            solid_capstyle="butt",
        )
        # Not clipped at the right edge, where a model often emits its last word; nothing else stands there.
        axes.text(word.start_s, height, printable(word.text), fontsize=8, color=colour, va="center")
