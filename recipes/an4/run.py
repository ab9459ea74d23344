"""AN4: train on 859 utterances by 67 speakers, choose on 7 others, score the official 130 test utterances."""

import sys
from pathlib import Path

from asr import config, recipe
from asr.cli import parse, run_command
from asr.errors import CorpusError
from asr.manifest import Utterance, read_manifest, write_manifest

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
LAST = ("train.epochs=5", "text.allow_oov=true")
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
        help="other recordings, to make a model beside that of AN4 from; may be repeated",
    )
    arguments = parse(parser)
    name = "outside" if arguments.outside else "model"
    data, first, spliced, model, tuned = (
        arguments.out / folder for folder in ("data", "first", "spliced", name, f"{name}-lm")
    )
    recipe.corpus_stage(data, "an4", arguments.source)
    outside = read_outside(arguments.outside, data)

    def settings(*overrides: str, train: Path | None = None) -> config.Config:
        return recipe.with_data(config.load(arguments.conf, overrides), data, train)

    recipe.train_stage(first, settings(*arguments.overrides, *FIRST))
    recipe.splice_stage(data / "train.jsonl", first, spliced, hours=SPLICED_HOURS, seconds=SPLICED_SECONDS)
    train = spliced / "train.jsonl"
    if outside:
        joined = join([*read_manifest(train), *outside], arguments.out / "outside.jsonl")
        mixed, labels = arguments.out / "outside-mixed", f"data.vocabulary={train}"
        given = (*SECOND, labels, *OTHERS, *arguments.overrides, f"train.init_from={first}")
        recipe.train_stage(mixed, settings(*given, train=joined))
        given = (*SECOND, labels, *LAST, *arguments.overrides, f"train.init_from={mixed}")
    else:
        given = (*SECOND, *arguments.overrides, f"train.init_from={first}")
    recipe.train_stage(model, settings(*given, train=train))
    recipe.score_stage(model, data / "test.jsonl", model / "test")
    recipe.language_model_stage(data, model, tuned, order=3)
    recipe.score_stage(tuned, data / "test.jsonl", tuned / "test")
    return 0


def read_outside(manifests: list[Path], data: Path) -> list[Utterance]:
    """What other recordings there are, before hours go by.

    Raises:
        CorpusError: an id stands twice, or is one of AN4's own: its test would not be one any more.
        AudioError: an audio file is missing.
    """
    from asr.trainset import require_audio  # brings torch, which `run_command` sets up first

    found: list[Utterance] = []
    place_of = {item.id: path for path in sorted(data.glob("*.jsonl")) for item in read_manifest(path)}
    for manifest in manifests:
        for utterance in read_manifest(manifest):
            if utterance.id in place_of:
                raise CorpusError(f"--outside {manifest}: id {utterance.id!r} stands in {place_of[utterance.id]} too")
            place_of[utterance.id] = manifest
            found.append(utterance)
    require_audio(found)
    return found


def join(utterances: list[Utterance], out: Path) -> Path:
    """The manifest of all of them; CorpusError when it is there and holds others, from which a model was made."""

    def content(utterance: Utterance) -> tuple[str, Path, float, str]:
        return utterance.id, utterance.audio_filepath.resolve(), round(utterance.offset, 6), utterance.text

    if not out.is_file():
        write_manifest(out, utterances)
    elif [content(one) for one in read_manifest(out)] != [content(one) for one in utterances]:
        raise CorpusError(
            f"{out}: was made from other recordings than --outside names now; --out chooses another folder"
        )
    return out


if __name__ == "__main__":
    sys.exit(run_command(run))
