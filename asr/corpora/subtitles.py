"""Recordings with subtitles: audio files, in a folder and those below it, each with NAME.srt or NAME.vtt beside it.

Each cue is an utterance. Its id is the path of the recording without suffix and the cue's place in its file, such as
`talks/a-0001`; its speaker is the one that WebVTT's `<v NAME>` names, or unknown. `NAME#0.srt` is about the first
channel, as `asr transcribe --channels each` names it, and NAME.en.srt, as players name it, may stand for NAME.srt.
Cues without words are left out and counted.
"""

import re
import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from asr.corpora.common import Contents, Corpus, audio_duration
from asr.corpora.cues import read_cues
from asr.errors import CorpusError
from asr.files import files_below, is_called_audio
from asr.manifest import Utterance, part_name

# A cue may stand for so long after its recording has ended; its utterance ends with the recording.
CUE_SLACK_S = 0.5
_MAX_REPEATING = 0.2  # of the cues of a file
_LISTED = 3  # how many a note names of what it counts
_SUFFIXES = (".srt", ".vtt")
_FILMS = (".mp4", ".m4a", ".mkv", ".webm", ".mov", ".avi", ".aac", ".wma")  # what ffmpeg makes audio of
_LANGUAGE = re.compile(r"\.[A-Za-z]{2,3}(?:-[A-Za-z0-9]+)*\Z")
_CHANNEL = re.compile(r"#([0-9]{1,4})\Z")
_BRACKETS = re.compile(r"\[.*\]|\(.*\)|<\w.*>")  # most often about sounds

Side = tuple[str, int | None]  # a recording's path without suffix, and a channel of it, or None for the whole


def read(roots: Sequence[Path]) -> Contents:
    """All cues with words as training utterances.

    Raises:
        CorpusError: nothing is found, a subtitle file is malformed, two files claim to be the same, or audio is
            unreadable or ends before a cue, or captions roll.
    """
    audio: dict[str, Path] = {}
    subtitles: list[Path] = []
    files = files_below(roots[0], CorpusError)
    for path in files:
        if is_called_audio(path):
            other = audio.setdefault(_name(path, roots[0]), path)
            if other != path:
                raise CorpusError(f"{other} and {path} would share their subtitles; rename one, or take it away")
        elif path.suffix.lower() in _SUFFIXES and not path.name.startswith("._"):
            subtitles.append(path)
    of_side: dict[Side, Path] = {}
    alone = []
    for path in subtitles:
        side = _side(_name(path, roots[0]), audio)
        if side is None:
            alone.append(str(path))
            continue
        other = of_side.setdefault(side, path)
        if other != path:
            raise CorpusError(f"{other} and {path} are both subtitles of {audio[side[0]]}; take one away")
    if not of_side:
        raise CorpusError(_no_pair(roots[0], files, subtitles))
    utterances: list[Utterance] = []
    remarks: dict[str, list[str]] = defaultdict(list)
    for (name, channel), path in of_side.items():
        if channel is not None and (name, None) in of_side:
            raise CorpusError(f"{of_side[name, None]} and {path} are both subtitles of {audio[name]}; take one away")
        utterances += _utterances(audio[name], channel, path, part_name(name, channel=channel), remarks)
    named = {name for name, _ in of_side}
    silent = [str(path) for name, path in audio.items() if name not in named]
    missing = {"audio files without subtitles": silent, "subtitle files without audio": alone}
    return Contents({"train": utterances}, notes=_listed(remarks), missing=_listed(missing))


def _name(path: Path, root: Path) -> str:
    """The path without suffix, in Unicode's NFC: systems differ in how they store accents."""
    return unicodedata.normalize("NFC", path.relative_to(root).with_suffix("").as_posix())


def _no_pair(root: Path, files: Sequence[Path], subtitles: Sequence[Path]) -> str:
    """The message where no subtitle file has audio beside it."""
    if not subtitles:
        return f"{root}: found no audio file with NAME.srt or NAME.vtt beside it"
    films = {_name(path, root): path for path in files if path.suffix.lower() in _FILMS}
    for path in subtitles:
        side = _side(_name(path, root), films)
        if side:
            film = films[side[0]]
            command = shlex.join(["ffmpeg", "-i", str(film), str(film.with_suffix(".wav"))])
            return f"{path}: {film.name} is not audio that asr reads: {command}"
    return f"{subtitles[0]}: found no audio file of this name beside it"


def _side(name: str, audio: Container[str]) -> Side | None:
    """What subtitles of this name are about."""
    for stem in (name, _LANGUAGE.sub("", name)):
        channel = _CHANNEL.search(stem)
        if stem in audio:
            return stem, None
        if channel and stem[: channel.start()] in audio:
            return stem[: channel.start()], int(channel[1])
    return None


def _utterances(
    audio: Path, channel: int | None, path: Path, name: str, remarks: Mapping[str, list[str]]
) -> Iterator[Utterance]:
    """The utterances of a subtitle file by their start, named after `name`; adds to `remarks` the ids of some cues."""
    length_s = audio_duration(audio, where=str(path), channel=channel)
    cues = sorted(enumerate(read_cues(path), 1), key=lambda item: item[1].start_s)
    if not cues:
        remarks["subtitle files without a cue"].append(str(path))
    repeating = [f"{name}-{place:04d}" for (_, before), (place, cue) in pairwise(cues) if cue.repeats(before)]
    if len(repeating) > _MAX_REPEATING * len(cues):
        found = f"{len(repeating)} of {len(cues)} cues repeat lines of the ones before"
        wanted = "leave each line in one cue, or put the text into a file for asr align to cut"
        raise CorpusError(f"{path}: rolling captions: {found}; {wanted}")
    remarks["cues that repeat lines of the ones before"] += repeating
    reached_s = 0.0
    for place, cue in cues:
        spoken = f"{name}-{place:04d}"
        if not any(map(str.isalnum, cue.text)):
            remarks["cues without words left out"].append(spoken)
            continue
        if cue.start_s >= length_s or cue.end_s > length_s + CUE_SLACK_S:
            times = f"{cue.start_s:.3f} to {cue.end_s:.3f} s"
            raise CorpusError(f"{path}:{cue.line}: {times} is not inside {audio}, which is {length_s:.3f} s long")
        if cue.start_s < reached_s:
            remarks["cues that overlap an earlier one"].append(spoken)
        if cue.end_s > length_s:
            remarks["cues cut to the end of the audio"].append(spoken)
        if _BRACKETS.search(cue.text):
            remarks["cues with brackets, whose content is taken for words"].append(spoken)
        if _begins_with_name(cue.text):
            remarks["cues that begin with a name and a colon, taken for words"].append(spoken)
        reached_s = max(reached_s, cue.end_s)
        duration_s = min(cue.end_s, length_s) - cue.start_s
        yield Utterance(spoken, audio, duration_s, cue.text, cue.start_s, cue.speaker, channel)


def _begins_with_name(text: str) -> bool:
    """Whether one or two words, as of `Ann:`, `- Ann Lee:` or `Speaker 1:`, and a colon come first."""
    name, colon, _ = text.partition(": ")
    words = name.lstrip("->").split()
    return bool(colon) and len(words) in (1, 2) and words[0][0].isupper() and not words[-1][0].islower()


def _listed(names: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """For each kind how many there are, and the first of them."""
    notes = []
    for kind, found in names.items():
        more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        if found:
            notes.append(f"{kind}: {len(found)} ({', '.join(found[:_LISTED])}{more})")
    return tuple(notes)


SUBTITLES = Corpus(name="subtitles", read=read)
