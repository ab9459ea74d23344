"""One model whose weights are the mean of several: a soup of models (Wortsman et al., ICML 2022, arXiv 2203.05482).

Models that continued from the same weights, with other seeds or settings, lie so close together that their mean is a
model too, often one that is better on voices it never heard; it costs no more to use than one of them. This does not
hold for models that were initialised separately: use those with `asr decode`, which takes the outputs of several.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from asr import checkpoint
from asr.config import DecodeConfig
from asr.errors import ConfigError
from asr.files import whole_folder
from asr.recognizer import Recognizer
from asr.training.finetune import meaning

AVERAGED = "averaged"  # key in the facts of the weights: the runs that were averaged, seen from the folder of `out`
# The matrices of separately initialised models have a cosine of about zero.
_LEAST_COSINE = 0.5


def average(runs: Sequence[Path], out: Path) -> None:
    """Write a run folder with the mean of the weights, and of the normaliser's statistics, of several runs.

    Its configuration is that of the first run, without decoder settings: language model weights have to be tuned again.
    It holds no training state, but `train.init_from` accepts it.

    Args:
        runs: run folders, at least two.
        out: folder to write, atomically; it must be missing or empty.

    Raises:
        CheckpointError: a run cannot be loaded, or `out` is not empty.
        ConfigError: there are fewer than two, they differ in features, encoder or labels, or did not start from the
            same weights; the message names the run.
    """
    if len(runs) < 2:
        raise ConfigError(f"wanted two or more runs to average, found {len(runs)}")
    checkpoint.require_empty(out)
    models = [checkpoint.load(run) for run in runs]
    for run, model in zip(runs[1:], models[1:], strict=True):
        _require_alike(models[0], model, runs[0], run)
    states = [model.state_dict() for model in models]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0, dtype=torch.float64).float() for name in states[0]
    }
    with whole_folder(out) as folder:
        checkpoint.start_run(folder, replace(models[0].config, decode=DecodeConfig()), models[0].tokenizer)
        checkpoint.save_weights(
            folder, mean, {AVERAGED: [os.path.relpath(run.resolve(), out.resolve().parent) for run in runs]}
        )


def _require_alike(first: Recognizer, other: Recognizer, first_run: Path, run: Path) -> None:
    here, there = ({**meaning(model.config), "text.unit": model.config.text.unit} for model in (first, other))
    for key, value in here.items():
        if there[key] != value:
            raise ConfigError(f"{run}: {key} is {there[key]}, but {value} in {first_run}")
    labels, others = first.tokenizer.tokens, other.tokenizer.tokens
    if len(labels) != len(others):
        raise ConfigError(f"{run}: it has {len(others)} labels, but {first_run} has {len(labels)}")
    for number, (label, another) in enumerate(zip(labels, others, strict=True)):
        if label != another:
            raise ConfigError(f"{run}: label {number} is {another!r}, but {label!r} in {first_run}")
    if first.tokenizer.digest() != other.tokenizer.digest():
        raise ConfigError(f"{run}: it does not spell words in labels as {first_run} does")
    one, another_one = (
        torch.cat([tensor.flatten() for tensor in model.encoder.parameters() if tensor.ndim > 1])
        for model in (first, other)
    )
    cosine = torch.cosine_similarity(one, another_one, dim=0).item()
    if cosine < _LEAST_COSINE:
        raise ConfigError(
            f"{run}: its weights are not near those of {first_run} (cosine {cosine:.2f}): only models that started "
            "from the same one can be averaged; asr decode combines the outputs of any models"
        )
