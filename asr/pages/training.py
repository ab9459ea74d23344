"""How training went: curves, the epochs as a table, and what was skipped."""

import math

from asr.html import Html, details, element, table
from asr.pages.charts import Series, grid, line_chart
from asr.pages.metrics import Metrics
from asr.progress import clock
from asr.report import plural

MOST_EVENTS = 50
_COLUMNS = {  # of the table: head and number format
    "train_loss": ("train loss", "{:.4f}"),
    "dev_loss": ("dev loss", "{:.4f}"),
    "dev_wer_percent": ("dev WER", "{:.2f}%"),
    "dev_expected_wer_percent": ("expected", "{:.2f}%"),
    "dev_cer_percent": ("dev CER", "{:.2f}%"),
    "learning_rate": ("learning rate", "{:.3g}"),
    "audio_hours_per_hour": ("h/h", "{:.1f}"),
}


def training_section(metrics: Metrics) -> Html:
    """Curves of loss, error rate, learning rate and speed over epochs, and the numbers behind them."""
    if not metrics.epochs:
        return element("div", element("p", "No epoch is finished."), _events(metrics))
    last, best = metrics.epochs[-1], next((epoch for epoch in reversed(metrics.epochs) if epoch.best), None)
    facts = f"{plural(len(metrics.epochs), 'epoch')} in the log, {plural(last.step, 'step')}"
    if math.isfinite(last.numbers.get("elapsed_s", math.nan)):
        facts += f", {clock(last.numbers['elapsed_s'])} of training"
    if best is not None and "dev_wer_percent" in best.numbers:
        facts += f". Best on dev: epoch {best.epoch}, WER {best.numbers['dev_wer_percent']:.2f}%"
    curves = [
        _curve(metrics, "CTC loss of an utterance in nats", {"train_loss": "train", "dev_loss": "dev"}, log=True),
        _curve(metrics, "Error rate on dev in percent", {"dev_wer_percent": "WER", "dev_cer_percent": "CER"}),
        _curve(metrics, "Learning rate", {"learning_rate": "learning rate"}),
        _curve(metrics, "Speed in hours of audio for an hour", {"audio_hours_per_hour": "speed"}),
    ]
    return element("div", element("p", f"{facts}."), grid(curves), _epochs(metrics), _events(metrics))


def _curve(metrics: Metrics, title: str, keys: dict[str, str], *, log: bool = False) -> Html:
    """A chart of some numbers of the epochs that have them."""
    lines, notes = [], []
    for key, name in keys.items():
        points = [(float(epoch.epoch), epoch.numbers[key]) for epoch in metrics.epochs if key in epoch.numbers]
        finite = [(value, place) for place, value in points if math.isfinite(value)]
        if not finite:
            continue
        lines.append(Series(name, points))
        low, high = min(finite), max(finite)
        extreme = (
            f"highest {high[0]:.4g} (epoch {high[1]:.0f})"
            if key in ("learning_rate", "audio_hours_per_hour")
            else (f"lowest {low[0]:.4g} (epoch {low[1]:.0f})")
        )
        notes.append(f"{name}: first {finite[0][0]:.4g}, {extreme}, last {finite[-1][0]:.4g}")
        lost = len(points) - len(finite)
        if lost:
            notes.append(f"{lost} not finite")
    if not lines:
        return element("p", f"{title}: no value in the log", class_="soft")
    return line_chart(title, "epoch", lines, log=log, note="; ".join(notes) + ".")


def _epochs(metrics: Metrics) -> Html:
    shown = {key: column for key, column in _COLUMNS.items() if any(key in epoch.numbers for epoch in metrics.epochs)}
    rows = [
        [
            f"{epoch.epoch}{' (best so far)' if epoch.best else ''}",
            str(epoch.step),
            *[form.format(epoch.numbers[key]) if key in epoch.numbers else "" for key, (_, form) in shown.items()],
        ]
        for epoch in metrics.epochs
    ]
    heads = ["epoch", "step", *[head for head, _ in shown.values()]]
    return details("Every epoch as a table", table("Epochs", heads, rows))


def _events(metrics: Metrics) -> Html:
    if not metrics.others:
        return element("p", "No step was skipped and no batch was cut for want of memory.")
    shown = [
        [name, str(step), "; ".join(f"{key} {_fact(value)}" for key, value in rest.items())]
        for name, step, rest in metrics.others[:MOST_EVENTS]
    ]
    left = len(metrics.others) - len(shown)
    caption = f"Events: {len(metrics.others)}" + (f" ({left} later ones left out)" if left else "")
    return table(caption, ["event", "step", "what"], shown, text_columns=3)


def _fact(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
