"""Kaldi data folders: `wav.scp`, `text`, `utt2spk` and optionally `segments`.

- `wav.scp`: `<recording> <path>`; a relative path resolves against the data folder, then against its parent.
  Reading a corpus never runs a command: from `sph2pipe -f wav -p -c 1 PATH |` and `flac -c -d -s PATH |`, which only
  decode, the file and the channel are taken; other commands (`sox ... |`) are refused.
- `text`: `<utterance> <transcript>`; `utt2spk`: `<utterance> <speaker>`.
- `segments`: `<utterance> <recording> <start> <end> [<channel>]` in seconds, end -1 meaning the end of the recording,
  the first channel being 0. Without it every recording is one utterance.

The source is a data folder, or a folder of data folders. Those named train, dev or test give the split of that name; a
single folder of any other name is for training, and where there are several, each gets a manifest named after it.
"""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from asr.corpora.common import (
    END_SLACK_S,
    SPLITS,
    Contents,
    Corpus,
    audio_duration,
    check_text,
    child_folders,
    find_root,
    read_lines,
)
from asr.errors import CorpusError
from asr.manifest import Utterance

_FLAC_LETTERS = {"--decode": "d", "--stdout": "c", "--silent": "s"}


def read(roots: Sequence[Path]) -> Contents:
    """The splits that the data folders give.

    Raises:
        CorpusError: a file is missing, a line is malformed, or an id stands in one file and not in another.
    """
    root = find_root(
        roots,
        lambda folder: _is_data(folder) or any(_is_data(child) for child in child_folders(folder)),
        "data folder with wav.scp",
    )
    if _is_data(root):
        folders = [root]
    else:
        folders = [child for child in child_folders(root) if _is_data(child) or (child / "text").is_file()]
    for folder in folders:
        if not _is_data(folder):
            raise CorpusError(f"{folder}: has a text and no wav.scp")
    if len(folders) == 1 and folders[0].name not in SPLITS:
        return Contents({"train": read_data_folder(folders[0])})
    return Contents({folder.name: read_data_folder(folder) for folder in folders})


def _is_data(folder: Path) -> bool:
    return (folder / "wav.scp").is_file()


def read_data_folder(folder: Path) -> list[Utterance]:
    """The utterances of one data folder, in the order of `segments` or else of `wav.scp`; CorpusError as `read`."""
    sources = _recordings(folder)
    text_of = _table(folder / "text")
    speaker_of = _table(folder / "utt2spk", fields=1)
    segments = _table(folder / "segments") if (folder / "segments").is_file() else None
    defined = folder / ("wav.scp" if segments is None else "segments")
    names = list(sources) if segments is None else list(segments)
    for table, path in ((text_of, folder / "text"), (speaker_of, folder / "utt2spk")):
        for name in names:
            if name not in table:
                raise CorpusError(f"{path}: utterance {name!r} of {defined} is missing")
        extra = table.keys() - set(names)
        if extra:
            raise CorpusError(f"{path}: utterance {min(extra)!r} is not in {defined}")
    utterances = []
    length_s: dict[_Source, float] = {}  # several segments share a recording, so each header is read once
    for name in names:
        check_text(text_of[name], f"{folder / 'text'}: {name}")
        start, end = 0.0, -1.0
        if segments is None:
            where, recording, source = f"{folder / 'wav.scp'}: {name}", name, sources[name]
        else:
            where = f"{folder / 'segments'}: {name}"
            recording, start, end, channel = _segment(segments[name], where)
            if recording not in sources:
                raise CorpusError(f"{where}: recording {recording!r} is not in {folder / 'wav.scp'}")
            source = sources[recording]
            if channel is not None and source.channel is not None:
                raise CorpusError(f"{where}: names channel {channel} of {recording!r}, which is one channel already")
            source = source if channel is None else source._replace(channel=channel)
        if source not in length_s:
            length_s[source] = audio_duration(source.audio, where=where, channel=source.channel)
        if end > length_s[source] + END_SLACK_S:
            raise CorpusError(f"{where}: ends at {end} s, but {recording!r} is {length_s[source]:.3f} s long")
        end = length_s[source] if end == -1 else min(end, length_s[source])
        if not 0 <= start < end:
            raise CorpusError(f"{where}: wanted 0 <= start < end, found start {start} and end {end}")
        text, speaker = text_of[name].strip(), speaker_of[name]
        utterances.append(Utterance(name, source.audio, end - start, text, start, speaker, source.channel))
    return utterances


