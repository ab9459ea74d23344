"""Where the transcripts of recordings go: a file for each, which replaces neither another one's nor a recording."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from asr.errors import ConfigError
from asr.manifest import part_name
from asr.sources import Recording, searched
from asr.writers import SUFFIXES, Format


def place_of(recording: Recording) -> Path:
    """The path that the name of a recording's transcript is made from: its file, or its id in a manifest."""
    if isinstance(recording.audio, Path) and not recording.is_segment:
        return recording.audio.with_name(
            part_name(recording.audio.stem, channel=recording.side) + recording.audio.suffix
        )
    folder = recording.audio.parent if isinstance(recording.audio, Path) else Path()
    name = recording.title.replace("/", "_").replace(" ", "-")
    name = f"_{name[1:]}" if name.startswith(".") else name  # not hidden, where the id is a path such as ../a
    return folder / f"{name}.segment"  # the format's suffix replaces it


def destinations(
    recordings: Sequence[Recording], format: Format, *, out: Path | None = None, given: Iterable[str] = ()
) -> list[Path]:
    """Where the transcripts of many recordings are written: under their names, with the format's suffix.

    Args:
        recordings: the same one may be named twice.
        format: decides the suffix.
        out: the folder to write to; None: beside each recording.
        given: the files, folders and patterns that were searched for the recordings; what lies below one of these
            folders keeps its subfolders below `out`. If they are nested, the outermost counts.

    Raises:
        ConfigError: two recordings have the same destination, or a destination is one of the recordings. The message
            names both.
    """
    folders = [folder for folder in map(searched, given) if os.path.isdir(folder)]
    roots = sorted(map(_absolute, folders), key=lambda folder: len(folder.parts))
    found: list[Path] = []
    owners: dict[Path, Recording] = {}
    originals = {_absolute(item.audio): item.audio for item in recordings if isinstance(item.audio, Path)}
    for recording in recordings:
        place = place_of(recording)
        root = next((root for root in roots if _absolute(place).is_relative_to(root)), _absolute(place).parent)
        path = (place if out is None else out / _absolute(place).relative_to(root)).with_suffix(SUFFIXES[format])
        where = _absolute(path)
        if where in originals:
            original = originals[where]
            raise ConfigError(f"{recording.title}: its transcript {path} would overwrite the recording {original}")
        owner = owners.setdefault(where, recording)
        if _part(owner) != _part(recording):
            raise ConfigError(
                f"{owner.title} and {recording.title} would both be written to {path}: give them other names, or "
                "transcribe them separately"
            )
        found.append(path)
    return found


def _part(recording: Recording) -> tuple[Path | bytes, float, float | None, int | None]:
    audio = _absolute(recording.audio) if isinstance(recording.audio, Path) else recording.audio
    return audio, recording.offset_s, recording.duration_s, recording.channel


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # without `..`, but with links as they are: their names are what users know
