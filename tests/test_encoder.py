"""Recurrent layers against their equations, and an encoder that gives an utterance the same in any batch."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from asr.config import EncoderConfig
from asr.encoder import Dropout, Encoder, RecurrentLayer, Subsampling, in_chunks, joined, reversal
from oracles import lstm as oracle
from ragged import CUDA, DEVICES, RUBBISH, exact_matrix_products, rubbish_batch

MEL_BINS, VOCABULARY = 11, 7
TOLERANCE = 5e-6  # float32 against the oracle's float64, over 40 steps
CUDA_TOLERANCE = 2e-4  # cuDNN's kernels for few units approximate the gates' functions
LENGTHS = (23, 1, 40, 8, 39, 2)
# The order in which torch stacks the gates of a cell in one matrix.
GATES = {
    "lstm": ("input", "forget", "candidate", "output"),
    "gru": ("reset", "update", "candidate"),
    "rnn": ("hidden",),
}


def config_of(**changes: Any) -> EncoderConfig:
    return EncoderConfig(**{"conv_channels": 3, "layers": 2, "width": 6, "dropout": 0.0, **changes})


def rows_of(bins: int = MEL_BINS, lens: tuple[int, ...] = LENGTHS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(length, bins, generator=generator) for length in lens]


def recurrent_layer(inputs: int = 5, **changes: Any) -> RecurrentLayer:
    torch.manual_seed(3)
    layer = RecurrentLayer(config_of(**changes), inputs)
    with torch.no_grad():
        for parameter in layer.parameters():  # weights large enough to drive the gates near their ends
            parameter.add_(0.7 * torch.randn(parameter.shape))
    return layer


def run_layer(layer: RecurrentLayer, batch: Tensor, lens: Tensor) -> Tensor:
    """(B, T, inputs) -> (B, T, outputs); inside the encoder time comes first."""
    return layer(batch.transpose(0, 1), lens).transpose(0, 1)


def gates_of(layer: RecurrentLayer, direction: str) -> dict[str, oracle.Gate]:
    """The layer's own weights, by the name of their gate; direction is "" or "_reverse"."""
    kind = {nn.LSTM: "lstm", nn.GRU: "gru", nn.RNN: "rnn"}[type(layer.cell)]
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    stacked = [getattr(layer.cell, name + direction).detach().cpu().double().numpy() for name in names]
    parts = [np.split(matrix, len(GATES[kind])) for matrix in stacked]
    return {gate: oracle.Gate(*(part[place] for part in parts)) for place, gate in enumerate(GATES[kind])}


def encoder_of(**changes: Any) -> Encoder:
    torch.manual_seed(4)
    return Encoder(config_of(**changes), MEL_BINS, VOCABULARY).eval()


