"""Tiers that say again what another tier says: as words, as sounds, or in another language."""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence

from asr.corpora.tiers import Interval, Tier

# A tier divides another although its intervals leave those of the other by so much, a few are elsewhere, and between
# them are pauses.
_SLACK_S = 0.05
_NEARLY_ALL = 0.8
_MOST = 0.5
_WORDS = re.compile(r"words(?: .+)?")  # what `asr.writers` calls the tiers of words


def divides(fine: Tier, whole: Tier) -> bool:
    """Whether a tier says the same as another again, in parts: nearly all of its intervals lie inside one of the other.

    And their texts are parts of that one's, as of words in a sentence; or they fill most of it, as sounds or a
    translation do, and what another speaker says meanwhile does not.
    """
    parts = list(filter(_letters, fine.intervals))
    wholes = list(filter(_letters, whole.intervals))
    pairs = [(part, other) for part, other in zip(parts, _around(parts, wholes), strict=True) if other]
    enough = _NEARLY_ALL * len(parts)
    spelled = sum(_letters(part) in _letters(other) for part, other in pairs)
    filled_s = sum(part.end_s - part.start_s for part, _ in pairs)
    is_full = filled_s > _MOST * sum(other.end_s - other.start_s for other in {other for _, other in pairs})
    return bool(pairs) and len(pairs) >= enough and (spelled >= enough or is_full)


def words_below(tiers: Sequence[Tier]) -> dict[str, tuple[Tier, Tier]]:
    """Tiers of words as `asr transcribe` writes them below what was said: by name, each with the tier above it.

    That is the one called `segments` instead of `words`, unless its annotations lie inside the words, as sounds do; or,
    where it was renamed, a tier inside whose annotations words lie, with about as many letters: it does not name turns.
    """
    named = {tier.name: tier for tier in tiers}
    below = {}
    for words in tiers:
        if not words.intervals or not _WORDS.fullmatch(words.name):
            continue
        segments = named.get(words.name.replace("words", "segments", 1))
        if segments is not None and not (segments.intervals and _lies_in(segments, words)):
            below[words.name] = (words, segments)
        for other in tiers if segments is None else ():
            spelled, letters = ("".join(map(_letters, tier.intervals)) for tier in (words, other))
            if _lies_in(words, other) and len(letters) > _MOST * len(spelled) and not _WORDS.fullmatch(other.name):
                below[words.name] = (words, other)
    return below


def _lies_in(fine: Tier, whole: Tier) -> bool:
    inside = sum(other is not None for other in _around(fine.intervals, whole.intervals))
    return inside >= _NEARLY_ALL * len(fine.intervals)


def is_untouched(whole: Tier, words: Tier) -> bool:
    """Whether all that a tier says is what the words below say."""
    spelled: defaultdict[Interval | None, str] = defaultdict(str)
    for word, around in zip(words.intervals, _around(words.intervals, whole.intervals), strict=True):
        spelled[around] += _letters(word)
    return all(_letters(interval) == spelled[interval] for interval in whole.intervals)


def _around(parts: Sequence[Interval], wholes: Sequence[Interval]) -> Iterator[Interval | None]:
    """For each part the interval that it lies in, if there is one."""
    ordered = sorted(wholes, key=lambda interval: interval.start_s)
    starts = [interval.start_s for interval in ordered]
    for part in parts:
        place = bisect_right(starts, (part.start_s + part.end_s) / 2) - 1
        other = ordered[max(0, place)] if ordered else None
        is_inside = other and other.start_s - _SLACK_S <= part.start_s and part.end_s <= other.end_s + _SLACK_S
        yield other if is_inside else None


def _letters(interval: Interval) -> str:
    return "".join(filter(str.isalnum, interval.text.casefold()))
