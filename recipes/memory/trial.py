"""One network on one task, trained on sequences that are never seen twice until it succeeds or is given up."""

import math
import time
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.config import EncoderConfig, TrainConfig
from asr.encoder import RecurrentLayer
from recipes.memory import scan
from recipes.memory.tasks import TASKS, Task

CELLS = ("rnn", "gru", "lstm")
SMALLEST_LAG, LARGEST_LAG = 10, 100_000  # shorter ones have no tenth
WIDTH = 16  # units of the LSTM; the other cells get the width whose number of parameters is nearest
BATCH = 16  # sequences
LEARNING_RATES = {"rnn": 3e-3, "gru": 1e-2, "lstm": 1e-2}  # Adam; how they were chosen: README.md
GRAD_CLIP = TrainConfig().grad_clip  # largest global gradient norm, as in the trainer
WINDOW = 64  # updates whose mean loss decides: 1,024 sequences, each judged before learning from it
SUCCESS = 0.1  # of the baseline: the loss that a network without memory can reach
STEPS, FEWEST, MOST = 200_000, 1_000, 3_000  # time steps, and updates, that a trial is given: see `limit_of`
HOPELESS = 0.9  # of the baseline: a trial whose window has more than this after half of its updates is ended


@dataclass(frozen=True)
class Trial:
    """What happened to one network.

    Attributes:
        task, cell, lag, seed: which one.
        limit: updates that it was given; it ended after half of them if its loss was hopeless by then.
        width: number of units.
        parameters: number of parameters, read-out included.
        success: whether its mean loss over a window fell below `SUCCESS` times the baseline.
        updates: how many it took.
        loss: mean of the last window, as a share of the baseline.
        right: share of right sequences in the last window.
        skipped: updates left out because loss or gradient was not finite.
        cpu_s: processor time in seconds.
    """

    task: str
    cell: str
    lag: int
    seed: int
    limit: int
    width: int
    parameters: int
    success: bool
    updates: int
    loss: float
    right: float
    skipped: int
    cpu_s: float


class Network(nn.Module):
    """One layer of the recogniser's encoder in one direction, and a linear read-out of the last step."""

    def __init__(self, cell: str, width: int, task: Task, lag: int) -> None:
        super().__init__()
        config = EncoderConfig(cell=cell, width=width, bidirectional=False)  # type: ignore[arg-type]
        self.layer = RecurrentLayer(config, task.inputs)
        self.readout = nn.Linear(width, task.outputs)
        initialise_memory(self.layer, lag)

    def forward(self, inputs: Tensor) -> Tensor:
        """(T, B, inputs) -> (B, outputs)."""
        answers: Tensor = self.readout(scan.run(self.layer, inputs)[-1])
        return answers


def initialise_memory(layer: RecurrentLayer, longest: int) -> None:
    """Chrono initialisation (Tallec & Ollivier 2018, eq. 16): gated units that forget after 1..`longest` steps.

    With a bias of log(u), u uniform in 1..longest, a forget gate is at u / (1 + u), which keeps about u steps. In a GRU
    that is torch's update gate; in an LSTM the input gate gets the opposite bias. A tanh RNN has no such biases.
    """
    width = layer.cell.hidden_size
    if isinstance(layer.cell, nn.RNN):
        return
    bias = (1 + (longest - 1) * torch.rand(width)).log()
    # torch's order of gates: i, f, g, o in an LSTM, r, z, n in a GRU. It adds two vectors of biases.
    fixed = {1: bias, 0: -bias} if isinstance(layer.cell, nn.LSTM) else {1: bias}
    biases = dict(layer.cell.named_parameters())
    with torch.no_grad():
        for gate, values in fixed.items():
            biases["bias_ih_l0"][gate * width : (gate + 1) * width] = values
            biases["bias_hh_l0"][gate * width : (gate + 1) * width] = 0


def parameters_of(cell: str, width: int, task: Task) -> int:
    """The number of weights and biases of a network."""
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[cell]
    return gates * width * (width + task.inputs + 2) + task.outputs * (width + 1)


def width_of(cell: str, task: Task) -> int:
    """The number of units that gives a cell about as many parameters as the LSTM."""
    wanted = parameters_of("lstm", WIDTH, task)
    return min(range(1, 8 * WIDTH), key=lambda width: abs(parameters_of(cell, width, task) - wanted))


def limit_of(lag: int) -> int:
    """Updates that every cell has at this lag: short sequences cost little, so they get more."""
    return min(MOST, max(FEWEST, STEPS // lag))


def run_trial(name: str, cell: str, lag: int, seed: int, limit: int) -> Trial:
    """Train one network; the same arguments give the same result."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # vanishing gradients become denormal numbers, with which a CPU is very slow
    try:
        return _train(name, cell, lag, seed, limit)
    finally:
        torch.set_flush_denormal(False)  # it affects the whole thread, where other code relies on such numbers


def _train(name: str, cell: str, lag: int, seed: int, limit: int) -> Trial:
    task = TASKS[name]
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network = Network(cell, width_of(cell, task), task, lag)
    parameters = list(network.parameters())
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATES[cell])
    losses, rights = deque[float](maxlen=WINDOW), deque[float](maxlen=WINDOW)
    success, hopeless, updates, skipped, started = False, False, 0, 0, time.thread_time()
    while updates < limit and not success and not hopeless:
        inputs, targets = task.draw(lag, BATCH, generator)
        loss, right = task.judge(network(inputs), targets)
        losses.append(loss.item())
        rights.append(right.float().mean().item())
        share = sum(losses) / len(losses) / task.baseline
        success = len(losses) == WINDOW and share < SUCCESS
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(parameters, GRAD_CLIP)
        if math.isfinite(losses[-1]) and math.isfinite(norm):
            optimizer.step()
        else:
            skipped += 1
        updates += 1
        hopeless = updates == limit // 2 and share > HOPELESS
    return Trial(
        task=name,
        cell=cell,
        lag=lag,
        seed=seed,
        limit=limit,
        width=width_of(cell, task),
        parameters=sum(parameter.numel() for parameter in parameters),
        success=success,
        updates=updates,
        loss=share,
        right=sum(rights) / len(rights),
        skipped=skipped,
        cpu_s=round(time.thread_time() - started, 2),
    )
