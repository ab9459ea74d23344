"""The command line: what each command prints, where, and what it exits with."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr import __version__, config
from asr.cli import main, run_command
from asr.config import Config
from asr.errors import Interrupted
from asr.wer import read_hypotheses
from tiny_run import RATE_HZ, save_run

Capture = pytest.CaptureFixture[str]
COMMANDS = ("prepare", "train", "evaluate", "transcribe", "compare", "lm", "tune", "decode", "config")
ASR = (sys.executable, "-m", "asr")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


def write_audio(path: Path, duration_s: float = 1.0) -> Path:
    samples = 0.1 * np.random.default_rng(1).standard_normal(round(duration_s * RATE_HZ))
    soundfile.write(path, samples, RATE_HZ)
    return path


def write_manifest(path: Path, *texts: str) -> Path:
    """A manifest of one-second recordings u0, u1, ... with these texts."""
    write_audio(path.parent / "a.wav")
    records: list[dict[str, Any]] = [
        {"audio_filepath": "a.wav", "duration": 1.0, "text": text, "id": f"u{number}", "speaker": f"s{number}"}
        for number, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def succeed(capsys: Capture, *arguments: object) -> tuple[str, str]:
    """Standard output and standard error of a command that goes well."""
    assert main([str(argument) for argument in arguments]) == 0
    out, err = capsys.readouterr()
    return out, err


# --- help -------------------------------------------------------------------------------------------------------------


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
            ["audio", "--model RUN", "--format {txt,json}", "--device", "--n-best", "--alpha", "--hotwords"],
        ),
        ("compare", ["hypotheses.jsonl"]),
        ("lm", ["train", "perplexity", "info", "compile"]),
        ("tune", ["RUN", "--manifest", "--emissions", "--alpha LOW HIGH", "--beta LOW HIGH", "--lm"]),
        ("decode", ["EMISSIONS.npz", "--labels", "--blank", "--space", "--frame-s", "--n-best", "--lm", "--beam-size"]),
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
        (["evaluate", "m.jsonl", "--model", "m", "x=1"], "unrecognized arguments: x=1"),
    ],
)
def test_usage_errors(capsys: Capture, arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_help_and_config_load_no_torch() -> None:
    program = (
        "import sys; from asr.cli import main; main(['config', 'train.epochs=1']); "
        "print({'torch', 'numba', 'librosa', 'matplotlib'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "set()\n")


# --- config -----------------------------------------------------------------------------------------------------------


def test_config_prints_what_loads_back(capsys: Capture, tmp_path: Path) -> None:
    overrides = ("augment.speeds=[0.8, 1.25]", "encoder.cell=gru", "data.train=/a b/ü.jsonl", "text.allow_oov=true")
    out, err = succeed(capsys, "config", *overrides)
    assert err == ""
    (tmp_path / "c.yaml").write_text(out)
    loaded = config.load(tmp_path / "c.yaml")
    assert loaded == config.load(None, overrides)
    assert loaded != Config()
    assert loaded.data.train == "/a b/ü.jsonl"
    assert loaded.augment.speeds == (0.8, 1.25)
    assert succeed(capsys, "config", tmp_path / "c.yaml")[0] == out


def test_config_without_arguments_is_the_built_in_one(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(succeed(capsys, "config")[0])
    assert config.load(tmp_path / "c.yaml") == Config()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_key_value_anywhere(capsys: Capture, tmp_path: Path, order: tuple[int, ...]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("train:\n  epochs: 5\n  seed: 6\n")
    given = [str(path), "train.epochs=7", "data.train=/x//y=z.jsonl"]
    out, _ = succeed(capsys, "config", *[given[place] for place in order])
    for line in ("  epochs: 7\n", "  seed: 6\n", "  train: /x//y=z.jsonl\n"):
        assert line in out


def test_the_last_of_equal_keys_counts(capsys: Capture) -> None:
    assert "  epochs: 3\n" in succeed(capsys, "config", "train.epochs=2", "train.epochs=3")[0]


def test_configuration_in_a_folder_with_an_equals_sign(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "rate=3" / "c.yaml"
    path.parent.mkdir()
    path.write_text("train:\n  epochs: 5\n")
    assert "  epochs: 5\n" in succeed(capsys, "config", path)[0]


# --- transcribe -------------------------------------------------------------------------------------------------------


def test_transcribe_txt_and_json(capsys: Capture, run: Path, tmp_path: Path) -> None:
    first = write_audio(tmp_path / "b ü 音.wav", 0.75)
    second = write_audio(tmp_path / "a.flac", 1.5)
    out, err = succeed(capsys, "transcribe", first, second, "--model", run)
    assert err == ""
    pairs = [line.split("\t") for line in out.splitlines()]
    assert [path for path, _ in pairs] == [str(first), str(second)]
    assert all(text and set(text) <= set(" abcdefgh") for _, text in pairs)

    out, err = succeed(capsys, "transcribe", tmp_path, "--model", run, "--format", "json", "--batch-s", "1")
    assert err == ""
    records = [json.loads(line) for line in out.splitlines()]
    assert [(record["audio_filepath"], record["duration"], record["text"]) for record in records] == [
        (str(second), 1.5, pairs[1][1]),
        (str(first), 0.75, pairs[0][1]),
    ]
    assert "b ü 音.wav" in out  # readable, not escaped
    for record in records:
        assert [word["text"] for word in record["words"]] == record["text"].split()
        times = [time_s for word in record["words"] for time_s in (word["start_s"], word["end_s"])]
        assert times == sorted(times)
        assert times[-1] <= record["duration"] + 0.1
        assert all(0 <= word["confidence"] <= 1 for word in (record, *record["words"]))
        assert record["score"] < 0
        assert "n_best" not in record


def test_transcribe_a_name_that_is_not_text(capsys: Capture, run: Path, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    try:
        path.touch()
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    path.write_bytes(write_audio(tmp_path / "a.wav").read_bytes())
    assert succeed(capsys, "transcribe", path, "--model", run)[0].startswith(f"{tmp_path}/caf\\udce9.wav\t")
    out, _ = succeed(capsys, "transcribe", path, "--model", run, "--format", "json")
    assert json.loads(out)["audio_filepath"] == str(path)


ARPA = """\\data\\
ngram 1=5

