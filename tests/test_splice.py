"""New sentences from old recordings: what is written, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from asr import checkpoint, stages
from asr.cli import main
from asr.errors import ConfigError, ManifestError
from asr.manifest import Utterance, read_manifest, write_manifest
from asr.splicing.sentences import Plan, splice
from asr.train import Trainer
from asr.training.trainset import label, unusable
from tones import RATE_HZ, TONES_HZ, tiny, write_corpus

Capture = pytest.CaptureFixture[str]


def heard(samples: NDArray[np.float64]) -> str:
    """The letters of a recording in the language of tones, by their frequencies."""
    window = RATE_HZ // 100
    frames = samples[: len(samples) // window * window].reshape(-1, window)
    loud = np.concatenate([[False], np.square(frames).mean(1) > 1e-4, [False]])
    edges = np.flatnonzero(np.diff(loud.astype(int)))
    letters = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        spectrum = np.abs(np.fft.rfft(samples[begin * window : end * window], RATE_HZ))
        letters.append(min(TONES_HZ, key=lambda letter: abs(TONES_HZ[letter] - float(spectrum.argmax()))))
    return "".join(letters)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt the language of tones, and its corpus."""
    folder = tmp_path_factory.mktemp("run")
    manifest = write_corpus(folder, ["ab cd", "cab bad", "a b c", "dad", "abba cab", "bc a"])
    settings = tiny(
        manifest,
        manifest,
        "train.batch_s=2",
        "train.epochs=50",
        "train.dev_every=50",
        "train.learning_rate=0.03",
        "train.ema_decay=0.9",
    )
    Trainer(settings, folder / "model").run()
    return folder


def test_splicing_a_manifest(run: Path, tmp_path: Path, capsys: Capture) -> None:
    manifest = run / "train.jsonl"
    command = ["splice", str(manifest), "--model", str(run / "model"), "--hours", "0.01"]
    command += ["--seconds", "0.5", "3", "--order", "1"]
    assert main([*command, "--out", str(tmp_path / "first")]) == 0
    assert "pieces by 1 speakers" in capsys.readouterr().err
    old, mixed = read_manifest(manifest), read_manifest(tmp_path / "first" / "train.jsonl")
    assert [item.id for item in mixed[: len(old)]] == [item.id for item in old]
    new = mixed[len(old) :]
    assert 36 <= sum(item.duration for item in new) < 40
    assert len({item.text for item in new} - {item.text for item in old}) > 5
    known = {text for item in old for text in item.text.split()}
    assert {text for item in new for text in item.text.split()} <= known
    for item in new:
        samples, _ = soundfile.read(item.audio_filepath)
        assert len(samples) == round(item.duration * RATE_HZ)
        assert heard(samples) == item.text.replace(" ", "")
    assert main([*command, "--out", str(tmp_path / "second")]) == 0
    assert [item.text for item in read_manifest(tmp_path / "second" / "train.jsonl")] == [item.text for item in mixed]


def test_speakers_are_not_mixed(run: Path, tmp_path: Path) -> None:
    items = read_manifest(run / "train.jsonl")
    spoken = [
        Utterance(item.id, item.audio_filepath, item.duration, item.text, speaker=f"s{number % 2}")
        for number, item in enumerate(items)
    ]
    recognizer = checkpoint.load(run / "model")
    made = splice(spoken, recognizer, tmp_path, Plan(0.005, (0.5, 2)))
    assert made.speakers == 2
    words = {
        speaker: {w for item in spoken if item.speaker == speaker for w in item.text.split()}
        for speaker in ("s0", "s1")
    }
    for item in read_manifest(tmp_path / "train.jsonl"):
        assert item.speaker is not None
        assert set(item.text.split()) <= words[item.speaker]


