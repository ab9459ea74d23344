"""Examples, batches and the order they are seen in."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice, pairwise

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from asr.audio import load_utterance
from asr.augment import WaveAugment, draws_of, speed_of, utterance_generator
from asr.config import AudioConfig, AugmentConfig
from asr.errors import AsrError, AudioError, TrainingError
from asr.features import require_frame
from asr.manifest import Utterance
from asr.process import cores
from asr.process.lack_of_memory import let_go, out_of_memory
from asr.process.loading import begin_loading, tell_of_deaths_at_once, told_of_deaths

# What a loading process is given: epoch, index and, where the audio comes from a shard, the content of its file.
Item = tuple[int, int] | tuple[int, int, bytes]

# Lengths are jittered by this share before sorting, so that an utterance has other neighbours in each epoch; by less
# where a batch holds more than this many utterances: there neighbours change anyway, and padding would grow.
SORT_JITTER = 0.05
_JITTERED_UTTERANCES = 64
# Without loading processes, the training process loads this many batches of files in a row: a training step evicts what
# loading had in the cache, so the first of them takes twice as long as the others. Shards are not loaded in a row: a
# stream may stall, and batches that have arrived are to be trained on meanwhile.
_IN_A_ROW = 4


@dataclass(frozen=True)
class Batch:
    """Utterances padded to one length; lengths stay on the CPU, where packing and CTC want them.

    Attributes:
        ids: B utterance ids.
        waves: (B, S) float32, right-padded with zeros.
        wave_lens: (B,) int64, valid samples, in descending order.
        labels: (B, U) int64, right-padded with zeros.
        label_lens: (B,) int64.
        draws: (B, D) float32 uniform numbers for the feature augmentation, or None.
    """

    ids: list[str]
    waves: Tensor
    wave_lens: Tensor
    labels: Tensor
    label_lens: Tensor
    draws: Tensor | None

    def to(self, device: torch.device) -> "Batch":
        """The batch with its waveforms, labels and draws on `device`."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=True))

    def split(self, parts: int) -> list["Batch"]:
        """The batch in at most `parts` pieces of neighbouring rows, each with no more padding than it needs."""
        bounds = [len(self.ids) * part // parts for part in range(parts + 1)]
        return [self._rows(slice(first, end)) for first, end in pairwise(bounds) if first < end]

    def _rows(self, rows: slice) -> "Batch":
        wave_lens, label_lens = self.wave_lens[rows], self.label_lens[rows]
        return Batch(
            ids=self.ids[rows],
            waves=self.waves[rows, : int(wave_lens.max())],
            wave_lens=wave_lens,
            labels=self.labels[rows, : int(label_lens.max())],
            label_lens=label_lens,
            draws=None if self.draws is None else self.draws[rows],
        )

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory; called by DataLoader."""
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> "Batch":
        draws = None if self.draws is None else move(self.draws)
        return replace(self, waves=move(self.waves), labels=move(self.labels), draws=draws)


@dataclass(frozen=True)
class Example:
    """One utterance ready for a batch: (S,) waveform, labels, (D,) draws or None."""

    id: str
    wave: Tensor
    labels: Sequence[int]
    draws: Tensor | None


class Examples(Dataset[Example | AsrError]):
    """Loads utterances, and perturbs them when `augment` is given. An item is addressed by (epoch, index[, content]).

    Features are augmented in `views` ways, so each utterance gets that many sets of draws.

    A waveform of fewer than `shortest_samples` is unusable: it holds no whole feature frame.

    Unusable audio is returned as the error itself, for `Batches` to raise: an exception raised in a worker process
    would arrive with its traceback as the message.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        labels: Sequence[Sequence[int]],
        audio_config: AudioConfig,
        shortest_samples: int,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        views: int = 1,
    ) -> None:
        self.utterances = utterances
        self.labels = labels
        self.audio_config = audio_config
        self.shortest_samples = shortest_samples
        self.seed = seed
        self.wave_augment = WaveAugment(augment, audio_config) if augment else None
        self.draws = views * draws_of(augment) if augment else 0

    def __len__(self) -> int:
        return len(self.utterances)

    def speed(self, epoch: int, index: int) -> float:
        """How many times as fast an utterance runs in an epoch."""
        if self.wave_augment is None:
            return 1.0
        return speed_of(self.wave_augment.config, self.seed, epoch, self.utterances[index].id)

    def __getitem__(self, item: Item) -> Example | AsrError:
        try:
            return self._load(*item)
        except AsrError as error:
            return error
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            utterance = self.utterances[item[1]]
            return AudioError(
                f"utterance {utterance.id}: out of memory while loading {utterance.duration:g} s of audio"
            )

    def _load(self, epoch: int, index: int, content: bytes | None = None) -> Example:
        utterance = self.utterances[index]
        wave = load_utterance(utterance, self.audio_config, content)
        draws = None
        if self.wave_augment is not None:
            generator = utterance_generator(self.seed, epoch, utterance.id)
            draws = torch.rand(self.draws, generator=generator)
            wave = self.wave_augment(wave, generator, self.speed(epoch, index))
        require_frame(f"utterance {utterance.id}", len(wave), self.shortest_samples)
        return Example(utterance.id, wave, self.labels[index], draws)


