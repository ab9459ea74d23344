"""Recurrent cells written out from their equations, one utterance and one step at a time: slow and obviously right."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gate:
    """What one gate computes its sum from: weights of the input and of the last output, and a bias for each."""

    from_input: Array  # (H, I)
    from_hidden: Array  # (H, H)
    input_bias: Array  # (H,)
    hidden_bias: Array  # (H,)

    def seen(self, x: Array) -> Array:
        """The input's share."""
        return self.from_input @ x + self.input_bias

    def remembered(self, h: Array) -> Array:
        """The last output's share."""
        return self.from_hidden @ h + self.hidden_bias

    def total(self, x: Array, h: Array) -> Array:
        """Both together."""
        return self.seen(x) + self.remembered(h)


@dataclass(frozen=True)
class LstmSteps:
    """Everything an LSTM computed, (T, H) each."""

    input: Array
    forget: Array
    candidate: Array
    output: Array
    cell: Array
    hidden: Array


def sigmoid(value: Array) -> Array:
    """Logistic function."""
    return 1 / (1 + np.exp(-value))


def lstm(inputs: Array, gates: Mapping[str, Gate]) -> LstmSteps:
    """Hochreiter & Schmidhuber (1997) with the forget gate of Gers, Schmidhuber & Cummins (2000), over (T, I) inputs.

    `gates` holds `input`, `forget`, `candidate` (what may enter the cell) and `output`.
    """
    units = len(gates["input"].input_bias)
    h = np.zeros(units)  # output of the step before
    c = np.zeros(units)  # cell state of the step before
    steps: list[tuple[Array, ...]] = []
    for x in inputs:
        i = sigmoid(gates["input"].total(x, h))
        f = sigmoid(gates["forget"].total(x, h))
        g = np.tanh(gates["candidate"].total(x, h))
        o = sigmoid(gates["output"].total(x, h))
        c = f * c + i * g
        h = o * np.tanh(c)
        steps.append((i, f, g, o, c, h))
    return LstmSteps(*(np.stack(kind) for kind in zip(*steps, strict=True)))


def gru(inputs: Array, gates: Mapping[str, Gate]) -> Array:
    """(T, H) outputs of a GRU (Cho et al. 2014) whose reset gate acts after the recurrent weights.

    `gates` holds `reset`, `update` and `candidate`. The update gate is the share of the old state that is kept.
    """
    h = np.zeros(len(gates["reset"].input_bias))
    outputs = []
    for x in inputs:
        r = sigmoid(gates["reset"].total(x, h))
        z = sigmoid(gates["update"].total(x, h))
        n = np.tanh(gates["candidate"].seen(x) + r * gates["candidate"].remembered(h))
        h = z * h + (1 - z) * n
        outputs.append(h)
    return np.stack(outputs)


def tanh_rnn(inputs: Array, gates: Mapping[str, Gate]) -> Array:
    """(T, H) outputs of Elman's (1990) network with tanh units; `gates` holds `hidden` alone."""
    h = np.zeros(len(gates["hidden"].input_bias))
    outputs = []
    for x in inputs:
        h = np.tanh(gates["hidden"].total(x, h))
        outputs.append(h)
    return np.stack(outputs)
