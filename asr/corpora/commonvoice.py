"""Common Voice (Ardila et al. 2020): sentences that volunteers read aloud, in more than a hundred languages, as MP3.

Layout since release 4 of 2019, below a folder for the language: `clips/<name>.mp3` and TAB-separated tables with a
header, among whose columns are `client_id` (the speaker), `path` (the clip) and `sentence`. Nothing is quoted there:
quotation marks are the text's own, and may lack their partner. But some sentences came from quoted tables: one that is
all inside marks, with the marks inside it doubled, is taken out of them.

`train.tsv`, `dev.tsv` and `test.tsv` share no speaker. `validated.tsv` holds every clip that volunteers found right:
with the option `train=validated`, those of them are for training whose speaker and sentence are neither in dev nor in
test. Of languages with few clips that is often a multiple of `train.tsv`.

Speakers are named by the first 16 of the 128 hexadecimal digits of their `client_id`. There is no address from which
the corpus comes without a login.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from asr.corpora.common import SPLITS, Contents, Corpus, child_folders, find_root, listed, make_utterance, read_lines
from asr.errors import CorpusError
from asr.manifest import Utterance

_COLUMNS = ("client_id", "path", "sentence")
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_SPEAKER_DIGITS = 16


class _Row(NamedTuple):
    """A line of a table."""

    where: str
    speaker: str
    clip: str
    sentence: str


def read(roots: Sequence[Path], *, train: str = "train") -> Contents:
    """The official splits, or dev and test with all other validated clips for training.

    Raises:
        CorpusError: a table or column is missing, a line is malformed, or a clip is unreadable.
    """
    if train not in ("train", "validated"):
        raise CorpusError(f"train must be train or validated, found {train!r}")
    around = [*roots, *(child for root in roots for child in child_folders(root))]  # an archive has two folders on top
    root = find_root(
        around, lambda folder: (folder / "clips").is_dir() and (folder / "test.tsv").is_file(), "clips/ and test.tsv"
    )
    tables = {name: _read_table(root / f"{name}.tsv") for name in ("dev", "test", train)}
    tables["train"] = tables.pop(train)
    notes = []
    if train == "validated":
        held = [row for name in ("dev", "test") for row in tables[name]]
        speakers, sentences = {row.speaker for row in held}, {row.sentence for row in held}
        left = [row for row in tables["train"] if row.speaker not in speakers and row.sentence not in sentences]
        notes.append(
            f"train is {len(left)} of the {len(tables['train'])} clips of validated.tsv, without speakers and "
            "sentences of dev and test"
        )
        tables["train"] = left
    missing: dict[str, list[str]] = defaultdict(list)
    splits = {name: _utterances(root / "clips", tables[name], missing) for name in SPLITS}
    return Contents(
        {name: found for name, found in splits.items() if found},  # of small languages dev and test may be empty
        notes=tuple(notes),
        missing=listed(missing),
    )


def _read_table(path: Path) -> list[_Row]:
    lines = read_lines(path)
    if not lines:
        raise CorpusError(f"{path}: is empty, wanted a header with {', '.join(_COLUMNS)}")
    header = lines[0][1].split("\t")
    for column in _COLUMNS:
        if column not in header:
            raise CorpusError(f"{path}:{lines[0][0]}: no column {column!r}; found {', '.join(header)}")
    places = [header.index(column) for column in _COLUMNS]
    rows = []
    for number, line in lines[1:]:
        fields = line.split("\t")
        if len(fields) <= max(places):
            raise CorpusError(f"{path}:{number}: wanted {len(header)} fields separated by TABs, found {len(fields)}")
        speaker, clip, sentence = (fields[place].strip() for place in places)
        quoted = _QUOTED.fullmatch(sentence)
        text = quoted[1].replace('""', '"') if quoted else sentence
        rows.append(_Row(f"{path}:{number}: {clip}", speaker[:_SPEAKER_DIGITS], clip, text))
    return rows


def _utterances(clips: Path, rows: Sequence[_Row], missing: Mapping[str, list[str]]) -> list[Utterance]:
    """The utterances of a table; what cannot be one is added to `missing`."""
    found = []
    for row in rows:
        audio = clips / row.clip
        if not row.sentence:
            missing["clips without a sentence"].append(row.clip)
        elif not audio.is_file():
            missing["clips that are missing"].append(row.clip)
        else:
            name = Path(row.clip).stem
            found.append(make_utterance(name, audio, row.sentence, where=row.where, speaker=row.speaker or None))
    return found


COMMONVOICE = Corpus(name="commonvoice", read=read, options=("train",))
