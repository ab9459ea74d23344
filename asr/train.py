"""Training: the visible loop."""

import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from asr import checkpoint
from asr.batch import Batch, Batches, BatchOrder, Examples, default_workers
from asr.config import Config
from asr.distributed import join, processes_here
from asr.errors import AsrError, CheckpointError, Interrupted, TrainingError
from asr.evaluate import DRAWS, Evaluation
from asr.features import TRAINED
from asr.files import locked, remove_temporary, write_text_atomic
from asr.finetune import start_from
from asr.learner import Learner, Outcome, fix_order, learning_rate, use_bfloat16
from asr.lengths import s_to_samples
from asr.manifest import hours
from asr.objective import views
from asr.recognizer import Recognizer, parameters_of, pick_device
from asr.runlog import METRICS_FILE, Quiet, RunLog
from asr.shards import is_shards, read_index, require_shards
from asr.signals import stop_requests
from asr.state import (
    STATES_FOLDER,
    Origin,
    Position,
    agree_on_state,
    deciding,
    fingerprint,
    load_state,
    random_state,
    require_same,
    save_state,
    state_files,
)
from asr.streaming import ShardOrder
from asr.text import build_tokenizer
from asr.trainset import (
    LabelledSet,
    infeasible,
    label,
    listed,
    read_dev,
    read_utterances,
    require_audio,
    require_segments,
    usable,
    utterances_of,
    vocabulary_source,
)
from asr.wer import score, word_errors

