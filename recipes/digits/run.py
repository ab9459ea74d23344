"""digits: single spoken digits by six speakers; the official test, and each speaker recognised without being heard."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the recipe's own modules, where the package is not

from asr import config, recipe
from asr.cli import parse, run_command
from asr.manifest import Utterance, read_manifest, write_manifest
from asr.report import summary_line
from asr.wer import Result, read_hypotheses, score
from recipes.digits.silence import surround

# Four voices make no stranger's. What 67 speakers of AN4 taught a model carries over, and so do their digits. This
# one is older than recipes/an4/model, from which strangers fare worse (RESULTS.md).
START = Path(__file__).resolve().parent / "start"
STRANGERS = "digits-strangers.yaml"


def run() -> int:
    """The recipe's stages; returns the exit code."""
    parser = recipe.parser(__file__, __doc__)
    parser.add_argument("--official-only", action="store_true", help="leave the six leave-one-speaker-out runs away")
    parser.add_argument(
        "--an4", type=Path, help="archive or folder with AN4, whose digits help with strangers (default: download it)"
    )
    recipe.add_outside(parser)
    arguments = parse(parser)
    settings = config.load(arguments.conf, arguments.overrides)
    out: Path = arguments.out
    official = out / "data"
    recipe.corpus_stage(official, "digits", arguments.source)
    outside = recipe.read_outside(arguments.outside, official)
    recipe.run_experiment(official, out / "model", settings)
    if not arguments.official_only:
        strangers = [f"train.init_from={START}", *arguments.overrides]
        leave_one_out(official, out, arguments.an4, outside, config.load(arguments.conf.parent / STRANGERS, strangers))
    return 0


def leave_one_out(
    official: Path, out: Path, an4: Path | None, outside: list[Utterance], settings: config.Config
) -> None:
    """Train once without each speaker, score on all recordings of that speaker, and print the joint figure.

    What is trained on beside the other speakers: digits of AN4, and what there is of `outside`.

    The 2-gram of sentences of one word is what says that a recording holds one of ten words.
    """
    from asr.evaluate import HYPOTHESES_FILE  # these bring torch, which `run_command` sets up first
    from recipes.digits.clips import cut_digits

    utterances = [item for split in ("train", "dev", "test") for item in read_manifest(official / f"{split}.jsonl")]
    quiet = out / "quiet"
    surround(utterances[0].audio_filepath.resolve().parent, quiet)
    recipe.corpus_stage(out / "an4", "an4", an4)
    clips = read_manifest(cut_digits(out / "an4" / "train.jsonl", START, out / "clips"))
    pooled: list[Result] = []
    for speaker in sorted({str(utterance.speaker) for utterance in utterances}):
        fold = out / f"{'outside-' if outside else ''}without-{speaker}"
        data, train, model, tuned = (fold / name for name in ("data", "train.jsonl", "model", "model-lm"))
        recipe.corpus_stage(data, "digits", quiet, held_out_speaker=speaker)
        write_manifest(train, [*read_manifest(data / "train.jsonl"), *clips, *outside])
        recipe.train_stage(model, recipe.with_data(settings, data, train))
        recipe.score_stage(model, data / "test.jsonl", model / "test")
        recipe.language_model_stage(data, model, tuned, order=2)
        recipe.score_stage(tuned, data / "test.jsonl", tuned / "test")
        pooled += read_hypotheses(tuned / "test" / HYPOTHESES_FILE)
    print(f"leave one speaker out, all six: {summary_line(score(pooled))}")


if __name__ == "__main__":
    sys.exit(run_command(run))
