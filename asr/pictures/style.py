"""What all pictures share: sizes, fonts, panels over one axis of time, and how a picture is written."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import AutoLocator, ScalarFormatter

from asr.decode import Word
from asr.files import atomic_path
from asr.html import printable

DPI = 100
# A second takes 100 pixels, so that words do not run into each other; a phone scrolls sideways.
INCHES_PER_S = 1.0
_NARROWEST, _WIDEST = 8.8, 30.0
# Left of the panels stand their labels, right of them their colour scales, in inches.
_LEFT, _RIGHT, _GAP, _BAR = 0.95, 0.75, 0.08, 0.12
_TOP, _BOTTOM, _BETWEEN = 0.45, 0.5, 0.16

_RC: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "text.parse_math": False,  # a vocabulary may hold $
    "svg.hashsalt": "asr",  # the same picture gives the same file
    "svg.image_inline": True,
}
# Options of each format. PNG uses its fastest level: a second less for seven pictures, a tenth more bytes.
_SAVED: dict[str, dict[str, Any]] = {
    ".svg": {"metadata": {"Date": None}},
    ".png": {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 1}},
}


@contextmanager
def styled() -> Iterator[None]:
    """Let matplotlib draw in the style of the project, without warnings of characters that its font lacks."""
    with matplotlib.rc_context(_RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


class Panels:
    """Panels below one another that share an axis of time in seconds, each with room for a colour scale beside it.

    Args:
        start_s: left end of the axis.
        end_s: right end.
        heights: of the panels, from the top, in inches.
        title: stands above them.
    """

    def __init__(self, start_s: float, end_s: float, heights: Sequence[float], title: str) -> None:
        width = min(max(_NARROWEST, INCHES_PER_S * (end_s - start_s)), _WIDEST) + _LEFT + _RIGHT
        height = _TOP + sum(heights) + _BETWEEN * (len(heights) - 1) + _BOTTOM
        self.figure = Figure(figsize=(width, height), dpi=DPI)
        self.axes: list[Axes] = []
        self._bars: list[tuple[float, float, float, float]] = []
        top = height - _TOP
        for number, own in enumerate(heights):
            box = (_LEFT / width, (top - own) / height, 1 - (_LEFT + _RIGHT) / width, own / height)
            axes = self.figure.add_axes(box, sharex=self.axes[0] if number else None)
            axes.xaxis.set_visible(number == len(heights) - 1)
            self.axes.append(axes)
            self._bars.append((1 - (_RIGHT - _GAP) / width, box[1], _BAR / width, box[3]))
            top -= own + _BETWEEN
        self.axes[0].set_xlim(start_s, end_s)
        self.axes[0].set_title(printable(title))

    def scale(self, number: int, mappable: object, label: str) -> None:
        """A colour scale with its unit beside panel `number`."""
        bar = self.figure.colorbar(mappable, cax=self.figure.add_axes(self._bars[number]))  # type: ignore[arg-type]
        bar.set_label(label, fontsize=8)
        bar.ax.tick_params(labelsize=7)

    def finish(self) -> Figure:
        """The figure, with the axis of time below its last panel."""
        # librosa's specshow removes the numbers of an axis whose kind it is not told.
        self.axes[0].xaxis.set_major_locator(AutoLocator())
        self.axes[0].xaxis.set_major_formatter(ScalarFormatter())
        self.axes[-1].set_xlabel("time in the recording, s")
        return self.figure


def mark_words(panels: Sequence[Axes], words: Sequence[Word]) -> None:
    """Thin lines through panels where words begin (full) and end (dashed)."""
    outlined = [Stroke(linewidth=2, foreground="black"), Normal()]  # visible on bright and dark backgrounds
    begins, ends = [word.start_s for word in words], [word.end_s for word in words]
    for axes in panels:
        height = axes.get_xaxis_transform()
        full = axes.vlines(begins, 0, 1, "white", "solid", linewidth=1, transform=height)
        dashed = axes.vlines(ends, 0, 1, "white", "dashed", linewidth=1, transform=height)
        for lines in (full, dashed):
            lines.set_path_effects(outlined)


def save(figure: Figure, folder: Path, stem: str) -> bytes:
    """Write STEM.png and STEM.svg, and return the PNG."""
    written = b""
    with styled():
        for suffix, options in _SAVED.items():
            content = io.BytesIO()
            figure.savefig(content, format=suffix[1:], **options)
            written = content.getvalue()
            with atomic_path(folder / (stem + suffix)) as temporary:
                temporary.write_bytes(written)
    return written
