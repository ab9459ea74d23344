"""The lines of an ARPA file's sections, read into the arrays of an n-gram model (numba kernels)."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.decode.automaton import match
from asr.decode.hashing import find, insert
from asr.decode.jit import inner, kernel

# What a kernel found on a line.
FINE, ENDED, NO_NUMBER, POSITIVE, WRONG_FIELDS, NO_BACKOFF, TOP_BACKOFF, NO_WORD, NO_CONTEXT, TWICE = range(10)

NEWLINE, _BACKSLASH, _PLUS, _MINUS, _DOT, _SMALL_E = b"\n\\+-.e"
_ZERO = np.uint8(ord("0"))
_LOWER = 32  # the bit that makes an ASCII letter lower case
UNKNOWN, UNKNOWN_UPPER = (np.frombuffer(name, np.uint8) for name in (b"<unk>", b"<UNK>"))
_LARGEST_POWER = 308  # of ten that a float64 holds
_TENS = np.array([float(f"1e{power}") for power in range(_LARGEST_POWER + 1)])
_INK, _BLANK, _LINE_END = range(3)
_KINDS = np.array([{9: _BLANK, 13: _BLANK, 32: _BLANK, 10: _LINE_END}.get(byte, _INK) for byte in range(256)], np.uint8)


class Vocabulary(NamedTuple):
    """Words of the unigrams, by id, and an open-addressing hash table to find them.

    Attributes:
        starts, ends: (words,) int64, where in the text a word stands.
        slots: power-of-two (slots,) int32, ids; -1 where there is none.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    slots: NDArray[np.int32]


# The kernels read text that ends with a newline, so that no loop has to look for the end of the text.


@inner
def _field(text, place):  # type: ignore[no-untyped-def]
    """Start and end of the next field of the line; where there is none, both are the end of the line."""
    while _KINDS[text[place]] == _BLANK:
        place += 1
    start = place
    while _KINDS[text[place]] == _INK:
        place += 1
    return start, place


@inner
def _digits(text, place):  # type: ignore[no-untyped-def]
    """The number that the digits at `place` write, how many digits there are, and where they end."""
    value = 0.0
    start = place
    digit = text[place] - _ZERO  # unsigned: bytes below "0" become large
    while digit <= 9:
        value = value * 10.0 + digit
        place += 1
        digit = text[place] - _ZERO
    return value, place - start, place


@inner
def _is_sign(byte):  # type: ignore[no-untyped-def]
    return byte in (_MINUS, _PLUS)


@inner
def _decimal(text, start, end):  # type: ignore[no-untyped-def]
    """The decimal number in a field as float32; NaN where it is none, infinite where it is too large."""
    sign = text[start]
    value, count, place = _digits(text, start + _is_sign(sign))
    fraction, decimals, place = _digits(text, place + (text[place] == _DOT))
    # Powers of ten are exact up to 22, and the quotient of two exact numbers is rounded once.
    scale = _TENS[min(decimals, _LARGEST_POWER)]
    value = (value * scale + fraction) / scale
    marked = text[place] | _LOWER == _SMALL_E
    power_sign = text[place + marked]
    power, power_digits, place = _digits(text, place + marked + (marked and _is_sign(power_sign)))
    factor = _TENS[int(min(power, _LARGEST_POWER))]
    value = value / factor if power_sign == _MINUS else value * factor
    if count + decimals == 0 or (marked and power_digits == 0) or place != end:
        value = np.nan
    return np.float32(-value if sign == _MINUS else value)


@inner
def _probability(text, place):  # type: ignore[no-untyped-def]
    """Code, start, end and value of the first field of the next line that is not blank."""
    start, end = _field(text, place)
    while start == end and end + 1 < len(text):
        start, end = _field(text, end + 1)
    value = _decimal(text, start, end)
    first = text[start]
    code = FINE
    if start == end or first == _BACKSLASH:
        code = ENDED
    elif not math.isfinite(value):
        code = NO_NUMBER
    elif value > 0.0:
        code = POSITIVE
    return code, start, end, value


# No estimate yields a log10 weight above this, and its exponential would soon overflow a float64.
LARGEST_BACKOFF = 10.0


