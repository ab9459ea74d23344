"""What a training starts with: the utterances that can be learnt, their labels, the model, and their origin."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from asr import checkpoint
from asr.batch import Batches, BatchOrder, Examples, default_workers, in_parts
from asr.config import Config
from asr.features import TRAINED
from asr.lengths import s_to_samples
from asr.manifest import hours, require_audio
from asr.process.distributed import World, processes_here
from asr.recognizer import Recognizer, parameters_of
from asr.shards.index import ShardIndex, is_shards, read_index, require_shards
from asr.shards.order import ShardOrder
from asr.text import removed
from asr.training.finetune import VocabularyChange, start_from
from asr.training.state import Origin, deciding
from asr.training.trainset import (
    LabelledSet,
    heard_in_training,
    infeasible,
    label,
    listed,
    noise_origin,
    origin_of,
    read_dev,
    read_utterances,
    require_segments,
    tokenizer_for,
    unlike,
    usable,
)

UNUSABLE_FILE = "unusable.txt"
_FITTED_S = 20 * 3600  # where there is more audio, `features.normalization` is fitted on about this much


@dataclass(frozen=True)
class Outset:
    """A training before its first step.

    Attributes:
        config: the whole configuration.
        recognizer: the model with its initial weights.
        shards: what to stream, where `data.train` names shards.
        train_set, dev_set: what to learn from, and what to evaluate on.
        origin: what this training is made from; its states can be resumed with nothing else.
        left_out: why each unusable training utterance is not in `train_set`.
        change: labels that are new to the model of `train.init_from` or lost from it; None where no weights were taken.
    """

    config: Config
    recognizer: Recognizer
    shards: ShardIndex | None
    train_set: LabelledSet
    dev_set: LabelledSet
    origin: Origin
    left_out: list[str]
    change: VocabularyChange | None

    def order(self, world: World, speed: Callable[[int, int], float] | None = None) -> BatchOrder | ShardOrder:
        """This process's share of the batches of every epoch; for `speed` see `BatchOrder`."""
        budget_s, seed, share = self.config.train.batch_s, self.config.train.seed, (world.rank, world.size)
        if self.shards is not None:
            return ShardOrder(self.shards, self.train_set.utterances, budget_s, seed=seed, share=share, speed=speed)
        return BatchOrder(self.train_set.durations_s, budget_s, shuffle=True, seed=seed, share=share, speed=speed)

    def notes(self, out: Path, world: World) -> list[str]:
        """Lines that tell the user what is about to be trained in the run folder `out`."""
        config, recognizer = self.config, self.recognizer
        audio = f"{len(self.train_set.utterances)} utterances, {hours(self.train_set.utterances):.2f} h"
        heard = len(self.dev_set.utterances)
        dev = f"dev {heard} utterances" if heard else "no dev, the last epoch is kept"
        device = recognizer.device.type
        devices = device if world.size == 1 else f"{world.size} x {device}"
        lines = [
            f"training on {audio}; {dev}; {len(recognizer.tokenizer)} tokens; "
            f"{parameters_of(recognizer) / 1e6:.2f} M parameters; {devices}, {self.origin.precision}; run folder {out}",
        ]
        if self.change is not None:
            new, lost, source = len(self.change.new), len(self.change.lost), config.train.init_from
            told = f"starting from the weights of {source}; {new} labels are new to that model"
            if lost:
                told += f", {lost} of its own are lost"
                if not unlike(checkpoint.load_config(Path(source)).text, config.text):
                    told += f" (data.vocabulary={source} keeps them, if its labels can spell all transcripts)"
            lines.append(told)
        if self.left_out:
            lines.append(f"{len(self.left_out)} unusable utterances left out, listed in {out / UNUSABLE_FILE}")
        known = heard_in_training(self.dev_set.utterances, self.train_set.utterances) if self.shards is None else []
        if known:  # an index of shards does not say which files its utterances were cut from
            lines.append(
                f"{len(known)} of {heard} dev utterances are of audio that is trained on too ({listed(known, 3)}): the "
                "error rate on dev is not that on unheard recordings"
            )
        uncounted = infeasible(self.dev_set, self.dev_set.durations_s, config, recognizer, speed=1.0)
        if uncounted:
            shown = listed(uncounted, 3)
            lines.append(f"{len(uncounted)} dev utterances count in WER but not in dev loss: {shown}")
        dropped = Counter(symbol for symbols in self.train_set.unknown + self.dev_set.unknown for symbol in symbols)
        if dropped:
            lines.append(f"{dropped.total()} out-of-vocabulary symbols dropped: {_most_frequent(dropped)}")
        unlearnt = removed((utterance.text for utterance in self.train_set.utterances), config.text)
        if unlearnt:
            shown = _most_frequent(unlearnt)
            lines.append(f"characters of the transcripts that are not learnt: {shown}; text.letters keeps some")
        return lines


