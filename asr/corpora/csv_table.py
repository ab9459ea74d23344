"""Your own recordings: CSV files with the header row `audio,text`, perhaps `speaker` and `channel`.

Columns may stand in any order, in capitals too, and others are ignored. Audio paths are relative to the CSV file, and
the path without its suffix is the utterance id; a channel, 0 being the first, is added to it as `#0`. The source is one
CSV file, or a folder that holds `train.csv` and perhaps `dev.csv` and `test.csv`. A single file is for training unless
its name is that of another split.
"""

import csv
from collections.abc import Sequence
from pathlib import Path, PurePath

from asr.corpora.common import SPLITS, Corpus, Reading, find_root, make_utterance, read_lines
from asr.errors import CorpusError
from asr.manifest import Utterance


def read(roots: Sequence[Path]) -> Reading:
    """One split for each CSV file.

    Raises:
        CorpusError: no CSV file, a wrong header, a malformed row, or audio that is missing or unreadable.
    """
    if roots[0].is_file():
        files = [roots[0]]
    else:
        root = find_root(roots, lambda folder: any(folder.glob("*.csv")), "CSV file")
        files = sorted(root.glob("*.csv"))
    if len(files) == 1 and files[0].stem not in SPLITS:
        return Reading({"train": _read_file(files[0])})
    for path in files:
        if path.stem not in SPLITS:
            raise CorpusError(f"{path}: of several CSV files each must be named train.csv, dev.csv or test.csv")
    return Reading({path.stem: _read_file(path) for path in files})


def _read_file(path: Path) -> list[Utterance]:
    lines = read_lines(path)
    rows = csv.reader([line + "\n" for _, line in lines], strict=True)
    utterances = []
    try:
        header = [column.strip().lower() for column in next(rows, [])]
        if not {"audio", "text"} <= set(header) or len(set(header)) < len(header):
            raise CorpusError(
                f"{path}: wanted a header with audio,text or audio,text,speaker, separated by commas, each once; found "
                f"{','.join(header)!r}"
            )
        for row in rows:
            where = f"{path}:{lines[rows.line_num - 1][0]}"
            if len(row) != len(header):
                raise CorpusError(f"{where}: wanted {len(header)} fields, found {len(row)}: {row!r}")
            record = dict(zip(header, row, strict=True))
            audio = record["audio"].strip()
            if not audio:
                raise CorpusError(f"{where}: the audio path is empty")
            if not PurePath(audio).name:
                raise CorpusError(f"{where}: {audio!r} is no path of a file")
            name = PurePath(audio).with_suffix("").as_posix()
            speaker = record.get("speaker", "").strip() or None
            where = f"{where}: {audio}"
            channel = _channel(record.get("channel", "").strip(), where)
            utterances.append(
                make_utterance(
                    name if channel is None else f"{name}#{channel}",
                    path.parent / audio,
                    record["text"],
                    where=where,
                    speaker=speaker,
                    channel=channel,
                )
            )
    except csv.Error as error:
        raise CorpusError(f"{path}:{lines[rows.line_num - 1][0]}: {error}") from error
    return utterances


def _channel(cell: str, where: str) -> int | None:
    if not cell:
        return None
    if not (cell.isascii() and cell.isdigit()):
        raise CorpusError(f"{where}: channel must be a whole number, 0 for the first, or empty; found {cell!r}")
    return int(cell)


CSV = Corpus(
    name="csv",
    help="your own recordings: CSV files with the columns audio,text[,speaker][,channel]; needs --source",
    read=read,
    file_suffix=".csv",
)
