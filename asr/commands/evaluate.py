"""`asr evaluate`: a manifest recognised and scored."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asr.commands.common import (
    add_audio,
    add_compute,
    add_decoder,
    batch_seconds,
    given_decoder,
    load_model,
    print_note,
)
from asr.errors import ConfigError, ScoringError
from asr.files import require_folder, require_writable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr evaluate`."""
    parser.add_argument("manifest", type=Path, help="manifest of what to recognise, with reference texts")
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        help="folder for hypotheses.jsonl, report.txt, words.jsonl and evaluation.json (default: RUN/<manifest's "
        "name>); results of other utterances are never overwritten",
    )
    parser.add_argument(
        "--emissions", type=Path, metavar="FILE.npz", help="file for the log-probabilities, for asr decode and asr tune"
    )
    add_compute(parser)
    add_audio(parser)
    add_decoder(parser)
    parser.set_defaults(run=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from asr.emissions import require_own_place, write_emissions
    from asr.evaluate import Provenance, emissions_of, evaluate_into, references_of, require_own
    from asr.manifest import read_manifest, require_audio
    from asr.training.state import STATES_FOLDER
    from asr.training.trainset import listed

    if arguments.emissions is not None:
        require_own_place(arguments.emissions)
        require_folder(arguments.emissions.parent)
    if arguments.out is None and arguments.manifest.is_fifo():
        raise ConfigError(
            f"{arguments.manifest}: is a pipe, whose name says nothing: give --out, a folder for the results"
        )
    out = arguments.out or arguments.model / arguments.manifest.stem
    if arguments.out is None and out.name == STATES_FOLDER:
        raise ConfigError(f"{out}: holds the run's training states; --out chooses another folder for the results")
    batch_s = batch_seconds(arguments)
    utterances = read_manifest(arguments.manifest)
    require_audio(utterances)
    recognizer = load_model(arguments, given_decoder(arguments), arguments.channels)
    references = references_of(utterances, recognizer.tokenizer)
    if not any(references.values()):
        raise ScoringError(f"{arguments.manifest}: no text has a word after normalisation; WER needs at least one")
    wordless = [name for name, text in references.items() if not text]
    if wordless:
        print_note(
            f"{len(wordless)} texts have no word after normalisation, so every word recognised there is an insertion: "
            f"{listed(wordless, 3)}"
        )
    require_own(out, arguments.manifest, references)
    for folder in {out} if arguments.emissions is None else {out, arguments.emissions.parent}:
        require_writable(folder)
    keep: dict[str, NDArray[np.float32]] | None = None if arguments.emissions is None else {}
    made = Provenance.of(arguments.manifest, recognizer.config.decode)
    print(evaluate_into(out, utterances, recognizer, made, batch_s=batch_s, keep=keep).split("\n", 1)[0])
    if keep is not None:
        write_emissions(arguments.emissions, emissions_of(utterances, keep, recognizer))
    print(f"{out}: hypotheses.jsonl, report.txt, words.jsonl, evaluation.json", file=sys.stderr)
    return 0
