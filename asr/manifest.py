"""Manifests: JSON lines that name an audio segment and its transcript, with the keys that NeMo uses.

One record a line: `audio_filepath` (relative paths resolve against the manifest's folder), `duration` in seconds,
`text`, and optionally `offset` in seconds (default 0), `channel` (0 the first; default: what `audio.channels` says),
`speaker` and `id` (default: the audio's stem, with the offset and the channel when there are any). Other keys
are ignored, unless they look like one of these misspelled.
"""

import difflib
import json
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import AudioError, ManifestError
from asr.files import write_text_atomic
from asr.lines import has_surrogate, json_object, records_of, repeated

_ENDLESS_S = 1e12  # 30,000 years; JSON also spells infinity and integers that no float can hold
KEYS = ("audio_filepath", "duration", "text", "offset", "channel", "speaker", "id")
_OTHERS = ("channels", "n_channels")  # written by other tools and not read here, but no misspellings
_LONGEST_ID = 1000  # characters
_MOVED = (
    "; paths in a manifest are relative to its folder, so one that is moved or joined from others must lie in a folder "
    "as deep as before"
)


@dataclass(frozen=True)
class Utterance:
    """One segment of audio and what is said in it.

    Attributes:
        id: unique in its manifest.
        audio_filepath: resolved path of the audio file.
        duration: length of the segment in seconds, > 0.
        text: transcript as written in the corpus (not normalised).
        offset: start of the segment in the file, in seconds.
        speaker: speaker name, or None when unknown.
        channel: which channel of the file, 0 being the first; None: as `AudioConfig.channels` says.
    """

    id: str
    audio_filepath: Path
    duration: float
    text: str
    offset: float = 0.0
    speaker: str | None = None
    channel: int | None = None


def part_name(name: str, offset: float = 0.0, channel: int | None = None) -> str:
    """The name of a part of a recording: `call@1.5` from 1.5 s on, `call#0` its first channel, `call@1.5#0` both."""
    begins = f"{offset:.6f}".rstrip("0").rstrip(".")
    return name + (f"@{begins}" if offset else "") + ("" if channel is None else f"#{channel}")


def read_manifest(path: Path | str, *, with_texts: bool = True) -> list[Utterance]:
    """Read and validate a manifest; without `with_texts` records need no text.

    Raises:
        ManifestError: the file is missing or empty, a line is not JSON, a key is missing, misspelled or of the wrong
            type, a duration is not positive, a text is empty or an id occurs twice; the message names file and line.
    """
    path = Path(path)
    utterances = records_of(
        path,
        "manifest",
        ManifestError,
        lambda line, where: parse_line(line, where=where, folder=path.parent, with_texts=with_texts),
    )
    if not utterances:
        raise ManifestError(f"{path}: manifest holds no utterance")
    return utterances


def write_manifest(path: Path | str, utterances: Iterable[Utterance]) -> None:
    """Write a manifest atomically; audio paths are stored relative to the manifest's folder.

    Raises:
        ManifestError: an id occurs twice, or an id or a path is not UTF-8, as JSON must be; the message names the
            utterance.
    """
    path, utterances = Path(path), list(utterances)
    twice = repeated(utterance.id for utterance in utterances)
    if twice is not None:
        raise ManifestError(f"{path}: id {twice!r} stands more than once among the utterances")
    write_text_atomic(path, "".join(line_of(utterance, path) + "\n" for utterance in utterances))


def line_of(utterance: Utterance, path: Path, **more: Any) -> str:
    """The record of an utterance in the manifest `path`, for `parse_line`; ManifestError as `write_manifest`.

    `more` are further keys, which `parse_line` does not read.
    """
    record: dict[str, Any] = {
        "id": utterance.id,
        # Through a link to a folder `..` would lead elsewhere; of a file, its name is what users know.
        "audio_filepath": os.path.relpath(
            utterance.audio_filepath.parent.resolve() / utterance.audio_filepath.name, path.parent.resolve()
        ),
        "duration": round(utterance.duration, 6),
        "text": utterance.text,
    }
    for value in (utterance.id, record["audio_filepath"]):
        if has_surrogate(value):
            raise ManifestError(f"{path}: utterance {utterance.id!r}: {value!r} is not UTF-8")
    _require_id(utterance.id, str(path))
    if utterance.offset:
        record["offset"] = round(utterance.offset, 6)
    if utterance.channel is not None:
        record["channel"] = utterance.channel
    if utterance.speaker is not None:
        record["speaker"] = utterance.speaker
    return json.dumps(record | more, ensure_ascii=False)


