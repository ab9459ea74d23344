"""The training loop: what it learns, keeps, skips, logs and refuses."""

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from torch import Tensor

from alone import recognise
from asr import checkpoint, train
from asr.audio import load_utterance
from asr.batch import Batch, BatchOrder
from asr.checkpoint import WEIGHTS_FILE
from asr.config import Config, TrainConfig
from asr.ctc import ctc_losses
from asr.errors import CheckpointError, ConfigError, TrainingError
from asr.hypotheses import Result
from asr.manifest import read_manifest
from asr.recognizer import pick_device
from asr.train import Trainer
from asr.training import objective
from asr.training.learner import Outcome, learning_rate
from asr.training.outset import fit_normalizer
from asr.training.runlog import METRICS_FILE, RunLog
from asr.training.state import Position, state_files
from tones import logged, tiny, write_corpus

TEXTS = ["ab", "cab", "bad dad", "a b c", "abba cab", "d", "dab", "cc"]
MakeConfig = Callable[..., Config]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("tones"), TEXTS)


@pytest.fixture
def settings(corpus: Path) -> MakeConfig:
    return lambda *overrides: tiny(corpus, corpus, "train.batch_s=2", "train.epochs=2", *overrides)


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


# --- learning ---------------------------------------------------------------------------------------------------------


def test_one_utterance_is_learnt_by_heart(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, ["abba cab"])
    settings = tiny(
        manifest, manifest, "train.epochs=90", "train.learning_rate=0.01", "train.ema_decay=0.9", "train.dev_every=30"
    )
    Trainer(settings, tmp_path / "run").run()
    epochs = logged(tmp_path / "run", "epoch")
    assert epochs[-1]["dev_wer_percent"] == 0
    assert epochs[-1]["dev_cer_percent"] == 0
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"] / 20
    recognizer = checkpoint.load(tmp_path / "run")
    wave = load_utterance(read_manifest(manifest)[0], settings.audio)
    assert recognise(recognizer, wave).text == "abba cab"