class _Source(NamedTuple):
    audio: Path
    channel: int | None


def _recordings(folder: Path) -> dict[str, _Source]:
    """The audio file of each recording, and its channel where it has one of several."""
    sources = {}
    for name, entry in _table(folder / "wav.scp").items():
        where = f"{folder / 'wav.scp'}: {name}"
        path, channel = entry, None
        if entry.endswith("|") or entry.startswith("|"):
            decoded = _decoded(entry)
            if decoded is None:
                raise CorpusError(
                    f"{where}: wanted the path of an audio file, found the command {entry!r}; run it first"
                )
            path, channel = decoded
        if not path:
            raise CorpusError(f"{where}: wanted the path of an audio file, found nothing")
        candidates = [folder / path, folder.parent / path]
        existing = [candidate for candidate in candidates if candidate.is_file()]
        if not existing:
            raise CorpusError(f"{where}: audio file {candidates[0]} is missing, and so is {candidates[1]}")
        sources[name] = _Source(existing[0], channel)
    return sources


def _decoded(command: str) -> tuple[str, int | None] | None:
    """The file and the channel that a command merely decodes; None for one that does anything else."""
    try:
        words = shlex.split(command.removesuffix("|"))
    except ValueError:  # a quotation without an end
        return None
    program = Path(words[0]).name if words else ""
    paths: list[str] = []
    channel = None
    flags: set[str] = set()  # flac's
    rest = iter(words[1:])
    for word in rest:
        if program == "sph2pipe" and word in ("-f", "-c"):
            value = next(rest, "")
            if value not in (("wav", "rif", "sph") if word == "-f" else ("1", "2")):
                return None
            channel = int(value) - 1 if word == "-c" else channel
        elif program == "flac" and word.startswith("-"):
            flags |= {*_FLAC_LETTERS.get(word, word[1:])}
        elif program == "sph2pipe" and word == "-p":
            pass  # samples, whatever the file holds
        elif word.startswith("-"):
            return None
        else:
            paths.append(word)
    decodes = program == "sph2pipe" or (program == "flac" and {*"cd"} <= flags <= {*"cds"})
    return (paths[0], channel) if decodes and len(paths) == 1 else None


def _segment(line: str, where: str) -> tuple[str, float, float, int | None]:
    fields = line.split()
    try:
        recording, start, end = fields[0], float(fields[1]), float(fields[2])
    except (IndexError, ValueError) as error:
        raise CorpusError(f"{where}: wanted a recording, a start and an end in seconds, found {line!r}") from error
    if len(fields) > 4 or (len(fields) == 4 and not re.fullmatch("[0-9]{1,4}", fields[3])):
        raise CorpusError(f"{where}: wanted nothing or a channel (0 for the first) after the end, found {line!r}")
    return recording, start, end, int(fields[3]) if len(fields) == 4 else None


def _table(path: Path, fields: int | None = None) -> dict[str, str]:
    """The rest of each line by its first field; CorpusError where it has not so many `fields`."""
    table: dict[str, str] = {}
    for number, line in read_lines(path):
        name, *rest = line.split(maxsplit=1)
        if name in table:
            raise CorpusError(f"{path}:{number}: {name!r} stands here a second time")
        if fields is not None and len(" ".join(rest).split()) != fields:
            raise CorpusError(f"{path}:{number}: wanted an utterance and its speaker, found {line.strip()!r}")
        table[name] = rest[0].strip() if rest else ""
    return table


KALDI = Corpus(name="kaldi", read=read)
