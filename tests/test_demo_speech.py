"""The demo's speech maker: what it writes is the same on every run, held out by voice, and fit to listen to."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.errors import CorpusError
from asr.manifest import read_manifest

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "demo"))
import speech

from recipes.synthesis import espeak
from recipes.synthesis.recording import Line

SIZES = {"train_utterances": 12, "dev_utterances": 3, "test_utterances": 5}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed (the demo extra)")
    out = tmp_path_factory.mktemp("demo") / "data"
    return out, speech.make_speech(out, **SIZES)


def digest(out):
    return {path.relative_to(out): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.rglob("*.*"))}


def test_manifests_and_summary_agree(corpus):
    out, summary = corpus
    assert json.loads((out / "summary.json").read_text()) == summary
    for split, size in (("train", 12), ("dev", 3), ("test", 5)):
        utterances = read_manifest(out / f"{split}.jsonl")
        assert len(utterances) == summary["splits"][split]["utterances"] == size
        assert summary["splits"][split]["hours"] == pytest.approx(sum(u.duration for u in utterances) / 3600, abs=1e-4)
        assert {u.speaker.split("+")[1] for u in utterances} <= set(summary["splits"][split]["variants"])


def test_files_are_trimmed_unclipped_16_khz_speech(corpus):
    out, _ = corpus
    for utterance in read_manifest(out / "train.jsonl"):
        info = soundfile.info(utterance.audio_filepath)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        samples, _ = soundfile.read(utterance.audio_filepath)
        assert len(samples) / 16000 == pytest.approx(utterance.duration, abs=1e-6)
        assert 0.2 < utterance.duration < 5
        peak = np.abs(samples).max()
        assert 0.02 < peak < 0.99
        # Noise is at least 25 dB under the speech, so what is above a tenth of the peak is speech.
        loud = np.flatnonzero(np.abs(samples) > 0.1 * peak)
        assert loud[0] < 0.4 * 16000
        assert len(samples) - loud[-1] < 0.4 * 16000
        assert np.abs(samples[:800]).max() > 0  # noise, not digital silence


def test_made_again_to_the_bit(corpus, tmp_path):
    out, summary = corpus
    assert speech.make_speech(tmp_path, **SIZES) == summary
    assert digest(tmp_path) == digest(out)
    assert not np.array_equal(
        soundfile.read(out / "audio" / "train" / "train-0000.wav")[0],
        soundfile.read(out / "audio" / "train" / "train-0001.wav")[0],
    )


def test_whole_corpus_is_left_alone_and_an_unfinished_one_is_made(corpus, tmp_path, monkeypatch):
    whole, summary = corpus
    out = shutil.copytree(whole, tmp_path / "data")

    def fail(*_):
        raise CorpusError("made again")

    monkeypatch.setattr(speech, "record", fail)
    assert speech.make_speech(out, **SIZES) == summary
    for _ in range(2):  # manifests of an unfinished one are its own
        with pytest.raises(CorpusError, match="made again"):
            speech.make_speech(out, seed=2, **SIZES)
        assert not (out / "summary.json").exists()


@pytest.mark.parametrize("name", ["summary.json", "dev.jsonl"])
def test_manifests_of_another_corpus_stay(tmp_path, name):
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed (the demo extra)")
    (tmp_path / name).write_text('{"corpus": "an4"}')
    with pytest.raises(CorpusError, match=rf"{name}: would be overwritten, and was not made here"):
        speech.make_speech(tmp_path, **SIZES)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: '{"corpus": "an4"}'}


def test_unknown_voice_is_refused():
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed (the demo extra)")
    for voice, message in (("en+nobody", "no variant 'nobody'"), ("xx-none+m1", "refused x: voice xx-none")):
        with pytest.raises(CorpusError, match=message):
            espeak.say(Line("x", "one", voice, 160, 50, 50, 0))


def test_every_voice_exists_and_speaks():
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed (the demo extra)")
    spoken = set()
    for variants in espeak.VARIANTS.values():
        for index, variant in enumerate(variants):
            voice = f"{espeak.ACCENTS[index % len(espeak.ACCENTS)]}+{variant}"
            pcm, rate_hz = espeak.say(Line(voice, "seven", voice, 160, 50, 50, 0))
            samples = np.frombuffer(pcm, dtype=np.int16).astype(int)
            assert 0.2 < len(samples) / rate_hz < 1.5
            assert 1000 < np.abs(samples).max() < 32500
            spoken.add(pcm)
    assert len(spoken) == 34  # no variant was passed over


def test_variants_are_in_one_split_and_voices_take_turns():
    train, dev, test = (set(espeak.VARIANTS[split]) for split in ("train", "dev", "test"))
    assert not train & dev
    assert not train & test
    assert not dev & test
    voices = [line.voice for line in speech.plan("test", 128, seed=1)]
    assert all(voices.count(voice) == 2 for voice in set(voices))
    assert len(set(voices)) == 64


def test_plan_follows_the_seed_and_holds_digits_and_commands():
    lines = speech.plan("train", 400, seed=1)
    assert lines == speech.plan("train", 400, seed=1)
    assert lines != speech.plan("train", 400, seed=2)
    strings = [line.text.split() for line in lines if set(line.text.split()) <= set(speech.DIGITS)]
    assert len(strings) == 200
    assert {len(string) for string in strings} == {1, 2, 3, 4, 5, 6}
    words = {word for line in lines for word in line.text.split()}
    assert 35 <= len(words) <= 45
    assert "<digit>" not in words


def test_missing_extra_and_empty_split_are_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="dev_utterances must be at least 1, found 0"):
        speech.make_speech(tmp_path, dev_utterances=0)
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(CorpusError, match="pip install espeakng-loader"):
        speech.make_speech(tmp_path / "data")
    assert not (tmp_path / "data").exists()
