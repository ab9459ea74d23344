"""Training: the visible loop."""

import math
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr import checkpoint
from asr.augment import FeatureAugment
from asr.batch import Batch, Batches, BatchOrder, Examples, default_workers
from asr.config import Config, DecodeConfig, TrainConfig, flatten
from asr.ctc import ctc_losses, mean_loss
from asr.errors import CheckpointError, ConfigError, Interrupted, TrainingError
from asr.evaluate import Evaluation
from asr.files import locked
from asr.manifest import hours
from asr.recognizer import Recognizer, parameters_of, pick_device
from asr.runlog import METRICS_FILE, RunLog
from asr.state import Position, fingerprint, load_state, save_state
from asr.text import build_tokenizer
from asr.trainset import LabelledSet, infeasible, label, leave_out, read_utterances, require_audio, unusable
from asr.wer import score

UNUSABLE_FILE = "unusable.txt"
_FREE_ON_RESUME = {
    "train.device",
    "train.workers",
    "train.threads",
    "train.checkpoint_minutes",
    *flatten(DecodeConfig(), "decode."),  # training decodes greedily
}


def learning_rate(step: int, total_steps: int, config: TrainConfig) -> float:
    """Linear warm-up over `warmup_steps`, then a cosine to `final_rate_share` of the peak at `total_steps`.

    In a run of fewer than ten times as many steps the warm-up is a tenth of them.
    """
    warmup_steps = min(config.warmup_steps, total_steps // 10)
    if step < warmup_steps:
        return config.learning_rate * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    share = config.final_rate_share
    return config.learning_rate * (share + (1 - share) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


class Trainer:
    """One training run in one run folder.

    Args:
        config: the whole configuration; `data.train` and `data.dev` name manifests.
        out: run folder.
        resume: go on from the state in `out`; otherwise `out` must not hold a run.

    Raises:
        AsrError: of the kind that fits: configuration, manifest, text, unusable utterances or run folder.
    """

    def __init__(self, config: Config, out: Path, *, resume: bool = False) -> None:
        self.out = out
        if resume:
            require_same(checkpoint.load_config(out), config, out)
        elif (out / checkpoint.STATE_FILE).exists() or (out / checkpoint.WEIGHTS_FILE).exists():
            raise CheckpointError(f"{out}: already holds a run; --resume goes on with it, --out chooses another folder")
        self.config = config
        self.device = pick_device(config.train.device)
        self.bfloat16 = use_bfloat16(config.train.precision, self.device)
        torch.set_num_threads(config.train.threads or len(os.sched_getaffinity(0)))
        torch.manual_seed(config.train.seed)
        self.train_set, dev_set = self._prepare_model(resume)
        self._prepare_batches(dev_set)
        self.augment = FeatureAugment(config.augment, self.recognizer.log_mel.centres_hz)
        self.optimizer = torch.optim.AdamW(
            self.recognizer.parameters(),
            lr=config.train.learning_rate,
            weight_decay=config.train.weight_decay,
            fused=True,
        )
        self.data = fingerprint([*self.train_set.utterances, *dev_set.utterances])
        self.position = Position()
        if resume:
            self.position = load_state(out, self.recognizer, self.average, self.optimizer, self.data)
        self.epoch_batches = len(self.order.batches())  # of epoch 0; jitter moves later ones by one or two
        self.total_steps = config.train.epochs * self.epoch_batches
        self.log = RunLog(out, config.train.epochs, self.epoch_batches, self.position)
        self.saved = time.perf_counter()
        self.started = self.saved - self.position.elapsed_s
        self.speed = 0.0  # hours of audio per hour in this epoch
        self.stop_request: list[int] = []

    def _prepare_model(self, resume: bool) -> tuple[LabelledSet, LabelledSet]:
        config = self.config
        train = read_utterances(config.data.train, "data.train")
        dev = read_utterances(config.data.dev, "data.dev")
        if resume:
            tokenizer = checkpoint.load_tokenizer(self.out, config)
        else:
            tokenizer = build_tokenizer((utterance.text for utterance in train), config.text)
        self.recognizer = Recognizer(config, tokenizer).to(self.device)
        labelled = label(train, tokenizer)
        reasons = unusable(labelled, config, self.recognizer)
        train_set = leave_out(labelled, reasons, config, self.out / UNUSABLE_FILE)
        dev_set = label(dev, tokenizer)
        require_audio([*train_set.utterances, *dev])
        self.dev_infeasible = infeasible(dev_set, config, self.recognizer, speed=1.0)
        self.left_out = len(reasons)
        self.unknown = Counter(symbol for symbols in train_set.unknown + dev_set.unknown for symbol in symbols)
        if not resume and config.features.normalization == "global":
            self._fit_normalizer(train_set)
        self.average = Recognizer(config, tokenizer).to(self.device).eval()
        self.average.load_state_dict(self.recognizer.state_dict())
        if not resume:
            checkpoint.start_run(self.out, config, tokenizer)
        return train_set, dev_set

    def _prepare_batches(self, dev_set: LabelledSet) -> None:
        config = self.config
        on_cuda = self.device.type == "cuda"
        workers = config.train.workers if config.train.workers >= 0 else default_workers(self.device)
        self.order = BatchOrder(self.train_set.durations_s, config.train.batch_s, shuffle=True, seed=config.train.seed)
        examples = Examples(
            self.train_set.utterances,
            self.train_set.labels,
            config.audio,
            self.recognizer.log_mel.fft_samples,
            config.augment,
            config.train.seed,
        )
        self.batches = Batches(examples, self.order, workers=workers, pin_memory=on_cuda)
        self.dev = Evaluation(
            dev_set.utterances,
            self.recognizer,
            batch_s=config.train.batch_s,
            workers=min(2, workers),
            labels=dev_set.labels,
        )

    def _fit_normalizer(self, train_set: LabelledSet) -> None:
        order = BatchOrder(train_set.durations_s, self.config.train.batch_s, shuffle=False)
        log_mel = self.recognizer.log_mel
        examples = Examples(train_set.utterances, train_set.labels, self.config.audio, log_mel.fft_samples)
        plain = Batches(examples, order, workers=0, pin_memory=False)
        self.recognizer.normalizer.fit(log_mel(batch.waves.to(self.device), batch.wave_lens) for batch in plain)

    def run(self) -> None:
        """Train to the end.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the state is saved.
            TrainingError: too many steps in a row had a non-finite loss or gradient.
        """
        position = self.position
        with locked(self.out) as alone, self.log, _stop_requests() as self.stop_request:
            if not alone:
                raise TrainingError(f"{self.out}: another training is running in this folder")
            self._print_header()
            while position.epoch < self.config.train.epochs:
                self._train_epoch()
                self._end_epoch()

    def _train_epoch(self) -> None:
        position = self.position
        self.order.epoch, self.order.start = position.epoch, position.batch
        self.recognizer.train()
        started, audio_s = time.perf_counter(), 0.0
        for batch in self._until_stopped():
            loss = self.step(batch)
            audio_s += int(batch.wave_lens.sum()) / self.config.audio.sample_rate_hz
            position.batch += 1
            self.speed = audio_s / (time.perf_counter() - started)
            self.log.batch(position.epoch, loss, self.speed)
            self._save_if_asked()
        if not (self.out / checkpoint.STATE_FILE).exists():
            self._save()  # before there are weights: a folder with them alone can neither start anew nor go on
        position.epoch, position.batch = position.epoch + 1, 0

    def _until_stopped(self) -> Iterator[Batch]:
        try:
            yield from self.batches
        except TrainingError:  # a loading process died: of the signal that asked this one to stop?
            if self.stop_request:
                self._interrupt()
            raise

    def step(self, batch: Batch) -> float:
        """One optimiser step; returns the batch's loss. A non-finite one is skipped, counted and named."""
        config, position = self.config.train, self.position
        rate = learning_rate(position.step, self.total_steps, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        moved = batch.to(self.device)
        augment = None if moved.draws is None else (self.augment, moved.draws)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            log_probs, lens = self.recognizer(moved.waves, moved.wave_lens, augment)
        losses = ctc_losses(log_probs, lens, moved.labels, moved.label_lens)
        loss = mean_loss(losses, moved.label_lens, config.loss_per)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.recognizer.parameters(), config.grad_clip)
        position.step += 1
        loss_value, norm_value = loss.item(), norm.item()
        if math.isfinite(loss_value) and math.isfinite(norm_value):
            self.optimizer.step()
            self._update_average()
            position.skipped_in_a_row = 0
            position.loss_sum += losses.sum().item()
            position.loss_count += len(batch.ids)
            self.log.step(position.step, {"loss": loss_value, "gradient_norm": norm_value, "learning_rate": rate})
        else:
            self._skip(batch, losses, norm_value)
        return loss_value

    def _skip(self, batch: Batch, losses: Tensor, norm: float) -> None:
        position = self.position
        finite = torch.isfinite(losses).tolist()
        culprits = [name for name, good in zip(batch.ids, finite, strict=True) if not good] or batch.ids
        loss = losses.mean().item()
        position.skipped += 1
        position.skipped_in_a_row += 1
        self.log.skipped(position.step, loss, norm, culprits)
        if position.skipped_in_a_row >= self.config.train.max_bad_steps:
            raise TrainingError(
                f"{position.skipped_in_a_row} steps in a row had a non-finite loss or gradient (last: loss {loss}, "
                f"gradient norm {norm}, utterances {', '.join(culprits[:3])}); a lower train.learning_rate or "
                "train.grad_clip may help"
            )

    @torch.no_grad()
    def _update_average(self) -> None:
        # Early on the average follows faster, or it would hold the random initialisation for long.
        decay = min(self.config.train.ema_decay, self.position.step / (10 + self.position.step))
        if self.config.train.ema_decay == 0:
            decay = 0.0
        torch._foreach_lerp_(list(self.average.parameters()), list(self.recognizer.parameters()), 1 - decay)

    def _end_epoch(self) -> None:
        position, config = self.position, self.config.train
        if not position.loss_count:
            raise TrainingError(
                f"every step of epoch {position.epoch} was skipped; {METRICS_FILE} names the utterances"
            )
        facts: dict[str, Any] = {
            "epoch": position.epoch,
            "step": position.step,
            "train_loss": position.loss_sum / position.loss_count,
            "learning_rate": learning_rate(position.step - 1, self.total_steps, config),
            "audio_hours_per_hour": self.speed,
            "skipped_steps": position.skipped,
        }
        position.loss_sum, position.loss_count = 0.0, 0
        if position.epoch % config.dev_every == 0 or position.epoch == config.epochs:
            facts |= self._evaluate()
        position.elapsed_s = facts["elapsed_s"] = time.perf_counter() - self.started
        self.log.epoch(
            facts
        )  # first: what was logged before the state is saved is dropped and logged again, never missed
        self._save()
        if self.stop_request:
            self._interrupt()

    def _evaluate(self) -> dict[str, Any]:
        """Score dev with the averaged weights and keep them when they are the best so far."""
        position = self.position
        results, loss = self.dev.run(self.average)
        scored = score(results)
        # On a small dev set many epochs make as few errors as the best: of these the one with the lowest loss counts.
        rank = [scored.words.errors, scored.characters.errors, loss if math.isfinite(loss) else math.inf]
        best = not position.best or rank < position.best
        if best:
            position.best = rank
            facts = {"epoch": position.epoch, "step": position.step, "dev_wer_percent": scored.words.percent}
            checkpoint.save_weights(self.out, self.average.state_dict(), facts)
        return {
            "dev_loss": loss,
            "dev_wer_percent": scored.words.percent,
            "dev_cer_percent": scored.characters.percent,
            "best": best,
        }

    def _print_header(self) -> None:
        audio = f"{len(self.train_set.utterances)} utterances, {hours(self.train_set.utterances):.2f} h"
        dropped = sum(self.unknown.values())
        lines = [
            f"training on {audio}; dev {len(self.dev.utterances)} utterances; {len(self.recognizer.tokenizer)} tokens; "
            f"{parameters_of(self.recognizer) / 1e6:.2f} M parameters; {self.device}, "
            f"{'bfloat16' if self.bfloat16 else 'float32'}; run folder {self.out}",
        ]
        if self.left_out:
            lines.append(f"{self.left_out} unusable utterances left out, listed in {self.out / UNUSABLE_FILE}")
        if self.dev_infeasible:
            shown = "; ".join(map(str, self.dev_infeasible[:3]))
            lines.append(f"{len(self.dev_infeasible)} dev utterances count in WER and not in dev loss: {shown}")
        if dropped:
            symbols = ", ".join(f"{symbol!r} {count}" for symbol, count in self.unknown.most_common(10))
            lines.append(f"{dropped} out-of-vocabulary symbols dropped: {symbols}")
        if self.position.step:
            lines.append(f"resuming at epoch {self.position.epoch + 1}, step {self.position.step}")
        for line in lines:
            self.log.line(line)

    def _save_if_asked(self) -> None:
        if self.stop_request:
            self._interrupt()
        if time.perf_counter() - self.saved > 60 * self.config.train.checkpoint_minutes:
            self._save()

    def _interrupt(self) -> None:
        self._save()
        name = signal.Signals(self.stop_request[0]).name
        raise Interrupted(
            f"stopped by {name}, state saved; go on with: asr train --resume {self.out}", self.stop_request[0]
        )

    def _save(self) -> None:
        self.position.elapsed_s = time.perf_counter() - self.started
        save_state(self.out, self.position, self.recognizer, self.average, self.optimizer, self.data)
        self.saved = time.perf_counter()


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether to train under bfloat16 autocast; `auto` does on CUDA devices that have it in hardware."""
    if precision != "auto":
        return precision == "bfloat16"
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def require_same(saved: Config, wanted: Config, out: Path) -> None:
    """ConfigError unless the run in `out` can go on with `wanted`: only what moves no number may differ."""
    before, after = flatten(saved), flatten(wanted)
    changed = [key for key in before if before[key] != after[key] and key not in _FREE_ON_RESUME]
    if changed:
        key = changed[0]
        raise ConfigError(f"{out}: holds a run with {key}={before[key]!r}, which cannot go on with {after[key]!r}")


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in a list instead of dying; the second SIGINT interrupts at once."""
    received: list[int] = []

    def note(number: int, _: object) -> None:
        if number in received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
