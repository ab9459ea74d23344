"""What several commands share: exit codes, errors on one line, `key=value`, flags of models and decoders."""

import argparse
import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from asr.config import DECODE_PATHS, DecodeConfig, asked_decode, resolve_decode
from asr.errors import ConfigError
from asr.files import exists_already
from asr.html import is_own_page

if TYPE_CHECKING:
    from asr.recognizer import Recognizer

FORMATS = ("txt", "json", "srt", "vtt", "ctm", "tsv", "textgrid", "eaf")  # asr.writers has them too, but imports numpy
JOINABLE = ("txt", "json", "ctm")  # several recordings may stand in one file
# Of files that would be replaced: those beside recordings often are a user's own work.
PERHAPS_YOURS = "perhaps your own transcripts, subtitles or annotations"
CHANNELS = "what to do with several channels (default: the model's setting)"  # help of --channels
FAILED = 2  # nothing could be done
PARTLY_FAILED = 1  # some of many files failed

_FLAGS = {
    "decoder": "greedy or beam (default: the setting of the model, if any, or greedy; beam if a flag below is given)",
    "lm": "n-gram model: ARPA, or what `asr lm compile` made; alpha and beta stay the run's own unless they are given",
    "lm_unit": "what the tokens of the language model are: words or labels (auto)",
    "alpha": "weight of the language model",
    "beta": "added to the score for each word, or label if the model is of labels (natural log)",
    "unknown_offset": "added to the log-probability of a word that the language model does not know (natural log)",
    "unknown_per_character": "added for each character of such a word, unless a lexicon has it (natural log)",
    "beam_size": "how many prefixes are kept",
    "token_threshold": "labels less likely than this in a frame start no new prefixes there (natural log)",
    "beam_threshold": "prefixes worse than the best by this much are dropped (natural log, below 0)",
    "lexicon": "allow these words only: one a line, or word TAB labels separated by spaces",
    "hotwords": "phrases with a bonus: one a line, or phrase TAB natural-log weight (5 where there is none)",
    "priors": "prior probabilities of labels, to be discounted: label TAB natural-log probability",
    "prior_weight": "how strongly the priors are discounted, 0 to 1",
}
_OF_LM = (
    "lm_unit",
    "alpha",
    "beta",
    "unknown_offset",
    "unknown_per_character",
)  # mean nothing without a language model


def print_error(error: Exception) -> None:
    """An error as one line on standard error."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}"
    print_line("error", text)


def print_note(text: str) -> None:
    """Something worth knowing as one line on standard error."""
    print_line("note", text)


def print_line(kind: str, text: str) -> None:
    """`kind: text` as one line on standard error; names and messages of libraries may hold line breaks."""
    print(f"{kind}:", " ".join(text.splitlines()), file=sys.stderr)


def require_output() -> None:
    """ConfigError where standard output is closed, so that what is printed would be lost silently."""
    if sys.stdout is None:
        raise ConfigError("standard output is closed")


def conf_and_overrides(arguments: argparse.Namespace) -> tuple[Path | None, list[str]]:
    """CONF, if given, and the `key=value` arguments of a command line that takes both."""
    # argparse takes the first positional for CONF, which may be left out or come after key=value.
    given = [item for item in (arguments.conf, *arguments.overrides) if item is not None]
    conf = next((item for item in given if "=" not in item.split("/")[0]), None)
    if conf is None:
        return None, given
    given.remove(conf)
    return Path(conf), given


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--device`, which `load_model` reads."""
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="device to compute on (%(default)s)"
    )


def add_compute(parser: argparse.ArgumentParser) -> None:
    """`--device`, and `--batch-s`, which `batch_seconds` reads."""
    add_device(parser)
    parser.add_argument("--batch-s", type=float, default=120.0, help="padded seconds of audio in a batch (%(default)s)")


def batch_seconds(arguments: argparse.Namespace) -> float:
    """The value of `--batch-s`; ConfigError where no batch could have it."""
    value = float(arguments.batch_s)
    if not 0 < value < math.inf:
        raise ConfigError(f"--batch-s must be a positive number of seconds, found {value:g}")
    return value


def flag_of(name: str) -> str:
    """A setting's flag on the command line."""
    return f"--{name.replace('_', '-')}"


def add_audio(parser: argparse.ArgumentParser, longest: str = "the model's setting, an hour by default") -> None:
    """Flags that say which audio is taken; `longest` describes the limit on its length without a flag."""
    parser.add_argument("--channels", choices=("auto", "first", "mean"), help=CHANNELS)
    parser.add_argument("--max-duration-s", type=float, help=f"longest audio accepted (default: {longest})")


def add_decoder(parser: argparse.ArgumentParser, *leave_out: str) -> None:
    """A flag for each key of the configuration's `decode`; `given_decoder` reads them."""
    group = parser.add_argument_group(
        "decoding", "where a flag is not given, the setting of the model applies, if there is one, or the built-in one"
    )
    for field in fields(DecodeConfig):
        if field.name in leave_out:
            continue
        flag = flag_of(field.name)
        choices = get_args(field.type)  # of a Literal
        if choices:
            group.add_argument(flag, choices=choices, help=_FLAGS[field.name])
        elif field.name in DECODE_PATHS:
            group.add_argument(flag, metavar="FILE", help=_FLAGS[field.name])
        else:
            kind = int if isinstance(field.default, int) else float
            group.add_argument(flag, type=kind, metavar="N" if kind is int else "X", help=_FLAGS[field.name])


