"""N-gram language models of words or of tokens: ARPA files, and a binary file that is mapped into memory."""

import gzip
import os
import struct
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BufferedReader
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from asr.decode.arpa_lines import LARGEST_BACKOFF
from asr.decode.automaton import LEAST_POSSIBLE, STATE, NGramArrays, advance, walk
from asr.decode.hashing import EMPTY, SLOT
from asr.errors import DecodeError
from asr.files import atomic_path

__all__ = ["NGram", "NGramArrays", "advance"]

Unit = Literal["word", "char", "token"]
UNITS: tuple[Unit, ...] = get_args(Unit)

_BEGIN, _END = "<s>", "</s>"
_GZIP = b"\x1f\x8b"
_KENLM = b"mmap lm http://kheafield.com/code"

_MAGIC = b"asr n-gram model"
_VERSION = 3
_HEAD = struct.Struct("<16sII")  # magic, version, order
_STATED = ("", *UNITS)  # a unit is stored as its place here
# Id of <s> and of </s> (-1: none), slots of the hash table, bytes of the words, unit, CRC-32 of all after the header.
_SIZES = struct.Struct("<qqqqII")
_CHECK = struct.Struct("<I")  # CRC-32 of all before it
_ALIGNMENT = 64  # bytes; arrays begin on a cache line


