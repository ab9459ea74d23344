"""Settings against each other: each is trained with several seeds, and compared with the first on development speakers.

    python benchmarks/ablate.py benchmarks/ablations/an4.yaml --conf conf/an4.yaml --data exp/an4/data \\
        --out exp/an4/ablate [--seeds 1,2,3] [--folds 5] [--table] [--json FILE] [key=value ...]

The file is a YAML list; the first entry is what the others are compared with:

    - name: baseline
    - name: gru
      overrides: [encoder.cell=gru]

Each run is an ordinary training in a folder of its own, OUT/<name>/seed-<seed>. Runs that are complete are skipped and
one that was interrupted goes on, so start the command again after a stop; new entries and seeds may be added. Settings
take turns, seed by seed, so that what is complete can always be compared. `--table` trains nothing and shows what is
complete. The `key=value` apply to all settings.

With `--folds K` the speakers of train and dev are divided into K groups of about equal length; each group is the dev
set of a model trained on the others, in OUT/<name>/seed-<seed>/fold-<k>-of-<K>. So every speaker is scored, and K times
as much is trained. Nothing here reads the test set.

WER is that of greedy decoding in the epoch chosen on dev, so it is a little too good, for all settings alike. Mean,
standard deviation and range are over seeds. The difference to the first setting has the interval and the p-value of
`asr.wer.compare` over speakers, all seeds of a speaker together: they say what other speakers might give; what other
seeds might give is shown by the spread. Time is the wall-clock time of training, relative to the first setting in the
same seeds and folds: on a busy machine it is a rough figure.
"""

import argparse
import contextlib
import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from timing import report

from asr import config, stages
from asr.cli import parse, run_command
from asr.errors import ConfigError
from asr.files import digest_of, is_url, write_text_atomic
from asr.hypotheses import HYPOTHESES_FILE, Result, read_hypotheses
from asr.manifest import Utterance, read_manifest, write_manifest
from asr.wer import Comparison, Counts, compare, score

DEV = "dev"  # folder of results in that of a run
DATA_FILE = "data.json"  # in the folder of a complete run: digests of its manifests
_FIXED = {"train.seed": "--seeds", "data.dev": "--data"}  # keys that flags decide


