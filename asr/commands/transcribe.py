"""`asr transcribe`."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.commands.common import (
    FAILED,
    FORMATS,
    JOINABLE,
    PARTLY_FAILED,
    PERHAPS_YOURS,
    add_compute,
    add_decoder,
    add_n_best,
    batch_seconds,
    flag_of,
    given_decoder,
    given_n_best,
    require_free,
    require_output,
)
from asr.commands.recordings import (
    DIALOGUE,
    add_precision,
    add_recordings,
    by_channels,
    make_transcriber,
    named_recordings,
    note_others,
    transcripts_of,
)
from asr.commands.stream import add_stream, refuse_stream_arguments, run_stream
from asr.errors import ConfigError
from asr.files import exists_already, require_folder, require_writable
from asr.process import launched

if TYPE_CHECKING:
    from asr.process.distributed import World
    from asr.sources import Recording
    from asr.transcribe import Failure
    from asr.writers import Format, Made

_TRANSCRIBE = """Turns audio into text. PATH is an audio file, a folder (searched for audio), a pattern in quotes,
a manifest (.jsonl), or - for standard input: audio, or a list of these, one a line. Without --out or --beside results
go to standard output. Under torchrun the processes share the recordings; when started again, they go on where they
stopped."""
_OF_FILES = ("out", "beside", "skip_existing", "overwrite", "merged", "channels", "max_duration_s")


def add_transcribe(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr transcribe`."""
    parser.description = _TRANSCRIBE
    parser.add_argument("audio", nargs="*", metavar="PATH", help="what to transcribe")
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument(
        "--format",
        type=str.lower,
        choices=FORMATS,
        default="txt",
        help="txt: one line per recording; json: the same with words, times, confidences (%(default)s)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-o", "--out", type=Path, metavar="DIR", help="a file for each recording, in this folder")
    where.add_argument("--beside", action="store_true", help="a file for each recording, beside it")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--skip-existing", action="store_true", help="skip recordings that already have a transcript")
    existing.add_argument("--overwrite", action="store_true", help="replace existing transcripts")
    parser.add_argument(
        "--merged", type=Path, metavar="FILE", help="with --out or --beside: also all transcripts in one file"
    )
    parser.add_argument(
        "--stream", action="store_true", help="take raw samples from standard input, give results as they come"
    )
    add_precision(parser)
    add_n_best(parser)
    add_compute(parser)
    add_recordings(parser, dialogue=True)
    add_decoder(parser)
    add_stream(parser)
    parser.set_defaults(run=_transcribe)


def _transcribe(arguments: argparse.Namespace) -> int:
    batch_seconds(arguments)  # before anything is looked for
    if arguments.stream:
        if arguments.audio not in ([], ["-"]):
            raise ConfigError("--stream reads standard input; leave out PATH")
        idle = [name for name in _OF_FILES if getattr(arguments, name) not in (None, False)]
        if idle:
            raise ConfigError(f"{flag_of(idle[0])} goes with files, not with --stream")
        if arguments.format not in ("txt", "json"):
            raise ConfigError(f"--stream writes txt or json, found --format {arguments.format}")
        if arguments.n_best > 1:
            raise ConfigError(f"--stream gives the best hypothesis alone, found --n-best {arguments.n_best}")
        if arguments.precision not in ("auto", "float32"):
            raise ConfigError(f"--stream computes in float32, found --precision {arguments.precision}")
        return run_stream(arguments)
    refuse_stream_arguments(arguments)
    if not arguments.audio:
        raise ConfigError("give PATH: audio files, folders, manifests, or - for standard input")
    if arguments.channels == DIALOGUE and arguments.n_best > 1:
        raise ConfigError(f"--channels dialogue has no alternatives, found --n-best {arguments.n_best}")
    decode = given_decoder(arguments, *given_n_best(arguments))
    from asr.process.distributed import join, leave

    world = join()
    if world.size > 1 and "-" in arguments.audio:
        raise ConfigError("several processes cannot share standard input: name files, folders, patterns or a manifest")
    named, others = named_recordings(arguments)
    recordings = by_channels(arguments, named)
    others = _without_transcripts(others, recordings)
    if world.leads:
        note_others(others)
    to_files = arguments.out is not None or arguments.beside
    if world.size > 1 and not to_files:
        raise ConfigError("several processes need --out DIR or --beside: each recording becomes a file of its own")
    failed = _to_files(arguments, decode, recordings, world) if to_files else _to_output(arguments, decode, recordings)
    leave()
    if failed == len(recordings):
        return FAILED
    return PARTLY_FAILED if failed else 0


