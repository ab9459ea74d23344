"""AN4: train on 859 utterances by 67 speakers, choose on 7 others, score the official 130 test utterances."""

import sys
from pathlib import Path

from asr import config, recipe, stages
from asr.cli import parse, run_command
from asr.outside import add_outside, read_outside, train_with_outside

# A first training, on the recordings alone and with less masking, makes a model that can cut them into words. A second
# one goes on from it, in another cycle of the learning rate (warm restarts, Loshchilov & Hutter 2017), with these words
# in new sentences beside the recordings. Its labels are pieces, letters and frequent words, so that those words are
# never half spelled; the first one's are letters, which are learnt sooner from scratch.
FIRST = (
    "text.unit=char",
    "train.epochs=30",
    "train.dev_every=3",
    "augment.freq_mask_bins=15",
    "augment.time_masks=2",
)
SECOND = ("text.unit=bpe", "text.bpe_size=128")
# Other recordings come between the two, with AN4's own pieces as labels; the last training is on its sentences alone.
OTHERS = ("train.epochs=4", "train.skip_unusable=true", "text.allow_oov=true")
LAST = ("train.epochs=5",)
ORDER, ORDER_WITH_TEXT = 3, 6  # of the n-gram: a spelled name is many words
SPLICED_HOURS = 6.0
SPLICED_SECONDS = (1.5, 6.0)


def run() -> int:
    """The recipe's stages; returns the exit code."""
    parser = recipe.parser(__file__, __doc__)
    add_outside(parser)
    recipe.add_text(parser)
    arguments = parse(parser)
    name = "outside" if arguments.outside else "model"
    data, first, spliced, model = (arguments.out / folder for folder in ("data", "first", "spliced", name))
    tuned = arguments.out / f"{name}-{'text' if arguments.text else 'lm'}"
    stages.corpus_stage(data, "an4", arguments.source)
    outside = read_outside(arguments.outside, data)

    def settings(*overrides: str, train: Path | None = None) -> config.Config:
        return stages.with_data(config.load(arguments.conf, overrides), data, train)

    stages.train_stage(first, settings(*arguments.overrides, *FIRST))
    stages.splice_stage(data / "train.jsonl", first, spliced, hours=SPLICED_HOURS, seconds=SPLICED_SECONDS)
    train = spliced / "train.jsonl"
    start = f"train.init_from={first}"
    if outside:
        others = (*SECOND, *OTHERS, *arguments.overrides, start)
        last = (*SECOND, *LAST, *arguments.overrides)
        train_with_outside(arguments.out, train, outside, settings, others, last)
    else:
        stages.train_stage(model, settings(*SECOND, *arguments.overrides, start, train=train))
    stages.score_stage(model, data / "test.jsonl", model / "test")
    stages.language_model_stage(data, model, tuned, ORDER_WITH_TEXT if arguments.text else ORDER, arguments.text)
    stages.score_stage(tuned, data / "test.jsonl", tuned / "test")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(run))
