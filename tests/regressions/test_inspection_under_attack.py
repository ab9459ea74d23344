"""What a hostile tester found in pictures, pages, spliced sentences, shrunk models and what training minimises."""

import os
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from asr import checkpoint
from asr.augment import FeatureAugment, utterance_generator
from asr.config import TextConfig, TrainConfig
from asr.decode import Word
from asr.errors import CheckpointError
from asr.manifest import read_manifest
from asr.memory import reach
from asr.process.lock import locked
from asr.recognizer import Recognizer
from asr.splicing.pieces import Piece, cut
from asr.splicing.sentences import Plan, splice
from asr.splicing.succession import Stock, Succession, assemble
from asr.text import Tokenizer
from asr.training.objective import objective
from asr.training.shrink import shrink
from scored_run import RESULTS, write_set
from test_objective import CONFIG, batch_of
from tiny_run import error_line, save_run, succeed, write_audio, write_texts

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"), "encoder.bidirectional=false")


# --- asr inspect ------------------------------------------------------------------------------------------------------


def test_a_name_that_no_picture_can_hold_and_a_word_that_no_label_spells(
    tmp_path: Path, run: Path, capsys: Capture
) -> None:
    """matplotlib raised a TypeError for bytes that are no text, and wrote control characters into the SVG.

    Words that the vocabulary cannot spell were dated without a remark.
    """
    audio = tmp_path / os.fsdecode(b"a\xff\x01-->.wav")
    audio.write_bytes(write_audio(tmp_path / "a.wav").read_bytes())
    out = tmp_path / "out"
    _, err = succeed(
        capsys, "inspect", audio, "--model", run, "--out", out, "--gates", "forget", "--text", "ab x\x01\udcff"
    )
    assert err.startswith(
        "note: --text: line 1, word 2 'x\\x01\\udcff': aligned as any sound: the vocabulary lacks 'x'"
    )
    for path in out.glob("*.svg"):
        ElementTree.parse(path)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "a\ufffd\ufffd--&gt;.wav" in page
    assert "aligned as any sound" in page


@pytest.mark.parametrize("factor", [0.0, 1e30])
def test_outputs_that_do_not_change_with_the_input_have_no_reach(run: Path, factor: float) -> None:
    """The span was that of NaN: from the first lag to the first."""
    encoder = checkpoint.load(run).encoder
    with torch.no_grad():
        encoder.subsampling.linear.weight.mul_(factor)
    with pytest.raises(CheckpointError, match="wanted a number above 0 to measure the reach"):
        reach(encoder, [torch.randn(60, 16)], 0.01)


# --- asr report, asr compare ------------------------------------------------------------------------------------------


def test_a_page_never_takes_the_place_of_another_kind_of_file(tmp_path: Path, capsys: Capture) -> None:
    """`--out RUN/config.yaml` and `--html RUN/test/hypotheses.jsonl` were overwritten."""
    results = write_set(tmp_path / "test", RESULTS) / "hypotheses.jsonl"
    before = results.read_bytes()
    wanted = f"{results}: wanted a name that ends in .html"
    assert error_line(capsys, "report", results.parent, "--out", results) == f"error: --out {wanted}"
    assert error_line(capsys, "compare", results, results, "--html", results) == f"error: --html {wanted}"
    assert results.read_bytes() == before


def test_only_pages_of_asr_are_replaced(tmp_path: Path, run: Path, capsys: Capture) -> None:
    results = write_set(tmp_path / "test", RESULTS)
    page, index = tmp_path / "page.html", tmp_path / "index.html"
    for path in (page, index):
        path.write_text("<!DOCTYPE html><html><head><title>My notes</title></head></html>")
    for path, *command in (
        (page, "report", results, "--out", page),
        (page, "compare", results, results, "--html", page),
        (index, "inspect", write_audio(tmp_path / "a.wav"), "--model", run, "--out", tmp_path),
    ):
        line = error_line(capsys, *command)
        assert line == f"error: {path}: exists already and is no page of asr; move it away, or give another name"
        assert "My notes" in path.read_text()
    page.unlink()
    for _ in range(2):
        succeed(capsys, "report", results, "--out", page)
        succeed(capsys, "compare", results, results, "--html", page)


# --- asr splice -------------------------------------------------------------------------------------------------------


def test_the_manifest_that_is_spliced_is_not_overwritten(tmp_path: Path, run: Path, capsys: Capture) -> None:
    """`--out` may be the folder of the manifest, or one with a train.jsonl of another origin."""
    manifest = write_texts(tmp_path / "train.jsonl", "ab", "cab")
    before = manifest.read_bytes()
    line = error_line(capsys, "splice", manifest, "--model", run, "--out", tmp_path)
    assert line == f"error: {manifest}: would be overwritten; choose another folder"
    assert manifest.read_bytes() == before


