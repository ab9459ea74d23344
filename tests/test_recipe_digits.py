"""What recipes/digits has of its own: quiet around words, digits of others, a model without each speaker."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from asr import checkpoint, stages, tune
from asr.errors import AudioError, CheckpointError, ManifestError
from asr.hypotheses import read_hypotheses
from asr.manifest import Utterance, read_manifest, write_manifest
from asr.splicing.pieces import Piece
from recipes.digits import clips
from recipes.digits import run as digits
from recipes.digits.own_stages import average_stage, label_stage
from recipes.digits.silence import noise_db, surround
from tiny_run import save_run, write_audio
from tones import RATE_HZ, TINY

Capture = pytest.CaptureFixture[str]


def write_recordings(folder: Path) -> Path:
    """Three digits by three speakers, twelve times each: noise, a third of a second long."""
    folder.mkdir(parents=True)
    for number in range(108):
        noise = 0.1 * np.random.default_rng(number).standard_normal(RATE_HZ // 3)
        name = f"{1 + number % 3}_{'abc'[number // 3 % 3]}_{number // 9}.wav"
        soundfile.write(folder / name, noise, RATE_HZ, subtype="PCM_16")
    return folder


@pytest.mark.parametrize("level_db", [None, -35.0])
def test_noise_surrounds_a_word_that_stays_as_it_is(level_db: float | None, tmp_path: Path, capsys: Capture) -> None:
    recordings, out = write_recordings(tmp_path / "source" / "recordings"), tmp_path / "quiet"
    (tmp_path / ".quiet.unfinished").mkdir()  # an earlier attempt
    surround(recordings, out, level_db)
    assert not (tmp_path / ".quiet.unfinished").exists()
    names = sorted(path.name for path in recordings.iterdir())
    assert sorted(path.name for path in (out / "recordings").iterdir()) == names
    word, _ = soundfile.read(recordings / names[0])
    padded, rate_hz = soundfile.read(out / "recordings" / names[0])
    edge = round(0.3 * RATE_HZ)
    assert rate_hz == RATE_HZ
    assert len(padded) == len(word) + 2 * edge
    assert padded[edge:-edge] == pytest.approx(word, abs=1 / 32768)
    for noise in (padded[:edge], padded[-edge:]):
        wanted = noise_db(word, RATE_HZ) if level_db is None else level_db
        assert 10 * np.log10(np.mean(noise**2) / np.mean(word**2)) == pytest.approx(wanted, abs=0.5)

    before = (out / "recordings" / names[0]).read_bytes()
    surround(recordings, tmp_path / "again", level_db)
    assert (tmp_path / "again" / "recordings" / names[0]).read_bytes() == before
    capsys.readouterr()
    surround(recordings, out, level_db)
    assert capsys.readouterr().err == f"[silence: complete in {out}, skipped]\n"


@pytest.mark.parametrize("wanted_db", [-40, -20])
def test_noise_is_found_below_a_word(wanted_db: float) -> None:
    seconds = np.arange(RATE_HZ // 2) / RATE_HZ
    vowel = np.sin(2 * np.pi * 200 * seconds) + np.sin(2 * np.pi * 1500 * seconds) * (seconds < 0.3)
    noise = 10 ** (wanted_db / 20) * np.random.default_rng(1).standard_normal(len(vowel))
    wave = vowel + np.sqrt(np.mean(vowel**2)) * noise
    assert noise_db(wave, RATE_HZ) == pytest.approx(wanted_db, abs=2.5)  # the quietest moment, and not all


def test_digital_silence_and_noise_alone_have_a_level() -> None:
    assert noise_db(np.zeros(4000), RATE_HZ) == -10
    assert noise_db(np.eye(1, 4000)[0], RATE_HZ) == -50
    assert noise_db(np.random.default_rng(1).standard_normal(4000), RATE_HZ) == -10


def test_a_recording_too_short_for_a_level_is_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "1_a_0.wav", np.zeros(199), RATE_HZ)
    with pytest.raises(AudioError, match=r"1_a_0\.wav: 199 samples are shorter than the 200"):
        surround(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "1_a_0.wav").write_text("no audio")
    with pytest.raises(AudioError, match=r"1_a_0\.wav: cannot read audio: format not recognised"):
        surround(tmp_path, tmp_path / "out", -35)


def test_clips_are_single_digits_long_enough_to_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = [
        Utterance("u1", tmp_path / "u1.wav", 3.0, "FIVE SIX P", speaker="s"),
        Utterance("u2", tmp_path / "u2.wav", 3.0, "enter", speaker="s"),
    ]
    write_manifest(tmp_path / "train.jsonl", sentences)
    seconds = {"five": 0.5, "six seven": 0.9, "p": 0.5, "two": 0.2, "six": 0.3}

    def cut_all(found: list[Utterance], _: Any) -> Iterator[tuple[Utterance, list[Piece]]]:
        assert [utterance.id for utterance in found] == ["u1"]  # no digit, nothing to align
        yield found[0], [Piece(torch.zeros(round(16000 * long)), text) for text, long in seconds.items()]

    recognizer = SimpleNamespace(config=SimpleNamespace(audio=SimpleNamespace(sample_rate_hz=16000)))
    monkeypatch.setattr(clips, "cut_all", cut_all)
    monkeypatch.setattr(checkpoint, "load", lambda *_: recognizer)
    weights = tmp_path / checkpoint.WEIGHTS_FILE
    weights.touch()
    made = clips.cut_digits(tmp_path / "train.jsonl", tmp_path, tmp_path / "out")
    found = read_manifest(made)
    assert [(clip.id, clip.text, clip.duration, clip.speaker) for clip in found] == [
        ("u1-0", "five", 0.5, "s"),
        ("u1-4", "six", 0.3, "s"),
    ]
    assert soundfile.info(found[0].audio_filepath).samplerate == 8000
    monkeypatch.undo()
    assert clips.cut_digits(tmp_path / "nowhere.jsonl", tmp_path, tmp_path / "out") == made  # complete
    os.utime(weights, (made.stat().st_mtime + 1,) * 2)
    with pytest.raises(ManifestError, match=r"nowhere\.jsonl"):  # it would be made of the new weights
        clips.cut_digits(tmp_path / "nowhere.jsonl", tmp_path, tmp_path / "out")


def test_each_speaker_is_left_out_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    source = write_recordings(tmp_path / "source" / "recordings").parent
    for number, path in enumerate(sorted((source / "recordings").iterdir())):  # as git-annex keeps files
        kept = tmp_path / "objects" / f"{number}" / "key.wav"
        kept.parent.mkdir(parents=True)
        path.rename(kept)
        path.symlink_to(kept)
    out = tmp_path / "out"
    outside = write_recordings(tmp_path / "outside") / "1_a_0.wav"

    def corpus_stage(data: Path, corpus: str, source: Path | None, **options: Any) -> None:
        if corpus == "an4":
            for split in ("train", "dev"):
                write_manifest(data / f"{split}.jsonl", [Utterance("u1", outside, 1 / 3, "one")])
        else:
            whole_stage(data, corpus, source, allow_partial=True, **options)

    def cut_digits(manifest: Path, model: Path, folder: Path) -> Path:
        assert model == digits.START
        write_manifest(folder / "clips.jsonl", read_manifest(manifest))
        return folder / "clips.jsonl"

    def splice_stage(manifest: Path, model: Path, spliced: Path, **_: Any) -> None:
        assert model == digits.START
        write_manifest(spliced / "train.jsonl", read_manifest(manifest))

    def label_stage(heard: Path, model: Path, labelled: Path) -> None:
        """All but the first recording are a two; the real one is tested below."""
        assert checkpoint.load_config(model).decode.decoder == "beam"
        write_manifest(labelled, [replace(item, text="two") for item in read_manifest(heard, with_texts=False)[1:]])

    whole_stage = stages.corpus_stage
    monkeypatch.setattr(stages, "splice_stage", splice_stage)
    monkeypatch.setattr(stages, "corpus_stage", corpus_stage)
    monkeypatch.setattr(clips, "cut_digits", cut_digits)
    monkeypatch.setattr(digits, "label_stage", label_stage)
    monkeypatch.setattr(digits, "START", out / "model")
    monkeypatch.setattr(digits, "SEEDS", 2)
    for name in ("_STEPS", "_FINER"):  # of the search for a language model's weights, which runs twelve times here
        monkeypatch.setattr(tune, name, 1)
    for name in ("digits.yaml", "digits-strangers.yaml"):
        (tmp_path / name).write_text("train: {epochs: 1}\n")
    arguments = ["run.py", "--source", str(source), "--out", str(out), "--conf", str(tmp_path / "digits.yaml"), *TINY]
    arguments.append("augment.telephone_probability=0")  # at 8 kHz all is as by telephone
    monkeypatch.setattr("sys.argv", arguments)
    assert digits.run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("leave one speaker out, all six: WER ")
    assert lines[-1].startswith("when half of a speaker's recordings were heard, without transcripts: WER ")
    assert " / 108," in lines[-2]  # every recording once
    assert " / 108," in lines[-1]
    assert checkpoint.load_config(out / "telephone").train.init_from == str(out / "model")
    for speaker in "abc":
        fold = out / f"without-{speaker}"
        trained_on = read_manifest(checkpoint.load_config(fold / "model").data.train)
        assert {utterance.speaker for utterance in trained_on} < {*"abc", None}
        assert speaker not in {utterance.speaker for utterance in trained_on}
        assert trained_on[-1].id == "u1"
        heard = read_manifest(fold / "data" / "train.jsonl")
        assert [utterance.id for utterance in trained_on[:-1]] == [
            *(utterance.id for utterance in heard),
            *(f"{utterance.id}-still" for utterance in heard),
        ]
        for seed in (1, 2):
            assert checkpoint.load_config(fold / f"seed-{seed}").train.init_from == str(out / "telephone")
            assert checkpoint.load_config(fold / f"seed-{seed}").train.seed == seed
        assert checkpoint.load_config(fold / "model-lm").decode.decoder == "beam"
        halves = [read_manifest(fold / f"half-{number}" / "test.jsonl") for number in (0, 1)]
        assert [len(half) for half in halves] == [18, 18]
        assert {item.id for half in halves for item in half} == {f"{d}_{speaker}_{n}" for d in "123" for n in range(12)}
        for number in (0, 1):
            half = fold / f"half-{number}"
            heard = read_manifest(half / "heard.jsonl", with_texts=False)
            assert [(item.id, item.text) for item in heard] == [(item.id, "") for item in halves[1 - number]]
            for seed in (1, 2):
                settings = checkpoint.load_config(half / f"seed-{seed}")
                assert settings.train.init_from == str(fold / "model")
                assert settings.train.seed == seed
                learnt = read_manifest(settings.data.train)
                assert [item.id for item in learnt[: len(trained_on)]] == [item.id for item in trained_on]
                own = [(item.id, item.text) for item in learnt[len(trained_on) :]]
                assert own == [(f"{item.id}{end}", "two") for end in ("", "-still") for item in heard[1:]]

    assert digits.run() == 0
    again = capsys.readouterr()
    assert again.out.splitlines()[-1] == lines[-1]
    assert "train: complete" in again.err
    assert f"[train: {out}" not in again.err

    write_manifest(tmp_path / "more.jsonl", [Utterance("m1", outside, 1 / 3, "two")])
    monkeypatch.setattr(  # tested above
        digits, "as_acquaintance", lambda fold, _: read_hypotheses(fold / "model-lm" / "test" / "hypotheses.jsonl")
    )
    monkeypatch.setattr("sys.argv", [*arguments, "--outside", str(tmp_path / "more.jsonl")])
    assert digits.run() == 0
    trained_on = read_manifest(checkpoint.load_config(out / "outside-without-a" / "model").data.train)
    assert [utterance.id for utterance in trained_on[-2:]] == ["u1", "m1"]
    assert read_manifest(checkpoint.load_config(out / "without-a" / "model").data.train)[-1].id == "u1"


def test_the_official_part_alone_asks_for_nothing_of_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    conf = tmp_path / "digits.yaml"  # no digits-strangers.yaml beside it
    conf.write_text("train: {epochs: 1}\n")
    monkeypatch.setattr(stages, "corpus_stage", lambda *_, **__: None)
    monkeypatch.setattr(stages, "run_experiment", lambda *_: print("trained"))
    monkeypatch.setattr("sys.argv", ["run.py", "--official-only", "--out", str(tmp_path / "out"), "--conf", str(conf)])
    assert digits.run() == 0
    assert capsys.readouterr().out == "trained\n"


def test_a_mean_is_of_the_runs_as_they_are(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, out = [save_run(tmp_path / name) for name in "ab"], tmp_path / "mean"
    average_stage(runs, out)
    capsys.readouterr()
    average_stage(runs, out)
    assert capsys.readouterr().err == f"[average: complete in {out}, skipped]\n"
    monkeypatch.chdir(tmp_path)  # the same paths, spelled otherwise
    (tmp_path / "link").symlink_to(tmp_path)
    average_stage([Path("a"), Path("link/b")], Path("mean"))
    assert capsys.readouterr().err == "[average: complete in mean, skipped]\n"
    with pytest.raises(CheckpointError, match=r"mean: is not the mean of what .*a, .*b, .*c hold now"):
        average_stage([*runs, save_run(tmp_path / "c")], out)
    os.utime(runs[0] / checkpoint.WEIGHTS_FILE, (time.time() + 9,) * 2)
    with pytest.raises(CheckpointError, match="is not the mean of what"):
        average_stage(runs, out)


def test_labels_are_of_the_recordings_and_of_the_model_as_they_are(tmp_path: Path, capsys: Capture) -> None:
    run, manifest, out = save_run(tmp_path / "run"), tmp_path / "heard.jsonl", tmp_path / "own" / "heard.jsonl"
    weights = checkpoint.load(run).state_dict()
    weights["encoder.output.weight"] *= 100  # one label is certain in each frame
    checkpoint.save_weights(run, weights, {"step": 0})
    audio = [write_audio(tmp_path / f"{name}.wav", seconds) for name, seconds in (("a", 0.5), ("b", 0.75), ("c", 1.0))]

    def write(number: int) -> None:
        write_manifest(
            manifest, [Utterance(path.stem, path, soundfile.info(path).duration, "") for path in audio[:number]]
        )

    write(2)
    made, complete = f"[label: {out}]\n", f"[label: complete in {out}, skipped]\n"

    def said() -> str:
        label_stage(manifest, run, out)
        return capsys.readouterr().err

    assert said().startswith(made)
    assert len(read_manifest(out)) == 2
    assert said() == complete
    write(2)  # the same again
    assert said() == complete
    write(3)
    assert said().startswith(made)
    assert len(read_manifest(out)) == 3
    os.utime(run / checkpoint.WEIGHTS_FILE, (time.time() + 9,) * 2)
    assert said().startswith(made)
    os.utime(run / checkpoint.WEIGHTS_FILE, (time.time() - 9,) * 2)
    audio[0].write_text("no audio")
    manifest.write_text(manifest.read_text() + "\n")
    for _ in range(2):  # it is not complete then
        with pytest.raises(AudioError, match=r"heard\.jsonl: not all of its recordings"):
            label_stage(manifest, run, out)
