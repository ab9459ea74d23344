"""Batches: nothing lost, nothing twice, the budget kept, and the same content for any number of workers."""

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.augment import speed_of
from asr.batch import SORT_JITTER, Batch, Batches, BatchOrder, Example, Examples, collate, default_workers
from asr.config import AudioConfig, AugmentConfig
from asr.errors import AudioError, TrainingError
from asr.manifest import Utterance

RATE_HZ = 8000
DURATIONS = st.lists(st.floats(0.1, 30), min_size=1, max_size=60)


def flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


def speech_durations(count: int = 900) -> list[float]:
    """Durations such as read commands have: most of 2 to 4 s, 1 to 6 s in all."""
    return [float(duration) for duration in np.random.default_rng(0).gamma(4.0, 0.75, count).clip(1.0, 6.0)]


def order_of(durations: list[float], batch_s: float = 24.0, epoch: int = 0, seed: int = 0) -> BatchOrder:
    order = BatchOrder(durations, batch_s, shuffle=True, seed=seed)
    order.epoch = epoch
    return order


@pytest.fixture
def corpus(tmp_path: Path) -> list[Utterance]:
    """Nine recordings of 0.1 to 0.5 s."""
    utterances = []
    for number in range(9):
        samples = 800 + 400 * number
        wave = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(number))
        path = tmp_path / f"u{number}.wav"
        soundfile.write(path, wave.numpy(), RATE_HZ, subtype="FLOAT")
        utterances.append(Utterance(path.stem, path, samples / RATE_HZ, "a"))
    return utterances


def batches_of(
    utterances: list[Utterance], workers: int, augment: AugmentConfig | None = None, seed: int = 0
) -> tuple[Batches, BatchOrder]:
    labels = [[1 + number] * (1 + number % 3) for number in range(len(utterances))]
    examples = Examples(utterances, labels, AudioConfig(sample_rate_hz=RATE_HZ), 1, augment, seed)
    durations_s = [utterance.duration for utterance in utterances]
    order = BatchOrder(durations_s, 1.0, shuffle=True, seed=seed, speed=examples.speed)
    return Batches(examples, order, workers=workers, pin_memory=False), order


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12, of forking beside threads
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("asr.batch.load_utterance", r"^utterance u\d: out of memory while loading 0\.\d+ s of audio$"),
        ("torch.nn.utils.rnn.pad_sequence", "^out of memory while a batch was put together$"),
    ],
)
def test_lack_of_memory_is_told_on_one_line(
    corpus: list[Utterance], monkeypatch: pytest.MonkeyPatch, workers: int, place: str, message: str
) -> None:
    def starved(*_: object, **__: object) -> None:
        raise MemoryError

    batches, _ = batches_of(corpus, workers)
    monkeypatch.setattr(place, starved)
    with pytest.raises((AudioError, TrainingError), match=message):
        list(batches)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_the_death_of_a_loading_process_is_told_on_one_line_whenever_it_comes(corpus: list[Utterance]) -> None:
    """Between two batches, as in the middle of a step: torch's error comes out of a handler of SIGCHLD."""
    for _ in range(2):  # the second has the handler that torch installed for the first
        before = set(multiprocessing.active_children())  # of other tests, until they are collected
        batches = iter(batches_of(corpus, workers=1)[0])
        next(batches)
        (loading,) = set(multiprocessing.active_children()) - before
        wanted = rf"^a loading process died: DataLoader worker \(pid {loading.pid}\) is killed by signal: Killed\.$"
        with pytest.raises(TrainingError, match=wanted):
            kill_and_sleep(loading)
        del batches


def kill_and_sleep(process: multiprocessing.process.BaseProcess) -> None:
    process.kill()
    time.sleep(10)


def assert_equal(left: Batch, right: Batch) -> None:
    assert left.ids == right.ids
    for name in ("waves", "wave_lens", "labels", "label_lens", "draws"):
        assert torch.equal(getattr(left, name), getattr(right, name)), name


# --- collate ----------------------------------------------------------------------------------------------------------


