"""Your own recordings: CSV files with columns `audio,text` and optionally `speaker`, `offset,duration` and `channel`.

The header row names them in any order, in capitals or not; a misspelled one is an error, others are not used, and the
summary lists them. Rows of blank cells are ignored. Audio paths are relative to the CSV file, and the path without its
suffix is the utterance id; offsets, in seconds, are added to it as `@1.5` and channels, of which 0 is the first, as
`#0`. The source is one CSV file, or a folder with `train.csv` and optionally `dev.csv` and `test.csv`. A single file is
for training unless its name is that of another split.
"""

import csv
import difflib
import math
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from asr.corpora.common import END_SLACK_S, SPLITS, Contents, Corpus, find_root, make_utterance, read_lines
from asr.errors import CorpusError
from asr.manifest import Utterance, part_name

_COLUMNS = ("audio", "text", "speaker", "offset", "duration", "channel")
_OTHER_TIMES = ("start", "begin", "from", "end", "stop", "to")  # what other tables call the times of a part


def read(roots: Sequence[Path]) -> Contents:
    """One split for each CSV file.

    Raises:
        CorpusError: no CSV file, a wrong header, a malformed row, a row inside a quotation, or audio that is missing or
            unreadable.
    """
    if roots[0].is_file():
        files = [roots[0]]
    else:
        root = find_root(roots, lambda folder: bool(_tables(folder)), "CSV file")
        files = _tables(root)
    alone = len(files) == 1 and files[0].stem not in SPLITS
    for path in files:
        if path.stem not in SPLITS and not alone:
            raise CorpusError(f"{path}: of several CSV files each must be named train.csv, dev.csv or test.csv")
        if path.with_suffix(".csv") in files and path.suffix != ".csv":
            raise CorpusError(f"{path}: there is a {path.stem}.csv as well")
    notes: list[str] = []
    return Contents({"train" if alone else path.stem: _read_file(path, notes) for path in files}, notes=tuple(notes))


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".csv" and not path.name.startswith("._"))


def _read_file(path: Path, notes: list[str]) -> list[Utterance]:
    """The utterances of a table; adds to `notes` which columns it does not use."""
    lines = read_lines(path)
    rows = csv.reader([line + "\n" for _, line in lines], strict=True)
    utterances = []
    first_of: dict[str, tuple[int, str]] = {}  # line and audio by id
    length_s: dict[tuple[str, int | None], float] = {}  # several parts share a recording: each header is read once
    try:
        header = _header(path, next(rows, []))
        unused = dict.fromkeys(column for column in header if column and column not in _COLUMNS)
        if unused:
            notes.append(f"{path.name}: columns not used: {', '.join(map(repr, unused))}")
        end_of_row = rows.line_num
        for row in rows:
            first, end_of_row = end_of_row, rows.line_num
            if not any(cell.strip() for cell in row):  # spreadsheets add such rows
                continue
            where = f"{path}:{lines[rows.line_num - 1][0]}"
            if len(row) != len(header):
                raise CorpusError(f"{where}: wanted {len(header)} fields, found {len(row)}: {row!r}")
            record = dict(zip(header, row, strict=True))
            held = _held_row([cell for column, cell in zip(header, row, strict=True) if column != "audio"], path.parent)
            if held is not None:
                raise CorpusError(f"{path}:{lines[first][0]}: the quotation that begins here holds the row {held!r}")
            audio = record["audio"].strip()
            if not audio:
                raise CorpusError(f"{where}: the audio path is empty")
            if not PurePath(audio).name:
                raise CorpusError(f"{where}: {audio!r} is not the path of a file")
            name = PurePath(audio).with_suffix("").as_posix()
            speaker = unicodedata.normalize("NFC", record.get("speaker", "").strip()) or None
            where = f"{where}: {audio}"
            channel = _channel(record.get("channel", "").strip(), where)
            whole = make_utterance(
                name,
                path.parent / audio,
                record["text"],
                where=where,
                speaker=speaker,
                duration=length_s.get((audio, channel)),
                channel=channel,
            )
            length_s[audio, channel] = whole.duration
            offset, duration = (_seconds(record, key, where) for key in ("offset", "duration"))
            offset = offset or 0.0
            end = whole.duration if duration is None else offset + duration
            if end > whole.duration + END_SLACK_S or not offset < min(end, whole.duration):
                raise CorpusError(
                    f"{where}: {offset:g} to {end:g} s is not inside the audio, which is {whole.duration:.3f} s long"
                )
            part = part_name(name, offset, channel)
            if part in first_of:
                line, other = first_of[part]
                hint = "" if other == audio else f" for {other}: an id is the path without its suffix"
                times = [column for column in unused if column in _OTHER_TIMES]
                if times and other == audio:
                    hint = f"; {', '.join(times)} are not read: wanted offset and duration, in seconds, for a part"
                raise CorpusError(f"{where}: utterance id {part!r} stands on line {line} already{hint}")
            first_of[part] = lines[rows.line_num - 1][0], audio
            utterances.append(replace(whole, id=part, offset=offset, duration=min(end, whole.duration) - offset))
    except csv.Error as error:
        raise CorpusError(f"{path}:{lines[rows.line_num - 1][0]}: {error}") from error
    return utterances


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    """The names of the columns, in small letters and without invisible characters; CorpusError as `read`."""
    visible = ("".join(character for character in cell if unicodedata.category(character) != "Cf") for cell in cells)
    header = [cell.strip().lower() for cell in visible]
    missing = [column for column in _COLUMNS if column not in header]
    for column in header:
        close = difflib.get_close_matches(column, missing, n=1, cutoff=0.8)
        if close:
            raise CorpusError(f"{path}: unknown column {column!r}; did you mean {close[0]!r}?")
    if not {"audio", "text"} <= set(header) or any(header.count(column) > 1 for column in _COLUMNS):
        raise CorpusError(
            f"{path}: wanted a header with audio,text and perhaps speaker,offset,duration,channel, separated by "
            f"commas, each once; found {','.join(header)!r}"
        )
    return header


def _held_row(cells: Sequence[str], folder: Path) -> str | None:
    """A line of a cell with several that names an audio file: a stray quotation mark made a row a part of the cell."""
    for line in (line for cell in cells if "\n" in cell for line in cell.split("\n")):
        if any(os.path.isfile(folder / field.strip()) for field in line.split(",")):
            return line
    return None


def _seconds(record: Mapping[str, str], key: str, where: str) -> float | None:
    cell = record.get(key, "").strip()
    if not cell:
        return None
    try:
        seconds = float(cell)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise CorpusError(f"{where}: {key} must be 0 or more seconds, found {cell!r}")
    return seconds


def _channel(cell: str, where: str) -> int | None:
    if not cell:
        return None
    if not (cell.isascii() and cell.isdigit() and len(cell) < 10):
        raise CorpusError(f"{where}: channel must be a whole number, 0 for the first, or empty; found {cell!r}")
    return int(cell)


CSV = Corpus(
    name="csv",
    read=read,
    file_suffix=".csv",
)
