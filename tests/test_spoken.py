"""recipes/an4/spoken.py: sentences of the transcripts' kind, spoken."""

from pathlib import Path

import pytest

from asr.manifest import Utterance, read_manifest, write_manifest
from recipes.an4 import spoken

TEXTS = ["one two", "erase a b", "two one two", "rubout o z"]


def test_sentences_are_of_the_transcripts_words_and_dates() -> None:
    made = spoken.sentences(TEXTS, 80, seed=1)
    assert made == spoken.sentences(TEXTS, 80, seed=1)
    assert made != spoken.sentences(TEXTS, 80, seed=2)
    drawn = [text.split() for number, text in enumerate(made) if number % 8]
    assert {word for words in drawn for word in words} == set(" ".join(TEXTS).split())
    assert all(0 < len(words) <= spoken.LONGEST for words in drawn)
    assert ["one", "two"] in drawn  # and in this order, as a transcript has it
    assert all(text.split()[0] in (*spoken.MONTHS, *spoken.ONES) for text in made[::8])
    assert sum(text.split()[0] in spoken.MONTHS for text in made[::8]) > 5


@pytest.mark.parametrize(
    ("option", "least"), [(["--workers", "0"], 1), (["--seed", "-1"], 0), (["--sentences", "0"], 1)]
)
def test_numbers_that_are_too_small_are_told(
    option: list[str], least: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["spoken.py", *option])
    with pytest.raises(SystemExit):
        spoken.run()
    assert f"argument {option[0]}: must be at least {least}, found {option[1]}\n" in capsys.readouterr().err


def test_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed (the demo extra)")
    texts = tmp_path / "train.jsonl"
    write_manifest(texts, [Utterance(f"u{number}", tmp_path / "u.wav", 1.0, text) for number, text in enumerate(TEXTS)])
    given = ["spoken.py", "--texts", str(texts), "--out", str(tmp_path / "out"), "--sentences", "9"]
    monkeypatch.setattr("sys.argv", given)
    assert spoken.run() == 0
    assert capsys.readouterr().out.startswith("9 sentences, 0.0")
    made = read_manifest(tmp_path / "out" / "train.jsonl")
    assert [utterance.id for utterance in made] == [f"spoken-{number:06d}" for number in range(9)]
    # as AN4 writes them, and not as they are read out
    assert [utterance.text for utterance in made] == spoken.sentences(TEXTS, 9, seed=1)
