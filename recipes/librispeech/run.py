"""LibriSpeech: any training part, dev-clean to choose on, test-clean and test-other to score."""

import sys
from functools import partial

from asr import config, recipe, stages
from asr.cli import parse, run_command
from asr.corpora.librispeech import PARTS
from asr.errors import CorpusError


def run() -> int:
    """The recipe's stages; returns the exit code."""
    parser = recipe.parser(__file__, __doc__)
    parser.add_argument("--train-parts", default="train-clean-100", help="parts, joined by commas (%(default)s)")
    parser.add_argument("--dev-parts", default="dev-clean", help="parts, joined by commas (%(default)s)")
    parser.add_argument("--test-parts", default="test-clean,test-other", help="parts, each scored (%(default)s)")
    parser.add_argument(
        "--allow-partial", action="store_true", help="accept parts with fewer utterances than published"
    )
    arguments = parse(parser)
    settings = config.load(arguments.conf, arguments.overrides)
    data, model = arguments.out / "data", arguments.out / "model"
    tests = [part.strip() for part in arguments.test_parts.split(",")]
    for part in tests:
        if part not in PARTS:
            raise CorpusError(f"--test-parts: there is no part {part!r}; there are {', '.join(PARTS)}")
    prepare = partial(
        stages.corpus_stage, corpus="librispeech", source=arguments.source, allow_partial=arguments.allow_partial
    )
    prepare(data, train_parts=arguments.train_parts, dev_parts=arguments.dev_parts)
    for part in tests:
        prepare(data / part, test_parts=part)
    stages.train_stage(model, stages.with_data(settings, data))
    for part in tests:
        stages.score_stage(model, data / part / "test.jsonl", model / part)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(run))
