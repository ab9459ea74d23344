"""Training that starts from another run's weights."""

import shutil
from pathlib import Path

import pytest
import torch

from asr import checkpoint, config, stages
from asr.errors import CheckpointError, ConfigError
from asr.recognizer import Recognizer
from asr.text import BLANK_NAME, Tokenizer
from asr.train import Trainer
from asr.training.finetune import start_from
from tiny_run import save_run
from tones import tiny, write_corpus


def recognizer_like(folder: Path, letters: str, *overrides: str) -> Recognizer:
    settings = config.load(folder / checkpoint.CONFIG_FILE, overrides)
    torch.manual_seed(8)
    return Recognizer(settings, Tokenizer([BLANK_NAME, " ", *letters], settings.text))


def test_labels_in_common_keep_their_rows(tmp_path: Path) -> None:
    source = checkpoint.load(save_run(tmp_path))
    started = recognizer_like(tmp_path, "xbaz")
    drawn = started.encoder.output.weight[2].clone()
    assert start_from(started, tmp_path).new == ["x", "z"]
    found, wanted = started.encoder.state_dict(), source.encoder.state_dict()
    for name in wanted:
        if not name.startswith("output."):
            assert torch.equal(found[name], wanted[name]), name
    columns = {token: row for row, token in enumerate(source.tokenizer.tokens)}
    for row, token in enumerate(started.tokenizer.tokens):
        if token in columns:
            assert torch.equal(found["output.weight"][row], wanted["output.weight"][columns[token]])
            assert torch.equal(found["output.bias"][row], wanted["output.bias"][columns[token]])
    assert torch.equal(found["output.weight"][2], drawn)


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    save_run(tmp_path)
    wider = recognizer_like(tmp_path, "ab", "encoder.width=12")
    with pytest.raises(ConfigError, match=r"encoder\.width is 8 in that run, but 12 in this one"):
        start_from(wider, tmp_path)
    slower = recognizer_like(tmp_path, "ab", "audio.sample_rate_hz=8000")
    with pytest.raises(ConfigError, match=r"audio\.sample_rate_hz is 16000 in that run, but 8000 in this one"):
        start_from(slower, tmp_path)
    with pytest.raises(CheckpointError, match=r"^train\.init_from: .*: run folder is missing"):
        start_from(wider, tmp_path / "nowhere")


def test_a_run_starts_there_and_is_resumed_without_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_corpus(tmp_path, ["ab", "cab"])
    Trainer(tiny(manifest, manifest, "train.epochs=1"), tmp_path / "first").run()
    again = (f"train.init_from={tmp_path / 'first'}", "train.learning_rate=1e-9", "train.epochs=1")
    second = Trainer(tiny(manifest, manifest, *again), tmp_path / "second")
    trained = checkpoint.load(tmp_path / "first").encoder.state_dict()
    for name, tensor in second.learner.recognizer.encoder.state_dict().items():
        assert torch.equal(tensor, trained[name]), name
    second.run()
    assert "starting from the weights of" in capsys.readouterr().err
    (tmp_path / "first" / checkpoint.WEIGHTS_FILE).unlink()
    Trainer(checkpoint.load_config(tmp_path / "second"), tmp_path / "second", resume=True)


def test_the_labels_of_a_run_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, few = write_corpus(tmp_path, ["ab", "cab"]), write_corpus(tmp_path / "few", ["ba"])
    first = tmp_path / "first"
    Trainer(tiny(manifest, manifest, "train.epochs=1"), first).run()
    start = f"train.init_from={first}"
    capsys.readouterr()
    Trainer(tiny(few, few, start, "train.epochs=1"), tmp_path / "lost").run()
    said = capsys.readouterr().err
    assert "0 labels are new to that model, 1 of its own are lost" in said
    assert f" (data.vocabulary={first} keeps them, if its labels can spell all transcripts)" in said
    other = Trainer(tiny(few, few, start, "text.case=upper", "train.epochs=1"), tmp_path / "other")
    (told,) = [note for note in other.notes if note.startswith("starting from the weights of")]
    assert told.endswith("2 labels are new to that model, 3 of its own are lost")  # they cannot be kept
    kept = Trainer(tiny(few, few, start, f"data.vocabulary={first}", "train.epochs=1"), tmp_path / "kept")
    assert kept.outset.recognizer.tokenizer.tokens == checkpoint.load(first).tokenizer.tokens
    kept.run()
    assert "0 labels are new to that model\n" in capsys.readouterr().err
    shutil.rmtree(first)  # it has its own labels by now
    stages.train_stage(tmp_path / "kept", kept.config)
    assert "[train: complete in" in capsys.readouterr().err
    Trainer(kept.config, tmp_path / "kept", resume=True)


def test_labels_of_another_kind_are_refused(tmp_path: Path) -> None:
    manifest, run = write_corpus(tmp_path, ["ab", "cab"]), save_run(tmp_path / "run")
    with pytest.raises(
        ConfigError, match=r"data\.vocabulary=.*run: text\.case is lower in that run, but upper in this one"
    ):
        Trainer(tiny(manifest, manifest, f"data.vocabulary={run}", "text.case=upper"), tmp_path / "out")
    Trainer(tiny(manifest, manifest, f"data.vocabulary={run}", "text.bpe_size=99"), tmp_path / "out")  # of no effect
    for text in ("text.unit=bpe", "text.punctuation=keep"):
        with pytest.raises(ConfigError, match=f"data.vocabulary=.*: {text.partition('=')[0]} is .* in that run"):
            Trainer(tiny(manifest, manifest, f"data.vocabulary={run}", text), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"text\.letters is empty in that run, but ! in this one"):
        Trainer(tiny(manifest, manifest, f"data.vocabulary={run}", "text.letters=!"), tmp_path / "out")
    conf = run / checkpoint.CONFIG_FILE
    conf.write_text(conf.read_text().replace("unit: char", "unit: bpe"))
    with pytest.raises(ConfigError, match=r"text\.bpe_size is 128 in that run, but 99 in this one"):
        Trainer(
            tiny(manifest, manifest, f"data.vocabulary={run}", "text.unit=bpe", "text.bpe_size=99"), tmp_path / "out"
        )
    with pytest.raises(CheckpointError, match=r"^data\.vocabulary: .*not a run folder"):
        Trainer(tiny(manifest, manifest, f"data.vocabulary={tmp_path}"), tmp_path / "out")
