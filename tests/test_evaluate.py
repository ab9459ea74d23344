"""Recognition of a manifest: every utterance once, in order, whatever the batches."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from alone import recognise
from asr.audio import load_utterance
from asr.boundaries import bounded
from asr.config import DecodeConfig
from asr.ctc import ctc_losses
from asr.decode import Word
from asr.decoding import Decoder
from asr.errors import AudioError
from asr.evaluate import REPORT_FILE, Evaluation, Provenance, emissions_of, emit, write_results
from asr.hypotheses import HYPOTHESES_FILE, Result, read_hypotheses
from asr.manifest import Utterance, read_manifest
from asr.pauses import levels_of
from asr.recognizer import Recognizer
from asr.text import build_tokenizer
from tones import tiny, write_corpus

TEXTS = ["abba cab", "d", "A Cab!", "bad dad", "cc", "dab"]


@pytest.fixture(scope="module")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    manifest = write_corpus(tmp_path_factory.mktemp("tones"), [text.lower().strip("!") for text in TEXTS])
    return [replace(utterance, text=text) for utterance, text in zip(read_manifest(manifest), TEXTS, strict=True)]


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    settings = tiny(Path(), Path())
    torch.manual_seed(5)
    return Recognizer(settings, build_tokenizer(TEXTS, settings.text)).eval()


def encoded(recognizer: Recognizer, utterances: Sequence[Utterance]) -> list[list[int]]:
    return [recognizer.tokenizer.encode(utterance.text, where=utterance.id) for utterance in utterances]


def test_results_are_in_manifest_order_and_do_not_depend_on_the_batches(
    utterances: list[Utterance], recognizer: Recognizer
) -> None:
    labels = encoded(recognizer, utterances)
    alone = Evaluation(utterances, recognizer, batch_s=0.1, labels=labels)
    together = Evaluation(utterances, recognizer, batch_s=100, labels=labels)
    results, losses = alone.run(recognizer)
    assert [result.id for result in results] == [utterance.id for utterance in utterances]
    assert [result.duration for result in results] == [utterance.duration for utterance in utterances]
    assert [result.reference for result in results] == ["abba cab", "d", "a cab", "bad dad", "cc", "dab"]
    same_results, same_losses = together.run(recognizer)
    assert same_results == results
    assert sorted(same_losses) == pytest.approx(sorted(losses), rel=1e-5)


def test_hypotheses_and_loss_are_those_of_the_utterance_alone(
    utterances: list[Utterance], recognizer: Recognizer
) -> None:
    labels = encoded(recognizer, utterances)
    results, found = Evaluation(utterances, recognizer, batch_s=100, labels=labels).run(recognizer)
    assert any(result.hypothesis for result in results)
    losses = []
    for utterance, row, result in zip(utterances, labels, results, strict=True):
        wave = load_utterance(utterance, recognizer.config.audio)
        assert recognise(recognizer, wave).text == result.hypothesis
        with torch.no_grad():
            log_probs, out_lens = recognizer(wave[None], torch.tensor([len(wave)]))
            losses.append(ctc_losses(log_probs, out_lens, torch.tensor([row]), torch.tensor([len(row)])).item())
    assert sorted(found) == pytest.approx(sorted(losses), rel=1e-5)


def test_without_labels_there_is_no_loss_and_any_reference_will_do(
    utterances: list[Utterance], recognizer: Recognizer
) -> None:
    strange = [replace(utterances[0], text="Ünknown 42!"), *utterances[1:]]
    results, losses = Evaluation(strange, recognizer, batch_s=3).run(recognizer)
    assert losses == []
    assert results[0].reference == "ünknown 42"


def test_greedy_unless_a_decoder_is_given(utterances: list[Utterance], recognizer: Recognizer, tmp_path: Path) -> None:
    """Training gives none, so that its dev evaluations stay greedy whatever the configuration says."""
    (tmp_path / "words.txt").write_text("dad\n")
    decode = DecodeConfig(decoder="beam", lexicon=str(tmp_path / "words.txt"))
    beam = Recognizer(replace(recognizer.config, decode=decode), recognizer.tokenizer).eval()
    beam.load_state_dict(recognizer.state_dict())
    evaluation = Evaluation(utterances, beam, batch_s=3)
    assert evaluation.run(beam)[0] == evaluation.run(recognizer)[0]
    found, _ = evaluation.run(beam, beam.decoder)
    assert {word for result in found for word in result.hypothesis.split()} == {"dad"}


def test_words_have_the_times_of_their_sounds_whatever_the_batches(
    utterances: list[Utterance], recognizer: Recognizer
) -> None:
    alone: dict[str, Sequence[Word]] = {}
    together: dict[str, Sequence[Word]] = {}
    Evaluation(utterances, recognizer, batch_s=0.1).run(recognizer, words=alone)
    Evaluation(utterances, recognizer, batch_s=100).run(recognizer, words=together)
    moved = 0
    for utterance in utterances:
        wave = recognizer.load(utterance)
        feats, _ = recognizer.log_mel(wave[None], torch.tensor([len(wave)]))
        labelled = recognise(recognizer, wave).words
        wanted = bounded(labelled, recognizer.levels(levels_of(feats[0])))
        for found in (alone, together):
            times = [(word.text, word.start_s, word.end_s) for word in found[utterance.id]]
            assert times == [(word.text, word.start_s, word.end_s) for word in wanted]
        moved += wanted != labelled
    assert moved


def test_a_batch_too_large_for_memory_comes_in_parts(
    utterances: list[Utterance], recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = Evaluation(utterances, recognizer, batch_s=100, labels=encoded(recognizer, utterances))
    whole, whole_losses = evaluation.run(recognizer)
    forward = Recognizer.forward
    seen: list[int] = []
    fits = 2

    def limited(self: Recognizer, waves: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(waves))
        if len(waves) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, waves, lens)

    monkeypatch.setattr(Recognizer, "forward", limited)
    results, losses = evaluation.run(recognizer)
    assert seen == [6, 3, 1, 2, 3, 1, 2]
    assert results == whole
    assert sorted(losses) == pytest.approx(sorted(whole_losses), rel=1e-5)
    fits = 0
    with pytest.raises(AudioError, match=r"^utterance train-0: out of memory on this utterance alone \("):
        evaluation.run(recognizer)
    monkeypatch.setattr(Recognizer, "forward", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        evaluation.run(recognizer)


def test_log_probabilities_are_kept(utterances: list[Utterance], recognizer: Recognizer) -> None:
    evaluation = Evaluation(utterances, recognizer, batch_s=3)
    kept: dict[str, np.ndarray] = {}
    results, _ = evaluation.run(recognizer, keep=kept)
    emissions = emissions_of(utterances, kept, recognizer)
    again = emit(evaluation, recognizer)
    assert list(emissions.log_probs) == list(again.log_probs) == [utterance.id for utterance in utterances]
    assert emissions.refs == again.refs == {result.id: result.reference for result in results}
    assert emissions.vocabulary.frame_s == recognizer.frame_s
    decoder = Decoder(DecodeConfig(), emissions.vocabulary)
    for result in results:
        rows = emissions.log_probs[result.id]
        assert rows.base is None  # not a view of the padded batch
        np.testing.assert_array_equal(rows, again.log_probs[result.id])
        assert decoder([rows])[0][0].text == result.hypothesis


def test_evaluation_is_repeatable_and_follows_the_weights(utterances: list[Utterance], recognizer: Recognizer) -> None:
    evaluation = Evaluation(utterances, recognizer, batch_s=3)
    other = Recognizer(recognizer.config, recognizer.tokenizer).eval()
    results, _ = evaluation.run(recognizer)
    evaluation.run(other)
    assert evaluation.run(recognizer)[0] == results
    with torch.no_grad():
        other.encoder.output.bias[0] = 1000.0  # nothing but blanks
    assert {result.hypothesis for result in evaluation.run(other)[0]} == {""}


def test_unreadable_audio_is_named_by_utterance(
    utterances: list[Utterance], recognizer: Recognizer, tmp_path: Path
) -> None:
    missing = replace(utterances[2], id="u2", audio_filepath=tmp_path / "none.wav")
    with pytest.raises(AudioError, match=r"utterance u2: .*none\.wav: cannot read audio: No such file"):
        Evaluation([*utterances[:2], missing], recognizer, batch_s=3).run(recognizer)


def test_audio_too_short_for_a_frame_is_named_by_utterance(utterances: list[Utterance], recognizer: Recognizer) -> None:
    short = replace(utterances[2], id="u2", duration=0.02)  # 160 samples
    with pytest.raises(AudioError, match="utterance u2: 160 samples of audio are shorter than one frame of 256"):
        Evaluation([*utterances[:2], short], recognizer, batch_s=3).run(recognizer)


def test_files(tmp_path: Path) -> None:
    results = [Result("a", "ann", "abba cab", "abba cap", 1.0), Result("b", None, "d", "d", 0.5)]
    decode = DecodeConfig(decoder="beam", alpha=0.7)
    made = Provenance.of(tmp_path / "m.jsonl", decode)
    report = write_results(tmp_path / "out", results, made)
    assert Provenance.read(tmp_path / "out") == made == Provenance(tmp_path / "m.jsonl", decode)
    assert Provenance.of(tmp_path / "m.jsonl", DecodeConfig(alpha=0.7)).decode == DecodeConfig()  # reads no alpha
    assert (tmp_path / "out" / REPORT_FILE).read_text(encoding="utf-8") == report
    assert "33.33%" in report.splitlines()[0]
    assert read_hypotheses(tmp_path / "out" / HYPOTHESES_FILE) == results
    first = (tmp_path / "out" / HYPOTHESES_FILE).read_text(encoding="utf-8").splitlines()[0]
    assert json.loads(first)["hypothesis"] == "abba cap"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"manifest": "a", "decode": {"gamma": 1}}', '{"manifest": 1}'])
def test_what_another_version_recorded(tmp_path: Path, text: str) -> None:
    (tmp_path / "evaluation.json").write_text(text)
    assert Provenance.read(tmp_path) is None


def test_a_crash_leaves_no_mixture_of_two_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [Result("a", "ann", "abba cab", "abba cap", 1.0)]
    write_results(tmp_path, results, Provenance.of(tmp_path / "m.jsonl", DecodeConfig()))

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    for where, left in (("write_hypotheses", True), ("write_text_atomic", False)):
        with monkeypatch.context() as patch:
            patch.setattr(f"asr.evaluate.{where}", stopped)
            with pytest.raises(KeyboardInterrupt):
                write_results(tmp_path, results, Provenance.of(tmp_path / "m.jsonl", DecodeConfig(decoder="beam")))
        assert not (tmp_path / HYPOTHESES_FILE).exists()
        assert (tmp_path / REPORT_FILE).exists() == left
