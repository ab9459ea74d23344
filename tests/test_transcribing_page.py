"""Every block of docs/transcribing.md runs as it stands, on a small model and generated audio."""

import io
import json
import re
import shlex
import subprocess
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import soundfile
from torch.distributed.run import parse_args

from asr.cli import main
from asr.manifest import parse_line
from asr.writers import FORMATS
from conftest import ROOT
from tiny_run import save_run, write_audio

PAGE = (ROOT / "docs" / "transcribing.md").read_text(encoding="utf-8")
BLOCKS = [
    (re.findall(r"^##+ (.+)$", PAGE[: found.start()], flags=re.MULTILINE)[-1], found[1], found[2])
    for found in re.finditer(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
]
ARPA = """\\data\\
ngram 1=4

\\1-grams:
-1\t<unk>
-99\t<s>
-0.5\t</s>
-0.3\tab

\\end\\
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def here(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page speaks of; the commands are started in it."""
    monkeypatch.chdir(tmp_path)
    for folder in ("runs", "calls/monday", "bad"):
        Path(folder).mkdir(parents=True)
    Path("runs/mine").symlink_to(run)
    for name in ("call.wav", "call.flac", "calls/a.wav", "calls/monday/b.flac", "calls/monday/c.wav"):
        write_audio(Path(name), 2.0)
    write_audio(Path("meeting.wav"), 35.0)
    Path("bad/empty.wav").touch()
    samples, _ = soundfile.read("call.wav", dtype="int16")
    Path("call.raw").write_bytes(samples.astype("<i2").tobytes())
    Path("call.txt").write_text("ab cab\n")
    Path("lm.arpa").write_text(ARPA)
    record = {"audio_filepath": "call.wav", "offset": 0.5, "duration": 1.5, "id": "greeting"}
    Path("segments.jsonl").write_text(json.dumps(record) + "\n")
    Path("texts.jsonl").write_text(json.dumps({**record, "text": "ab"}) + "\n")
    return tmp_path


def run_line(line: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Exit code and standard output; what is before a pipe is bash's, and ours is run in this process."""
    words = shlex.split(line, comments=True)
    if "||" in words:
        words = words[: words.index("||")]
    target = None
    if ">" in words:
        words, (target,) = words[: words.index(">")], words[words.index(">") + 1 :]
    if "|" in words:
        before = line[: line.index("|")]
        Path("stdin").write_bytes(subprocess.run(before, shell=True, check=True, capture_output=True).stdout)
        words = words[words.index("|") + 1 :]
    if words[0] == "torchrun":  # processes are tests/test_transcribe_torchrun.py's
        options = parse_args(words[1:])
        assert (options.module, options.training_script) == (True, "asr")
        words = ["asr", *options.training_script_args]
    assert words[0] == "asr"
    Path("stdin").touch()
    with Path("stdin").open() as file, redirect_stdout(io.StringIO()) as out:
        monkeypatch.setattr("sys.stdin", file)
        code = main(words[1:])
    if target is not None:
        Path(target).write_text(out.getvalue())
    return code, out.getvalue()


SHELL = [(section, code) for section, language, code in BLOCKS if language == "sh"]
PYTHON = [(section, code) for section, language, code in BLOCKS if language == "python"]


def test_every_block_is_of_a_kind_that_is_run() -> None:
    assert {language for _, language, _ in BLOCKS} == {"sh", "python", "json"}
    assert (len(SHELL), len(PYTHON)) == (12, 4)


@pytest.mark.parametrize(("section", "code"), SHELL, ids=[section for section, _ in SHELL])
def test_commands(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, section: str, code: str
) -> None:
    for line in code.replace("\\\n", " ").splitlines():
        status, out = run_line(line, monkeypatch)
        err = capsys.readouterr().err
        assert status == (1 if "||" in line else 0), err
        assert out or "--out" in line or "--beside" in line
        for destination in re.findall(r"--merged (\S+)|> (\S+)", line):
            assert Path("".join(destination)).stat().st_size > 0
    if section == "Many files":
        assert sorted(path.as_posix() for path in Path("texts").rglob("*.txt")) == [
            *("texts/a.txt", "texts/monday/b.txt", "texts/monday/c.txt")
        ]
    if section == "Subtitles":
        assert Path("calls/monday/b.vtt").read_text().startswith("WEBVTT")


@pytest.mark.parametrize(("section", "code"), PYTHON, ids=[f"{section}-{len(code)}" for section, code in PYTHON])
def test_python(here: Path, capsys: pytest.CaptureFixture[str], section: str, code: str) -> None:
    assert len(code.strip().splitlines()) <= 10
    exec(compile(code, section, "exec"), {})
    assert capsys.readouterr().out


def test_records() -> None:
    [record] = [code for _, language, code in BLOCKS if language == "json"]
    found = parse_line(record, where="page", folder=Path(), with_texts=False)
    assert (found.id, found.offset, found.duration) == ("greeting", 0.5, 1.5)


def test_the_fields_of_the_json_are_those_of_the_page(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wave, rate_hz = soundfile.read("call.wav")
    soundfile.write("call.wav", np.stack([wave, wave], 1), rate_hz)
    asked = ["transcribe", "--model", "runs/mine", "call.wav", "--format", "json", "--channels", "each"]
    assert main(asked) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[0])
    text = PAGE[PAGE.index("### JSON") : PAGE.index("## Many files")]
    named = set(re.findall(r"`(\w+)`", text))
    segment = record["segments"][0]
    assert {*record, *segment, *segment["words"][0], *record["alternatives"][0]} == named


def test_every_format_is_in_the_table() -> None:
    table = PAGE[PAGE.index("| `--format`") : PAGE.index("### Subtitles")]
    assert set(re.findall(r"`(\w+)`", table)) - {"sclite"} == set(FORMATS)
