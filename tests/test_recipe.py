"""The recipes' stages: complete ones are skipped, interrupted ones go on, other settings are refused."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from asr import checkpoint, stages
from asr.cli import main
from asr.config import Config
from asr.errors import (
    TRY_AGAIN,
    CheckpointError,
    ConfigError,
    CorpusError,
    Interrupted,
    ScoringError,
)
from asr.manifest import read_manifest, write_manifest
from asr.outside import join, read_outside
from asr.train import Trainer
from asr.training.state import state_files
from fake_corpora import audio, ids, make_digits, pack
from peaky import write_arpa
from recipes.librispeech import run as librispeech
from tones import tiny, write_corpus

WORDS = ["ab", "ba", "abba"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A prepared corpus of tones."""
    folder = tmp_path / "data"
    for split in ("train", "dev", "test"):
        write_corpus(folder, WORDS, name=split)
    return folder


def settings(data: Path, *overrides: str) -> Config:
    return tiny(data / "train.jsonl", data / "dev.jsonl", "train.epochs=2", *overrides)


def test_a_complete_experiment_is_not_run_again(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = data.parent / "model"
    stages.run_experiment(data, model, settings(data))
    first = capsys.readouterr()
    assert first.out.startswith("test: WER ")
    assert first.out.endswith("; greedy\n")
    assert "skipped" not in first.err
    before = (model / checkpoint.WEIGHTS_FILE).stat().st_mtime_ns
    stages.run_experiment(data, model, settings(data))
    again = capsys.readouterr()
    assert again.out == first.out
    assert f"[train: complete in {model}, skipped]" in again.err
    assert f"[score: complete in {model / 'test'}, skipped]" in again.err
    assert (model / checkpoint.WEIGHTS_FILE).stat().st_mtime_ns == before


def test_no_dev_stays_no_dev(data: Path) -> None:
    model = data.parent / "model"
    stages.run_experiment(data, model, settings(data, "data.dev=none"))
    assert checkpoint.load_config(model).data.dev == "none"
    tuned = data.parent / "model-lm"
    stages.language_model_stage(data, model, tuned, order=2)  # on the dev that was not used
    assert checkpoint.load_config(tuned).decode.decoder == "beam"


def test_a_training_that_is_stopped_before_its_first_step(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    previous = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("not handled"))
    monkeypatch.setattr(Trainer, "run", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    try:
        with pytest.raises(
            Interrupted, match=r"^stopped by SIGTERM, with nothing to save; start the same .* go on$"
        ) as stop:
            stages.train_stage(data.parent / "model", settings(data))
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert stop.value.exit_code == TRY_AGAIN


def test_other_manifests_stay_as_they_are(data: Path) -> None:
    given = stages.with_data(settings(data, f"data.vocabulary={data / 'v.jsonl'}"), data)
    assert given.data.vocabulary == str(data / "v.jsonl")
    assert (given.data.train, given.data.dev) == (str(data / "train.jsonl"), str(data / "dev.jsonl"))
    for key in ("train", "dev"):
        with pytest.raises(ConfigError, match=rf"^data\.{key}=/x\.jsonl: the recipe takes its own, .*/{key}\.jsonl"):
            stages.with_data(settings(data, f"data.{key}=/x.jsonl"), data)


def test_other_recordings_are_not_those_of_the_recipe(data: Path) -> None:
    ours, theirs = data / "part" / "test.jsonl", data.parent / "outside.jsonl"
    write_corpus(data / "part", WORDS, name="test")
    records = [replace(item, id=f"own-{item.id}") for item in read_manifest(ours)]
    write_manifest(ours, records)
    for folder in (data, data / "part"):
        (folder / "summary.json").touch()
    (data / "results").mkdir()
    (data / "results" / "hypotheses.jsonl").write_text("{}\n")  # no manifest
    assert read_outside([], data) == []
    write_manifest(theirs, records[:1])
    with pytest.raises(CorpusError, match=r"outside\.jsonl: id 'own-test-0' is in .*/part/test\.jsonl too"):
        read_outside([theirs], data)
    joined = data.parent / "joined.jsonl"
    with pytest.raises(CorpusError, match=r"--outside: id 'own-test-0' occurs twice among these and the recipe's own"):
        join([*records, *records[:1]], joined)
    assert not joined.exists()


def test_a_part_of_a_corpus_is_scored_where_it_is_asked_for(data: Path) -> None:
    (data / "summary.json").write_text('{"corpus": "librispeech", "partial": true}')
    (data / stages.MADE_FROM_FILE).write_text("{}")
    stages.corpus_stage(data, "librispeech", None, allow_partial=True)
    with pytest.raises(CorpusError, match=r"data: holds only a part of the corpus .*; --out chooses another folder"):
        stages.corpus_stage(data, "librispeech", None)


def test_manifests_of_another_corpus_are_refused(tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    (tmp_path / stages.MADE_FROM_FILE).write_text('{"source": null}')
    for content, found in (('{"corpus": "digits"}', "digits"), ('{"settings": {}}', "demo")):
        summary.write_text(content)
        stages.require_corpus(tmp_path, found)
        for partial in (True, False):
            with pytest.raises(CorpusError, match=rf"holds the corpus {found}, not an4; choose another folder"):
                stages.corpus_stage(tmp_path, "an4", None, allow_partial=partial)
        assert summary.read_text() == content


def test_a_complete_training_with_damaged_weights_is_told(data: Path) -> None:
    model = data.parent / "model"
    stages.run_experiment(data, model, settings(data))
    weights = model / checkpoint.WEIGHTS_FILE
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged: its tensors do not have the checksum"):
        stages.run_experiment(data, model, settings(data))


def test_other_settings_in_the_same_folder_are_refused(data: Path) -> None:
    model = data.parent / "model"
    stages.run_experiment(data, model, settings(data))
    with pytest.raises(ConfigError, match=r"train\.seed=1, which cannot go on with 2; --out chooses another folder"):
        stages.run_experiment(data, model, settings(data, "train.seed=2"))


def test_a_decoder_that_a_trained_model_would_ignore_is_refused(data: Path) -> None:
    model = data.parent / "model"
    given = settings(data, "decode.beam_size=7", f"decode.hotwords={data / 'train.jsonl'}")
    stages.run_experiment(data, model, given)
    stages.run_experiment(data, model, given)
    with pytest.raises(ConfigError, match=r"^decode\.beam_size=9: is not kept, as .*model holds a run with 7; asr tu"):
        stages.run_experiment(data, model, settings(data, "decode.beam_size=9"))
    path = model / checkpoint.CONFIG_FILE  # as `asr tune` leaves it
    path.write_text(path.read_text().replace("beam_size: 7", "beam_size: 9"))
    stages.run_experiment(data, model, settings(data))


def test_newer_weights_are_scored_again(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = data.parent / "model"
    stages.run_experiment(data, model, settings(data))
    os.utime(model / checkpoint.WEIGHTS_FILE, (time.time() + 9,) * 2)  # whatever the clock's resolution
    capsys.readouterr()
    stages.score_stage(model, data / "test.jsonl", model / "test")
    assert "skipped" not in capsys.readouterr().err


def test_the_score_says_which_decoder_it_is_of(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where `asr evaluate` wrote results of another one into the recipe's folder."""
    model, test = data.parent / "model", data / "test.jsonl"
    stages.run_experiment(data, model, settings(data))
    before = capsys.readouterr().out
    assert main(["evaluate", str(test), "--model", str(model), "--decoder", "beam", "--beam-size", "7"]) == 0
    capsys.readouterr()
    stages.score_stage(model, test, model / "test")
    again = capsys.readouterr()
    assert again.out == before
    assert "skipped" not in again.err
    path = model / checkpoint.CONFIG_FILE
    path.write_text(path.read_text().replace("decoder: greedy", "decoder: beam"))
    stages.score_stage(model, test, model / "test")
    assert capsys.readouterr().out.endswith("; beam of 100\n")
    stages.score_stage(model, test, model / "test")
    assert "skipped" in capsys.readouterr().err


def test_results_of_another_manifest_of_the_same_name(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, other = data.parent / "model", write_corpus(data.parent / "other", ["abab"], name="test")
    stages.train_stage(model, stages.with_data(settings(data), data))
    assert main(["evaluate", str(other), "--model", str(model)]) == 0
    message = rf"holds results of {other}, not of .*/data/test\.jsonl; move that folder away, and run the recipe"
    with pytest.raises(ScoringError, match=message):
        stages.score_stage(model, data / "test.jsonl", model / "test")
    capsys.readouterr()


def test_a_run_that_died_before_its_first_checkpoint_starts_again(data: Path) -> None:
    model = data.parent / "model"
    stages.run_experiment(data, model, settings(data))
    for path in (*state_files(model), model / checkpoint.WEIGHTS_FILE):
        path.unlink()
    stages.train_stage(model, stages.with_data(settings(data), data))
    assert checkpoint.load(model)


@pytest.mark.parametrize(("parts", "wrong"), [("test-clean,", ""), ("test-clean, test-clear", "test-clear")])
def test_parts_to_score_are_checked_first(
    parts: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["run.py", "--source", "/none", "--out", str(tmp_path), "--test-parts", parts])
    with pytest.raises(CorpusError, match=rf"^--test-parts: there is no part '{wrong}'; there are train-clean-100, "):
        librispeech.run()


def test_where_the_corpus_is_that_was_prepared(tmp_path: Path) -> None:
    corpus, archive = make_digits(tmp_path / "fsdd"), tmp_path / "fsdd.tar.gz"
    pack(corpus, archive)
    for name, source in (("folder", corpus), ("archive", archive)):
        stages.corpus_stage(tmp_path / name, "digits", source, allow_partial=True)
    assert stages.roots_of(tmp_path / "folder") == [corpus]
    assert stages.roots_of(tmp_path / "archive") == [tmp_path / "archive" / "source" / "fsdd"]


def test_prepared_data_is_not_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def make() -> str:
        (tmp_path / "summary.json").write_text("{}")
        return "a table"

    stages.prepare_stage(tmp_path, make, {"source": "/a", "part": "x"})
    assert "a table" in capsys.readouterr().err
    stages.prepare_stage(tmp_path, make, {"source": None, "part": "x"})
    assert capsys.readouterr().err == f"[prepare: complete in {tmp_path}, skipped]\n"
    with pytest.raises(CorpusError, match=r"was made from part=x, not y"):
        stages.prepare_stage(tmp_path, make, {"source": "/a", "part": "y"})


def test_an_archive_that_was_replaced_is_prepared_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, archive = tmp_path / "data", tmp_path / "fsdd.tar.gz"
    corpus = make_digits(tmp_path / "fsdd")
    pack(corpus, archive)

    def prepared() -> bool:
        stages.corpus_stage(data, "digits", archive, allow_partial=True)
        return "skipped" not in capsys.readouterr().err

    assert prepared()
    assert not prepared()
    os.utime(archive)  # the same content
    assert not prepared()
    audio(corpus / "recordings" / "3_theo_17.wav")
    pack(corpus, archive)
    assert prepared()
    assert "3_theo_17" in ids(data / "train.jsonl")
    archive.unlink()  # what was made of it is enough
    assert not prepared()


def test_a_language_model_of_the_training_transcripts(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, tuned = data.parent / "model", data.parent / "model-lm"
    stages.run_experiment(data, model, settings(data))
    greedy_config = (model / checkpoint.CONFIG_FILE).read_bytes()
    stages.language_model_stage(data, model, tuned, order=2)
    assert (model / checkpoint.CONFIG_FILE).read_bytes() == greedy_config
    assert checkpoint.load_config(tuned).decode.decoder == "beam"
    assert sorted(checkpoint.load(tuned).decoder.resources.lm.words) == ["</s>", "<s>", "<unk>", "ab", "abba", "ba"]
    stages.score_stage(tuned, data / "test.jsonl", tuned / "test")
    capsys.readouterr()
    stages.language_model_stage(data, model, tuned, order=2)
    assert capsys.readouterr().err == f"[language model: complete in {tuned}, skipped]\n"
    with pytest.raises(
        CorpusError, match=r"model-lm: was made from other files \(none\), or other .*; --out chooses another"
    ):
        stages.language_model_stage(data, model, tuned, order=2, texts=[data / "test.jsonl"])
    with pytest.raises(CorpusError, match=r"model-lm: was made without priors of labels; --out chooses another"):
        stages.language_model_stage(data, model, tuned, order=2, priors=True)


def test_a_language_model_of_other_texts_too(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, tuned, text = data.parent / "model", data.parent / "model-text", data.parent / "text.txt"
    stages.run_experiment(data, model, settings(data))
    text.write_text("BAB ab\n")
    stages.language_model_stage(data, model, tuned, order=2, texts=[text])
    words = sorted(checkpoint.load(tuned).decoder.resources.lm.words)
    assert words == ["</s>", "<s>", "<unk>", "ab", "abba", "ba", "bab"]  # in the case of the model
    capsys.readouterr()
    stages.language_model_stage(data, model, tuned, order=2, texts=[text])
    assert capsys.readouterr().err == f"[language model: complete in {tuned}, skipped]\n"
    text.write_text("cab\n")
    with pytest.raises(CorpusError, match=r"model-text: was made from other files \(.*text\.txt\)"):
        stages.language_model_stage(data, model, tuned, order=2, texts=[text])


def test_a_language_model_for_a_model_that_was_tuned_itself(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted, it is not taken for complete."""
    model, tuned, words = data.parent / "model", data.parent / "model-lm", data.parent / "words"
    stages.run_experiment(data, model, settings(data))
    words.write_text("ab\nba\nabba\n")
    arpa = write_arpa(data.parent / "lm.arpa", [(-1.0, "ab"), (-1.5, "ba")])
    tune = ["tune", str(model), "--lm", str(arpa), "--lexicon", str(words), "--estimate-priors"]
    assert main(tune) == 0

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("asr.tune_run.tune_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stages.language_model_stage(data, model, tuned, order=2)
    stages.language_model_stage(data, model, tuned, order=2)
    decode = checkpoint.load_config(tuned).decode
    assert (decode.decoder, decode.lm, decode.lexicon, decode.priors) == ("beam", "lm.bin", "lexicon.txt", "")
    assert (tuned / "lexicon.txt").read_text() == words.read_text()
    stages.language_model_stage(data, model, tuned, order=2)  # complete