# --- recurrent layers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("gradients", [True, False])  # torch takes another path on the CPU where there are none
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_layer_is_its_equations(
    cell: str, bidirectional: bool, gradients: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact_matrix_products(monkeypatch)
    layer = recurrent_layer(cell=cell, bidirectional=bidirectional).to(device)
    rows = rows_of(5)
    batch, lens = rubbish_batch(rows, "noise", extra=3)
    with torch.set_grad_enabled(gradients):
        outputs = run_layer(layer, batch.to(device), lens).detach().cpu().numpy()
    assert outputs.shape == (len(rows), 43, layer.outputs)
    for row, inputs in enumerate(rows):
        steps = inputs.double().numpy()
        expected = [run_oracle(cell, steps, gates_of(layer, ""))]
        if bidirectional:
            expected.append(run_oracle(cell, steps[::-1], gates_of(layer, "_reverse"))[::-1])
        atol = TOLERANCE if device == "cpu" else CUDA_TOLERANCE
        np.testing.assert_allclose(outputs[row, : len(steps)], np.concatenate(expected, axis=1), atol=atol)


def run_oracle(cell: str, inputs: oracle.Array, gates: dict[str, oracle.Gate]) -> oracle.Array:
    if cell == "lstm":
        return oracle.lstm(inputs, gates).hidden
    return oracle.gru(inputs, gates) if cell == "gru" else oracle.tanh_rnn(inputs, gates)


@pytest.mark.parametrize("direction", ["", "_reverse"])
def test_lstm_cell_state_is_its_equation_at_every_step(direction: str) -> None:
    layer = recurrent_layer()
    inputs = rows_of(5)[0]
    ordered = inputs.flip(0) if direction else inputs
    steps = oracle.lstm(ordered.double().numpy(), gates_of(layer, direction))
    for length in range(1, len(inputs) + 1):  # the last cell state of each beginning is the cell state of one step
        beginning = ordered[:length].flip(0) if direction else ordered[:length]
        _, (hidden, cell) = layer.cell(beginning.unsqueeze(1))
        side = 1 if direction else 0
        np.testing.assert_allclose(cell[side, 0].detach().numpy(), steps.cell[length - 1], atol=TOLERANCE)
        np.testing.assert_allclose(hidden[side, 0].detach().numpy(), steps.hidden[length - 1], atol=TOLERANCE)


@pytest.mark.parametrize("gate", GATES["lstm"])
def test_each_lstm_gate_does_what_its_name_says(gate: str) -> None:
    """One gate is driven to its end by the bias that the layer stacks at its place; the others stay as they are."""
    layer = recurrent_layer(bidirectional=False)
    place = GATES["lstm"].index(gate)
    with torch.no_grad():
        for name, parameter in layer.cell.named_parameters():
            parameter[6 * place : 6 * place + 6] = -40 if name == "bias_ih_l0" else 0
    inputs = rows_of(5)[0]
    steps = oracle.lstm(inputs.double().numpy(), gates_of(layer, ""))
    outputs = run_layer(layer, inputs.unsqueeze(0), torch.tensor([len(inputs)]))[0].detach().numpy()
    if gate == "input":  # nothing enters, so there is nothing to put out
        expected = np.zeros_like(steps.hidden)
    elif gate == "forget":  # nothing is kept: the cell holds what has just entered
        expected = steps.output * np.tanh(steps.input * steps.candidate)
    elif gate == "candidate":  # -1 enters, weighted by what the input gate lets through
        cell = np.zeros(6)
        expected = np.zeros_like(steps.hidden)
        for step in range(len(inputs)):
            cell = steps.forget[step] * cell - steps.input[step]
            expected[step] = steps.output[step] * np.tanh(cell)
    else:  # the cell is shut off from the output
        expected = np.zeros_like(steps.hidden)
        assert np.abs(steps.cell).max() > 0.5
    np.testing.assert_allclose(outputs, expected, atol=TOLERANCE)


@pytest.mark.parametrize("bias", [1.0, 0.0, -2.5])
def test_forget_gate_starts_with_the_configured_bias(bias: float) -> None:
    layer = RecurrentLayer(config_of(forget_bias=bias), 5)
    for direction in ("", "_reverse"):
        gates = gates_of(layer, direction)
        np.testing.assert_array_equal(gates["forget"].input_bias + gates["forget"].hidden_bias, bias)
        for other in ("input", "candidate", "output"):
            total = gates[other].input_bias + gates[other].hidden_bias
            assert np.ptp(total) > 0  # random, as torch made it
            assert np.abs(total).max() <= 2 / np.sqrt(6)


def test_directions_do_not_share_weights() -> None:
    layer = RecurrentLayer(config_of(), 5)
    forward, backward = gates_of(layer, ""), gates_of(layer, "_reverse")
    assert not np.array_equal(forward["input"].from_input, backward["input"].from_input)


def test_reversal_turns_each_row_inside_its_length() -> None:
    frames = torch.arange(5).unsqueeze(1).expand(5, 3)  # (T, B): each holds its time
    reversed_frames = frames.flatten()[reversal(torch.tensor([3, 1, 5]), 5)].view(5, 3)
    assert reversed_frames.T.tolist() == [[2, 1, 0, 3, 4], [0, 1, 2, 3, 4], [4, 3, 2, 1, 0]]
    utterances = torch.arange(3).expand(5, 3)
    assert torch.equal(utterances.flatten()[reversal(torch.tensor([3, 1, 5]), 5)].view(5, 3), utterances)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_layer_is_torchs_packing(cell: str) -> None:
    layer = recurrent_layer(cell=cell)
    batch, lens = rubbish_batch(rows_of(5), "large")
    packed = nn.utils.rnn.pack_padded_sequence(batch, lens, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(layer.cell(packed)[0], batch_first=True)
    padded = run_layer(layer, batch, lens)
    for row, length in enumerate(lens.tolist()):
        torch.testing.assert_close(padded[row, :length], expected[row, :length], atol=1e-5, rtol=0)


@pytest.mark.parametrize("device", [CUDA])
@pytest.mark.parametrize("batch", [5, 8, 136])  # cuDNN takes another kernel for a multiple of 8 up to 128
@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])  # of the gradients that come in
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_half_precision_is_that_of_tf32(cell: str, size: float, batch: int, device: str) -> None:
    torch.manual_seed(3)
    layer = RecurrentLayer(config_of(cell=cell, width=128), 128)
    inputs, upstream = torch.randn(40, batch, 128), size * torch.randn(40, batch, 256)
    lens = torch.linspace(20, 40, batch).long()

    def run(where: str) -> list[Tensor]:
        moved, given = copy.deepcopy(layer).to(where), inputs.to(where).requires_grad_()
        with torch.autocast(where, torch.bfloat16, enabled=where != "cpu"):
            outputs = moved(given, lens)
        valid = (torch.arange(40).unsqueeze(1) < lens).unsqueeze(2).to(where)
        (outputs.float() * valid).backward(upstream.to(where))
        gradients = [parameter.grad for parameter in moved.parameters()]
        return [value.detach().cpu() for value in (outputs * valid, given.grad * valid, *gradients)]  # type: ignore[union-attr]

    for found, expected in zip(run(device), run("cpu"), strict=True):
        assert (found - expected).norm() < 2e-3 * expected.norm()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_half_precision_on_the_cpu(cell: str, reverse: bool) -> None:
    """Training takes it on CUDA alone; what is ours in it runs here too."""
    layer = recurrent_layer(cell=cell)
    inputs = torch.randn(30, 5, 5, generator=torch.Generator().manual_seed(2))

    def run(forward: Callable[..., Tensor]) -> list[Tensor]:
        layer.zero_grad()
        given = inputs.clone().requires_grad_()
        outputs = forward(given, reverse=reverse)
        (1e-6 * outputs.square().sum()).backward()
        used = [name for name, _ in layer.named_parameters() if name.endswith("_reverse") == reverse]
        gradients = [layer.get_parameter(name).grad for name in used]
        return [value for value in (outputs.detach(), given.grad, *gradients) if value is not None]

    found, expected = run(layer._run_in_half), run(layer._run)
    assert len(found) == len(expected) == 6
    for value, wanted in zip(found, expected, strict=True):
        assert value.dtype == torch.float32
        assert (value - wanted).norm() < 5e-2 * wanted.norm()  # these weights amplify what is rounded


