"""Gates and states as they are taken out of the layers, against their equations and against the layers' own outputs."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from asr.encoder import Encoder
from asr.errors import ConfigError
from asr.gates import Trace, trace, values_of
from oracles import lstm as oracle
from test_encoder import MEL_BINS, encoder_of, gates_of, recurrent_layer, rows_of, run_layer

TOLERANCE = 1e-5
NAMES = {
    "lstm": {"input", "forget", "candidate", "output", "cell", "hidden"},
    "gru": {"reset", "update", "candidate", "hidden"},
    "rnn": {"hidden"},
}
INPUTS = rows_of(5)[0]


def values(reverse: bool, **changes: Any) -> tuple[dict[str, oracle.Gate], dict[str, np.ndarray]]:
    layer = recurrent_layer(**changes)
    with torch.inference_mode():
        return gates_of(layer, "_reverse" if reverse else ""), values_of(layer, INPUTS, reverse=reverse)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("reverse", [False, True])
def test_lstm_values_are_their_equations(reverse: bool) -> None:
    gates, found = values(reverse)
    steps = oracle.lstm(INPUTS.double().numpy(), gates)
    assert set(found) == NAMES["lstm"]
    for name in found:
        close(found[name], getattr(steps, name))


@pytest.mark.parametrize("reverse", [False, True])
def test_gru_values_are_their_equations(reverse: bool) -> None:
    gates, found = values(reverse, cell="gru")
    inputs = INPUTS.double().numpy()
    outputs = oracle.gru(inputs, gates)
    before = np.concatenate([np.zeros((1, outputs.shape[1])), outputs[:-1]])
    assert set(found) == NAMES["gru"]
    for name in ("reset", "update"):
        rows = zip(inputs, before, strict=True)
        close(found[name], np.stack([oracle.sigmoid(gates[name].total(x, h)) for x, h in rows]))
    close(found["hidden"], outputs)
    close(found["update"] * before.astype(np.float32) + (1 - found["update"]) * found["candidate"], outputs)


@pytest.mark.parametrize("reverse", [False, True])
def test_rnn_has_its_hidden_state(reverse: bool) -> None:
    gates, found = values(reverse, cell="rnn")
    assert set(found) == NAMES["rnn"]
    close(found["hidden"], oracle.tanh_rnn(INPUTS.double().numpy(), gates))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("projection", [0, 4])
def test_trace_is_what_the_layers_put_out(cell: str, bidirectional: bool, projection: int) -> None:
    encoder = encoder_of(cell=cell, bidirectional=bidirectional, projection=projection)
    feats = rows_of()[2]
    outputs = outputs_of(encoder, feats)
    log_probs, traces = trace(encoder, feats)
    directions = ("forward", "backward") if bidirectional else ("forward",)
    assert [(part.layer, part.direction) for part in traces] == [(n, d) for n in (1, 2) for d in directions]
    for number, output in enumerate(outputs, 1):
        hidden = [part.values["hidden"] for part in traces if part.layer == number]
        close(np.concatenate(hidden, axis=1), output)
    for part in traces:
        assert set(part.values) == NAMES[cell]
        if cell == "lstm":
            close(part.values["output"] * np.tanh(part.values["cell"]), part.values["hidden"])
    with torch.inference_mode():
        expected, _ = encoder(feats.unsqueeze(0), torch.tensor([len(feats)]))
    close(log_probs, expected[0].numpy())
    assert not any(layer._forward_pre_hooks for layer in encoder.layers)


def outputs_of(encoder: Encoder, feats: Tensor) -> list[np.ndarray]:
    """(T', outputs) of each recurrent layer while the encoder runs."""
    outputs: list[np.ndarray] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, found: outputs.append(found[:, 0].numpy()))
        for layer in encoder.layers
    ]
    with torch.inference_mode():
        encoder(feats.unsqueeze(0), torch.tensor([len(feats)]))
    for hook in hooks:
        hook.remove()
    return outputs


def test_the_module_agrees_on_a_batch_of_one() -> None:
    layer = recurrent_layer()
    with torch.inference_mode():
        expected = run_layer(layer, INPUTS.unsqueeze(0), torch.tensor([len(INPUTS)]))[0].numpy()
        backward = values_of(layer, INPUTS.flip(0), reverse=True)["hidden"][::-1]
        close(np.concatenate([values_of(layer, INPUTS)["hidden"], backward], axis=1), expected)


def test_hooks_go_also_when_the_encoder_fails() -> None:
    encoder = encoder_of()
    with pytest.raises(ValueError, match="outside"):
        trace(encoder, torch.zeros(0, MEL_BINS))
    assert not any(layer._forward_pre_hooks for layer in encoder.layers)


def test_what_a_cell_has_not_is_named() -> None:
    values = {"hidden": np.zeros((3, 2), np.float32)}
    part = Trace(1, "forward", values)
    assert part.name == "layer 1, forward"
    assert part.only(["hidden"]) == values
    with pytest.raises(ConfigError, match="no 'forget'; they have hidden"):
        part.only(["hidden", "forget"])
    with pytest.raises(ConfigError, match=r"encoder\.cell=rnn has no gate"):
        _ = part.keeping


def test_a_cell_of_another_kind_is_an_error() -> None:
    class Peephole(nn.LSTM):
        pass

    layer = recurrent_layer()
    layer.cell = Peephole(5, 6)
    with pytest.raises(ConfigError, match="Peephole are not known; wanted LSTM, GRU or RNN"):
        values_of(layer, INPUTS)
