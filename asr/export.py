"""A recogniser as one ONNX file: waveforms in, log-probabilities out, for any runtime and without this package.

The graph is written node by node from the weights. Batch and time are dynamic, and the arithmetic is the recogniser's
own: padding is never read (recurrent layers are given `sequence_lens`, convolutions zeros), so that an utterance
has the same log-probabilities alone and in any batch. The spectrum is a convolution of the waveform with windowed
cosines and sines: that runs everywhere, and in onnxruntime takes half the time of its STFT operator, though three to
four times that of torch's FFT.

    inputs   waves      (B, S) float32, right-padded, at `sample_rate_hz`
             wave_lens  (B,) int64, each at least one frame of `fft_samples`
    outputs  log_probs  (B, T', V) float32, normalised over V; rows at and after a length are arbitrary
             lens       (B,) int64

The file's metadata say what they mean, each value a string: tokens (JSON), blank (index), space, sample_rate_hz,
fft_samples, frame_s (seconds from one row to the next), quantized (no or int8), config (YAML), version; and, if labels
are phones, lexicon (JSON, word -> pronunciations, each its labels separated by spaces).
"""

import importlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from asr import __version__, config
from asr.encoder import Encoder, RecurrentLayer
from asr.errors import ConfigError
from asr.features import POWER_FLOOR, VARIANCE_FLOOR, LogMel, Normalizer
from asr.files import atomic_path
from asr.lexicon import as_json
from asr.recognizer import Recognizer

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 17  # the first with LayerNormalization, of 2022
IR_VERSION = 8  # of the same year
_ONNXRUNTIME = "com.microsoft"  # the domain of onnxruntime's own operators
# ONNX's order of the gates of a cell, as places in torch's order: i f g o, r z n.
_GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}


