"""The script that makes recipes/an4/model, on a tiny run; and what lies there, once it does."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr
from asr import checkpoint
from asr.errors import CheckpointError
from recipes.synthesis import espeak
from recipes.synthesis.recording import Line
from tiny_run import save_run, write_texts

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recipes" / "an4"))
import ship

MODEL = ship.HERE / "model"


def make_run(folder: Path, *overrides: str) -> Path:
    """What the recipe leaves behind, by a model that learnt nothing."""
    for split in ("train", "dev", "test"):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        write_texts(folder / "data" / f"{split}.jsonl", "abba", "cab")
    model = save_run(folder / "model", "train.device=cpu", *overrides)
    tensors, facts = checkpoint.load_tensors(model / checkpoint.WEIGHTS_FILE)
    checkpoint.save_weights(model, tensors, {**facts, "epoch": 3, "dev_wer_percent": 7.5})
    return folder


@pytest.mark.slow
def test_the_card_has_the_figures_of_the_folder(tmp_path: Path) -> None:
    run, out = make_run(tmp_path / "an4", "train.epochs=17", f"train.init_from={tmp_path}/boot"), tmp_path / "shipped"
    ship.ship(run / "model", run / "data", out, "Spoken softly.")
    assert {path.name for path in out.iterdir()} == {
        "config.yaml",
        "tokens.txt",
        "weights.safetensors",
        "README.md",
        "LICENSE-AN4",
    }
    card = (out / "README.md").read_text(encoding="utf-8")
    first = (run / "model" / "test-float16" / "report.txt").read_text(encoding="utf-8").split("\n")[0]
    assert f"| test: the official 2 utterances by 2 other speakers, who chose nothing | {first} |" in card
    assert re.search(r"settings .*`train\.epochs=17` .*`train\.init_from=boot`.*; epoch 3 of 17", card)
    assert "has 2 records of 0.00 h" in card
    assert "Spoken softly." in card
    assert "{" not in card
    assert str(tmp_path) not in "".join(path.read_text() for path in out.iterdir() if path.suffix != ".safetensors")
    ship.ship(run / "model", run / "data", out, "Spoken softly.")  # again, in place
    assert (out / "README.md").read_text(encoding="utf-8") == card


def test_what_cannot_be_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="run folder is missing"):
        ship.ship(tmp_path / "none", tmp_path, tmp_path / "shipped")
    run = make_run(tmp_path / "an4")
    monkeypatch.setattr(ship, "MAX_MB", 0.001)
    with pytest.raises(CheckpointError, match=r"shipped: 0\.0 MB, wanted at most 0\.001 MB"):
        ship.ship(run / "model", run / "data", tmp_path / "shipped")
    assert not (tmp_path / "shipped" / checkpoint.WEIGHTS_FILE).exists()


@pytest.mark.skipif(not (MODEL / checkpoint.WEIGHTS_FILE).is_file(), reason="recipes/an4/ship.py has not been run")
def test_the_shipped_model_recognises(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed (the demo extra)")
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= ship.MAX_MB * 1e6
    pcm, rate_hz = espeak.say(Line("x", "three five seven", "en-us+m3", 150, 50, 50, 3))
    soundfile.write(tmp_path / "a.wav", np.frombuffer(pcm, np.int16), rate_hz)
    found = asr.load(MODEL).transcribe(tmp_path / "a.wav")
    assert re.fullmatch(r"[a-z]+( [a-z]+)*", found.text)
    assert 0 <= found.words[0].start_s < found.words[-1].end_s
    assert "word error rate" in (MODEL / "README.md").read_text(encoding="utf-8")