def test_collate_pads_with_zeros_longest_first() -> None:
    batch = collate(
        [
            Example("short", torch.ones(2), [1, 2, 3], torch.tensor([0.25])),
            Example("long", 2 * torch.ones(5), [4], torch.tensor([0.5])),
            Example("middle", 3 * torch.ones(3), [5, 6], torch.tensor([0.75])),
        ]
    )
    assert isinstance(batch, Batch)
    assert batch.ids == ["long", "middle", "short"]
    assert batch.waves.tolist() == [[2, 2, 2, 2, 2], [3, 3, 3, 0, 0], [1, 1, 0, 0, 0]]
    assert batch.wave_lens.tolist() == [5, 3, 2]
    assert batch.labels.tolist() == [[4, 0, 0], [5, 6, 0], [1, 2, 3]]
    assert batch.label_lens.tolist() == [1, 2, 3]
    assert batch.draws is not None
    assert batch.draws.tolist() == [[0.5], [0.75], [0.25]]
    assert batch.waves.dtype == torch.float32
    assert batch.wave_lens.dtype == batch.labels.dtype == batch.label_lens.dtype == torch.int64


def test_collate_without_augmentation_or_labels() -> None:
    batch = collate([Example("a", torch.ones(2), [], None), Example("b", torch.ones(1), [], None)])
    assert isinstance(batch, Batch)
    assert batch.draws is None
    assert batch.labels.shape == (2, 0)
    assert batch.label_lens.tolist() == [0, 0]


# --- loading ----------------------------------------------------------------------------------------------------------


# A computer of one core is warned about two workers, and Python 3.12 about forking beside other libraries' threads.
@pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:This process:DeprecationWarning")
def test_batches_are_equal_for_any_number_of_workers(corpus: list[Utterance]) -> None:
    augment = AugmentConfig(noise_probability=0.5, warp=0.1)
    here, here_order = batches_of(corpus, 0, augment)
    there, there_order = batches_of(corpus, 2, augment)
    seen = []
    for epoch, start in ((0, 0), (1, 0), (1, 2)):  # the last: a resumed epoch
        here_order.epoch = there_order.epoch = epoch
        here_order.start = there_order.start = start
        torch.manual_seed(epoch)  # what the rest of the process draws must not matter
        expected, found = list(here), list(there)
        assert len(expected) == len(found) == len(here_order)
        for left, right in zip(expected, found, strict=True):
            assert_equal(left, right)
        seen.append(expected)
    for whole, resumed in zip(seen[1][2:], seen[2], strict=True):
        assert_equal(whole, resumed)
    first, second = ({name: row for batch in epoch for name, row in rows_by_id(batch).items()} for epoch in seen[:2])
    assert first.keys() == second.keys() == {utterance.id for utterance in corpus}
    assert all(first[name] != second[name] for name in first)  # each epoch hears something else


def rows_by_id(batch: Batch) -> dict[str, list[float]]:
    return {
        name: batch.waves[row, : int(length)].tolist()
        for row, (name, length) in enumerate(zip(batch.ids, batch.wave_lens, strict=True))
    }


def test_plain_batches_hold_the_recordings(corpus: list[Utterance]) -> None:
    batches, _ = batches_of(corpus, 0)
    found: dict[str, list[float]] = {}
    for batch in batches:
        assert batch.draws is None
        found |= rows_by_id(batch)
    assert list(found) == [f"u{number}" for number in map(int, (name[1:] for name in found))]
    for utterance in corpus:
        samples, _ = soundfile.read(utterance.audio_filepath, dtype="float32")
        assert found[utterance.id] == samples.tolist()


def test_augmentation_does_not_depend_on_the_neighbours(corpus: list[Utterance]) -> None:
    def perturbed(utterances: list[Utterance]) -> dict[str, list[float]]:
        batches, _ = batches_of(utterances, 0, AugmentConfig(noise_probability=1.0), seed=5)
        return {name: row for batch in batches for name, row in rows_by_id(batch).items()}

    everything = perturbed(corpus)
    assert perturbed(corpus[4:6]) == {name: everything[name] for name in ("u4", "u5")}


@pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_audio_is_an_error_of_one_line(corpus: list[Utterance], workers: int) -> None:
    corpus[3].audio_filepath.unlink()
    batches, _ = batches_of(corpus, workers)
    with pytest.raises(AudioError, match=r"^utterance u3: .*u3\.wav: cannot read audio: No such file[^\n]*$"):
        list(batches)


# --- order ------------------------------------------------------------------------------------------------------------


@given(durations=DURATIONS, batch_s=st.floats(1, 60), epoch=st.integers(0, 3), seed=st.integers(0, 5))
def test_every_utterance_once_and_the_budget_kept(
    durations: list[float], batch_s: float, epoch: int, seed: int
) -> None:
    batches = order_of(durations, batch_s, epoch, seed).batches()
    assert sorted(flat(batches)) == list(range(len(durations)))
    for batch in batches:
        assert batch
        padded_s = max(durations[index] for index in batch) * len(batch)
        assert padded_s <= batch_s or len(batch) == 1  # one utterance may be longer than the budget