def _most_frequent(counts: Counter[str]) -> str:
    """The ten most frequent symbols with their counts, as part of a note."""
    return ", ".join(f"{symbol!r} {count}" for symbol, count in counts.most_common(10))


def set_out(config: Config, world: World, device: torch.device, precision: str, resumed: Path | None) -> Outset:
    """Read what a training needs, in every process, and make its model.

    Args:
        config: the whole configuration; `data.train` and `data.dev` name manifests.
        world: the processes of this job; they must find the same data, and are given rank 0's weights.
        device: where the model is to be.
        precision: of the training, for the origin.
        resumed: the run folder to resume, for its labels; the caller loads its weights. None: a new run.

    Raises:
        AsrError: of the fitting kind: configuration, manifest, audio, text or unusable utterances.
    """
    shards = read_index(config.data.train) if is_shards(config.data.train) else None
    if shards is None:
        train = read_utterances(config.data.train, "data.train")
    else:
        train = shards.utterances
        require_shards(shards)
    dev = read_dev(config)
    tokenizer = tokenizer_for(config, train) if resumed is None else checkpoint.load_tokenizer(resumed, config)
    recognizer = Recognizer(config, tokenizer).to(device)
    change = None
    if config.train.init_from and resumed is None:
        change = start_from(recognizer, Path(config.train.init_from))
    train_set, left_out = usable(train, config, recognizer)
    dev_set = label(dev, tokenizer, "data.dev, ", vocabulary=config.data.vocabulary)
    for manifest in (dev,) if shards else (train_set.utterances, dev):
        require_audio(manifest)
    require_segments(dev, config, recognizer)
    origin = Origin(
        settings=deciding(config),
        vocabulary=tokenizer.digest(),
        shards="" if shards is None else shards.digest(),
        noise=noise_origin(config),
        precision=precision,
        **origin_of(train_set.utterances, dev, config),
    )
    world.agree(origin.facts())
    outset = Outset(config, recognizer, shards, train_set, dev_set, origin, left_out, change)
    if resumed is None and config.features.normalization in TRAINED:
        fit_normalizer(outset, world)
    world.broadcast(recognizer.state_dict().values())
    return outset


def fit_normalizer(outset: Outset, world: World) -> None:
    """Compute the normaliser's statistics from the training set, each process from its share."""
    config, log_mel, device = outset.config, outset.recognizer.log_mel, outset.recognizer.device
    examples = Examples(outset.train_set.utterances, outset.train_set.labels, config.audio, log_mel.fft_samples)
    order = outset.order(world)
    plain = Batches(examples, order, workers=loading_processes(config, device), pin_memory=False)
    # The beginning of a shuffled epoch represents a large corpus; all epochs but the first are shuffled.
    order.epoch = int(sum(outset.train_set.durations_s) > _FITTED_S)
    enough = s_to_samples(_FITTED_S / world.size, config.audio.sample_rate_hz)

    def some() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        heard = 0
        for batch in plain:
            if batch.ids:
                for _, feats, lens in in_parts(lambda part: log_mel(part.waves, part.wave_lens), batch, device):
                    yield feats, lens
            heard += int(batch.wave_lens.sum())
            if heard >= enough:
                return

    outset.recognizer.normalizer.fit(some(), world.all_reduce)


def loading_processes(config: Config, device: torch.device) -> int:
    """How many processes load audio for this one."""
    workers = config.train.workers
    return workers if workers >= 0 else default_workers(device, processes_here())
