"""What runs a recogniser's encoder: torch in float32 or bfloat16, or onnxruntime on eight-bit weights.

docs/decisions/0006-cpu-inference.md has what each was measured to gain, and what was left out.
"""

import copy
import importlib
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from asr.errors import ConfigError
from asr.export import onnx_model, required
from asr.recognizer import Recognizer

Precision = Literal["auto", "float32", "bfloat16", "int8"]


class Backend(Protocol):
    """Features to log-probabilities, as `Encoder.forward`."""

    name: str

    def encode(self, feats: Tensor, feat_lens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F) normalised features, zero in the padding -> (B, T', V) float32 log-probabilities, (B,) lengths."""
        ...


def make_backend(recognizer: Recognizer, name: Precision = "auto") -> Backend:
    """The backend of this name for a recogniser in evaluation mode.

    float32 is the recogniser's own encoder. bfloat16 encodes with weights and states of eight bits of mantissa: three
    times as fast on a CPU with AMX tiles, slower than float32 on others. int8 multiplies eight-bit integers in
    recurrent and linear layers, on the CPU through onnxruntime: 1.5 times as fast as float32 or better. auto is
    `fastest`, which costs no word errors. Log-probabilities in bfloat16 and int8 differ from float32's by some
    hundredths, and may differ as much for one utterance between two batches.

    Raises:
        ConfigError: the name is unknown; or int8 is asked for on a device other than the CPU, for a cell other than the
            LSTM, or without its packages.
    """
    if name == "auto":
        name = fastest(recognizer)
    if name == "float32":
        return _Float32(recognizer)
    if name == "bfloat16":
        return _BFloat16(recognizer)
    if name == "int8":
        return _Int8(recognizer)
    raise ConfigError(f"precision: wanted one of {', '.join(get_args(Precision))}, found {name!r}")


def fastest(recognizer: Recognizer) -> Precision:
    """The precision measured to be fastest for this recogniser, among those that are installed."""
    if recognizer.device.type != "cpu" or recognizer.config.encoder.cell != "lstm":
        return "float32"
    if torch.cpu.get_capabilities().get("amx_bf16", False):  # oneDNN has kernels for its bfloat16 tiles
        return "bfloat16"
    return "int8" if all(map(_is_usable, ("onnx", "onnxruntime"))) else "float32"


def _is_usable(package: str) -> bool:
    try:
        return hasattr(importlib.import_module(package), "__version__")  # a folder of that name has none
    except ImportError:  # absent, or built for another system: float32 needs neither
        return False


class _Float32:
    name = "float32"

    def __init__(self, recognizer: Recognizer) -> None:
        self.encoder = recognizer.encoder

    def encode(self, feats: Tensor, feat_lens: Tensor) -> tuple[Tensor, Tensor]:
        encoded: tuple[Tensor, Tensor] = self.encoder(feats, feat_lens)
        return encoded


class _BFloat16:
    name = "bfloat16"

    def __init__(self, recognizer: Recognizer) -> None:
        self.encoder = copy.deepcopy(recognizer.encoder).bfloat16()

    def encode(self, feats: Tensor, feat_lens: Tensor) -> tuple[Tensor, Tensor]:
        encoded: tuple[Tensor, Tensor] = self.encoder(feats.bfloat16(), feat_lens)  # log-softmax is float32 again
        return encoded


class _Int8:
    name = "int8"

    def __init__(self, recognizer: Recognizer) -> None:
        if recognizer.device.type != "cpu":
            raise ConfigError(f"int8 runs on the CPU, found a recogniser on {recognizer.device.type}")
        runtime = required("onnxruntime")
        model = onnx_model(recognizer, quantize="int8", from_features=True)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1  # callers run in parallel, each with a batch of its own
        self.session: Any = runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def encode(self, feats: Tensor, feat_lens: Tensor) -> tuple[Tensor, Tensor]:
        log_probs, lens = self.session.run(None, {"feats": feats.numpy(), "feat_lens": feat_lens.numpy()})
        return torch.from_numpy(log_probs), torch.from_numpy(lens)
