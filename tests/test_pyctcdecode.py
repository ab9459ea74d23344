"""The interface of pyctcdecode: its arguments, weights, results and folders."""

import copy
import gzip
import inspect
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decode import BeamDecoder, NGram
from asr.decode.pyctcdecode import (
    BeamSearchDecoderCTC,
    LanguageModel,
    OutputBeam,
    OutputBeamMPSafe,
    build_ctcdecoder,
)
from asr.errors import DecodeError

LABELS = ["", " ", "a", "b", "c"]
LN_10 = math.log(10.0)

ARPA = """\\data\\
ngram 1=6
ngram 2=4

\\1-grams:
-2.0\t<unk>\t0
-99\t<s>\t-0.3
-0.9\t</s>
-0.6\tab\t-0.2
-0.8\tba\t-0.1
-1.1\tcab\t-0.4

\\2-grams:
-0.2\t<s> ab
-0.4\tab ba
-0.3\tba </s>
-0.5\tcab ab

\\end\\
"""


@pytest.fixture(scope="module")
def arpa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm") / "tiny.arpa"
    path.write_text(ARPA)
    return path


def frames_of(text: str, labels: Sequence[str] = LABELS, sure: float = 0.9) -> np.ndarray:
    """(T, V) log-probabilities that spell `text`, two frames a label and a blank between two."""
    path = [place for character in text for place in [labels.index(character)] * 2 + [labels.index("")]]
    probs = np.full((len(path), len(labels)), (1 - sure) / (len(labels) - 1), np.float32)
    probs[np.arange(len(path)), path] = sure
    return np.log(probs)


def noise(frames: int, seed: int, vocabulary: int = len(LABELS)) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=2.0, size=(frames, vocabulary)).astype(np.float32)


def test_results_have_the_fields_of_pyctcdecode() -> None:
    (beam, *_) = build_ctcdecoder(LABELS).decode_beams(frames_of("ab ba"))
    assert isinstance(beam, OutputBeam)
    text, state, text_frames, logit_score, lm_score = beam
    assert (text, state) == ("ab ba", None)
    assert text_frames == [("ab", (0, 4)), ("ba", (9, 13))]
    assert logit_score == lm_score < 0
    ((batch_beam, *_),) = build_ctcdecoder(LABELS).decode_beams_batch(None, [frames_of("ab ba")])
    assert isinstance(batch_beam, OutputBeamMPSafe)
    assert batch_beam == (text, text_frames, logit_score, lm_score)


def test_logits_and_log_probabilities_give_the_same() -> None:
    decoder = build_ctcdecoder(LABELS)
    logits = noise(40, 1) * 3 + 7
    log_probs = logits - np.log(np.exp(logits.astype(np.float64)).sum(1, keepdims=True))
    for other in (log_probs, logits + np.arange(40)[:, None], logits.astype(np.float64)):
        found, wanted = decoder.decode_beams(other)[:5], decoder.decode_beams(logits)[:5]
        assert [beam.text for beam in found] == [beam.text for beam in wanted]
        np.testing.assert_allclose([beam[3:] for beam in found], [beam[3:] for beam in wanted], atol=1e-4)


@pytest.mark.parametrize("digits", [7, 2, 1])
def test_probabilities_are_refused(digits: int) -> None:
    probs = np.exp(frames_of("ab")).round(digits)
    with pytest.raises(DecodeError, match=r"^utterance 1: no value is below zero .* these are probabilities"):
        build_ctcdecoder(LABELS).decode_batch(None, [frames_of("ab"), probs])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_logits_are_named(value: float) -> None:
    logits = noise(9, 2)
    logits[4, 2] = value
    with pytest.raises(DecodeError, match=rf"^utterance 0, frame 4: largest logit is {value}, wanted a finite number$"):
        build_ctcdecoder(LABELS).decode(logits)


def test_impossible_labels_are_fine() -> None:
    logits = frames_of("ab")
    logits[:, 4] = -np.inf
    assert build_ctcdecoder(LABELS).decode(logits) == "ab"
    logits[3] = -np.inf
    with pytest.raises(DecodeError, match="frame 3: largest logit is -inf"):
        build_ctcdecoder(LABELS).decode(logits)


def test_an_utterance_without_frames() -> None:
    decoder = build_ctcdecoder(LABELS)
    assert decoder.decode(np.zeros((0, 5), np.float32)) == ""
    assert decoder.decode_batch(None, []) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lm_start_state": "state"}, r"lm_start_state must be None: decoder.stream\(\) takes an utterance in chunks"),
        ({"hotwords": "ab"}, "hotwords: wanted a list of words, found the text 'ab'"),
        ({"beam_width": 0}, "beam_width must be in 1..100000, found 0"),
        ({"beam_prune_logp": 0.0}, r"beam_prune_logp must be below 0, found 0\.0"),
        ({"token_min_logp": 1.0}, r"token_min_logp must be at most 0, found 1\.0"),
    ],
)
def test_settings_that_cannot_be(arguments: dict[str, object], message: str) -> None:
    for method in ("decode", "decode_beams"):
        with pytest.raises(DecodeError, match=message):
            getattr(build_ctcdecoder(LABELS), method)(frames_of("ab"), **arguments)


