"""One optimiser step: losses and gradients of a batch, over all processes and within the available memory."""

import math
import os
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.augment import FeatureAugment
from asr.batch import Batch
from asr.config import Config, TrainConfig
from asr.errors import TrainingError
from asr.process.distributed import World
from asr.process.lack_of_memory import let_go, out_of_memory
from asr.recognizer import Recognizer
from asr.training.objective import objective

# The moving average is updated in every step up to AVERAGE_EACH_UNTIL, then in every AVERAGE_EVERY-th.
AVERAGE_EACH_UNTIL = 100
AVERAGE_EVERY = 4


@dataclass(frozen=True)
class Outcome:
    """What a step did, the same in every process except for `parts`.

    Attributes:
        loss: mean CTC loss of the joint batch, per utterance or label as configured, in nats.
        gradient_norm: before clipping.
        loss_sum: CTC losses of all utterances of the joint batch.
        utterances: how many there are.
        audio_samples, padded_samples: samples in the joint batch's waveforms, without and with padding.
        culprits: ids of the utterances behind a loss or gradient that is not finite; empty when the step was taken.
        parts: pieces that this process's batch was split into to fit in memory; 1: not split.
    """

    loss: float
    gradient_norm: float
    loss_sum: float
    utterances: int
    audio_samples: int
    padded_samples: int
    culprits: list[str]
    parts: int


def learning_rate(step: int, done: float, total_steps: int, config: TrainConfig) -> float:
    """Linear warm-up over `warmup_steps`, then a cosine down to `final_rate_share` of the peak at the end of the run.

    In a run shorter than ten times `warmup_steps`, the warm-up takes a tenth of the steps.

    Args:
        step: how many steps came before this one.
        done: share of the run that came before, in epochs and parts of one: over shards the number of steps in an epoch
            varies, and the cosine must end with the last one.
        total_steps: roughly how many steps the run has.
        config: with the peak, `warmup_steps` and `final_rate_share`.
    """
    warmup_steps = min(config.warmup_steps, total_steps // 10)
    if step < warmup_steps:
        return config.learning_rate * (step + 1) / warmup_steps
    warmed_up = warmup_steps / total_steps
    progress = max(0.0, done - warmed_up) / (1 - warmed_up)
    share = config.final_rate_share
    return config.learning_rate * (share + (1 - share) * 0.5 * (1 + math.cos(math.pi * progress)))


class Learner:
    """Weights, their moving average and the optimiser.

    Each process holds all of them and takes its share of every batch; gradients are summed over the processes, so that
    a step equals that of one process on the joint batch. They are summed after the backward pass, in one piece, and not
    by DistributedDataParallel during it: see docs/decisions/0005-gradients-in-one-piece.md.

    Args:
        recognizer: what is trained.
        average: a copy of it, which becomes the moving average.
        config: the whole configuration.
        world: the processes.
        bfloat16: run under bfloat16 autocast.
    """

    def __init__(
        self, recognizer: Recognizer, average: Recognizer, config: Config, world: World, *, bfloat16: bool
    ) -> None:
        self.recognizer = recognizer
        self.average = average
        self.config = config.train
        self.world = world
        self.bfloat16 = bfloat16
        self.augment = FeatureAugment(config.augment, recognizer.log_mel.centres_hz)
        self.parameters: list[Tensor] = list(recognizer.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=config.train.learning_rate, weight_decay=config.train.weight_decay, fused=True
        )

    def step(self, batch: Batch, rate: float, number: int) -> Outcome:
        """Train on this process's share of a batch; nothing changes if the loss or gradient is not finite.

        Args:
            batch: the share; it may be empty.
            rate: learning rate.
            number: how many steps came before this one; early on the average follows faster.

        Raises:
            TrainingError: one utterance alone needs more memory than there is.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        units = len(batch.ids) if self.config.loss_per == "utterance" else int(batch.label_lens.sum())
        sizes = units, len(batch.ids), int(batch.wave_lens.sum()), batch.waves.numel()
        all_units, utterances, audio_samples, padded_samples = map(int, self.world.sum(*sizes))
        losses, parts = self._accumulate(batch, all_units)
        loss_sum = losses.sum()
        gradients = self.gradients()
        self.world.all_reduce([loss_sum, *gradients])
        norm = torch.nn.utils.get_total_norm(gradients)
        loss_value, norm_value = torch.stack([loss_sum, norm.to(loss_sum)]).tolist()
        culprits: list[str] = []
        if math.isfinite(loss_value) and math.isfinite(norm_value):
            if norm_value > self.config.grad_clip:  # most steps need no pass over the gradients
                torch.nn.utils.clip_grads_with_norm_(self.parameters, self.config.grad_clip, norm)
            self.optimizer.step()
            self._update_average(number + 1)
        else:
            culprits = self._culprits(batch.ids, losses)
        return Outcome(
            loss_value / all_units,
            norm_value,
            loss_value,
            utterances,
            audio_samples,
            padded_samples,
            culprits,
            parts,
        )

    def gradients(self) -> list[Tensor]:
        """The gradient of each parameter; zeros where this process had no utterance."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]

    def _accumulate(self, batch: Batch, all_units: int) -> tuple[Tensor, int]:
        """(B,) losses, their gradients, and the number of parts that the batch had to be cut into."""
        parts = 1
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            try:
                losses = [self._backward(part, all_units) for part in batch.split(parts)]
                return torch.cat(losses) if losses else torch.zeros(0, device=self.recognizer.device), parts
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                told = str(error).split("\n")[0]
            let_go(self.recognizer.device)
            if parts >= len(batch.ids):
                raise TrainingError(
                    f"out of memory on one utterance alone, the longest of {', '.join(batch.ids[:3])}; a smaller "
                    f"train.max_utterance_s or encoder may help ({told})"
                )
            parts = min(2 * parts, len(batch.ids))

    def _backward(self, batch: Batch, all_units: int) -> Tensor:
        moved = batch.to(self.recognizer.device)
        with torch.autocast(moved.waves.device.type, torch.bfloat16, enabled=self.bfloat16):
            wanted, losses = objective(self.recognizer, moved, self.augment, self.config)
        (wanted.sum() / all_units).backward()  # type: ignore[no-untyped-call]
        return losses

    def _culprits(self, ids: list[str], losses: Tensor) -> list[str]:
        """Utterances of the joint batch whose loss is not finite; all of them if only the gradient is not."""
        rows = zip(ids, torch.isfinite(losses).tolist(), strict=True)
        everybody = [row for share in self.world.gather(list(rows)) for row in share]
        return [name for name, finite in everybody if not finite] or [name for name, _ in everybody]

    @torch.no_grad()
    def _update_average(self, steps: int) -> None:
        # Early on the average follows faster; otherwise it would long contain the random initialisation.
        decay = min(self.config.ema_decay, steps / (10 + steps)) if self.config.ema_decay else 0.0
        # Later it follows once every few steps, by as much as in all of them: an update takes half as long as AdamW.
        every = AVERAGE_EVERY if decay and steps > AVERAGE_EACH_UNTIL else 1
        if steps % every == 0:
            torch._foreach_lerp_(list(self.average.parameters()), self.parameters, 1 - decay**every)


def fix_order(fixed: bool) -> None:
    """Set whether CUDA's kernels add in a fixed order, for the whole process."""
    if fixed:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS requires it; read when CUDA is initialised
    torch.use_deterministic_algorithms(fixed)


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether to train under bfloat16 autocast; `auto` does on CUDA devices that have it in hardware."""
    if precision != "auto":
        return precision == "bfloat16"
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