@given(durations=DURATIONS, seed=st.integers(0, 5))
def test_first_epoch_goes_from_short_to_long(durations: list[float], seed: int) -> None:
    sequence = [durations[index] for index in flat(order_of(durations, seed=seed).batches())]
    tolerance = (1 + SORT_JITTER) / (1 - SORT_JITTER)
    longest = 0.0
    for duration in sequence:
        assert longest <= duration * tolerance * (1 + 1e-9)
        longest = max(longest, duration)


@given(durations=DURATIONS)
def test_without_shuffling_the_order_is_sorted_in_every_epoch(durations: list[float]) -> None:
    order = BatchOrder(durations, 24.0, shuffle=False)
    first = order.batches()
    assert flat(first) == sorted(range(len(durations)), key=lambda index: durations[index])  # both sorts are stable
    order.epoch = 3
    assert order.batches() == first


def test_order_is_a_function_of_seed_and_epoch() -> None:
    durations = speech_durations(200)
    expected = [order_of(durations, epoch=epoch, seed=1).batches() for epoch in range(3)]
    torch.manual_seed(7)
    order = order_of(durations, seed=1)
    for epoch in (2, 0, 1):  # whatever came before
        order.epoch = epoch
        assert order.batches() == expected[epoch]
    assert expected[1] != expected[2]
    assert {tuple(sorted(batch)) for batch in expected[1]} != {tuple(sorted(batch)) for batch in expected[2]}
    assert order_of(durations, epoch=1, seed=2).batches() != expected[1]


def test_later_epochs_mix_short_and_long() -> None:
    durations = speech_durations()
    means = [np.mean([durations[index] for index in batch]) for batch in order_of(durations, epoch=1).batches()]
    trend = np.corrcoef(np.arange(len(means)), means)[0, 1]
    assert abs(trend) < 0.3  # about 120 batches: the standard deviation of chance is 0.09


@pytest.mark.parametrize("start", [0, 1, 17])
def test_start_skips_batches_of_a_resumed_epoch(start: int) -> None:
    order = order_of(speech_durations(300), epoch=2)
    whole = list(order)
    order.start = start
    assert list(order) == whole[start:]
    assert len(order) == len(whole) - start
    assert all(epoch == 2 for batch in whole for epoch, _ in batch)
    assert [[index for _, index in batch] for batch in whole] == order.batches()


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_padding_wastes_at_most_five_percent(epoch: int) -> None:
    durations = speech_durations()
    batches = order_of(durations, 24.0, epoch).batches()
    padded_s = sum(max(durations[index] for index in batch) * len(batch) for batch in batches)
    assert 1 - sum(durations) / padded_s < 0.05  # measured: 0.035
    assert padded_s / len(batches) > 0.85 * 24  # and the budget is made use of


@pytest.mark.parametrize("epoch", [0, 1])
def test_batches_hold_what_speeds_make_of_utterances(epoch: int) -> None:
    durations, config = speech_durations(), AugmentConfig(speeds=(0.85, 1.0, 1.15))

    def speed(epoch: int, index: int) -> float:
        return speed_of(config, 0, epoch, str(index))

    order = BatchOrder(durations, 24.0, shuffle=True, speed=speed)
    order.epoch = epoch
    lasting = [duration / speed(epoch, index) for index, duration in enumerate(durations)]
    padded_s = [max(lasting[index] for index in batch) * len(batch) for batch in order.batches()]
    assert sorted(flat(order.batches())) == list(range(len(durations)))
    assert max(padded_s) <= 24 + 1e-9
    assert 1 - sum(lasting) / sum(padded_s) < 0.05


@pytest.mark.parametrize(
    ("device", "cores", "processes", "workers"),
    [
        ("cuda", 1, 1, 1),  # at least one
        ("cuda", 8, 1, 6),
        ("cuda", 8, 2, 2),
        ("cuda", 64, 1, 14),
        ("cpu", 2, 1, 0),
        ("cpu", 3, 1, 1),
        ("cpu", 64, 1, 1),
        ("cpu", 8, 4, 0),
    ],
)
def test_loading_processes(
    device: str, cores: int, processes: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.batch.cores", lambda: cores)
    monkeypatch.setattr("sys.platform", "linux")
    assert default_workers(torch.device(device), processes) == workers
    monkeypatch.setattr("sys.platform", "darwin")
    assert default_workers(torch.device(device), processes) == (workers if device == "cuda" else 0)