def test_a_state_of_an_earlier_chunk_is_refused_and_not_lost(arpa: Path) -> None:
    decoder = build_ctcdecoder(LABELS, str(arpa))
    state = decoder.decode_beams(frames_of("ab"))[0].last_lm_state
    with pytest.raises(DecodeError, match="stream"):
        decoder.decode(frames_of("ba"), lm_start_state=state)


def test_the_wrong_shape_is_named() -> None:
    with pytest.raises(DecodeError, match=r"utterance 0: expected log-probabilities of shape \(T, 5\), found \(7, 4\)"):
        build_ctcdecoder(LABELS).decode(noise(7, 1, 4))


def test_scores_are_those_of_the_formula(arpa: Path) -> None:
    alpha, beta, offset = 0.7, 1.3, -4.0
    decoder = build_ctcdecoder(LABELS, str(arpa), None, alpha, beta, offset)
    ngram = NGram.load(arpa)
    for text, unknown in (("ab ba", 0), ("ab cab ba", 0), ("bc ab ca", 2)):
        letters = 2 * unknown
        found = decoder.decode_beams(frames_of(text, sure=0.999))[0]
        assert found.text == text
        words = text.split()
        wanted = alpha * (LN_10 * (ngram.score(words) + unknown * offset) - 0.5 * letters) + beta * len(words)
        assert found.lm_score - found.logit_score == pytest.approx(wanted, abs=1e-4)
        decoder.reset_params(lm_score_boundary=False)
        found = decoder.decode_beams(frames_of(text, sure=0.999))[0]
        alone = LN_10 * (ngram.score(words, bos=False, eos=False) + unknown * offset)
        wanted = alpha * (alone - 0.5 * letters) + beta * len(words)
        assert found.lm_score - found.logit_score == pytest.approx(wanted, abs=1e-4)
        decoder.reset_params(lm_score_boundary=True)


def test_words_outside_the_unigrams_are_unknown(arpa: Path) -> None:
    decoder = build_ctcdecoder(LABELS, str(arpa), ["ab", "other"], alpha=1.0, beta=0.0, unk_score_offset=-1.0)
    found = decoder.decode_beams(frames_of("ab ba", sure=0.999))[0]
    wanted = LN_10 * (NGram.load(arpa).score(["ab", "strange"]) - 1.0) - 0.5 * 2
    assert found.lm_score - found.logit_score == pytest.approx(wanted, abs=1e-4)
    all_known = build_ctcdecoder(LABELS, str(arpa), ["ab", "ba", "cab"]).decode_beams(frames_of("ab ba"))[0]
    assert all_known == build_ctcdecoder(LABELS, str(arpa)).decode_beams(frames_of("ab ba"))[0]
    with pytest.raises(DecodeError, match=r"knows none of these 2 words \('AB', ...\)"):
        build_ctcdecoder(LABELS, str(arpa), ["BA", "AB"])
    with pytest.raises(DecodeError, match="unigrams: wanted a list of words, found the text 'ab'"):
        build_ctcdecoder(LABELS, str(arpa), "ab")


@pytest.mark.parametrize("with_lm", [False, True])
def test_each_word_of_a_hotword_phrase_has_the_weight(arpa: Path, with_lm: bool) -> None:
    decoder = build_ctcdecoder(LABELS, str(arpa) if with_lm else None)
    logits = frames_of("ab ba ab abc", sure=0.99999)
    plain = decoder.decode_beams(logits)[0]
    hot = decoder.decode_beams(logits, hotwords=[" ab  cc", "ab", " ", "XY"], hotword_weight=2.5)[0]
    assert hot.text == plain.text == "ab ba ab abc"
    assert hot.logit_score == pytest.approx(plain.logit_score, abs=1e-4)
    assert hot.lm_score == pytest.approx(plain.lm_score + 2 * 2.5, abs=1e-4)


