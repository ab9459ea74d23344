"""What a training run has logged: reads metrics.jsonl, whatever state it is in."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.errors import TrainingError

# Numbers in an epoch's line; an epoch without an evaluation on dev has only some of them.
NUMBERS = (
    "train_loss",
    "dev_loss",
    "dev_wer_percent",
    "dev_expected_wer_percent",
    "dev_cer_percent",
    "learning_rate",
    "audio_hours_per_hour",
    "elapsed_s",
)
_HUGE = 1e300  # JSON can hold integers that no float can


@dataclass(frozen=True)
class Epoch:
    """A finished epoch, from 1: the numbers that were logged (NaN and infinity too), and whether it was the best."""

    epoch: int
    step: int
    numbers: Mapping[str, float]
    best: bool


@dataclass
class Metrics:
    """The events of a log.

    Attributes:
        epochs: finished epochs, in the order of the log.
        others: name, step and further facts of each other event, such as a skipped step.
        faults: one line for each record that cannot be used.
        cut: whether the last line is unfinished: it is being written, or was when the run stopped.
    """

    epochs: list[Epoch] = field(default_factory=list)
    others: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    cut: bool = False


def read_metrics(path: Path) -> Metrics:
    """Read a log; damaged records are listed among the faults, the others are used.

    Raises:
        TrainingError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise TrainingError(f"{path}: cannot read the log: {error.strerror}") from error
    metrics = Metrics()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            _add(metrics, json.loads(line))
        except (ValueError, RecursionError) as error:
            if number == len(lines):  # without its line feed
                metrics.cut = True
            else:
                metrics.faults.append(f"{path}:{number}: not a record of the log: {error}")
    return metrics


def _add(metrics: Metrics, record: Any) -> None:
    if not isinstance(record, dict):
        raise ValueError(f"wanted a JSON object, found {type(record).__name__}")
    event, step = record.pop("event", None), _whole(record, "step")
    if not isinstance(event, str):
        raise ValueError(f"event must be a string, found {event!r}")
    if event == "epoch":
        numbers = {key: _number(record, key) for key in NUMBERS if key in record}
        metrics.epochs.append(Epoch(_whole(record, "epoch"), step, numbers, record.get("best") is True))
    else:
        metrics.others.append((event, step, record))


def _whole(record: dict[str, Any], key: str) -> int:
    value = record.pop(key, None)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError(f"{key} must be a whole number, found {value!r}")
    return value


def _number(record: dict[str, Any], key: str) -> float:
    value = record[key]
    if value in ("nan", "inf", "-inf"):  # JSON has no word for them
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _HUGE:
        raise ValueError(f"{key} must be a number, found {value!r}")
    return float(value)
