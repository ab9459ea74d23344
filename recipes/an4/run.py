"""AN4: train on 859 utterances by 67 speakers, choose on 7 others, score the official 130 test utterances."""

import sys
from pathlib import Path

from asr import config, recipe
from asr.cli import parse, run_command
from asr.manifest import read_manifest, write_manifest

# A first training, on the recordings alone and with less of them hidden, teaches the model to cut them at their words.
# It then goes on, in a second cycle of the learning rate (warm restarts, Loshchilov & Hutter 2017), with these words in
# new sentences beside the recordings.
FIRST = (
    "train.epochs=30",
    "train.dev_every=3",
    "augment.freq_mask_bins=15",
    "augment.time_masks=2",
)
SPLICED_HOURS = 6.0
SPLICED_SECONDS = (1.5, 6.0)


def run() -> int:
    """The recipe's stages; returns the exit code."""
    parser = recipe.parser(__file__, __doc__)
    parser.add_argument(
        "--outside",
        type=Path,
        action="append",
        default=[],
        metavar="MANIFEST",
        help="other recordings for the second training, which makes a model beside that of AN4; may be repeated",
    )
    arguments = parse(parser)
    outside = [utterance for manifest in arguments.outside for utterance in read_manifest(manifest)]
    name = "outside" if outside else "model"
    data, first, spliced, model, tuned = (
        arguments.out / folder for folder in ("data", "first", "spliced", name, f"{name}-lm")
    )
    recipe.corpus_stage(data, "an4", arguments.source)

    def settings(*overrides: str, train: Path | None = None) -> config.Config:
        return recipe.with_data(config.load(arguments.conf, [*arguments.overrides, *overrides]), data, train)

    recipe.train_stage(first, settings(*FIRST))
    recipe.splice_stage(data / "train.jsonl", first, spliced, hours=SPLICED_HOURS, seconds=SPLICED_SECONDS)
    train = spliced / "train.jsonl"
    if outside:
        train, of_an4 = arguments.out / "outside.jsonl", train
        write_manifest(train, [*read_manifest(of_an4), *outside])
    recipe.train_stage(model, settings(f"train.init_from={first}", train=train))
    recipe.score_stage(model, data / "test.jsonl", model / "test")
    recipe.language_model_stage(data, model, tuned, order=3)
    recipe.score_stage(tuned, data / "test.jsonl", tuned / "test")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(run))
