"""What the trials show: success rates with intervals and updates to success, as a table and a picture."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from asr.errors import ConfigError
from asr.files import atomic_path
from recipes.memory.trial import Trial

_Z = 1.959964  # of a standard normal distribution, 95 %
_LOOKS = {"rnn": ("tab:gray", "s", ":"), "gru": ("tab:orange", "^", "--"), "lstm": ("tab:blue", "o", "-")}


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a rate (Wilson 1927), which is sensible for few trials and for none or all successful."""
    centre = successes + _Z**2 / 2
    half = _Z * math.sqrt(successes * (trials - successes) / trials + _Z**2 / 4)
    return max(0.0, (centre - half) / (trials + _Z**2)), min(1.0, (centre + half) / (trials + _Z**2))


def select(trials: Sequence[Trial], task: str, cell: str, lag: int) -> list[Trial]:
    """All seeds of one setting."""
    return [trial for trial in trials if (trial.task, trial.cell, trial.lag) == (task, cell, lag)]


def _values(trials: Sequence[Trial]) -> tuple[list[str], list[str], list[int]]:
    """Tasks and cells in order of appearance, and lags in ascending order."""
    tasks, cells = (list(dict.fromkeys(values)) for values in zip(*((t.task, t.cell) for t in trials), strict=True))
    return tasks, cells, sorted({trial.lag for trial in trials})


def table(trials: Sequence[Trial]) -> str:
    """Markdown: a line for each task and lag, a column for each cell."""
    tasks, cells, lags = _values(trials)
    lines = [f"| task | lag | {' | '.join(cells)} |", "|---|---|" + "---|" * len(cells)]
    for task in tasks:
        for lag in lags:
            shown = " | ".join(_cell(select(trials, task, cell, lag)) for cell in cells)
            lines.append(f"| {task} | {lag} | {shown} |")
    return "\n".join(lines) + "\n"


def _cell(trials: Sequence[Trial]) -> str:
    """`4 / 5 (38-96 %), 250 [210-400]; loss 0.41`: successes, interval, their updates, loss where there are none."""
    wins = [trial.updates for trial in trials if trial.success]
    low, high = wilson(len(wins), len(trials))
    text = f"{len(wins)} / {len(trials)} ({100 * low:.0f}-{100 * high:.0f} %)"
    if wins:
        text += f", {statistics.median(wins):.0f} [{min(wins)}-{max(wins)}]"
    losses = [trial.loss for trial in trials if not trial.success]
    return text + (f"; loss {statistics.median(losses):.2f}" if losses else "")


def totals(trials: Sequence[Trial]) -> str:
    """Markdown: successes of each cell at each lag, over all tasks and seeds."""
    _, cells, lags = _values(trials)
    lines = ["| lag | " + " | ".join(cells) + " |", "|---|" + "---|" * len(cells)]
    for lag in lags:
        shown = []
        for cell in cells:
            wins = [trial.success for trial in trials if (trial.cell, trial.lag) == (cell, lag)]
            low, high = wilson(sum(wins), len(wins))
            shown.append(f"{sum(wins)} / {len(wins)} ({100 * low:.0f}-{100 * high:.0f} %)")
        lines.append(f"| {lag} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def require_drawing() -> None:
    """ConfigError where matplotlib is missing: better before the trainings than after them."""
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the picture is drawn with {error.name}, which is not installed: pip install matplotlib"
        ) from error


def draw(trials: Sequence[Trial], folder: Path) -> None:
    """Write long_lags.svg and .png: above, success rates with intervals against lag; below, updates to success."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    tasks, cells, lags = _values(trials)
    ends = lags[0] / 1.5, lags[-1] * 1.5
    limits = [max(trial.limit for trial in trials if trial.lag == lag) for lag in lags]
    with rc_context({"font.size": 9, "svg.hashsalt": "asr"}):  # the same picture gives the same file
        figure = Figure(figsize=(2.7 * len(tasks) + 0.6, 5.2), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(2, len(tasks), sharex=True, sharey="row", squeeze=False)
        for task, rates, updates in zip(tasks, grid[0], grid[1], strict=True):
            rates.set_title(task)
            updates.plot(
                [ends[0], *lags, ends[1]], [limits[0], *limits, limits[-1]], color="black", lw=0.8, linestyle=":"
            )
            for number, cell in enumerate(cells):
                colour, marker, line = _LOOKS[cell]
                # Side by side, so that equal values stay visible.
                places = [lag * 1.09 ** (number - (len(cells) - 1) / 2) for lag in lags]
                found = [select(trials, task, cell, lag) for lag in lags]
                wins = [[trial.updates for trial in part if trial.success] for part in found]
                shares = [len(part) / len(whole) for part, whole in zip(wins, found, strict=True)]
                bounds = [wilson(len(part), len(whole)) for part, whole in zip(wins, found, strict=True)]
                errors = [[share - low for share, (low, _) in zip(shares, bounds, strict=True)]]
                errors.append([high - share for share, (_, high) in zip(shares, bounds, strict=True)])
                style = {"color": colour, "marker": marker, "linestyle": line, "markersize": 5}
                rates.errorbar(places, shares, errors, capsize=2, elinewidth=0.8, label=cell, **style)
                medians = [statistics.median(part) if part else math.nan for part in wins]
                updates.plot(places, medians, **style)
                for place, part in zip(places, wins, strict=True):
                    updates.plot([place] * len(part), part, color=colour, marker=".", linestyle="", markersize=3)
            updates.set_xlabel("lag, steps")
            updates.set_xscale("log")
            updates.set_yscale("log")
            updates.set_xticks(lags, [str(lag) for lag in lags])
            updates.set_xlim(ends)
            updates.minorticks_off()
            updates.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            updates.yaxis.set_major_formatter("{x:g}")
        grid[0, 0].set_ylabel("share of seeds that succeed")
        grid[0, 0].set_ylim(-0.05, 1.05)
        grid[1, 0].set_ylabel("updates to success (dotted: limit)")
        figure.legend(
            *grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(cells), frameon=False
        )
        for suffix, metadata in ((".svg", {"Date": None}), (".png", {"Software": None})):
            with atomic_path(folder / f"long_lags{suffix}") as temporary:
                figure.savefig(temporary, format=suffix[1:], metadata=metadata, dpi=120)
