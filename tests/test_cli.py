"""The command line as a whole: help, usage errors, exit codes, signals, pipes."""

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asr import __version__
from asr.cli import main, run_command
from asr.errors import Interrupted

Capture = pytest.CaptureFixture[str]
COMMANDS = (
    "prepare",
    "pack",
    "train",
    "evaluate",
    "transcribe",
    "align",
    "report",
    "compare",
    "lm",
    "tune",
    "decode",
    "inspect",
    "config",
)
ASR = (sys.executable, "-m", "asr")
ROOT = Path(__file__).resolve().parent.parent


def test_help_lists_the_commands(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    first_words = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]
    assert [word for word in first_words if word in COMMANDS] == list(COMMANDS)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("prepare", ["corpus", "--source", "--out", "--dev-share", "0.1", "key=value"]),
        ("train", ["conf", "key=value", "--out", "--resume RUN"]),
        ("evaluate", ["manifest", "--model RUN", "--out", "--device", "--batch-s", "--emissions", "--lm", "--lexicon"]),
        (
            "transcribe",
            [
                *("PATH", "--model RUN", "--format {txt,json,srt,vtt,ctm,tsv,textgrid,eaf}", "--device", "--n-best"),
                *("--out DIR", "--beside", "--skip-existing", "--overwrite", "--merged FILE"),
                *("--alpha", "--hotwords", "--stream", "--sample-rate HZ"),
            ],
        ),
        ("align", ["AUDIO", "TEXT", "--text WORDS", "--model RUN", "--format {txt,json,srt", "--out"]),
        ("report", ["RUN", "--out FILE.html", "--worst N"]),
        ("compare", ["hypotheses.jsonl", "--html FILE.html"]),
        ("lm", ["train", "perplexity", "info", "compile"]),
        ("tune", ["RUN", "--manifest", "--emissions", "--alpha LOW HIGH", "--beta LOW HIGH", "--lm"]),
        ("decode", ["EMISSIONS.npz", "--labels", "--blank", "--space", "--frame-s", "--n-best", "--lm", "--beam-size"]),
        (
            "inspect",
            ["AUDIO", "--model RUN", "--out DIR", "--text WORDS", "--from S", "--to S", "--gates", "--utterances"],
        ),
        ("config", ["conf", "key=value"]),
    ],
)
def test_help_of_a_command(capsys: Capture, command: str, words: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: asr {command} ")
    for word in words:
        assert word in out


@pytest.mark.parametrize("command", [*COMMANDS, "average", "export", "label", "splice"])
def test_what_has_out_has_its_short_form(capsys: Capture, command: str) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    lines = [line for line in capsys.readouterr().out.splitlines() if re.match("  -.*--out [A-Z]", line)]
    assert all(line.startswith("  -o") for line in lines)
    assert lines or command in ("compare", "lm", "tune", "decode", "config")


def test_version(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"asr {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["tarnscribe"], "invalid choice: 'tarnscribe'"),
        (["config", "--epochs", "3"], "unrecognized arguments: --epochs"),
        (["transcribe", "a.wav"], "the following arguments are required: --model"),
        (["transcribe", "--model", "m", "a.wav", "--format", "xml"], "invalid choice: 'xml'"),
        (["transcribe", "--model", "m", "a", "--out", "o", "--beside"], "not allowed with argument -o/--out"),
        (
            ["transcribe", "--model", "m", "a", "--overwrite", "--skip-existing"],
            "not allowed with argument --overwrite",
        ),
        (["evaluate", "m.jsonl", "--model", "m", "x=1"], "unrecognized arguments: x=1"),
    ],
)
def test_usage_errors(capsys: Capture, arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_errors_do_not_go_to_standard_output_where_standard_error_is_closed() -> None:
    command = f"'{sys.executable}' -m asr config none.yaml 2>&-"
    done = subprocess.run(command, shell=True, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")


def test_standard_output_is_utf8_in_any_locale() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*ASR, "config", "data.train=é小.jsonl"], stdout=subprocess.PIPE, cwd=ROOT, env=environment, timeout=60
    )
    assert "train: é小.jsonl" in done.stdout.decode()


def test_help_and_config_load_no_torch() -> None:
    program = (
        "import sys; from asr.cli import main; main(['config', 'train.epochs=1']); "
        "print({'torch', 'numba', 'librosa', 'matplotlib'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "set()\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, os.EX_TEMPFAIL), (signal.SIGINT, 130)])
def test_exit_code_of_a_training_that_was_stopped(capsys: Capture, number: signal.Signals, code: int) -> None:
    def stopped() -> int:
        raise Interrupted("stopped, state saved", number)

    assert run_command(stopped) == code
    assert capsys.readouterr().err == "stopped, state saved\n"


def test_sigterm_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_: object) -> Iterator[str]:
        assert [path.suffix for path in tmp_path.glob(".x.arpa.*")] == [".tmp"]
        signal.raise_signal(signal.SIGTERM)
        yield ""

    monkeypatch.setattr("asr.lm.arpa._pieces", stopped)
    (tmp_path / "text").write_text("a b\n")

    def own(*_: object) -> None:
        pytest.fail("not handled")

    previous = signal.signal(signal.SIGTERM, own)
    try:
        with pytest.raises(SystemExit) as stop:
            main(["lm", "train", str(tmp_path / "text"), "--order", "1", "-o", str(tmp_path / "x.arpa")])
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert stop.value.code == 143
    assert list(tmp_path.iterdir()) == [tmp_path / "text"]


def test_a_command_runs_in_any_thread(capsys: Capture) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(main, ["config"]).result() == 0
    assert capsys.readouterr().out.startswith("data:\n")


def test_a_package_that_is_missing_is_named(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert run_command(lambda: int(importlib.import_module("torch") is None)) == 2
    wanted = "error: torch is not installed; this command needs the whole package (pip install .)\n"
    assert capsys.readouterr().err == wanted
    with pytest.raises(ModuleNotFoundError, match=r"asr\.nothing"):
        run_command(lambda: int(importlib.import_module("asr.nothing") is None))


def test_faults_of_our_own_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)


def test_head_takes_what_it_wants() -> None:
    done = subprocess.run(
        f"set -o pipefail; '{sys.executable}' -m asr config | head -1",
        shell=True,
        executable="/bin/bash",
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (0, 141)  # 141 when `head` was gone before all was written
    assert (done.stdout, done.stderr) == ("data:\n", "")


@pytest.mark.parametrize("unbuffered", ["", "1"])  # found out when Python flushes, or at the first line
def test_output_that_nobody_reads(unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        [*ASR, "config"], stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment, timeout=60
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_ctrl_c(tmp_path: Path) -> None:
    """The command waits for a configuration that never comes."""
    pipe = tmp_path / "conf.yaml"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [*ASR, "config", pipe], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    for _ in range(600):
        try:
            writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError:  # nobody has opened it for reading yet
            time.sleep(0.1)
            assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    os.close(writer)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


def test_the_module_is_the_command() -> None:
    done = subprocess.run([*ASR, "--version"], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"asr {__version__}\n")


def test_where_file_names_are_not_utf_8(tmp_path: Path) -> None:
    environment = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "asr", "evaluate", "ä.jsonl", "--model", "run"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: file names are ascii here, wanted UTF-8: set PYTHONUTF8=1\n"