def test_an_old_manifest_never_stands_beside_new_audio(
    tmp_path: Path, run: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed halfway, a second `asr splice` left the first one's texts with its own sentences."""
    manifest, out = write_texts(tmp_path / "m.jsonl", "ab", "cab"), tmp_path / "out"
    utterances, recognizer = read_manifest(manifest), checkpoint.load(run)
    splice(utterances, recognizer, out, Plan(0.001, (1, 2)))
    assert (out / "train.jsonl").is_file()

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("asr.splicing.sentences.soundfile.write", full)
        with pytest.raises(OSError, match="no space"):
            splice(utterances, recognizer, out, Plan(0.001, (1, 2), seed=1))
    assert not (out / "train.jsonl").exists()
    with locked(out) as alone:
        assert alone
        line = error_line(capsys, "splice", manifest, "--model", run, "--out", out)
    assert line == f"error: {out}: another process is writing sentences there"
    splice(utterances, recognizer, out, Plan(0.001, (1, 2), seed=1))
    assert len(read_manifest(out / "train.jsonl")) > 2


def test_a_recording_too_short_for_a_loudness_stays_whole() -> None:
    """The quantile of no window at all was an IndexError."""
    words = [Word("a", 0.0, 0.005, 1.0), Word("b", 0.01, 0.015, 1.0)]
    (piece,) = cut(torch.zeros(150), words, 0.005, 8000)
    assert piece.text == "a b"


def test_the_longest_sentence_is_joined_in_linear_time() -> None:
    """Each of thousands of pieces copied all before it: minutes for an hour of audio."""
    started_s = time.process_time()
    made = assemble(
        Stock([Piece(torch.ones(4000), "a")], Succession(["a"], 1)), utterance_generator(0, 0, "x"), (3600, 3600), 8000
    )
    assert len(made.text.split()) == 7200
    assert len(made.wave) == 7200 * 4000 - 7199 * 80
    assert time.process_time() - started_s < 10


# --- asr export --format float16 --------------------------------------------------------------------------------------


def test_a_model_without_states_is_not_overwritten(tmp_path: Path, run: Path, capsys: Capture) -> None:
    """A folder without states was taken for one that was shrunk before."""
    other = save_run(tmp_path / "other")
    before = (other / "weights.safetensors").read_bytes()
    assert "holds another model" in error_line(capsys, "export", run, "--format", "float16", "-o", other)
    assert (other / "weights.safetensors").read_bytes() == before
    for _ in range(2):
        succeed(capsys, "export", run, "--format", "float16", "-o", tmp_path / "small")


def test_decoder_files_of_one_name_stay_apart(tmp_path: Path) -> None:
    """Both were copied to one place, and that was the vocabulary's."""
    texts = {"lexicon": "ab\ncab\n", "hotwords": "ab\n"}
    overrides = ["decode.decoder=beam"]
    for key, text in texts.items():
        (tmp_path / key).mkdir()
        (tmp_path / key / "tokens.txt").write_text(text, encoding="utf-8")
        overrides.append(f"decode.{key}={tmp_path / key / 'tokens.txt'}")
    run = save_run(tmp_path / "run", *overrides)
    shrink(run, tmp_path / "small")
    settings = checkpoint.load_config(tmp_path / "small")
    for key, text in texts.items():
        assert (tmp_path / "small" / getattr(settings.decode, key)).read_text(encoding="utf-8") == text
    assert checkpoint.load(tmp_path / "small").tokenizer.tokens == checkpoint.load(run).tokenizer.tokens
    (tmp_path / "hotwords" / "tokens.txt").unlink()
    with pytest.raises(CheckpointError, match=r"decode\.hotwords=.*tokens\.txt is missing$"):
        shrink(run, tmp_path / "other")
    assert not (tmp_path / "other").exists()  # half of it stayed


# --- what training minimises ------------------------------------------------------------------------------------------


def test_a_batch_in_parts_has_the_same_gradients_with_two_views() -> None:
    """As when a step does not fit in memory: each part keeps the draws of both views."""
    train = TrainConfig(consistency=0.3, intermediate_ctc=0.2)
    torch.manual_seed(5)
    recognizer = Recognizer(CONFIG, Tokenizer(["<blank>", " ", *"abc"], TextConfig())).train()
    augment = FeatureAugment(CONFIG.augment, recognizer.log_mel.centres_hz)
    found = []
    for parts in (1, 2):
        recognizer.zero_grad()
        pieces = batch_of(2).split(parts)
        assert len(pieces) == parts
        for piece in pieces:
            objective(recognizer, piece, augment, train)[0].sum().backward()
        found.append([parameter.grad.clone() for parameter in recognizer.parameters() if parameter.grad is not None])
    for whole, summed in zip(*found, strict=True):
        torch.testing.assert_close(whole, summed, rtol=1e-4, atol=1e-5)
