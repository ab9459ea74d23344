"""ARPA files, read straight into the flat arrays of an n-gram model.

A file has text of any kind, `\\data\\`, a line `ngram n=count` for each order, a section `\\n-grams:` for each order,
and `\\end\\`. A line of a section holds log10 probability, n words and, below the highest order, a log10 backoff weight
that may be left out. Fields are separated by spaces or tabs; blank lines and CRLF are allowed.

A line `# asr unit=char order=6` before `\\data\\` says what the words are; `asr lm train` writes it. KenLM, too, skips
lines there that begin with `#`, and no others.
"""

import re
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from asr.decode.arpa_lines import (
    ENDED,
    FINE,
    LARGEST_BACKOFF,
    NEWLINE,
    NO_BACKOFF,
    NO_CONTEXT,
    NO_NUMBER,
    NO_WORD,
    POSITIVE,
    TOP_BACKOFF,
    TWICE,
    UNKNOWN,
    WRONG_FIELDS,
    Vocabulary,
    read_ngrams,
    read_unigrams,
)
from asr.decode.automaton import STATE, NGramArrays
from asr.decode.hashing import table_for
from asr.errors import DecodeError

UNKNOWN_LOG10 = -100.0  # what KenLM gives unknown words when the file has no <unk>

# Some editors begin UTF-8 with a byte-order mark.
_DATA = re.compile(rb"^(?:\xef\xbb\xbf)?[ \t]*\\data\\[ \t\r]*$", re.MULTILINE)
_UNIT = re.compile(rb"^(?:\xef\xbb\xbf)?# asr (?:[^\n]* )?unit=([^\s]*)", re.MULTILINE)
_COUNT = re.compile(rb"ngram[ \t]+(\d{1,18})[ \t]*=[ \t]*(\d{1,18})")
_LINE = re.compile(rb"\S[^\n]*")
_FIELD = re.compile(rb"[^ \t\r\n]*")


@dataclass(frozen=True)
class Arpa:
    """What an ARPA file holds.

    Attributes:
        counts: n-grams of each order, including an <unk> that was added.
        arrays: the model.
        words: uint8, the words in order of id, as UTF-8 separated by newlines.
        unit: what the words are, as a line before `\\data\\` states; None if there is no such line.
    """

    counts: tuple[int, ...]
    arrays: NGramArrays
    words: NDArray[np.uint8]
    unit: str | None


def read_arpa(content: bytes, path: str) -> Arpa:
    """Parse the text of an ARPA file.

    The unknown word, `<unk>` or `<UNK>`, becomes id 0; a file without it gets one with log10
    probability -100. Other words keep the order of the file.

    Args:
        content: the whole text.
        path: what error messages call the file.

    Raises:
        DecodeError: the text is not an ARPA file, is truncated, or a line is wrong; the message names file and line.
    """
    return _Reader(content, path).read()


