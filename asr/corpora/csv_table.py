"""Your own recordings: CSV files with columns `audio,text` and optionally `speaker`, `offset,duration` and `channel`.

The header row names them in any order, in capitals or not; other columns are ignored, and so are rows of blank cells.
Audio paths are relative to the CSV file, and the path without its suffix is the utterance id; offsets, in seconds, are
added to it as `@1.5` and channels, of which 0 is the first, as `#0`. The source is one CSV file, or a folder with
`train.csv` and optionally `dev.csv` and `test.csv`. A single file is for training unless its name is that of another
split.
"""

import csv
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from asr.corpora.common import END_SLACK_S, SPLITS, Contents, Corpus, find_root, make_utterance, read_lines
from asr.errors import CorpusError
from asr.manifest import Utterance, part_name

_COLUMNS = ("audio", "text", "speaker", "offset", "duration", "channel")


def read(roots: Sequence[Path]) -> Contents:
    """One split for each CSV file.

    Raises:
        CorpusError: no CSV file, a wrong header, a malformed row, or audio that is missing or unreadable.
    """
    if roots[0].is_file():
        files = [roots[0]]
    else:
        root = find_root(roots, lambda folder: bool(_tables(folder)), "CSV file")
        files = _tables(root)
    if len(files) == 1 and files[0].stem not in SPLITS:
        return Contents({"train": _read_file(files[0])})
    for path in files:
        if path.stem not in SPLITS:
            raise CorpusError(f"{path}: of several CSV files each must be named train.csv, dev.csv or test.csv")
        if path.with_suffix(".csv") in files and path.suffix != ".csv":
            raise CorpusError(f"{path}: there is a {path.stem}.csv as well")
    return Contents({path.stem: _read_file(path) for path in files})


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".csv" and not path.name.startswith("._"))


def _read_file(path: Path) -> list[Utterance]:
    lines = read_lines(path)
    rows = csv.reader([line + "\n" for _, line in lines], strict=True)
    utterances = []
    line_of_part: dict[str, int] = {}
    length_s: dict[tuple[str, int | None], float] = {}  # several parts share a recording: each header is read once
    try:
        header = [column.strip().lower() for column in next(rows, [])]
        if not {"audio", "text"} <= set(header) or any(header.count(column) > 1 for column in _COLUMNS):
            raise CorpusError(
                f"{path}: wanted a header with audio,text and perhaps speaker,offset,duration,channel, separated by "
                f"commas, each once; found {','.join(header)!r}"
            )
        for row in rows:
            if not any(cell.strip() for cell in row):  # spreadsheets add such rows
                continue
            where = f"{path}:{lines[rows.line_num - 1][0]}"
            if len(row) != len(header):
                raise CorpusError(f"{where}: wanted {len(header)} fields, found {len(row)}: {row!r}")
            record = dict(zip(header, row, strict=True))
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
            if part in line_of_part:
                raise CorpusError(f"{where}: utterance id {part!r} stands on line {line_of_part[part]} already")
            line_of_part[part] = lines[rows.line_num - 1][0]
            utterances.append(replace(whole, id=part, offset=offset, duration=min(end, whole.duration) - offset))
    except csv.Error as error:
        raise CorpusError(f"{path}:{lines[rows.line_num - 1][0]}: {error}") from error
    return utterances


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