def test_weights_can_be_changed(arpa: Path) -> None:
    decoder = build_ctcdecoder(LABELS, str(arpa))
    rows = frames_of("ab ba", sure=0.999)

    def gain() -> float:
        found = decoder.decode_beams(rows)[0]
        assert found.text == "ab ba"
        return found.lm_score - found.logit_score

    before = gain()
    decoder.reset_params()
    assert gain() == before
    decoder.reset_params(alpha=0, beta=2)
    assert gain() == pytest.approx(4.0, abs=1e-4)
    decoder.model_container[decoder._model_key].beta = 3.0  # as transformers does it
    assert gain() == pytest.approx(6.0, abs=1e-4)
    decoder.reset_params(alpha=-1.0)
    with pytest.raises(DecodeError, match=r"alpha must be in 0\.\.10, found -1"):
        decoder.decode(rows)
    decoder.cleanup()
    assert decoder.decode_beams(rows)[0].last_lm_state is None
    decoder.reset_params(alpha=0.5)
    assert gain() == 0.0


def test_kenlm_objects_and_binaries_are_refused(tmp_path: Path) -> None:
    binary = tmp_path / "lm.bin"
    binary.write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0" + bytes(100))
    with pytest.raises(DecodeError, match=r"lm\.bin: is a KenLM binary"):
        build_ctcdecoder(LABELS, str(binary))
    with pytest.raises(DecodeError, match="language model is a str, wanted an NGram"):
        LanguageModel("lm.arpa")  # type: ignore[arg-type]


@given(seed=st.integers(0, 10_000), frames=st.integers(1, 30), width=st.sampled_from([1, 3, 25]))
def test_beams_are_those_of_the_decoder_below(arpa: Path, seed: int, frames: int, width: int) -> None:
    logits = noise(frames, seed)
    decoder = build_ctcdecoder(LABELS, arpa)
    beams = decoder.decode_beams(logits, beam_width=width, beam_prune_logp=-8.0)
    texts = [beam.text for beam in beams]
    scores = [beam.lm_score for beam in beams]
    assert len(set(texts)) == len(texts) <= width
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] >= scores[0] - 8.0
    assert texts[0] == decoder.decode(logits, beam_width=width, beam_prune_logp=-8.0)
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    below = BeamDecoder(
        LABELS,
        lm=NGram.load(arpa),
        lm_unit="word",
        unknown_offset=-10.0 * LN_10,
        unknown_per_character=-0.5,
        beam_size=width,
        beam_threshold=-8.0,
        token_threshold=-5.0,
        threads=1,
    )([log_probs], n_best=width)[0]
    first = {}
    for found in below:
        first.setdefault(found.text, found)
    for beam in beams:
        found = first[beam.text]
        assert beam.lm_score == pytest.approx(found.score, abs=1e-3)
        assert beam.text_frames == [(word.text, (int(word.start_s), int(word.end_s))) for word in found.words]


def test_batches_equal_single_calls(arpa: Path) -> None:
    decoder = build_ctcdecoder(LABELS, arpa)
    batch = [noise(frames, frames) for frames in (5, 31, 12)]
    settings = {"beam_width": 7, "hotwords": ["cab"], "hotword_weight": 3.0}
    for pool in (None, object()):
        assert decoder.decode_batch(pool, batch, **settings) == [decoder.decode(rows, **settings) for rows in batch]
        beams = decoder.decode_beams_batch(pool, batch, prune_history=True, **settings)
        single = [decoder.decode_beams(rows, **settings) for rows in batch]
        assert beams == [[(beam[0], *beam[2:]) for beam in found] for found in single]


def test_a_stream_gives_what_one_piece_gives(arpa: Path) -> None:
    decoder = build_ctcdecoder(LABELS, arpa)
    rows = frames_of("ab ba cab ab", sure=0.8)
    stream = decoder.stream(hotwords=["cab"])
    for start in range(0, len(rows), 5):
        stream.accept(rows[start : start + 5])
    assert stream.finish()[0].text == decoder.decode(rows, hotwords=["cab"])


