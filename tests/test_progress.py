"""What a long command shows."""

import io
import sys

import pytest

from asr.progress import Progress, clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (3599.4, "59:59"), (3599.6, "1:00:00"), (360061, "100:01:01")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_lines_alone_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(2, "batch") as progress:
        progress.step({"loss": "1"})
        progress.line("epoch 1")
    assert capsys.readouterr() == ("", "epoch 1\n")


def test_a_bar_on_a_terminal_starts_where_the_work_does(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(10, "batch", done=4) as progress:
        progress.step({"loss": "1.5"})
        progress.line("epoch 1")
    shown = terminal.getvalue()
    assert "epoch 1\n" in shown
    assert "5/10" in shown
    assert "loss=1.5" in shown