def _without_transcripts(paths: Sequence[Path], recordings: "Sequence[Recording]") -> list[Path]:
    """The files that are not a transcript which `--beside` writes for one of the recordings."""
    from asr.destinations import place_of
    from asr.writers import SUFFIXES

    written = set(SUFFIXES.values())
    owners = {place_of(recording).with_suffix("") for recording in recordings if isinstance(recording.audio, Path)}
    return [path for path in paths if path.suffix not in written or path.with_suffix("") not in owners]


def _to_output(arguments: argparse.Namespace, decode: dict[str, Any], recordings: "Sequence[Recording]") -> int:
    """Print results as they come; returns how many recordings failed."""
    require_output()
    if arguments.merged is not None or arguments.skip_existing or arguments.overwrite:
        raise ConfigError("--merged, --skip-existing and --overwrite go with --out DIR or --beside")
    if len(recordings) > 1 and arguments.format not in JOINABLE:
        raise ConfigError(
            f"{len(recordings)} recordings in one stream of {arguments.format} could not be told apart: --out DIR or "
            "--beside writes a file for each"
        )
    if arguments.format == "ctm":
        _require_ctm_names(arguments, recordings)
    failed = 0
    for recording, result in zip(recordings, _results(arguments, decode, recordings), strict=True):
        if result is None:
            failed += 1
        else:
            print(_shown(recording, result, arguments.format), end="", flush=True)
    return failed


def _to_files(
    arguments: argparse.Namespace, decode: dict[str, Any], recordings: "Sequence[Recording]", world: "World"
) -> int:
    """Write a file for each recording of this process's share; returns how many recordings failed, over all."""
    from asr.destinations import destinations
    from asr.writers import write_transcript

    if arguments.merged is not None and arguments.format not in JOINABLE:
        raise ConfigError(f"--merged joins {', '.join(JOINABLE)}, found --format {arguments.format}")
    if arguments.out is not None:
        require_folder(arguments.out)
    if arguments.beside and any(isinstance(recording.audio, bytes) for recording in recordings):
        raise ConfigError("--beside has no folder for audio from standard input: use --out DIR")
    targets = destinations(recordings, arguments.format, out=arguments.out, given=arguments.audio)
    for folder in {arguments.out} if arguments.out is not None else {target.parent for target in targets}:
        require_writable(folder)
    # As the first process sees it, before any process has written: otherwise shares could overlap.
    there = world.gather([_has(target, recording) for target, recording in zip(targets, recordings, strict=True)])[0]
    goes_on = arguments.overwrite or arguments.skip_existing or world.size > 1 or launched()
    if any(there) and not goes_on:
        raise ConfigError(
            f"{sum(there)} of {len(targets)} files to write exist already, such as {targets[there.index(True)]} "
            f"({PERHAPS_YOURS}): --skip-existing keeps them, --overwrite replaces them"
        )
    if arguments.merged is not None:
        if arguments.format == "ctm":
            _require_ctm_names(arguments, recordings)
        inputs = [*map(Path, arguments.audio), *(item.audio for item in recordings if isinstance(item.audio, Path))]
        _require_place(arguments.merged, inputs, targets, replace=goes_on)
    # Several processes continue where they were, if torchrun restarted them because one of them died.
    skipped = [False] * len(there) if arguments.overwrite else there
    mine = [place for place, skip in enumerate(skipped) if not skip][world.rank :: world.size]
    failed: list[int] = []
    if mine:
        chosen = [recordings[place] for place in mine]
        for place, result in zip(mine, _results(arguments, decode, chosen), strict=True):
            if result is None:
                failed.append(place)
            else:
                write_transcript(result, targets[place], arguments.format)
    failures = {place for share in world.gather(failed) for place in share}
    if arguments.merged is not None and world.leads:
        _merge(arguments, recordings, [None if place in failures else path for place, path in enumerate(targets)])
    return len(failures)


