"""speechocean762: English sentences read by Mandarin speakers, children and adults; train on 100, score 13 others."""

import sys
from pathlib import Path

from asr import config, recipe
from asr.cli import parse, run_command
from asr.manifest import read_manifest

# A training from nothing had not left the plateau of CTC's beginning after 12 hours of audio. One from this model, of
# letters and numbers, leaves it in its first epoch. `train.init_from=` starts from nothing.
START = Path(__file__).resolve().parents[1] / "an4" / "model"


def run() -> int:
    """The recipe's stages; returns the exit code."""
    parser = recipe.parser(__file__, __doc__)
    parser.add_argument(
        "--part",
        choices=("train", "test"),
        default="train",
        help="score the 13 speakers held out of the training folder, or the official test folder (%(default)s)",
    )
    arguments = parse(parser)
    settings = config.load(arguments.conf, [f"train.init_from={START}", *arguments.overrides])
    data, model, tuned = (arguments.out / name for name in ("data", "model", "model-lm"))
    recipe.corpus_stage(data, "speechocean", arguments.source)
    manifest, results = data / "test.jsonl", "test"
    if arguments.part == "test":  # before the training: a source without that folder is told of now
        manifest, results = data / "official-test" / "test.jsonl", "official-test"
        corpus = read_manifest(data / "train.jsonl")[0].audio_filepath.resolve().parents[2]  # WAVE/SPEAKER/file in it
        recipe.corpus_stage(manifest.parent, "speechocean", corpus, part="test")
    recipe.train_stage(model, recipe.with_data(settings, data))
    recipe.score_stage(model, manifest, model / results)
    recipe.language_model_stage(data, model, tuned, order=3)
    recipe.score_stage(tuned, manifest, tuned / results)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(run))