class _Reader:
    def __init__(self, content: bytes, path: str) -> None:
        self.content = content
        self.path = path

    def read(self) -> Arpa:
        declared, place = self._declared()
        text = np.frombuffer(self.content + b"\n", np.uint8)
        sizes = (declared[0] + 1, *declared[1:])  # there may be no <unk> among those declared
        states = sum(sizes[:-1])
        arrays = NGramArrays(
            np.empty(sizes[0], np.float32),
            np.zeros(states, STATE),
            np.full(sizes[-1], -1, np.int32),
            table_for(sum(declared[1:])),
        )
        arrays.states["suffix"] = -1
        vocabulary = Vocabulary(
            np.zeros(sizes[0], np.int64),
            np.zeros(sizes[0], np.int64),
            np.full(1 << (2 * sizes[0]).bit_length(), -1, np.int32),
        )
        arrays.unigrams[0] = UNKNOWN_LOG10
        place = self._heading(place, rb"\1-grams:")
        code, place, done = read_unigrams(text, place, declared[0], arrays, vocabulary)
        self._check(code, place, 1, done, declared)
        counts = (declared[0] + int(vocabulary.ends[0] == 0), *declared[1:])
        arrays = arrays._replace(
            unigrams=arrays.unigrams[: counts[0]],
            states=arrays.states[: sum(counts[:-1])],
            after=arrays.after[: counts[-1]],
        )
        first = counts[0]
        for order, count in enumerate(counts[1:], 2):
            place = self._heading(place, rb"\%d-grams:" % order, (order - 1, declared))
            code, place, done = read_ngrams(text, place, order, first, count, arrays, vocabulary)
            self._check(code, place, order, done, declared)
            first += count
        self._heading(place, b"\\end\\", (len(counts), declared))
        return Arpa(counts, arrays, self._words(text, vocabulary, counts[0]), self._unit())

    def _declared(self) -> tuple[list[int], int]:
        """The counts of the header, and where it ends."""
        if not self.content or self.content.isspace():
            raise DecodeError(f"{self.path}: is empty, wanted an ARPA language model")
        found = _DATA.search(self.content)
        if found is None:
            raise DecodeError(
                f"{self.path}: not an ARPA language model: no line is \\data\\, and the file begins with "
                f"{_shown(self.content[:40])}; `asr lm train` makes a model of a text or manifest, "
                "`asr lm grammar` of a grammar"
            )
        place = found.end()
        counts: list[int] = []
        while True:
            line = self._line(place)
            if line is None:
                raise DecodeError(f"{self.path}: the file ends after the counts of \\data\\: is it truncated?")
            if line.group().startswith(b"\\"):
                break
            declared = _COUNT.fullmatch(line.group().rstrip())
            if declared is None or int(declared[1]) != len(counts) + 1:
                self._fail(line.start(), f"wanted 'ngram {len(counts) + 1}=COUNT'")
            counts.append(int(declared[2]))
            place = line.end()
        if not counts:
            self._fail(line.start(), "wanted 'ngram 1=COUNT'")
        # Allocate nothing on a count alone: an n-gram takes n + 1 fields of at least one byte and a separator each.
        least = sum(count * 2 * (order + 1) for order, count in enumerate(counts, 1))
        room = len(self.content) - place
        if least > room or sum(counts) >= np.iinfo(np.int32).max:
            raise DecodeError(
                f"{self.path}: \\data\\ declares {' + '.join(map(str, counts))} n-grams, which take {least} bytes at "
                f"least; {room} bytes follow: the counts are wrong, or the file is truncated"
            )
        return counts, place

    def _unit(self) -> str | None:
        """What the words are, as a line before `\\data\\` states."""
        found = _UNIT.search(self.content, 0, self.content.index(b"\\data\\"))
        return None if found is None else found[1].decode(errors="replace")

    def _line(self, place: int) -> re.Match[bytes] | None:
        """The next line that is not blank, from its first non-blank character on."""
        return _LINE.search(self.content, place)

    def _heading(self, place: int, wanted: bytes, before: tuple[int, list[int]] | None = None) -> int:
        """The end of the next line that is not blank, which must be `wanted`.

        `before` is the order of the section that ends there, and the declared counts.
        """
        line = self._line(place)
        if line is None:
            raise DecodeError(f"{self.path}: the file ends before {wanted.decode()}: is it truncated?")
        if line.group().rstrip() != wanted:
            if before is not None and not line.group().startswith(b"\\"):
                order, declared = before
                self._fail(line.start(), f"\\data\\ declares {declared[order - 1]} {order}-grams, but here is one more")
            self._fail(line.start(), f"wanted {wanted.decode()}")
        return line.end()

    def _check(self, code: int, place: int, order: int, done: int, declared: list[int]) -> None:
        """Raise DecodeError for what a kernel found at `place`, unless that is FINE."""
        if code == FINE:
            return
        if code == ENDED:
            problem = f"\\data\\ declares {declared[order - 1]} {order}-grams, but {done} are here"
            if place >= len(self.content):
                raise DecodeError(f"{self.path}: line {self._number(place)}: {problem}: the file is truncated")
            self._fail(place, problem)
        start = _FIELD.match(self.content, place)
        field = _shown(start.group() if start else b"")
        count = f"{order} word{'s' * (order > 1)}"
        self._fail(
            place,
            {
                NO_NUMBER: f"log10 probability {field} is not a finite number",
                POSITIVE: f"log10 probability {field} is above 0",
                WRONG_FIELDS: f"wanted a log10 probability, {count} and at most a backoff weight",
                NO_BACKOFF: f"found {field} after {count}, wanted a log10 backoff weight of at most "
                f"{LARGEST_BACKOFF:g}",
                TOP_BACKOFF: f"backoff weight {field} in the highest order, which has none",
                NO_WORD: f"word {field} is not among the unigrams",
                NO_CONTEXT: f"the first {order - 1} words of this {order}-gram are not listed as a {order - 1}-gram",
                TWICE: f"this {order}-gram is listed twice",
            }[code],
        )

    def _fail(self, place: int, problem: str) -> NoReturn:
        """Raise DecodeError for a problem in the line at `place`."""
        start = self.content.rfind(b"\n", 0, place) + 1
        end = self.content.find(b"\n", place)
        cut = " (the file ends on this line: is it truncated?)" if end < 0 else ""
        line = _shown(self.content[start : end if end >= 0 else None])
        raise DecodeError(f"{self.path}: line {self._number(place)}: {problem}; found {line}{cut}")

    def _number(self, place: int) -> int:
        return self.content.count(b"\n", 0, place) + 1

    def _words(self, text: NDArray[np.uint8], vocabulary: Vocabulary, count: int) -> NDArray[np.uint8]:
        """All words, separated by newlines; checks that they are UTF-8."""
        starts = vocabulary.starts[:count]
        sizes = vocabulary.ends[:count] - starts + 1  # with the separator after it
        offsets = np.cumsum(sizes)
        words = text[np.repeat(starts - (offsets - sizes), sizes) + np.arange(offsets[-1])]
        words[offsets - 1] = NEWLINE
        try:
            words.tobytes().decode()
        except UnicodeDecodeError as error:
            word = int(np.searchsorted(offsets, error.start, side="right"))
            self._fail(int(starts[word]), f"the word is not UTF-8 ({error.reason})")
        if vocabulary.ends[0] == 0:
            words = np.concatenate([UNKNOWN, words])
        return np.asarray(words[:-1], np.uint8)


def _shown(line: bytes) -> str:
    """The beginning of a line, short enough for a one-line message."""
    shown = line.rstrip(b"\r").decode(errors="replace")
    return repr(shown if len(shown) <= 80 else shown[:77] + "...")
