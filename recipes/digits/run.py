"""digits: single spoken digits by six speakers; the official test, and each speaker by models that never heard them."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which the installed package lacks

from asr import config, recipe, stages
from asr.cli import parse, run_command
from asr.corpora import digits as corpus
from asr.hypotheses import HYPOTHESES_FILE, Result, read_hypotheses
from asr.manifest import Utterance, read_manifest, write_manifest
from asr.outside import add_outside, read_outside
from asr.report import summary_line
from asr.wer import score
from recipes.digits.own_stages import average_stage, label_stage
from recipes.digits.silence import RECORDINGS, STILL_DB, surround

# Four voices are not enough to recognise a stranger's. What a model learnt from 67 speakers of AN4 carries over, and so
# do their digits. This model is older than recipes/an4/model, which is a worse start for strangers (RESULTS.md).
START = Path(__file__).resolve().parent / "start"
STRANGERS = "digits-strangers.yaml"
# It was trained on a bandwidth of 8 kHz, and these recordings have half of that. So it is first trained on AN4's
# sentences at this bandwidth, and on new sentences made of their words.
TELEPHONE = ("augment.telephone_probability=1", "encoder.dropout=0.3", "train.batch_s=24", "train.epochs=2")
SPLICED_HOURS = 6.0
SPLICED_SECONDS = (1.5, 6.0)
SEEDS = 3  # models whose weights are averaged: with a single one chance decides too much
# How long training goes on with untranscribed recordings of the speaker who was left out.
OWN_EPOCHS = 2


def run() -> int:
    """The recipe's stages; returns the exit code."""
    parser = recipe.parser(__file__, __doc__)
    parser.add_argument("--official-only", action="store_true", help="skip the six leave-one-speaker-out runs")
    parser.add_argument(
        "--an4",
        type=Path,
        help="archive or folder with AN4, whose digits help with unheard speakers (default: download it)",
    )
    add_outside(parser)
    arguments = parse(parser)
    settings = config.load(arguments.conf, arguments.overrides)
    # Errors in these settings are found before the official training, not after it.
    by_telephone = None if arguments.official_only else strangers(arguments, START, *TELEPHONE)
    out: Path = arguments.out
    official = out / "data"
    stages.corpus_stage(official, "digits", arguments.source)
    outside = read_outside(arguments.outside, official)
    stages.run_experiment(official, out / "model", settings)
    if by_telephone is not None:
        telephone = telephone_stage(out, arguments.an4, by_telephone)
        leave_one_out(official, out, outside, partial(strangers, arguments), telephone)
    return 0


def strangers(arguments: argparse.Namespace, start: Path, *stage: str) -> config.Config:
    """The configuration of a training for speakers without transcripts, from the weights of `start`."""
    overrides = [f"train.init_from={start}", *stage, *arguments.overrides]
    return config.load(arguments.conf.parent / STRANGERS, overrides)


def telephone_stage(out: Path, source: Path | None, settings: config.Config) -> Path:
    """Train the model from which the trainings without a speaker start; returns its run folder."""
    an4, spliced, telephone = out / "an4", out / "spliced", out / "telephone"
    heard = spliced / "train.jsonl"
    stages.corpus_stage(an4, "an4", source)
    stages.splice_stage(an4 / "train.jsonl", START, spliced, hours=SPLICED_HOURS, seconds=SPLICED_SECONDS)
    stages.train_stage(telephone, stages.with_data(settings, an4, heard))
    return telephone


