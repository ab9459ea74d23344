"""Pictures of a model's memory: histograms of half-lives, and the reach of its outputs."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from asr.memory import HELD, HalfLives, Reach
from asr.pictures.style import DPI, styled

_BINS = 24  # from the shortest half-life to the longest that could be seen, evenly spaced on a logarithmic axis


def half_lives(layers: Sequence[HalfLives]) -> Figure:
    """A histogram for each layer and direction over one axis, with the units without a half-life in a bar of their own.

    Args:
        layers: at least one.
    """
    directions = len({part.direction for part in layers})
    rows = len(layers) // directions
    shortest = min(float(part.ms.min()) for part in layers)
    longest = max(part.watched_ms for part in layers)
    edges = np.geomspace(min(shortest, longest / 2) * 0.999, longest, _BINS + 1)
    censored_ms = edges[-1] * (edges[1] / edges[0]) ** 1.5  # one bin after the last
    with styled():
        figure = Figure(figsize=(4.5 * directions + 0.5, 1.7 * rows + 0.9), dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, directions, sharex=True, sharey=True, squeeze=False)
        for axes, part in zip(grid.flat, layers, strict=True):
            seen = part.ms[np.isfinite(part.ms)]
            axes.hist(seen, bins=edges.tolist(), color="tab:blue")
            width = censored_ms * (1 - edges[0] / edges[1])
            axes.bar(censored_ms, part.censored, width=width, color="white", edgecolor="black", hatch="///")
            median = part.quantile_ms(0.5)
            if np.isfinite(median):
                axes.axvline(median, color="black", linewidth=1)
            text = f"median {median:.0f} ms" if np.isfinite(median) else "no median"
            axes.set_title(f"{part.name}: {text}", fontsize=9)
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        for axes in grid[:, 0]:
            axes.set_ylabel("units")
        for axes in grid[-1]:
            axes.set_xlabel(f"half-life, ms (hatched: longer than {longest:.0f})")
        return figure


def reach(found: Reach) -> Figure:
    """The gradient over the lag, with the span that holds most of it."""
    first_ms, last_ms = found.span_ms()
    with styled():
        figure = Figure(figsize=(9, 3.4), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        axes.plot(found.lags_ms, found.gradient, color="tab:blue")
        axes.axvspan(first_ms, last_ms, color="tab:blue", alpha=0.15)
        axes.axvline(0, color="black", linewidth=0.7)
        axes.set_ylim(bottom=0)
        axes.set_title(f"{HELD:.0%} lies between {first_ms:+.0f} and {last_ms:+.0f} ms (shaded)")
        axes.set_xlabel("input before (-) or after (+) the output frame, ms")
        axes.set_ylabel("gradient norm, nats per unit\nof a normalised mel bin")
        return figure