def test_learning_rate_rises_linearly_then_falls_as_a_cosine() -> None:
    config = TrainConfig(learning_rate=2.0, warmup_steps=4, final_rate_share=0.1)
    rates = [learning_rate(step, step / 52, 52, config) for step in range(53)]
    assert rates[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert rates[4 + 8] == pytest.approx(2 * (0.1 + 0.9 * (1 + math.sqrt(3) / 2) / 2))  # a sixth of the half-turn
    assert rates[4 + 24] == pytest.approx(1.1)  # halfway between 2 and 0.2
    assert rates[52] == pytest.approx(0.2)
    assert learning_rate(0, 0.0, 52, replace(config, warmup_steps=0)) == 2.0
    short = [learning_rate(step, step / 20, 20, replace(config, warmup_steps=300)) for step in range(3)]
    assert short == [1.0, 2.0, 2.0]  # at most a tenth of the run


def test_the_cosine_ends_with_the_last_epoch_however_many_batches_each_has(
    tmp_path: Path, settings: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over shards that several processes share, later epochs have more than the first."""
    batches = BatchOrder.batches

    def more(order: BatchOrder) -> list[list[int]]:
        found = batches(order)
        return [[index] for batch in found for index in batch] if order.epoch else found

    monkeypatch.setattr(BatchOrder, "batches", more)
    rates: list[list[float]] = [[], [], []]

    class Noting(Trainer):
        def step(self, batch: Batch) -> Outcome:
            outcome = super().step(batch)
            rates[self.position.epoch].append(self.learner.optimizer.param_groups[0]["lr"])
            return outcome

    Noting(settings("train.epochs=3", "train.learning_rate=2", "train.final_rate_share=0.5"), tmp_path / "run").run()
    counts = [len(found) for found in rates]
    assert counts[0] < counts[1] == counts[2] == len(TEXTS)
    for epoch, found in enumerate(rates):
        progress = [(epoch + place / len(found)) / 3 for place in range(len(found))]
        assert found == pytest.approx([1 + 0.5 * (1 + math.cos(math.pi * share)) for share in progress])
    logs = [facts["learning_rate"] for facts in logged(tmp_path / "run", "epoch")]
    assert logs == [found[-1] for found in rates]


class Watched(Trainer):
    """Remembers the weights after each step."""

    def step(self, batch: Batch) -> Outcome:
        if not hasattr(self, "seen"):
            self.seen = [snapshot(self.learner.recognizer)]
        outcome = super().step(batch)
        self.seen.append(snapshot(self.learner.recognizer))
        return outcome


def test_average_of_the_weights(tmp_path: Path, settings: MakeConfig) -> None:
    trainer = Watched(settings("train.ema_decay=0.2"), tmp_path / "run")
    trainer.run()
    assert len(trainer.seen) > 6
    name = "encoder.output.weight"
    mean = trainer.seen[0][name].double()
    for number, weights in enumerate(trainer.seen[1:], start=1):
        decay = min(0.2, number / (10 + number))  # 0.2 from step 3 on
        mean = decay * mean + (1 - decay) * weights[name].double()
    torch.testing.assert_close(trainer.learner.average.state_dict()[name].double(), mean, rtol=0, atol=1e-6)


def test_average_off_is_the_weights_themselves(tmp_path: Path, settings: MakeConfig) -> None:
    trainer = Trainer(settings("train.ema_decay=0"), tmp_path / "run")
    trainer.run()
    assert same(trainer.learner.average.state_dict(), trainer.learner.recognizer.state_dict())


@pytest.mark.parametrize("normalization", ["global", "map"])
def test_the_training_sets_moments_reach_every_copy_of_the_weights(
    normalization: str, tmp_path: Path, settings: MakeConfig
) -> None:
    trainer = Trainer(settings(f"features.normalization={normalization}"), tmp_path / "run")
    trainer.run()
    mean = trainer.learner.recognizer.normalizer.mean
    assert (mean < -5).all()  # natural-log energies of quiet tones: far from the zeros it started with
    state = load_file(state_files(tmp_path / "run")[0])
    weights = load_file(tmp_path / "run" / WEIGHTS_FILE)
    for kept in (state["model.normalizer.mean"], state["average.normalizer.mean"], weights["normalizer.mean"]):
        assert torch.equal(kept, mean)
    assert torch.equal(checkpoint.load(tmp_path / "run").normalizer.mean, mean)


def test_statistics_are_of_the_beginning_of_a_large_corpus(
    tmp_path: Path, settings: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = settings("features.normalization=global", "train.batch_s=0.1")
    whole, again = (Trainer(wanted, tmp_path / name).learner.recognizer.normalizer.mean for name in ("all", "again"))
    monkeypatch.setattr("asr.training.outset._FITTED_S", 0.1)
    some = Trainer(wanted, tmp_path / "some").learner.recognizer.normalizer.mean
    assert torch.equal(whole, again)
    assert not torch.equal(whole, some)
    assert some.isfinite().all()
    trainer = Trainer(wanted, tmp_path / "shuffled")
    monkeypatch.setattr("asr.batch.BatchOrder.batches", lambda order: pytest.fail(f"epoch {order.epoch}"))
    with pytest.raises(pytest.fail.Exception, match="epoch 1"):  # the first goes from short to long
        fit_normalizer(trainer.outset, trainer.world)


# --- choosing the best ------------------------------------------------------------------------------------------------


def test_best_weights_are_kept_not_the_last(
    tmp_path: Path, settings: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [Result("a", None, "ab cd", "ab", 1.0), Result("b", None, "", "", 1.0)]
    wrong = iter([[12, 0], [10, 1], [9, 1], [9, 1], [9, 1], [11, 0]])  # of 20 texts drawn for each utterance
    losses = iter([1.0, 2.0, 3.0, 2.5, 2.5, 0.5])

    def evaluated(*_: object, drawn: dict[str, list[str]]) -> tuple[list[Result], list[float]]:
        of_first, of_second = next(wrong)
        drawn["a"] = ["ab"] * of_first + ["ab cd"] * (20 - of_first)
        drawn["b"] = ["c"] * of_second + [""] * (20 - of_second)
        return results, [next(losses)]

    monkeypatch.setattr(train.Evaluation, "run", evaluated)
    averages = []

    class Remembering(Trainer):
        def step(self, batch: Batch) -> Outcome:
            outcome = super().step(batch)
            averages.append((self.position.epoch, snapshot(self.learner.average)))
            return outcome

    Remembering(settings("train.epochs=6"), tmp_path / "run").run()
    epochs = logged(tmp_path / "run", "epoch")
    assert [facts["dev_wer_percent"] for facts in epochs] == [50] * 6
    assert [facts["dev_expected_wer_percent"] for facts in epochs] == pytest.approx([30, 27.5, 25, 25, 25, 27.5])
    # The lower loss decides between equal expectations; of two equal ones the first stays.
    assert [facts["best"] for facts in epochs] == [True, True, True, True, False, False]
    weights, facts = checkpoint.load_tensors(tmp_path / "run" / WEIGHTS_FILE)
    assert (facts["epoch"], facts["step"]) == (4, epochs[3]["step"])
    assert facts["versions"] == checkpoint.versions()
    assert same(weights, [average for epoch, average in averages if epoch == 3][-1])
    assert not same(weights, averages[-1][1])


def test_of_epochs_that_get_all_but_all_words_wrong_the_lowest_loss_is_best(
    tmp_path: Path, settings: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_texts = iter([["ab"] + [""] * 19, ["x y z"] * 20, ["x y z"] * 20])  # three errors in two words, at the end
    losses = iter([3.0, 2.0, 2.5])

    def evaluated(*_: object, drawn: dict[str, list[str]]) -> tuple[list[Result], list[float]]:
        drawn["a"] = next(drawn_texts)
        return [Result("a", None, "ab cd", "", 1.0)], [next(losses)]

    monkeypatch.setattr(train.Evaluation, "run", evaluated)
    Trainer(settings("train.epochs=3"), tmp_path / "run").run()
    epochs = logged(tmp_path / "run", "epoch")
    assert [facts["dev_expected_wer_percent"] for facts in epochs] == pytest.approx([97.5, 150, 150])
    assert [facts["best"] for facts in epochs] == [True, True, False]


def test_dev_is_scored_every_few_epochs_and_at_the_end(tmp_path: Path, settings: MakeConfig) -> None:
    Trainer(settings("train.epochs=5", "train.dev_every=2"), tmp_path / "run").run()
    epochs = logged(tmp_path / "run", "epoch")
    assert [facts["epoch"] for facts in epochs if "dev_wer_percent" in facts] == [2, 4, 5]


def test_without_dev_the_last_epoch_is_kept(
    tmp_path: Path, settings: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    trainer = Trainer(settings("data.dev=none"), out)
    trainer.run()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("training on 8 utterances, 0.00 h; no dev, the last epoch is kept; 6 tokens; ")
    assert "dev" not in lines[-1]
    weights, facts = checkpoint.load_tensors(out / WEIGHTS_FILE)
    assert (facts["epoch"], facts["step"]) == (2, trainer.position.step)
    assert same(weights, snapshot(trainer.learner.average))
    # Dev moves no number of training: with it the last epoch's average is the same.
    other = Trainer(settings(), tmp_path / "other")
    other.run()
    assert same(snapshot(other.learner.average), snapshot(trainer.learner.average))


def test_weights_that_are_not_finite_are_no_result(tmp_path: Path, settings: MakeConfig) -> None:
    """One step may ruin them; those that follow are skipped, perhaps too few to be too many in a row."""
    for dev in ((), ("data.dev=none",)):
        out = tmp_path / f"run-{len(dev)}"
        with pytest.raises(TrainingError, match="the weights are not finite after epoch 1; a lower train"):
            Trainer(settings("train.learning_rate=1e300", "train.max_bad_steps=100", *dev), out).run()
        assert not (out / WEIGHTS_FILE).exists()


# --- steps that must not count ----------------------------------------------------------------------------------------


def nan_for_labels(count: int) -> Callable[..., Tensor]:
    """`ctc_losses` that fails for transcripts of `count` labels."""

    def losses(log_probs: Tensor, lens: Tensor, labels: Tensor, label_lens: Tensor) -> Tensor:
        return torch.where(label_lens == count, math.nan, ctc_losses(log_probs, lens, labels, label_lens))

    return losses


def test_step_without_a_finite_loss_changes_nothing(
    tmp_path: Path, settings: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "ctc_losses", nan_for_labels(8))  # "abba cab", utterance train-4
    changed = {}

    class Checking(Trainer):
        def step(self, batch: Batch) -> Outcome:
            before = snapshot(self.learner.recognizer), snapshot(self.learner.average)
            outcome = super().step(batch)
            after = snapshot(self.learner.recognizer), snapshot(self.learner.average)
            changed[self.position.step] = not (same(after[0], before[0]) and same(after[1], before[1]))
            return outcome

    trainer = Checking(settings(), tmp_path / "run")
    trainer.run()
    skipped = logged(tmp_path / "run", "skipped")
    assert len(skipped) == 2  # once in each epoch
    assert all(facts["ids"] == ["train-4"] and facts["loss"] == "nan" for facts in skipped)
    assert [step for step, moved in changed.items() if not moved] == [facts["step"] for facts in skipped]
    assert [facts["skipped_steps"] for facts in logged(tmp_path / "run", "epoch")] == [1, 2]
    assert trainer.position.skipped == 2
    assert all(math.isfinite(facts["train_loss"]) for facts in logged(tmp_path / "run", "epoch"))


def test_too_many_bad_steps_in_a_row_stop_the_run(
    tmp_path: Path, settings: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "ctc_losses", lambda log_probs, *_: log_probs.sum(dim=(1, 2)) * math.inf)
    with pytest.raises(TrainingError, match=r"2 steps in a row had a non-finite loss .* utterances train-"):
        Trainer(settings("train.max_bad_steps=2"), tmp_path / "run").run()
    assert [facts["step"] for facts in logged(tmp_path / "run", "skipped")] == [1, 2]


def test_a_good_step_between_bad_ones_lets_the_run_go_on(
    tmp_path: Path, settings: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(1000))

    def every_second_fails(log_probs: Tensor, *others: Tensor) -> Tensor:
        return ctc_losses(log_probs, *others) * (math.nan if next(calls) % 2 else 1)

    monkeypatch.setattr(objective, "ctc_losses", every_second_fails)
    trainer = Trainer(settings("train.max_bad_steps=2"), tmp_path / "run")
    trainer.run()
    assert trainer.position.skipped == trainer.position.step // 2


# --- starting ---------------------------------------------------------------------------------------------------------


def test_starting_needs_manifests_and_a_free_folder(tmp_path: Path, corpus: Path, settings: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"data\.train is not set"):
        Trainer(Config(), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"data\.dev is not set"):
        Trainer(replace(Config(), data=replace(Config().data, train=str(corpus))), tmp_path / "run")
    Trainer(settings("train.epochs=1"), tmp_path / "run").run()
    with pytest.raises(CheckpointError, match="run: already holds a run; --resume goes on with it"):
        Trainer(settings("train.epochs=1"), tmp_path / "run")


def test_cuda_is_asked_for_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    for name in ("cuda", "cuda:1"):
        with pytest.raises(ConfigError, match="no CUDA device"):
            pick_device(name)
    for name in ("gpu", "cuda:", "cuda:x"):
        with pytest.raises(ConfigError, match=f"device must be auto, cpu, cuda, or .*found '{name}'"):
            pick_device(name)
    assert pick_device(torch.device("cpu")) == pick_device("cpu") == torch.device("cpu")


# --- records ----------------------------------------------------------------------------------------------------------


def test_curves_are_written_for_tensorboard(tmp_path: Path, settings: MakeConfig) -> None:
    trainer = Trainer(settings(), tmp_path / "run")
    trainer.run()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, trainer.position.step + 1))
    wers = [event.value for event in events.Scalars("epoch/dev_wer_percent")]
    assert wers == pytest.approx([facts["dev_wer_percent"] for facts in logged(tmp_path / "run", "epoch")])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_with_the_name_of_the_log(tmp_path: Path) -> None:
    with RunLog(tmp_path, epochs=1, epoch_batches=1, position=Position()) as log:
        (tmp_path / METRICS_FILE).symlink_to("/dev/full")
        with pytest.raises(OSError, match="No space left on device") as raised:
            log.skipped(1, math.nan, 1.0, ["a"])
    assert raised.value.filename == str(tmp_path / METRICS_FILE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_with_the_name_of_the_curves(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as raised:
        step_on_a_full_disk(tmp_path)
    assert Path(raised.value.filename).parent == tmp_path / "tensorboard"


def step_on_a_full_disk(folder: Path) -> None:
    log = RunLog(folder, epochs=1, epoch_batches=1, position=Position())
    with log, Path("/dev/full").open("wb") as full:
        os.dup2(full.fileno(), log.curves.file.fileno())
        log.step(1, {"loss": 1.0})


def test_plain_lines_where_there_is_no_terminal(
    tmp_path: Path, settings: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    Trainer(settings(), tmp_path / "run").run()
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert printed.out == ""
    assert lines[0].startswith("training on 8 utterances, 0.00 h; dev 8 utterances; 6 tokens; ")
    assert lines[1].startswith("8 of 8 dev utterances are of audio that is trained on too ")
    assert [line.split("  ")[0] for line in lines[2:]] == ["epoch 1/2", "epoch 2/2"]
