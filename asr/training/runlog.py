"""What a training run writes down and shows: metrics.jsonl, TensorBoard curves, a progress bar or plain lines."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asr.errors import CheckpointError
from asr.files import errors_name, write_text_atomic
from asr.progress import Progress, clock
from asr.training.curves import Curves
from asr.training.state import Position

METRICS_FILE = "metrics.jsonl"


class RunLog:
    """The log of one run folder; use it as a context manager.

    Args:
        folder: run folder.
        epochs: epochs of the whole run.
        epoch_batches: batches in an epoch, for the bar.
        position: where training starts; what an interrupted run logged beyond it is removed, because it comes again.
    """

    def __init__(self, folder: Path, epochs: int, epoch_batches: int, position: Position) -> None:
        self.path = folder / METRICS_FILE
        self.epochs = epochs
        self.dev_wer = "-"
        _forget_after(self.path, position)
        done = epoch_batches * position.epoch + position.batch
        self.progress = Progress(epochs * epoch_batches, "batch", done=done)
        self.curves = Curves(folder / "tensorboard", position.step + 1)

    def line(self, text: str) -> None:
        """Show one line that stays."""
        self.progress.line(text)

    def batch(self, epoch: int, loss: float, speed: float) -> None:
        """Advance the bar by a batch of `epoch` (from 0); `speed` is in hours of audio per hour."""
        facts = {"epoch": str(epoch + 1), "loss": f"{loss:.3f}", "dev WER": self.dev_wer, "h/h": f"{speed:.0f}"}
        self.progress.step(facts)

    def step(self, step: int, facts: dict[str, float]) -> None:
        """Add an optimiser step to the curves."""
        self.curves.add(step, {f"train/{name}": value for name, value in facts.items()})

    def skipped(self, step: int, loss: float, norm: float, ids: list[str]) -> None:
        """Write down a step that was not taken, with its utterances."""
        self._write({"event": "skipped", "step": step, "loss": loss, "gradient_norm": norm, "ids": ids})
        self.line(f"step {step} skipped: loss {loss}, gradient norm {norm}; ids in {METRICS_FILE}")

    def split(self, step: int, rank: int, parts: int, ids: list[str]) -> None:
        """Write down a process's batch that was cut into `parts` to fit in memory."""
        self._write({"event": "out of memory", "step": step, "rank": rank, "parts": parts, "ids": ids})
        self.line(f"step {step}, rank {rank}: out of memory, batch of {len(ids)} utterances done in {parts} parts")

    def epoch(self, facts: dict[str, Any]) -> None:
        """Write down and show a finished epoch.

        Args:
            facts: epoch (from 1), step, train_loss, audio_hours_per_hour, padding_percent, elapsed_s, and after an
                evaluation dev_loss, dev_wer_percent, dev_expected_wer_percent, dev_cer_percent and best.
        """
        self._write({"event": "epoch", **facts})
        numbers = {f"epoch/{name}": value for name, value in facts.items() if isinstance(value, float)}
        self.curves.add(facts["step"], numbers)
        dev = ""
        if "dev_wer_percent" in facts:
            self.dev_wer = f"{facts['dev_wer_percent']:.2f}%"
            star = " *" if facts["best"] else ""
            wer = f"{self.dev_wer} (expected {facts['dev_expected_wer_percent']:.2f}%)"
            dev = f"dev loss {facts['dev_loss']:.3f} WER {wer} CER {facts['dev_cer_percent']:.2f}%{star}  "
        elapsed_s = facts["elapsed_s"]
        left_s = elapsed_s * (self.epochs / facts["epoch"] - 1)
        self.line(
            f"epoch {facts['epoch']}/{self.epochs}  loss {facts['train_loss']:.3f}  {dev}"
            f"{facts['audio_hours_per_hour']:.0f} h/h  {clock(elapsed_s)} elapsed, {clock(left_s)} left"
        )

    def _write(self, facts: dict[str, Any]) -> None:
        line = json.dumps({key: _json_number(value) for key, value in facts.items()}) + "\n"
        with errors_name(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.bar.close()
        self.curves.close()


class Quiet:
    """Takes what a RunLog takes and writes nothing, for processes other than the one that writes."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *facts: None

    def __enter__(self) -> "Quiet":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _json_number(value: Any) -> Any:
    """The value; NaN and infinity, which JSON cannot express, as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _forget_after(path: Path, position: Position) -> None:
    if not path.exists():
        return
    kept = []
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            facts = json.loads(line)
        except ValueError:
            if number == len(lines) and not text.endswith("\n"):
                break  # power failed while it was written: what it records lies beyond the saved state
            facts = None
        step, epoch = (facts.get("step"), facts.get("epoch", 0)) if isinstance(facts, dict) else (None, None)
        if not isinstance(step, int) or not isinstance(epoch, int):
            raise CheckpointError(f"{path}:{number}: must be a record of training with its step, found {line[:60]!r}")
        if step <= position.step and epoch <= position.epoch:
            kept.append(line + "\n")
    write_text_atomic(path, "".join(kept))
