"""What the gates and states of the recurrent layers do while an utterance is encoded, as plain arrays.

A layer computes its gates inside one call and discards them. From its inputs (x) and outputs (h) they are computed
again without stepping through time: the sum that goes into each gate is W x_t + U h_{t-1} + b, one matrix product for
all frames. Only an LSTM's cell is stepped through. The result is what the layer computed, up to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asr.encoder import Encoder, RecurrentLayer
from asr.errors import ConfigError

Array = NDArray[np.float32]
Direction = Literal["forward", "backward"]

# In the order in which torch stacks their weights; the candidate is not a gate, but what may enter the state.
_STACKED = {
    nn.LSTM: ("input", "forget", "candidate", "output"),
    nn.GRU: ("reset", "update", "candidate"),
    nn.RNN: (),
}
# The gate that says which share of a unit's state is kept from one frame to the next.
KEEPING = {"lstm": "forget", "gru": "update"}


@dataclass(frozen=True, eq=False)
class Trace:
    """One direction of one recurrent layer over one utterance.

    Attributes:
        layer: from 1, in the order in which speech passes through them.
        direction: of reading; arrays are in the order of time for both.
        values: (T', H) float32 by name. LSTM: `input`, `forget` and `output` gates, `candidate`, `cell`, `hidden`.
            GRU: `reset` and `update` gates, `candidate`, `hidden`. Plain RNN: `hidden`. Gates are in 0..1, `candidate`
            and `hidden` in -1..1, the cell has no bounds. `hidden` is the output of the layer.
    """

    layer: int
    direction: Direction
    values: dict[str, Array]

    @property
    def name(self) -> str:
        """Such as `layer 2, backward`."""
        return f"layer {self.layer}, {self.direction}"

    @property
    def keeping(self) -> Array:
        """(T', H) share of a unit's state that a frame keeps: the forget gate, or a GRU's update gate.

        Raises:
            ConfigError: the cell has no such gate.
        """
        for gate in KEEPING.values():
            if gate in self.values:
                return self.values[gate]
        raise ConfigError("encoder.cell=rnn has no gate that keeps or forgets; wanted lstm or gru")

    def only(self, names: Sequence[str]) -> dict[str, Array]:
        """The named values.

        Raises:
            ConfigError: the cell has no values of a name; the message says which it has.
        """
        for name in names:
            if name not in self.values:
                raise ConfigError(f"this model's cells have no {name!r}; they have {', '.join(self.values)}")
        return {name: self.values[name] for name in names}


@torch.inference_mode()
def trace(encoder: Encoder, feats: Tensor) -> tuple[Array, list[Trace]]:
    """Encode one utterance and keep what its recurrent layers did.

    Args:
        encoder: in evaluation mode.
        feats: (T, F) float32 normalised log-mel energy.

    Returns:
        log_probs: (T', V) natural-log probabilities, as the encoder gives them.
        traces: one for each layer and direction, forward before backward.

    Raises:
        ConfigError: a layer's cell is none of LSTM, GRU and RNN.
    """
    read: list[Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda _, given: read.append(given[0])) for layer in encoder.layers]
    try:
        log_probs, lens = encoder(feats.unsqueeze(0), torch.tensor([len(feats)]))
    finally:
        for hook in hooks:
            hook.remove()
    frames = int(lens[0])
    traces: list[Trace] = []
    for number, (layer, inputs) in enumerate(zip(encoder.layers, read, strict=True), 1):
        assert isinstance(layer, RecurrentLayer)
        traces.append(Trace(number, "forward", values_of(layer, inputs[:frames, 0])))
        if layer.cell.bidirectional:
            values = values_of(layer, inputs[:frames, 0].flip(0), reverse=True)
            traces.append(Trace(number, "backward", {name: value[::-1].copy() for name, value in values.items()}))
    return log_probs[0, :frames].cpu().numpy(), traces


def values_of(layer: RecurrentLayer, inputs: Tensor, *, reverse: bool = False) -> dict[str, Array]:
    """What one direction of a layer computes over (T, inputs) frames in the order in which it reads them.

    Args:
        layer: a recurrent layer.
        inputs: (T, inputs) float32 of one utterance.
        reverse: whether to take the weights of the backward direction.

    Returns:
        (T, H) float32 by name, as `Trace.values`.

    Raises:
        ConfigError: the cell is none of LSTM, GRU and RNN.
    """
    cell = layer.cell
    if type(cell) not in _STACKED:
        raise ConfigError(f"the gates of a cell {type(cell).__name__} are not known; wanted LSTM, GRU or RNN")
    outputs, _ = layer.advance(inputs.unsqueeze(1), None, reverse=reverse)
    hidden = outputs.squeeze(1)
    before = torch.cat([torch.zeros_like(hidden[:1]), hidden[:-1]])
    suffix = "_l0_reverse" if reverse else "_l0"
    seen = nn.functional.linear(inputs, getattr(cell, "weight_ih" + suffix), getattr(cell, "bias_ih" + suffix))
    remembered = nn.functional.linear(before, getattr(cell, "weight_hh" + suffix), getattr(cell, "bias_hh" + suffix))
    values: dict[str, Tensor] = {}
    if names := _STACKED[type(cell)]:
        parts = zip(seen.chunk(len(names), dim=1), remembered.chunk(len(names), dim=1), strict=True)
        for name, (of_input, of_output) in zip(names, parts, strict=True):
            if name != "candidate":
                values[name] = torch.sigmoid(of_input + of_output)
            elif "reset" in values:  # computed before the candidate; it acts after the recurrent weights
                values[name] = torch.tanh(of_input + values["reset"] * of_output)
            else:
                values[name] = torch.tanh(of_input + of_output)
    if "forget" in values:
        values["cell"] = _cell_states(values["input"] * values["candidate"], values["forget"])
    values["hidden"] = hidden
    return {name: value.cpu().numpy() for name, value in values.items()}


def _cell_states(entering: Tensor, kept: Tensor) -> Tensor:
    """(T, H) states c_t = kept_t * c_{t-1} + entering_t."""
    states = torch.empty_like(entering)
    state = torch.zeros_like(entering[0])
    for place in range(len(entering)):
        state = kept[place] * state + entering[place]
        states[place] = state
    return states
