"""`asr lm`: train, grammar, perplexity, info and compile."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from asr.commands.common import print_line, print_note, require_free
from asr.errors import ConfigError, DecodeError
from asr.lines import read_text
from asr.lm.text import SPECIAL, UNITS, unnormalised

if TYPE_CHECKING:
    from asr.decode.lm import NGram

_TRAIN = """Estimates an n-gram model (interpolated modified Kneser-Ney, Chen and Goodman 1998) as KenLM's lmplz does
and writes it as ARPA. N-grams are sorted by order, then by their words, which rank by where they first occur in the
text; so the same text gives the same file. If the counts of an order are not enough to estimate its discounts (few
n-grams, or an artificial text), these are 0.5, 1 and 1.5, and a warning says so."""

_MEMORY = """Everything is held in memory: 40 bytes for each token of the text, or 60 bytes for each different n-gram of
all orders (before pruning), whichever is more. 5 million words with 12 million n-grams need 0.7 GB."""

_UNITS = """word and token: what stands between white space (the two differ only in what the model file says it holds:
token is for text cut into BPE pieces); char: each character, with | for the space (default: %(default)s)"""


_GRAMMAR = """Makes a model that allows the sentences of a grammar and no others, for commands, numbers or forms. Each
line of the file is a sentence, as a regular expression over words: turn (on | off) the (light | fan) please?"""

_RULES = """Operators: ( ) group, | separates alternatives; ? * + {3} {3,7} {3,} after a word or group say how often it
occurs. A line <name> = ... defines a part that other lines use as <name>; one that begins with | goes on with the line
before; # begins a comment; a backslash makes the next sign a letter. Words are written as the recogniser writes."""


def add_lm(parser: argparse.ArgumentParser) -> None:
    """The commands and arguments of `asr lm`."""
    commands = parser.add_subparsers(required=True, metavar="command")

    train = commands.add_parser("train", help="estimate a model from text", description=_TRAIN, epilog=_MEMORY)
    _add_text(train)
    train.add_argument("--order", type=int, required=True, metavar="N", help="words in the longest n-gram")
    train.add_argument("--unit", choices=UNITS, default="word", help=_UNITS)
    train.add_argument(
        "--prune",
        type=int,
        nargs="+",
        default=[0],
        metavar="COUNT",
        help="drop n-grams that occur COUNT times or less in the text: a number for each order from 1 on, the last one "
        "for all higher orders; 0 0 1 drops n-grams of order 3 and higher that occur once (default: 0, drops none)",
    )
    train.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        metavar="LM.arpa[.gz]",
        help="file to write, compressed if its name ends in .gz",
    )
    train.add_argument("--overwrite", action="store_true", help="replace an existing file")
    train.set_defaults(run=_train)

    grammar = commands.add_parser(
        "grammar", help="make a model of the sentences that a grammar allows", description=_GRAMMAR, epilog=_RULES
    )
    grammar.add_argument("grammar", type=Path, help="text file of the grammar")
    grammar.add_argument("--unit", choices=UNITS, default="word", help="what its words are (default: %(default)s)")
    _add_binary(grammar)
    grammar.set_defaults(run=_grammar)

    perplexity = commands.add_parser("perplexity", help="measure how well a model predicts a text")
    _add_model(perplexity)
    _add_text(perplexity)
    perplexity.add_argument("--unit", choices=UNITS, help="what a token is (default: what the model states, else word)")
    perplexity.set_defaults(run=_perplexity)

    info = commands.add_parser("info", help="show orders, counts, unit and memory of a model")
    _add_model(info)
    info.set_defaults(run=_info)

    compiler = commands.add_parser(
        "compile", help="turn ARPA into a binary file that is mapped into memory, not parsed"
    )
    _add_model(compiler)
    _add_binary(compiler)
    compiler.add_argument("--unit", choices=UNITS, help="what a token is, where the ARPA file does not state it")
    compiler.set_defaults(run=_compile)


def _add_text(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text",
        type=Path,
        nargs="+",
        help="UTF-8 text, one sentence a line, plain or gzip; or a manifest (.jsonl), whose texts are read",
    )
    parser.add_argument(
        "--normalize",
        type=Path,
        metavar="RUN",
        help="run folder (or configuration) whose case and punctuation the text gets (default: it keeps its own)",
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="ARPA, plain or gzip, or what `asr lm compile` or `grammar` wrote")


