"""AN4: train on 859 utterances by 67 speakers, choose on 7 others, score the official 130 test utterances."""

import sys
from dataclasses import replace

from asr import config, recipe
from asr.cli import parse, run_command

# Training in three cycles of the learning rate (warm restarts, Loshchilov & Hutter 2017). Before the last the words of
# the training utterances are put together anew, by an alignment with what the second has learnt.
FIRST = ("train.epochs=30", "train.dev_every=2", "augment.freq_mask_bins=15", "augment.time_masks=2")
SECOND = ("train.epochs=45",)
SPLICED_HOURS = 1.2
SPLICED_SECONDS = (1.5, 6.0)


def run() -> int:
    """The recipe's stages; returns the exit code."""
    arguments = parse(recipe.parser(__file__, __doc__))
    data, model, tuned = (arguments.out / name for name in ("data", "model", "model-lm"))
    recipe.corpus_stage(data, "an4", arguments.source)
    before: list[str] = []
    for name, overrides in (("cycle-1", FIRST), ("cycle-2", SECOND), ("model", ())):
        settings = recipe.with_data(config.load(arguments.conf, [*arguments.overrides, *overrides, *before]), data)
        if name == "model":
            spliced = arguments.out / "spliced"
            cut_by = arguments.out / "cycle-2"
            recipe.splice_stage(data / "train.jsonl", cut_by, spliced, hours=SPLICED_HOURS, seconds=SPLICED_SECONDS)
            settings = replace(settings, data=replace(settings.data, train=str((spliced / "train.jsonl").absolute())))
        recipe.train_stage(arguments.out / name, settings)
        before = [f"train.init_from={arguments.out / name}"]
    recipe.score_stage(model, data / "test.jsonl", model / "test")
    recipe.language_model_stage(data, model, tuned, order=3)
    recipe.score_stage(tuned, data / "test.jsonl", tuned / "test")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(run))
