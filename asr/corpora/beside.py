"""Recordings with files beside them that say when what was said: who belongs to whom, and what each file says.

`NAME#0` is about the first channel of NAME, as `asr transcribe --channels each` names it, and NAME.en, as players name
subtitles, or NAME.transcript, as Zoom does, may stand for NAME. What is said without words is left out and counted.
"""

import re
import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from asr.config import TrainConfig
from asr.corpora.common import audio_duration
from asr.errors import CorpusError
from asr.files import files_below, is_called_audio
from asr.manifest import Utterance, part_name

# Something may be said for so long after its recording has ended; its utterance ends with the recording.
SLACK_S = 0.5
_FILMS = (".mp4", ".m4a", ".mkv", ".webm", ".mov", ".avi", ".aac", ".wma")  # what ffmpeg makes audio of
_VERSION = re.compile(r"\.(?:[A-Za-z]{2,3}(?:-[A-Za-z0-9]+)*|transcript)\Z")  # a language; Zoom's .cc and .transcript
_CHANNEL = re.compile(r"#([0-9]{1,4})\Z")
_BRACKETS = re.compile(r"\[.*\]|\(.*\)|\{.*\}|<\w.*>")  # most often about sounds

Side = tuple[str, int | None]  # a recording's path without suffix, and a channel of it, or None for the whole


class Kind(NamedTuple):
    """Files that stand beside recordings.

    Attributes:
        file: what one is called in messages; with an s, what they hold ("subtitle").
        part: what it consists of ("cue").
        suffixes: how they end; capitals or not make no difference.
    """

    file: str
    part: str
    suffixes: tuple[str, ...]


class Annotated(NamedTuple):
    """An audio file, or a channel of it, and the file beside it.

    Attributes:
        name: what ids of its utterances begin with: its path without suffix, and the channel.
        audio: path of the audio file.
        channel: 0 for the first; None for the whole.
        path: the file beside it.
    """

    name: str
    audio: Path
    channel: int | None
    path: Path


class Part(NamedTuple):
    """What is said between two times.

    Attributes:
        id: that of the utterance.
        where: for messages, the file and where it stands there.
        start_s: in seconds.
        end_s: in seconds, after the start.
        text: as it stands there.
        speaker: None if unknown.
        channel: of the recording; None: as the recording has it.
    """

    id: str
    where: str
    start_s: float
    end_s: float
    text: str
    speaker: str | None
    channel: int | None = None


def recordings(root: Path, kind: Kind) -> tuple[list[Annotated], dict[str, list[str]]]:
    """The recordings below a folder with a file of a kind beside each, and names of what has no partner.

    Raises:
        CorpusError: there is none, or two files claim to be the same.
    """
    audio: dict[str, Path] = {}
    beside: list[Path] = []
    suffixes = [suffix.lower() for suffix in kind.suffixes]
    files = files_below(root, CorpusError)
    for path in files:
        if is_called_audio(path):
            other = audio.setdefault(_name(path, root), path)
            if other != path:
                raise CorpusError(f"{other} and {path} would share their {kind.file}s; rename one, or take it away")
        elif path.suffix.lower() in suffixes and not path.name.startswith("._"):
            beside.append(path)
    of_side: dict[Side, Path] = {}
    alone = []
    for path in beside:
        side = _side(_name(path, root), audio)
        if side is None:
            alone.append(str(path))
            continue
        other = of_side.setdefault(side, path)
        if other != path:
            raise CorpusError(f"{other} and {path} are both {kind.file}s of {audio[side[0]]}; take one away")
    if not of_side:
        raise CorpusError(_no_pair(root, files, beside, kind))
    for (name, channel), path in of_side.items():
        if channel is not None and (name, None) in of_side:
            raise CorpusError(f"{of_side[name, None]} and {path} are both {kind.file}s of {audio[name]}; take one away")
    named = {name for name, _ in of_side}
    silent = [str(path) for name, path in audio.items() if name not in named]
    found = [
        Annotated(part_name(name, channel=side), audio[name], side, path) for (name, side), path in of_side.items()
    ]
    return found, {f"audio files without {kind.file}s": silent, f"{kind.file} files without audio": alone}


def _name(path: Path, root: Path) -> str:
    """The path without suffix, in Unicode's NFC: systems differ in how they store accents."""
    return unicodedata.normalize("NFC", path.relative_to(root).with_suffix("").as_posix())


def _no_pair(root: Path, files: Sequence[Path], beside: Sequence[Path], kind: Kind) -> str:
    """The message where no such file has audio beside it."""
    if not beside:
        names = " or ".join(f"NAME{suffix}" for suffix in kind.suffixes)
        return f"{root}: found no audio file with {names} beside it"
    films = {_name(path, root): path for path in files if path.suffix.lower() in _FILMS}
    for path in beside:
        side = _side(_name(path, root), films)
        if side:
            film = films[side[0]]
            command = shlex.join(["ffmpeg", "-i", str(film), str(film.with_suffix(".wav"))])
            return f"{path}: {film.name} is not audio that asr reads: {command}"
    return f"{beside[0]}: found no audio file of this name beside it"


def _side(name: str, audio: Container[str]) -> Side | None:
    """What a file of this name is about."""
    for stem in (name, _VERSION.sub("", name)):
        channel = _CHANNEL.search(stem)
        if stem in audio:
            return stem, None
        if channel and stem[: channel.start()] in audio:
            return stem[: channel.start()], int(channel[1])
    return None


def utterances(
    recording: Annotated, parts: Iterable[Part], kind: Kind, remarks: Mapping[str, list[str]]
) -> Iterator[Utterance]:
    """The utterances of a recording by their start; adds to `remarks` the ids of some.

    Raises:
        CorpusError: the audio is unreadable, lacks a channel, or ends before a part of what is said.
    """
    _, audio, channel, path = recording
    length_s = audio_duration(audio, where=str(path), channel=channel)
    longest_s = TrainConfig().max_utterance_s
    reached_s: defaultdict[int | None, float] = defaultdict(float)  # in each channel
    for part in sorted(parts, key=lambda part: part.start_s):
        heard = channel if part.channel is None else part.channel
        if heard != channel and heard not in reached_s:
            audio_duration(audio, where=part.where, channel=heard)
        if not any(map(str.isalnum, part.text)):
            remarks[f"{kind.part}s without words left out"].append(part.id)
            continue
        if not 0 <= part.start_s < length_s or part.end_s > length_s + SLACK_S:
            times = f"{part.start_s:.3f} to {part.end_s:.3f} s"
            raise CorpusError(f"{part.where}: {times} is not inside {audio}, which is {length_s:.3f} s long")
        if part.start_s < reached_s[heard]:
            remarks[f"{kind.part}s that overlap an earlier one"].append(part.id)
        if part.end_s > length_s:
            remarks[f"{kind.part}s cut to the end of the audio"].append(part.id)
        if _BRACKETS.search(part.text):
            remarks[f"{kind.part}s with brackets, whose content is taken for words"].append(part.id)
        reached_s[heard] = max(reached_s[heard], part.end_s)
        duration_s = min(part.end_s, length_s) - part.start_s
        if duration_s > longest_s:
            remarks[f"{kind.part}s longer than the {longest_s:g} s of train.max_utterance_s"].append(part.id)
        yield Utterance(part.id, audio, duration_s, part.text, part.start_s, part.speaker, heard)
