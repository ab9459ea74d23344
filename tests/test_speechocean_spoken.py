"""recipes/speechocean: what is spoken beside its recordings, and by whom."""

from pathlib import Path

import pytest

from asr.errors import ConfigError, CorpusError
from asr.manifest import Utterance, write_manifest
from recipes.speechocean import examples, spoken

DATA = """  1 This is the licence, with a "quoted word or more" in it.
00001740 00 a 01 able 0 005 = 05200169 n 0000 | having means; "able to swim"; "A well-to-do man!"
00002098 00 a 01 unable 0 002 | not able; "swim"; "unable to swim in 1999"; "he could not swim a mile today"
"""


def test_examples_are_what_is_quoted_behind_a_definition() -> None:
    assert list(examples.examples(DATA)) == ["able to swim", "a well to do man", "he could not swim a mile today"]


def test_common_words_are_those_of_transcripts_and_of_many_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "COMMON", 2)
    made = examples.common(["he can swim", "can he dive", "he did swim", "swim swim he"], ["he can", "he did"])
    assert made == ["he can swim", "he did swim"]  # nobody dives twice, and two of the last one's three are new


def test_the_script_that_finds_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "train.jsonl"
    write_manifest(texts, [Utterance("u", tmp_path / "u.wav", 1.0, "ABLE TO SWIM A MAN DO WELL")])
    monkeypatch.setattr("sys.argv", ["examples.py", str(tmp_path), "--texts", str(texts)])
    with pytest.raises(CorpusError, match=r"has no data\.\* of WordNet 3\.0"):
        examples.run()
    (tmp_path / "data.adj").write_text(DATA)
    assert examples.run() == 0
    assert capsys.readouterr().out.splitlines() == ["able to swim", "a well to do man"]


def test_texts_take_turns(tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("A B\nC\n\nD\n")
    two.write_text("e\n")
    made = spoken.mixed([one, two], seed=1)
    assert made[1] == "e"
    assert sorted(made) == ["a b", "c", "d", "e"]
    assert made == spoken.mixed([one, two], seed=1)


def test_voices_between_two() -> None:
    assert spoken.pairs(["k:m"], ["k:a", "k:b", "k:c"]) == ["k:m+b", "k:m+c", "k:m+a"]
    assert spoken.pairs(["k:a", "k:b"], ["k:a", "k:b"]) == ["k:a+b", "k:b+a"]


def test_kokoro_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["spoken.py", str(tmp_path / "one.txt")])
    with pytest.raises(ConfigError, match="--kokoro FOLDER is missing"):
        spoken.run()