def collate(loaded: Sequence[Example | AsrError]) -> Batch | AsrError:
    """Pad any number of examples to a batch, longest first; if there is an error among them, return that instead."""
    for item in loaded:
        if isinstance(item, AsrError):
            return item
    if not loaded:
        nothing = torch.zeros(0, dtype=torch.int64)
        return Batch([], torch.zeros(0, 0), nothing, nothing.view(0, 0), nothing, None)
    examples = sorted((item for item in loaded if isinstance(item, Example)), key=lambda item: -len(item.wave))
    draws = [example.draws for example in examples if example.draws is not None]
    labels = [torch.tensor(example.labels, dtype=torch.int64) for example in examples]
    return Batch(
        ids=[example.id for example in examples],
        waves=torch.nn.utils.rnn.pad_sequence([example.wave for example in examples], batch_first=True),
        wave_lens=torch.tensor([len(example.wave) for example in examples]),
        labels=torch.nn.utils.rnn.pad_sequence(labels, batch_first=True),
        label_lens=torch.tensor([len(row) for row in labels]),
        draws=torch.stack(draws) if draws else None,
    )


def in_parts(
    run: Callable[[Batch], tuple[Tensor, Tensor]], batch: Batch, device: torch.device
) -> Iterator[tuple[Batch, Tensor, Tensor]]:
    """A batch on `device` with what `run` gives for it; where memory does not suffice, its halves, and so on.

    Raises:
        AudioError: there is not enough memory for one utterance alone; the message names it.
    """
    waiting = [batch]
    while waiting:
        part = waiting.pop()
        try:
            moved = part.to(device)
            yield moved, *run(moved)
            continue
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            told = str(error).split("\n")[0]
        let_go(device)
        if len(part.ids) == 1:
            raise AudioError(f"utterance {part.ids[0]}: out of memory on this utterance alone ({told})")
        waiting += reversed(part.split(2))


def from_short_to_long(durations_s: Tensor, batch_s: float, jitter: torch.Generator | None) -> list[list[int]]:
    """Batches of similar length, as indices, each of at most `batch_s` seconds including padding, or of one utterance.

    Args:
        durations_s: (N,) float64.
        batch_s: budget of a batch.
        jitter: perturbs the lengths by which utterances are sorted; None: sort by the lengths as they are.
    """
    keys = durations_s
    if jitter is not None:
        noise = torch.rand(len(keys), generator=jitter, dtype=torch.float64)
        jittered_s = _JITTERED_UTTERANCES * float(durations_s.sum()) / max(1, len(keys))
        share = SORT_JITTER * min(1.0, jittered_s / batch_s)
        keys = keys * (1 + share * (2 * noise - 1))
    batches: list[list[int]] = []
    longest = 0.0
    for index in torch.argsort(keys, stable=True).tolist():
        longest = max(longest, float(durations_s[index]))
        if not batches or longest * (len(batches[-1]) + 1) > batch_s:
            batches.append([])
            longest = float(durations_s[index])
        batches[-1].append(index)
    return batches


def speeds_of(speed: Callable[[int, int], float], epoch: int, indices: Sequence[int]) -> Tensor:
    """(N,) float64 speeds of utterances in an epoch."""
    return torch.tensor([speed(epoch, index) for index in indices], dtype=torch.float64)


