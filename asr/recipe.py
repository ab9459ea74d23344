"""What the recipes share: prepare, train, decode and score, each stage skipped when its output is complete."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from asr.cli import parse, run_command

if TYPE_CHECKING:  # torch comes with these: the functions import them, after `run_command` has set it up
    from asr.config import Config

ROOT = Path(__file__).resolve().parent.parent


def parser(name: str, description: str, *, source: bool = True) -> argparse.ArgumentParser:
    """The command line that every recipe has; `source` is false for a recipe that makes its own data."""
    arguments = argparse.ArgumentParser(prog=f"recipes/{name}/run.py", description=description)
    if source:
        arguments.add_argument("--source", type=Path, help="archive or folder with the corpus (default: download it)")
    arguments.add_argument("--out", type=Path, default=Path("exp") / name, help="where everything goes (%(default)s)")
    arguments.add_argument(
        "--conf", type=Path, default=ROOT / "conf" / f"{name}.yaml", help="configuration (%(default)s)"
    )
    arguments.add_argument("overrides", nargs="*", metavar="key=value", help="configuration values, as train.epochs=20")
    return arguments


def main(name: str, description: str) -> int:
    """A whole recipe for a corpus that has train, dev and test; returns the exit code."""
    arguments = parse(parser(name, description))

    def recipe() -> int:
        from asr import config
        from asr.corpora import prepare

        data = arguments.out / "data"
        prepare_stage(data, lambda: prepare(name, source=arguments.source, out=data).render())
        run_experiment(data, arguments.out / "model", config.load(arguments.conf, arguments.overrides))
        return 0

    return run_command(recipe)


def prepare_stage(data: Path, make: Callable[[], str]) -> None:
    """Make the manifests in `data`, and show the text that `make` returns, unless they are complete there."""
    from asr.corpora import SUMMARY_FILE

    if (data / SUMMARY_FILE).is_file():
        say(f"prepare: complete in {data}, skipped")
        return
    say(f"prepare: {data}")
    print(make(), file=sys.stderr)


def run_experiment(data: Path, model: Path, settings: "Config", tests: Sequence[str] = ("test",)) -> None:
    """Train on `data`, then recognise and score each test manifest; complete stages are skipped."""
    settings = with_data(settings, data)
    train_stage(model, settings)
    for test in tests:
        score_stage(model, data / f"{test}.jsonl", model / test)


def with_data(settings: "Config", data: Path) -> "Config":
    """The configuration with the manifests of a prepared corpus."""
    from asr.config import DataConfig

    data = data.resolve()
    return replace(settings, data=DataConfig(train=str(data / "train.jsonl"), dev=str(data / "dev.jsonl")))


def train_stage(model: Path, settings: "Config") -> None:
    """Train into `model`; goes on where an interrupted training stopped.

    Raises:
        ConfigError: `model` holds a run with other settings.
    """
    from asr import checkpoint
    from asr.state import is_finished
    from asr.train import Trainer, require_same

    resume = (model / checkpoint.STATE_FILE).exists()
    if resume:
        require_same(checkpoint.load_config(model), settings, model)
    if is_finished(model, settings.train.epochs):
        say(f"train: complete in {model}, skipped")
        return
    say(f"train: {model}")
    Trainer(settings, model, resume=resume).run()


def score_stage(model: Path, manifest: Path, out: Path) -> None:
    """Recognise a manifest with the trained model and score it."""
    from asr import checkpoint
    from asr.evaluate import HYPOTHESES_FILE, Evaluation, write_results
    from asr.manifest import read_manifest
    from asr.recognizer import pick_device
    from asr.report import summary_line
    from asr.wer import read_hypotheses, score

    hypotheses = out / HYPOTHESES_FILE
    weights = model / checkpoint.WEIGHTS_FILE
    if hypotheses.is_file() and hypotheses.stat().st_mtime >= weights.stat().st_mtime:
        say(f"score: complete in {out}, skipped")
    else:
        say(f"score: {out}")
        settings = checkpoint.load_config(model)
        recognizer = checkpoint.load(model, pick_device(settings.train.device))
        results, _ = Evaluation(read_manifest(manifest), recognizer, batch_s=settings.train.batch_s).run(recognizer)
        write_results(out, results)
    print(f"{manifest.stem}: {summary_line(score(read_hypotheses(hypotheses)))}")


def say(text: str) -> None:
    """A line about the stages, on standard error: results alone go to standard output."""
    print(f"[{text}]", file=sys.stderr, flush=True)
