"""Connectionist temporal classification (Graves et al. 2006): the loss, and which transcripts it can align."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from asr.lengths import ctc_frames_needed
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
    return functional.ctc_loss(
        log_probs.transpose(0, 1), labels, log_prob_lens, label_lens, blank=BLANK, reduction="none"
    )


@dataclass(frozen=True)
class Infeasible:
    """An utterance with fewer output frames than its labels need."""

    id: str
    frames: int
    needed: int

    def __str__(self) -> str:
        return f"utterance {self.id}: {self.frames} output frames, its transcript needs {self.needed}"


def find_infeasible(ids: Sequence[str], frames: Sequence[int], labels: Sequence[Sequence[int]]) -> list[Infeasible]:
    """Utterances whose labels (and the blanks between repeats) do not fit in their output frames."""
    rows = zip(ids, frames, map(ctc_frames_needed, labels), strict=True)
    return [Infeasible(name, found, needed) for name, found, needed in rows if found < needed]