def leave_one_out(
    official: Path, out: Path, outside: list[Utterance], settings: Callable[..., config.Config], telephone: Path
) -> None:
    """Recognise each speaker as a stranger and as one heard before; prints the joint figures."""
    from recipes.digits.clips import cut_digits  # it imports torch, after the settings that `run_command` makes

    utterances = [item for split in ("train", "dev", "test") for item in read_manifest(official / f"{split}.jsonl")]
    recordings = corpus.find(stages.roots_of(official))
    surround(recordings, out / "own-noise")
    surround(recordings, out / "still", STILL_DB)
    clips = read_manifest(cut_digits(out / "an4" / "train.jsonl", START, out / "clips"))
    strange: list[Result] = []
    acquainted: list[Result] = []
    for speaker in sorted({str(utterance.speaker) for utterance in utterances}):
        fold = out / f"{'outside-' if outside else ''}without-{speaker}"
        strange += as_stranger(speaker, fold, [*clips, *outside], settings(telephone))
        acquainted += as_acquaintance(fold, settings)
    print(f"leave one speaker out, all six: {summary_line(score(strange))}")
    print(f"when half of a speaker's recordings were heard, without transcripts: {summary_line(score(acquainted))}")


def as_stranger(speaker: str, fold: Path, others: list[Utterance], settings: config.Config) -> list[Result]:
    """Recognise a speaker who was not heard, by a model of four speakers and `others`.

    The fifth speaker is used to choose epochs and the weights of the 2-gram.
    """
    data, train, model = fold / "data", fold / "train.jsonl", fold / "model"
    stages.corpus_stage(data, "digits", fold.parent / "own-noise", held_out_speaker=speaker)
    write_manifest(train, [*twice(read_manifest(data / "train.jsonl"), fold.parent / "still"), *others])
    train_several(model, stages.with_data(settings, data, train))
    stages.score_stage(model, data / "test.jsonl", model / "test")
    return recognise(with_two_gram(model, data), data / "test.jsonl")


def as_acquaintance(fold: Path, settings: Callable[..., config.Config]) -> list[Result]:
    """Recognise the speaker of a fold after training on their other recordings, without transcripts.

    Each half of the recordings is recognised by a model that was trained further on the other half: on what was
    recognised there with confidence, beside what the model was trained on before.
    """
    data = fold / "data"
    before, own = read_manifest(fold / "train.jsonl"), read_manifest(data / "test.jsonl")
    results: list[Result] = []
    for number in (0, 1):
        half = fold / f"half-{number}"
        heard, labelled, train, test = (half / f"{name}.jsonl" for name in ("heard", "labelled", "train", "test"))
        write_manifest(heard, [replace(item, text="") for item in own[1 - number :: 2]])
        write_manifest(test, own[number::2])
        label_stage(heard, with_two_gram(fold / "model", data), labelled)
        write_manifest(train, [*before, *twice(read_manifest(labelled), fold.parent / "still")])
        going_on = settings(fold / "model", f"train.epochs={OWN_EPOCHS}")
        train_several(half / "model", stages.with_data(going_on, data, train))
        results += recognise(with_two_gram(half / "model", data), test)
    return results


def train_several(model: Path, settings: config.Config) -> None:
    """Train with `SEEDS` seeds, into folders beside `model`, which gets the mean of their weights."""
    runs = [model.with_name(f"seed-{seed}") for seed in range(settings.train.seed, settings.train.seed + SEEDS)]
    for seed, run in enumerate(runs, settings.train.seed):
        stages.train_stage(run, replace(settings, train=replace(settings.train, seed=seed)))
    average_stage(runs, model)


def twice(utterances: list[Utterance], still: Path) -> list[Utterance]:
    """The recordings as they are, and again with another kind of quiet around the words."""
    again = [
        replace(
            item,
            id=f"{item.id}-still",
            audio_filepath=still / RECORDINGS / item.audio_filepath.name,
        )
        for item in utterances
    ]
    return [*utterances, *again]


def with_two_gram(model: Path, data: Path) -> Path:
    """The model with a 2-gram of sentences of one word, which says that a recording holds one of ten words."""
    tuned = model.with_name(f"{model.name}-lm")
    stages.language_model_stage(data, model, tuned, order=2)
    return tuned


def recognise(model: Path, manifest: Path) -> list[Result]:
    """Score `model` on a manifest; returns what it recognised."""
    stages.score_stage(model, manifest, model / "test")
    return read_hypotheses(model / "test" / HYPOTHESES_FILE)


if __name__ == "__main__":
    sys.exit(run_command(run))
