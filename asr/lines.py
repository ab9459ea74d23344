"""Lines of text: names, labels and tables on them, and files that are read whole, with errors that name them."""

import codecs
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from asr.errors import AsrError

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
Record = TypeVar("Record", bound="Named")
SPACE_NAME = "<space>"  # stands for a label of one space, in files with a label on each line


def escaped(name: str) -> str:
    """A name on a line of text: its control characters, such as a line end or a TAB, as backslash escapes."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), name)


def repeated(names: Iterable[str]) -> str | None:
    """The first name that stands there more than once."""
    return next((name for name, times in Counter(names).items() if times > 1), None)


def compared_name(text: str) -> str:
    """A name of a speaker or a tier as it is compared: in Unicode's NFC, with single spaces."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def has_surrogate(text: str) -> bool:
    """Whether a text holds half of a surrogate pair, as JSON and undecodable paths may; no file can hold it."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def written_label(label: str) -> str:
    """A label as it is written on a line of a file; `read_label` reads it back."""
    return SPACE_NAME if label == " " else label


def read_label(line: str) -> str:
    """The label that a line stands for."""
    return " " if line == SPACE_NAME else line


def in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows of a table as lines, the first column flush left, the others flush right."""
    widths = [max(map(width_of, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [" " * (width - width_of(text)) + text for text, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([padded(first, widths[0]), *cells]))
    return lines


def padded(text: str, width: int) -> str:
    """A text with spaces behind it that make it so many terminal cells wide."""
    return text + " " * (width - width_of(text))


def width_of(text: str) -> int:
    """Terminal cells: none for combining marks and format characters, two for wide East Asian characters."""
    return sum(
        0
        if unicodedata.category(character) in ("Mn", "Me", "Cf")
        else 2
        if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )


def read_text(path: Path, what: str, error: type[AsrError]) -> str:
    """The content of a file in UTF-8, or in UTF-16 if it begins with a byte order mark of that; without the mark.

    Messages call the content `what`.

    Raises:
        AsrError: as `error`: the file cannot be read or is neither.
    """
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise error(f"{path}: cannot read {what}: {fault.strerror or fault}") from fault
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as fault:
        if is_utf16:
            raise error(f"{path}: broken UTF-16 text (byte {fault.start})") from fault
        raise error(f"{path}: not UTF-8 text (byte {fault.start}): save it as UTF-8") from fault


def json_object(
    text: str, where: str, error: type[AsrError], *, parse_int: Callable[[str], Any] | None = None
) -> dict[str, Any]:
    """The JSON object that a text is; `parse_int` makes something else of whole numbers.

    Raises:
        AsrError: as `error`, with a message that begins with `where`: it is none.
    """
    try:
        found = json.loads(text, parse_int=parse_int)
    except (ValueError, RecursionError) as fault:  # ValueError: also a number of 5,000 digits
        raise error(f"{where}: not a JSON record: {fault}") from fault
    if not isinstance(found, dict):
        raise error(f"{where}: expected a JSON object, found {type(found).__name__}")
    return found


class Named(Protocol):
    """A record with an id."""

    @property
    def id(self) -> str: ...


def records_of(path: Path, what: str, error: type[AsrError], parse: Callable[[str, str], Record]) -> list[Record]:
    """The records of a file, one a line, each with an id of its own; `parse` takes a line and where it stands.

    Raises:
        AsrError: as `error`, for the reasons of `numbered_lines` and of `parse`, or an id occurs twice.
    """
    records: list[Record] = []
    line_of_id: dict[str, int] = {}
    for number, line in numbered_lines(path, what, error):
        record = parse(line, f"{path}:{number}")
        if record.id in line_of_id:
            first = line_of_id[record.id]
            raise error(f"{path}:{number}: id {record.id!r} was already used on line {first}")
        line_of_id[record.id] = number
        records.append(record)
    return records


def numbered_lines(path: Path, what: str, error: type[AsrError]) -> list[tuple[int, str]]:
    """The lines of a UTF-8 file that are not blank, with their numbers from 1.

    Raises:
        AsrError: as `error`, for the reasons of `read_text`.
    """
    # Not splitlines(), which also cuts at U+0085 and U+2028, and those may occur in a text.
    lines = read_text(path, what, error).split("\n")
    return [(number, line.rstrip("\r")) for number, line in enumerate(lines, start=1) if line.strip()]
