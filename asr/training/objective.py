"""What training minimises: the CTC loss, and further terms that help a model generalise."""

import math

import torch
from torch import Tensor

from asr.augment import FeatureAugment
from asr.batch import Batch
from asr.config import TrainConfig
from asr.ctc import ctc_losses
from asr.features import valid_mask
from asr.recognizer import Recognizer


def views(config: TrainConfig) -> int:
    """How many views of an utterance a step takes, each with its own random draws."""
    return 2 if config.consistency else 1


def objective(
    recognizer: Recognizer, batch: Batch, augment: FeatureAugment, config: TrainConfig
) -> tuple[Tensor, Tensor]:
    """The loss of each utterance.

    With i the weight `train.intermediate_ctc`, s the weight `train.label_smoothing`, u equal probabilities of all
    labels, c the weight `train.consistency` and views a and b (one view without c):

        loss = mean over views p of ((1 - i) * CTC + i * CTC of the middle layer + s * sum over frames of KL(u || p))
               + c / 2 * sum over frames of (KL(a || b) + KL(b || a)), the left side of each taken as constant

    The middle layer is read through the encoder's own output layer (Lee & Watanabe 2021); where there is but one layer,
    i is 0. The two views differ in their feature augmentation and dropout (Yao et al. 2024).

    Args:
        recognizer: in training mode.
        batch: on its device; draws (B, views * D).
        augment: turns the draws into warps and masks.
        config: the weights.

    Returns:
        objective: (B,) what to minimise.
        losses: (B,) the CTC losses alone, mean over views, detached: logged whatever the weights.
    """
    count = views(config)
    waves, lens = batch.waves.repeat(count, 1), batch.wave_lens.repeat(count)
    labels, label_lens = batch.labels.repeat(count, 1), batch.label_lens.repeat(count)
    draws = None if batch.draws is None else torch.cat(batch.draws.chunk(count, dim=1))
    feats, feat_lens = recognizer.features(waves, lens, None if draws is None else (augment, draws))
    with_middle = config.intermediate_ctc > 0
    log_probs, middle, frames = recognizer.encoder.heads(feats, feat_lens, middle=with_middle)
    losses = ctc_losses(log_probs, frames, labels, label_lens)
    total = losses
    if middle is not None:
        weight = config.intermediate_ctc
        total = (1 - weight) * losses + weight * ctc_losses(middle, frames, labels, label_lens)
    if config.label_smoothing:
        total = total + config.label_smoothing * _from_uniform(log_probs, frames)
    total = total.view(count, -1).mean(0)
    if config.consistency:
        first, second = log_probs.chunk(2)
        total = total + config.consistency * _divergence(first, second, frames[: len(batch.ids)])
    return total, losses.detach().view(count, -1).mean(0)


def _from_uniform(log_probs: Tensor, lens: Tensor) -> Tensor:
    """(B,) divergence of (B, T, V) log-probabilities from equal ones, KL(u || p) in nats; a sum over frames."""
    valid = valid_mask(lens, log_probs.shape[1], log_probs.device)
    return (-log_probs.mean(2) - math.log(log_probs.shape[2])).masked_fill(~valid, 0).sum(1)


def _divergence(first: Tensor, second: Tensor, lens: Tensor) -> Tensor:
    """(B,) symmetric Kullback-Leibler divergence, in nats, of (B, T, V) log-probabilities; a sum over frames.

    No gradient passes through the left side of a term: each view is pulled towards the other as a fixed target.
    """
    valid = valid_mask(lens, first.shape[1], first.device).unsqueeze(2)
    constant_first, constant_second = first.detach(), second.detach()
    from_first = constant_first.exp() * (constant_first - second)
    from_second = constant_second.exp() * (constant_second - first)
    return (0.5 * (from_first + from_second)).masked_fill(~valid, 0).sum((1, 2))
