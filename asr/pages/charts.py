"""Charts as SVG inside a page: they take its colours, light and dark, and its text size."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from asr.html import Html, element, join

# In SVG units, one to a pixel on a phone, where a chart is as wide as the screen.
WIDTH, HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 26, 36
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Series:
    """A line: its name and its points (x, y); a y that is not finite leaves a gap."""

    name: str
    points: Sequence[tuple[float, float]]


def line_chart(
    title: str, x_name: str, series: Sequence[Series], *, log: bool = False, note: str = "", diagonal: bool = False
) -> Html:
    """A figure with up to two lines over a common x, which are told apart by their dashes as well as their colours.

    Args:
        title: what is shown, with its unit; it stands above the chart and names it for screen readers.
        x_name: name of the x axis.
        series: lines, each with at least one point.
        log: logarithmic y where every value is positive.
        note: text below the chart, which says in words what the lines do.
        diagonal: both axes go from 0 to 1, with a thin line where x equals y, and each point is marked.
    """
    xs = [x for line in series for x, _ in line.points]
    ys = [y for line in series for _, y in line.points if math.isfinite(y)]
    if not ys:
        return element("p", f"{title}: no value is finite", class_="soft")
    log = log and min(ys) >= sys.float_info.min  # a tick below it would be 0
    x_ticks, y_ticks = (_ticks(0, 1), _ticks(0, 1)) if diagonal else (_whole_ticks(min(xs), max(xs)), _y_ticks(ys, log))
    low_x, high_x = (0.0, 1.0) if diagonal else (min(xs), max(xs))
    low_y, high_y = y_ticks[0], y_ticks[-1]
    if log:
        low_y, high_y = math.log10(min(low_y, min(ys))), math.log10(max(high_y, max(ys)))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - low_x) / (high_x - low_x) if high_x > low_x else 0.5
        up = ((math.log10(y) if log else y) - low_y) / (high_y - low_y)
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)

    parts = [_y_tick(place(low_x, tick)[1], tick) for tick in y_ticks]
    parts += [_x_tick(place(tick, y_ticks[0])[0], tick) for tick in x_ticks]
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 4, x_name, anchor="middle"))
    if diagonal:
        parts.append(element("path", d=_path([place(0, 0), place(1, 1)]), class_="grid"))
    for number, line in enumerate(series):
        kind = f"line line{number}"
        for run in _runs(line.points):
            points = [place(*point) for point in run]
            parts.append(element("path", d=_path(points), class_=kind))
            if diagonal or len(points) == 1:
                radius = str(5 - 2 * number)  # one line's point does not hide the other's
                parts += [element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=radius, class_=kind) for x, y in points]
        if len(series) > 1:
            x = _LEFT + number * 110
            parts += [element("path", d=f"M{x} 12h24", class_=kind), _text(x + 30, 16, line.name)]
    svg = element("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=f"{title}. {note}")
    scale = " (logarithmic)" if log else ""
    return element("figure", element("figcaption", element("b", title), scale), svg, element("p", note, class_="soft"))


def grid(charts: Sequence[str]) -> Html:
    """Charts and tables, side by side where there is room."""
    return element("div", *charts, class_="charts")


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers that reach from `low` or less to `high` or more, about five of them."""
    span = high - low or abs(high) or 1.0
    unit = 10 ** math.floor(math.log10(span / 4))
    step = next(step * unit for step in _STEPS if step * unit >= span / 4 * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [place * step for place in range(first, max(last, first + 1) + 1)]


def _y_ticks(ys: Sequence[float], log: bool) -> list[float]:
    if not log:
        return _ticks(min(0.0, *ys), max(ys))
    low, high = math.log10(min(ys)), math.log10(max(ys))
    steps = (1, 2, 5) if high - low < 3 else (1,)
    ticks = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    first = max(place for place, tick in enumerate(ticks) if tick <= min(ys) * (1 + 1e-9))
    last = next(place for place, tick in enumerate(ticks) if tick >= max(ys) * (1 - 1e-9))
    return ticks[first : max(last, first + 1) + 1]


def _whole_ticks(low: float, high: float) -> list[float]:
    """Whole numbers inside low..high."""
    return sorted({float(round(tick)) for tick in _ticks(low, high) if low <= round(tick) <= high})


def _runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The points, divided at the gaps."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if math.isfinite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _y_tick(y: float, value: float) -> Html:
    line = element("path", d=f"M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}", class_="grid")
    return join([line, _text(_LEFT - 6, y + 4, f"{value:.6g}", anchor="end")])


def _x_tick(x: float, value: float) -> Html:
    return _text(x, HEIGHT - _BOTTOM + 15, f"{value:.6g}", anchor="middle")


def _text(x: float, y: float, text: str, anchor: str = "start") -> Html:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


STYLE = """
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1.5rem; }
figure { margin: 0; max-width: 30rem; }
figure p { margin: .2rem 0 0; font-size: .92rem; }
svg { display: block; width: 100%; height: auto; }
svg text { font-size: 12px; fill: var(--soft); }
svg .grid { stroke: var(--line); fill: none; }
svg .line { stroke-width: 2; stroke-linejoin: round; fill: none; }
svg .line0 { stroke: var(--one); }
svg .line1 { stroke: var(--two); stroke-dasharray: 5 3; }
svg circle.line0 { fill: var(--one); stroke: none; }
svg circle.line1 { fill: var(--two); stroke: none; }
"""
