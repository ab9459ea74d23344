"""A model whose weights are the mean of others: which ones have a mean, and what becomes of it."""

from pathlib import Path

import pytest
import torch

from asr import checkpoint
from asr.errors import CheckpointError, ConfigError
from asr.files import whole_folder
from asr.text import BLANK_NAME, Tokenizer
from asr.training.average import average
from tiny_run import error_line, save_run, succeed, write_audio


def save_near(folder: Path, seed: int, share: float = 0.1, *overrides: str) -> Path:
    """A run whose weights are those of `save_run`, each moved at random by so much of its tensor's spread."""
    run = save_run(folder, "features.normalization=global", *overrides)
    model = checkpoint.load(run)
    generator = torch.Generator().manual_seed(seed)
    moved = {
        name: tensor + share * torch.randn(tensor.shape, generator=generator) * tensor.std(correction=0)
        for name, tensor in model.state_dict().items()
    }
    checkpoint.save_weights(run, moved, {"step": 0})
    return run


def test_each_weight_is_the_mean(tmp_path: Path) -> None:
    runs = [save_near(tmp_path / str(seed), seed) for seed in range(3)]
    average(runs, tmp_path / "mean")
    found = checkpoint.load(tmp_path / "mean").state_dict()
    states = [checkpoint.load(run).state_dict() for run in runs]
    assert any(name.startswith("normalizer.") for name in found)
    for name, tensor in found.items():
        wanted = sum(state[name].double() for state in states) / 3
        torch.testing.assert_close(tensor.double(), wanted, rtol=0, atol=1e-6 * max(1, float(tensor.abs().max())))
    facts = checkpoint.load_facts(tmp_path / "mean" / checkpoint.WEIGHTS_FILE)
    assert facts["averaged"] == ["0", "1", "2"]  # beside it


def test_the_command_writes_a_run_that_others_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = save_near(tmp_path / "one", 1, 0.1, "decode.decoder=beam", "decode.alpha=0.7", "train.seed=9")
    other, out = save_near(tmp_path / "other", 2), tmp_path / "mean"
    assert succeed(capsys, "average", one, other, "-o", out)[1] == f"{out}: the mean of 2 models\n"
    settings = checkpoint.load_config(out)
    assert settings.train.seed == 9
    assert settings.decode.decoder == "greedy"
    assert settings.decode.alpha != 0.7
    succeed(capsys, "transcribe", "--model", out, write_audio(tmp_path / "a.wav"))
    line = error_line(capsys, "average", one, other, "-o", out)
    assert line == f"error: {out}: is not empty; choose another folder"


def test_of_equal_models_nothing_is_lost(tmp_path: Path) -> None:
    one = save_near(tmp_path / "one", 1)
    (tmp_path / ".mean.unfinished" / "old").mkdir(parents=True)  # of an earlier attempt
    average([one, one, one], tmp_path / "mean")
    mean, single = (checkpoint.load(run).state_dict() for run in (tmp_path / "mean", one))
    assert all(torch.equal(mean[name], single[name]) for name in mean)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mean", "one"]
    assert not (tmp_path / "mean" / "old").exists()


def test_into_the_current_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [save_near(tmp_path / str(seed), seed) for seed in range(2)]
    (tmp_path / "mean").mkdir()
    monkeypatch.chdir(tmp_path / "mean")
    succeed(capsys, "average", *runs, "-o", ".")
    checkpoint.load(tmp_path / "mean")


def test_into_a_linked_folder_and_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    runs = [save_near(tmp_path / str(seed), seed) for seed in range(2)]
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    average(runs, tmp_path / "link")
    checkpoint.load(tmp_path / "empty")
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "new"):
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "empty", "link"]


def test_what_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = save_near(tmp_path / "one", 1), save_near(tmp_path / "other", 2)
    before = (one / checkpoint.WEIGHTS_FILE).read_bytes()
    assert error_line(capsys, "average", one, other, "-o", one).endswith("one: is not empty; choose another folder")
    assert (one / checkpoint.WEIGHTS_FILE).read_bytes() == before
    begun = tmp_path / "begun"
    (begun / "states").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="begun: is not empty"):
        average([one, other], begun)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file: is a file, wanted a folder"):
        average([one, other], tmp_path / "file")


def test_runs_without_a_mean_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, out = save_near(tmp_path / "one", 1), tmp_path / "mean"
    with pytest.raises(ConfigError, match="wanted two or more runs to average, found 1"):
        average([one], out)
    wider = save_run(tmp_path / "wider", "features.normalization=global", "encoder.width=9")
    line = error_line(capsys, "average", one, wider, "-o", out)
    assert line == f"error: {wider}: encoder.width is 9, but 8 in {one}"
    labels = save_near(tmp_path / "labels", 1)
    Tokenizer([BLANK_NAME, " ", *"abcdefgi"], checkpoint.load_config(labels).text).save(labels)
    with pytest.raises(ConfigError, match=r"labels: label 9 is 'i', but 'h' in .*one"):
        average([one, labels], out)
    Tokenizer([BLANK_NAME, " ", *"abcdefg"], checkpoint.load_config(labels).text).save(labels)
    with pytest.raises(CheckpointError, match="labels"):  # nor would it be loaded
        average([one, labels], out)
    far = save_near(tmp_path / "far", 2, share=10.0)
    with pytest.raises(ConfigError, match=r"far: its weights are not near those of .*one \(cosine -?0\.[0-3]"):
        average([one, far], out)
    with pytest.raises(CheckpointError, match="run folder is missing"):
        average([one, tmp_path / "nowhere"], out)
    assert not out.exists()


def test_what_training_alone_reads_may_differ(tmp_path: Path) -> None:
    one = save_near(tmp_path / "one", 1, 0.1, "encoder.dropout=0.1", "train.epochs=3", "augment.warp=0")
    other = save_near(tmp_path / "other", 2, 0.1, "encoder.dropout=0.4", "features.high_hz=8000")
    with pytest.raises(ConfigError, match=r"features\.high_hz is 8000"):
        average([one, other], tmp_path / "mean")
    average([one, save_near(tmp_path / "third", 3)], tmp_path / "mean")


def test_one_spelling_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels alike may be of another lexicon, or another model of pieces."""
    runs = [save_near(tmp_path / str(seed), seed) for seed in range(2)]
    monkeypatch.setattr(Tokenizer, "digest", lambda tokenizer: str(id(tokenizer)))
    with pytest.raises(ConfigError, match=r"1: it does not spell words in labels as .*0 does"):
        average(runs, tmp_path / "mean")
