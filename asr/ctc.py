"""Connectionist temporal classification (Graves et al. 2006): the loss, and transcripts drawn from a model."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from asr.text import BLANK


def ctc_losses(log_probs: Tensor, log_prob_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Tensor:
    """Negative log-likelihood of each transcript, summed over all its alignments.

    Args:
        log_probs: (B, T, V) float32, normalised over V.
        log_prob_lens: (B,) int64 on the CPU.
        labels: (B, U) int64, right-padded.
        label_lens: (B,) int64 on the CPU.

    Returns:
        (B,) float32 in nats; infinite where the transcript needs more frames than there are (never hidden here).
    """
    device = log_probs.device
    if log_probs.is_cuda and torch.are_deterministic_algorithms_enabled():
        # On CUDA the gradient is added up in no fixed order.
        log_probs, labels = log_probs.cpu(), labels.cpu()
    losses = functional.ctc_loss(
        log_probs.transpose(0, 1), labels, log_prob_lens, label_lens, blank=BLANK, reduction="none"
    )
    return losses.to(device)


def drawn_labels(log_probs: NDArray[np.float32], count: int, generator: np.random.Generator) -> list[list[int]]:
    """Label sequences drawn exactly with the probabilities that CTC gives them, summed over all their alignments.

    A label is drawn for each frame, then repeats are merged and blanks left out.

    Args:
        log_probs: (T, V), normalised over V.
        count: how many.
        generator: source of the draws.

    Returns:
        `count` sequences of labels without blanks.
    """
    rising = np.exp(log_probs.astype(np.float64)).cumsum(axis=1)
    rising /= rising[:, -1:]
    paths = np.stack([(generator.random((len(rising), 1)) >= rising).sum(axis=1) for _ in range(count)])
    changes = np.diff(paths, axis=1, prepend=-1) != 0
    return [path[kept].tolist() for path, kept in zip(paths, changes & (paths != BLANK), strict=True)]
