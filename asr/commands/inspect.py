"""`asr inspect`: what a model does with a recording, or how long it remembers on the recordings of a manifest."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asr.commands.common import CHANNELS, print_note, require_html
from asr.commands.recordings import note_if_averaged
from asr.errors import ConfigError
from asr.files import is_called_manifest, require_folder
from asr.lines import in_columns
from asr.pictures.page import PAGE

if TYPE_CHECKING:
    from asr.manifest import Utterance
    from asr.recognizer import Recognizer

_OF_MANIFEST = ("memory.json", "half_lives.*", "reach.*")  # what is written beside the page
_OF_RECORDING = ("overview.*", "layer*-forward.*", "layer*-backward.*")
_UTTERANCES = 50  # more move the medians by less than one frame
# What is drawn of each kind of cell; `candidate` and `hidden` of an LSTM can be asked for.
_DRAWN = {
    "lstm": ("input", "forget", "output", "cell"),
    "gru": ("reset", "update", "hidden"),
    "rnn": ("hidden",),
}

_INSPECT = """For a recording: draws its waveform, log-mel energies, posteriors and words, and the gates and states of
every layer, as pictures (PNG, SVG) and a page (index.html). For a manifest: measures how long the model remembers, as
half-lives of its units and as the reach of its outputs into the input, in a table, pictures, a page and memory.json."""


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr inspect`."""
    parser.description = _INSPECT
    parser.add_argument("source", type=Path, metavar="AUDIO", help="an audio file, or a manifest (NAME.jsonl)")
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="folder for the pictures")
    parser.add_argument("--channels", choices=("auto", "first", "mean"), help=CHANNELS)
    one = parser.add_argument_group("for a recording")
    one.add_argument("--text", metavar="WORDS", help="what is said in it, to show where the model went wrong")
    one.add_argument("--from", dest="start_s", type=float, metavar="S", help="where to begin, in seconds (0)")
    one.add_argument(
        "--to", dest="end_s", type=float, metavar="S", help="where to end, in seconds; at most 30 s are shown"
    )
    names = (
        "what to draw, joined by commas: of an LSTM input,forget,output,cell (the default), candidate, hidden; of a "
        "GRU reset,update,hidden"
    )
    one.add_argument("--gates", metavar="NAMES", help=names)
    many = parser.add_argument_group("for a manifest")
    many.add_argument(
        "--utterances",
        type=int,
        metavar="N",
        help=f"how many to measure, evenly spread over the manifest, at most 30 s of each ({_UTTERANCES})",
    )
    parser.set_defaults(run=_inspect)


def _inspect(arguments: argparse.Namespace) -> int:
    of_manifest = is_called_manifest(arguments.source)
    _check_flags(arguments, of_manifest)
    require_folder(arguments.out)
    _require_own(arguments.out, _OF_MANIFEST if of_manifest else _OF_RECORDING)
    _check_libraries()
    from asr import checkpoint

    audio = {} if arguments.channels is None else {"channels": arguments.channels}
    recognizer = checkpoint.load(arguments.model, audio=audio)
    return _memory(arguments, recognizer) if of_manifest else _recording(arguments, recognizer)


def _require_own(folder: Path, names: Sequence[str]) -> None:
    """ConfigError where a page or, in a folder without a page of ours, one of the other files would be replaced."""
    require_html("--out", folder / PAGE)
    foreign = [] if (folder / PAGE).exists() else sorted(path for name in names for path in folder.glob(name))
    if foreign:
        raise ConfigError(
            f"{foreign[0]}: exists already, without a page of asr beside it; --out chooses another folder"
        )


def _check_flags(arguments: argparse.Namespace, of_manifest: bool) -> None:
    """ConfigError where a flag does not go with the source, or has a value that makes no sense."""
    idle = {"text": "--text", "start_s": "--from", "end_s": "--to", "gates": "--gates"}
    if not of_manifest:
        idle = {"utterances": "--utterances"}
    for name, flag in idle.items():
        if getattr(arguments, name) is not None:
            kind = "a manifest" if of_manifest else "a recording (a manifest is called NAME.jsonl)"
            raise ConfigError(f"{arguments.source}: {flag} does nothing for {kind}")
    for flag, value in (("--from", arguments.start_s), ("--to", arguments.end_s)):
        if value is not None and not 0 <= value < math.inf:
            raise ConfigError(f"{flag} must be a number of seconds from 0 on, found {value:g}")
    if arguments.utterances is not None and arguments.utterances < 1:
        raise ConfigError(f"--utterances must be at least 1, found {arguments.utterances}")


def _check_libraries() -> None:
    """ConfigError where a drawing library is missing: before the model is loaded and run, not after."""
    try:
        import asr.pictures.memory_page
        import asr.pictures.recording_page  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name == "torch":
            raise
        raise ConfigError(
            f"asr inspect draws with {error.name}, which is not installed: pip install matplotlib librosa scipy"
        ) from error


def _recording(arguments: argparse.Namespace, recognizer: "Recognizer") -> int:
    from asr.inspection import inspect_recording
    from asr.pictures.recording_page import write_recording

    shown = inspect_recording(
        recognizer, arguments.source, start_s=arguments.start_s or 0.0, end_s=arguments.end_s, reference=arguments.text
    )
    names = _DRAWN[recognizer.config.encoder.cell]
    if arguments.gates is not None:
        names = tuple(name.strip() for name in arguments.gates.split(","))
    files = write_recording(shown, names, arguments.out)
    print(f"{arguments.source}: {shown.part}: {shown.hypothesis.text or '(nothing was heard)'}")
    if shown.counts is not None:
        print(f"{shown.counts.errors} errors in {shown.counts.reference} words")
    for line in shown.unknown:
        print_note(f"--text: {line}")
    note_if_averaged(arguments.source, recognizer)
    if shown.end_s < shown.total_s and arguments.end_s is None:
        print_note("no more than this is shown at once; --from and --to choose another part")
    print(f"{files[0]}: the page; {len(files) // 2} pictures beside it, as PNG and SVG")
    return 0


def _memory(arguments: argparse.Namespace, recognizer: "Recognizer") -> int:
    from asr.manifest import read_manifest, require_audio
    from asr.memory import measure
    from asr.pictures.memory_page import MEMORY_HEAD, memory_rows, reach_line, write_memory

    utterances = _spread(read_manifest(arguments.source, with_texts=False), arguments.utterances or _UTTERANCES)
    require_audio(utterances)
    measured = measure(recognizer, utterances)
    about = f"{arguments.model} on {len(utterances)} utterances of {arguments.source}, {measured.audio_s:.0f} s"
    files = write_memory(measured, about, arguments.out)
    print(about)
    if measured.half_lives:
        print("\n".join(in_columns([MEMORY_HEAD, *memory_rows(measured.half_lives)])))
    else:
        print(f"no half-lives: encoder.cell={recognizer.config.encoder.cell} has no gate that forgets")
    print(reach_line(measured.reach))
    print(f"{files[0]}: the page; {files[1]}: all figures")
    return 0


def _spread(utterances: Sequence["Utterance"], count: int) -> list["Utterance"]:
    """`count` evenly spread utterances, or all if there are fewer."""
    count = min(count, len(utterances))
    return [utterances[place * len(utterances) // count] for place in range(count)]
