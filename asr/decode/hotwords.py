"""Phrases that are given a bonus, as one automaton over characters or labels (Aho & Corasick 1975)."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from asr.decode.inputs import check_kind
from asr.decode.layout import Records
from asr.decode.scoring import HOT_STATE
from asr.errors import DecodeError
from asr.lexicon import Lexicon

LARGEST_WEIGHT = 100.0  # natural log
OTHER, WORD_END = 0, 1  # symbols: any character that no phrase has; the end of a word, also the utterance's start
_MOST_WAYS = 1000  # to spell one phrase


@dataclass(frozen=True)
class Hotwords:
    """The automaton.

    Attributes:
        alphabet: character (label, where a lexicon spells words) -> symbol, from 2 on.
        states: as `Scorer.hot_states`.
        first: the state in which an utterance begins.
    """

    alphabet: dict[str, int]
    states: Records
    first: int


def build_hotwords(phrases: Mapping[str, float], lexicon: Lexicon | None = None) -> Hotwords:
    """Build the automaton that gives each phrase its weight wherever it occurs as whole words.

    The weight is given ahead in equal parts, one per symbol, and taken back if the phrase breaks off: the beam sees the
    bonus from the first symbol on, and a finished text has it only for whole phrases.

    Args:
        phrases: phrase -> natural-log weight of one occurrence; negative weights hold a phrase back.
        lexicon: word -> spellings in labels, by which phrases are matched instead of by characters: every way to
            spell a phrase has its weight, and so have words that are spelled alike.

    Raises:
        DecodeError: a phrase is empty, has a word that the lexicon lacks or too many spellings, or weights are not
            finite or larger than a search can hold.
    """
    alphabet: dict[str, int] = {}
    children: list[dict[int, int]] = [{}]
    best: list[float] = [0.0]  # given ahead at each state: that of the phrase through it that gives most
    complete: list[float] = [0.0]
    given: dict[tuple[tuple[str, ...], ...], float] = {}
    for phrase, weight in phrases.items():
        check_kind("hotwords: phrase", phrase, str, "a string")
        check_kind(f"hotwords: weight of {phrase!r}", weight, Real, "a number")
        words = phrase.split()
        if not words:
            raise DecodeError(f"hotwords: phrase {phrase!r} is empty")
        if not abs(weight) <= LARGEST_WEIGHT:
            raise DecodeError(
                f"hotwords: weight of {phrase!r} is {weight}, wanted -{LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g}"
            )
        for spelled in _ways(phrase, words, lexicon):
            given[spelled] = max(given.get(spelled, weight), weight, key=abs)
    for spelling, weight in given.items():
        symbols = [WORD_END]
        for spelled_word in spelling:
            symbols += [alphabet.setdefault(one, len(alphabet) + 2) for one in spelled_word]
            symbols.append(WORD_END)
        state = 0
        for depth, symbol in enumerate(symbols):
            if symbol not in children[state]:
                children[state][symbol] = len(children)
                children.append({})
                best.append(0.0)
                complete.append(0.0)
            state = children[state][symbol]
            if 0 < depth < len(symbols) - 1:
                ahead = weight * depth / (len(symbols) - 1)
                best[state] = max(best[state], ahead, key=abs)
        complete[state] += weight
    return _with_failures(alphabet, children, best, complete)


def _ways(phrase: str, words: Sequence[str], lexicon: Lexicon | None) -> list[tuple[tuple[str, ...], ...]]:
    """All ways to spell a phrase, each as the spellings of its words."""
    if lexicon is None:
        return [tuple(map(tuple, words))]
    for word in words:
        if word not in lexicon:
            raise DecodeError(f"hotwords: phrase {phrase!r}: the lexicon has no word {word!r}")
    ways = math.prod(len(lexicon[word]) for word in words)
    if ways > _MOST_WAYS:
        raise DecodeError(f"hotwords: phrase {phrase!r} can be spelled in {ways} ways, more than {_MOST_WAYS}")
    return list(itertools.product(*(map(tuple, lexicon[word]) for word in words)))


def _with_failures(
    alphabet: dict[str, int], children: list[dict[int, int]], best: list[float], complete: list[float]
) -> Hotwords:
    """Put the states in breadth-first order, and find the longest proper suffix of each that is also a state."""
    order, failure = [0], [0] * len(children)
    states = np.zeros(len(children) + 1, HOT_STATE)
    highest, lowest = [0.0] * len(children), [0.0] * len(children)  # of what a step from a state may lead to
    for place in range(len(children)):
        state = order[place]  # shorter ones are finished
        states["child"][place] = len(order)
        shorter = failure[state]
        if state:
            # A shorter phrase may end, or have begun, inside a longer one.
            complete[state] += complete[shorter]
            best[state] = max(best[state], best[shorter], key=abs)
        for symbol, child in sorted(children[state].items()):
            states["symbol"][len(order)] = symbol
            order.append(child)
            if state:
                failure[child] = _step(children, failure, shorter, symbol)
    states["child"][-1] = len(order)
    for state in order:
        reached = [complete[child] + best[child] for child in children[state].values()]
        highest[state] = max([*reached, highest[failure[state]]])
        lowest[state] = min([*reached, lowest[failure[state]]])
    heaviest = max(max(highest[state] - best[state], best[state] - lowest[state]) for state in order)
    if heaviest > 3 * LARGEST_WEIGHT:
        raise DecodeError(
            f"hotwords: phrases that end in the same place weigh {heaviest:g} together, more than "
            f"{3 * LARGEST_WEIGHT:g}"
        )
    place_of = np.argsort(order)
    states["failure"][:-1] = place_of[[failure[state] for state in order]]
    states["complete"][:-1], states["owed"][:-1] = np.array(complete)[order], np.array(best)[order]
    first = children[0].get(WORD_END, 0)
    return Hotwords(alphabet, states, int(place_of[first]))


def _step(children: list[dict[int, int]], failure: list[int], state: int, symbol: int) -> int:
    """The state after a symbol."""
    while state and symbol not in children[state]:
        state = failure[state]
    return children[state].get(symbol, 0)
