"""`asr decode`: log-probabilities from files; loads no torch."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asr.commands.common import add_decoder, add_n_best, decode_config, given_decoder
from asr.errors import ConfigError, DecodeError

if TYPE_CHECKING:
    from asr.emissions import Emissions

_AT_ONCE = 256  # utterances decoded before the first of them is printed

_DECODE = """Decodes log-probabilities of any CTC model. EMISSIONS.npz holds a matrix (T, V) of natural-log
probabilities for each utterance id, and a JSON file says what they mean: labels (V texts), blank (index), space (index
or text), frame_s (seconds) and, where they are known, refs (id -> text). `asr evaluate --emissions` writes both. For a
file without JSON give --labels FILE.txt. Several files are an ensemble: the mean of their log-probabilities is
decoded."""


def add_decode(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr decode`."""
    parser.description = _DECODE
    parser.add_argument(
        "emissions",
        type=Path,
        nargs="+",
        metavar="EMISSIONS.npz",
        help="log-probabilities; of several files of the same utterances and labels the mean, as of one model",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="JSON as above, or text with a label a line, <space> for the space (default: the JSON beside EMISSIONS)",
    )
    parser.add_argument("--blank", type=int, metavar="INDEX", help="of the blank, for --labels FILE.txt (0)")
    parser.add_argument("--space", metavar="LABEL", help='word separator, for --labels FILE.txt (" ")')
    parser.add_argument("--frame-s", type=float, metavar="S", help="seconds a frame, for --labels FILE.txt (1)")
    parser.add_argument(
        "--format",
        choices=("txt", "json"),
        default="txt",
        help="a line an utterance: id TAB text, or JSON (%(default)s)",
    )
    add_n_best(parser)
    add_decoder(parser)
    parser.set_defaults(run=_decode)


def _decode(arguments: argparse.Namespace) -> int:
    from asr.decoding import Decoder, facts_of

    emissions = _emissions_of(arguments)
    decoder = Decoder(decode_config(given_decoder(arguments)), emissions.vocabulary)
    names = list(emissions.log_probs)
    texts: dict[str, str] = {}
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        rows = [emissions.log_probs[name] for name in some]
        for name, found in zip(some, decoder(rows, names=some, n_best=arguments.n_best), strict=True):
            texts[name] = found[0].text
            if arguments.format == "json":
                print(json.dumps({"id": name, **facts_of(found, arguments.n_best)}, ensure_ascii=False))
            else:
                print(f"{name}\t{found[0].text}")
    if emissions.refs:
        print(_score_line(emissions, texts), file=sys.stderr)
    return 0


def _score_line(emissions: "Emissions", texts: dict[str, str]) -> str:
    from asr.report import summary_line
    from asr.tune import results_of
    from asr.wer import score

    try:
        return summary_line(score(results_of(emissions, texts)))
    except ImportError as error:  # where the decoder was installed alone
        return f"note: not scored against the references, which needs the package jiwer: pip install jiwer ({error})"


def _emissions_of(arguments: argparse.Namespace) -> "Emissions":
    from asr.emissions import read_labels, with_settings
    from asr.ensemble import read_ensemble

    settings = {key: getattr(arguments, key) for key in ("blank", "space", "frame_s")}
    settings = {key: value for key, value in settings.items() if value is not None}
    labels = arguments.labels
    if labels is None or labels.suffix == ".json":
        if settings:
            name = next(iter(settings)).replace("_", "-")
            raise ConfigError(f"--{name} goes with --labels FILE.txt; a JSON file says it itself")
        for path in arguments.emissions:
            beside = path.with_suffix(".json")
            if labels is None and path.is_file() and not beside.is_file():
                raise DecodeError(
                    f"{beside}: is missing, which says what the columns of {path} mean; without it give "
                    "--labels FILE.txt, a label a line (and --blank, --space, --frame-s)"
                )
        return read_ensemble(arguments.emissions, labels)
    return read_ensemble(arguments.emissions, with_settings(read_labels(labels), labels, **settings))
