"""digits: single spoken digits by six speakers; the official test, and each speaker recognised without being heard."""

import sys
from pathlib import Path

from asr import config, recipe
from asr.cli import parse, run_command
from asr.manifest import read_manifest
from asr.report import summary_line
from asr.wer import Result, read_hypotheses, score


def run() -> int:
    """The recipe's stages; returns the exit code."""
    parser = recipe.parser(__file__, __doc__)
    parser.add_argument("--official-only", action="store_true", help="leave the six leave-one-speaker-out runs away")
    arguments = parse(parser)
    settings = config.load(arguments.conf, arguments.overrides)
    out: Path = arguments.out
    official = out / "data"
    recipe.corpus_stage(official, "digits", arguments.source)
    recipe.run_experiment(official, out / "model", settings)
    if not arguments.official_only:
        leave_one_out(official, out, settings)
    return 0


def leave_one_out(official: Path, out: Path, settings: config.Config) -> None:
    """Train once without each speaker, score on all recordings of that speaker, and print the joint figure."""
    from asr.evaluate import HYPOTHESES_FILE  # brings torch, which `run_command` sets up first

    utterances = [item for split in ("train", "dev", "test") for item in read_manifest(official / f"{split}.jsonl")]
    recordings = utterances[0].audio_filepath.resolve().parent.parent
    pooled: list[Result] = []
    for speaker in sorted({str(utterance.speaker) for utterance in utterances}):
        data, model = out / f"without-{speaker}" / "data", out / f"without-{speaker}" / "model"
        recipe.corpus_stage(data, "digits", recordings, held_out_speaker=speaker)
        recipe.run_experiment(data, model, settings)
        pooled += read_hypotheses(model / "test" / HYPOTHESES_FILE)
    print(f"leave one speaker out, all six: {summary_line(score(pooled))}")


if __name__ == "__main__":
    sys.exit(run_command(run))
