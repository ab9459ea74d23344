"""`asr label`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asr.commands.common import FAILED, PARTLY_FAILED, add_compute, add_decoder, given_decoder, print_note, require_free
from asr.commands.recordings import (
    add_precision,
    add_recordings,
    by_channels,
    make_transcriber,
    named_recordings,
    note_others,
    transcripts_of,
)
from asr.errors import ConfigError
from asr.files import is_called_manifest, require_writable
from asr.process import launched

if TYPE_CHECKING:
    from asr.sources import Recording

_LABEL = """Writes a training manifest from recordings that have no transcripts: its texts are what a model recognises
in them with confidence. PATH is an audio file, a folder (searched for audio), a pattern in quotes, a manifest (.jsonl),
whose texts are not read, or - for a list of these on standard input. Utterances that are less certain are left out, and
written to a second manifest, whose name is that of MANIFEST with .left in it. Both are written at the end."""


def add_label(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr label`."""
    parser.description = _LABEL
    parser.add_argument("audio", nargs="+", metavar="PATH", help="recordings")
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="MANIFEST", help="manifest to write (.jsonl)")
    parser.add_argument(
        "--without",
        type=Path,
        action="append",
        default=[],
        metavar="MANIFEST",
        help="leave out the audio files of this manifest, such as those of train, dev and test; may be repeated",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing manifests")
    parser.add_argument(
        "--min-confidence",
        type=float,
        default=0.9,
        metavar="X",
        help="lowest confidence of an utterance in MANIFEST, 0 to 1 (%(default)s)",
    )
    add_precision(parser)
    add_compute(parser)
    add_recordings(parser)
    add_decoder(parser)
    parser.set_defaults(run=_label)


def _label(arguments: argparse.Namespace) -> int:
    from asr.label import CUTTING, Labelled, label, require_labelable, write_labelled

    if not 0 <= arguments.min_confidence <= 1:
        raise ConfigError(f"--min-confidence must be in 0..1, found {arguments.min_confidence:g}")
    if launched():
        raise ConfigError("asr label runs as a single process: start it without torchrun")
    _require_place(arguments)
    named, others = named_recordings(arguments)
    note_others(others)
    recordings = by_channels(arguments, _without(arguments.without, named))
    require_labelable(recordings, arguments.out)
    transcriber = make_transcriber(arguments, given_decoder(arguments), CUTTING)
    found: list[Labelled] = []
    failed = 0
    results = transcripts_of(transcriber, transcriber.transcribe_all(recordings), len(recordings))
    for recording, transcript in zip(recordings, results, strict=True):
        if transcript is None:
            failed += 1
        else:
            found += label(recording, transcript)
    if failed == len(recordings):
        return FAILED
    print(f"{arguments.out}: {write_labelled(arguments.out, found, arguments.min_confidence)}", file=sys.stderr)
    return PARTLY_FAILED if failed else 0


def _without(manifests: Sequence[Path], recordings: "Sequence[Recording]") -> "Sequence[Recording]":
    """Leave out recordings whose file is in a manifest; ConfigError where one names none of them, or none is left."""
    from asr.manifest import read_manifest

    places = [item.audio.resolve() if isinstance(item.audio, Path) else None for item in recordings]
    known: set[Path] = set()
    for path in manifests:
        named = {utterance.audio_filepath.resolve() for utterance in read_manifest(path, with_texts=False)}
        if named.isdisjoint(places):
            raise ConfigError(f"--without {path}: names none of the recordings, so it would leave nothing out")
        known |= named
    left = [item for item, place in zip(recordings, places, strict=True) if place not in known]
    if not left:
        raise ConfigError("every recording is in a manifest of --without: none is left to label")
    if manifests:
        print_note(f"{len(recordings) - len(left)} of {len(recordings)} recordings are left out")
    return left


def _require_place(arguments: argparse.Namespace) -> None:
    """ConfigError where the manifests cannot be written, or would replace an input or, unasked, an existing file."""
    from asr.label import left_of

    out: Path = arguments.out
    if not is_called_manifest(out):
        raise ConfigError(f"--out {out}: wanted a name that ends in .jsonl")
    for path in (out, left_of(out)):
        require_free(path, arguments.overwrite, map(Path, (*arguments.audio, *arguments.without)))
    require_writable(out.parent)
