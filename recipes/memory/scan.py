"""The project's recurrent layer over long sequences of few units, two to four times as fast.

With a few dozen units torch spends its time on book-keeping: it records every operation of every step of a GRU or a
tanh RNN. Here the recurrence and its gradient are one loop each; what can be done for all steps at once is left to
torch. Weights and results are those of `asr.encoder.RecurrentLayer`. Its LSTM is one call into oneDNN, which is fast as
it is.
"""

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from asr.encoder import RecurrentLayer

Array = NDArray[np.float32]
_ONE, _TWO = np.float32(1), np.float32(2)  # a Python number would make the arithmetic float64
# No option that assumes finite values, since gradients may explode.
_OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "cache": True}


def _kernel(function: Callable[..., Any]) -> Any:
    return numba.njit(**_OPTIONS)(function)


def run(layer: RecurrentLayer, inputs: Tensor) -> Tensor:
    """(T, B, inputs) float32 -> (T, B, width) hidden values from a layer in one direction, every row T steps long."""
    cell = layer.cell
    if isinstance(cell, nn.LSTM):
        return layer.advance(inputs, None)[0]
    of_inputs, of_hidden, input_bias, hidden_bias = cell.parameters()
    given = functional.linear(inputs, of_inputs, input_bias)
    function = _Gru if isinstance(cell, nn.GRU) else _Rnn
    hidden: Tensor = function.apply(given, of_hidden, hidden_bias)  # type: ignore[no-untyped-call]
    return hidden[1:]


class _Rnn(torch.autograd.Function):
    """h_t = tanh(a_t + U h_{t-1} + b), with a_t what the inputs give: (T, B, W) to (1 + T, B, W), zeros first."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
        hidden = given.new_zeros(len(given) + 1, *given.shape[1:])
        _rnn_forward(*_arrays(given + bias, weights.T, hidden, weights.new_empty(len(weights))))
        ctx.save_for_backward(hidden, weights)
        return hidden

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, Tensor]:
        hidden, weights = ctx.saved_tensors
        before = torch.empty_like(hidden[1:])
        _rnn_backward(*_arrays(grads[0], hidden, weights, before, weights.new_empty(len(weights))))
        return before, *_shared(before, hidden)


class _Gru(torch.autograd.Function):
    """torch's GRU (Cho et al. 2014), from (T, B, 3 W) of the inputs to (1 + T, B, W) hidden values, zeros first.

    r, z = sigmoid(a_t + U h_{t-1} + b) of their rows, n = tanh(a_t + r (U h_{t-1} + b)) of the others,
    h_t = (1 - z) n + z h_{t-1}.
    """

    @staticmethod
    def forward(ctx: Any, given: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
        width = weights.shape[1]
        hidden = given.new_zeros(len(given) + 1, given.shape[1], width)
        gates, recurrent = torch.empty_like(given), torch.empty_like(hidden[1:])
        _gru_forward(*_arrays(given, weights.T, bias, hidden, gates, recurrent, weights.new_empty(len(weights))))
        ctx.save_for_backward(hidden, gates, recurrent, weights)
        return hidden

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, Tensor]:
        hidden, gates, recurrent, weights = ctx.saved_tensors
        of_inputs, of_recurrent = torch.empty_like(gates), torch.empty_like(gates)
        fixed = (grads[0], hidden, gates, recurrent, weights)
        _gru_backward(*_arrays(*fixed, of_inputs, of_recurrent, weights.new_empty(weights.shape[1])))
        return of_inputs, *_shared(of_recurrent, hidden)


def _shared(before: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of U and b, from those of all steps' U h_{t-1} + b."""
    rows = before.flatten(0, 1)
    return rows.T @ hidden[:-1].flatten(0, 1), rows.sum(0)


def _arrays(*tensors: Tensor) -> list[Array]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


@_kernel
def _tanh(x: Any) -> Any:
    return _ONE - _TWO / (_ONE + math.exp(_TWO * x))


@_kernel
def _sigmoid(x: Any) -> Any:
    return _ONE / (_ONE + math.exp(-x))


@_kernel
def _rnn_forward(given: Array, transposed: Array, hidden: Array, sums: Array) -> None:
    steps, batch, width = given.shape
    for row in range(batch):
        for t in range(steps):
            for j in range(width):
                sums[j] = given[t, row, j]
            for i in range(width):
                value = hidden[t, row, i]
                for j in range(width):
                    sums[j] += value * transposed[i, j]
            for j in range(width):
                hidden[t + 1, row, j] = _tanh(sums[j])


@_kernel
def _rnn_backward(grads: Array, hidden: Array, weights: Array, before: Array, carried: Array) -> None:
    steps, batch, width = before.shape
    for row in range(batch):
        for j in range(width):
            carried[j] = 0
        for t in range(steps - 1, -1, -1):
            for j in range(width):
                h = hidden[t + 1, row, j]
                before[t, row, j] = (carried[j] + grads[t + 1, row, j]) * (_ONE - h * h)
                carried[j] = 0
            for i in range(width):
                value = before[t, row, i]
                for j in range(width):
                    carried[j] += value * weights[i, j]


@_kernel
def _gru_forward(
    given: Array, transposed: Array, bias: Array, hidden: Array, gates: Array, recurrent: Array, sums: Array
) -> None:
    steps, batch, width = len(given), given.shape[1], hidden.shape[2]
    for row in range(batch):
        for t in range(steps):
            for j in range(3 * width):
                sums[j] = bias[j]
            for i in range(width):
                value = hidden[t, row, i]
                for j in range(3 * width):
                    sums[j] += value * transposed[i, j]
            for j in range(2 * width):
                gates[t, row, j] = _sigmoid(given[t, row, j] + sums[j])
            for j in range(width):
                last = 2 * width + j
                fresh = _tanh(given[t, row, last] + gates[t, row, j] * sums[last])
                gates[t, row, last] = fresh
                recurrent[t, row, j] = sums[last]
                hidden[t + 1, row, j] = fresh + gates[t, row, width + j] * (hidden[t, row, j] - fresh)


@_kernel
def _gru_backward(
    grads: Array,
    hidden: Array,
    gates: Array,
    recurrent: Array,
    weights: Array,
    of_inputs: Array,
    of_recurrent: Array,
    carried: Array,
) -> None:
    steps, batch, width = len(gates), gates.shape[1], hidden.shape[2]
    for row in range(batch):
        for j in range(width):
            carried[j] = 0
        for t in range(steps - 1, -1, -1):
            for j in range(width):
                reset, update, fresh = gates[t, row, j], gates[t, row, width + j], gates[t, row, 2 * width + j]
                total = carried[j] + grads[t + 1, row, j]
                of_fresh = total * (_ONE - update) * (_ONE - fresh * fresh)
                of_reset = of_fresh * recurrent[t, row, j] * reset * (_ONE - reset)
                of_update = total * (hidden[t, row, j] - fresh) * update * (_ONE - update)
                of_inputs[t, row, j] = of_reset
                of_inputs[t, row, width + j] = of_update
                of_inputs[t, row, 2 * width + j] = of_fresh
                of_recurrent[t, row, j] = of_reset
                of_recurrent[t, row, width + j] = of_update
                of_recurrent[t, row, 2 * width + j] = of_fresh * reset
                carried[j] = total * update
            for i in range(3 * width):
                value = of_recurrent[t, row, i]
                for j in range(width):
                    carried[j] += value * weights[i, j]
