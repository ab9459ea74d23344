"""The recipes' stages: complete ones are skipped, interrupted ones go on, other settings are refused."""

from pathlib import Path

import pytest

from asr import checkpoint, recipe
from asr.config import Config
from asr.errors import ConfigError, CorpusError
from tones import tiny, write_corpus

WORDS = ["ab", "ba", "abba"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A prepared corpus of tones."""
    folder = tmp_path / "data"
    for split in ("train", "dev", "test"):
        write_corpus(folder, WORDS, name=split)
    return folder


def settings(data: Path, *overrides: str) -> Config:
    return tiny(data / "train.jsonl", data / "dev.jsonl", "train.epochs=2", *overrides)


def test_a_complete_experiment_is_not_run_again(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = data.parent / "model"
    recipe.run_experiment(data, model, settings(data))
    first = capsys.readouterr()
    assert first.out.startswith("test: WER ")
    assert "skipped" not in first.err
    before = (model / checkpoint.WEIGHTS_FILE).stat().st_mtime_ns
    recipe.run_experiment(data, model, settings(data))
    again = capsys.readouterr()
    assert again.out == first.out
    assert f"[train: complete in {model}, skipped]" in again.err
    assert f"[score: complete in {model / 'test'}, skipped]" in again.err
    assert (model / checkpoint.WEIGHTS_FILE).stat().st_mtime_ns == before


def test_other_settings_in_the_same_folder_are_refused(data: Path) -> None:
    model = data.parent / "model"
    recipe.run_experiment(data, model, settings(data))
    with pytest.raises(ConfigError, match=r"train\.seed=1, which cannot go on with 2"):
        recipe.run_experiment(data, model, settings(data, "train.seed=2"))


def test_newer_weights_are_scored_again(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = data.parent / "model"
    recipe.run_experiment(data, model, settings(data))
    (model / checkpoint.WEIGHTS_FILE).touch()
    capsys.readouterr()
    recipe.score_stage(model, data / "test.jsonl", model / "test")
    assert "skipped" not in capsys.readouterr().err


def test_a_run_that_died_before_its_first_checkpoint_starts_again(data: Path) -> None:
    model = data.parent / "model"
    recipe.run_experiment(data, model, settings(data))
    for name in (checkpoint.STATE_FILE, checkpoint.WEIGHTS_FILE):
        (model / name).unlink()
    recipe.train_stage(model, recipe.with_data(settings(data), data))
    assert checkpoint.load(model)


def test_prepared_data_is_not_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def make() -> str:
        (tmp_path / "summary.json").write_text("{}")
        return "a table"

    recipe.prepare_stage(tmp_path, make, {"source": "/a", "part": "x"})
    assert "a table" in capsys.readouterr().err
    recipe.prepare_stage(tmp_path, make, {"source": None, "part": "x"})
    assert capsys.readouterr().err == f"[prepare: complete in {tmp_path}, skipped]\n"
    with pytest.raises(CorpusError, match=r"was made from part=x, not y"):
        recipe.prepare_stage(tmp_path, make, {"source": "/a", "part": "y"})


def test_a_language_model_of_the_training_transcripts(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, tuned = data.parent / "model", data.parent / "model-lm"
    recipe.run_experiment(data, model, settings(data))
    greedy_config = (model / checkpoint.CONFIG_FILE).read_bytes()
    recipe.language_model_stage(data, model, tuned, order=2)
    assert (model / checkpoint.CONFIG_FILE).read_bytes() == greedy_config
    assert checkpoint.load_config(tuned).decode.decoder == "beam"
    assert sorted(checkpoint.load(tuned).decoder.resources.lm.words) == ["</s>", "<s>", "<unk>", "ab", "abba", "ba"]
    recipe.score_stage(tuned, data / "test.jsonl", tuned / "test")
    capsys.readouterr()
    recipe.language_model_stage(data, model, tuned, order=2)
    assert capsys.readouterr().err == f"[language model: complete in {tuned}, skipped]\n"
