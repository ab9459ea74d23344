"""Everything that decides the next training step, as one file that is replaced atomically."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.checkpoint import STATE_FILE, load_facts, load_tensors, load_weights, save_tensors
from asr.errors import CheckpointError
from asr.manifest import Utterance
from asr.recognizer import Recognizer


@dataclass
class Position:
    """Where training stands; counts go on across a resume.

    Attributes:
        epoch, batch: the next batch to train on.
        step: optimiser steps tried so far, skipped ones included.
        best: (word errors, character errors, loss) of the best dev evaluation.
        skipped: steps skipped for a non-finite loss or gradient.
        skipped_in_a_row: of these, the last ones without a good step between.
        loss_sum, loss_count: training loss of this epoch so far, over `loss_count` utterances.
        elapsed_s: time taken, over the whole run.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: list[float] = field(default_factory=list)
    skipped: int = 0
    skipped_in_a_row: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    elapsed_s: float = 0.0


def fingerprint(utterances: Sequence[Utterance]) -> str:
    """A digest of ids, durations and texts: resuming on other data is refused."""
    digest = hashlib.blake2b(digest_size=16)
    for utterance in utterances:
        digest.update(f"{utterance.id}\0{utterance.offset}\0{utterance.duration}\0{utterance.text}\n".encode())
    return digest.hexdigest()


def save_state(
    folder: Path,
    position: Position,
    recognizer: Recognizer,
    average: Recognizer,
    optimizer: torch.optim.Optimizer,
    data: str,
) -> None:
    """Write `state.safetensors`: weights, their average, the optimiser's moments, random states and the position."""
    tensors: dict[str, Tensor] = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    tensors |= {f"model.{name}": tensor for name, tensor in recognizer.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
    save_tensors(folder / STATE_FILE, tensors, {"position": asdict(position), "data": data})


def load_state(
    folder: Path, recognizer: Recognizer, average: Recognizer, optimizer: torch.optim.Optimizer, data: str
) -> Position:
    """Restore what `save_state` wrote and return the position.

    Raises:
        CheckpointError: the file is missing or damaged, or belongs to another model or other data.
    """
    path = folder / STATE_FILE
    tensors, facts = load_tensors(path)
    if facts.get("data") != data:
        raise CheckpointError(f"{path}: was made from other data than data.train and data.dev name now")
    try:
        position = Position(**facts["position"])
        random_state = tensors["random.cpu"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged, or made by another version of this program") from error
    load_weights(recognizer, _under("model.", tensors), where=path)
    load_weights(average, _under("average.", tensors), where=path)
    moments: dict[int, dict[str, Any]] = {}
    for name, tensor in _under("optimizer.", tensors).items():
        index, kind = name.split(".")
        moments.setdefault(int(index), {})[kind] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    torch.set_rng_state(random_state)
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    return position


def is_finished(folder: Path, epochs: int) -> bool:
    """Whether the run in `folder` was trained to its last epoch."""
    path = folder / STATE_FILE
    return path.exists() and load_facts(path)["position"]["epoch"] >= epochs


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
