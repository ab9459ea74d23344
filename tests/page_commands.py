"""The commands of a page of docs/, run one by one in this process."""

import io
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path

from asr.cli import main
from conftest import ROOT


def blocks_of(page: str) -> list[tuple[str, str]]:
    """Language and content of each block of code."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands_of(blocks: list[tuple[str, str]]) -> list[str]:
    """The commands of all blocks for a shell, each on one line."""
    return "".join(code for language, code in blocks if language == "sh").replace("\\\n", " ").splitlines()


def run(line: str) -> None:
    """Run a command, which succeeds."""
    words = shlex.split(line, comments=True)
    words, target = words[: words.index(">")] if ">" in words else words, words[-1]
    with redirect_stdout(io.StringIO()) as out:
        if words[0] == "cat":
            out.write("".join(Path(name).read_text() for name in words[1:]))
        elif words[:2] == ["mkdir", "-p"]:
            Path(words[2]).mkdir(parents=True, exist_ok=True)
        else:
            assert main(words[1:]) == 0, line
    if ">" in line:
        Path(target).write_text(out.getvalue())
