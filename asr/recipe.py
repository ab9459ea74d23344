"""The command line that recipes share."""

import argparse
from pathlib import Path

from asr.cli import parse, run_command
from asr.stages import corpus_stage, run_experiment


def parser(script: str, description: str | None, *, source: bool = True) -> argparse.ArgumentParser:
    """The command line that every recipe has.

    Args:
        script: `__file__` of recipes/NAME/run.py; conf/NAME.yaml beside recipes/ is its configuration.
        description: for --help.
        source: false for a recipe that makes its own data.
    """
    path = Path(script).resolve()
    name = path.parent.name
    conf = path.parents[2] / "conf" / f"{name}.yaml"
    arguments = argparse.ArgumentParser(prog=f"recipes/{name}/run.py", description=description)
    if source:
        arguments.add_argument("--source", type=Path, help="archive or folder with the corpus (default: download it)")
    arguments.add_argument(
        "-o", "--out", type=Path, default=Path("exp") / name, help="where everything goes (%(default)s)"
    )
    arguments.add_argument("--conf", type=Path, default=conf, help="configuration (%(default)s)")
    arguments.add_argument(
        "overrides", nargs="*", metavar="key=value", help="configuration values, such as train.epochs=20"
    )
    return arguments


def add_text(arguments: argparse.ArgumentParser) -> None:
    """Add the option of recipes whose n-gram model can learn from other texts too."""
    arguments.add_argument(
        "--text",
        type=existing_file,
        action="append",
        default=[],
        metavar="FILE",
        help="sentences, one a line, that the n-gram model learns from besides the transcripts; may be repeated",
    )


def existing_file(name: str) -> Path:
    """The argparse type of an option that names an existing file."""
    if not Path(name).is_file():  # reported now, and not when hours have gone by
        raise argparse.ArgumentTypeError(f"no such file: {name}")
    return Path(name)


def main(script: str, description: str | None) -> int:
    """A whole recipe for a corpus that has train, dev and test; returns the exit code.

    Args:
        script, description: see `parser`.
    """
    arguments = parse(parser(script, description))

    def recipe() -> int:
        from asr import config

        data = arguments.out / "data"
        corpus_stage(data, Path(script).resolve().parent.name, arguments.source)
        run_experiment(data, arguments.out / "model", config.load(arguments.conf, arguments.overrides))
        return 0

    return run_command(recipe)
