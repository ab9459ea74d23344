"""Starting a training from the weights of another run, whose labels may differ."""

from dataclasses import dataclass
from pathlib import Path

import torch

from asr import checkpoint
from asr.config import Config
from asr.errors import CheckpointError, ConfigError
from asr.overrides import flatten
from asr.recognizer import Recognizer

# Only training reads these: they do not change what the weights mean.
_TRAINING_ALONE = {
    f"encoder.{key}" for key in ("dropout", "locked_dropout", "weight_dropout", "chunk_frames", "forget_bias")
}
# These may differ: the normaliser belongs to the recordings that training reads.
_ANEW = {"features.normalization", "features.prior_s"}


@dataclass(frozen=True)
class VocabularyChange:
    """How a vocabulary differs from that of the run which a training starts from.

    Attributes:
        new: labels that this one has and the other lacks.
        lost: labels that the other has and this one lacks.
    """

    new: list[str]
    lost: list[str]


def start_from(recognizer: Recognizer, folder: Path) -> VocabularyChange:
    """Copy the encoder's weights from a run folder.

    For labels in both vocabularies, the rows of the output layer are copied; the others keep their random
    initialisation. The normaliser is left alone: it belongs to the recordings that training reads.

    Args:
        recognizer: receives the weights, in place.
        folder: run folder of the same kind of model.

    Returns:
        Which labels are new to that run, and which of its own are lost.

    Raises:
        CheckpointError: the run cannot be loaded.
        ConfigError: its features or encoder differ; the message names the setting and both values.
    """
    try:
        source = checkpoint.load(folder)
    except CheckpointError as error:
        raise CheckpointError(f"train.init_from: {error}") from error
    here, there = meaning(recognizer.config), meaning(source.config)
    for key, value in here.items():
        if key not in _ANEW and there[key] != value:
            raise ConfigError(f"train.init_from={folder}: {key} is {there[key]} in that run, but {value} in this one")
    rows = {token: row for row, token in enumerate(source.tokenizer.tokens)}
    tokens = recognizer.tokenizer.tokens
    change = VocabularyChange([token for token in tokens if token not in rows], sorted(rows.keys() - {*tokens}))
    with torch.no_grad():
        found = source.encoder.state_dict()
        for name, tensor in recognizer.encoder.state_dict().items():
            if not name.startswith("output."):
                tensor.copy_(found[name])
                continue
            for row, token in enumerate(tokens):
                if token in rows:
                    tensor[row].copy_(found[name][rows[token]])
    return change


def meaning(config: Config) -> dict[str, object]:
    """The settings that determine what a model's weights mean, by key: rate, features and encoder."""
    values = flatten(config)
    rooms = ("features.", "encoder.")
    keys = [key for key in values if key.startswith(rooms) and key not in _TRAINING_ALONE]
    return {key: values[key] for key in ["audio.sample_rate_hz", *keys]}