@inner
def _backoff(text, place, is_top):  # type: ignore[no-untyped-def]
    """Code, place (the end of the line, or the fault) and value of the backoff weight after the words."""
    start, end = _field(text, place)
    value = _decimal(text, start, end)
    after, line_end = _field(text, end)
    code = FINE
    if start == end:
        value = np.float32(0.0)
    elif after < line_end:
        code = WRONG_FIELDS
    elif not math.isfinite(value) or value > LARGEST_BACKOFF:
        code = NO_BACKOFF
    elif is_top and value != 0.0:
        code = TOP_BACKOFF
    return code, line_end if code == FINE else start, value


@inner
def _same(text, first, first_end, second, second_end):  # type: ignore[no-untyped-def]
    """Whether two fields are the same bytes."""
    same = first_end - first == second_end - second
    while same and second < second_end:
        same = text[first] == text[second]
        first += 1
        second += 1
    return same


@inner
def _slot(text, vocabulary, place):  # type: ignore[no-untyped-def]
    """Start and end of the next field, a word, and the slot that holds it, or the empty one where it would go."""
    start, end = _field(text, place)
    mixed = np.uint64(0xCBF29CE484222325)  # FNV-1a
    for at in range(start, end):
        mixed = (mixed ^ np.uint64(text[at])) * np.uint64(0x100000001B3)
    slot = np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(len(vocabulary.slots) - 1)) - 1
    looking = True
    while looking:
        slot = (slot + 1) & (len(vocabulary.slots) - 1)
        word = max(vocabulary.slots[slot], 0)
        same = _same(text, vocabulary.starts[word], vocabulary.ends[word], start, end)
        looking = vocabulary.slots[slot] >= 0 and not same
    return start, end, slot


@inner
def _is_unknown(text, start, end):  # type: ignore[no-untyped-def]
    """Whether a word is <unk> or <UNK>."""
    lower = upper = end - start == len(UNKNOWN)
    place = 0
    while (lower or upper) and place < len(UNKNOWN):
        lower = lower and text[start + place] == UNKNOWN[place]
        upper = upper and text[start + place] == UNKNOWN_UPPER[place]
        place += 1
    return lower or upper


@kernel
def read_unigrams(text, place, count, arrays, vocabulary):  # type: ignore[no-untyped-def]
    """Read `count` unigrams; returns a code, the place after them or of the fault, and how many were read."""
    ordinary = 1  # id of the next word that is not <unk>
    code, done = FINE, 0
    while code == FINE and done < count:
        code, line, end, prob = _probability(text, place)
        place = line
        start, end, slot = _slot(text, vocabulary, end)
        word = 0 if _is_unknown(text, start, end) else ordinary
        is_top = word >= len(arrays.states)
        if code == FINE and start == end:
            code = WRONG_FIELDS
        elif code == FINE and (vocabulary.slots[slot] >= 0 or vocabulary.ends[word] > 0):
            code = TWICE
        if code == FINE:
            code, place, backoff = _backoff(text, end, is_top)
        if code == FINE:
            vocabulary.slots[slot] = word
            vocabulary.starts[word] = start
            vocabulary.ends[word] = end
            arrays.unigrams[word] = prob
            if not is_top:
                arrays.states[word].backoff = backoff
            ordinary += word > 0
            done += 1
    return code, place, done


@kernel
def read_ngrams(text, place, order, entry, count, arrays, vocabulary):  # type: ignore[no-untyped-def]
    """As `read_unigrams`, for n-grams of two or more words, which become the entries from `entry` on."""
    code, done = FINE, 0
    while code == FINE and done < count:
        code, line, end, prob = _probability(text, place)
        place = line
        context, word = np.int32(-1), np.int32(-1)
        position = 0
        while code == FINE and position < order:
            start, end, slot = _slot(text, vocabulary, end)
            context = find(arrays.table, context, word) if position > 1 else word
            word = vocabulary.slots[slot]
            if start == end:
                code = WRONG_FIELDS
            elif position > 0 and context < 0:
                code = NO_CONTEXT
            elif word < 0:
                code, place = NO_WORD, start
            position += 1
        if code == FINE:
            above = entry - len(arrays.states)
            code, place, backoff = _backoff(text, end, above >= 0)
        if code == FINE:
            if insert(arrays.table, context, word, np.int32(entry), np.float32(prob)) >= 0:
                code, place = TWICE, line
            # The last n - 1 words need not be listed as an n-gram: back off to the longest suffix that is.
            suffix = match(arrays, arrays.states[context].suffix, word)[1]
            if above >= 0:
                arrays.after[above] = suffix
            else:
                arrays.states[entry].backoff = backoff
                arrays.states[entry].suffix = suffix
            entry += 1
            done += 1
    return code, place, done
