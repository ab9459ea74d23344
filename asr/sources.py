"""What a command is asked to transcribe: files, folders, patterns, manifests, lists and standard input, one by one."""

import codecs
import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from asr.audio import opened
from asr.errors import AudioError
from asr.files import AUDIO_SUFFIXES, files_below, is_called_audio, is_called_manifest
from asr.manifest import part_name, read_manifest, require_audio

# How audio begins in the containers that can come through a pipe; anything else on standard input is a list of paths.
# The last ones, of WebM, AMR and MP4, are refused when they are opened.
AUDIO_START = re.compile(
    rb"RIF[FX]|RF64|fLaC|OggS|ID3|NIST_1A|FORM|\.snd|riff|caff\0|Creative Voice File\x1a"
    rb"|\x1aE\xdf\xa3|#!AMR|\0...ftyp",
    re.DOTALL,
)
_MP3_STARTS = (b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2", b"\xff\xe3", b"\xff\xe2")  # none is UTF-8
_FIRST_BYTES = 4096  # no path is longer
_MAX_BYTES = 4_000_000_000


@dataclass(frozen=True)
class Recording:
    """Something to transcribe.

    Attributes:
        name: what messages and results call it; for a file its path as given.
        audio: path of the audio file, or the content of one.
        offset_s, duration_s: the segment of it; None: to the end.
        speaker: whose voice it is, if a manifest says so.
        channel: which channel, 0 being the first; None: as `AudioConfig.channels` says.
        split: whether there are several with the same name, told apart by their channels.
    """

    name: str
    audio: Path | bytes
    offset_s: float = 0.0
    duration_s: float | None = None
    speaker: str | None = None
    channel: int | None = None
    split: bool = False

    @property
    def is_segment(self) -> bool:
        """Whether it is a part of the file, as a manifest names it."""
        return self.offset_s > 0 or self.duration_s is not None

    @property
    def side(self) -> int | None:
        """The channel if that tells it from others of the same name, else None."""
        return self.channel if self.split else None

    @property
    def title(self) -> str:
        """Its name, with the channel if that tells it from others."""
        return part_name(self.name, channel=self.side)


def find_recordings(arguments: Sequence[str], stdin: BinaryIO | None) -> tuple[list[Recording], list[Path]]:
    """The recordings that a command's arguments name, in order; then files left out because of their names.

    An argument is a file, a folder (every audio file below it, sorted), a pattern such as `calls/**/*.wav` (if no file
    has that name), a manifest (`.jsonl`: its utterances), or `-`: standard input, which is audio or a list of all
    these, one a line.

    Raises:
        AudioError: a folder or pattern gives no audio file, or a manifest none that exists, or a folder cannot be read.
            (Any other missing file is reported when its turn comes, so that the others are done.)
        ManifestError: as `read_manifest`.
    """
    found: list[Recording] = []
    others: list[Path] = []
    if arguments.count("-") > 1:
        raise AudioError("standard input: is named twice")
    for argument in arguments:
        if not argument:  # to pathlib the current folder; more likely a variable without a value
            raise AudioError("a path is empty: name a file or folder (. is the current folder)")
        if argument == "-":
            if stdin is None:
                raise AudioError("standard input: is closed")
            start = stdin.read(_FIRST_BYTES)
            first_line = start.split(b"\n", 1)[0].removesuffix(b"\r")  # a file may be called FORM-1.wav
            is_audio = AUDIO_START.match(start) or start.startswith(_MP3_STARTS)
            if is_audio and not os.path.exists(first_line):
                content = start + stdin.read(_MAX_BYTES)
                if len(content) > _MAX_BYTES:
                    raise AudioError(f"standard input: more than {_MAX_BYTES} bytes of audio")
                found.append(Recording("standard input", content))
                continue
            text = (start + stdin.read()).removeprefix(codecs.BOM_UTF8)
            if b"\0" in text:  # no file name holds one; `find -print0` separates with it
                raise AudioError(
                    f"standard input: byte {text.index(0)} is null: neither audio in a known container nor a list of "
                    "paths, one a line (--stream takes raw samples)"
                )
            lines = os.fsdecode(text).split("\n")
            listed = [line.removesuffix("\r") for line in lines if line.strip()]
            if not listed:
                raise AudioError("standard input: neither audio nor a list of paths")
            if "-" in listed:
                raise AudioError("standard input: the list names standard input itself")
            inside, left = find_recordings(listed, stdin)
        elif is_called_manifest(Path(argument)):
            inside, left = list(_of_manifest(Path(argument))), []
        else:
            paths, left = find_audio(_matches(argument))
            if glob.has_magic(argument):  # `**` gives a folder, and what is below it again
                named = dict.fromkeys(paths)
                paths, left = list(named), [path for path in dict.fromkeys(left) if path not in named]
            inside = [Recording(str(path), path) for path in paths]
        found += inside
        others += left
    return found, others


def _of_manifest(path: Path) -> Iterator[Recording]:
    utterances = read_manifest(path, with_texts=False)
    require_audio(utterances, some=True)
    for utterance in utterances:
        yield Recording(
            utterance.id,
            utterance.audio_filepath,
            utterance.offset,
            utterance.duration,
            utterance.speaker,
            utterance.channel,
        )


def each_channel(recordings: Iterable[Recording]) -> Iterator[Recording]:
    """Replace recordings of several channels by one for each channel; the others stay as they are.

    A recording for which a manifest names the channel stays as it is, and so does one that cannot be opened: the reason
    is reported when its turn comes.
    """
    for recording in recordings:
        channels = 1
        if recording.channel is None:
            with suppress(AudioError), opened(recording.audio) as audio:
                channels = audio.file.channels
        if channels == 1:
            yield recording
            continue
        for channel in range(channels):
            yield replace(recording, channel=channel, split=True)


def _matches(argument: str) -> list[str]:
    if not glob.has_magic(argument) or os.path.lexists(argument):
        return [argument]
    found = sorted(glob.glob(argument, recursive=True))
    if not found:
        raise AudioError(f"{argument}: no file matches this pattern")
    return found


def searched(argument: str) -> Path:
    """The folder that an argument's files are found in: itself, or what comes before the first wildcard."""
    if not glob.has_magic(argument) or os.path.lexists(argument):
        return Path(argument)
    parts = Path(argument).parts
    return Path(*parts[: next(place for place, part in enumerate(parts) if glob.has_magic(part))])


def find_audio(paths: Iterable[Path | str]) -> tuple[list[Path], list[Path]]:
    """The files named, and for a folder every audio file below it, sorted; then the folders' other files.

    Raises:
        AudioError: a folder holds no audio file, or one below it cannot be read. (A missing file is left to
            `transcribe`, so that others go on.)
    """
    found: list[Path] = []
    others: list[Path] = []
    for path in map(Path, paths):
        if not os.path.isdir(path):  # unlike Path.is_dir, no error if the path cannot be looked up
            found.append(path)
            continue
        inside = files_below(path, AudioError)
        by_name = [child for child in inside if is_called_audio(child)]
        if not by_name:
            raise AudioError(f"{path}: no audio file in this folder (looked for {', '.join(AUDIO_SUFFIXES)})")
        found += by_name
        others += [child for child in inside if not is_called_audio(child)]
    return found, others
