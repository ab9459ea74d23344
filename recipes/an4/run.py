"""AN4: train on 859 utterances by 67 speakers, choose on 7 others, score the official 130 test utterances."""

import sys
from dataclasses import replace
from pathlib import Path

from asr import config, recipe
from asr.cli import parse, run_command

# The model is trained on the words of the training utterances in new sentences. What cuts them is trained before, in
# two cycles of the learning rate (warm restarts, Loshchilov & Hutter 2017). It has words as labels on 80 ms frames,
# which takes half as long as the model, and is good for nothing else.
CUTTER = ("text.unit=bpe", "text.bpe_size=128", "encoder.subsampling=8", "encoder.dropout=0.2", "train.batch_s=16")
FIRST = ("train.epochs=30", "train.dev_every=2", "augment.freq_mask_bins=15", "augment.time_masks=2")
SECOND = ("train.epochs=45", "train.dev_every=3")
SPLICED_HOURS = 1.2
SPLICED_SECONDS = (1.5, 6.0)


def run() -> int:
    """The recipe's stages; returns the exit code."""
    arguments = parse(recipe.parser(__file__, __doc__))
    names = ("data", "cutter-1", "cutter-2", "spliced", "model", "model-lm")
    data, cutter, better_cutter, spliced, model, tuned = (arguments.out / name for name in names)
    recipe.corpus_stage(data, "an4", arguments.source)

    def settings(*overrides: str, train: Path = data / "train.jsonl") -> config.Config:
        wanted = recipe.with_data(config.load(arguments.conf, [*arguments.overrides, *overrides]), data)
        return replace(wanted, data=replace(wanted.data, train=str(train.absolute())))

    recipe.train_stage(cutter, settings(*CUTTER, *FIRST))
    recipe.train_stage(better_cutter, settings(*CUTTER, *SECOND, f"train.init_from={cutter}"))
    recipe.splice_stage(data / "train.jsonl", better_cutter, spliced, hours=SPLICED_HOURS, seconds=SPLICED_SECONDS)
    recipe.train_stage(model, settings(train=spliced / "train.jsonl"))
    recipe.score_stage(model, data / "test.jsonl", model / "test")
    recipe.language_model_stage(data, model, tuned, order=3)
    recipe.score_stage(tuned, data / "test.jsonl", tuned / "test")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(run))
