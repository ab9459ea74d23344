"""Phrases that are given a bonus, as one automaton over characters (Aho & Corasick 1975)."""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real

import numpy as np

from asr.decode.inputs import check_kind
from asr.decode.layout import Records
from asr.decode.scoring import HOT_STATE
from asr.errors import DecodeError

LARGEST_WEIGHT = 100.0  # natural log
OTHER, WORD_END = 0, 1  # symbols: a character that no phrase has; the end of a word, and the start of the utterance


@dataclass(frozen=True)
class Hotwords:
    """The automaton.

    Attributes:
        alphabet: character -> symbol, from 2.
        states: as `Scorer.hot_states`.
        first: the state in which an utterance begins.
    """

    alphabet: dict[str, int]
    states: Records
    first: int


def build_hotwords(phrases: Mapping[str, float]) -> Hotwords:
    """The automaton that gives each whole phrase its weight wherever it stands among whole words.

    A phrase that has begun is given its weight in equal parts, a part a character, and loses them again when it breaks
    off: a beam sees the bonus from the first character, and a finished text has it for whole phrases alone.

    Args:
        phrases: phrase -> natural-log weight of one occurrence; negative weights hold a phrase back.

    Raises:
        DecodeError: a phrase is empty, or weights are not finite or beyond what a search can hold.
    """
    alphabet: dict[str, int] = {}
    children: list[dict[int, int]] = [{}]
    best: list[float] = [0.0]  # given ahead, of the phrase through this state that gives most
    complete: list[float] = [0.0]
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
        symbols = [WORD_END]
        for word in words:
            symbols += [alphabet.setdefault(character, len(alphabet) + 2) for character in word]
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


def _with_failures(
    alphabet: dict[str, int], children: list[dict[int, int]], best: list[float], complete: list[float]
) -> Hotwords:
    """Put the states in breadth-first order, and find of each the longest proper suffix that is a state too."""
    order, failure = [0], [0] * len(children)
    states = np.zeros(len(children) + 1, HOT_STATE)
    highest, lowest = [0.0] * len(children), [0.0] * len(children)  # what a step from a state may come to
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
