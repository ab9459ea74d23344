"""digits: single spoken digits by six speakers; the official test, and each speaker recognised without being heard."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the recipe's own modules, where the package is not

from asr import config, recipe
from asr.cli import parse, run_command
from asr.manifest import read_manifest
from asr.report import summary_line
from asr.wer import Result, read_hypotheses, score
from recipes.digits.silence import surround

# Four voices alone do not make a stranger's: letters, and what 67 speakers taught the AN4 model, carry over.
START = Path(__file__).resolve().parents[1] / "an4" / "model"
STRANGERS = "digits-strangers.yaml"


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
        strangers = [f"train.init_from={START}", *arguments.overrides]
        leave_one_out(official, out, config.load(arguments.conf.parent / STRANGERS, strangers))
    return 0


def leave_one_out(official: Path, out: Path, settings: config.Config) -> None:
    """Train once without each speaker, score on all recordings of that speaker, and print the joint figure.

    The 2-gram of sentences of one word is what says that a recording holds one of ten words.
    """
    from asr.evaluate import HYPOTHESES_FILE  # brings torch, which `run_command` sets up first

    utterances = [item for split in ("train", "dev", "test") for item in read_manifest(official / f"{split}.jsonl")]
    quiet = out / "quiet"
    surround(utterances[0].audio_filepath.resolve().parent, quiet)
    pooled: list[Result] = []
    for speaker in sorted({str(utterance.speaker) for utterance in utterances}):
        data, model, tuned = (out / f"without-{speaker}" / name for name in ("data", "model", "model-lm"))
        recipe.corpus_stage(data, "digits", quiet, held_out_speaker=speaker)
        recipe.run_experiment(data, model, settings)
        recipe.language_model_stage(data, model, tuned, order=2)
        recipe.score_stage(tuned, data / "test.jsonl", tuned / "test")
        pooled += read_hypotheses(tuned / "test" / HYPOTHESES_FILE)
    print(f"leave one speaker out, all six: {summary_line(score(pooled))}")


if __name__ == "__main__":
    sys.exit(run_command(run))
