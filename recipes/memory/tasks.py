"""The long-lag tasks: freshly drawn sequences, the answers wanted at their end, and what counts as right.

A relevant input comes early, noise or nothing follows, and the answer is due `lag` or more steps after the sequence
began. No sequence is seen twice, so each is judged before the network learns from it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

TOLERANCE = 0.04  # of a sum or product: the largest error that counts as right (Hochreiter & Schmidhuber 1997)
DISTRACTORS, RELEVANT = 4, 2  # symbols of temporal order; two more mark the start and the end
SYMBOLS = 8  # alphabet of copying; two more stand for nothing, and for the call to answer


def length_of(lag: int, generator: Generator) -> int:
    """Steps of a batch's sequences, uniform in lag..1.1 lag, so that the end cannot be found by counting."""
    return lag + int(_drawn(0, lag // 10 + 1, 1, generator))


def _drawn(low: int, high: int, batch: int, generator: Generator) -> Tensor:
    return torch.randint(low, high, (batch,), generator=generator)


def _two_numbers(lag: int, batch: int, generator: Generator, low: float) -> tuple[Tensor, Tensor, Tensor]:
    """Sequences of (number, marker) and the two marked numbers: one in the first tenth, one between it and the half."""
    steps = length_of(lag, generator)
    numbers = low + (1 - low) * torch.rand(steps, batch, generator=generator)
    tenth, half = max(1, lag // 10), lag // 2
    first, second = _drawn(0, tenth, batch, generator), _drawn(tenth, half, batch, generator)
    markers, rows = torch.zeros(steps, batch), torch.arange(batch)
    markers[first, rows] = markers[second, rows] = 1
    return torch.stack([numbers, markers], dim=2), numbers[first, rows], numbers[second, rows]


def draw_adding(lag: int, batch: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Two marked numbers of -1..1 among unmarked ones; the answer is 0.5 + their sum / 4."""
    inputs, first, second = _two_numbers(lag, batch, generator, -1.0)
    return inputs, 0.5 + (first + second) / 4


def draw_multiplication(lag: int, batch: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Two marked numbers of 0..1 among unmarked ones; the answer is their product."""
    inputs, first, second = _two_numbers(lag, batch, generator, 0.0)
    return inputs, first * second


def draw_order(lag: int, batch: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Two symbols, each X or Y, far apart among four others; the answer is which two, in order: four classes."""
    steps, rows = length_of(lag, generator), torch.arange(batch)
    symbols = torch.randint(0, DISTRACTORS, (steps, batch), generator=generator)
    kinds = torch.randint(0, RELEVANT, (2, batch), generator=generator)
    tenth = max(1, lag // 10)
    symbols[_drawn(tenth, 2 * tenth, batch, generator), rows] = DISTRACTORS + kinds[0]
    symbols[_drawn(lag // 2, lag // 2 + tenth, batch, generator), rows] = DISTRACTORS + kinds[1]
    symbols[0] = DISTRACTORS + RELEVANT
    symbols[-1] = DISTRACTORS + RELEVANT + 1
    return functional.one_hot(symbols, DISTRACTORS + RELEVANT + 2).float(), RELEVANT * kinds[0] + kinds[1]


def draw_copying(lag: int, batch: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """A symbol, `lag` steps of nothing of which the last is the call, and a step to answer with that symbol."""
    copied = _drawn(0, SYMBOLS, batch, generator)
    nothing, call = SYMBOLS, SYMBOLS + 1
    symbols = torch.full((lag + 2, batch), nothing)
    symbols[0] = copied
    symbols[lag] = call
    return functional.one_hot(symbols, SYMBOLS + 2).float(), copied


@dataclass(frozen=True)
class Task:
    """One of the tasks.

    Attributes:
        draw: (lag, batch, generator) -> (T, B, inputs) float32 and its targets, (B,) float32 or int64 classes.
        inputs: numbers in each step.
        outputs: numbers in an answer: one, or a logit for each class.
        chance: share of right sequences that the best answer without memory gets.
        baseline: the loss of that answer: mean squared error, or cross-entropy in nats.
    """

    draw: Callable[[int, int, Generator], tuple[Tensor, Tensor]]
    inputs: int
    outputs: int
    chance: float
    baseline: float

    def judge(self, answers: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss, and (B,) bool: which sequences are right.

        Args:
            answers: (B, outputs) float32, the network's outputs at the last step.
            targets: as `draw` gives them.
        """
        if targets.is_floating_point():
            errors = answers[:, 0] - targets
            return errors.square().mean(), errors.detach().abs() < TOLERANCE
        return functional.cross_entropy(answers, targets), answers.argmax(1) == targets


TASKS = {
    # Baselines: the variances of (X1 + X2) / 4 and of X1 X2. Chance: how often the best constant is near enough.
    "adding": Task(draw_adding, inputs=2, outputs=1, chance=0.1536, baseline=1 / 24),
    "multiplication": Task(draw_multiplication, inputs=2, outputs=1, chance=0.2821, baseline=7 / 144),
    "order": Task(
        draw_order,
        inputs=DISTRACTORS + RELEVANT + 2,
        outputs=RELEVANT**2,
        chance=RELEVANT**-2,
        baseline=math.log(RELEVANT**2),
    ),
    "copying": Task(
        draw_copying,
        inputs=SYMBOLS + 2,
        outputs=SYMBOLS,
        chance=1 / SYMBOLS,
        baseline=math.log(SYMBOLS),
    ),
}
