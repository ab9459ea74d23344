"""Text for language models: sentences, one a line, cut into the units that the model counts.

- `word`: what stands between white space (Unicode's, as `str.split` has it), unchanged.
- `token`: the same code. The text has been cut already, into BPE pieces for example, and the model file says so.
- `char`: each character of the NFC form; words are joined by one `|`, with none at the ends.

Nothing else is normalised: a model for a recogniser wants text in the form that the recogniser writes.
"""

import gzip
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, cast, get_args

from asr.errors import TextError

Unit = Literal["word", "char", "token"]
UNITS: tuple[Unit, ...] = get_args(Unit)
SPACE = "|"
UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
SPECIAL = (UNKNOWN, BEGIN, END)
_GZIP_MAGIC = b"\x1f\x8b"


@contextmanager
def open_text(path: Path) -> Iterator[IO[bytes]]:
    """A file for reading bytes; one that is gzip by its content is unpacked."""
    with path.open("rb") as file:  # once: a pipe cannot be opened again
        if not file.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC):
            yield file
            return
        with gzip.open(file) as unpacked:
            yield cast(IO[bytes], unpacked)


def sentences(text: Iterable[str | Path], unit: Unit) -> Iterator[tuple[str, list[str]]]:
    """The sentences of a text, read as a stream.

    Args:
        text: a `Path` is a file of UTF-8 text, one sentence a line, gzip or not; a `str` is one sentence.
        unit: what a token is; see the module.

    Yields:
        Where the sentence stands (`FILE:LINE`) and its tokens; an empty line has none.

    Raises:
        TextError: a file cannot be read or is not UTF-8, or a token is reserved: `<s>`, `</s>`, `<unk>`, and `|` in a
            text of characters. The message names file and line.
    """
    if unit not in UNITS:
        raise TextError(f"unit={unit!r} is none of {', '.join(UNITS)}")
    for where, line in _lines(text):
        if unit == "char":
            if SPACE in line:
                raise TextError(f"{where}: {SPACE!r} stands for the space in a model of characters; replace it")
            yield where, list(unicodedata.normalize("NFC", SPACE.join(line.split())))
        else:
            tokens = line.split()
            if not _SPECIAL_SET.isdisjoint(tokens):
                found = next(token for token in tokens if token in _SPECIAL_SET)
                raise TextError(f"{where}: {found!r} is reserved for the model; remove or replace it")
            yield where, tokens


_SPECIAL_SET = frozenset([*SPECIAL, "<UNK>"])  # which some readers take for `<unk>`


def _lines(text: Iterable[str | Path]) -> Iterator[tuple[str, str]]:
    for number, item in enumerate(text, start=1):
        if isinstance(item, Path):
            yield from _lines_of_file(item)
        else:
            yield f"sentence {number}", item


def _lines_of_file(path: Path) -> Iterator[tuple[str, str]]:
    number = 0
    try:
        with open_text(path) as file:
            for number, line in enumerate(file, start=1):
                yield f"{path}:{number}", line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise TextError(f"{path}:{number}: not UTF-8 text (byte {error.start} of the line)") from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        place = f" after line {number}" if number else ""
        raise TextError(f"{path}: cannot be read{place}: {reason}") from error
