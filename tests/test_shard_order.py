"""Training from shards: every utterance once over all processes, in an order that nothing but the seed decides."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import asr.shards.order
from asr.batch import Batches, Examples
from asr.config import AudioConfig, AugmentConfig
from asr.errors import AudioError
from asr.manifest import Utterance, read_manifest
from asr.shards.index import Shard, ShardIndex, read_index, read_shard
from asr.shards.order import ShardOrder
from shard_corpus import RATE_HZ, make_shards

CONFIG = AudioConfig(sample_rate_hz=RATE_HZ)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def index(shards: Path) -> ShardIndex:
    return read_index(str(shards))


def imagined(counts: list[int]) -> ShardIndex:
    """An index of shards with so many utterances each, of 1 to 10 s; there are no files."""
    generator = torch.Generator().manual_seed(0)
    shards = []
    for number, count in enumerate(counts):
        seconds = (1 + 9 * torch.rand(count, generator=generator)).tolist()
        utterances = [
            Utterance(f"{number}-{place}", Path(f"{number:06d}.tar", f"{place:08d}.flac"), duration, "x")
            for place, duration in enumerate(seconds)
        ]
        shards.append(Shard(f"/none/{number:06d}.tar", 0, utterances, [0] * count))
    return ShardIndex(shards)


def order_of(
    index: ShardIndex,
    *,
    epoch: int = 1,
    rank: int = 0,
    size: int = 1,
    pool: int = 10,
    batch_s: float = 1.0,
    seed: int = 0,
) -> ShardOrder:
    order = ShardOrder(index, index.utterances, batch_s, seed=seed, share=(rank, size), pool=pool)
    order.epoch = epoch
    return order


def flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


# --- the plan ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("counts", [[30, 31, 29, 30, 32, 30, 12], [30], [1, 1, 1], [40] * 16])
def test_every_utterance_once_over_all_processes(counts: list[int], epoch: int, size: int) -> None:
    index = imagined(counts)
    durations = [utterance.duration for utterance in index.utterances]
    everybody = [
        order_of(index, epoch=epoch, rank=rank, size=size, pool=50, batch_s=40.0 * size).batches()
        for rank in range(size)
    ]
    assert sorted(index for batches in everybody for index in flat(batches)) == list(range(sum(counts)))
    assert len({len(batches) for batches in everybody}) == 1
    for step in zip(*everybody, strict=True):
        assert any(step)
        for batch in step:
            assert not batch or max(durations[index] for index in batch) * len(batch) <= 40.0
    if size == 1:
        assert all(everybody[0])


def test_processes_step_through_equal_lengths() -> None:
    index = imagined([60] * 12)
    durations = [utterance.duration for utterance in index.utterances]
    ranks = [order_of(index, rank=rank, size=3, pool=100, batch_s=90.0).batches() for rank in range(3)]
    steps = [step for step in zip(*ranks, strict=True) if all(step)]
    assert len(steps) > 0.9 * len(ranks[0])
    longest = torch.tensor([[max(durations[index] for index in batch) for batch in step] for step in steps])
    assert (longest.amax(1) - longest.amin(1)).mean() < 1.0  # of 1 to 10 s
    assert abs(torch.corrcoef(torch.stack([longest[:, 0], torch.arange(len(steps)).float()]))[0, 1]) < 0.5  # shuffled


def test_first_epoch_goes_from_short_to_long_within_a_pool() -> None:
    index = imagined([60] * 4)
    durations = [utterance.duration for utterance in index.utterances]
    batches = order_of(index, epoch=0, pool=100, batch_s=40.0).batches()
    longest = [max(durations[index] for index in batch) for batch in batches]
    falls = [place for place in range(1, len(longest)) if longest[place] < longest[place - 1] - 2]
    assert len(falls) == 1  # where the second pool begins


def test_plan_is_a_function_of_seed_and_epoch() -> None:
    index = imagined([20] * 6)
    expected = [order_of(index, epoch=epoch).batches() for epoch in range(3)]
    torch.manual_seed(7)
    order = order_of(index)
    for epoch in (2, 0, 1):  # whatever came before
        order.epoch = epoch
        assert order.batches() == expected[epoch]
        assert len(order) == len(expected[epoch])
    assert expected[1] != expected[2]
    assert order_of(index, seed=1).batches() != expected[1]


def test_shards_of_which_nothing_is_wanted_are_not_read() -> None:
    index = imagined([20] * 3)
    kept = index.shards[1].utterances[5:]
    order = ShardOrder(index, kept, 40.0)
    assert sorted(flat(order.batches())) == list(range(15))
    assert [pool.shards for pool in order._plan()] == [[1]]


# --- reading ----------------------------------------------------------------------------------------------------------


def batches_of(index: ShardIndex, workers: int, augment: AugmentConfig | None = None) -> tuple[Batches, ShardOrder]:
    labels = [[1 + number] for number in range(len(index.utterances))]
    examples = Examples(index.utterances, labels, CONFIG, 1, augment, seed=3)
    order = order_of(index)
    return Batches(examples, order, workers=workers, pin_memory=False), order


# A computer of one core is warned about two workers, and Python 3.12 about forking beside other libraries' threads.
@pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_as_planned_and_sound_as_the_files_do(index: ShardIndex, shards: Path, workers: int) -> None:
    augment = AugmentConfig(noise_probability=0.5, warp=0.1)
    files = {item.id: item for item in read_manifest(shards.parent.parent / "audio" / "all.jsonl")}
    plain = Examples([files[item.id] for item in index.utterances], [[1]] * len(files), CONFIG, 1, augment, seed=3)
    places = {item.id: number for number, item in enumerate(index.utterances)}
    batches, order = batches_of(index, workers, augment)
    for epoch, start in ((0, 0), (1, 0), (1, 3)):  # the last: a resumed epoch
        order.epoch, order.start = epoch, start
        planned = [sorted(batch) for batch in order.batches()[start:]]
        assert len(order) == len(planned)
        found = []
        for batch in batches:
            found.append(sorted(places[name] for name in batch.ids))
            for row, name in enumerate(batch.ids):
                example = plain[epoch, places[name]]
                assert torch.equal(batch.waves[row, : batch.wave_lens[row]], example.wave)
        assert found == planned


def test_start_gives_the_tail_and_reads_no_more_than_it_needs(
    index: ShardIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(asr.shards.order, "read_shard", lambda shard: (opened.append(shard.url), read_shard(shard))[1])
    order = order_of(index, pool=5)
    whole = list(order)
    pools = order._plan()
    assert len(pools) > 2
    assert opened == [index.shards[number].url for pool in pools for number in pool.shards]
    for start in range(len(whole) + 1):
        opened.clear()
        order.start = start
        assert list(order) == whole[start:]
        behind = 0
        while pools and behind < len(pools) and start >= sum(len(pool.batches) for pool in pools[: behind + 1]):
            behind += 1
        assert opened == [index.shards[number].url for pool in pools[behind:] for number in pool.shards]


def test_two_pools_are_in_memory_at_most(index: ShardIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(asr.shards.order, "read_shard", lambda shard: (opened.append(shard.url), read_shard(shard))[1])
    order = order_of(index, pool=4)
    pools = order._plan()
    assert len(pools) > 3
    batches: Iterator[object] = iter(order)
    for number, pool in enumerate(pools):
        for _ in pool.batches:
            next(batches)
            assert len(opened) <= sum(len(ahead.shards) for ahead in pools[: number + 2])


def test_the_thread_ends_when_nobody_wants_more(index: ShardIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    order = order_of(index)
    first, *_ = order._plan()

    def without_end(shard: Shard) -> Iterator[tuple[int, bytes]]:
        yield from read_shard(shard)
        while index.shards.index(shard) not in first.shards:
            time.sleep(0.001)
            yield -1, b""

    monkeypatch.setattr(asr.shards.order, "read_shard", without_end)
    batches = iter(order)
    next(batches)
    assert any(thread.name.startswith("shards") for thread in threading.enumerate())
    del batches
    assert not any(thread.name.startswith("shards") for thread in threading.enumerate())


@pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_shard_stops_the_epoch_with_its_name(tmp_path: Path, workers: int) -> None:
    index = read_index(str(make_shards(tmp_path)))
    batches, order = batches_of(index, workers)
    last = Path(index.shards[order._plan()[-1].shards[-1]].url)
    last.write_bytes(last.read_bytes()[:2000])
    with pytest.raises(AudioError, match=rf"^{last}: cannot read shard: unexpected end of data$"):
        list(batches)
    del batches
    assert not any(thread.name.startswith("shards") for thread in threading.enumerate())


def test_audio_that_is_damaged_in_a_shard_is_named(tmp_path: Path) -> None:
    index = read_index(str(make_shards(tmp_path, 4)))
    examples = Examples(index.utterances, [[1]] * 4, CONFIG, 1)
    error = examples[0, 0, b"fLaC and nothing more"]
    name = index.utterances[0].id
    assert isinstance(error, AudioError)
    assert str(error).startswith(f"utterance {name}: {tmp_path}/shards/000000.tar/00000000.flac: cannot read audio: ")
