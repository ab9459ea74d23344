"""The commands of docs/reports.md run as they stand, and write what the page says."""

import re
import shlex
from pathlib import Path

import pytest

from asr.cli import main
from asr.pages.recordings import PAGE_BYTES, PLAYED_S
from conftest import ROOT
from page_parser import read_page
from scored_run import RESULTS, scored_run, write_set
from tiny_run import write_texts

PAGE = (ROOT / "docs" / "reports.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()]


def test_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    scored_run(Path("runs/mine"))
    write_set(Path("runs/other/test"), RESULTS)
    Path("data/mine").mkdir(parents=True)
    write_texts(Path("data/mine/test.jsonl"), "ab", "cab")
    assert len(COMMANDS) == 4
    for command in COMMANDS:
        assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    for name in ("runs/mine/report.html", "test-greedy.html", "compare.html"):
        read_page(Path(name).read_text())


def test_limits_are_those_of_the_page() -> None:
    assert f"up to {PLAYED_S:g} s are copied" in PAGE
    assert f"{PAGE_BYTES / 1e6:g} MB of them" in PAGE
