"""The stages of recipes/an4, on the language of tones."""

import json
from pathlib import Path

import pytest

from asr import checkpoint
from asr.manifest import read_manifest
from recipes.an4 import run as an4
from tones import TINY, write_corpus

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a recipe whose corpus is prepared and whose cycles are short."""
    data = tmp_path / "out" / "data"
    for split in ("train", "dev", "test"):
        write_corpus(data, ["ab cab", "ba", "abba"], name=split)
    (data / "summary.json").write_text("{}")
    (data / "made_from.json").write_text(json.dumps({"source": None}))
    conf = tmp_path / "tiny.yaml"
    conf.write_text("train: {epochs: 2}\n")
    monkeypatch.setattr(an4, "CUTTER", ("encoder.subsampling=4",))
    monkeypatch.setattr(an4, "FIRST", ("train.epochs=2",))
    monkeypatch.setattr(an4, "SECOND", ("train.epochs=1",))
    monkeypatch.setattr(an4, "SPLICED_HOURS", (0.002, 0.004))
    monkeypatch.setattr(an4, "AGAIN", ("train.epochs=1",))
    return ["run.py", "--out", str(tmp_path / "out"), "--conf", str(conf), *TINY]


def scores(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("test: WER ")]


def test_the_model_is_trained_on_what_the_cutter_makes(
    arguments: list[str], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", arguments)
    assert an4.run() == 0
    first = scores(capsys.readouterr().out)
    greedy, beam = first
    assert greedy.endswith("; greedy")
    assert "beam of 100" in beam
    out = tmp_path / "out"
    runs = {name: checkpoint.load_config(out / name) for name in ("cutter-1", "cutter-2", "model-1", "model")}
    assert {name: settings.train.init_from for name, settings in runs.items()} == {
        "cutter-1": "",
        "cutter-2": str(out / "cutter-1"),
        "model-1": "",
        "model": str(out / "model-1"),
    }
    sizes = [len(read_manifest(runs[name].data.train)) for name in ("cutter-1", "model-1", "model")]
    assert sizes[0] == 3 < sizes[1] < sizes[2]
    monkeypatch.setattr("sys.argv", arguments)
    assert an4.run() == 0
    again = capsys.readouterr()
    assert scores(again.out) == first
    assert again.err.count("skipped") == 10  # corpus, cutter and model twice, splice twice, two scores, language model
