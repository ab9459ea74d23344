"""docs/lstm.md: the code that it quotes stands in the source, its commands parse, its figures can be made anew."""

import importlib.util
import re
import shlex
from types import ModuleType

import pytest

from asr.cli import commands, parse
from conftest import ROOT

PAGE = (ROOT / "docs" / "lstm.md").read_text(encoding="utf-8")
SOURCES = "".join((ROOT / "asr" / name).read_text(encoding="utf-8") for name in ("encoder.py", "gates.py"))
QUOTED = [line for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
COMMANDS = [line.removeprefix("$ ") for line in PAGE.splitlines() if re.match(r"(\$ )?asr ", line)]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pictures", ROOT / "docs" / "make_pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("line", QUOTED)
def test_quoted_code_is_the_code(line: str) -> None:
    assert f"\n{line}\n" in SOURCES


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    assert callable(parse(commands(), shlex.split(command, comments=True)[1:]).run)


def test_pictures_are_small() -> None:
    pictures = re.findall(r"!\[[^\]]{20,}\]\((pictures/[^)]+)\)", PAGE)
    assert len(pictures) == PAGE.count("](pictures/") >= 5
    assert all((ROOT / "docs" / name).stat().st_size <= 200_000 for name in pictures)


def test_there_are_quotes_and_commands() -> None:
    assert len(QUOTED) >= 3
    assert len(COMMANDS) >= 2


def test_the_marks_of_each_model_are_there(script: ModuleType) -> None:
    for subject in script.SUBJECTS:
        page = script.replace_block(PAGE, subject.name, "measured anew")
        assert "measured anew" in page
        assert script.replace_block(page, subject.name, "again") != page
        assert page.count("<!--") == PAGE.count("<!--")
    with pytest.raises(SystemExit, match="marks of other are missing"):
        script.replace_block(PAGE, "other", "")


def test_a_model_that_is_not_known_is_named(script: ModuleType) -> None:
    with pytest.raises(SystemExit, match="tidigits: not known; there are digits, an4"):
        script.make(["tidigits"])