\\1-grams:
-1\t<unk>
-99\t<s>
-0.5\t</s>
-0.3\tab
-0.9\tcab

\\end\\
"""


def test_a_flag_of_the_beam_takes_the_beam(capsys: Capture, run: Path, tmp_path: Path) -> None:
    audio, lm = write_audio(tmp_path / "a.wav"), tmp_path / "lm.arpa"
    lm.write_text(ARPA)
    out, err = succeed(capsys, "transcribe", audio, "--model", run, "--lm", lm, "--alpha", "1", "--beta", "0")
    assert err == f"decoder: beam of 100, language model {lm} (alpha 1, beta 0)\n"
    (tmp_path / "words.txt").write_text("ab\ncab\n")
    out, err = succeed(capsys, "transcribe", audio, "--model", run, "--lexicon", tmp_path / "words.txt")
    assert set(out.rstrip("\n").split("\t")[1].split()) <= {"ab", "cab"}
    command = ("transcribe", audio, "--model", run, "--n-best", "3", "--format", "json")
    out, err = succeed(capsys, *command)
    assert err == "decoder: beam of 100\n"
    record = json.loads(out)
    scores = [item["score"] for item in record["n_best"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert record["n_best"][0]["text"] == record["text"]


def test_a_run_folder_that_names_its_decoder(capsys: Capture, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", "decode.decoder=beam", "decode.lm=lm.arpa", "decode.alpha=0.7")
    (run / "lm.arpa").write_text(ARPA)
    audio = write_audio(tmp_path / "a.wav")
    _, err = succeed(capsys, "transcribe", audio, "--model", run, "--beta", "2")
    assert err == f"decoder: beam of 100, language model {run / 'lm.arpa'} (alpha 0.7, beta 2)\n"
    assert succeed(capsys, "transcribe", audio, "--model", run, "--decoder", "greedy")[1] == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--alpha", "1"], "--alpha does nothing without a language model: give --lm FILE"),
        (["--decoder", "greedy", "--beam-size", "3"], "--beam-size needs --decoder beam, found --decoder greedy"),
        (
            ["--decoder", "greedy", "--n-best", "3", "--format", "json"],
            "--n-best needs --decoder beam, found --decoder",
        ),
        (["--n-best", "2"], "--n-best above 1 needs --format json"),
        (["--n-best", "0"], "--n-best must be at least 1, found 0"),
        (["--beam-size", "0"], "decode.beam_size must be in 1..100000, found 0"),
        (["--lm", "none.arpa"], "none.arpa: cannot be read: No such file or directory"),
        (["--lexicon", "none.txt"], "none.txt: cannot be read: No such file or directory"),
    ],
)
def test_decoder_flags_that_cannot_be(capsys: Capture, run: Path, flags: list[str], message: str) -> None:
    assert main(["transcribe", "a.wav", "--model", str(run), *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1


# --- evaluate ---------------------------------------------------------------------------------------------------------


def test_evaluate(capsys: Capture, run: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.jsonl", "Abc, abc!", "a b c", "xyz")
    recognised = succeed(capsys, "transcribe", tmp_path / "a.wav", "--model", run)[0].rstrip("\n").split("\t")[1]
    out, err = succeed(capsys, "evaluate", manifest, "--model", run, "--out", tmp_path / "out")
    assert out.startswith("WER ")
    assert " / 6, " in out  # words of the references
    assert len(out.splitlines()) == 1
    assert err == f"{tmp_path / 'out'}: hypotheses.jsonl, report.txt\n"
    assert (tmp_path / "out" / "report.txt").read_text().splitlines()[0] == out.rstrip("\n")
    results = read_hypotheses(tmp_path / "out" / "hypotheses.jsonl")
    assert [result.id for result in results] == ["u0", "u1", "u2"]
    assert [result.reference for result in results] == ["abc abc", "a b c", "xyz"]
    assert {result.hypothesis for result in results} == {recognised}  # the same audio
    assert [result.speaker for result in results] == ["s0", "s1", "s2"]


def test_evaluate_keeps_log_probabilities(capsys: Capture, run: Path, tmp_path: Path) -> None:
    manifest, kept = write_manifest(tmp_path / "m.jsonl", "Abc, abc!", "a b c"), tmp_path / "kept" / "m.npz"
    command = ("evaluate", manifest, "--model", run, "--out", tmp_path / "out", "--emissions")
    out, _ = succeed(capsys, *command, kept)
    printed, err = succeed(capsys, "decode", kept)
    results = read_hypotheses(tmp_path / "out" / "hypotheses.jsonl")
    assert printed == "".join(f"{result.id}\t{result.hypothesis}\n" for result in results)
    assert err.split(" 95%")[0] == out.split(" 95%")[0]  # speakers are not kept, so that intervals differ
    assert main([str(argument) for argument in (*command, tmp_path / "m.bin")]) == 2
    assert capsys.readouterr().err.endswith("m.bin: the name of a file of log-probabilities must end in .npz\n")


def test_evaluate_writes_into_the_run_folder_by_default(capsys: Capture, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    succeed(capsys, "evaluate", write_manifest(tmp_path / "test-clean.jsonl", "abc"), "--model", run)
    assert sorted(path.name for path in (run / "test-clean").iterdir()) == ["hypotheses.jsonl", "report.txt"]


# --- compare ----------------------------------------------------------------------------------------------------------


def write_hypotheses(path: Path, *hypotheses: str) -> Path:
    path.write_text(
        "".join(
            json.dumps({"id": f"u{i}", "speaker": None, "reference": "a b c d", "hypothesis": text, "duration": 1.0})
            + "\n"
            for i, text in enumerate(hypotheses)
        )
    )
    return path


def test_compare(capsys: Capture, tmp_path: Path) -> None:
    a = write_hypotheses(tmp_path / "a.jsonl", "a b c d", "a b x d", "a b c")
    b = write_hypotheses(tmp_path / "b.jsonl", "a b c d", "a b c d", "a b c d")
    out, err = succeed(capsys, "compare", a, b)
    assert err == ""
    assert f"{a}: WER 16.67% [2 / 12, 0 ins, 1 del, 1 sub]\n" in out
    assert f"{b}: WER 0.00% [0 / 12, 0 ins, 0 del, 0 sub]\n" in out
    assert f"{b} is better" in out
    assert "have the same word error rate" in succeed(capsys, "compare", a, a)[0]


# --- prepare and train ------------------------------------------------------------------------------------------------


def test_prepare_and_train(capsys: Capture, tmp_path: Path) -> None:
    """The way of a user with recordings of their own, one epoch long."""
    for number in range(4):
        write_audio(tmp_path / f"{number}.wav")
    table = tmp_path / "my.csv"
    table.write_text("audio,text,speaker\n" + "".join(f"{number}.wav,ab ba,s{number}\n" for number in range(4)))
    data, out = tmp_path / "data", tmp_path / "run"
    printed, _ = succeed(capsys, "prepare", "csv", "--source", table, "--out", data, "--dev-share", "0.25")
    assert "train" in printed
    assert "dev" in printed

    (tmp_path / "conf.yaml").write_text(
        "features: {mel_bins: 16}\n"
        "encoder: {layers: 1, width: 8, conv_channels: 4}\n"
        "train: {workers: 0, threads: 1, device: cpu}\n"
    )
    manifests = (f"data.train={data / 'train.jsonl'}", f"data.dev={data / 'dev.jsonl'}")
    command = ("train", manifests[0], tmp_path / "conf.yaml", "--out", out, "train.epochs=1", manifests[1])
    assert succeed(capsys, *command)[0] == f"trained: {out}, dev WER 100.00% after epoch 1\n"
    assert main([str(argument) for argument in command]) == 2
    assert "already holds a run; --resume goes on with it" in capsys.readouterr().err
    assert len(succeed(capsys, "transcribe", tmp_path / "0.wav", "--model", out)[0].splitlines()) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["conf.yaml"], "--resume RUN brings its own configuration and folder; leave CONF and --out away"),
        (["train.epochs=3", "conf.yaml"], "--resume RUN brings its own configuration and folder; leave CONF and --out"),
        (["--out", "x"], "--resume RUN brings its own configuration and folder; leave CONF and --out away"),
        (["encoder.width=9"], "holds a run with encoder.width=8, which cannot go on with 9"),
        (["data.train=/x/y.jsonl"], "holds a run with data.train='', which cannot go on with '/x/y.jsonl'"),
    ],
)
def test_resume_with_something_else(capsys: Capture, run: Path, more: list[str], message: str) -> None:
    assert main(["train", "--resume", str(run), *more]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1


def test_decoding_may_change_on_resume(capsys: Capture, run: Path) -> None:
    """The run has no data: what is refused is that, and no longer the decoder."""
    assert main(["train", "--resume", str(run), "decode.decoder=beam", "decode.alpha=3"]) == 2
    assert capsys.readouterr().err.startswith("error: data.train is not set")


def test_resume_of_no_run(capsys: Capture, tmp_path: Path) -> None:
    assert main(["train", "--resume", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'}: model folder is missing\n"


# --- the process ------------------------------------------------------------------------------------------------------


def test_exit_code_of_a_training_that_was_stopped(capsys: Capture) -> None:
    def stopped() -> int:
        raise Interrupted("stopped by SIGTERM, state saved", signal.SIGTERM)

    assert run_command(stopped) == 128 + 15
    assert capsys.readouterr().err == "stopped by SIGTERM, state saved\n"


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
