"""Your own recordings: tables with columns `audio,text` and optionally `speaker`, `offset`, `duration` and `channel`.

The header row names them in any order, in capitals or not; a misspelled one is an error, others are not used, and the
summary lists them. Those that are called otherwise are named by options: `audio=wav_filename text=transcript`. A part
of a recording has its `offset` and its `duration` or `end`, in seconds; without one of these it reaches to the end.

Columns are separated by commas, semicolons or TABs, by which of them the header tells; where it is semicolons, numbers
may have a decimal comma. Rows of blank cells are ignored. Audio paths are relative to the table and may have the
backslashes of Windows, and the path without its suffix is the utterance id; offsets, in seconds, are added to it as
`@1.5` and channels, of which 0 is the first, as `#0`. The source is one table (.csv or .tsv), or a folder with
`train.csv` and optionally `dev.csv` and `test.csv`. A single file is for training unless its name is that of another
split.
"""

import csv
import difflib
import math
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from asr.corpora.common import END_SLACK_S, SPLITS, Contents, Corpus, find_root, listed, make_utterance, read_lines
from asr.errors import CorpusError
from asr.manifest import Utterance, part_name

_SUFFIXES = (".csv", ".tsv")
_SEPARATORS = ",;\t"
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+\.")  # not 1_0, as Python would have it
_SEPARATOR_LINE = re.compile("sep=.")  # above the header, for Excel
_COLUMNS = ("audio", "text", "speaker", "offset", "duration", "end", "channel")
# What other tables call the times of a part, and what holds such a time here.
_OTHER_TIMES = {"start": "offset", "begin": "offset", "from": "offset", "stop": "end", "to": "end"}
_TIMES = ("offset", "duration", "end")
_OVERLAP_S = 0.05  # least that counts: times are rounded


def read(roots: Sequence[Path], **names: str) -> Contents:
    """One split for each table.

    Args:
        roots: a table, or folders of tables.
        names: by what is wanted of `audio`, `text` and so on, the column that holds it, if that is called otherwise.

    Raises:
        CorpusError: no table, a wrong header, a malformed row, a row inside a quotation, or a table of which no row has
            a text and usable audio.
    """
    if roots[0].is_file():
        files = [roots[0]]
    else:
        root = find_root(roots, lambda folder: bool(_tables(folder)), "CSV file")
        files = _tables(root)
    alone = len(files) == 1 and files[0].stem not in SPLITS
    owners: dict[str, Path] = {}
    for path in files:
        if path.stem not in SPLITS and not alone:
            raise CorpusError(f"{path}: of several CSV files each must be named train.csv, dev.csv or test.csv")
        if owners.setdefault(path.stem, path) != path:
            raise CorpusError(f"{path}: there is a {owners[path.stem].name} as well")
    notes: list[str] = []
    missing: list[str] = []
    splits = {"train" if alone else path.stem: _read_file(path, names, notes, missing) for path in files}
    if missing and not all(splits.values()):  # of a table nothing is left
        raise CorpusError(missing[0])
    return Contents(splits, notes=tuple(notes), missing=listed({"rows without a text or usable audio": missing}))


def _tables(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and not path.name.startswith("._"))
    return sorted(found)


@dataclass(frozen=True)
class _Row:
    """The cells of a row by their columns, the line it ends on, and where that is."""

    cells: Mapping[str, str]
    line: int
    where: str