def test_sentences_that_could_not_be_trained_on_are_not_made(run: Path, tmp_path: Path) -> None:
    items = read_manifest(run / "train.jsonl")
    recognizer = checkpoint.load(run / "model")
    # A label has 7.5 frames. What cropping to 0.14 of an utterance leaves is too little for some sentences.
    settings = replace(recognizer.config, augment=replace(recognizer.config.augment, crop_share=0.43))
    recognizer.config = settings
    made = splice(items, recognizer, tmp_path / "some", Plan(0.02, (0.3, 2)))
    sentences = read_manifest(tmp_path / "some" / "train.jsonl")[len(items) :]
    assert made.sentences == len(sentences) < int(sentences[-1].id.removeprefix("spliced-")) + 1
    assert not unusable(label(sentences, recognizer.tokenizer), settings, recognizer)
    recognizer.config = replace(settings, train=replace(settings.train, max_utterance_s=0.1))
    before = (tmp_path / "some" / "train.jsonl").read_text()
    with pytest.raises(ConfigError, match=r"200 of 200 sentences could not be trained on, the last: .* longer than"):
        splice(items, recognizer, tmp_path / "some", Plan(0.01, (0.05, 2)))
    assert (tmp_path / "some" / "train.jsonl").read_text() == before
    with pytest.raises(ConfigError, match=r"sentences of 0\.3 s and more are longer than train\.max_utterance_s=0\.1"):
        splice(items, recognizer, tmp_path / "none", Plan(0.01, (0.3, 2)))
    (tmp_path / "mine" / "spliced").mkdir(parents=True)  # as an interrupted run leaves it
    mine = write_corpus(tmp_path / "mine", ["ab"]).read_text()
    recognizer.config = settings
    with pytest.raises(ConfigError, match="would be overwritten"):
        splice(items, recognizer, tmp_path / "mine", Plan(0.01, (0.3, 2)))
    assert (tmp_path / "mine" / "train.jsonl").read_text() == mine


def test_a_recipe_s_sentences_are_of_the_manifest_as_it_is(run: Path, tmp_path: Path, capsys: Capture) -> None:
    manifest, out = tmp_path / "spoken.jsonl", tmp_path / "out"
    spoken = read_manifest(run / "train.jsonl")

    def skipped(number: int) -> bool:
        write_manifest(manifest, spoken[:number])
        stages.splice_stage(manifest, run / "model", out, hours=0.001, seconds=(0.5, 3))
        assert [item.id for item in read_manifest(out / "train.jsonl")][:number] == [
            item.id for item in spoken[:number]
        ]
        return "skipped" in capsys.readouterr().err

    assert [skipped(number) for number in (6, 6, 5, 5)] == [False, True, False, True]


def test_audio_of_an_earlier_call_does_not_stay(run: Path, tmp_path: Path) -> None:
    old, recognizer = read_manifest(run / "train.jsonl"), checkpoint.load(run / "model")
    for hours in (0.004, 0.002):
        splice(old, recognizer, tmp_path, Plan(hours, (0.5, 3)))
        named = {item.audio_filepath for item in read_manifest(tmp_path / "train.jsonl")[len(old) :]}
        assert set((tmp_path / "spliced").iterdir()) == named


def test_bad_input(run: Path, tmp_path: Path, capsys: Capture) -> None:
    manifest, model = str(run / "train.jsonl"), str(run / "model")
    command = ["splice", manifest, "--model", model, "--out", str(tmp_path)]
    assert main([*command, "--seconds", "3", "1"]) == 2
    assert "LOW <= HIGH" in capsys.readouterr().err
    assert main([*command, "--hours", "nan"]) == 2
    assert "--hours must be" in capsys.readouterr().err
    assert main([*command, "--order", "0"]) == 2
    assert "--order must be in 1..10, found 0" in capsys.readouterr().err
    assert main([*command[:-1], manifest]) == 2
    assert "train.jsonl: is a file, wanted a folder" in capsys.readouterr().err
    recognizer = checkpoint.load(model)
    taken = [
        Utterance("spliced-000000", item.audio_filepath, item.duration, item.text)
        for item in read_manifest(manifest)[:1]
    ]
    with pytest.raises(ManifestError, match="spliced before"):
        splice(taken, recognizer, tmp_path, Plan(0.01, (1, 2)))
