"""`asr prepare` and `asr train` as a user types them; what may differ on `--resume`."""

import os
from pathlib import Path

import pytest

from asr.cli import main
from asr.config import Config, DecodeConfig, to_yaml
from asr.errors import ConfigError
from tiny_run import error_line, save_run, succeed, write_audio
from tones import tiny, write_corpus

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


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
    assert "already holds a run; --resume goes on with it" in error_line(capsys, *command)
    before = {path: path.read_bytes() for path in out.iterdir() if path.is_file()}
    printed, err = succeed(capsys, "train", "--resume", out)
    assert printed == f"trained: {out}, dev WER 100.00% after epoch 1\n"
    assert err.startswith(f"{out}: was trained to its last epoch, 1; nothing is left to do\nnote: hardly a word of dev")
    assert {path: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    hint = f"asr train {out / 'config.yaml'} train.epochs=2 --out OTHER"
    line = error_line(capsys, "train", "--resume", out, "train.epochs=2")
    assert (
        line
        == f"error: {out}: its learning rate falls over train.epochs=1, so it cannot go on to 2; train anew: {hint}"
    )
    longer = [str(tmp_path / "longer") if word == "OTHER" else word for word in hint.split()[1:]]
    assert "after epoch" in succeed(capsys, *longer)[0]
    assert len(succeed(capsys, "transcribe", tmp_path / "0.wav", "--model", out)[0].splitlines()) == 1

    advised = {"": "more epochs, on more recordings or with the labels of its first", out: "more epochs or on more"}
    for labels, advice in advised.items():
        again = ("train", out / "config.yaml", f"train.init_from={out}", f"data.vocabulary={labels}")
        err = succeed(capsys, *again, "--out", tmp_path / f"again{bool(labels)}")[1]
        assert f"note: hardly a word of dev is recognised: train for {advice}" in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["conf.yaml"], "--resume RUN has its own configuration and folder; leave out CONF and --out"),
        (
            ["train.epochs=3", "conf.yaml"],
            "--resume RUN has its own configuration and folder; leave out CONF and --out",
        ),
        (["--out", "x"], "--resume RUN has its own configuration and folder; leave out CONF and --out"),
        (["encoder.width=9"], "holds a run with encoder.width=8, which cannot go on with 9"),
        (["train.seed=2"], "holds a run with train.seed=1, which cannot go on with 2"),
        (["data.train=/x/y.jsonl"], "is a model without its training"),
        (
            ["decode.alpha=3"],
            "decode.alpha=3: changes nothing in training and is not kept; asr tune RUN chooses a decoder",
        ),
    ],
)
def test_resume_with_something_else(capsys: Capture, run: Path, more: list[str], message: str) -> None:
    assert main(["train", "--resume", str(run), *more]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_restart_by_torchrun_goes_on_only_with_what_it_began(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf, out = tmp_path / "conf.yaml", tmp_path / "run"
    corpus = write_corpus(tmp_path, ["ab", "ba"])
    conf.write_text(to_yaml(tiny(corpus, corpus, "train.epochs=1")))
    parent = os.getppid()
    for number, name in enumerate(("one", "none")):
        command = ("train", conf, "--out", f"{out}-{number}")
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", name)
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
        succeed(capsys, *command)
        assert "already holds a run" in error_line(capsys, *command)
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
        assert "nothing is left to do" in succeed(capsys, *command)[1]
        if name == "none":
            monkeypatch.setattr("os.getppid", lambda: parent + 1)
        else:
            monkeypatch.setenv("TORCHELASTIC_RUN_ID", "two")
        assert "already holds a run" in error_line(capsys, *command)
        assert "nothing is left to do" in succeed(capsys, *command, "--auto-resume")[1]


def test_a_file_in_place_of_the_run_folder_is_found_first(capsys: Capture, tmp_path: Path) -> None:
    """Before the data, of which there are none, are read."""
    (tmp_path / "x").write_text("")
    for out in (tmp_path / "x", tmp_path / "x" / "run"):
        line = error_line(capsys, "train", "data.train=none.jsonl", "--out", out)
        assert line.startswith(f"error: {tmp_path / 'x'}: is a file, wanted a folder")


def test_a_configuration_that_no_training_wrote_is_not_replaced(capsys: Capture, tmp_path: Path) -> None:
    corpus, conf = write_corpus(tmp_path, ["ab", "ba"]), tmp_path / "config.yaml"
    written = to_yaml(tiny(corpus, corpus, "train.epochs=1")) + "# mine\n"
    conf.write_text(written)
    line = error_line(capsys, "train", conf, "--out", tmp_path)
    assert line.startswith(f"error: {tmp_path}: holds a config.yaml of other origin, which would be replaced")
    assert conf.read_text() == written


def test_names_that_are_not_utf8(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / os.fsdecode(b"b\xffd")
    folder.mkdir()
    shown = repr(str(folder))[:-1]
    line = error_line(capsys, "train", "data.train=none.jsonl", "--out", folder / "run")
    assert line == f"error: --out must be a name in UTF-8, found {shown}/run'"
    assert "error: --resume must be a name in UTF-8" in error_line(capsys, "train", "--resume", folder)
    monkeypatch.chdir(folder)
    line = error_line(capsys, "train", "data.train=train.jsonl", "--out", tmp_path / "run")
    assert line == f"error: data.train must be a name in UTF-8, found {shown}/train.jsonl'"


def test_resume_of_no_run(capsys: Capture, tmp_path: Path) -> None:
    assert main(["train", "--resume", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'}: run folder is missing\n"


def test_a_new_run_from_the_configuration_of_a_tuned_one(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no decoder but what the command line says: what was tuned for one model is not another's."""
    seen = []

    def stopped(settings: Config, out: Path) -> None:
        seen.append(settings.decode)
        raise ConfigError("stopped")

    monkeypatch.setattr("asr.train.Trainer", stopped)
    monkeypatch.chdir(tmp_path)
    run = save_run(tmp_path / "run", "decode.decoder=beam", "decode.lm=lm.bin", "decode.lexicon=lexicon.txt")
    assert main(["train", "run/config.yaml", "--out", "new", "decode.lexicon=words.txt"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "note: run keeps its decoder; asr tune gives the new run one of its own",
        "error: stopped",
    ]
    (tmp_path / "config.yaml").write_bytes((run / "config.yaml").read_bytes())  # in no run folder
    error_line(capsys, "train", "config.yaml", "--out", "new")
    assert seen[0] == DecodeConfig(lexicon=str(tmp_path / "words.txt"))
    assert seen[1].lm == str(tmp_path / "lm.bin")
