"""`asr label`."""

import argparse
import sys
from pathlib import Path

from asr.commands.common import FAILED, PARTLY_FAILED, add_audio, add_compute, add_decoder
from asr.commands.transcribe import add_precision, make_transcriber, results_of
from asr.errors import ConfigError

_LABEL = """Writes a manifest to train on of recordings that have no transcripts: what a model hears in them, where it
is confident. PATH is an audio file, a folder (searched for audio), a pattern in quotes, or a manifest (.jsonl), whose
texts are not read. What is less certain is left out, and written to MANIFEST's name with .left in it."""


def add_label(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr label`."""
    parser.description = _LABEL
    parser.add_argument("audio", nargs="+", metavar="PATH", help="recordings")
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="MANIFEST", help="manifest to write (.jsonl)")
    parser.add_argument(
        "--min-confidence", type=float, default=0.9, metavar="X", help="of an utterance, 0 to 1 (%(default)s)"
    )
    add_precision(parser)
    add_compute(parser)
    add_audio(parser, "a day")
    add_decoder(parser)
    parser.set_defaults(run=_label, n_best=1)


def _label(arguments: argparse.Namespace) -> int:
    from asr.label import Labelled, label, left_of, name_of, write_labelled
    from asr.sources import Recording, find_recordings
    from asr.writers import require_writable

    out: Path = arguments.out
    if not 0 <= arguments.min_confidence <= 1:
        raise ConfigError(f"--min-confidence must be in 0..1, found {arguments.min_confidence:g}")
    if out.suffix != ".jsonl":
        raise ConfigError(f"--out {out}: wanted a name that ends in .jsonl")
    read = {Path(argument).resolve() for argument in arguments.audio}
    for path in (out, left_of(out)):
        if path.resolve() in read:
            raise ConfigError(f"--out {out}: {path} is to be read, and would be replaced")
    recordings, _ = find_recordings(arguments.audio, None)
    owners: dict[str, Recording] = {}
    for recording in recordings:
        owner = owners.setdefault(name_of(recording), recording)
        if owner is not recording:
            raise ConfigError(f"{owner.name} and {recording.name} would both be called {name_of(recording)}")
    require_writable(out.parent)
    transcriber = make_transcriber(arguments)
    found: list[Labelled] = []
    failed = 0
    for recording, transcript in zip(recordings, results_of(transcriber, recordings), strict=True):
        if transcript is None:
            failed += 1
        else:
            found += label(recording, transcript)
    if failed == len(recordings):
        return FAILED
    print(f"{out}: {write_labelled(out, found, arguments.min_confidence)}", file=sys.stderr)
    return PARTLY_FAILED if failed else 0
