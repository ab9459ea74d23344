"""speechocean762: English sentences read by Mandarin speakers, children and adults; train on 100, score 13 others."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which the installed package lacks

from asr import config, recipe, stages
from asr.cli import parse, run_command
from asr.corpora import speechocean
from asr.errors import ConfigError, CorpusError
from asr.files import write_text_atomic
from asr.lexicon import Lexicon, labels_of, to_text
from asr.lm.text import sentences
from asr.manifest import Utterance, read_manifest
from asr.outside import add_outside, read_outside, train_with_outside
from asr.text import normalize, read_dictionary
from recipes.speechocean import pronunciations

# A training from scratch had not left CTC's initial plateau after 12 hours of audio. One from this model, of letters
# and numbers, leaves it in its first epoch. `train.init_from=` trains from scratch.
START = Path(__file__).resolve().parents[1] / "an4" / "model"
# First the corpus is trained on together with other recordings, then alone.
OTHERS = ("train.epochs=10", "train.skip_unusable=true", "text.allow_oov=true")
LAST = ("train.epochs=4",)


def run() -> int:
    """The recipe's stages; returns the exit code."""
    parser = recipe.parser(__file__, __doc__)
    parser.add_argument(
        "--part",
        choices=("train", "test"),
        default="train",
        help="score the 13 speakers held out of the training folder, or the official test folder (%(default)s)",
    )
    add_outside(parser)
    recipe.add_text(parser)
    parser.add_argument(
        "--lexicon",
        type=recipe.existing_file,
        metavar="FILE",
        help="pronunciations of words of --outside and --text that are in no transcript: word TAB phones on each line",
    )
    arguments = parse(parser)
    name = "outside" if arguments.outside else "model"
    data, model = arguments.out / "data", arguments.out / name
    tuned = arguments.out / f"{name}-{'text' if arguments.text else 'lm'}"
    stages.corpus_stage(data, "speechocean", arguments.source)
    manifest, results = data / "test.jsonl", "test"
    corpus = speechocean.find(stages.roots_of(data))
    if arguments.part == "test":  # before the training, so that a missing folder is reported now
        manifest, results = data / "official-test" / "test.jsonl", "official-test"
        stages.corpus_stage(manifest.parent, "speechocean", corpus, part="test")
    outside = read_outside(arguments.outside, data)

    words: tuple[str, ...] = ()
    allowed: Path | None = None
    text = config.load(arguments.conf, arguments.overrides).text
    if text.unit == "phone":
        learned, allowed = (arguments.out / "words" / f"{folder}.txt" for folder in (name, tuned.name))
        write_words(learned, allowed, data, pronunciations.read_corpus(corpus), outside, arguments, text)
        words = (f"text.lexicon={learned}",)
    elif arguments.lexicon:
        raise ConfigError(f"--lexicon needs text.unit=phone, found {text.unit}")

    def settings(*overrides: str, train: Path | None = None) -> config.Config:
        return stages.with_data(config.load(arguments.conf, (*words, *overrides)), data, train)

    start = f"train.init_from={START}"
    if outside:
        others = (start, *OTHERS, *arguments.overrides)
        last = (*LAST, *arguments.overrides)
        train_with_outside(arguments.out, data / "train.jsonl", outside, settings, others, last)
    else:
        stages.train_stage(model, settings(start, *arguments.overrides))
    stages.score_stage(model, manifest, model / results)
    stages.language_model_stage(data, model, tuned, 3, arguments.text, allowed, priors=True)
    stages.score_stage(tuned, manifest, tuned / results)
    return 0


def write_words(
    learned: Path,
    allowed: Path,
    data: Path,
    corpus: Lexicon,
    outside: Sequence[Utterance],
    arguments: argparse.Namespace,
    text: config.TextConfig,
) -> None:
    """Write the words that the training meets into `learned`, and those that may be recognised into `allowed`."""

    def normalized(utterances: Iterable[Utterance]) -> list[str]:
        return [normalize(utterance.text, text) for utterance in utterances]

    train, dev = (normalized(read_manifest(data / f"{split}.jsonl")) for split in ("train", "dev"))
    more = read_dictionary(arguments.lexicon, text) if arguments.lexicon else {}
    found = pronunciations.of_training(corpus, [*train, *dev], normalized(outside), more)
    write_text_atomic(learned, to_text(found))
    others = [" ".join(tokens) for _, tokens in sentences(arguments.text, "word", lambda line: normalize(line, text))]
    may_be_found = pronunciations.allowed(found, train, others, more)
    phones = labels_of(found)
    for word, spellings in may_be_found.items():
        if unknown := labels_of({word: spellings}) - phones:
            raise CorpusError(
                f"{arguments.lexicon}: word {word!r} of --text is pronounced with {min(unknown)!r}, which "
                "no word of the training has"
            )
    write_text_atomic(allowed, to_text(may_be_found))


if __name__ == "__main__":
    sys.exit(run_command(run))