@pytest.mark.parametrize("device", [CUDA])
def test_gradient_that_is_not_finite_stays_so_in_half_precision(device: str) -> None:
    layer = RecurrentLayer(config_of(width=128), 128).to(device)
    inputs = torch.randn(9, 3, 128, device=device)
    with torch.autocast(device, torch.bfloat16):
        outputs = layer(inputs, torch.tensor([9, 9, 9]))
    upstream = torch.zeros_like(outputs)
    upstream[4, 1, 7] = float("inf")
    outputs.backward(upstream)
    assert not all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())


# --- subsampling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_subsampling_divides_the_frames_and_rounds_up(factor: int) -> None:
    subsampling = Subsampling(factor, 3, MEL_BINS, 6)
    lens = torch.arange(1, 50)
    assert subsampling.lengths(lens).tolist() == [-(-frames // factor) for frames in range(1, 50)]
    for frames in (1, 2, 8, 9, 33):
        outputs, output_lens = subsampling(torch.zeros(1, frames, MEL_BINS), torch.tensor([frames]))
        assert outputs.shape == (-(-frames // factor), 1, 6)
        assert output_lens.tolist() == [len(outputs)]


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_subsampled_frame_sees_only_its_neighbourhood(factor: int) -> None:
    """Output frame t stands at input frame t * factor and reaches one frame further for each 3x3 convolution."""
    torch.manual_seed(5)
    subsampling = Subsampling(factor, 3, MEL_BINS, 6)
    feats = torch.randn(1, 64, MEL_BINS, requires_grad=True)
    outputs, _ = subsampling(feats, torch.tensor([64]))
    place = 32 // factor
    outputs[place, 0].square().sum().backward()
    touched = feats.grad[0].abs().sum(1).nonzero().flatten()  # type: ignore[index]
    reach, step = 0, 1
    for stride in subsampling.time_strides:
        reach, step = reach + step, step * stride
    assert step == factor
    assert 32 - reach <= int(touched.min()) <= 32 <= int(touched.max()) <= 32 + reach


# --- the whole encoder ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("subsampling", [1, 2, 4, 8])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_utterance_encodes_the_same_alone_and_in_a_batch(
    cell: str, bidirectional: bool, subsampling: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact_matrix_products(monkeypatch)
    rows = rows_of()
    for projection, layer_norm in itertools.product((0, 5), (True, False)):
        encoder = encoder_of(
            cell=cell,
            bidirectional=bidirectional,
            subsampling=subsampling,
            projection=projection,
            layer_norm=layer_norm,
        ).to(device)
        alone = [encoder(row.unsqueeze(0).to(device), torch.tensor([len(row)]))[0][0] for row in rows]
        for kind in RUBBISH:
            batch, lens = rubbish_batch(rows, kind, extra=9)
            log_probs, log_prob_lens = encoder(batch.to(device), lens)
            assert log_prob_lens.tolist() == [len(row) for row in alone]
            for row, expected in enumerate(alone):
                atol = 1e-5 if device == "cpu" else CUDA_TOLERANCE
                torch.testing.assert_close(log_probs[row, : len(expected)], expected, atol=atol, rtol=0)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_gradients_do_not_depend_on_the_batch(cell: str, bidirectional: bool) -> None:
    """The gradient of a batch is the sum of its utterances' own: nothing comes back from padding either."""
    rows = rows_of()
    encoder = encoder_of(cell=cell, bidirectional=bidirectional).train()
    targets = [torch.randn(-(-len(row) // 4), VOCABULARY) for row in rows]

    def gradients(groups: list[list[int]], kind: str) -> list[Tensor]:
        encoder.zero_grad()
        for group in groups:
            batch, lens = rubbish_batch([rows[place] for place in group], kind, extra=9)
            log_probs, _ = encoder(batch, lens)
            for row, place in enumerate(group):
                target = targets[place]
                (log_probs[row, : len(target)] * target).sum().backward(retain_graph=True)
        return [parameter.grad.clone() for parameter in encoder.parameters() if parameter.grad is not None]

    alone = gradients([[place] for place in range(len(rows))], "noise")
    together = gradients([list(range(len(rows)))], "nan")
    assert len(alone) == len(list(encoder.parameters()))
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_log_probabilities_are_normalised(training: bool) -> None:
    encoder = encoder_of(dropout=0.5 if training else 0.0).train(training)
    batch, lens = rubbish_batch(rows_of(), "noise")
    log_probs, log_prob_lens = encoder(batch, lens)
    assert log_probs.shape == (len(LENGTHS), 10, VOCABULARY)
    assert torch.equal(log_prob_lens, encoder.output_lengths(lens))
    assert log_prob_lens.dtype == torch.int64
    torch.testing.assert_close(log_probs.exp().sum(2), torch.ones(len(LENGTHS), 10))


def test_autocast_still_gives_float32_log_probabilities() -> None:
    encoder = encoder_of()
    batch, lens = rubbish_batch(rows_of(), "noise")
    with torch.autocast("cpu", torch.bfloat16):
        log_probs, _ = encoder(batch, lens)
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(2), torch.ones(len(LENGTHS), 10))
    torch.testing.assert_close(log_probs[2], encoder(batch, lens)[0][2], atol=0.1, rtol=0)


@pytest.mark.parametrize("length", [0, -1, 41])
def test_length_outside_the_batch_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=rf"^feat_lens\[1\] is {length}, outside 1\.\.40$"):
        encoder_of()(torch.zeros(3, 40, MEL_BINS), torch.tensor([40, length, 3]))


@pytest.mark.parametrize(("projection", "layer_norm", "last"), [(0, True, 12), (0, False, 12), (5, True, 5)])
def test_layers_are_as_wide_as_configured(projection: int, layer_norm: bool, last: int) -> None:
    encoder = encoder_of(layers=3, projection=projection, layer_norm=layer_norm)
    assert [layer.get_submodule("cell").input_size for layer in encoder.layers] == [6, last, last]
    assert encoder.output.in_features == last
    assert all(isinstance(norm, nn.LayerNorm) == layer_norm for norm in encoder.norms)
    assert all(isinstance(linear, nn.Linear) == (projection > 0) for linear in encoder.projections)


# --- dropout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.5, 0.75])
def test_dropout_keeps_the_mean_and_drops_its_share(probability: float) -> None:
    torch.manual_seed(0)
    dropout, ones = Dropout(probability).train(), torch.ones(301, 997, requires_grad=True)
    dropped = dropout(ones)
    assert float((dropped == 0).float().mean()) == pytest.approx(probability, abs=0.004)
    assert float(dropped.detach().mean()) == pytest.approx(1, abs=0.01)
    assert len(dropped.unique()) == 2
    dropped.sum().backward()
    assert torch.equal(ones.grad, dropped.detach())  # what is dropped gets no gradient
    columns = (dropped == 0).float().mean(0)
    assert float(columns.std()) == pytest.approx((probability * (1 - probability) / 301) ** 0.5, rel=0.15)


def test_dropout_is_drawn_from_the_global_generator() -> None:
    values = torch.randn(5, 7)
    torch.manual_seed(1)
    first = Dropout(0.5)(values)
    torch.manual_seed(1)
    assert torch.equal(Dropout(0.5)(values), first)


def test_no_dropout_in_evaluation_and_at_zero() -> None:
    values = torch.randn(5, 7)
    assert Dropout(0.5).eval()(values) is values
    assert Dropout(0.0)(values) is values


# --- states that begin anew -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 7, 8])
def test_chunks_hold_every_frame_once(size: int) -> None:
    lens = torch.tensor([7, 1, 5])
    hidden = torch.arange(7 * 3 * 2.0).view(7, 3, 2)
    rows, row_lens = in_chunks(hidden, lens, size)
    count = -(-7 // size)
    assert rows.shape == (size, 3 * count, 2)
    assert row_lens.view(count, 3).sum(0).tolist() == lens.tolist()
    for row, length in enumerate(row_lens.tolist()):
        chunk, utterance = divmod(row, 3)
        torch.testing.assert_close(rows[:length, row], hidden[chunk * size :][:length, utterance])
    assert torch.equal(joined(rows, 3, 7), hidden)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", GATES)
def test_a_chunk_is_encoded_as_an_utterance_of_its_own(
    cell: str, bidirectional: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of(cell=cell, bidirectional=bidirectional, chunk_frames=4, subsampling=2).train()
    monkeypatch.setattr(encoder, "_chunk", lambda longest: 4)
    lens = torch.tensor([21, 9, 1])
    feats = nn.utils.rnn.pad_sequence(rows_of(lens=(21, 9, 1)), batch_first=True)
    found, found_lens = encoder(feats, lens)
    for row, length in enumerate(found_lens.tolist()):
        hidden, _ = encoder.subsampling(feats[row : row + 1, : lens[row]], lens[row : row + 1])
        parts = []
        for chunk in hidden.split(4):
            for layer, norm in zip(encoder.layers, encoder.norms, strict=True):
                chunk = norm(layer(chunk, torch.tensor([len(chunk)])))
            parts.append(encoder.output(chunk[:, 0]).log_softmax(1))
        torch.testing.assert_close(found[row, :length], torch.cat(parts), atol=1e-5, rtol=0)


def test_lengths_of_chunks_are_drawn_in_training_alone() -> None:
    encoder = encoder_of(chunk_frames=20)
    assert encoder._chunk(50) == 50
    encoder.train()
    torch.manual_seed(0)
    drawn = {encoder._chunk(50) for _ in range(500)}
    assert drawn == set(range(15, 26))
    assert encoder._chunk(9) == 9
    assert encoder_of().train()._chunk(50) == 50


@pytest.mark.parametrize("cell", GATES)
def test_weight_dropout_drops_recurrent_weights_alone(cell: str) -> None:
    layer = recurrent_layer(cell=cell, weight_dropout=0.5).train()
    inputs, lens = torch.randn(6, 3, 5), torch.tensor([6, 4, 6])
    layer(inputs, lens).sum().backward()
    gradients = {name: weight.grad for name, weight in layer.cell.named_parameters()}
    for name, gradient in gradients.items():
        assert gradient is not None
        dropped = float((gradient == 0).float().mean())
        assert (0.3 < dropped < 0.7) if "weight_hh" in name else dropped < 0.05, name
    torch.testing.assert_close(layer.eval()(inputs, lens), recurrent_layer(cell=cell).eval()(inputs, lens))
