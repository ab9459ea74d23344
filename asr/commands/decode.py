"""`asr decode`: decodes log-probabilities from files, without loading torch."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asr.commands.common import (
    FORMATS,
    JOINABLE,
    add_decoder,
    add_n_best,
    decode_config,
    flag_of,
    given_decoder,
    given_n_best,
    print_note,
    require_new,
)
from asr.errors import ConfigError, DecodeError
from asr.files import file_name_of, require_folder, require_writable, write_text_atomic

if TYPE_CHECKING:
    from asr.config import DecodeConfig
    from asr.decode import Hypothesis
    from asr.decoding import Decoder
    from asr.emissions import Emissions, Vocabulary
    from asr.writers import Format

_AT_ONCE = 256  # utterances decoded before the first of them is printed
_RISK_OVER = 20  # hypotheses of each model with --combine mbr; with 10 and 100 dev errors of AN4 were within one

_DECODE = """Decodes log-probabilities of any CTC model. EMISSIONS.npz holds a matrix (T, V) of natural-log
probabilities for each utterance id, EMISSIONS.npy that of one utterance, and a JSON file says what they mean: labels (V
texts), blank (index), space (index or text), frame_s (seconds) and, where they are known, refs (id -> text). `asr
evaluate --emissions` writes both. For a file without JSON give --labels FILE.txt. Several files are an ensemble: the
mean of their log-probabilities is decoded; with --combine mbr each model is decoded by itself, and the result is the
one of all their hypotheses that has the fewest expected word errors. Without the audio a word has the times of its
labels, which lie anywhere inside its sounds: `asr transcribe` knows better when words begin and end."""
_TIMELESS = ("txt", "json")  # formats that can do with frames for times


def add_decode(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr decode`."""
    parser.description = _DECODE
    parser.add_argument(
        "emissions",
        type=Path,
        nargs="+",
        metavar="EMISSIONS",
        help="log-probabilities; several files: those of several models for the same utterances",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="what the columns of all files mean: JSON as above, text with one label a line, <space> for the space, or "
        "HuggingFace's vocab.json (default: the JSON beside EMISSIONS)",
    )
    parser.add_argument(
        "--blank",
        type=_index_or_label,
        metavar="BLANK",
        help="the blank, where --labels are labels alone: its index, from the end if negative, or the label (0)",
    )
    parser.add_argument(
        "--space", metavar="LABEL", help='label that separates words, where --labels are labels alone (" ")'
    )
    parser.add_argument(
        "--frame-s", type=float, metavar="S", help="seconds per frame, where --labels are labels alone (1)"
    )
    parser.add_argument(
        "--format",
        type=str.lower,
        choices=FORMATS,
        default="txt",
        help="one line per utterance: id TAB text (txt) or JSON; or as `asr transcribe` has it (%(default)s)",
    )
    parser.add_argument("-o", "--out", type=Path, metavar="DIR", help="a file for each utterance, in this folder")
    parser.add_argument("--overwrite", action="store_true", help="with --out: replace existing files")
    parser.add_argument(
        "--combine",
        choices=("mean", "mbr"),
        default="mean",
        help="how to combine several models: by the mean of their log-probabilities, which must have the same labels "
        "and frames, or by minimum Bayes risk over the 20 best hypotheses of each, whatever their labels, which "
        "selects the beam (%(default)s)",
    )
    add_n_best(parser)
    add_decoder(parser)
    parser.set_defaults(run=_decode)


def _index_or_label(text: str) -> int | str:
    return int(text) if text.removeprefix("-").isdecimal() else text


def _decode(arguments: argparse.Namespace) -> int:
    from asr.emissions import Vocabulary
    from asr.writers import line_of

    combine = _combine() if arguments.combine == "mbr" else None
    n_best = arguments.n_best if combine is None else _RISK_OVER
    models = _models_of(arguments)
    names = list(models[0].log_probs)
    frame_s = models[0].vocabulary.frame_s
    stated = [model.vocabulary.frame_s != Vocabulary.frame_s for model in models]
    if len(set(stated)) > 1:  # times come from whichever model finds a text likeliest
        silent = arguments.emissions[stated.index(False)]
        raise ConfigError(f"{silent}: does not say how long a frame is, as the others do: frame_s in its JSON does")
    files = _files_of(arguments, names, frame_s)
    of_beam = [*given_n_best(arguments), *(["--combine mbr"] if combine else [])]
    decoders = _decoders(decode_config(given_decoder(arguments, *of_beam)), models, arguments.emissions)
    texts: dict[str, str] = {}
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        by_model = [
            decoder([model.log_probs[name] for name in some], names=some, n_best=n_best)
            for decoder, model in zip(decoders, models, strict=True)
        ]
        for name, *lists in zip(some, *by_model, strict=True):
            found = lists[0] if combine is None else combine(lists, arguments.n_best)
            texts[name] = found[0].text
            duration_s = len(models[0].log_probs[name]) * frame_s
            if files:
                write_text_atomic(files[name], _rendered(name, found, duration_s, arguments.format))
            elif arguments.format == "txt":
                print(line_of(name, found[0].text), end="")
            else:
                print(_rendered(name, found, duration_s, arguments.format), end="")
    if models[0].refs:
        _print_score(models[0], texts)
    return 0


