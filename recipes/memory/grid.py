"""A grid of trials, run in two processes and stored as each ends, so that an interrupted run can go on."""

import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from asr.errors import ConfigError
from asr.files import write_text_atomic
from asr.overrides import filled
from asr.process.lock import locked
from asr.process.signals import serve
from asr.stages import say
from recipes.memory.tasks import TASKS
from recipes.memory.trial import CELLS, LARGEST_LAG, SMALLEST_LAG, Trial, limit_of, run_trial

Key = tuple[str, str, int, int]  # task, cell, lag, seed


@dataclass(frozen=True)
class Grid:
    """Every combination of these is a trial of its own; `key=value` arguments change them."""

    tasks: tuple[str, ...] = tuple(TASKS)
    cells: tuple[str, ...] = CELLS
    lags: tuple[int, ...] = (10, 30, 100, 1000)
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    updates: int = 0  # at most in a trial; 0: depends on its lag, see `limit_of`
    processes: int = 2  # of one thread each

    def __post_init__(self) -> None:
        for key, known in (("tasks", TASKS), ("cells", CELLS)):
            for name in getattr(self, key):
                _require(name in known, f"{key} must be of {', '.join(known)}", name)
        for key in ("tasks", "cells", "lags", "seeds"):
            values = getattr(self, key)
            _require(0 < len(values) == len(set(values)), f"{key} must be one or more, each once", list(values))
        for lag in self.lags:
            _require(SMALLEST_LAG <= lag <= LARGEST_LAG, f"lags must be in {SMALLEST_LAG}..{LARGEST_LAG}", lag)
        for seed in self.seeds:
            _require(0 <= seed < 2**63, "seeds must be in 0..2^63-1", seed)
        _require(self.updates >= 0, "updates must be at least 0", self.updates)
        _require(self.processes >= 1, "processes must be at least 1", self.processes)

    def limit(self, lag: int) -> int:
        """How many updates a trial of this lag has at most."""
        return self.updates or limit_of(lag)

    def combinations(self) -> list[Key]:
        """Every trial, short lags first."""
        return [
            (task, cell, lag, seed)
            for lag in sorted(self.lags)
            for seed in self.seeds
            for task in self.tasks
            for cell in self.cells
        ]


def _require(condition: bool, wanted: str, found: object) -> None:
    if not condition:
        raise ConfigError(f"{wanted}, found {found!r}")


def read_grid(overrides: Sequence[str]) -> Grid:
    """The default grid with `key=value` on top, such as `lags=[10,100]`.

    Raises:
        ConfigError: a key is unknown, or a value has the wrong type or is out of range.
    """
    return filled(Grid, None, overrides)


def run_grid(grid: Grid, file: Path) -> list[Trial]:
    """The grid's trials, in its order; those that `file` has are not run again.

    Raises:
        ConfigError: `file` has trials of another number of updates, or a line that is no trial, or another process runs
            trials into it.
    """
    with locked(file.parent) as alone:
        if not alone:
            raise ConfigError(f"{file.parent}: another process is running trials there")
        return _run_missing(grid, file)


def _run_missing(grid: Grid, file: Path) -> list[Trial]:
    done = read_trials(file)
    for trial in done.values():
        wanted = grid.limit(trial.lag)
        if trial.limit != wanted:
            raise ConfigError(
                f"{file}: has trials of {trial.limit} updates, not {wanted}; --out chooses another folder"
            )
    keys = grid.combinations()
    missing = [key for key in keys if key not in done]
    say(f"long lags: {len(keys) - len(missing)} of {len(keys)} trials are in {file}")
    for trial in _run(missing, grid):
        done[key_of(trial)] = trial
        write_text_atomic(file, "".join(json.dumps(asdict(trial)) + "\n" for trial in done.values()))
        outcome = f"success after {trial.updates}" if trial.success else f"loss {trial.loss:.2f} of the baseline's"
        say(f"{trial.task} {trial.cell} lag {trial.lag} seed {trial.seed}: {outcome}, {trial.cpu_s:.0f} s")
    return [done[key] for key in keys]


def _run(keys: Sequence[Key], grid: Grid) -> Iterable[Trial]:
    os.environ["OMP_NUM_THREADS"] = "1"  # read by each process when it starts
    pool = ProcessPoolExecutor(grid.processes, get_context("spawn"), initializer=serve)
    try:
        for future in as_completed([pool.submit(run_trial, *key, grid.limit(key[2])) for key in keys]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def key_of(trial: Trial) -> Key:
    """Which of the trials this is."""
    return trial.task, trial.cell, trial.lag, trial.seed


def read_trials(file: Path) -> dict[Key, Trial]:
    """The trials in a file of JSON lines; none where there is no file.

    Raises:
        ConfigError: a line is no trial.
    """
    trials: dict[Key, Trial] = {}
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            values: Any = json.loads(line)
            trial = Trial(**values)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{file}:{number}: not a trial of this recipe: {error}") from error
        trials[key_of(trial)] = trial
    return trials
