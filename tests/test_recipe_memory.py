"""The long-lag recipe: its tasks are what it says, its networks are the recogniser's, and its runs go on."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from asr import config
from asr.config import EncoderConfig
from asr.encoder import RecurrentLayer
from asr.errors import ConfigError, CorpusError
from asr.process.lock import locked
from asr.wer import Counts
from recipes.memory import grid, run, scan, speech, summary, trial
from recipes.memory.tasks import DISTRACTORS, RELEVANT, SYMBOLS, TASKS, TOLERANCE
from recipes.memory.trial import Network, Trial, run_trial, width_of
from tones import tiny, write_corpus

LAGS = (10, 37, 100)


def drawn(name: str, lag: int, batch: int = 200) -> tuple[Tensor, Tensor]:
    return TASKS[name].draw(lag, batch, torch.Generator().manual_seed(lag))


@pytest.mark.parametrize("lag", LAGS)
@pytest.mark.parametrize(
    ("name", "answer"), [("adding", lambda a, b: 0.5 + (a + b) / 4), ("multiplication", lambda a, b: a * b)]
)
def test_the_answer_is_of_the_two_marked_numbers(name: str, answer: Callable[..., float], lag: int) -> None:
    inputs, targets = drawn(name, lag)
    assert lag <= len(inputs) <= 1.1 * lag
    for row in range(inputs.shape[1]):
        (first,), (second,) = np.split(np.flatnonzero(inputs[:, row, 1]), 2)
        assert first < max(1, lag // 10) <= second < lag // 2
        expected = answer(float(inputs[first, row, 0]), float(inputs[second, row, 0]))
        assert float(targets[row]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("lag", LAGS)
def test_the_order_is_that_of_two_symbols_far_from_each_other_and_from_the_end(lag: int) -> None:
    inputs, targets = drawn("order", lag)
    symbols = inputs.argmax(2)
    for row in range(inputs.shape[1]):
        relevant = [t for t, symbol in enumerate(symbols[:, row]) if DISTRACTORS <= symbol < DISTRACTORS + RELEVANT]
        first, second = relevant
        tenth = lag // 10
        assert tenth <= first < 2 * tenth
        assert lag // 2 <= second < lag // 2 + tenth
        kinds = [int(symbols[t, row]) - DISTRACTORS for t in relevant]
        assert int(targets[row]) == 2 * kinds[0] + kinds[1]


@pytest.mark.parametrize("lag", LAGS)
def test_what_was_shown_is_called_for_after_the_lag(lag: int) -> None:
    inputs, targets = drawn("copying", lag)
    symbols = inputs.argmax(2)
    assert len(inputs) == 1 + lag + 1
    assert torch.equal(symbols[0], targets)
    assert targets.unique().tolist() == list(range(SYMBOLS))
    assert (symbols[lag] == SYMBOLS + 1).all()
    assert (symbols[1:lag] == SYMBOLS).all()
    assert (symbols[lag + 1] == SYMBOLS).all()


@pytest.mark.parametrize("name", TASKS)
def test_baseline_and_chance_are_those_of_the_best_answer_without_memory(name: str) -> None:
    task = TASKS[name]
    _, targets = drawn(name, 10, 200_000)
    if targets.is_floating_point():
        mean = targets.mean()
        constant = torch.full((len(targets), 1), float(mean))
        near = max(float(((targets - c).abs() < TOLERANCE).float().mean()) for c in np.linspace(0, 1, 101))
        assert near == pytest.approx(task.chance, abs=0.004)
    else:
        constant = torch.zeros(len(targets), task.outputs)
        assert float(task.judge(constant, targets)[1].float().mean()) == pytest.approx(task.chance, abs=0.004)
    assert float(task.judge(constant, targets)[0]) == pytest.approx(task.baseline, rel=0.01)


@pytest.mark.parametrize("name", TASKS)
def test_right_answers_are_right(name: str) -> None:
    task = TASKS[name]
    _, targets = drawn(name, 10)
    if targets.is_floating_point():
        answers = targets[:, None] + 0.99 * TOLERANCE
        answers[0] += 0.02 * TOLERANCE
    else:
        answers = 30 * torch.nn.functional.one_hot(targets, task.outputs).float()
        answers[0] = -answers[0]
    _, right = task.judge(answers, targets)
    assert not right[0]
    assert right[1:].all()


@pytest.mark.parametrize("cell", trial.CELLS)
def test_long_sequences_run_as_in_the_encoder(cell: str) -> None:
    """Outputs and every gradient are those of the layer itself."""
    torch.manual_seed(1)
    layer = RecurrentLayer(EncoderConfig(cell=cell, width=7, bidirectional=False), 3)  # type: ignore[arg-type]
    inputs, weight = 2 * torch.randn(23, 5, 3), torch.randn(23, 5, 7)
    found = []
    for computed in (lambda x: layer(x, torch.full((5,), 23)), lambda x: scan.run(layer, x)):
        layer.zero_grad()
        own = inputs.clone().requires_grad_()
        outputs = computed(own)
        (outputs * weight).sum().backward()
        found.append([outputs.detach(), own.grad, *(parameter.grad for parameter in layer.parameters())])
    for expected, actual in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_cells_are_of_equal_size(name: str) -> None:
    task = TASKS[name]
    counts = {}
    for cell in trial.CELLS:
        network = Network(cell, width_of(cell, task), task, 100)
        counts[cell] = sum(parameter.numel() for parameter in network.parameters())
        assert counts[cell] == trial.parameters_of(cell, width_of(cell, task), task)
    assert max(counts.values()) < 1.05 * min(counts.values())


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_units_keep_for_one_to_lag_steps_at_first(cell: str) -> None:
    torch.manual_seed(1)
    layer = RecurrentLayer(EncoderConfig(cell=cell, width=400, bidirectional=False), 2)  # type: ignore[arg-type]
    trial.initialise_memory(layer, 1000)
    bias = (layer.cell.bias_ih_l0 + layer.cell.bias_hh_l0).detach()
    kept = torch.exp(bias[400:800])
    assert 1 <= kept.min() < 20
    assert 980 < kept.max() <= 1000
    assert float(kept.mean()) == pytest.approx(500, rel=0.1)
    if cell == "lstm":
        torch.testing.assert_close(bias[:400], -bias[400:800])


def test_a_trial_succeeds_ends_early_and_repeats_itself() -> None:
    first = run_trial("copying", "gru", 10, seed=3, limit=400)
    assert first.success
    assert trial.WINDOW <= first.updates < 400
    assert first.loss < trial.SUCCESS
    assert first.right > 0.9
    again = [replace(run_trial("copying", "gru", 10, seed=3, limit=8), cpu_s=0) for _ in range(2)]
    assert again[0] == again[1]


def test_a_trial_that_learns_nothing_is_given_up_at_half_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trial.LEARNING_RATES, "rnn", 1e-9)
    found = run_trial("copying", "rnn", 10, seed=1, limit=20)
    assert not found.success
    assert found.updates == 10
    assert found.loss > trial.HOPELESS


def test_every_cell_has_the_same_updates_more_where_they_cost_little() -> None:
    assert [trial.limit_of(lag) for lag in (10, 30, 100, 1000)] == [3000, 3000, 2000, 1000]
    assert grid.Grid(updates=7).limit(1000) == 7


def some(task: str, cell: str, lag: int, seed: int, limit: int) -> Trial:
    """A trial without training: an RNN succeeds up to 10 steps, the others but for one seed."""
    success = lag <= 10 if cell == "rnn" else seed != 2
    return Trial(
        task=task,
        cell=cell,
        lag=lag,
        seed=seed,
        limit=limit,
        width=5,
        parameters=100,
        success=success,
        updates=100 + lag if success else limit,
        loss=0.05 if success else 0.9,
        right=0.5,
        skipped=0,
        cpu_s=1.0,
    )


def all_of(settings: grid.Grid) -> list[Trial]:
    return [some(*key, settings.limit(key[2])) for key in settings.combinations()]


def test_an_interrupted_grid_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[grid.Key] = []

    def until_killed(keys: list[grid.Key], settings: grid.Grid) -> object:
        for number, key in enumerate(keys):
            if len(ran) == 3 and number:
                raise KeyboardInterrupt
            ran.append(key)
            yield some(*key, settings.limit(key[2]))

    monkeypatch.setattr(grid, "_run", until_killed)
    settings = grid.Grid(tasks=("adding",), lags=(10, 20), seeds=(1,), updates=50)
    file = tmp_path / "trials.jsonl"
    with pytest.raises(KeyboardInterrupt):
        grid.run_grid(settings, file)
    assert len(grid.read_trials(file)) == 3
    assert grid.run_grid(settings, file) == all_of(settings)
    assert ran == settings.combinations()
    with pytest.raises(ConfigError, match=r"has trials of 50 updates, not 60; --out chooses another"):
        grid.run_grid(replace(settings, updates=60), file)
    with locked(tmp_path), pytest.raises(ConfigError, match="another process is running trials there"):
        grid.run_grid(settings, file)
    file.write_text('{"task": "adding"}\n')
    with pytest.raises(ConfigError, match=r"trials\.jsonl:1: not a trial of this recipe"):
        grid.run_grid(settings, file)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lag=[10]", "unknown key 'lag'; did you mean 'lags'"),
        ("lags=[5]", r"lags must be in 10\.\.100000, found 5"),
        ("lags=[30", r"override 'lags=\[30': not valid YAML"),
        ("lags=[30.5]", r"override 'lags=\[30\.5\]': lags: an element of the list could not be converted to Integer"),
        ("lags=30", r"override 'lags=30': lags: wanted a list, as \[1, 2\]"),
        ("lags=[]", r"lags must be one or more, each once, found \[\]"),
        ("tasks=[adding,adding]", "tasks must be one or more, each once"),
        ("cells=[transformer]", "cells must be of rnn, gru, lstm, found 'transformer'"),
        ("seeds=[-1]", r"seeds must be in 0\.\.2\^63-1, found -1"),
        ("seeds=[1,99999999999999999999]", r"seeds must be in 0\.\.2\^63-1, found 99999999999999999999"),
        ("updates=many", "updates: Value 'many' of type 'str' could not be converted to Integer"),
    ],
)
def test_wrong_arguments_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        grid.read_grid([override])
    assert "\n" not in str(caught.value)


def test_arguments_change_the_grid() -> None:
    settings = grid.read_grid(["lags=[100,10]", "seeds=[7]", "tasks=[order]"])
    assert settings.combinations() == [("order", cell, lag, 7) for lag in (10, 100) for cell in trial.CELLS]


def test_wilson_intervals() -> None:
    """Values of Newcombe (1998), table I: 81 / 263 and 0 / 20."""
    assert summary.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert summary.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert summary.wilson(20, 20)[1] == 1.0


def test_the_table_says_how_many_succeeded_when_and_how_far_the_others_came() -> None:
    lines = summary.table(all_of(grid.Grid(tasks=("adding",), lags=(10, 100), updates=500))).splitlines()
    assert lines[0] == "| task | lag | rnn | gru | lstm |"
    assert (
        lines[2]
        == "| adding | 10 | "
        + " | ".join(["5 / 5 (57-100 %), 110 [110-110]", *["4 / 5 (38-96 %), 110 [110-110]; loss 0.90"] * 2])
        + " |"
    )
    assert lines[3].startswith("| adding | 100 | 0 / 5 (0-43 %); loss 0.90 | 4 / 5 (38-96 %), 200")


def test_totals_are_over_tasks_and_seeds() -> None:
    lines = summary.totals(all_of(grid.Grid(lags=(10, 100)))).splitlines()
    assert lines[2].startswith("| 10 | 20 / 20 (84-100 %) | 16 / 20 (")
    assert lines[3].startswith("| 100 | 0 / 20 (0-16 %) | 16 / 20 (")


def test_the_picture_is_written_in_two_formats(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    summary.draw(all_of(grid.Grid(tasks=("adding",), lags=(10, 100))), tmp_path)
    assert "</svg>" in (tmp_path / "long_lags.svg").read_text()
    assert (tmp_path / "long_lags.png").read_bytes().startswith(b"\x89PNG")


def test_what_stops_the_picture_is_told_before_the_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "_run", lambda *_: pytest.fail("a training began"))
    (tmp_path / "file").touch()
    monkeypatch.setattr("sys.argv", ["run.py", "--out", str(tmp_path / "file"), "lags=[30]"])
    with pytest.raises(ConfigError, match="file: is a file, wanted a folder"):
        run.run()
    monkeypatch.setattr("sys.argv", ["run.py", "--out", str(tmp_path / "new"), "lags=[30]"])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"the picture is drawn with matplotlib.*, which is not installed"):
        run.run()


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared corpus of tones."""
    folder = tmp_path_factory.mktemp("spoken") / "data"
    for split in ("train", "dev", "test"):
        write_corpus(folder, ["ab", "ba", "abba"], name=split)
    return folder