def _files_of(arguments: argparse.Namespace, names: Sequence[str], frame_s: float) -> dict[str, Path]:
    """The file to write for each utterance; none where all goes to standard output.

    Raises:
        ConfigError: the utterances cannot be written in this format, or to these files.
    """
    from asr.emissions import Vocabulary
    from asr.lines import repeated
    from asr.writers import SUFFIXES, ctm_name

    if arguments.format not in _TIMELESS and frame_s == Vocabulary.frame_s:
        raise ConfigError(
            f"--format {arguments.format} has times, and nothing says how long a frame is: give --frame-s, or frame_s "
            "in the JSON"
        )
    if arguments.out is not None:
        require_folder(arguments.out)
        files = {name: arguments.out / f"{file_name_of(name)}{SUFFIXES[arguments.format]}" for name in names}
        require_writable(arguments.out)
        require_new(list(files.values()), arguments.overwrite)
        return files
    if arguments.overwrite:
        raise ConfigError("--overwrite goes with --out DIR")
    if len(names) > 1 and arguments.format not in JOINABLE:
        raise ConfigError(
            f"{len(names)} utterances in one stream of {arguments.format} could not be told apart: --out DIR writes a "
            "file for each"
        )
    if arguments.format == "ctm" and (twice := repeated(map(ctm_name, names))) is not None:
        raise ConfigError(f"two utterances would be called {twice} in one CTM file: --out DIR writes a file for each")
    return {}


def _rendered(name: str, found: Sequence["Hypothesis"], duration_s: float, format: "Format") -> str:
    """An utterance in a format, from its hypotheses, best first."""
    from asr.transcript import Transcript, facts_of
    from asr.writers import render

    if format == "json":
        return json.dumps({"id": name, **facts_of(found)}, ensure_ascii=False) + "\n"
    return render(Transcript.of(found, duration_s, name), format)


def _print_score(emissions: "Emissions", texts: dict[str, str]) -> None:
    from asr.report import summary_line
    from asr.tune import results_of
    from asr.wer import score

    try:
        print(summary_line(score(results_of(emissions, texts))), file=sys.stderr)
    except ImportError as error:  # where only the decoder is installed
        print_note(f"not scored against the references, which needs the package jiwer: pip install jiwer ({error})")


def _decoders(config: "DecodeConfig", models: Sequence["Emissions"], paths: Sequence[Path]) -> list["Decoder"]:
    """One for each model; the language model is read once."""
    from asr.decoder_files import Resources
    from asr.decoding import Decoder

    found = [Decoder(config, models[0].vocabulary)]
    for model, path in zip(models[1:], paths[1:], strict=False):  # averaged models are one by now
        try:
            resources = Resources.load(config, model.vocabulary, found[0].resources.lm)
            found.append(Decoder(config, model.vocabulary, resources))
        except DecodeError as error:
            raise DecodeError(f"for {path}: {error}") from error
    return found


def _combine() -> Callable[[Sequence[Sequence["Hypothesis"]], int], list["Hypothesis"]]:
    try:
        from asr.combine import combine
    except ImportError as error:  # where only the decoder is installed
        raise ConfigError(f"--combine mbr needs the package rapidfuzz: pip install rapidfuzz ({error})") from error
    return combine


def _models_of(arguments: argparse.Namespace) -> list["Emissions"]:
    """The log-probabilities of each model or, with `--combine mean`, of all of them as one."""
    from asr.emissions import is_description, read_labels
    from asr.ensemble import read_ensemble, read_models

    if arguments.labels is not None and arguments.combine == "mbr" and len(arguments.emissions) > 1:
        raise ConfigError("--labels describes one model; with --combine mbr each file needs its own JSON beside it")
    settings = {key: getattr(arguments, key) for key in ("blank", "space", "frame_s")}
    settings = {key: value for key, value in settings.items() if value is not None}
    labels = arguments.labels
    if labels is None or is_description(labels):
        if settings:
            raise ConfigError(
                f"{flag_of(next(iter(settings)))} goes with --labels that are labels alone; this JSON states its own"
            )
        for path in arguments.emissions:
            beside = path.with_suffix(".json")
            if labels is None and path.is_file() and not beside.is_file():
                raise DecodeError(
                    f"{beside}: is missing; it says what the columns of {path} mean; without it give "
                    "--labels with one label a line, or vocab.json (and --blank, --space, --frame-s)"
                )
        meaning: Vocabulary | Path | None = labels
    else:
        meaning = read_labels(labels, **settings)
    if arguments.combine == "mean":
        return [read_ensemble(arguments.emissions, meaning)]
    return read_models(arguments.emissions, meaning)