@dataclass(frozen=True, eq=False)
class NGram:
    """A backoff n-gram model of any order.

    P(w | h) = p(h w) where the n-gram is listed, else b(h) P(w | h without its first word) (Katz 1987), with b = 1 for
    a context that is not listed. Probabilities are log10, as in the file.

    Models without `<s>` begin in the empty context, and without `</s>` the end of a sentence costs nothing; so a model
    of tokens needs neither. A word that the model does not know is `<unk>`, which has id 0; where the file has none it
    has log10 probability -100, and in a grammar it is impossible.

    Attributes:
        counts: n-grams of each order, including an `<unk>` that the file lacked.
        arrays: for the kernels; see `NGramArrays` and `advance`.
        bos_id: id of `<s>`; -1 where the model has none.
        eos_id: id of `</s>`; -1 where the model has none.
        unit: what the words are, as the file states it; None where it does not.
    """

    counts: tuple[int, ...]
    arrays: NGramArrays
    bos_id: int
    eos_id: int
    unit: Unit | None
    _text: NDArray[np.uint8]  # the words as UTF-8, separated by newlines

    @property
    def order(self) -> int:
        """N, the words of the longest n-grams."""
        return len(self.counts)

    @property
    def is_grammar(self) -> bool:
        """Whether it was made by `from_grammar`: it allows some sentences and no others."""
        return bool(self.arrays.unigrams[0] <= LEAST_POSSIBLE)

    @property
    def begin_state(self) -> int:
        """The state in which a sentence begins: after `<s>`, or empty."""
        return self.bos_id if self.order > 1 else -1

    @cached_property
    def words(self) -> list[str]:
        """The words by id."""
        try:
            words = self._text.tobytes().decode().split("\n")
        except UnicodeDecodeError as error:
            raise DecodeError(f"n-gram model: is damaged: byte {error.start} of its words is not UTF-8") from error
        if len(words) != self.counts[0]:
            raise DecodeError(f"n-gram model: is damaged: {len(words)} words for {self.counts[0]} unigrams")
        return words

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.words)}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "NGram":
        """Load an ARPA file, plain or gzipped, or a file that `save` wrote, which is mapped rather than read.

        The content tells which of these a file is, not its name.

        Raises:
            DecodeError: the file cannot be read, is none of these, is truncated, or a line is wrong.
        """
        name = os.fspath(path)
        try:
            with open(name, "rb") as file:
                start = file.read(len(_KENLM))
                file.seek(0)
                if start.startswith(_MAGIC):
                    return cls._map(_File(name, file))
                content = gzip.decompress(file.read()) if start.startswith(_GZIP) else file.read()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DecodeError(f"{name}: the gzip data are truncated or damaged: {error}") from error
        except OSError as error:
            raise DecodeError(f"{name}: cannot be read: {error.strerror or error}") from error
        if content.startswith(_KENLM):
            raise DecodeError(
                f"{name}: is a KenLM binary, which KenLM cannot turn back into ARPA; wanted the ARPA file it was made "
                "from, or one that `lmplz` or `asr lm train` makes of the same text"
            )
        from asr.decode.arpa import read_arpa  # a mapped model needs no parser

        arpa = read_arpa(content, name)
        unit = next((unit for unit in UNITS if unit == arpa.unit), None)
        if unit is None and arpa.unit is not None:
            raise DecodeError(f"{name}: states unit {arpa.unit!r}, wanted one of {', '.join(UNITS)}")
        model = cls(arpa.counts, arpa.arrays, -1, -1, unit, arpa.words)
        return replace(model, bos_id=model._ids.get(_BEGIN, -1), eos_id=model._ids.get(_END, -1))

    @classmethod
    def from_grammar(cls, text: str, *, unit: Unit = "word", name: str = "grammar") -> "NGram":
        """A model that allows the sentences of a grammar and no others; `asr.decode.grammar` says how it is written.

        After each beginning of a sentence all words that may follow, and the end where it may, are equally probable.
        It states order 3 because its states are those of an n-gram model; the middle one of its `counts` is their
        number.

        Args:
            text: the grammar's lines.
            unit: what its words are.
            name: what messages call it.

        Raises:
            DecodeError: the grammar is not well-formed, or too large; the message names the line.
        """
        from asr.decode.grammar import BEGIN, END, read_grammar

        grammar = read_grammar(text, name)
        words = np.frombuffer("\n".join(grammar.words).encode(), np.uint8)
        counts = (len(grammar.words), len(grammar.arrays.states) - len(grammar.words), 0)
        return cls(counts, grammar.arrays, BEGIN, END, unit, words)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the binary file: little-endian, whole or not at all."""
        slots = len(self.arrays.table)
        arrays: list[NDArray[Any]] = [*self.arrays, self._text]
        body: list[Any] = []  # for each array: padding to a boundary, then the array
        checksum, end = 0, _header_bytes(self.order)
        for array, place in zip(arrays, _places(self.counts, slots, len(self._text)), strict=True):
            body += [bytes(place.start - end), array.astype(place.dtype, copy=False).view(np.uint8).data]
            end = place.stop
        for part in body:
            checksum = zlib.crc32(part, checksum)
        unit = _STATED.index(self.unit or "")
        header = _HEAD.pack(_MAGIC, _VERSION, self.order)
        header += _SIZES.pack(self.bos_id, self.eos_id, slots, len(self._text), unit, checksum)
        header += struct.pack(f"<{self.order}q", *self.counts)
        header += _CHECK.pack(zlib.crc32(header))
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            file.writelines([header, *body])

    @classmethod
    def _map(cls, file: "_File") -> "NGram":
        """Map a file that `save` wrote, checking its checksums and that its size matches the header."""
        _, version, order = _HEAD.unpack(file.read(_HEAD.size))
        if version != _VERSION:
            raise DecodeError(
                f"{file.name}: is a binary model of version {version}, wanted version {_VERSION}: "
                "compile it again from its ARPA file (`asr lm compile`)"
            )
        if order < 1:
            raise DecodeError(f"{file.name}: is damaged: order {order}, wanted at least 1")
        sizes = file.read(_SIZES.size)
        numbers = file.read(8 * order)
        (check,) = _CHECK.unpack(file.read(_CHECK.size))
        if check != zlib.crc32(_HEAD.pack(_MAGIC, version, order) + sizes + numbers):
            raise DecodeError(f"{file.name}: is damaged: the header does not match its checksum")
        bos_id, eos_id, slots, text_bytes, stated, checksum = _SIZES.unpack(sizes)
        counts = struct.unpack(f"<{order}q", numbers)
        if min(*counts, slots, text_bytes) < 0:
            raise DecodeError(f"{file.name}: is damaged: a size below 0 in {(*counts, slots, text_bytes)}")
        places = _places(counts, slots, text_bytes)
        if file.size != places[-1].stop:
            raise DecodeError(f"{file.name}: has {file.size} bytes, wanted {places[-1].stop}: is it truncated?")
        # Copy on write makes the arrays writable, and so of the same type for kernels as those of a parsed ARPA file.
        whole = file.mapped()
        if zlib.crc32(whole[_header_bytes(order) :].data) != checksum:
            raise DecodeError(f"{file.name}: is damaged: what follows the header does not match its checksum")
        if stated >= len(_STATED):
            raise DecodeError(f"{file.name}: is damaged: unit {stated}, wanted 0 to {len(_STATED) - 1}")
        *arrays, text = (whole[place.start : place.stop].view(place.dtype) for place in places)
        model = cls(counts, NGramArrays(*arrays), bos_id, eos_id, UNITS[stated - 1] if stated else None, text)
        if not model._is_sound():
            raise DecodeError(
                f"{file.name}: is damaged: its arrays point outside the model, or hold values that are no probabilities"
            )
        return model

    def _is_sound(self) -> bool:
        """Whether every index leads to an entry and every walk ends; kernels do not check."""
        unigrams, states, after, table = self.arrays
        ids = all(-1 <= place < len(unigrams) for place in (self.bos_id, self.eos_id))
        slots = len(table) > 0 and len(table) & (len(table) - 1) == 0 and bool((table["key"] == EMPTY).any())
        shorter = bool((states["suffix"] < np.arange(len(states))).all())
        indices = ((table["value"], len(states) + len(after)), (states["suffix"], len(states)), (after, len(states)))
        inside = all(places.min(initial=-1) >= -1 and places.max(initial=-1) < end for places, end in indices)
        numbers = (unigrams, 0.0), (table["number"], 0.0), (states["backoff"], LARGEST_BACKOFF)
        finite = all(np.isfinite(values).all() and values.max(initial=0) <= most for values, most in numbers)
        return ids and slots and shorter and inside and bool(finite)

    def word_id(self, word: str) -> int:
        """The id of a word; 0, which is `<unk>`, for one that the model does not know."""
        return self._ids.get(word, 0)

    def score(self, words: Sequence[str], *, bos: bool = True, eos: bool = True) -> float:
        """The log10 probability of a sentence.

        Args:
            words: its words, without `<s>` and `</s>`.
            bos: whether it begins after `<s>` or in the empty context.
            eos: whether the end of the sentence counts.
        """
        return float(self._walk(words, bos, eos)[1].sum())

    def full_scores(self, words: Sequence[str], *, bos: bool = True, eos: bool = True) -> list[tuple[float, int, bool]]:
        """For each word and the sentence's end: log10 probability, length of the n-gram it came from, whether unknown.

        The arguments are those of `score`.
        """
        ids, log10_probs, entries = self._walk(words, bos, eos)
        ends = list(accumulate(self.counts))
        lengths = [bisect_right(ends, entry) + 1 for entry in entries.tolist()]
        return list(zip(log10_probs.tolist(), lengths, (ids == 0).tolist(), strict=True))

    def _walk(
        self, words: Sequence[str], bos: bool, eos: bool
    ) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int32]]:
        """Ids, log10 probabilities, and the entries that these came from."""
        if isinstance(words, str):
            raise DecodeError(f"wanted a list of words, found the text {words!r}")
        ids = [self.word_id(word) for word in words]
        if eos and self.eos_id >= 0:
            ids.append(self.eos_id)
        sentence = np.array(ids, np.int32)
        log10_probs = np.empty(len(ids), np.float64)
        entries = np.empty(len(ids), np.int32)
        walk(self.arrays, np.int32(self.begin_state if bos else -1), sentence, log10_probs, entries)
        return sentence, np.where(log10_probs > LEAST_POSSIBLE, log10_probs, -np.inf), entries


class _File:
    """An open binary model."""

    def __init__(self, name: str, file: BufferedReader) -> None:
        self.name = name
        self.size = os.fstat(file.fileno()).st_size
        self._file = file

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        content = self._file.read(min(size, self.size))
        if len(content) < size:
            raise DecodeError(f"{self.name}: has {self.size} bytes and ends within its header: is it truncated?")
        return content

    def mapped(self) -> NDArray[np.uint8]:
        """All bytes of what was opened, which the name may no longer lead to."""
        return np.asarray(np.memmap(self._file, np.uint8, mode="c"))


class _Place(NamedTuple):
    """Where an array is in the binary file, in bytes."""

    start: int
    stop: int
    dtype: np.dtype[Any]


def _header_bytes(order: int) -> int:
    return _HEAD.size + _SIZES.size + 8 * order + _CHECK.size


def _places(counts: Sequence[int], slots: int, text_bytes: int) -> list[_Place]:
    """The places of the fields of NGramArrays, and of the words."""
    end = _header_bytes(len(counts))
    places = []
    for dtype, length in (
        (np.dtype("<f4"), counts[0]),
        (STATE, sum(counts[:-1])),
        (np.dtype("<i4"), counts[-1]),
        (SLOT, slots),
        (np.dtype("u1"), text_bytes),
    ):
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        end = start + length * dtype.itemsize
        places.append(_Place(start, end, dtype))
    return places