def test_kinds_of_speech_models_are_of_equal_size(spoken: Path) -> None:
    settings = tiny(spoken / "train.jsonl", spoken / "dev.jsonl", "encoder.width=64", "encoder.layers=2")
    kinds = speech.kinds_of(settings, spoken)
    assert [speech.name_of(kind) for kind in kinds] == ["rnn-1", "rnn-2", "gru-1", "gru-2", "lstm-1", "lstm-2"]
    assert kinds[-1].width == 64
    parameters = [kind.parameters for kind in kinds]
    assert max(parameters) < 1.1 * min(parameters)


def test_every_kind_is_trained_and_scored_for_each_seed(spoken: Path, tmp_path: Path) -> None:
    settings = tiny(spoken / "train.jsonl", spoken / "dev.jsonl", "train.epochs=1")
    kind = speech.Setting("gru", 1, 12, parameters=0)
    counts = speech.train(kind, settings, argparse.Namespace(data=spoken, out=tmp_path, seeds=2))
    assert [found.reference for found in counts] == [3, 3]
    made = [config.load(tmp_path / f"gru-1-seed{seed}" / "config.yaml") for seed in (1, 2)]
    encoders = [own.encoder for own in made]
    assert [(found.cell, found.bidirectional, found.width) for found in encoders] == [("gru", False, 12)] * 2
    assert [own.train.seed for own in made] == [1, 2]


def test_other_data_and_a_part_of_the_corpus_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["speech.py", "--data", str(tmp_path), "--out", str(tmp_path / "new")])
    for content, message in (
        ('{"corpus": "an4", "partial": true}', "holds only a part of the corpus"),
        ('{"corpus": "yesno"}', "holds the corpus yesno, not an4"),
    ):
        (tmp_path / "summary.json").write_text(content)
        with pytest.raises(CorpusError, match=message):
            speech.run()


def test_the_table_of_speech_has_mean_spread_and_counts() -> None:
    counts = (Counts(hits=90, substitutions=10), Counts(hits=80, substitutions=20, insertions=2))
    text = speech.table([speech.Setting("lstm", 2, 96, 612_345, counts)])
    assert text.splitlines()[-1] == ("| lstm | 2 | 96 | 612,345 | 16.00 % | 10.00-22.00 %, sd 8.49 | 10, 22 of 100 |")