class BatchOrder(Sampler[list[Item]]):
    """Batches of similar length within a budget of padded seconds; a pure function of (seed, epoch).

    Epoch 0 goes from the shortest batch to the longest: CTC finds its first alignments on short utterances. Later
    epochs shuffle the batches. `epoch` and `start` (first batch to yield, for a resumed epoch) are set by the caller.

    Args:
        durations_s: of each utterance.
        batch_s: budget of a batch in padded seconds.
        shuffle: whether batches differ from epoch to epoch.
        seed: of the shuffling.
        speed: (epoch, index) -> how many times as fast the utterance will run, which decides its length in a batch.
        share: (rank, size): which of `size` processes this is; each is given every size-th utterance of every batch,
            perhaps none of a small one.
    """

    def __init__(
        self,
        durations_s: Sequence[float],
        batch_s: float,
        *,
        shuffle: bool,
        seed: int = 0,
        share: tuple[int, int] = (0, 1),
        speed: Callable[[int, int], float] | None = None,
    ) -> None:
        super().__init__()
        self.durations_s = torch.tensor(durations_s, dtype=torch.float64)
        self.batch_s = batch_s
        self.shuffle = shuffle
        self.seed = seed
        self.rank, self.size = share
        self.speed = speed
        self.epoch = 0
        self.start = 0
        self._planned: tuple[int, list[list[int]]] = (-1, [])

    def batches(self) -> list[list[int]]:
        """The batches of `self.epoch`, as indices."""
        if self._planned[0] != self.epoch:
            self._planned = self.epoch, self._plan()
        return self._planned[1]

    def _plan(self) -> list[list[int]]:
        generator = utterance_generator(self.seed, self.epoch, "batch order")
        durations_s = self.durations_s
        if self.speed is not None:
            durations_s = durations_s / speeds_of(self.speed, self.epoch, range(len(durations_s)))
        batches = from_short_to_long(durations_s, self.batch_s, generator if self.shuffle else None)
        if self.shuffle and self.epoch > 0:
            batches = [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]
        return batches

    def __iter__(self) -> Iterator[list[Item]]:
        for batch in self.batches()[self.start :]:
            yield [(self.epoch, index) for index in batch[self.rank :: self.size]]

    def __len__(self) -> int:
        return len(self.batches()) - self.start


class Batches:
    """The batches of `order`, loaded ahead of need; iterate once for each epoch.

    Args:
        workers: loading processes, one thread each, which live as long as this object; 0: load in the caller.
        pin_memory: page-locked batches, for CUDA.
    """

    def __init__(self, examples: Examples, order: Sampler[list[Item]], *, workers: int, pin_memory: bool) -> None:
        self.in_a_row = _IN_A_ROW if isinstance(order, BatchOrder) and not workers else 1
        self.loader: DataLoader[Example | AsrError] = DataLoader(
            examples,
            batch_sampler=order,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            worker_init_fn=begin_loading,
            prefetch_factor=4 if workers else None,
            # Whatever the program's own choice: a worker obeys signals from its parent, which must be this process.
            multiprocessing_context="fork" if workers else None,
            # Its own: otherwise each epoch takes a number from the generator that dropout uses, and a resumed one two.
            generator=torch.Generator(),
        )

    def __iter__(self) -> Iterator[Batch]:
        for item in self._loaded():
            if isinstance(item, AsrError):
                # A copy: this frame and `item`, through its traceback, would keep each other alive. The workers would
                # then end only after garbage collection and a timeout of 5 s each.
                raise type(item)(str(item))
            yield item

    def _loaded(self) -> Iterator[Batch | AsrError]:
        try:
            with told_of_deaths():
                loader = iter(self.loader)
                if self.loader.num_workers:
                    tell_of_deaths_at_once()
                while True:
                    with _one_thread():
                        items = list(islice(loader, self.in_a_row))
                    if not items:
                        return
                    yield from items
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise TrainingError("out of memory while a batch was put together") from error


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread, as a loading process does.

    An utterance is too little work to divide, and the last bit of a sum depends on the number of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def default_workers(device: torch.device, processes: int = 1) -> int:
    """Number of loading processes for each of `processes` that share the cores, where the configuration sets none."""
    share = cores() // processes
    if device.type == "cuda":  # a loading process perturbs some 1,300 hours of audio an hour
        return max(1, min(14, share - 2))
    # On two cores a loading process costs the training threads more than it saves them: loading is 5 % of a step.
    # macOS's own libraries do not survive a fork.
    return int(share > 2 and sys.platform != "darwin")
