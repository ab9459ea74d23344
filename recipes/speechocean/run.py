"""speechocean762: English sentences read by Mandarin speakers, children and adults; train on 100, score 13 others."""

import sys
from pathlib import Path

from asr import config, recipe
from asr.cli import parse, run_command
from asr.manifest import read_manifest

# A training from nothing had not left the plateau of CTC's beginning after 12 hours of audio. One from this model, of
# letters and numbers, leaves it in its first epoch. `train.init_from=` starts from nothing.
START = Path(__file__).resolve().parents[1] / "an4" / "model"
# Other recordings are heard together with these first, and these alone have the last word.
OTHERS = ("train.epochs=15", "train.skip_unusable=true", "text.allow_oov=true")
LAST = ("train.epochs=5",)


def run() -> int:
    """The recipe's stages; returns the exit code."""
    parser = recipe.parser(__file__, __doc__)
    parser.add_argument(
        "--part",
        choices=("train", "test"),
        default="train",
        help="score the 13 speakers held out of the training folder, or the official test folder (%(default)s)",
    )
    recipe.add_outside(parser)
    recipe.add_text(parser)
    arguments = parse(parser)
    name = "outside" if arguments.outside else "model"
    data, model = arguments.out / "data", arguments.out / name
    tuned = arguments.out / f"{name}-{'text' if arguments.text else 'lm'}"
    recipe.corpus_stage(data, "speechocean", arguments.source)
    manifest, results = data / "test.jsonl", "test"
    if arguments.part == "test":  # before the training: a source without that folder is told of now
        manifest, results = data / "official-test" / "test.jsonl", "official-test"
        corpus = read_manifest(data / "train.jsonl")[0].audio_filepath.resolve().parents[2]  # WAVE/SPEAKER/file in it
        recipe.corpus_stage(manifest.parent, "speechocean", corpus, part="test")
    outside = recipe.read_outside(arguments.outside, data)

    def settings(*overrides: str, train: Path | None = None) -> config.Config:
        return recipe.with_data(config.load(arguments.conf, overrides), data, train)

    start = f"train.init_from={START}"
    if outside:
        others = (start, *OTHERS, *arguments.overrides)
        last = (*LAST, *arguments.overrides)
        recipe.train_with_outside(arguments.out, data / "train.jsonl", outside, settings, others, last)
    else:
        recipe.train_stage(model, settings(start, *arguments.overrides))
    recipe.score_stage(model, manifest, model / results)
    recipe.language_model_stage(data, model, tuned, 3, arguments.text)
    recipe.score_stage(tuned, manifest, tuned / results)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(run))
