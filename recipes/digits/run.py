"""digits: single spoken digits by six speakers; the official test, and each speaker recognised without being heard."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the recipe's own modules, where the package is not

from asr import config, recipe
from asr.cli import parse, run_command
from asr.manifest import Utterance, read_manifest, write_manifest
from asr.report import summary_line
from asr.wer import Result, read_hypotheses, score
from recipes.digits.silence import STILL_DB, surround

# Four voices make no stranger's. What 67 speakers of AN4 taught a model carries over, and so do their digits. This
# one is older than recipes/an4/model, from which strangers fare worse (RESULTS.md).
START = Path(__file__).resolve().parent / "start"
STRANGERS = "digits-strangers.yaml"
# It heard 8 kHz of bandwidth, and these recordings have half of that: first it hears AN4's sentences so, and new ones
# made of their words.
TELEPHONE = ("augment.telephone_probability=1", "encoder.dropout=0.3", "train.batch_s=24", "train.epochs=2")
SPLICED_HOURS = 6.0
SPLICED_SECONDS = (1.5, 6.0)
SEEDS = 3  # as many trainings without a speaker, whose weights are averaged


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
    # What is wrong with these is found before the official training, and not after it.
    by_telephone = None if arguments.official_only else strangers(arguments, START, *TELEPHONE)
    out: Path = arguments.out
    official = out / "data"
    recipe.corpus_stage(official, "digits", arguments.source)
    outside = recipe.read_outside(arguments.outside, official)
    recipe.run_experiment(official, out / "model", settings)
    if by_telephone is not None:
        telephone = telephone_stage(out, arguments.an4, by_telephone)
        leave_one_out(official, out, outside, strangers(arguments, telephone))
    return 0


def strangers(arguments: argparse.Namespace, start: Path, *stage: str) -> config.Config:
    """The configuration of a training for speakers who were not heard, on from the weights of `start`."""
    overrides = [f"train.init_from={start}", *stage, *arguments.overrides]
    return config.load(arguments.conf.parent / STRANGERS, overrides)


def telephone_stage(out: Path, source: Path | None, settings: config.Config) -> Path:
    """Train the model that those without a speaker begin with; returns its run folder."""
    an4, spliced, telephone = out / "an4", out / "spliced", out / "telephone"
    heard = spliced / "train.jsonl"
    recipe.corpus_stage(an4, "an4", source)
    recipe.splice_stage(an4 / "train.jsonl", START, spliced, hours=SPLICED_HOURS, seconds=SPLICED_SECONDS)
    recipe.train_stage(telephone, recipe.with_data(settings, an4, heard))
    return telephone


def leave_one_out(official: Path, out: Path, outside: list[Utterance], settings: config.Config) -> None:
    """Train without each speaker, score on all recordings of that speaker, and print the joint figure."""
    from recipes.digits.clips import cut_digits  # it brings torch, which `run_command` sets up first

    utterances = [item for split in ("train", "dev", "test") for item in read_manifest(official / f"{split}.jsonl")]
    recordings = utterances[0].audio_filepath.resolve().parent
    surround(recordings, out / "own-noise")
    surround(recordings, out / "still", STILL_DB)
    clips = read_manifest(cut_digits(out / "an4" / "train.jsonl", START, out / "clips"))
    pooled: list[Result] = []
    for speaker in sorted({str(utterance.speaker) for utterance in utterances}):
        fold = out / f"{'outside-' if outside else ''}without-{speaker}"
        pooled += without(speaker, fold, [*clips, *outside], settings)
    print(f"leave one speaker out, all six: {summary_line(score(pooled))}")


def without(speaker: str, fold: Path, others: list[Utterance], settings: config.Config) -> list[Result]:
    """Recognise a speaker who was not heard: by the mean of `SEEDS` models, with a 2-gram.

    They are trained on four speakers, their recordings with another kind of quiet around the words, and `others`; the
    fifth chooses epochs and the weights of the 2-gram. That is of sentences of one word: it says that a recording
    holds one of ten words.
    """
    from asr.evaluate import HYPOTHESES_FILE

    data, train, model, tuned = (fold / name for name in ("data", "train.jsonl", "model", "model-lm"))
    recipe.corpus_stage(data, "digits", fold.parent / "own-noise", held_out_speaker=speaker)
    heard = read_manifest(data / "train.jsonl")
    again = [
        replace(
            item,
            id=f"{item.id}-still",
            audio_filepath=fold.parent / "still" / item.audio_filepath.parent.name / item.audio_filepath.name,
        )
        for item in heard
    ]
    write_manifest(train, [*heard, *again, *others])
    seeds = range(settings.train.seed, settings.train.seed + SEEDS)
    runs = [fold / f"seed-{seed}" for seed in seeds]
    for seed, run in zip(seeds, runs, strict=True):
        seeded = replace(settings, train=replace(settings.train, seed=seed))
        recipe.train_stage(run, recipe.with_data(seeded, data, train))
    recipe.average_stage(runs, model)
    recipe.score_stage(model, data / "test.jsonl", model / "test")
    recipe.language_model_stage(data, model, tuned, order=2)
    recipe.score_stage(tuned, data / "test.jsonl", tuned / "test")
    return read_hypotheses(tuned / "test" / HYPOTHESES_FILE)


if __name__ == "__main__":
    sys.exit(run_command(run))
