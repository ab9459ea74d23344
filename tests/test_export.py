"""An exported graph against the recogniser that it was made of, under onnxruntime."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr import checkpoint, config
from asr.commands.export import add_export
from asr.errors import ConfigError
from asr.export import onnx_model
from asr.features import TRAINED
from asr.recognizer import Recognizer
from asr.text import BLANK_NAME, Tokenizer
from ragged import rubbish_batch
from tiny_run import save_run

pytest.importorskip("onnx", reason="the package onnx is not installed (an optional extra)")
onnxruntime = pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed (an optional extra)")

TOLERANCE = 1e-4
SAMPLES = (16000, 512, 5000, 673, 9999)


def recognizer_of(**changes: Any) -> Recognizer:
    small = {"features.mel_bins": 16, "encoder.conv_channels": 4, "encoder.layers": 2, "encoder.width": 8}
    masks = {"augment.freq_masks": 0, "augment.time_masks": 0}  # which features.normalization=none wants
    values = {**small, **masks, **{key.replace("__", "."): value for key, value in changes.items()}}
    settings = config.load(None, [f"{key}={value}" for key, value in values.items()])
    torch.manual_seed(3)
    recognizer = Recognizer(settings, Tokenizer([BLANK_NAME, " ", *"abcdefgh"], settings.text)).eval()
    with torch.no_grad():
        recognizer.encoder.output.weight.mul_(30)
        if settings.features.normalization in TRAINED:
            recognizer.normalizer.mean.copy_(torch.linspace(-9, -5, 16))
            recognizer.normalizer.std.copy_(torch.linspace(0.7, 2, 16))
    return recognizer


def rows() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(samples, generator=generator) for samples in SAMPLES]


def run(model: Any, **inputs: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    content = model if isinstance(model, str) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    log_probs, lens = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    return log_probs, lens


def assert_same(recognizer: Recognizer, kind: str, tolerance: float = TOLERANCE) -> None:
    waves, wave_lens = rubbish_batch(rows(), kind, extra=1000)
    log_probs, lens = run(onnx_model(recognizer), waves=waves, wave_lens=wave_lens)
    assert lens.tolist() == recognizer.output_lengths(wave_lens).tolist()
    for place, wave in enumerate(rows()):
        with torch.inference_mode():
            alone, _ = recognizer(wave.unsqueeze(0), wave_lens[place : place + 1])
        np.testing.assert_allclose(log_probs[place, : lens[place]], alone[0].numpy(), atol=tolerance, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("subsampling", [1, 2, 4, 8])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_ragged_batch_is_what_each_utterance_is_alone(cell: str, bidirectional: bool, subsampling: int) -> None:
    for projection, layer_norm in ((0, True), (5, False)):
        recognizer = recognizer_of(
            encoder__cell=cell,
            encoder__bidirectional=bidirectional,
            encoder__subsampling=subsampling,
            encoder__projection=projection,
            encoder__layer_norm=layer_norm,
        )
        assert_same(recognizer, "noise")


@pytest.mark.parametrize("kind", ["noise", "nan"])
@pytest.mark.parametrize("normalization", ["global", "map", "utterance", "none"])
def test_padding_is_never_read(normalization: str, kind: str) -> None:
    assert_same(recognizer_of(features__normalization=normalization), kind)


@pytest.mark.parametrize("change", [{"audio__sample_rate_hz": 8000}, {"features__window_ms": 32.0}])
def test_other_windows(change: dict[str, Any]) -> None:
    assert_same(
        recognizer_of(features__low_hz=0, features__mel_bins=12, features__normalization="none", **change), "nan"
    )


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_other_cells(cell: str) -> None:
    assert_same(recognizer_of(encoder__cell=cell, encoder__projection=5), "noise")


def test_from_features() -> None:
    recognizer = recognizer_of()
    waves, wave_lens = rubbish_batch(rows(), "noise")
    feats, feat_lens = recognizer.log_mel(waves, wave_lens)
    model = onnx_model(recognizer, from_features=True)
    log_probs, lens = run(model, feats=recognizer.normalizer(feats, feat_lens), feat_lens=feat_lens)
    with torch.inference_mode():
        expected, _ = recognizer(waves, wave_lens)
    for place, length in enumerate(lens):
        np.testing.assert_allclose(log_probs[place, :length], expected[place, :length].numpy(), atol=TOLERANCE, rtol=0)


def export(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_export(parser)
    parsed = parser.parse_args([str(argument) for argument in arguments])
    return int(parsed.run(parsed))


def test_command_writes_a_file_that_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_run(tmp_path / "run", "data.train=/home/a/train.jsonl", "augment.noise_dir=/home/a/noise")
    (tmp_path / "m.onnx").touch()
    with pytest.raises(ConfigError, match=r"m\.onnx: exists already; --overwrite replaces it"):
        export(folder, "-o", tmp_path / "m.onnx")
    assert export(folder, "-o", tmp_path / "m.onnx", "--overwrite") == 0
    assert b"/home/a" not in (tmp_path / "m.onnx").read_bytes()
    assert capsys.readouterr().err.startswith(f"{tmp_path / 'm.onnx'}: ")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    recognizer = checkpoint.load(folder)
    assert json.loads(facts["tokens"]) == list(recognizer.vocabulary.labels)
    assert (facts["blank"], facts["space"], facts["sample_rate_hz"], facts["fft_samples"]) == ("0", " ", "16000", "512")
    assert float(facts["frame_s"]) == recognizer.frame_s
    assert facts["quantized"] == "no"
    (tmp_path / "config.yaml").write_text(facts["config"])
    assert config.load(tmp_path / "config.yaml") == config.without_paths(recognizer.config)


@pytest.mark.slow
def test_int8_is_smaller_and_close(tmp_path: Path) -> None:
    # Large enough that the weights outweigh the graph, and the cosines and sines of the spectrum.
    folder = save_run(tmp_path / "run", "encoder.width=128", "encoder.layers=2")
    export(folder, "-o", tmp_path / "float.onnx")
    export(folder, "--quantize", "int8", "-o", tmp_path / "int8.onnx")
    assert (tmp_path / "int8.onnx").stat().st_size < 0.6 * (tmp_path / "float.onnx").stat().st_size
    waves, wave_lens = rubbish_batch(rows(), "noise")
    exact, lens = run(str(tmp_path / "float.onnx"), waves=waves, wave_lens=wave_lens)
    rounded, _ = run(str(tmp_path / "int8.onnx"), waves=waves, wave_lens=wave_lens)
    differences = [np.abs(exact[place, :length] - rounded[place, :length]) for place, length in enumerate(lens)]
    assert 0 < np.concatenate(differences).mean() < 0.5  # of log-probabilities that spread over tens
    session = onnxruntime.InferenceSession(tmp_path / "int8.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["quantized"] == "int8"


def test_int8_is_for_lstm_alone(tmp_path: Path) -> None:
    folder = save_run(tmp_path / "run", "encoder.cell=gru")
    with pytest.raises(ConfigError, match=r"^int8 is for encoder\.cell=lstm, found gru$"):
        export(folder, "--quantize", "int8", "-o", tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