@pytest.mark.parametrize("unigrams", [None, ["ab", "ba"]])
def test_folders_are_read_as_they_were_written(arpa: Path, tmp_path: Path, unigrams: list[str] | None) -> None:
    decoder = build_ctcdecoder(LABELS, arpa, unigrams, 0.25, 2, -3, False)
    decoder.save_to_dir(tmp_path)
    decoder.save_to_dir(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")  # transformers puts its files beside it
    again = BeamSearchDecoderCTC.load_from_dir(tmp_path)
    assert again.decode_beams(noise(20, 3)) == decoder.decode_beams(noise(20, 3))
    build_ctcdecoder(["<pad>", "|", "a"]).save_to_dir(tmp_path / "bare")
    assert BeamSearchDecoderCTC.load_from_dir(tmp_path / "bare")._alphabet.labels == ["", " ", "a"]


def test_another_language_model_in_a_folder_is_no_part_of_what_is_saved(arpa: Path, tmp_path: Path) -> None:
    decoder = build_ctcdecoder(LABELS, arpa)
    decoder.save_to_dir(tmp_path)
    (tmp_path / "language_model/ngram.bin").rename(tmp_path / "language_model/5gram.bin")
    with pytest.raises(DecodeError, match=r"language_model: has a language model already, 5gram\.bin"):
        decoder.save_to_dir(tmp_path)
    with pytest.raises(DecodeError, match=r"language_model: has a language model, and this decoder none"):
        build_ctcdecoder(LABELS).save_to_dir(tmp_path)
    assert BeamSearchDecoderCTC.load_from_dir(tmp_path).decode(noise(20, 3)) == decoder.decode(noise(20, 3))


def test_folders_of_pyctcdecode_are_read(arpa: Path, tmp_path: Path) -> None:
    (tmp_path / "language_model").mkdir()
    (tmp_path / "alphabet.json").write_text(json.dumps({"labels": LABELS, "is_bpe": False}))
    attributes = {"alpha": 0.5, "beta": 1.5, "unk_score_offset": -10.0, "score_boundary": True}
    (tmp_path / "language_model/attrs.json").write_text(json.dumps(attributes))
    (tmp_path / "language_model/unigrams.txt").write_text("ab\nba\ncab\n")
    with pytest.raises(DecodeError, match=r"language_model: wanted one language model, found \[\]"):
        BeamSearchDecoderCTC.load_from_dir(tmp_path)
    (tmp_path / "language_model/5gram.arpa").write_bytes(gzip.compress(arpa.read_bytes()))
    found = BeamSearchDecoderCTC.load_from_dir(tmp_path, unigram_encoding="utf-8").decode_beams(noise(20, 3))
    assert found == build_ctcdecoder(LABELS, arpa).decode_beams(noise(20, 3))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("alphabet.json", None, r"alphabet\.json: cannot be read: .*No such file"),
        ("alphabet.json", '{"labels": []}', "wanted JSON with labels and is_bpe: KeyError"),
        ("alphabet.json", '{"labels": ["a"], "is_bpe": false}', "no label is the blank"),
        ("language_model/attrs.json", "{", r"attrs\.json: is no JSON"),
        (
            "language_model/attrs.json",
            '{"alpha": 1}',
            r"attrs\.json: wanted numbers for alpha, .*, found \{'alpha': 1\}",
        ),
        ("language_model/unigrams.txt", None, r"unigrams\.txt: cannot be read"),
    ],
)
def test_damaged_folders_are_named(arpa: Path, tmp_path: Path, name: str, content: str | None, message: str) -> None:
    build_ctcdecoder(LABELS, arpa).save_to_dir(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DecodeError, match=message):
        BeamSearchDecoderCTC.load_from_dir(tmp_path)


def test_models_of_the_hub_are_downloaded_and_read(arpa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_ctcdecoder(LABELS, arpa).save_to_dir(tmp_path)
    calls = []

    def snapshot_download(*arguments: object, **named: object) -> str:
        calls.append((arguments, named))
        return str(tmp_path)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    assert BeamSearchDecoderCTC.load_from_hf_hub("an/id", allow_patterns=["x"]).decode(frames_of("ab")) == "ab"
    assert calls == [(("an/id",), {"cache_dir": None, "allow_patterns": ["x"]})]


def test_a_copy_shares_the_language_model_and_not_its_weights(arpa: Path) -> None:
    decoder = build_ctcdecoder(LABELS, arpa)
    other = copy.deepcopy(decoder)
    other.reset_params(alpha=0.1)
    assert other._language_model.kenlm_model is decoder._language_model.kenlm_model
    assert (other._language_model.alpha, decoder._language_model.alpha) == (0.1, 0.5)


def test_arguments_stand_in_the_order_of_pyctcdecode() -> None:
    common = ["beam_width", "beam_prune_logp", "token_min_logp"]
    hot = ["hotwords", "hotword_weight"]
    for function, wanted in (
        (
            build_ctcdecoder,
            "labels kenlm_model_path unigrams alpha beta unk_score_offset lm_score_boundary".split(),
        ),
        (BeamSearchDecoderCTC, ["alphabet", "language_model"]),
        (BeamSearchDecoderCTC.decode, ["self", "logits", *common, *hot, "lm_start_state"]),
        (BeamSearchDecoderCTC.decode_batch, ["self", "pool", "logits_list", *common, *hot]),
        (BeamSearchDecoderCTC.decode_beams, ["self", "logits", *common, "prune_history", *hot, "lm_start_state"]),
        (BeamSearchDecoderCTC.decode_beams_batch, ["self", "pool", "logits_list", *common, "prune_history", *hot]),
        (
            BeamSearchDecoderCTC.reset_params,
            ["self", "alpha", "beta", "unk_score_offset", "lm_score_boundary"],
        ),
        (
            LanguageModel,
            ["kenlm_model", "unigrams", "alpha", "beta", "unk_score_offset", "score_boundary"],
        ),
    ):
        assert list(inspect.signature(function).parameters) == wanted, function
