"""Backends against the recogniser itself."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asr import checkpoint
from asr.backends import fastest, make_backend
from asr.errors import ConfigError
from asr.recognizer import Recognizer, pad_waves
from tiny_run import save_run


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    return checkpoint.load(save_run(tmp_path_factory.mktemp("run")))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return pad_waves([0.1 * torch.randn(samples, generator=generator) for samples in (16000, 512, 7000)])


@pytest.mark.parametrize(("name", "tolerance"), [("float32", 0.0), ("bfloat16", 0.5), ("int8", 0.5)])
def test_backend_gives_the_recognisers_log_probabilities(recognizer: Recognizer, name: Any, tolerance: float) -> None:
    if name == "int8":
        pytest.importorskip("onnx", reason="the package onnx is not installed (an optional extra)")
        pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed (an optional extra)")
    backend = make_backend(recognizer, name)
    assert backend.name == name
    with torch.inference_mode():
        log_probs, lens = backend.encode(*recognizer.features(*batch()))
        expected, expected_lens = recognizer(*batch())
    assert lens.tolist() == expected_lens.tolist()
    assert log_probs.dtype == torch.float32
    for place, length in enumerate(lens.tolist()):
        found, wanted = log_probs[place, :length], expected[place, :length]
        assert float((found - wanted).abs().mean()) <= tolerance
        torch.testing.assert_close(found.exp().sum(1), torch.ones(length), atol=1e-4, rtol=0)
    assert recognizer.encoder.output.weight.dtype == torch.float32  # the recogniser stays as it was


@pytest.mark.parametrize(
    ("amx", "installed", "name"),
    [(True, True, "bfloat16"), (False, True, "int8"), (False, False, "float32")],
)
def test_auto_is_the_fastest(
    recognizer: Recognizer, amx: bool, installed: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx})
    for package in ("onnx", "onnxruntime"):
        module = SimpleNamespace(__version__="1")
        monkeypatch.setitem(sys.modules, package, module if installed or package == "onnx" else None)
    assert fastest(recognizer) == name


def test_auto_is_float32_where_a_folder_has_the_name(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    monkeypatch.setitem(sys.modules, "onnx", SimpleNamespace())
    assert fastest(recognizer) == "float32"


@pytest.mark.parametrize("amx", [True, False])
def test_auto_is_float32_for_other_cells(tmp_path: Path, amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx})
    assert make_backend(checkpoint.load(save_run(tmp_path / "run", "encoder.cell=gru"))).name == "float32"


def test_int8_without_its_packages(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"^ONNX needs the package onnxruntime: pip install onnxruntime "):
        make_backend(recognizer, "int8")