def _read_file(path: Path, names: Mapping[str, str], notes: list[str], missing: list[str]) -> list[Utterance]:
    """The utterances of a table; adds to `notes` what is remarkable, and to `missing` why rows are none."""
    lines = read_lines(path)
    if lines and _SEPARATOR_LINE.fullmatch(lines[0][1]):
        del lines[0]
    header, separator = _header(path, [line + "\n" for _, line in lines], names)
    unused = dict.fromkeys(column for column in header if column and column not in _COLUMNS)
    if unused:
        notes.append(f"{path.name}: columns not used: {', '.join(map(repr, unused))}")
    lengths = {"duration", "end"} & set(header)
    times = {
        column: wanted
        for column, wanted in _OTHER_TIMES.items()
        if column in unused and wanted not in header and not (wanted == "end" and lengths)
    }
    if times:
        options = " ".join(f"{wanted}={column}" for column, wanted in times.items())
        raise CorpusError(
            f"{path}: {', '.join(times)} would not be read, and rows would be all of their audio: {options} says that "
            "they are a part's times in seconds; otherwise call them something else"
        )
    utterances = []
    wheres: list[str] = []
    first_of: dict[str, _Row] = {}  # by id
    length_s: dict[tuple[str, int | None], float] = {}  # several parts share a recording: each header is read once
    for row in _rows(path, lines, header, separator):
        audio, channel = row.cells["audio"], _channel(row)
        where = f"{row.where}: {audio}"
        name = PurePath(audio).with_suffix("").as_posix()
        try:
            whole = make_utterance(
                name,
                path.parent / audio,
                row.cells["text"],
                where=where,
                speaker=unicodedata.normalize("NFC", row.cells.get("speaker", "").strip()) or None,
                duration=length_s.get((audio, channel)),
                channel=channel,
            )
        except CorpusError as error:  # no text or no audio: a table of recordings in the making has many such rows
            missing.append(str(error))
            continue
        length_s[audio, channel] = whole.duration
        offset, duration, end_s = _seconds(row, "offset") or 0.0, _seconds(row, "duration"), _seconds(row, "end")
        if duration is not None and end_s is not None:
            raise CorpusError(f"{where}: has a duration and an end, wanted one of them")
        end = offset + duration if duration is not None else whole.duration if end_s is None else end_s
        if end > whole.duration + END_SLACK_S or not offset < min(end, whole.duration):
            raise CorpusError(
                f"{where}: {offset:g} to {end:g} s is not inside the audio, which is {whole.duration:.3f} s long"
            )
        part = part_name(name, offset, channel)
        first = first_of.setdefault(part, row)
        if first is not row:
            hint, other = "", first.cells["audio"]
            if other != audio:
                hint = f" for {other}: an id is the path without its suffix"
            raise CorpusError(f"{where}: utterance id {part!r} stands on line {first.line} already{hint}")
        utterances.append(replace(whole, id=part, offset=offset, duration=min(end, whole.duration) - offset))
        wheres.append(row.where)
    notes += listed({"rows that overlap an earlier part of their audio": _overlapping(utterances, wheres)})
    return utterances


def _overlapping(utterances: Sequence[Utterance], wheres: Sequence[str]) -> list[str]:
    """Where the utterances stand that begin before another one of the same audio and channel has ended."""
    reached_s: dict[tuple[Path, int | None], float] = {}
    found = []
    for utterance, where in sorted(zip(utterances, wheres, strict=True), key=lambda pair: pair[0].offset):
        heard = utterance.audio_filepath, utterance.channel
        if utterance.offset + _OVERLAP_S <= reached_s.get(heard, 0.0):
            found.append(where)
        reached_s[heard] = max(reached_s.get(heard, 0.0), utterance.offset + utterance.duration)
    return found


def _rows(path: Path, lines: Sequence[tuple[int, str]], header: Sequence[str], separator: str) -> Iterator[_Row]:
    """The rows below the header that hold something, each with a path of audio; CorpusError as `read`."""
    rows = csv.reader([line + "\n" for _, line in lines], delimiter=separator, strict=True)
    try:
        next(rows)
        end_of_row = rows.line_num
        for cells in rows:
            first, end_of_row = end_of_row, rows.line_num
            if not any(cell.strip() for cell in cells):  # spreadsheets add such rows
                continue
            line = lines[end_of_row - 1][0]
            where = f"{path}:{line}"
            if len(cells) != len(header):
                raise CorpusError(f"{where}: wanted {len(header)} fields, found {len(cells)}: {cells!r}")
            others = [cell for column, cell in zip(header, cells, strict=True) if column != "audio"]
            if (held := _held_row(others, path.parent, separator)) is not None:
                raise CorpusError(f"{path}:{lines[first][0]}: the quotation that begins here holds the row {held!r}")
            row = dict(zip(header, cells, strict=True))
            row["audio"] = _slashed(row["audio"].strip(), path.parent)
            if not row["audio"]:
                raise CorpusError(f"{where}: the audio path is empty")
            if not PurePath(row["audio"]).name:
                raise CorpusError(f"{where}: {row['audio']!r} is not the path of a file")
            if separator == ";":  # of spreadsheets in languages with a decimal comma
                row |= {column: row[column].replace(",", ".") for column in _TIMES if column in row}
            yield _Row(row, line, where)
    except csv.Error as error:
        raise CorpusError(f"{path}:{lines[rows.line_num - 1][0]}: {error}") from error


