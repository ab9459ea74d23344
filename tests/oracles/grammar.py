"""Grammars as the set of their sentences: slow and obviously right.

An expression is a word, or a tuple of an operator and its operands: ("then", a, b, ...), ("or", a, b, ...) and
("times", a, least, most), without a limit where most is None.
"""

import math
import random
from collections.abc import Iterable
from typing import Any

Sentence = tuple[str, ...]


def sentences(expression: Any, longest: int) -> set[Sentence]:
    """All sentences of at most `longest` words."""
    if isinstance(expression, str):
        return {(expression,)} if longest else set()
    operator, *operands = expression
    if operator == "or":
        return {sentence for operand in operands for sentence in sentences(operand, longest)}
    if operator == "then":
        return _joined((sentences(operand, longest) for operand in operands), longest)
    item, least, most = operands
    once = sentences(item, longest)
    # More than `longest` times needs empty sentences, and then fewer times are as good.
    times = range(least, max(least, longest) + 1 if most is None else most + 1)
    return {sentence for count in times for sentence in _joined([once] * count, longest)}


def _joined(parts: Iterable[set[Sentence]], longest: int) -> set[Sentence]:
    found: set[Sentence] = {()}
    for part in parts:
        found = {(*before, *after) for before in found for after in part if len(before) + len(after) <= longest}
    return found


def log10_prob(sentence: Sentence, allowed: set[Sentence]) -> float:
    """Each word that may follow is equally probable, and so is the end; `allowed` holds all sentences there are."""
    if sentence not in allowed:
        return -math.inf
    total = 0.0
    for count in range(len(sentence) + 1):
        going_on = [other[count:] for other in allowed if other[:count] == sentence[:count]]
        total -= math.log10(len({rest[:1] for rest in going_on}))
    return total


def written(expression: Any) -> str:
    """The expression as a grammar has it."""
    if isinstance(expression, str):
        return expression
    operator, *operands = expression
    if operator == "times":
        item, least, most = operands
        signs = {(0, 1): "?", (0, None): "*", (1, None): "+", (least, least): f"{{{least}}}"}
        most_written = "" if most is None else str(most)
        return f"({written(item)})" + signs.get((least, most), f"{{{least},{most_written}}}")
    return f"({(' | ' if operator == 'or' else ' ').join(map(written, operands))})"


def random_expression(rng: random.Random, words: list[str], depth: int, *, endless: bool) -> Any:
    """An expression with at most `depth` operators within each other; `endless`: some have no limit."""
    if depth == 0 or rng.random() < 0.2:
        return rng.choice(words)
    part = [random_expression(rng, words, depth - 1, endless=endless) for _ in range(rng.randint(2, 3))]
    if rng.random() < 0.35:
        least = rng.randint(0, 2)
        return ("times", part[0], least, None if endless and rng.random() < 0.5 else max(1, least) + rng.randint(0, 1))
    return (rng.choice(["then", "or"]), *part)
