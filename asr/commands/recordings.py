"""What commands that transcribe share: finding recordings, setting up the model, and a transcript for each."""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from asr.commands.common import CHANNELS, batch_seconds, load_model, print_error, print_note

if TYPE_CHECKING:
    from asr.pauses import Cutting
    from asr.recognizer import Recognizer
    from asr.sources import Recording
    from asr.transcribe import Failure, Transcriber
    from asr.writers import Made

Result = TypeVar("Result", bound="Made")

_EACH = "each"  # values of --channels
DIALOGUE = "dialogue"


def add_recordings(parser: argparse.ArgumentParser, *, dialogue: bool = False) -> None:
    """Flags that say which audio of the recordings is taken; `dialogue`: `--channels` may be that."""
    more = "; dialogue: the same as one transcript, the turns of all sides in their order" if dialogue else ""
    parser.add_argument(
        "--channels",
        choices=("auto", "first", "mean", _EACH, *([DIALOGUE] if dialogue else [])),
        help=f"{CHANNELS}; each: transcribe every channel by itself, such as the two sides of a call{more}",
    )
    parser.add_argument("--max-duration-s", type=float, help="longest audio accepted (default: a day)")


def add_precision(parser: argparse.ArgumentParser) -> None:
    """`--precision`, which `make_transcriber` reads."""
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "int8"),
        default="auto",
        help="of the encoder: auto is bfloat16 on a CPU with AMX, int8 on other CPUs if onnx and onnxruntime are "
        "installed, else, and for GRU and RNN, float32; log-probabilities differ by a few hundredths (%(default)s)",
    )


def named_recordings(arguments: argparse.Namespace) -> "tuple[list[Recording], list[Path]]":
    """The recordings that the paths of a command name, and the files in its folders that are not audio."""
    from asr.sources import find_recordings

    return find_recordings(arguments.audio, sys.stdin.buffer if sys.stdin else None)


def by_channels(arguments: argparse.Namespace, recordings: "Sequence[Recording]") -> "Sequence[Recording]":
    """The recordings, or with `--channels each` the channels of each."""
    from asr.sources import each_channel

    return list(each_channel(recordings)) if arguments.channels == _EACH else recordings


def note_others(paths: Sequence[Path]) -> None:
    """Print what `asr.sources.find_recordings` left out."""
    if paths:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        print_note(f"left out, not named like an audio file: {paths[0]}{more}")


def make_transcriber(
    arguments: argparse.Namespace, decode: dict[str, Any], cutting: "Cutting | None" = None
) -> "Transcriber":
    """The model of `--model` with the flags of `add_precision`, `add_compute` and `add_recordings`.

    Args:
        arguments: the flags.
        decode: as for `load_model`.
        cutting: as for `Transcriber`.
    """
    from asr.audio import LONGEST_S
    from asr.transcribe import Transcriber

    batch_s = batch_seconds(arguments)
    return Transcriber(
        load_model(arguments, decode, None if arguments.channels in (_EACH, DIALOGUE) else arguments.channels),
        batch_s=batch_s,
        cutting=cutting,
        longest_s=LONGEST_S if arguments.max_duration_s is None else arguments.max_duration_s,
        precision=arguments.precision,
    )


def transcripts_of(
    transcriber: "Transcriber", results: "Iterable[Result | Failure]", count: int
) -> "Iterator[Result | None]":
    """What the model made of each recording, or None where it failed and the error was printed.

    There is a bar on a terminal.

    Args:
        transcriber: the model.
        results: of its `transcribe_all` or `dialogues`.
        count: how many there are.
    """
    from asr.progress import Progress
    from asr.transcribe import Failure

    started, audio_s = time.perf_counter(), 0.0
    with Progress(count if count > 1 else 0, "file") as progress:
        for result in results:
            if isinstance(result, Failure):
                print_error(result.error)
                yield None
            else:
                audio_s += result.duration_s
                yield result
            speed = audio_s / (time.perf_counter() - started)
            progress.step({"audio": f"{audio_s / 3600:.2f} h", "speed": f"{speed:.0f}x"})
    if transcriber.averaged:
        _note_averaged(f"{transcriber.averaged} recordings", f"--channels {_EACH} transcribes them separately")


def note_if_averaged(path: Path, recognizer: "Recognizer") -> None:
    """Print that a recording's two channels were averaged, if they were and `--channels` did not ask for it."""
    from asr import audio

    with audio.opened(path) as opened:
        if opened.averages(recognizer.config.audio):
            _note_averaged(str(path), "--channels first takes the first alone")


def _note_averaged(whose: str, remedy: str) -> None:
    print_note(f"the two channels of {whose} were averaged; if they are the sides of a call, {remedy}")