def _header(path: Path, lines: Sequence[str], names: Mapping[str, str]) -> tuple[list[str], str]:
    """The names of the columns, in small letters and without invisible characters, and what separates them.

    Columns that `names` names have the name of what they hold.

    Raises:
        CorpusError: as `read`.
    """
    try:
        split = {separator: next(csv.reader(lines, delimiter=separator), []) for separator in _SEPARATORS}
    except csv.Error as error:
        raise CorpusError(f"{path}: {error}") from error
    separator = max(_SEPARATORS, key=lambda separator: len(split[separator]))
    visible = ("".join(sign for sign in cell if unicodedata.category(sign) != "Cf") for cell in split[separator])
    header = _renamed(path, [cell.strip().lower() for cell in visible], names)
    missing = [column for column in _COLUMNS if column not in header]
    for column in header:
        close = difflib.get_close_matches(column, missing, n=1, cutoff=0.8)
        if close:
            raise CorpusError(f"{path}: unknown column {column!r}; did you mean {close[0]!r}?")
    if not {"audio", "text"} <= set(header) or any(header.count(column) > 1 for column in _COLUMNS):
        hint = "columns called otherwise are named like audio=wav_filename text=transcript"
        if "client_id" in header:
            hint = "a table of Common Voice? asr prepare commonvoice reads those"
        raise CorpusError(
            f"{path}: wanted a header with audio,text and perhaps speaker,offset,duration,end,channel, separated by "
            f"commas, semicolons or TABs, each once; found {separator.join(header)!r}; {hint}"
        )
    return header, separator


def _renamed(path: Path, header: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """The header with columns called as what they hold; one that is called so already, and is not meant, is unnamed."""
    places = {}
    for column, name in names.items():
        wanted = name.strip().lower()
        if wanted not in header:
            raise CorpusError(f"{path}: {column}={name}, but there is no such column; found {', '.join(header)}")
        places[header.index(wanted)] = column
    if len(places) < len(names):
        raise CorpusError(f"{path}: one column cannot hold two of {', '.join(names)}")
    return [places.get(place, "" if cell in names else cell) for place, cell in enumerate(header)]


def _slashed(audio: str, folder: Path) -> str:
    """A path with the slashes of this system, where it has those of Windows and no file is called so."""
    return audio if os.path.isfile(folder / audio) else audio.replace("\\", "/")


def _held_row(cells: Sequence[str], folder: Path, separator: str) -> str | None:
    """A line of a cell with several that names an audio file: a stray quotation mark made a row a part of the cell."""
    for line in (line for cell in cells if "\n" in cell for line in cell.split("\n")):
        if any(os.path.isfile(folder / field.strip()) for field in line.split(separator)):
            return line
    return None


def _seconds(row: _Row, column: str) -> float | None:
    cell = row.cells.get(column, "").strip()
    if not cell:
        return None
    seconds = float(cell) if _NUMBER.fullmatch(cell) else -1.0
    if not 0 <= seconds < math.inf:
        raise CorpusError(f"{row.where}: {row.cells['audio']}: {column} must be 0 or more seconds, found {cell!r}")
    return seconds


def _channel(row: _Row) -> int | None:
    cell = row.cells.get("channel", "").strip()
    if not cell:
        return None
    if not (cell.isascii() and cell.isdigit() and len(cell) < 10):
        raise CorpusError(
            f"{row.where}: {row.cells['audio']}: channel must be a whole number, 0 for the first, or empty; "
            f"found {cell!r}"
        )
    return int(cell)


CSV = Corpus(name="csv", read=read, options=_COLUMNS, file_suffixes=_SUFFIXES)