def export_onnx(recognizer: Recognizer, path: Path, *, quantize: Literal["int8"] | None = None) -> None:
    """Write a recogniser as an ONNX file, atomically.

    Args:
        recognizer: on any device; its decoder is not part of the file.
        path: the file to write; its name must end in .onnx.
        quantize: int8 keeps the weights of recurrent and linear layers as eight-bit integers (a scale for each unit)
            and multiplies in them; inputs are scaled at run time. LSTM only, and only onnxruntime has its operators.

    Raises:
        ConfigError: the name ends otherwise, the package onnx is missing, or the cell cannot be quantised.
        OSError: the file cannot be written.
    """
    if path.suffix != ".onnx":  # a file named by mistake, such as a run's own weights, would be lost
        raise ConfigError(f"{path}: wanted a file NAME.onnx to write to")
    model = onnx_model(recognizer, quantize=quantize)
    onnx = required("onnx")
    onnx.helper.set_model_props(model, {**_metadata(recognizer), "quantized": quantize or "no"})
    onnx.checker.check_model(model, full_check=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def onnx_model(
    recognizer: Recognizer, *, quantize: Literal["int8"] | None = None, from_features: bool = False
) -> "ModelProto":
    """The graph described above, without metadata; errors as `export_onnx`.

    Args:
        recognizer: on any device.
        quantize: as `export_onnx`.
        from_features: start at the normalised features, which torch computes faster: the inputs are feats (B, T, F)
            float32, zero in the padding, and feat_lens (B,) int64.
    """
    cell = recognizer.config.encoder.cell
    if quantize == "int8" and cell != "lstm":
        raise ConfigError(f"int8 is for encoder.cell=lstm, found {cell}")
    graph = _Graph(quantize)
    inputs: dict[str, tuple[str, tuple[str | int, ...]]]
    if from_features:
        feats, lens = "feats", "feat_lens"
        inputs = {feats: ("float32", ("B", "T", recognizer.log_mel.mel_bins)), lens: ("int64", ("B",))}
    else:
        inputs = {"waves": ("float32", ("B", "S")), "wave_lens": ("int64", ("B",))}
        feats, lens = _log_mel(graph, recognizer.log_mel, *inputs)
        feats = _normalized(graph, recognizer.normalizer, feats, lens)
    log_probs, lens = _encoded(graph, recognizer.encoder, cell, feats, lens)
    graph.add("Identity", log_probs, output="log_probs")
    graph.add("Identity", lens, output="lens")
    outputs = {"log_probs": ("float32", ("B", "T'", len(recognizer.tokenizer))), "lens": ("int64", ("B",))}
    return graph.model(inputs, outputs)


def _metadata(recognizer: Recognizer) -> dict[str, str]:
    vocabulary = recognizer.vocabulary
    facts = {
        "tokens": json.dumps(vocabulary.labels, ensure_ascii=False),
        "blank": str(vocabulary.blank),
        "space": vocabulary.space,
        "sample_rate_hz": str(recognizer.config.audio.sample_rate_hz),
        "fft_samples": str(recognizer.log_mel.fft_samples),
        "frame_s": repr(vocabulary.frame_s),
        "config": config.to_yaml(config.without_paths(recognizer.config)),
        "version": f"asr {__version__}",
    }
    if vocabulary.lexicon is not None:
        facts["lexicon"] = json.dumps(as_json(vocabulary.lexicon), ensure_ascii=False)
    return facts


def required(name: str) -> Any:
    """Import a module of the optional packages; ConfigError if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        raise ConfigError(f"ONNX needs the package {package}: pip install {package} ({error})") from error


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().cpu().float().numpy()
    return array


class _Graph:
    """The nodes and constants of an ONNX graph under construction; a value is known by its name.

    Args:
        quantize: int8: recurrent and linear layers multiply eight-bit integers, except the output layer, which is a
            hundredth of the work.
    """

    def __init__(self, quantize: Literal["int8"] | None) -> None:
        self.quantize = quantize
        self.onnx = required("onnx")
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """A constant array, float32 unless told otherwise."""
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, operator: str, *inputs: str, output: str | None = None, name: str = "", **attributes: Any) -> str:
        """Append a node and return its (first) output."""
        output = output or f"v{len(self.nodes)}"
        name = name or f"{operator}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def integers(self, *values: int) -> str:
        """A constant (N,) int64."""
        return self.constant(values, np.int64)

    def linear(self, values: str, weight: Tensor, bias: Tensor | None, name: str) -> str:
        """(..., N) @ weight.T + bias, as torch.nn.Linear."""
        array = _array(weight).T
        if self.quantize and name != "output":
            rounded, scale = _rounded(array)
            whole, step, zero = f"{name}_whole", f"{name}_step", f"{name}_zero"
            self.nodes.append(self.onnx.helper.make_node("DynamicQuantizeLinear", [values], [whole, step, zero]))
            counted = self.add("MatMulInteger", whole, self.constant(rounded, np.int8), zero, name=name)
            steps = self.add("Mul", step, self.constant(scale))
            product = self.add("Mul", self.add("Cast", counted, to=self.onnx.TensorProto.FLOAT), steps)
        else:
            product = self.add("MatMul", values, self.constant(array), name=name)
        return product if bias is None else self.add("Add", product, self.constant(_array(bias)))

    def model(
        self,
        inputs: Mapping[str, tuple[str, Sequence[str | int]]],
        outputs: Mapping[str, tuple[str, Sequence[str | int]]],
    ) -> "ModelProto":
        """The complete model; inputs and outputs by name, each with a dtype and a shape."""
        helper = self.onnx.helper
        described = [
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
                for name, (dtype, shape) in side.items()
            ]
            for side in (inputs, outputs)
        ]
        graph = helper.make_graph(self.nodes, "asr", *described, self.constants)
        opset = [helper.make_opsetid("", OPSET)]
        if self.quantize:
            opset.append(helper.make_opsetid(_ONNXRUNTIME, 1))
        model: ModelProto = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="asr")
        return model


def _rounded(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(..., N, units) weights -> integers of the same shape and (..., units) scales to multiply them with.

    The integers have seven bits: with AVX2 and no VNNI the sum of two products of eight bits overflows.
    """
    largest = np.abs(weights).max(axis=-2)
    scale = np.where(largest > 0, largest, 1) / 64
    return np.rint(weights / scale[..., None, :]).astype(np.int8), scale.astype(np.float32)


def _valid(graph: _Graph, lens: str, values: str, axis: int) -> str:
    """(B, T) bool, true where time is before (B,) `lens`; T is the size of `values` along `axis`."""
    zero, one = graph.constant(0, np.int64), graph.constant(1, np.int64)
    longest = graph.add("Gather", graph.add("Shape", values), graph.constant(axis, np.int64))
    times = graph.add("Range", zero, longest, one)
    return graph.add("Less", times, graph.add("Unsqueeze", lens, graph.integers(1)))


def _zero_padding(graph: _Graph, values: str, valid: str, axes: Sequence[int]) -> str:
    """`values` with zeros in the padding; `axes` are those that (B, T) `valid` lacks."""
    return graph.add("Where", graph.add("Unsqueeze", valid, graph.integers(*axes)), values, graph.constant(0))


def _log_mel(graph: _Graph, log_mel: LogMel, waves: str, wave_lens: str) -> tuple[str, str]:
    """(B, S) samples and (B,) lengths -> (B, T, F) natural-log mel energies, padding arbitrary, and (B,) frames."""
    size, hop = log_mel.fft_samples, log_mel.hop_samples
    window = log_mel.window.detach().cpu().double().numpy()
    inside = window.nonzero()[0]
    first, stop = int(inside[0]), int(inside[-1]) + 1
    bins = size // 2 + 1
    angles = 2 * math.pi / size * np.outer(np.arange(bins), np.arange(size))
    kernels = np.concatenate([np.cos(angles), np.sin(angles)]) * window
    # Cut so that there are only whole frames, as in the recogniser: kernels omit samples that the window makes zero.
    cut = graph.add("Unsqueeze", waves, graph.integers(1))
    ends = graph.integers(first), graph.integers(stop - size if stop < size else 2**31)
    cut = graph.add("Slice", cut, *ends, graph.integers(2))
    spectrum = graph.add("Conv", cut, graph.constant(kernels[:, None, first:stop]), strides=[hop])
    squares = graph.add("Transpose", graph.add("Mul", spectrum, spectrum), perm=[0, 2, 1])
    filters = np.zeros((2 * bins, log_mel.mel_bins))  # a row for the cosine of a bin, the next for its sine
    column = 0
    for number, band in enumerate(log_mel.bands):
        weights = _array(log_mel.get_buffer(f"filters_{number}"))
        filters[band, column : column + weights.shape[1]] = weights
        column += weights.shape[1]
    filters = np.concatenate([filters[::2], filters[1::2]])
    power = graph.add("MatMul", squares, graph.constant(filters), name="mel")
    feats = graph.add("Log", graph.add("Max", power, graph.constant(POWER_FLOOR)))
    whole = graph.add("Div", graph.add("Sub", wave_lens, graph.integers(size)), graph.integers(hop))
    return feats, graph.add("Add", whole, graph.integers(1))


def _normalized(graph: _Graph, normalizer: Normalizer, feats: str, lens: str) -> str:
    """(B, T, F) -> the same, normalised and with zeros in the padding."""
    valid = _valid(graph, lens, feats, 1)
    if normalizer.kind == "global":
        centred = graph.add("Sub", feats, graph.constant(_array(normalizer.mean)))
        feats = graph.add("Div", centred, graph.constant(_array(normalizer.std)))
    elif normalizer.kind == "map":
        counts = graph.add("Unsqueeze", lens, graph.integers(1, 2))
        mean = _mean(graph, _zero_padding(graph, feats, valid, [2]), counts, normalizer)
        feats = graph.add("Div", graph.add("Sub", feats, mean), graph.constant(_array(normalizer.std)))
    elif normalizer.kind == "utterance":
        counts = graph.add("Unsqueeze", lens, graph.integers(1, 2))
        mean = _mean(graph, _zero_padding(graph, feats, valid, [2]), counts)
        centred = graph.add("Sub", feats, mean)
        squares = _zero_padding(graph, graph.add("Mul", centred, centred), valid, [2])
        variance = graph.add("Add", _mean(graph, squares, counts), graph.constant(VARIANCE_FLOOR))
        feats = graph.add("Div", centred, graph.add("Sqrt", variance))
    return _zero_padding(graph, feats, valid, [2])


def _mean(graph: _Graph, values: str, counts: str, adapting: Normalizer | None = None) -> str:
    """(B, 1, F) float32 sums over time divided by (B, 1, 1) counts, summed in float64 as `Normalizer` does.

    If `adapting` is given, its mean counts as `adapting.prior` frames more.
    """
    double, single = graph.onnx.TensorProto.DOUBLE, graph.onnx.TensorProto.FLOAT
    total = graph.add("ReduceSum", graph.add("Cast", values, to=double), graph.integers(1))
    counts = graph.add("Cast", counts, to=double)
    if adapting is not None:
        total = graph.add("Add", total, graph.constant(adapting.prior * adapting.mean.cpu().double(), np.float64))
        counts = graph.add("Add", counts, graph.constant(adapting.prior, np.float64))
    return graph.add("Cast", graph.add("Div", total, counts), to=single)


def _encoded(graph: _Graph, encoder: Encoder, cell: str, feats: str, lens: str) -> tuple[str, str]:
    """(B, T, F) normalised features -> (B, T', V) log-probabilities and (B,) frames."""
    subsampling = encoder.subsampling
    maps = graph.add("Unsqueeze", feats, graph.integers(1))
    for convolution, stride in zip(subsampling.convolutions, subsampling.time_strides, strict=True):
        weight, bias = (graph.constant(_array(getattr(convolution, name))) for name in ("weight", "bias"))
        maps = graph.add("Conv", maps, weight, bias, strides=[stride, 2], pads=[1, 1, 1, 1])
        if stride > 1:
            lens = graph.add("Div", graph.add("Add", lens, graph.integers(stride - 1)), graph.integers(stride))
        # The next convolution reads one frame past the end, where an utterance encoded alone has zeros.
        maps = _zero_padding(graph, graph.add("Relu", maps), _valid(graph, lens, maps, 2), [1, 3])
    by_time = graph.add("Transpose", maps, perm=[2, 0, 1, 3])
    hidden = graph.add("Reshape", by_time, graph.integers(0, 0, -1))
    hidden = graph.linear(hidden, subsampling.linear.weight, subsampling.linear.bias, "subsampling")
    steps = graph.add("Cast", lens, to=graph.onnx.TensorProto.INT32)
    for number, (layer, projection, norm) in enumerate(
        zip(encoder.layers, encoder.projections, encoder.norms, strict=True)
    ):
        assert isinstance(layer, RecurrentLayer)
        hidden = _recurrent(graph, layer, cell, hidden, steps)
        if isinstance(projection, nn.Linear):
            hidden = graph.linear(hidden, projection.weight, projection.bias, f"projection_{number}")
        if isinstance(norm, nn.LayerNorm):
            scale, bias = graph.constant(_array(norm.weight)), graph.constant(_array(norm.bias))
            hidden = graph.add("LayerNormalization", hidden, scale, bias, axis=-1, epsilon=norm.eps)
    logits = graph.linear(hidden, encoder.output.weight, encoder.output.bias, "output")
    log_probs = graph.add("LogSoftmax", logits, axis=-1)
    return graph.add("Transpose", log_probs, perm=[1, 0, 2]), lens


def _recurrent(graph: _Graph, layer: RecurrentLayer, cell: str, hidden: str, steps: str) -> str:
    """(T, B, inputs) with (B,) int32 lengths -> (T, B, outputs)."""
    sides = ("", "_reverse") if layer.cell.bidirectional else ("",)
    order = list(_GATES[cell])

    def stacked(*names: str) -> NDArray[np.float32]:
        """(directions, ...) of the named arrays, concatenated, with gates in ONNX's order."""
        rows = []
        for side in sides:
            parts = [_array(getattr(layer.cell, name + side)) for name in names]
            rows.append(
                np.concatenate([np.concatenate([np.split(part, len(order))[k] for k in order]) for part in parts])
            )
        return np.stack(rows)

    attributes: dict[str, Any] = {"hidden_size": layer.cell.hidden_size}
    attributes["direction"] = "bidirectional" if len(sides) == 2 else "forward"
    matrices = stacked("weight_ih_l0"), stacked("weight_hh_l0")
    bias = graph.constant(stacked("bias_ih_l0", "bias_hh_l0"))
    if graph.quantize:
        (inputs, input_scale), (states, state_scale) = (_rounded(one.transpose(0, 2, 1)) for one in matrices)
        weights = graph.constant(inputs, np.int8), graph.constant(states, np.int8), bias, steps, "", "", ""
        scales = []
        for scale in (input_scale, state_scale):
            scales += [graph.constant(scale), graph.constant(np.zeros_like(scale), np.int8)]
        outputs = graph.add("DynamicQuantizeLSTM", hidden, *weights, *scales, domain=_ONNXRUNTIME, **attributes)
    else:
        if cell == "gru":  # torch's reset gate acts after the product with the hidden state
            attributes["linear_before_reset"] = 1
        outputs = graph.add(cell.upper(), hidden, *map(graph.constant, matrices), bias, steps, **attributes)
    by_time = graph.add("Transpose", outputs, perm=[0, 2, 1, 3])
    return graph.add("Reshape", by_time, graph.integers(0, 0, -1))