UNUSABLE_FILE = "unusable.txt"
_FITTED_S = 20 * 3600  # audio that the statistics of `features.normalization` are taken from, where there is more


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
        self.config = config
        self.world = join()
        agree_on_state(self.world, out)
        self.device = pick_device(config.train.device)
        self.bfloat16 = use_bfloat16(config.train.precision, self.device)
        if self.device.type == "cuda":
            fix_order(config.train.deterministic)
        torch.set_num_threads(config.train.threads or max(1, len(os.sched_getaffinity(0)) // processes_here()))
        torch.manual_seed(config.train.seed)
        self.train_set, dev_set = self._prepare_model(resume)
        self._prepare_batches(dev_set)
        self.position = Position()
        damaged: list[str] = []
        if resume:
            self.position, damaged = load_state(out, self.learner, self.origin, rank=self.world.rank)
            self.world.agree({"the step to go on from": self.position.step})
            if self.shards and self.position.batch and self.position.processes != self.world.size:
                raise CheckpointError(
                    f"{out}: stopped inside an epoch over shards that {self.position.processes} processes shared; "
                    f"go on with as many, not {self.world.size}"
                )
        elif self.world.rank:
            torch.manual_seed(config.train.seed + self.world.rank)  # for dropout, once the weights are drawn
        self.epoch_batches = len(self.order.batches())  # of epoch 0; jitter moves later ones by one or two
        self.total_steps = config.train.epochs * self.epoch_batches
        self.log: RunLog = Quiet()  # until the run folder is this run's alone
        self.notes = [*self._header(), *(f"passed over: {fault}" for fault in damaged)]
        self.saved = time.perf_counter()
        self.saved_step = self.position.step
        self.started = self.saved - self.position.elapsed_s
        self.speed = 0.0  # hours of audio per hour in this epoch, of all processes
        self.stop_request: list[int] = []
        self.split: tuple[int, list[str]] = (1, [])  # parts and ids of the last step's batch, where it was split

    def _prepare_model(self, resume: bool) -> tuple[LabelledSet, LabelledSet]:
        config = self.config
        self.shards = read_index(config.data.train) if is_shards(config.data.train) else None
        if self.shards is None:
            train = read_utterances(config.data.train, "data.train")
        else:
            train = self.shards.utterances
            require_shards(self.shards)
        dev = read_dev(config)
        if resume:
            tokenizer = checkpoint.load_tokenizer(self.out, config)
        else:
            spoken = utterances_of(config.data.vocabulary, "data.vocabulary") if config.data.vocabulary else train
            tokenizer = build_tokenizer((utterance.text for utterance in spoken), config.text)
        recognizer = Recognizer(config, tokenizer).to(self.device)
        self.new_labels: list[str] = []
        if config.train.init_from and not resume:
            self.new_labels = start_from(recognizer, Path(config.train.init_from))
        train_set, self.left_out = usable(train, config, recognizer)
        dev_set = label(dev, tokenizer)
        require_audio(dev if self.shards else [*train_set.utterances, *dev])
        require_segments(dev, config, recognizer)
        self.dev_infeasible = infeasible(dev_set, config, recognizer, speed=1.0)
        self.unknown = Counter(symbol for symbols in train_set.unknown + dev_set.unknown for symbol in symbols)
        self.tokenizer = tokenizer
        self.origin = Origin(
            settings=deciding(config),
            vocabulary=tokenizer.digest(),
            shards="" if self.shards is None else self.shards.digest(),
            precision="bfloat16" if self.bfloat16 else "float32",
            data=fingerprint([*train_set.utterances, *dev_set.utterances]),
            source=vocabulary_source(config),
        )
        self.world.agree(self.origin.facts())
        if not resume and config.features.normalization in TRAINED:
            self._fit_normalizer(recognizer, train_set)
        self.world.spread(recognizer.state_dict().values())
        average = Recognizer(config, tokenizer).to(self.device).eval()
        average.load_state_dict(recognizer.state_dict())
        self.learner = Learner(recognizer, average, config, self.world, bfloat16=self.bfloat16)
        return train_set, dev_set

    def _prepare_batches(self, dev_set: LabelledSet) -> None:
        config, recognizer, world = self.config, self.learner.recognizer, self.world
        on_cuda = self.device.type == "cuda"
        workers = self._workers()
        examples = Examples(
            self.train_set.utterances,
            self.train_set.labels,
            config.audio,
            recognizer.log_mel.fft_samples,
            config.augment,
            config.train.seed,
            views(config.train),
        )
        self.order = self._order(self.train_set, (world.rank, world.size), examples.speed)
        self.batches = Batches(examples, self.order, workers=workers, pin_memory=on_cuda)
        self.dev_utterances = dev_set.utterances
        mine = slice(world.rank, None, world.size)
        self.dev = Evaluation(
            dev_set.utterances[mine],
            recognizer,
            batch_s=config.train.batch_s,
            workers=min(2, workers),
            labels=dev_set.labels[mine],
        )

    def _order(
        self, train_set: LabelledSet, share: tuple[int, int], speed: Callable[[int, int], float] | None = None
    ) -> BatchOrder | ShardOrder:
        budget, seed = self.config.train.batch_s, self.config.train.seed
        if self.shards is not None:
            return ShardOrder(self.shards, train_set.utterances, budget, seed=seed, share=share, speed=speed)
        return BatchOrder(train_set.durations_s, budget, shuffle=True, seed=seed, share=share, speed=speed)

    def _fit_normalizer(self, recognizer: Recognizer, train_set: LabelledSet) -> None:
        order = self._order(train_set, (self.world.rank, self.world.size))
        log_mel = recognizer.log_mel
        examples = Examples(train_set.utterances, train_set.labels, self.config.audio, log_mel.fft_samples)
        plain = Batches(examples, order, workers=self._workers(), pin_memory=False)
        # Of a large corpus the beginning of an epoch says the same as all, where it is shuffled: all but the first are.
        order.epoch = int(sum(train_set.durations_s) > _FITTED_S)
        enough = s_to_samples(_FITTED_S / self.world.size, self.config.audio.sample_rate_hz)

        def some() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            heard = 0
            for batch in plain:
                if batch.ids:
                    yield log_mel(batch.waves.to(self.device), batch.wave_lens)
                heard += int(batch.wave_lens.sum())
                if heard >= enough:
                    return

        recognizer.normalizer.fit(some(), self.world.add_up)

    def _workers(self) -> int:
        """Loading processes."""
        workers = self.config.train.workers
        return workers if workers >= 0 else default_workers(self.device, processes_here())

    def run(self) -> None:
        """Train to the end.

        Raises:
            Interrupted: SIGINT, SIGTERM or SIGHUP came; the state is saved.
            TrainingError: another training is at work in the run folder, too many steps in a row had a non-finite loss
                or gradient, or another process of this job ended.
            CheckpointError: another training was at work in the run folder meanwhile.
        """
        position = self.position
        with stop_requests() as requests, self._alone(), self._begun() as self.log:
            self.stop_request = requests
            if isinstance(self.order, ShardOrder):
                self.order.stop = lambda: bool(requests)  # of `self` it would keep the loading processes alive
            for note in self.notes:
                self.log.line(note)
            while position.epoch < self.config.train.epochs:
                self._train_epoch()
                self._end_epoch()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the run folder, for all processes of this job."""
        if not self.world.leads:
            yield
            return
        with locked(self.out) as alone:
            if not alone:
                raise TrainingError(f"{self.out}: another training is running in this folder")
            remove_temporary(self.out)  # what a killed process was writing
            remove_temporary(self.out / STATES_FOLDER)
            yield

    def _begun(self) -> RunLog:
        """Write what a run folder begins with; in the folder's lock, so that no other training's files are touched."""
        if not self.world.leads:
            return Quiet()
        if state_files(self.out) != self.states:
            raise CheckpointError(
                f"{self.out}: another training saved its state here meanwhile; --resume goes on with it"
            )
        if self.left_out:
            write_text_atomic(self.out / UNUSABLE_FILE, "".join(reason + "\n" for reason in self.left_out))
        else:
            (self.out / UNUSABLE_FILE).unlink(missing_ok=True)
        if self.states:
            checkpoint.note_moved(self.out, self.config)
        else:
            checkpoint.start_run(self.out, self.config, self.tokenizer)
        return RunLog(self.out, self.config.train.epochs, self.epoch_batches, self.position)

    def _train_epoch(self) -> None:
        position = self.position
        self.order.epoch, self.order.start = position.epoch, position.batch
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
        if not state_files(self.out):
            self._save()  # before there are weights: a folder with them alone can neither start anew nor go on
        position.epoch, position.batch = position.epoch + 1, 0

    def _next(self, batches: Iterator[Batch]) -> Batch | None:
        """The next batch; None at the end of the epoch, or where training was asked to stop and none came."""
        try:
            return next(batches, None)
        except AsrError:
            if self.stop_request:  # the signal may have ended what was read from too
                return None
            raise

    def step(self, batch: Batch) -> Outcome:
        """One optimiser step; a non-finite one is skipped, counted and named."""
        position = self.position
        rate = learning_rate(position.step, self.total_steps, self.config.train)
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
            "padding_percent": 100 * (1 - position.audio_samples / position.padded_samples),
            "skipped_steps": position.skipped,
        }
        position.loss_sum, position.loss_count = 0.0, 0
        position.audio_samples = position.padded_samples = 0
        if position.epoch % config.dev_every == 0 or position.epoch == config.epochs:
            if self.dev_utterances:
                facts |= self._evaluate()
            else:
                self._keep()
        position.elapsed_s = facts["elapsed_s"] = time.perf_counter() - self.started
        # First: what was logged before the state is saved is dropped and logged again, never missed.
        self.log.epoch(facts)
        self._save()
        (stop,) = self.world.any(bool(self.stop_request))
        if stop:
            self._interrupt()

    def _evaluate(self) -> dict[str, Any]:
        """Score dev with the averaged weights and keep them when they are the best so far.

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
        rank = [expected, loss if math.isfinite(loss) else math.inf]
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
        """Make the averaged weights the result: on dev the best so far, or the newest where there is none."""
        if self.world.leads:
            facts = {"epoch": self.position.epoch, "step": self.position.step, **scores}
            checkpoint.save_weights(self.out, self.learner.average.state_dict(), facts)

    def _header(self) -> list[str]:
        """What is about to happen, line by line."""
        recognizer = self.learner.recognizer
        audio = f"{len(self.train_set.utterances)} utterances, {hours(self.train_set.utterances):.2f} h"
        dropped = sum(self.unknown.values())
        devices = str(self.device) if self.world.size == 1 else f"{self.world.size} x {self.device.type}"
        dev = f"dev {len(self.dev_utterances)} utterances" if self.dev_utterances else "no dev, the last epoch is kept"
        lines = [
            f"training on {audio}; {dev}; {len(recognizer.tokenizer)} tokens; "
            f"{parameters_of(recognizer) / 1e6:.2f} M parameters; {devices}, "
            f"{'bfloat16' if self.bfloat16 else 'float32'}; run folder {self.out}",
        ]
        if self.config.train.init_from and not self.states:
            new = len(self.new_labels)
            lines.append(f"starting from the weights of {self.config.train.init_from}; {new} labels are new to it")
        if self.left_out:
            lines.append(f"{len(self.left_out)} unusable utterances left out, listed in {self.out / UNUSABLE_FILE}")
        if self.dev_infeasible:
            shown = listed(self.dev_infeasible, 3)
            lines.append(f"{len(self.dev_infeasible)} dev utterances count in WER and not in dev loss: {shown}")
        if dropped:
            symbols = ", ".join(f"{symbol!r} {count}" for symbol, count in self.unknown.most_common(10))
            lines.append(f"{dropped} out-of-vocabulary symbols dropped: {symbols}")
        if self.states:
            lines.append(f"resuming at epoch {self.position.epoch + 1}, step {self.position.step}")
        return lines

    def _save_if_asked(self) -> None:
        """Between two steps, and at an epoch's end: what any process asks for, all do."""
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
        number = self.stop_request[0] if self.stop_request else signal.SIGTERM  # another process was asked
        name = signal.Signals(number).name
        raise Interrupted(f"stopped by {name}, state saved; go on with: asr train --resume {self.out}", number)

    def _save(self) -> None:
        self.position.elapsed_s = time.perf_counter() - self.started
        self.position.processes = self.world.size
        randoms = self.world.gather(random_state())
        if self.world.leads:
            keep = self.config.train.keep_states
            save_state(self.out, self.position, self.learner, randoms, self.origin, keep=keep)
        self.world.wait()
        self.saved, self.saved_step = time.perf_counter(), self.position.step
