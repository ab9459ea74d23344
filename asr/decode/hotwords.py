"""Phrases that are given a bonus, as one automaton over characters (Aho & Corasick 1975)."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.errors import DecodeError

LARGEST_WEIGHT = 100.0  # natural log
OTHER, WORD_END = 0, 1  # symbols: a character that no phrase has; the end of a word, and the start of the utterance


@dataclass(frozen=True)
class Hotwords:
    """The automaton.

    Attributes:
        alphabet: character -> symbol, from 2.
        next: (states, symbols) int32.
        gain: (states, symbols) float64, natural-log bonus of a transition.
        owed: (states,) float64, what was given ahead in this state for a phrase that is not complete.
        first: the state in which an utterance begins.
    """

    alphabet: dict[str, int]
    next: NDArray[np.int32]
    gain: NDArray[np.float64]
    owed: NDArray[np.float64]
    first: int


def build_hotwords(phrases: Mapping[str, float]) -> Hotwords:
    """The automaton that gives each whole phrase its weight wherever it stands among whole words.

    A phrase that has begun is given its weight in equal parts, a part a character, and loses them again when it breaks
    off: a beam sees the bonus from the first character, and a finished text has it for whole phrases alone.

    Args:
        phrases: phrase -> natural-log weight of one occurrence; negative weights hold a phrase back.

    Raises:
        DecodeError: a phrase is empty or a weight is not finite.
    """
    alphabet: dict[str, int] = {}
    children: list[dict[int, int]] = [{}]
    best: list[float] = [0.0]  # given ahead, of the phrase through this state that gives most
    complete: list[float] = [0.0]
    for phrase, weight in phrases.items():
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
    states, symbols = len(children), len(alphabet) + 2
    follow = np.zeros((states, symbols), np.int32)
    failure = [0] * states
    queue: deque[int] = deque()
    for symbol, child in children[0].items():
        follow[0, symbol] = child
        queue.append(child)
    while queue:
        state = queue.popleft()
        # A shorter phrase may end, or have begun, inside a longer one.
        complete[state] += complete[failure[state]]
        best[state] = max(best[state], best[failure[state]], key=abs)
        for symbol in range(symbols):
            if symbol not in children[state]:
                follow[state, symbol] = follow[failure[state], symbol]
            else:
                child = children[state][symbol]
                follow[state, symbol] = child
                failure[child] = int(follow[failure[state], symbol])
                queue.append(child)
    owed = np.array(best)
    gain = np.array(complete)[follow] + owed[follow] - owed[:, None]
    if abs(gain).max() > 3 * LARGEST_WEIGHT:
        raise DecodeError(
            f"hotwords: phrases that end in the same place weigh {abs(gain).max():g} together, more than "
            f"{3 * LARGEST_WEIGHT:g}"
        )
    return Hotwords(alphabet, follow, gain, owed, int(follow[0, WORD_END]))