def require_audio(utterances: Iterable[Utterance], *, some: bool = False) -> None:
    """AudioError where audio files are missing, with `some` only where all are: better now than at their turn."""
    first_of: dict[Path, Utterance] = {}
    for utterance in utterances:
        first_of.setdefault(utterance.audio_filepath, utterance)
    if some and any(map(os.path.exists, first_of)):
        return
    missing = [utterance for path, utterance in first_of.items() if not path.exists()]
    if missing:
        first = missing[0]
        raise AudioError(
            f"{len(missing)} of {len(first_of)} audio files are missing: utterance {first.id}: {first.audio_filepath}"
            + (" and more" if len(missing) > 1 else "")
            + (_MOVED if len(missing) >= len(first_of) / 2 else "")
        )


def hours(utterances: Sequence[Utterance]) -> float:
    """Total duration in hours."""
    return sum(utterance.duration for utterance in utterances) / 3600


def parse_line(line: str, *, where: str, folder: Path, with_texts: bool = True) -> Utterance:
    """Read one record; a ManifestError begins with `where`, and relative audio paths resolve against `folder`.

    Without `with_texts` a record need not have a text.
    """
    try:
        record = json_object(line, where, ManifestError)
    except ManifestError as error:
        raise ManifestError(f"{error}{_hint(line, where)}") from error
    for key in record:
        close = [] if key in (*KEYS, *_OTHERS) else difflib.get_close_matches(key, KEYS, n=1, cutoff=0.8)
        if close:
            raise ManifestError(f"{where}: unknown key {key!r}; did you mean {close[0]!r}?")
    audio = _string(record, "audio_filepath", where)
    if "\0" in audio:
        raise ManifestError(f"{where}: audio_filepath holds a null character: {audio!r}")
    text = _string(record, "text", where) if with_texts else str(record.get("text", ""))
    duration = _seconds(record, "duration", where)
    if duration <= 0:
        raise ManifestError(f"{where}: duration must be positive, found {duration}")
    offset = _seconds(record, "offset", where) if record.get("offset") is not None else 0.0
    if offset < 0:
        raise ManifestError(f"{where}: offset must not be negative, found {offset}")
    channel = record.get("channel")
    if channel is not None and (isinstance(channel, bool) or not isinstance(channel, int) or channel < 0):
        raise ManifestError(f"{where}: channel must be a whole number, 0 for the first, found {channel!r}")
    name = part_name(Path(audio).stem, offset, channel)
    name = name if record.get("id") is None else _string(record, "id", where)
    _require_id(name, where)
    return Utterance(
        id=name,
        audio_filepath=folder / audio,
        duration=duration,
        text=text,
        offset=offset,
        speaker=None if record.get("speaker") is None else _string(record, "speaker", where),
        channel=channel,
    )


def _require_id(name: str, where: str) -> None:
    if "\0" in name or len(name) > _LONGEST_ID:  # names files, and members of archives
        raise ManifestError(f"{where}: id has a null character, or more than {_LONGEST_ID} characters: {name!r:.60}")


def _hint(line: str, where: str) -> str:
    """The end of a message: what to do, if the line is from a table, else nothing."""
    path = where.rpartition(":")[0]
    if path.lower().endswith(".csv") or {"audio", "text"} <= {cell.strip() for cell in line.split(",")}:
        return f"; a table becomes manifests with: asr prepare csv --source {shlex.quote(str(path))} --out DIR"
    return ""


def _string(record: dict[str, Any], key: str, where: str) -> str:
    if key not in record:
        raise ManifestError(f"{where}: key {key!r} is missing")
    value = record[key]
    if not isinstance(value, str):
        raise ManifestError(f"{where}: {key} must be a string, found {value!r}")
    if not value.strip():
        raise ManifestError(f"{where}: {key} is empty")
    if has_surrogate(value):
        raise ManifestError(f"{where}: {key} holds half of a surrogate pair: {value!r}")
    return value


def _seconds(record: dict[str, Any], key: str, where: str) -> float:
    if key not in record:
        raise ManifestError(f"{where}: key {key!r} is missing")
    value = record[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _ENDLESS_S:  # or NaN
        raise ManifestError(f"{where}: {key} must be a number of seconds, found {value!r}")
    return float(value)
