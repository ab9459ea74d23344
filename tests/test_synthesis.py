"""recipes/synthesis: sentences spoken by what is installed, kept when interrupted."""

import argparse
import shutil
import sys
import types
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile

from asr.errors import CorpusError
from asr.manifest import read_manifest
from recipes.synthesis import kokoro, voices
from recipes.synthesis.recording import Line

LINE = Line("spoken-000007", "one", "flite:awb", 170, 50, 50, 0)


def options(out: Path, **given: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    voices.add_arguments(parser, out)
    return argparse.Namespace(**{**vars(parser.parse_args([])), **given})


def test_every_synthesiser_speaks_in_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        found = voices.installed(None)
    except CorpusError as error:
        pytest.skip(str(error))
    texts = ["rubout a z", "one two", "january first nineteen forty"] * 2
    made = voices.speak(texts, found, options(tmp_path, workers=2), read=lambda text: text.replace("z", "zee"))
    assert capsys.readouterr().out.startswith("6 sentences, 0.0")
    listed = read_manifest(tmp_path / "train.jsonl")
    assert [(item.id, item.text, item.speaker) for item in listed] == [(u.id, u.text, u.speaker) for u in made]
    assert [utterance.text for utterance in made] == texts
    names = sorted(found)
    for number, utterance in enumerate(made):
        assert utterance.speaker in found[names[number % len(names)]]
        info = soundfile.info(utterance.audio_filepath)
        assert (info.samplerate, info.channels) == (16000, 1)
        assert info.frames / 16000 == pytest.approx(utterance.duration, abs=1e-6)
        assert utterance.duration > 0.4


def test_what_was_spoken_is_kept_and_more_is_added(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed (the demo extra)")
    found = {"espeak": ["en-us+f2", "en+m3"]}
    voices.speak(["one", "two"], found, options(tmp_path))
    first = tmp_path / "audio" / "spoken-000000.wav"
    second = tmp_path / "audio" / "spoken-000001.wav"
    before = first.read_bytes()
    first.touch()
    age = first.stat().st_mtime_ns
    second.unlink()
    made = voices.speak(["one", "two", "three"], found, options(tmp_path))
    assert [utterance.text for utterance in made] == ["one", "two", "three"]
    assert (first.read_bytes(), first.stat().st_mtime_ns) == (before, age)
    assert second.is_file()
    assert [item.text for item in read_manifest(tmp_path / "train.jsonl")] == ["one", "two", "three"]
    with pytest.raises(CorpusError, match=r"lines\.jsonl: line 2: was another sentence .*--out chooses another"):
        voices.speak(["one", "four"], found, options(tmp_path))
    assert (tmp_path / "train.jsonl").is_file()  # nothing was touched


def test_a_manifest_of_something_else_stays(tmp_path: Path) -> None:
    manifest = tmp_path / "train.jsonl"
    manifest.write_text("mine\n")
    with pytest.raises(CorpusError, match=r"train\.jsonl: would be overwritten, and was not spoken here; --out"):
        voices.speak(["one"], {"espeak": ["en+m3"]}, options(tmp_path))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"train.jsonl": "mine\n"}


def test_without_a_synthesiser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(voices, "find_spec", lambda _: None)
    with pytest.raises(CorpusError, match="no synthesiser is installed: pip install espeakng-loader"):
        voices.installed(None)


def test_a_program_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flite = tmp_path / "flite"
    for script, message in (
        ("echo no such voice >&2; exit 1", "flite failed: no such voice"),
        ("true", "spoken-000007: "),
    ):
        flite.write_text(f"#!/bin/sh\n{script}\n")
        flite.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        with pytest.raises(CorpusError, match=message):
            voices.say(LINE)


class Kokoro:
    """Stands in for kokoro_onnx.Kokoro: a tone as long as the text, higher with the style."""

    asked: ClassVar[list[tuple[str, float, float]]] = []

    @classmethod
    def from_session(cls, _session: object, voices: str) -> "Kokoro":
        made = cls()
        made.styles = dict(np.load(voices))
        return made

    def get_voice_style(self, name: str) -> np.ndarray:
        return self.styles[name]

    def create(self, text: str, voice: np.ndarray, speed: float, lang: str) -> tuple[np.ndarray, int]:
        if not text.isascii():
            raise ValueError("produced no phonemes")
        assert lang == "en-us"
        self.asked.append((text, float(voice.mean()), speed))
        return (1.5 * np.sin(np.arange(24000 * len(text) // 10) * 0.05)).astype(np.float32), 24000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Kokoro's files are, and the packages that read them: neither is real."""
    made = tmp_path / "kokoro"
    made.mkdir()
    (made / kokoro.MODEL_FILE).write_bytes(b"")
    styles = {
        name: np.full((510, 1, 256), value, np.float32) for name, value in (("af_a", 1), ("bm_b", 2), ("zf_c", 4))
    }
    with (made / kokoro.VOICES_FILE).open("wb") as file:
        np.savez(file, **styles)
    runtime = types.SimpleNamespace(SessionOptions=types.SimpleNamespace, InferenceSession=lambda *_, **__: None)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setitem(sys.modules, "kokoro_onnx", types.SimpleNamespace(Kokoro=Kokoro))
    monkeypatch.setattr(Kokoro, "asked", [])
    kokoro._load.cache_clear()
    return made


def test_kokoro_speaks_alone_in_the_languages_asked_for(folder: Path) -> None:
    assert voices.installed(folder) == {"kokoro": ["kokoro:af_a", "kokoro:bm_b"]}
    assert voices.installed(folder, kokoro.MANDARIN) == {"kokoro": ["kokoro:zf_c"]}
    (folder / kokoro.VOICES_FILE).unlink()
    with pytest.raises(CorpusError, match=r"has no voices-v1.0.bin of kokoro-onnx's release"):
        voices.installed(folder)


def test_kokoro_follows_the_line(folder: Path) -> None:
    pcm, rate_hz = voices.say(Line("x", "one two", "kokoro:af_a", 170, 50, 50, 0), folder)
    assert (len(pcm), rate_hz) == (2 * 16800, 24000)
    assert np.abs(np.frombuffer(pcm, np.int16).astype(int)).max() == pytest.approx(32767, abs=40)  # and not wrapped
    assert Kokoro.asked == [("one two", 1.0, 1.0)]
    # Higher by 12 %: spoken slower, and played faster.
    _, rate_hz = voices.say(Line("x", "one two", "kokoro:af_a+zf_c", 85, 70, 50, 0), folder)
    assert rate_hz == 24000 * 112 // 100
    assert Kokoro.asked[1] == ("one two", 2.5, pytest.approx(0.5 / 1.12))
    with pytest.raises(CorpusError, match="x: kokoro cannot say 'é' in voice af_a: produced no phonemes"):
        voices.say(Line("x", "é", "kokoro:af_a", 170, 50, 50, 0), folder)


def test_kokoro_without_its_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kokoro_onnx", None)
    with pytest.raises(CorpusError, match="pip install kokoro-onnx"):
        kokoro.say(folder, "af_a", LINE)
