"""What every corpus reader shares: the records they return, and the helpers that name the record in an error."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asr.errors import AudioError, CorpusError
from asr.lines import numbered_lines
from asr.manifest import Utterance

SPLITS = ("train", "dev", "test")
# A segment may end this long after its recording, as times are rounded to hundredths; it is cut to the recording.
END_SLACK_S = 0.05
_LISTED = 3  # how many a note names of what it counts


@dataclass(frozen=True)
class Archive:
    """One official archive of a corpus.

    Attributes:
        url: where it is published.
        file: the name it is stored under.
        sha256: published or widely used checksum, or None.
        md5: the same, where only an MD5 is published.
    """

    url: str
    file: str
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True)
class Contents:
    """What a reader found.

    Attributes:
        splits: utterances by split name; the name becomes the manifest's file name.
        counts: numbers found, by what was counted; compared with `Corpus.expected`.
        notes: what the reader decided, for the summary.
        missing: what is not there, each kind with its names; an error unless a partial corpus is allowed.
    """

    splits: dict[str, list[Utterance]]
    counts: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Corpus:
    """One entry of the registry.

    Attributes:
        name: as typed on the command line.
        read: reads the folders that may hold the corpus; takes the options by keyword.
        archives: official archives to download for the given options; empty when there is no official address.
        expected: wanted numbers for the keys of `Contents.counts`; a key that is absent is not checked.
        options: names of the options that `read` and `archives` take.
        file_suffixes: of a single file that the reader takes as its source, as (".csv", ".tsv").
    """

    name: str
    read: Callable[..., Contents]
    archives: Callable[..., tuple[Archive, ...]] = lambda **options: ()
    expected: Mapping[str, int] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    file_suffixes: tuple[str, ...] = ()


def find_root(roots: Sequence[Path], is_root: Callable[[Path], bool], wanted: str) -> Path:
    """The one folder among `roots` and their child folders that is the corpus.

    Archives usually hold one top folder, so a source may be that folder or the one around it.

    Args:
        roots: folders to look in.
        is_root: whether a folder is the corpus.
        wanted: what `is_root` looks for, for the error message.

    Raises:
        CorpusError: no folder fits, or several do.
    """
    for candidates in (list(roots), [child for root in roots for child in child_folders(root)]):
        found = [folder for folder in candidates if is_root(folder)]
        if len(found) > 1:
            raise CorpusError(f"{found[0]} and {found[1]} both hold {wanted}; give one of them as the source")
        if found:
            return found[0]
    raise CorpusError(f"{roots[0]}: found no {wanted}, neither here nor one folder deeper")


def child_folders(folder: Path) -> list[Path]:
    """The folders directly inside a folder, sorted by name."""
    return sorted(child for child in folder.iterdir() if child.is_dir())


def matching(folder: Path, pattern: str) -> list[Path]:
    """The files that match, sorted, without those where macOS keeps facts about another, of its name after `._`."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("._"))


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The non-blank lines of a UTF-8 file with their numbers, counted from 1.

    Raises:
        CorpusError: the file is missing or is not UTF-8.
    """
    return numbered_lines(path, "text", CorpusError)


def listed(names: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """For each kind how many there are, and the first of them."""
    notes = []
    for kind, found in names.items():
        more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        if found:
            notes.append(f"{kind}: {len(found)} ({', '.join(found[:_LISTED])}{more})")
    return tuple(notes)


def make_utterance(
    name: str,
    audio: Path,
    text: str,
    *,
    where: str,
    speaker: str | None = None,
    duration: float | None = None,
    channel: int | None = None,
) -> Utterance:
    """An utterance that covers a whole audio file, or a channel of it, its transcript trimmed at the ends.

    Args:
        name: utterance id.
        audio: path of the audio file.
        text: transcript.
        where: the record's name, for the error message.
        speaker: speaker name, or None when unknown.
        duration: length in seconds where it is known already; else it is read from the header.
        channel: 0 for the first of several; None: the only one, or what `audio.channels` says.

    Raises:
        CorpusError: the transcript is empty, or the audio is missing, unreadable, empty or without that channel.
    """
    check_text(text, where)
    seconds = audio_duration(audio, where=where, channel=channel) if duration is None else duration
    return Utterance(
        id=name, audio_filepath=audio, duration=seconds, text=text.strip(), speaker=speaker, channel=channel
    )


def check_text(text: str, where: str) -> None:
    """Raise CorpusError when a transcript is empty."""
    if not text.strip():
        raise CorpusError(f"{where}: the transcript is empty")


def _nearly(path: Path) -> str:
    """What a message adds about a file whose name only seems to be that of `path`."""
    forms = {form: Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD")}
    there = next((form for form, other in forms.items() if other.is_file()), None)
    if there is not None:
        return f"; its name looks the same in Unicode's form {there}, and that file is there"
    if re.search(r"(?:^|/)[A-Za-z]:/", str(path)):
        return "; a path of Windows with a drive leads nowhere here: write paths relative to the table"
    for part in [path, *path.parents]:  # the file, or a folder on the way to it
        if part.parent.is_dir():
            alike = (other for other in part.parent.iterdir() if other.name.casefold() == part.name.casefold())
            other_case = next(alike, part)
            return "" if other_case.name == part.name else f"; capitals count, and {other_case.name} is there"
    return ""


def audio_duration(path: Path, *, where: str, channel: int | None = None) -> float:
    """Length of an audio file in seconds, from its header.

    Raises:
        CorpusError: the file is missing, or its header shows that `asr.audio` would refuse it: truncated, empty, no
            audio, or not so many channels.
    """
    from asr import audio  # not at the top: it imports torch, and recipes import the corpora before `process.set_up`

    if not path.is_file():
        raise CorpusError(f"{where}: audio file {path} is missing{_nearly(path)}")
    try:
        with audio.opened(path) as opened:
            if channel is not None:
                opened.require_channel(channel)
            return float(opened.frames / opened.file.samplerate)
    except AudioError as error:
        raise CorpusError(f"{where}: {error}") from error
