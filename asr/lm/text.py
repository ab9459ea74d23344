"""Text for language models: sentences, one a line, cut into the units that the model counts.

- `word`: what lies between white space (Unicode's, as in `str.split`), unchanged.
- `token`: the same, for text that has already been cut, for example into BPE pieces; the model file says so.
- `char`: each character of the NFC form; words are joined by one `|`, with none at the ends.

A file named `.jsonl` is a manifest, whose texts are read. Nothing else is normalised unless `normalize` does it: a
model for a recogniser needs text in the form that the recogniser writes.
"""

import gzip
import json
import unicodedata
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, cast, get_args

from asr.errors import TextError
from asr.files import is_called_manifest

Unit = Literal["word", "char", "token"]
UNITS: tuple[Unit, ...] = get_args(Unit)
SPACE = "|"
UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
SPECIAL = (UNKNOWN, BEGIN, END)
_GZIP_MAGIC = b"\x1f\x8b"


@contextmanager
def open_text(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes; one whose content is gzip is unpacked."""
    with path.open("rb") as file:  # once: a pipe cannot be opened again
        if not file.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC):
            yield file
            return
        with gzip.open(file) as unpacked:
            yield cast(IO[bytes], unpacked)


def sentences(
    text: Iterable[str | Path], unit: Unit, normalize: Callable[[str], str] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """The sentences of a text, read as a stream.

    Args:
        text: a `Path` is a file of UTF-8 text, one sentence a line, gzip or not, or a manifest (`.jsonl`); a `str` is
            one sentence.
        unit: what a token is; see the module.
        normalize: rewrites each sentence first, as `asr.text.normalize` does; None: nothing.

    Yields:
        Where the sentence stands (`FILE:LINE`, or manifest and utterance) and its tokens; an empty line has none.

    Raises:
        TextError: a file cannot be read, is not UTF-8 or is a manifest not named `.jsonl`; a token is reserved (`<s>`,
            `</s>`, `<unk>` and `<UNK>`, and `|` in a text of characters); or unit=token, which needs pieces, comes
            with a manifest or `normalize`, which are for words. The message names file and line.
        ManifestError: see `asr.manifest.read_manifest`.
    """
    if unit not in UNITS:
        raise TextError(f"unit={unit!r} is none of {', '.join(UNITS)}")
    if unit == "token" and normalize is not None:
        raise TextError("unit=token: text that is cut into pieces cannot be normalised; normalise it before cutting")
    for where, line in _lines(text, unit):
        if normalize is not None:
            line = normalize(line)
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


_SPECIAL_SET = frozenset([*SPECIAL, "<UNK>"])  # some readers take <UNK> for <unk>


def unnormalised(words: Collection[str]) -> str:
    """What shows that the words of a text were not normalised, in words for a message; empty if nothing does."""
    characters = set().union(*words)
    shown = []
    if any(map(str.isupper, characters)) and any(map(str.islower, characters)):
        shown.append("capitals and small letters")
    # The apostrophe belongs to words, the bar stands for the space.
    marks = sorted(mark for mark in characters if unicodedata.category(mark)[0] in "PS" and mark not in ("'", SPACE))
    if marks:
        shown.append(f"punctuation ({' '.join(marks[:8])})")
    if not all(unicodedata.is_normalized("NFC", word) for word in words):
        shown.append("letters apart from their accents (Unicode's form NFD)")
    return " and ".join(shown)


def _lines(text: Iterable[str | Path], unit: Unit) -> Iterator[tuple[str, str]]:
    for number, item in enumerate(text, start=1):
        if isinstance(item, Path) and is_called_manifest(item):
            if unit == "token":
                raise TextError(f"{item}: unit=token wants text that is cut into pieces, but a manifest has words")
            from asr.manifest import read_manifest

            for utterance in read_manifest(item):
                yield f"{item}: utterance {utterance.id}", utterance.text
        elif isinstance(item, Path):
            yield from _lines_of_file(item)
        else:
            yield f"sentence {number}", item


def _lines_of_file(path: Path) -> Iterator[tuple[str, str]]:
    number = 0
    try:
        with open_text(path) as file:
            for number, content in enumerate(file, start=1):
                line = content.decode("utf-8-sig" if number == 1 else "utf-8")
                if number == 1 and _is_record(line):
                    raise TextError(
                        f"{path}:1: is a manifest's record; if the file is named .jsonl, its texts are read"
                    )
                yield f"{path}:{number}", line
    except UnicodeDecodeError as error:
        where = f"{path}:{number}"
        raise TextError(f"{where}: not UTF-8 text (byte {error.start} of the line): save it as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        place = f" after line {number}" if number else ""
        raise TextError(f"{path}: cannot be read{place}: {reason}") from error


def _is_record(line: str) -> bool:
    """Whether a line is a JSON object with a text."""
    if not line.startswith("{"):
        return False
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return "text" in record
