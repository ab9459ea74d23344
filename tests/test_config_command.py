"""`asr config`: the whole configuration, from a file and `key=value` in any order."""

import itertools
from pathlib import Path

import pytest

from asr import config
from asr.config import Config
from tiny_run import succeed

Capture = pytest.CaptureFixture[str]


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
