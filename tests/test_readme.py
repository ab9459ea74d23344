"""What the README shows is what the program takes: its commands parse, its Python runs, its links lead somewhere."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from asr.cli import commands, parse

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("recipes/*/*.md")]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


COMMANDS = [
    line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines() if line.startswith("asr ")
]


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    arguments = parse(commands(), shlex.split(command)[1:])
    assert callable(arguments.run)


def test_the_decoder_runs_in_three_lines(capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = blocks("python")
    logits = np.full((2, 6, 3), -9.0)
    for row, path in enumerate(((1, 1, 0, 2, 2, 0), (2, 0, 2, 0, 1, 1))):
        logits[row, np.arange(6), path] = 9.0
    log_probs = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
    exec(snippet, {"log_probs": log_probs, "labels": ["<blank>", "a", "b"], "lengths": [6, 4]})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("ab (Word(text='ab', start_s=0.0, end_s=4.0, confidence=1.0),)")
    assert second.startswith("bb (Word(text='bb'")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
