"""Lexicon files: words, and how each is spelled in labels or pronounced in phones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.errors import AsrError
from asr.lines import numbered_lines

Lexicon = Mapping[str, Sequence[Sequence[str]]]  # word -> spellings, each a list of labels; the first one counts most


@dataclass(frozen=True)
class Entry:
    """A line of a lexicon.

    Attributes:
        where: file and line, for messages.
        word: as it is written.
        labels: its spelling; None if the file holds only words.
    """

    where: str
    word: str
    labels: list[str] | None


def entries(path: Path, error: type[AsrError]) -> Iterator[Entry]:
    """The lines of a file: `word`, or `word TAB labels separated by spaces`; blank lines are skipped.

    Raises:
        AsrError: as `error`: the file cannot be read or holds no word, the two forms are mixed, a word holds a space,
            or a spelling is empty. The message names file and line.
    """
    lines = numbered_lines(path, "lexicon", error)
    if not lines:
        raise error(f"{path}: holds no word")
    spelled = "\t" in lines[0][1]
    for number, line in lines:
        where = f"{path}:{number}"
        word, tab, spelling = line.partition("\t")
        if bool(tab) != spelled:
            wanted = "word TAB labels, as on the lines before" if spelled else "a word alone, as on the lines before"
            raise error(f"{where}: wanted {wanted}, found {line!r}")
        word, labels = word.strip(), spelling.split()
        if len(word.split()) != 1:
            raise error(f"{where}: wanted one word{'' if tab else ', or word TAB labels'}, found {word!r}")
        if spelled and not labels:
            raise error(f"{where}: word {word!r} is spelled with nothing")
        yield Entry(where, word, labels if spelled else None)


def read_pronunciations(path: Path, error: type[AsrError]) -> dict[str, list[list[str]]]:
    """Word -> pronunciations, in the order of the file; a word with several has as many lines.

    Raises:
        AsrError: as `error`: for the reasons of `entries`, or the file holds only words.
    """
    found: dict[str, list[list[str]]] = {}
    for entry in entries(path, error):
        if entry.labels is None:
            raise error(f"{entry.where}: wanted word TAB phones separated by spaces, found {entry.word!r}")
        add(found, entry.word, entry.labels)
    return found


def add(lexicon: dict[str, list[list[str]]], word: str, spelling: Sequence[str]) -> None:
    """Give a word one more spelling, unless it has it already."""
    if list(spelling) not in lexicon.setdefault(word, []):
        lexicon[word].append(list(spelling))


def first_words(lexicon: Lexicon) -> dict[tuple[str, ...], str]:
    """Spelling -> the first word that has it."""
    found: dict[tuple[str, ...], str] = {}
    for word, spellings in lexicon.items():
        for spelling in spellings:
            found.setdefault(tuple(spelling), word)
    return found


def labels_of(lexicon: Lexicon) -> set[str]:
    """All labels of the spellings in a lexicon."""
    return {label for spellings in lexicon.values() for spelling in spellings for label in spelling}


def as_json(lexicon: Lexicon) -> dict[str, list[str]]:
    """Word -> spellings, each its labels separated by spaces."""
    return {word: list(map(" ".join, spellings)) for word, spellings in lexicon.items()}


def to_text(lexicon: Lexicon) -> str:
    """The content of a file that `read_pronunciations` reads back."""
    return "".join(f"{word}\t{' '.join(labels)}\n" for word, spellings in lexicon.items() for labels in spellings)
