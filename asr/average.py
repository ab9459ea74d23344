"""One model whose weights are the mean of several: a soup of models (Wortsman et al., ICML 2022, arXiv 2203.05482).

Models that went on from the same weights, with other seeds or settings, lie so near each other that their mean is a
model as well, often one that is better with voices it never heard; it costs no more to use than one of them. Models
that began with weights of their own do not: those are for `asr decode`, which takes the output of several.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from asr import checkpoint
from asr.config import DecodeConfig, flatten
from asr.errors import CheckpointError, ConfigError
from asr.recognizer import Recognizer
from asr.state import STATES_FOLDER

AVERAGED = "averaged"  # in the facts of the weights: the runs that they are of
# Of models that began with weights of their own the matrices have a cosine of about zero.
_LEAST_COSINE = 0.5
_FREE = ("encoder.dropout", "encoder.locked_dropout", "encoder.forget_bias", "features.prior_s")


def average(runs: Sequence[Path], out: Path) -> None:
    """Write a run folder with the mean of the weights, and of the normaliser's statistics, of several runs.

    Its configuration is that of the first, without a decoder: the weights of a language model are to be tuned anew. It
    holds no state of training; `train.init_from` takes it.

    Args:
        runs: run folders, at least two.
        out: folder to write; an earlier average is replaced.

    Raises:
        CheckpointError: a run cannot be loaded, or `out` holds another model.
        ConfigError: there are fewer than two, they differ in features, encoder or labels, or did not begin with the
            same weights; the message names the run.
    """
    if len(runs) < 2:
        raise ConfigError(f"an average is of two runs or more, found {len(runs)}")
    weights = out / checkpoint.WEIGHTS_FILE
    if (out / STATES_FOLDER).exists() or (weights.exists() and AVERAGED not in checkpoint.load_facts(weights)):
        raise CheckpointError(f"{out}: holds another model, which would be overwritten; choose another folder")
    models = [checkpoint.load(run) for run in runs]
    for run, model in zip(runs[1:], models[1:], strict=True):
        _require_alike(models[0], model, runs[0], run)
    states = [model.state_dict() for model in models]
    mean = {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}
    settings = replace(checkpoint.load_config(runs[0]), decode=DecodeConfig())
    checkpoint.start_run(out, settings, models[0].tokenizer)
    checkpoint.save_weights(out, mean, {AVERAGED: [str(run) for run in runs]})


def _require_alike(first: Recognizer, other: Recognizer, first_run: Path, run: Path) -> None:
    here, there = flatten(first.config), flatten(other.config)
    rooms = ("features.", "encoder.", "audio.sample_rate_hz")
    for key, value in here.items():
        if key.startswith(rooms) and key not in _FREE and there[key] != value:
            raise ConfigError(f"{run}: {key} is {there[key]}, {value} in {first_run}")
    if first.tokenizer.digest() != other.tokenizer.digest():
        raise ConfigError(f"{run}: its labels are not those of {first_run}")
    one, another = (
        torch.cat([tensor.flatten() for tensor in model.encoder.parameters() if tensor.ndim > 1])
        for model in (first, other)
    )
    cosine = torch.cosine_similarity(one, another, dim=0).item()
    if cosine < _LEAST_COSINE:
        raise ConfigError(
            f"{run}: its weights are not near those of {first_run} (cosine {cosine:.2f}): only models that went on "
            "from the same one have a mean; asr decode takes the output of any"
        )