def _results(
    arguments: argparse.Namespace, decode: dict[str, Any], recordings: "Sequence[Recording]"
) -> "Iterator[Made | None]":
    """What was recognised in each recording, or None where it failed and the error was printed."""
    transcriber = make_transcriber(arguments, decode)
    if arguments.channels == DIALOGUE:
        results: Iterator[Made | Failure] = transcriber.dialogues(recordings)
    else:
        results = transcriber.transcribe_all(recordings, n_best=arguments.n_best)
    return transcripts_of(transcriber, results, len(recordings))


def _has(target: Path, recording: "Recording") -> bool:
    try:
        return exists_already(target)
    except OSError as error:  # its name is too long, for example
        raise ConfigError(f"{recording.title}: its transcript {target} cannot be written: {error.strerror}") from error


def _require_ctm_names(arguments: argparse.Namespace, recordings: "Sequence[Recording]") -> None:
    """ConfigError where one CTM file, which has no folders, would have two recordings of a name, or one twice."""
    from asr.sources import each_channel
    from asr.writers import ctm_name

    if arguments.channels == DIALOGUE:  # one recording there is several here
        recordings = list(each_channel(recordings))

    owners: dict[tuple[str, int], Recording] = {}  # by name and channel, as in a CTM file
    for recording in recordings:
        name = ctm_name(recording.name)
        owner = owners.setdefault((name, recording.channel or 0), recording)
        if owner == recording and owner is not recording:
            raise ConfigError(f"{recording.name}: is named twice, and one CTM file can hold it only once")
        if owner != recording:
            raise ConfigError(
                f"{owner.name} and {recording.name} would both be called {name} in one CTM file: --out DIR without "
                "--merged writes a file for each"
            )


def _require_place(merged: Path, inputs: Sequence[Path], targets: Sequence[Path], *, replace: bool) -> None:
    """ConfigError, before hours of work, where the merged file cannot be written or would replace another file."""
    require_free(merged, replace, inputs)
    if merged.resolve() in {target.resolve() for target in targets}:
        raise ConfigError(f"--merged {merged}: is where the transcript of one recording goes")
    require_writable(merged.parent)


def _merge(
    arguments: argparse.Namespace, recordings: "Sequence[Recording]", transcripts: Sequence[Path | None]
) -> None:
    """Write the merged file; a recording that failed has no transcript, or one of an earlier start, and is left out."""
    from asr.files import atomic_path
    from asr.writers import line_of

    with (
        atomic_path(arguments.merged) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        for recording, target in zip(recordings, transcripts, strict=True):
            if target is not None:
                try:
                    text = target.read_text(encoding="utf-8")
                    if arguments.format == "txt":
                        lines = text.splitlines() or [""] if arguments.channels == DIALOGUE else [text]
                        text = "".join(line_of(recording.title, line) for line in lines)
                    elif arguments.format == "json":
                        text = json.dumps(json.loads(text), ensure_ascii=False) + "\n"
                except ValueError as error:  # UnicodeDecodeError is one
                    raise ConfigError(
                        f"{target}: is not a transcript, remove it or use --overwrite: {error}"
                    ) from error
                file.write(text)


def _shown(recording: "Recording", made: "Made", format: "Format") -> str:
    """A transcript or dialogue for standard output, where many may follow one another."""
    from asr.writers import line_of, render

    text = render(made, format)
    return "".join(line_of(recording.title, line) for line in text.splitlines()) if format == "txt" else text
