"""docs/lstm.md: the code that it quotes stands in the source, its commands parse, its figures can be made anew."""

import importlib.util
import json
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from asr.cli import commands, parse
from conftest import ROOT
from tiny_run import save_run, write_audio

PAGE = (ROOT / "docs" / "lstm.md").read_text(encoding="utf-8")
SOURCES = "".join((ROOT / "asr" / name).read_text(encoding="utf-8") for name in ("encoder.py", "gates.py"))
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PROGRAMS = [block for block in BLOCKS if block.startswith("import")]
QUOTED = [line for block in BLOCKS if block not in PROGRAMS for line in block.splitlines()]
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


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_run(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/mine").mkdir(parents=True)
    save_run(Path("runs/mine"))
    write_audio(Path("call.wav"), 6.0)
    Path("dev.jsonl").write_text(
        json.dumps({"audio_filepath": "call.wav", "duration": 6.0, "text": "ab", "id": "call"})
    )
    exec(compile(program, "docs/lstm.md", "exec"), {})
    *layers, figures = capsys.readouterr().out.splitlines()
    assert layers[0].startswith("layer 1, forward {")
    assert figures.startswith("[")


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    assert callable(parse(commands(), shlex.split(command, comments=True)[1:]).run)


def test_pictures_are_small() -> None:
    pictures = re.findall(r"!\[[^\]]{20,}\]\((pictures/[^)]+)\)", PAGE)
    assert len(pictures) == PAGE.count("](pictures/") >= 5
    assert all((ROOT / "docs" / name).stat().st_size <= 200_000 for name in pictures)


def test_there_are_quotes_and_commands() -> None:
    assert len(PROGRAMS) == 1
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