@dataclass(frozen=True)
class Setting:
    """A name, also that of its folder, and `key=value` on top of the configuration."""

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One training."""

    setting: str
    seed: int
    folder: Path
    settings: config.Config


@dataclass(frozen=True)
class Row:
    """What the complete seeds of a setting gave.

    Attributes:
        percents: WER by seed.
        counts: word counts of all seeds together.
        time_ratio: training time relative to the first setting, over the seeds that both have; None without any.
        comparison: with the first setting, over the same seeds; None for the first setting itself.
    """

    setting: str
    percents: dict[int, float]
    counts: Counts
    time_ratio: float | None = None
    comparison: Comparison | None = None


def read_settings(path: Path) -> list[Setting]:
    """The entries of a settings file; ConfigError names the entry that is not one."""
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read settings: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path}: wanted a list of settings, found {type(entries).__name__}")
    found: dict[str, Setting] = {}
    for number, entry in enumerate(entries, start=1):
        where = f"{path}: setting {number}"
        if not isinstance(entry, dict) or "name" not in entry or entry.keys() - {"name", "overrides"}:
            raise ConfigError(f"{where}: wanted a name and overrides: [key=value, ...], found {entry!r}")
        name, overrides = str(entry["name"]), entry.get("overrides", [])
        if name in found or name != Path(name).name or name == "..":
            raise ConfigError(f"{where}: wanted a name of its own that a folder can have, found {name!r}")
        if not isinstance(overrides, list) or not all(isinstance(item, str) for item in overrides):
            raise ConfigError(f"{where} ({name}): wanted overrides as [key=value, ...], found {overrides!r}")
        for item in overrides:
            key = item.partition("=")[0]
            if key in _FIXED:
                raise ConfigError(f"{where} ({name}): {key} cannot be in a setting; {_FIXED[key]} decides it")
        found[name] = Setting(name, tuple(overrides))
    return list(found.values())


def divide(utterances: Sequence[Utterance], folds: int) -> list[list[Utterance]]:
    """Utterances in groups of whole speakers and about equal length: the longest speaker first, to the shortest group.

    Raises:
        ConfigError: a speaker is unknown, or there are fewer speakers than groups.
    """
    seconds: dict[str, float] = {}
    for utterance in utterances:
        if utterance.speaker is None:
            raise ConfigError(f"--folds {folds}: utterance {utterance.id} has no speaker to divide by")
        seconds[utterance.speaker] = seconds.get(utterance.speaker, 0.0) + utterance.duration
    if not 2 <= folds <= len(seconds):
        raise ConfigError(f"--folds must be 2..{len(seconds)} (there are {len(seconds)} speakers), found {folds}")
    total = [0.0] * folds
    fold_of: dict[str | None, int] = {}
    for speaker in sorted(seconds, key=lambda name: (-seconds[name], name)):
        fold_of[speaker] = total.index(min(total))
        total[fold_of[speaker]] += seconds[speaker]
    return [[item for item in utterances if fold_of[item.speaker] == fold] for fold in range(folds)]


def write_folds(data: Path, out: Path, folds: int) -> list[Path]:
    """Folders with train.jsonl and dev.jsonl for each fold of the train and dev manifests in `data`."""
    groups = divide([item for split in ("train", "dev") for item in read_manifest(data / f"{split}.jsonl")], folds)
    folders = []
    for number, held in enumerate(groups):
        folder = out / f"folds-{folds}" / str(number + 1)
        folder.mkdir(parents=True, exist_ok=True)
        rest = [item for other, group in enumerate(groups) if other != number for item in group]
        write_manifest(folder / "train.jsonl", rest)
        write_manifest(folder / "dev.jsonl", held)
        folders.append(folder)
    return folders


def plan(
    settings: Sequence[Setting],
    conf: Path,
    common: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    data: Sequence[Path],
) -> list[Run]:
    """All runs in the order in which they are made: settings take turns inside a seed and a fold.

    Args:
        settings: see `read_settings`.
        conf: configuration file.
        common: `key=value` for every setting.
        seeds: values of train.seed.
        out: where the runs go.
        data: folders with train.jsonl and dev.jsonl; several are folds.

    Raises:
        ConfigError: a key or value is wrong, or data.train is set where there are folds; it names the setting.
    """
    runs = []
    for seed in seeds:
        for fold, folder in enumerate(data, start=1):
            for setting in settings:
                try:
                    made = config.load(conf, [*common, *setting.overrides, f"train.seed={seed}"])
                except ConfigError as error:
                    raise ConfigError(f"setting {setting.name}: {error}") from error
                if made.data.train and len(data) > 1:
                    raise ConfigError(f"setting {setting.name}: data.train={made.data.train} cannot be had in folds")
                manifests = replace(
                    made.data, train=made.data.train or str(folder / "train.jsonl"), dev=str(folder / "dev.jsonl")
                )
                made = config.with_absolute_paths(replace(made, data=manifests))
                place = out / setting.name / f"seed-{seed}"
                if len(data) > 1:
                    place /= f"fold-{fold}-of-{len(data)}"
                runs.append(Run(setting.name, seed, place, made))
    return runs


def train(run: Run) -> None:
    """Train and score on dev, unless both are done.

    Raises:
        ConfigError: the folder holds a run with other settings.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
    """
    if is_complete(run):
        return
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for the table
        stages.train_stage(run.folder, run.settings)
        stages.score_stage(run.folder, Path(run.settings.data.dev), run.folder / DEV)
    write_text_atomic(run.folder / DATA_FILE, json.dumps(_digests(run)) + "\n")
    shutil.rmtree(run.folder / "states")  # eight times the size of the weights, and nothing goes on from here


def is_complete(run: Run) -> bool:
    """Whether a run was trained and scored, and its states removed, which is done last.

    Raises:
        ConfigError: it was, with other settings or on other data.
    """
    from asr import checkpoint
    from asr.training.state import require_same

    if not (run.folder / DEV / HYPOTHESES_FILE).is_file() or (run.folder / "states").exists():
        return False
    require_same(checkpoint.load_config(run.folder), run.settings, run.folder)
    record = run.folder / DATA_FILE
    if not record.is_file():
        raise ConfigError(f"{run.folder}: does not say on which data it was trained; --out chooses another folder")
    if json.loads(record.read_text(encoding="utf-8")) != _digests(run):
        raise ConfigError(f"{run.folder}: was trained on other data than now; --out chooses another folder")
    return True


def _digests(run: Run) -> dict[str, str]:
    data = run.settings.data
    named = {"train": data.train, "dev": data.dev}
    return {name: path if is_url(path) else digest_of(Path(path), "sha256") for name, path in named.items()}


def summarize(runs: Sequence[Run]) -> list[Row]:
    """A row for each setting with a complete seed, one with all its folds complete."""
    results: dict[str, dict[int, list[Result]]] = {}
    elapsed_s: dict[str, dict[int, float]] = {}
    for setting in dict.fromkeys(run.setting for run in runs):
        for seed in dict.fromkeys(run.seed for run in runs):
            mine = [run for run in runs if (run.setting, run.seed) == (setting, seed)]
            if all(is_complete(run) for run in mine):
                found = [item for run in mine for item in read_hypotheses(run.folder / DEV / HYPOTHESES_FILE)]
                results.setdefault(setting, {})[seed] = found
                elapsed_s.setdefault(setting, {})[seed] = sum(_elapsed_s(run) for run in mine)
    first = runs[0].setting
    rows = []
    for setting, by_seed in results.items():
        scored = {seed: score(found).words for seed, found in by_seed.items()}
        row = Row(setting, {seed: words.percent for seed, words in scored.items()}, sum(scored.values(), Counts()))
        shared = [seed for seed in by_seed if seed in results.get(first, {})]
        if shared:
            times = [sum(elapsed_s[name][seed] for seed in shared) for name in (setting, first)]
            row = replace(row, time_ratio=times[0] / times[1])
        if shared and setting != first:
            a, b = (_pooled(results[name], shared) for name in (first, setting))
            row = replace(row, comparison=compare(a, b))
        rows.append(row)
    return rows


def _pooled(by_seed: dict[int, list[Result]], seeds: Sequence[int]) -> list[Result]:
    """The results of several seeds as one set; those of a speaker stay together when speakers are drawn."""
    return [replace(result, id=f"{seed}/{result.id}") for seed in seeds for result in by_seed[seed]]


def _elapsed_s(run: Run) -> float:
    """Wall-clock seconds that a training took, without the pauses where it was interrupted."""
    lines = (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return float(next(facts["elapsed_s"] for line in reversed(lines) if "elapsed_s" in (facts := json.loads(line))))


def table(rows: Sequence[Row], first: str) -> str:
    """The rows as Markdown."""
    lines = [
        f"| setting | seeds | mean WER % | SD | range | errors / words | time | against {first}, points |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        percents = list(row.percents.values())
        spread = f"{statistics.stdev(percents):.2f}" if len(percents) > 1 else "-"
        bounds = f"{min(percents):.2f}-{max(percents):.2f}" if len(percents) > 1 else "-"
        time = "-" if row.time_ratio is None else f"{row.time_ratio:.2f}"
        cells = [row.setting, len(percents), f"{statistics.mean(percents):.2f}", spread, bounds]
        cells += [f"{row.counts.errors} / {row.counts.reference}", time, _difference(row.comparison)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _difference(comparison: Comparison | None) -> str:
    if comparison is None or comparison.interval is None:
        return "-"
    low, high = comparison.interval.low, comparison.interval.high
    return f"{comparison.difference_points:+.2f} ({low:+.2f} to {high:+.2f}, p = {comparison.p_value:.3f})"


def as_json(row: Row) -> dict[str, Any]:
    """A row for the JSON file, with what the table derives."""
    percents = list(row.percents.values())
    facts = asdict(row)
    facts["wer_percent_mean"] = statistics.mean(percents)
    facts["wer_percent_sd"] = statistics.stdev(percents) if len(percents) > 1 else None
    if row.comparison is not None:
        for system in ("a", "b"):  # the word counts stand for the score, which has every utterance
            facts["comparison"][system] = facts["comparison"][system]["words"]
        facts["difference_points"] = row.comparison.difference_points
    return facts


def run_all() -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", type=Path, help="YAML list of settings")
    parser.add_argument("--conf", type=Path, required=True, help="configuration that the settings change")
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and dev.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="where the runs go")
    parser.add_argument("--seeds", default="1,2,3", help="seeds, joined by commas (%(default)s)")
    parser.add_argument("--folds", type=int, default=0, help="cross-validate over this many groups of speakers (none)")
    parser.add_argument("--table", action="store_true", help="train nothing, show what is complete")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration values for every setting")
    arguments = parse(parser)
    try:
        seeds = [int(seed) for seed in arguments.seeds.split(",")]
    except ValueError as error:
        raise ConfigError(f"--seeds must be integers joined by commas, found {arguments.seeds!r}") from error
    for item in arguments.overrides:
        if (key := item.partition("=")[0]) in _FIXED:
            raise ConfigError(f"{item}: {_FIXED[key]} decides {key}")
    data = write_folds(arguments.data, arguments.out, arguments.folds) if arguments.folds else [arguments.data]
    settings = read_settings(arguments.settings)
    runs = plan(settings, arguments.conf, arguments.overrides, seeds, arguments.out, data)
    if not arguments.table:
        for number, run in enumerate(runs, start=1):
            stages.say(f"run {number} of {len(runs)}: {run.folder}")
            train(run)
    rows = summarize(runs)
    if not rows:
        raise ConfigError(f"{arguments.out}: no seed of any setting is complete yet")
    print(table(rows, settings[0].name))
    report({"settings": str(arguments.settings), "rows": [as_json(row) for row in rows]}, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(run_all))
