"""AN4: train on 859 utterances by 67 speakers, choose on 7 others, score the official 130 test utterances."""

import sys
from pathlib import Path

from asr import config, recipe
from asr.cli import parse, run_command
from asr.manifest import read_manifest

# A first training, on the recordings alone and with less of them hidden, teaches the model to cut them at their words.
# It then goes on, in a second cycle of the learning rate (warm restarts, Loshchilov & Hutter 2017), with these words in
# new sentences beside the recordings. Its labels are pieces, letters and frequent words, so that these are never half
# spelled; from nothing letters are learnt sooner.
FIRST = (
    "text.unit=char",
    "train.epochs=30",
    "train.dev_every=3",
    "augment.freq_mask_bins=15",
    "augment.time_masks=2",
)
SECOND = ("text.unit=bpe", "text.bpe_size=128")
# Other recordings come between the two, with AN4's own pieces as labels, and its sentences alone have the last word.
OTHERS = ("train.epochs=4", "train.skip_unusable=true", "text.allow_oov=true")
LAST = ("train.epochs=5",)
ORDER, ORDER_WITH_TEXT = 3, 6  # of the n-gram: a name that is spelled is many words
SPLICED_HOURS = 6.0
SPLICED_SECONDS = (1.5, 6.0)


def run() -> int:
    """The recipe's stages; returns the exit code."""
    parser = recipe.parser(__file__, __doc__)
    recipe.add_outside(parser)
    recipe.add_text(parser)
    parser.add_argument("--all", action="store_true", help="then train once more, on the speakers of dev as well")
    arguments = parse(parser)
    data, everything = arguments.out / "data", arguments.out / "all"
    recipe.corpus_stage(data, "an4", arguments.source)
    outside = recipe.read_outside(arguments.outside, data)

    def settings(*overrides: str, train: Path) -> config.Config:
        return recipe.with_data(config.load(arguments.conf, overrides), data, train)

    def trained(recordings: Path, out: Path, *dev: str) -> Path:
        """Train on a manifest into folders of `out`; returns that of the model."""
        first, spliced, model = out / "first", out / "spliced", out / ("outside" if outside else "model")
        overrides = (*arguments.overrides, *dev)
        recipe.train_stage(first, settings(*overrides, *FIRST, train=recordings))
        recipe.splice_stage(recordings, first, spliced, hours=SPLICED_HOURS, seconds=SPLICED_SECONDS)
        train = spliced / "train.jsonl"
        start = f"train.init_from={first}"
        if outside:
            others = (*SECOND, *OTHERS, *overrides, start)
            recipe.train_with_outside(out, train, outside, settings, others, (*SECOND, *LAST, *overrides))
        else:
            recipe.train_stage(model, settings(*SECOND, *overrides, start, train=train))
        return model

    def scored(model: Path, transcripts: Path, weights_of: Path | None = None) -> Path:
        """Score a model without an n-gram model and with one; returns the folder of the latter."""
        recipe.score_stage(model, data / "test.jsonl", model / "test")
        tuned = model.with_name(f"{model.name}-{'text' if arguments.text else 'lm'}")
        order = ORDER_WITH_TEXT if arguments.text else ORDER
        recipe.language_model_stage(transcripts, model, tuned, order, arguments.text, weights_of=weights_of)
        recipe.score_stage(tuned, data / "test.jsonl", tuned / "test")
        return tuned

    tuned = scored(trained(data / "train.jsonl", arguments.out), data / "train.jsonl")
    if arguments.all:
        parts = [utterance for part in ("train", "dev") for utterance in read_manifest(data / f"{part}.jsonl")]
        recordings = recipe.join(parts, everything / "train.jsonl")
        scored(trained(recordings, everything, f"data.dev={config.NO_DEV}"), recordings, tuned)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(run))
