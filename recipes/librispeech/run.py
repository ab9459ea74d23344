"""LibriSpeech: any training part, dev-clean to choose on, test-clean and test-other to score."""

import argparse
import sys
from pathlib import Path

from asr import config, recipe
from asr.cli import parse, run_command
from asr.corpora import prepare


def run() -> int:
    """The recipe's stages; returns the exit code."""
    parser = recipe.parser("librispeech", __doc__ or "")
    parser.add_argument("--train-parts", default="train-clean-100", help="joined by commas (%(default)s)")
    parser.add_argument("--dev-parts", default="dev-clean", help="joined by commas (%(default)s)")
    parser.add_argument("--test-parts", default="test-clean,test-other", help="each is scored (%(default)s)")
    parser.add_argument(
        "--allow-partial", action="store_true", help="accept parts with fewer utterances than published"
    )
    arguments = parse(parser)
    settings = config.load(arguments.conf, arguments.overrides)
    data, model = arguments.out / "data", arguments.out / "model"
    tests = arguments.test_parts.split(",")
    prepare_parts(arguments, data, train_parts=arguments.train_parts, dev_parts=arguments.dev_parts)
    for part in tests:
        prepare_parts(arguments, data / part, test_parts=part)
    recipe.train_stage(model, recipe.with_data(settings, data))
    for part in tests:
        recipe.score_stage(model, data / part / "test.jsonl", model / part)
    return 0


def prepare_parts(
    arguments: argparse.Namespace,
    data: Path,
    *,
    train_parts: str | None = None,
    dev_parts: str | None = None,
    test_parts: str | None = None,
) -> None:
    """Manifests of some parts in `data`."""

    def make() -> str:
        return prepare(
            "librispeech",
            source=arguments.source,
            out=data,
            allow_partial=arguments.allow_partial,
            train_parts=train_parts,
            dev_parts=dev_parts,
            test_parts=test_parts,
        ).render()

    recipe.prepare_stage(data, make)


if __name__ == "__main__":
    sys.exit(run_command(run))