def _add_binary(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="LM.bin", help="file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def _train(arguments: argparse.Namespace) -> int:
    from asr.lm.arpa import write_arpa
    from asr.lm.kneser_ney import FALLBACK, estimate

    require_free(arguments.out, arguments.overwrite, arguments.text)
    normalize = _normalization(arguments)
    model = estimate(arguments.text, arguments.order, unit=arguments.unit, prune=arguments.prune, normalize=normalize)
    shown = unnormalised(model.words[len(SPECIAL) :])
    if shown and normalize is None and arguments.unit != "token":
        print_note(
            f"the text has {shown}; words that differ in these are different words to the model, so the text "
            "must be written as the recogniser writes: --normalize RUN does that"
        )
    if model.fallbacks:
        orders = f"order{'s' if len(model.fallbacks) > 1 else ''} {', '.join(map(str, model.fallbacks))}"
        print_line(
            "warning",
            f"{orders}: too few n-grams (or an artificial text) to estimate discounts from; they are "
            f"{' '.join(f'{value:g}' for value in FALLBACK)}, which is usable",
        )
    write_arpa(model, arguments.out)
    counts = " + ".join(str(len(order.last)) for order in model.orders)
    print(f"{arguments.out}: {counts} n-grams of order 1 to {len(model.orders)}, unit {model.unit}", file=sys.stderr)
    return 0


def _grammar(arguments: argparse.Namespace) -> int:
    from asr.decode.lm import NGram

    require_free(arguments.out, arguments.overwrite, [arguments.grammar])
    text = read_text(arguments.grammar, "grammar", DecodeError)
    model = NGram.from_grammar(text, unit=arguments.unit, name=str(arguments.grammar))
    model.save(arguments.out)
    print(f"{arguments.out}: {_size_of_grammar(model)}", file=sys.stderr)
    return 0


def _size_of_grammar(model: "NGram") -> str:
    words, states, _ = model.counts
    return f"a grammar of {words - len(SPECIAL)} words and {states + 1} states"


def _perplexity(arguments: argparse.Namespace) -> int:
    from asr.decode.lm import NGram
    from asr.lm.score import agreed_unit, perplexity

    model = NGram.load(arguments.model)
    unit = agreed_unit(model, arguments.unit, arguments.model)
    if unit is None:
        unit = "word"
        print_note(f"{arguments.model} does not state its unit; word is assumed (--unit sets it)")
    print(perplexity(model, arguments.text, unit=unit, normalize=_normalization(arguments)).render(), end="")
    return 0


def _info(arguments: argparse.Namespace) -> int:
    from asr.decode.lm import NGram

    model = NGram.load(arguments.model)
    size = sum(array.nbytes for array in model.arrays)
    memory = f"{size / 1e6:.1f} MB"
    if model.is_grammar:
        print(_size_of_grammar(model))
    else:
        print(f"order: {model.order}")
        for n, number in enumerate(model.counts, start=1):
            print(f"{n}-grams: {number}")
        print(f"vocabulary: {len(model.words)} words, <unk> and those for the ends of a sentence among them")
        memory += f" ({size / sum(model.counts):.1f} bytes an n-gram)"
    print(f"unit: {model.unit or 'not stated'}")
    print(f"memory: {memory}")
    return 0


def _compile(arguments: argparse.Namespace) -> int:
    from asr.decode.lm import NGram
    from asr.lm.score import agreed_unit

    # A binary model may be replaced by itself, with its unit.
    inputs = [arguments.model] if arguments.model.suffix != ".bin" else []
    require_free(arguments.out, arguments.overwrite, inputs)
    model = NGram.load(arguments.model)
    replace(model, unit=agreed_unit(model, arguments.unit, arguments.model)).save(arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB", file=sys.stderr)
    return 0


def _normalization(arguments: argparse.Namespace) -> Callable[[str], str] | None:
    """The function that rewrites the text, if any; ConfigError if what reads configurations is not installed."""
    path: Path | None = arguments.normalize
    if path is None:
        return None
    from asr.config import load
    from asr.text import normalize

    try:
        config = load(path / "config.yaml" if path.is_dir() else path)
    except ImportError as error:  # where only the decoder was installed
        raise ConfigError(f"--normalize needs the package omegaconf: pip install omegaconf ({error})") from error
    return partial(normalize, config=config.text)
