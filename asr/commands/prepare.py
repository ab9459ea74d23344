"""`asr prepare`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from asr.commands.common import flag_of
from asr.errors import ConfigError


def add_prepare(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr prepare`."""
    parser.add_argument(
        "corpus",
        help="an4, yesno, digits, librispeech, ljspeech, speechocean, commonvoice, kaldi, csv, texts, subtitles or "
        "annotations",
    )
    parser.add_argument(
        "--source", type=Path, help="archive or folder, for csv a table (default: download a published corpus)"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the manifests")
    parser.add_argument(
        "--dev-share", type=float, default=0.1, help="share of training speakers, or recordings, for dev (%(default)s)"
    )
    parser.add_argument("--test-share", type=float, default=0.0, help="the same for a test split (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="for choosing who is held out (%(default)s)")
    parser.add_argument("--allow-partial", action="store_true", help="accept a corpus of which a part is missing")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="options of the corpus, such as train_parts=dev-clean"
    )
    parser.set_defaults(run=_prepare)


def _prepare(arguments: argparse.Namespace) -> int:
    from asr.corpora import prepare

    summary = prepare(
        arguments.corpus,
        source=arguments.source,
        out=arguments.out,
        dev_share=arguments.dev_share,
        test_share=arguments.test_share,
        seed=arguments.seed,
        allow_partial=arguments.allow_partial,
        **_pairs(arguments.overrides),
    )
    print(summary.render())
    return 0


def _pairs(options: Sequence[str]) -> dict[str, str]:
    for option in options:
        name = option.split("=")[0].replace("-", "_")
        if name in ("corpus", "source", "out", "dev_share", "test_share", "seed", "allow_partial"):
            raise ConfigError(f"{option!r} is spelled {flag_of(name)} here; see asr prepare --help")
        if "=" not in option:
            raise ConfigError(f"option {option!r} is not of the form key=value; --source names what to read")
    return dict(option.split("=", 1) for option in options)
