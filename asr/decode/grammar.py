"""Grammars: the sentences that may be said, as regular expressions over words.

    # a comment
    <digit> = zero | one | two | three | four | five | six | seven | eight | nine
    turn (on | off) the (light | fan) please?
    call <digit>{3,7}

Each line is a sentence that may be said, or defines a part, `<digit>`, that other lines use. `|` separates alternatives
and binds loosest, parentheses group; `?`, `*`, `+`, `{3}`, `{3,7}` and `{3,}` say how often the word, group or part
before them occurs: at most once, any number of times, at least once, and so on. A line that begins with `|` goes on
with the line before. `#` at the beginning of a line or after a space begins a comment; a backslash makes any sign a
letter of a word.

The expressions become an automaton (Thompson 1968), which is made deterministic (Rabin & Scott 1959): each beginning of
a sentence leads to one state. There each word that may follow is equally probable, and so is the end where it may
follow; all else has probability 0. To the search this is an n-gram model that never backs off.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from asr.decode.automaton import IMPOSSIBLE, STATE, NGramArrays
from asr.decode.expressions import RESERVED, Alternation, Concatenation, Expression, Part, Repetition, Word, parse
from asr.decode.hashing import insert, table_for
from asr.decode.jit import kernel
from asr.errors import DecodeError

BEGIN, END = 1, 2  # ids of <s> and </s>
_MOST_STATES = 500_000  # of each automaton
_MOST_VISITS = 10_000_000  # of states of the first automaton while the second is made: some seconds
_DEEPEST = 100  # expressions within each other
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*")
_PART = re.compile(r"\s*<([^\s<>]+)>\s*=(.*)")


@dataclass(frozen=True)
class Grammar:
    """A grammar as the arrays of a language model.

    Attributes:
        words: by id, `RESERVED` first.
        arrays: its states are the ids of words, of which only that of `<s>` can be reached, then all others.
    """

    words: tuple[str, ...]
    arrays: NGramArrays


def read_grammar(text: str, name: str = "grammar") -> Grammar:
    """Read a grammar; see the module for how it is written.

    Args:
        text: its lines.
        name: what messages call it.

    Raises:
        DecodeError: it is not well-formed, names a part that no line defines or that holds itself, has no sentence or
            no word, or is too large (half a million states).
    """
    sentences, parts = _lines(text, name)
    return _arrays(_deterministic(_Automaton(parts, name), sentences, name), name)


class _Line(NamedTuple):
    number: int
    text: str


def _lines(text: str, name: str) -> tuple[list[Expression], dict[str, Expression]]:
    """The sentences, and the parts by name."""
    lines: list[_Line] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        content = _COMMENT.sub("", line).strip()
        if content.startswith("|") and lines:
            lines[-1] = _Line(lines[-1].number, f"{lines[-1].text} {content}")
        elif content:
            lines.append(_Line(number, content))
    sentences, parts = [], {}
    for line_number, line_text in lines:
        part = _PART.fullmatch(line_text)
        where = f"{name}: line {line_number}"
        if part is None:
            sentences.append(parse(line_text, where))
            continue
        if part[1] in parts:
            raise DecodeError(f"{where}: <{part[1]}> is defined twice")
        parts[part[1]] = parse(part[2], where)
    if not sentences:
        raise DecodeError(f"{name}: has no sentence, wanted a line that does not begin with <name> =")
    return sentences, parts


class _Automaton:
    """The states of an automaton that may go on without a word, as expressions are added to it.

    Attributes:
        silent: of each state, those that it goes on to without a word.
        moves: of each state, the words that it goes on with, and to which state.
    """

    def __init__(self, parts: Mapping[str, Expression], name: str) -> None:
        self.parts = parts
        self.name = name
        self.silent: list[list[int]] = []
        self.moves: list[list[tuple[str, int]]] = []
        self._visits = 0
        self._within: list[str] = []  # parts that are being added
        self._depth = 0

    def state(self) -> int:
        """A new one."""
        if len(self.silent) == _MOST_STATES:
            raise _too_large(self.name)
        self.silent.append([])
        self.moves.append([])
        return len(self.silent) - 1

    def add(self, node: Expression, start: int) -> int:
        """The state after `node`, which begins in `start`; nothing leads back to `start`."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise DecodeError(f"{self.name}: more than {_DEEPEST} expressions within each other")
        match node:
            case Word(text):
                end = self.state()
                self.moves[start].append((text, end))
            case Concatenation(items):
                end = start
                for item in items:
                    end = self.add(item, end)
            case Alternation(options):
                end = self.state()
                for option in options:
                    self.silent[self.add(option, start)].append(end)
            case Repetition(item, least, most):
                end = self._repeat(item, least, most, start)
            case Part():
                end = self._part(node, start)
        self._depth -= 1
        return end

    def _repeat(self, item: Expression, least: int, most: int | None, start: int) -> int:
        for _ in range(least):
            start = self.add(item, start)
        end = self.state()
        self.silent[start].append(end)
        if most is None:
            self.silent[self.add(item, end)].append(end)
        else:
            for _ in range(most - least):
                start = self.add(item, start)
                self.silent[start].append(end)
        return end

    def _part(self, part: Part, start: int) -> int:
        if part.name not in self.parts:
            raise DecodeError(f"{part.where}: no line defines <{part.name}>")
        if part.name in self._within:
            raise DecodeError(f"{part.where}: <{part.name}> would hold itself")
        self._within.append(part.name)
        end = self.add(self.parts[part.name], start)
        self._within.pop()
        return end

    def reached(self, states: set[int]) -> frozenset[int]:
        """Of the states and all that they go on to without a word, those that go on with one, or nowhere."""
        found, waiting = set(states), list(states)
        while waiting:
            for state in self.silent[waiting.pop()]:
                if state not in found:
                    found.add(state)
                    waiting.append(state)
        self._visits += len(found)
        if self._visits > _MOST_VISITS:
            raise _too_large(self.name)
        return frozenset(state for state in found if self.moves[state] or not self.silent[state])


