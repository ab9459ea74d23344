"""Training where memory does not suffice: batches in parts, and an utterance that is too large by itself."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from asr.config import Config
from asr.ctc import ctc_losses
from asr.errors import TrainingError
from asr.features import LogMel
from asr.train import Trainer
from asr.training import objective
from asr.training.state import state_files
from tones import logged, tiny, write_corpus

MakeConfig = Callable[..., Config]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(
        tmp_path_factory.mktemp("tones"), ["ab", "cab", "bad dad", "a b c", "abba cab", "d", "dab", "cc"]
    )


@pytest.fixture
def settings(corpus: Path) -> MakeConfig:
    return lambda *overrides: tiny(corpus, corpus, "train.batch_s=2", "train.epochs=2", *overrides)


def memory_for(utterances: int, seen: list[int]) -> Callable[..., Tensor]:
    """`ctc_losses` that runs out of memory on more utterances at once."""

    def losses(log_probs: Tensor, *others: Tensor) -> Tensor:
        seen.append(len(log_probs))
        if len(log_probs) > utterances:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return ctc_losses(log_probs, *others)

    return losses


@pytest.mark.parametrize("per", ["utterance", "label"])
def test_a_batch_too_large_for_memory_is_done_in_parts(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], per: str
) -> None:
    config = tiny(corpus, corpus, "train.batch_s=100", "train.epochs=1", f"train.loss_per={per}")
    Trainer(config, tmp_path / "whole").run()
    seen: list[int] = []
    monkeypatch.setattr(objective, "ctc_losses", memory_for(3, seen))
    Trainer(config, tmp_path / "parts").run()
    assert seen == [8, 4, 2, 2, 2, 2]
    (event,) = logged(tmp_path / "parts", "out of memory")
    assert (event["step"], event["parts"], len(event["ids"])) == (1, 4, 8)
    assert "step 1, rank 0: out of memory, batch of 8 utterances done in 4 parts" in capsys.readouterr().err
    found, wanted = (load_file(state_files(tmp_path / name)[0]) for name in ("parts", "whole"))
    for name in wanted:
        if name.endswith("exp_avg"):  # a tenth of the gradient
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "message",
    [
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "could not create a primitive",  # oneDNN, in an LSTM on a CPU
        "could not execute a primitive",
    ],
)
def test_an_utterance_too_large_for_memory_is_named(
    tmp_path: Path, settings: MakeConfig, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    def losses(*_: Tensor) -> Tensor:
        raise RuntimeError(message)

    monkeypatch.setattr(objective, "ctc_losses", losses)
    with pytest.raises(TrainingError, match=r"out of memory on one utterance alone, the longest of train-5"):
        Trainer(settings("train.batch_s=0.1"), tmp_path / "run").run()


def test_the_normaliser_is_fitted_in_parts_too(
    tmp_path: Path, settings: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Trainer(settings("train.batch_s=100"), tmp_path / "whole").learner.recognizer.normalizer.mean
    forward = LogMel.forward
    seen = []

    def limited(self: LogMel, waves: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(waves))
        if len(waves) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, waves, lens)

    monkeypatch.setattr(LogMel, "forward", limited)
    parts = Trainer(settings("train.batch_s=100"), tmp_path / "parts").learner.recognizer.normalizer.mean
    assert seen == [8, 4, 2, 2, 4, 2, 2]
    torch.testing.assert_close(parts, whole)


def test_another_runtime_error_is_not_taken_for_lack_of_memory(
    tmp_path: Path, settings: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses(*_: Tensor) -> Tensor:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(objective, "ctc_losses", losses)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        Trainer(settings(), tmp_path / "run").run()
