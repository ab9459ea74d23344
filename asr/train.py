"""The training loop."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from asr import checkpoint
from asr.batch import Batch, Batches, BatchOrder, Examples
from asr.config import Config
from asr.errors import AsrError, CheckpointError, Interrupted, TrainingError
from asr.evaluate import DRAWS, Evaluation
from asr.files import remove_temporary, write_text_atomic
from asr.process import cores, launched
from asr.process.distributed import join, launch, processes_here
from asr.process.lock import is_held, locked
from asr.process.signals import stop_requests
from asr.recognizer import Recognizer, pick_device
from asr.shards.order import ShardOrder
from asr.text import TOKENS_FILE
from asr.training.learner import Learner, Outcome, fix_order, learning_rate, use_bfloat16
from asr.training.objective import views
from asr.training.outset import UNUSABLE_FILE, loading_processes, set_out
from asr.training.runlog import METRICS_FILE, Quiet, RunLog
from asr.training.state import (
    STATES_FOLDER,
    Position,
    agree_on_state,
    load_state,
    random_state,
    require_same,
    save_state,
    set_aside,
    state_files,
)
from asr.wer import score, word_errors

LAUNCH_FILE = f"{STATES_FOLDER}/.torchrun"  # by which torchrun the newest training in the folder was started


class Trainer:
    """One training run in one run folder, by this process or by all that torchrun started.

    Args:
        config: the whole configuration; `data.train` and `data.dev` name manifests.
        out: run folder.
        resume: go on from the state in `out`; otherwise `out` must not hold a run.

    Raises:
        AsrError: of the kind that fits: configuration, manifest, text, unusable utterances or run folder.
    """

    def __init__(self, config: Config, out: Path, *, resume: bool = False) -> None:
        self.out = out
        self.states = state_files(out)
        if resume:
            require_same(checkpoint.load_config(out), config, out)
        elif self.states or (out / checkpoint.WEIGHTS_FILE).exists():
            raise CheckpointError(f"{out}: already holds a run; --resume goes on with it, --out chooses another folder")
        elif (out / checkpoint.CONFIG_FILE).exists() and not (out / TOKENS_FILE).exists():
            raise CheckpointError(
                f"{out}: holds a {checkpoint.CONFIG_FILE} of other origin, which would be replaced; "
                "--out chooses another folder"
            )
        self.config = config
        self.world = join()
        agree_on_state(self.world, out)
        self.device = pick_device(config.train.device)
        self.bfloat16 = use_bfloat16(config.train.precision, self.device)
        if self.device.type == "cuda":
            fix_order(config.train.deterministic)
        torch.set_num_threads(config.train.threads or max(1, cores() // processes_here()))
        torch.manual_seed(config.train.seed)
        precision = "bfloat16" if self.bfloat16 else "float32"
        self.outset = set_out(config, self.world, self.device, precision, out if resume else None)
        average = Recognizer(config, self.outset.recognizer.tokenizer).to(self.device).eval()
        average.load_state_dict(self.outset.recognizer.state_dict())
        self.learner = Learner(self.outset.recognizer, average, config, self.world, bfloat16=self.bfloat16)
        self.order, self.batches = self._batches()
        self.dev = self._evaluation()
        self.position = Position()
        self.damaged: dict[Path, str] = {}
        if resume:
            self.position, self.damaged = load_state(out, self.learner, self.outset.origin, rank=self.world.rank)
            self.world.agree({"the step to go on from": self.position.step})
            if self.outset.shards and self.position.batch and self.position.processes != self.world.size:
                raise CheckpointError(
                    f"{out}: stopped inside an epoch over shards that {self.position.processes} processes shared; "
                    f"go on with as many processes, not {self.world.size}"
                )
        elif self.world.rank:
            torch.manual_seed(config.train.seed + self.world.rank)  # for dropout; the weights are already drawn
        self.epoch_batches = len(self.order.batches())  # jitter changes it by one or two, and over shards by a tenth
        self.total_steps = config.train.epochs * self.epoch_batches
        self.log: RunLog | Quiet = Quiet()  # until this run has locked the folder
        self.notes = self._header() if self.world.leads else []  # the others show none, and counting takes time
        self.saved = time.perf_counter()
        self.saved_step = self.position.step
        self.started = self.saved - self.position.elapsed_s
        self.speed = 0.0  # hours of audio per hour in this epoch, of all processes
        self.stop_request: list[int] = []
        self.split: tuple[int, list[str]] = (1, [])  # number of parts and ids of the last step's batch, if it was split

    def _batches(self) -> tuple[BatchOrder | ShardOrder, Batches]:
        """The order of this process's share of every epoch, and its batches as they are loaded."""
        config, labelled = self.config, self.outset.train_set
        examples = Examples(
            labelled.utterances,
            labelled.labels,
            config.audio,
            self.outset.recognizer.log_mel.fft_samples,
            config.augment,
            config.train.seed,
            views(config.train),
        )
        order = self.outset.order(self.world, examples.speed)
        workers = loading_processes(config, self.device)
        return order, Batches(examples, order, workers=workers, pin_memory=self.device.type == "cuda")

    def _evaluation(self) -> Evaluation:
        """This process's share of dev."""
        config, labelled = self.config, self.outset.dev_set
        mine = slice(self.world.rank, None, self.world.size)
        return Evaluation(
            labelled.utterances[mine],
            self.outset.recognizer,
            batch_s=config.train.batch_s,
            workers=min(2, loading_processes(config, self.device)),
            labels=labelled.labels[mine],
        )

    def run(self) -> None:
        """Train to the end.

        Raises:
            Interrupted: SIGINT, SIGTERM or SIGHUP came; the state is saved.
            TrainingError: another training is at work in the run folder, too many steps in a row had a non-finite loss
                or gradient, or another process of this job ended.
            CheckpointError: another training was at work in the run folder meanwhile, or the folder is gone.
        """
        position = self.position
        with stop_requests() as requests, self._alone(), self._begun() as self.log:
            self.stop_request = requests
            if isinstance(self.order, ShardOrder):
                self.order.stop = lambda: bool(requests)  # a reference to `self` would keep the loading processes alive
            for note in self.notes:
                self.log.line(note)
            while position.epoch < self.config.train.epochs:
                self._train_epoch()
                self._end_epoch()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the run folder, for all processes of this job."""
        if not self.world.leads:
            yield
            return
        with locked(self.out) as alone:
            if not alone:
                raise TrainingError(f"{self.out}: another training is running in this folder")
            remove_temporary(self.out)  # what a killed process was writing
            remove_temporary(self.out / STATES_FOLDER)
            yield

    def _begun(self) -> RunLog | Quiet:
        """Write what a run folder begins with; only with the folder locked, to touch no other training's files."""
        if not self.world.leads:
            return Quiet()
        if state_files(self.out) != self.states:
            raise CheckpointError(
                f"{self.out}: another training saved its state here meanwhile; --resume goes on with it"
            )
        if self.outset.left_out:
            write_text_atomic(self.out / UNUSABLE_FILE, "".join(reason + "\n" for reason in self.outset.left_out))
        else:
            (self.out / UNUSABLE_FILE).unlink(missing_ok=True)
        if launched():
            write_text_atomic(self.out / LAUNCH_FILE, launch())
        set_aside(self.damaged)
        if self.states:
            checkpoint.note_moved(self.out, self.config)
        else:
            checkpoint.start_run(self.out, self.config, self.outset.recognizer.tokenizer)
        return RunLog(self.out, self.config.train.epochs, self.epoch_batches, self.position)

    def _train_epoch(self) -> None:
        position = self.position
        self.order.epoch, self.order.start = position.epoch, position.batch
        self.epoch_batches = len(self.order.batches())
        self.learner.recognizer.train()
        started, audio_s = time.perf_counter(), 0.0
        batches = iter(self.batches)
        while True:
            batch = self._next(batches)
            self._save_if_asked()
            if batch is None:
                break
            outcome = self.step(batch)
            audio_s += outcome.audio_samples / self.config.audio.sample_rate_hz
            position.batch += 1
            self.speed = audio_s / (time.perf_counter() - started)
            self.log.batch(position.epoch, outcome.loss, self.speed)
        if self._is_evaluated(position.epoch + 1) and position.step > self.saved_step:
            # An evaluation may outlast the 30 s that torchrun leaves after SIGTERM. It also writes the weights, and a
            # folder with these alone can neither start anew nor resume.
            self._save()
        position.epoch, position.batch = position.epoch + 1, 0

    def _is_evaluated(self, epoch: int) -> bool:
        """Whether an evaluation follows an epoch, counted from 1; without dev, whether its weights are kept."""
        return epoch % self.config.train.dev_every == 0 or epoch == self.config.train.epochs

    def _next(self, batches: Iterator[Batch]) -> Batch | None:
        """The next batch; None at the end of the epoch, or if training was asked to stop and loading failed."""
        try:
            return next(batches, None)
        except AsrError:
            if self.stop_request:  # the signal may have ended the source of the data too
                return None
            raise

    def step(self, batch: Batch) -> Outcome:
        """One optimiser step; a non-finite one is skipped, counted and named."""
        position = self.position
        rate = self._rate(position.step, position.epoch, position.batch)
        outcome = self.learner.step(batch, rate, position.step)
        position.step += 1
        position.audio_samples += outcome.audio_samples
        position.padded_samples += outcome.padded_samples
        self.split = outcome.parts, batch.ids
        if outcome.culprits:
            self._skip(outcome)
        else:
            position.skipped_in_a_row = 0
            position.loss_sum += outcome.loss_sum
            position.loss_count += outcome.utterances
            facts = {"loss": outcome.loss, "gradient_norm": outcome.gradient_norm, "learning_rate": rate}
            self.log.step(position.step, facts)
        return outcome

    def _rate(self, step: int, epoch: int, batch: int) -> float:
        """The learning rate of a step: that of a batch of the epoch that is or was just trained on, all from 0."""
        config = self.config.train
        done = (epoch + batch / self.epoch_batches) / config.epochs
        return learning_rate(step, done, self.total_steps, config)

    def _skip(self, outcome: Outcome) -> None:
        position = self.position
        position.skipped += 1
        position.skipped_in_a_row += 1
        self.log.skipped(position.step, outcome.loss, outcome.gradient_norm, outcome.culprits)
        if position.skipped_in_a_row >= self.config.train.max_bad_steps:
            raise TrainingError(
                f"{position.skipped_in_a_row} steps in a row had a non-finite loss or gradient (last: loss "
                f"{outcome.loss}, gradient norm {outcome.gradient_norm}, utterances "
                f"{', '.join(outcome.culprits[:3])}); a lower train.learning_rate or train.grad_clip may help"
            )

    def _end_epoch(self) -> None:
        position = self.position
        if not position.loss_count:
            raise TrainingError(
                f"every step of epoch {position.epoch} was skipped; {METRICS_FILE} names the utterances"
            )
        if not all(weight.isfinite().all() for weight in self.learner.average.parameters()):
            raise TrainingError(
                f"the weights are not finite after epoch {position.epoch}; a lower train.learning_rate may help"
            )
        facts: dict[str, Any] = {
            "epoch": position.epoch,
            "step": position.step,
            "train_loss": position.loss_sum / position.loss_count,
            "learning_rate": self._rate(position.step - 1, position.epoch - 1, self.epoch_batches - 1),
            "audio_hours_per_hour": self.speed,
            "padding_percent": 100 * (1 - position.audio_samples / position.padded_samples),
            "skipped_steps": position.skipped,
        }
        position.loss_sum, position.loss_count = 0.0, 0
        position.audio_samples = position.padded_samples = 0
        if self._is_evaluated(position.epoch):
            if self.outset.dev_set.utterances:
                facts |= self._evaluate()
            else:
                self._keep()
        position.elapsed_s = facts["elapsed_s"] = time.perf_counter() - self.started
        self._require_folder()
        # Before the state is saved: after a crash in between, it is dropped and logged again, never missed.
        self.log.epoch(facts)
        self._save()
        (stop,) = self.world.any(bool(self.stop_request))
        if stop:
            self._interrupt()

    def _evaluate(self) -> dict[str, Any]:
        """Score dev with the averaged weights and keep them if they are the best so far.

        The best are those with the fewest expected errors: docs/decisions/0008-which-epoch.md.
        """
        position, average = self.position, self.learner.average
        drawn: dict[str, list[str]] = {}
        own_results, own_losses = self.dev.run(average, drawn=drawn)
        pairs = [(result.reference, text) for result in own_results for text in drawn[result.id]]
        errors_of = word_errors(pairs)
        shares = self.world.gather((own_results, own_losses, sum(errors_of[pair] for pair in pairs)))
        results = [result for share, _, _ in shares for result in share]
        losses = [loss for _, share, _ in shares for loss in share]
        loss = sum(losses) / len(losses) if losses else math.nan
        expected = sum(errors for _, _, errors in shares) / DRAWS
        scored = score(results)
        # A model that gets all but everything wrong is no better for saying less: among such epochs the loss decides.
        rank = [min(expected, 0.95 * scored.words.reference), loss if math.isfinite(loss) else math.inf]
        best = not position.best_rank or rank < position.best_rank
        if best:
            position.best_rank = rank
            self._keep(dev_wer_percent=scored.words.percent)
        return {
            "dev_loss": loss,
            "dev_wer_percent": scored.words.percent,
            "dev_expected_wer_percent": 100 * expected / scored.words.reference,
            "dev_cer_percent": scored.characters.percent,
            "best": best,
        }

    def _keep(self, **scores: float) -> None:
        """Save the averaged weights as the result: the best so far on dev, or the newest if there is no dev."""
        self._require_folder()
        if self.world.leads:
            facts = {"epoch": self.position.epoch, "step": self.position.step, **scores}
            checkpoint.save_weights(self.out, self.learner.average.state_dict(), facts)

    def _require_folder(self) -> None:
        """CheckpointError, in the process that writes, where the run folder is no longer there."""
        if self.world.leads and not is_held(self.out):
            raise CheckpointError(
                f"{self.out}: was moved or removed during training; what was saved there goes on from where it is now: "
                "asr train --resume RUN"
            )

    def _header(self) -> list[str]:
        """What is about to happen, line by line."""
        lines = self.outset.notes(self.out, self.world)
        if self.states:
            lines.append(f"resuming at epoch {self.position.epoch + 1}, step {self.position.step}")
        return [*lines, *(f"state not used: {fault}" for fault in self.damaged.values())]

    def _save_if_asked(self) -> None:
        """Save or stop in all processes, if any asks for it; called between steps and at an epoch's end."""
        late = time.perf_counter() - self.saved > 60 * self.config.train.checkpoint_minutes
        due = late and self.position.step > self.saved_step
        parts, ids = self.split
        stop, save, split = self.world.any(bool(self.stop_request), due, parts > 1)
        if split:
            for rank, (pieces, names) in enumerate(self.world.gather((parts, ids))):
                if pieces > 1:
                    self.log.split(self.position.step, rank, pieces, names)
            self.split = (1, [])
        if stop:
            self._interrupt()
        if save:
            self._save()

    def _interrupt(self) -> None:
        self._save()
        number = self.stop_request[0] if self.stop_request else signal.SIGTERM  # or another process was asked
        name = signal.Signals(number).name
        raise Interrupted(f"stopped by {name}, state saved; go on with: asr train --resume {self.out}", number)

    def _save(self) -> None:
        self.position.elapsed_s = time.perf_counter() - self.started
        self.position.processes = self.world.size
        randoms = self.world.gather(random_state())
        self._require_folder()
        if self.world.leads:
            keep = self.config.train.keep_states
            save_state(self.out, self.position, self.learner, randoms, self.outset.origin, keep=keep)
        self.world.barrier()
        self.saved, self.saved_step = time.perf_counter(), self.position.step
