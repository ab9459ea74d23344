"""The stages of recipes/speechocean, on the language of tones."""

from pathlib import Path

import pytest

from asr import checkpoint
from asr.manifest import read_manifest
from recipes.speechocean import run as speechocean
from tones import recipe_arguments, write_corpus


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a recipe whose corpus is prepared, and that starts from nothing."""
    monkeypatch.setattr(speechocean, "OTHERS", ("train.epochs=1", "train.skip_unusable=true", "text.allow_oov=true"))
    monkeypatch.setattr(speechocean, "LAST", ("train.epochs=1",))
    return [*recipe_arguments(tmp_path), "train.init_from="]


def test_other_recordings_and_texts(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", arguments)
    assert speechocean.run() == 0
    out = tmp_path / "out"
    assert checkpoint.load_config(out / "model").data.train == str(out / "data" / "train.jsonl")
    manifest = write_corpus(tmp_path / "elsewhere", ["cab", "ab ba"], name="other")
    manifest.write_text(manifest.read_text().replace("ab ba", "ab b'a"))
    text = tmp_path / "text.txt"
    text.write_text("bab ab\n")
    monkeypatch.setattr("sys.argv", [*arguments, "--outside", str(manifest), "--text", str(text)])
    assert speechocean.run() == 0
    greedy, beam = [line for line in capsys.readouterr().out.splitlines() if line.startswith("test: WER ")][2:]
    assert greedy.endswith("; greedy")
    assert "beam of 100" in beam
    mixed, last = (checkpoint.load_config(out / name) for name in ("outside-mixed", "outside"))
    assert len(read_manifest(mixed.data.train)) == 5
    assert mixed.train.init_from == ""
    assert last.data.train == str(out / "data" / "train.jsonl")
    assert last.train.init_from == str(out / "outside-mixed")
    assert "'" not in (out / "outside" / "tokens.txt").read_text()  # which the corpus has not
    assert "bab" in checkpoint.load(out / "outside-text").decoder.resources.lm.words
    assert not (out / "model-text").exists()


def test_a_text_that_is_not_there_is_told_of_at_once(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [*arguments, "--text", str(tmp_path / "no.txt")])
    with pytest.raises(SystemExit):
        speechocean.run()
    assert "argument --text: no such file: " in capsys.readouterr().err
    assert not (tmp_path / "out" / "model").exists()
