"""The stages of recipes/an4, on the language of tones."""

from pathlib import Path

import pytest

from asr import checkpoint
from asr.errors import AudioError, CheckpointError, CorpusError
from asr.manifest import read_manifest
from recipes.an4 import run as an4
from tones import recipe_arguments, write_corpus

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a recipe whose corpus is prepared and whose cycles are short."""
    monkeypatch.setattr(an4, "FIRST", ("train.epochs=2",))
    monkeypatch.setattr(an4, "SECOND", ("text.unit=bpe", "text.bpe_size=6"))  # of "a", "b" and the word mark
    monkeypatch.setattr(an4, "OTHERS", ("train.epochs=1", "train.skip_unusable=true", "text.allow_oov=true"))
    monkeypatch.setattr(an4, "LAST", ("train.epochs=1",))
    monkeypatch.setattr(an4, "SPLICED_HOURS", 0.002)
    return recipe_arguments(tmp_path, "an4")


def scores(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("test: WER ")]


def test_the_model_goes_on_with_sentences_that_it_cut_itself(
    arguments: list[str], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", arguments)
    assert an4.run() == 0
    first = scores(capsys.readouterr().out)
    greedy, beam = first
    assert greedy.endswith("; greedy")
    assert "beam of 100" in beam
    out = tmp_path / "out"
    assert checkpoint.load_config(out / "model").train.init_from == str(out / "first")
    trained_on = checkpoint.load_config(out / "model").data.train
    assert trained_on == str(out / "spliced" / "train.jsonl")
    assert len(read_manifest(trained_on)) > 3
    monkeypatch.setattr("sys.argv", arguments)
    assert an4.run() == 0
    again = capsys.readouterr()
    assert scores(again.out) == first
    assert again.err.count("skipped") == 7  # corpus, first model, splice, model, two scores, language model


def test_what_other_sentences_make_is_another_model(
    arguments: list[str], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sentences are made anew where others are wanted, and a model of those before does not pass for one of these."""
    monkeypatch.setattr("sys.argv", arguments)
    assert an4.run() == 0
    spliced = tmp_path / "out" / "spliced" / "train.jsonl"
    before = len(read_manifest(spliced))
    monkeypatch.setattr(an4, "SPLICED_HOURS", 0.004)
    with pytest.raises(CheckpointError, match=r"model/.*other data than data\.train .* now; --out chooses"):
        an4.run()
    assert len(read_manifest(spliced)) > before
    assert f"[splice: {spliced.parent}]" in capsys.readouterr().err


def test_other_recordings_make_a_model_beside_it(
    arguments: list[str], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_corpus(tmp_path / "elsewhere", ["cab", "ab ba"], name="other")
    manifest.write_text(manifest.read_text().replace("ab ba", "ab b'a"))
    arguments[1:1] = ["--outside", str(manifest)]
    monkeypatch.setattr("sys.argv", arguments)
    assert an4.run() == 0
    assert len(scores(capsys.readouterr().out)) == 2
    out = tmp_path / "out"
    assert not (out / "model").exists()
    trained_on = {item.id: item.audio_filepath.resolve() for item in read_manifest(out / "outside.jsonl")}
    assert {item.id for item in read_manifest(out / "spliced" / "train.jsonl")} < set(trained_on)
    for other in read_manifest(manifest):
        assert trained_on[other.id] == other.audio_filepath.resolve()
    mixed, last = (checkpoint.load_config(out / name) for name in ("outside-mixed", "outside"))
    assert mixed.data.train == str(out / "outside.jsonl")
    assert mixed.train.init_from == str(out / "first")
    assert last.data.train == str(out / "spliced" / "train.jsonl")
    assert last.train.init_from == str(out / "outside-mixed")
    tokens = [(out / name / "tokens.txt").read_text(encoding="utf-8") for name in ("outside-mixed", "outside")]
    assert tokens[0] == tokens[1]
    assert "'" not in tokens[0]  # which AN4 has not
    assert checkpoint.load_config(out / "outside-lm").decode.decoder == "beam"
    again = write_corpus(tmp_path / "elsewhere", ["cab", "ba"], name="again")
    arguments[2] = str(again)
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(CorpusError, match=r"outside.jsonl: was made from other recordings .*--out"):
        an4.run()
    assert {item.id for item in read_manifest(out / "outside.jsonl")} == set(trained_on)


def test_other_recordings_are_looked_at_before_any_training(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = write_corpus(tmp_path / "one", ["cab"], name="other")
    two = write_corpus(tmp_path / "two", ["ba"], name="other")
    for manifest, place in ((two, one), (tmp_path / "out" / "data" / "test.jsonl", "test.jsonl")):
        monkeypatch.setattr("sys.argv", [*arguments, "--outside", str(one), "--outside", str(manifest)])
        with pytest.raises(CorpusError, match=f"--outside {manifest}: id '.*-0' is in .*{place}"):
            an4.run()
    (two.parent / "audio" / "other-0.wav").unlink()
    monkeypatch.setattr("sys.argv", [*arguments, "--outside", str(two)])
    with pytest.raises(AudioError, match="1 of 1 audio files are missing"):
        an4.run()
    assert not (tmp_path / "out" / "first").exists()