def _too_large(name: str) -> DecodeError:
    return DecodeError(f"{name}: is too large: too many repetitions within each other")


@dataclass(frozen=True)
class _State:
    """Of a deterministic automaton: the state after each word that may follow, and whether a sentence may end here."""

    after: dict[str, int]
    may_end: bool


def _deterministic(automaton: _Automaton, sentences: list[Expression], name: str) -> list[_State]:
    """The states of the deterministic automaton, the one in which a sentence begins first."""
    start = automaton.state()
    end = automaton.add(Alternation(sentences), start)
    numbers = {automaton.reached({start}): 0}
    states: list[_State] = []
    waiting = list(numbers)
    for members in waiting:  # grows
        if len(waiting) > _MOST_STATES:
            raise _too_large(name)
        targets: dict[str, set[int]] = {}
        for member in sorted(members):
            for word, to in automaton.moves[member]:
                targets.setdefault(word, set()).add(to)
        after = {}
        for word, reached in targets.items():
            found = automaton.reached(reached)
            if found not in numbers:
                numbers[found] = len(numbers)
                waiting.append(found)
            after[word] = numbers[found]
        states.append(_State(after, end in members))
    return states


def _arrays(states: list[_State], name: str) -> Grammar:
    words = list(dict.fromkeys(word for state in states for word in state.after))
    if not words:
        raise DecodeError(f"{name}: holds no word")
    ids = {word: number for number, word in enumerate(words, len(RESERVED))}
    known = len(RESERVED) + len(words)
    rows = list(_transitions(states, lambda number: known + number - 1 if number else BEGIN, ids))
    entries = np.array([row[:3] for row in rows], np.int32)
    log10_probs = np.array([row[3] for row in rows], np.float32)
    unigrams = np.full(known, IMPOSSIBLE, np.float32)
    np.maximum.at(unigrams, entries[:, 1], log10_probs)  # what the beginning of a word may hope for
    table = table_for(len(rows))
    _fill(table, entries, log10_probs)
    backing_off = np.zeros(known + len(states) - 1, STATE)
    backing_off["backoff"], backing_off["suffix"] = IMPOSSIBLE, -1
    return Grammar((*RESERVED, *words), NGramArrays(unigrams, backing_off, np.zeros(0, np.int32), table))


def _transitions(
    states: list[_State], place: Callable[[int], int], ids: Mapping[str, int]
) -> Iterator[tuple[int, int, int, float]]:
    """From which state, with which word, to which state, and log10 of how probable that is."""
    for number, state in enumerate(states):
        log10_prob = -math.log10(len(state.after) + state.may_end)
        for word, to in state.after.items():
            yield place(number), ids[word], place(to), log10_prob
        if state.may_end:
            yield place(number), END, END, log10_prob


@kernel
def _fill(table, entries, log10_probs):  # type: ignore[no-untyped-def]
    """Put (state, word) -> state into a hash table, with the log10 probability beside it."""
    for k in range(len(entries)):
        insert(table, entries[k, 0], entries[k, 1], entries[k, 2], log10_probs[k])