def require_free(path: Path, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """ConfigError, before any work, where a file to be written is an input or, without `overwrite`, exists already."""
    if path.resolve() in {given.resolve() for given in inputs}:
        raise ConfigError(f"{path}: is an input, and would be replaced")
    if exists_already(path) and not overwrite:
        raise ConfigError(f"{path}: exists already; --overwrite replaces it")


def require_new(paths: Sequence[Path], overwrite: bool) -> None:
    """ConfigError, before any work, where files to be written exist already, unless `overwrite`."""
    there = [path for path in paths if exists_already(path)]  # raises where no file can be written
    if there and not overwrite:
        raise ConfigError(
            f"{len(there)} of {len(paths)} files to write exist already, such as {there[0]} ({PERHAPS_YOURS}): "
            "--overwrite replaces them"
        )


def require_html(flag: str, path: Path) -> None:
    """ConfigError where a page would go to a file of another kind, or replace one that is no page of ours."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{flag} {path}: wanted a name that ends in .html")
    if exists_already(path) and not is_own_page(path):
        raise ConfigError(f"{path}: exists already and is no page of asr; move it away, or give another name")


def add_n_best(parser: argparse.ArgumentParser) -> None:
    """`--n-best`; `given_n_best` reads it, and `--format`."""
    parser.add_argument(
        "--n-best", type=int, default=1, metavar="N", help="hypotheses in JSON output; above 1 selects the beam (1)"
    )


def given_n_best(arguments: argparse.Namespace) -> list[str]:
    """`--n-best` where it asks for what only the beam has, for `given_decoder`; ConfigError where it cannot be."""
    if arguments.n_best < 1:
        raise ConfigError(f"--n-best must be at least 1, found {arguments.n_best}")
    if arguments.n_best > 1 and arguments.format != "json":
        raise ConfigError("--n-best above 1 needs --format json")
    return ["--n-best"] if arguments.n_best > 1 else []


def given_decoder(arguments: argparse.Namespace, *of_beam: str) -> dict[str, Any]:
    """The values of `DecodeConfig` that flags give, paths absolute.

    One that only the beam has implies the beam, and so does any other flag, named in `of_beam`, that needs it.

    Raises:
        ConfigError: flags do not go together.
    """
    values = vars(arguments)
    given = {name: values[name] for name in _FLAGS if values.get(name) is not None}
    return asked_decode(given, *of_beam, spelled=flag_of)


def require_lm(config: DecodeConfig, given: dict[str, Any]) -> None:
    """ConfigError where a weight is given without the thing that it weights."""
    idle = [name for name in _OF_LM if name in given]
    if idle and not config.lm:
        raise ConfigError(f"{flag_of(idle[0])} does nothing without a language model: give --lm FILE")
    if "prior_weight" in given and not config.priors:
        raise ConfigError("--prior-weight does nothing without priors: give --priors FILE")


def decode_config(given: dict[str, Any]) -> DecodeConfig:
    """The configuration of a decoder from flags alone."""
    config = replace(DecodeConfig(), **given)
    require_lm(config, given)
    return config


def load_model(arguments: argparse.Namespace, decode: dict[str, Any], channels: str | None) -> "Recognizer":
    """The model of `--model` on `--device`, its decoder ready.

    Args:
        arguments: with `--max-duration-s` too.
        decode: values of `DecodeConfig` that replace its own, as `given_decoder` gives them.
        channels: replaces its own `audio.channels`, if not None.
    """
    from asr import checkpoint
    from asr.recognizer import pick_device

    audio = {"channels": channels, "max_duration_s": arguments.max_duration_s}
    recognizer = checkpoint.load(
        arguments.model,
        pick_device(arguments.device),
        audio={key: value for key, value in audio.items() if value is not None},
        decode=decode,
    )
    require_lm(recognizer.config.decode, decode)
    decoder = recognizer.decoder  # loaded now: an error is better reported before an hour of encoding than after it
    if decoder.config.decoder == "beam":
        print(f"decoder: {decoder}", file=sys.stderr)
    if "lm" in decode:
        _note_weights(arguments.model, decode)
    return recognizer


def _note_weights(folder: Path, given: dict[str, Any]) -> None:
    """Print a note where `--lm` is used with the weights of the run's own language model."""
    from asr import checkpoint

    own = resolve_decode(checkpoint.load_config(folder).decode, folder)
    kept = [f"{name} {getattr(own, name):g}" for name in ("alpha", "beta") if name not in given]
    if own.lm and kept and Path(own.lm) != Path(given["lm"]):
        print_note(
            f"{' and '.join(kept)} {'is' if len(kept) == 1 else 'are'} what {folder} has for {own.lm}; "
            "another language model may need other weights: give --alpha and --beta, or run asr tune"
        )
