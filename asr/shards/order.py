"""Training from shards: the plan of an epoch, and shards read ahead of their batches."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass

import torch
from torch.utils.data import Sampler

from asr.augment import utterance_generator
from asr.batch import Item, from_short_to_long, speeds_of
from asr.manifest import Utterance
from asr.process.ahead import in_background
from asr.shards.index import ShardIndex, read_shard

# Batches are made from a pool of at least so many utterances, and enough for so many batches, so that each finds
# neighbours of equal length. Two pools are in memory, encoded as in the shards: about 1 GB with shards of 256 MB and
# utterances of 12 s; 2 GB with batches of 1600 s.
POOL_UTTERANCES = 2000
_POOL_BATCHES = 32
_POLL_S = 0.2  # how often waiting for a stalled source is interrupted to see whether training should stop
_END_S = 1.0  # longest wait for a reading thread to end: it may never do so


@dataclass(frozen=True)
class _Pool:
    """What one process reads together: numbers of shards, and the batches to make of them, as indices."""

    shards: list[int]
    batches: list[list[int]]


class ShardOrder(Sampler[list[Item]]):
    """Batches of utterances that come out of shards, with their audio; a pure function of (seed, epoch).

    The shards are shuffled and dealt to the processes, one to each in turn; those left over at the end are read by all
    processes, which share out their utterances. Each process makes batches from one pool of its shards at a time, as
    BatchOrder does from a whole corpus, within its part of the budget. All take the same number of steps, in the same
    order of lengths, so that none waits long for another; a process with fewer batches gets empty ones among them.

    The caller sets `epoch`, `start` (first batch to yield, for a resumed epoch) and `stop`. Shards whose batches all
    come before `start` are not read. Once `stop` returns true, iteration ends instead of waiting for a shard.

    Args:
        index: the shards.
        utterances: those to train on, some or all of the index; batches hold indices into this list.
        batch_s: budget of a batch of all processes together, in padded seconds.
        seed: of the shuffling.
        share: (rank, size): which of `size` processes this is.
        pool: smallest number of utterances to make batches from; by default it follows from the batches' size.
        speed: as in BatchOrder.
    """

    def __init__(
        self,
        index: ShardIndex,
        utterances: Sequence[Utterance],
        batch_s: float,
        *,
        seed: int = 0,
        share: tuple[int, int] = (0, 1),
        pool: int | None = None,
        speed: Callable[[int, int], float] | None = None,
    ) -> None:
        super().__init__()
        wanted = {utterance.id: number for number, utterance in enumerate(utterances)}
        self.shards = index.shards
        # For each shard: place of an utterance in it -> its index.
        self.members = [
            {place: wanted[item.id] for place, item in enumerate(shard.utterances) if item.id in wanted}
            for shard in index.shards
        ]
        self.durations_s = torch.tensor([utterance.duration for utterance in utterances], dtype=torch.float64)
        self.batch_s = batch_s
        self.seed = seed
        self.rank, self.size = share
        if pool is None:
            in_a_second = len(utterances) / (float(self.durations_s.sum()) or 1.0)
            pool = max(POOL_UTTERANCES, math.ceil(_POOL_BATCHES * batch_s / self.size * in_a_second))
        self.pool = pool
        self.speed = speed
        self.epoch = 0
        self.start = 0
        self.stop: Callable[[], bool] = lambda: False
        self._planned: tuple[int, list[_Pool]] = (-1, [])

    def batches(self) -> list[list[int]]:
        """This process's batches of `self.epoch`, as indices; as many as every other process has."""
        return [batch for pool in self._plan() for batch in pool.batches]

    def __len__(self) -> int:
        return len(self.batches()) - self.start

    def __iter__(self) -> Iterator[list[Item]]:
        """Batches with the content of their audio files.

        Raises:
            AudioError: a shard is missing or damaged; the message names it.
        """
        epoch, pools = self.epoch, self._ahead()
        unwanted = threading.Event()
        threads: list[threading.Thread] = []
        # Popped from a list: a future that stays in a variable keeps its exception, which keeps this frame.
        reading: list[Future[dict[int, bytes]]] = []

        def begin(pools: Sequence[_Pool]) -> None:
            for pool in pools:
                thread, future = in_background(self._read, pool, unwanted, name="shards")
                threads.append(thread)
                reading.append(future)

        try:
            begin(pools[:1])
            for place, pool in enumerate(pools, start=1):
                if not self._is_read(reading):
                    return
                contents = reading.pop().result()
                begin(pools[place : place + 1])
                for batch in pool.batches:
                    yield [(epoch, index, contents.pop(index)) for index in batch]
        finally:
            unwanted.set()
            for thread in threads:
                thread.join(_END_S)

    def _is_read(self, reading: list[Future[dict[int, bytes]]]) -> bool:
        """Wait for what is being read; false when training is to stop first."""
        while not wait(reading, timeout=_POLL_S).done:
            if self.stop():
                return False
        return True

    def _ahead(self) -> list[_Pool]:
        """The pools that remain from `start` on, the first without its earlier batches."""
        ahead, start = [], self.start
        for pool in self._plan():
            rest = pool.batches[start:]
            start = max(0, start - len(pool.batches))
            if rest:
                ahead.append(_Pool(pool.shards, rest))
        return ahead

    def _read(self, pool: _Pool, unwanted: threading.Event) -> dict[int, bytes]:
        """Audio of the pool's batches by index; runs in a thread."""
        wanted = {index for batch in pool.batches for index in batch}
        contents: dict[int, bytes] = {}
        for number in pool.shards:
            members = self.members[number]
            for place, content in read_shard(self.shards[number]):
                if unwanted.is_set():
                    return contents
                if members.get(place) in wanted:
                    contents[members[place]] = content
        return contents

    def _plan(self) -> list[_Pool]:
        """This process's pools. Every process plans for all, and all come to the same plan."""
        if self._planned[0] != self.epoch:
            generator = utterance_generator(self.seed, self.epoch, "shard order")
            pools = []
            for round_ in self._deal(generator):
                made = [self._from_short_to_long(indices, generator) for _, indices in round_]
                steps = max(map(len, made))
                order = torch.randperm(steps, generator=generator).tolist() if self.epoch else range(steps)
                mine = _stretch(made[self.rank], steps)
                pools.append(_Pool(round_[self.rank][0], [mine[step] for step in order]))
            self._planned = self.epoch, pools
        return self._planned[1]

    def _deal(self, generator: torch.Generator) -> Iterator[list[tuple[list[int], list[int]]]]:
        """Round by round, for each process the shards that it reads and the utterances that it takes from them."""
        order = [n for n in torch.randperm(len(self.shards), generator=generator).tolist() if self.members[n]]
        dealt = len(order) - len(order) % self.size
        hands: list[list[int]] = [[] for _ in range(self.size)]
        for first in range(0, dealt, self.size):
            for hand, number in zip(hands, order[first : first + self.size], strict=True):
                hand.append(number)
            if min(sum(len(self.members[number]) for number in hand) for hand in hands) >= self.pool:
                yield [(hand, self._indices(hand)) for hand in hands]
                hands = [[] for _ in range(self.size)]
        shared = order[dealt:]
        if hands[0] or shared:
            rest = self._indices(shared)
            yield [(hand + shared, self._indices(hand) + rest[rank :: self.size]) for rank, hand in enumerate(hands)]

    def _from_short_to_long(self, indices: list[int], jitter: torch.Generator) -> list[list[int]]:
        durations_s = self.durations_s[indices]
        if self.speed is not None:
            durations_s = durations_s / speeds_of(self.speed, self.epoch, indices)
        batches = from_short_to_long(durations_s, self.batch_s / self.size, jitter)
        return [[indices[place] for place in batch] for batch in batches]

    def _indices(self, shards: Sequence[int]) -> list[int]:
        return [index for number in shards for index in self.members[number].values()]


def _stretch(batches: list[list[int]], steps: int) -> list[list[int]]:
    """These batches with empty ones spread evenly between them, `steps` in all."""
    filled = {place * steps // len(batches): batch for place, batch in enumerate(batches)}
    return [filled.get(step, []) for step in range(steps)]
