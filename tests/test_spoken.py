"""recipes/an4/spoken.py: sentences of the transcripts' kind, spoken."""

import json
import shutil
from pathlib import Path

import pytest
import soundfile

from asr.errors import CorpusError
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


def test_every_synthesiser_speaks_in_turn(tmp_path: Path) -> None:
    try:
        voices = spoken.installed()
    except CorpusError as error:
        pytest.skip(str(error))
    texts = ["rubout a z", "one two", "january first nineteen forty"] * 2
    made = spoken.speak(texts, voices, tmp_path / "out", seed=1)
    listed = read_manifest(tmp_path / "out" / "train.jsonl")
    assert [(item.id, item.text, item.speaker) for item in listed] == [(u.id, u.text, u.speaker) for u in made]
    assert [utterance.text for utterance in made] == texts  # as AN4 writes them, and not as they are read out
    names = sorted(voices)
    for number, utterance in enumerate(made):
        assert utterance.speaker in voices[names[number % len(names)]]
        info = soundfile.info(utterance.audio_filepath)
        assert (info.samplerate, info.channels) == (16000, 1)
        assert info.frames / 16000 == pytest.approx(utterance.duration, abs=1e-6)
        assert utterance.duration > 0.4


def test_without_a_synthesiser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(CorpusError, match="no synthesiser is installed: pip install espeakng-loader"):
        spoken.installed()


def test_a_synthesiser_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flite = tmp_path / "flite"
    line = spoken.Line("spoken-000007", "one", "flite:awb", 170, 50, 50, 0)
    for script, message in (
        ("echo no such voice >&2; exit 1", "flite failed: no such voice"),
        ("true", "spoken-000007: "),
    ):
        flite.write_text(f"#!/bin/sh\n{script}\n")
        flite.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        with pytest.raises(CorpusError, match=message):
            spoken.say(line)


def test_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed (the demo extra)")
    texts = tmp_path / "train.jsonl"
    write_manifest(texts, [Utterance(f"u{number}", tmp_path / "u.wav", 1.0, text) for number, text in enumerate(TEXTS)])
    given = ["spoken.py", "--texts", str(texts), "--out", str(tmp_path / "out"), "--sentences", "9"]
    monkeypatch.setattr("sys.argv", given)
    assert spoken.run() == 0
    assert capsys.readouterr().out.startswith("9 sentences, 0.0")
    records = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == [f"spoken-{number:06d}" for number in range(9)]
