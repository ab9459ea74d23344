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


def words_below(tiers: Sequence[Tier]) -> dict[str, tuple[Tier, tuple[Tier, ...]]]:
    """Tiers of words as `asr transcribe` writes them below what was said: by name, each with the tiers above it.

    Above `words` is `segments`, unless it has more annotations: then they are sounds. Where it was renamed, or shared
    out among speakers, what was said may be corrected or cleared in part, but most of the words that lie in annotations
    of other tiers are parts of these, and there are more words: else those are translations, or kinds of words.
    """
    named = {tier.name: tier for tier in tiers}
    others = tuple(tier for tier in tiers if not (tier.is_dependent or _WORDS.fullmatch(tier.name)))
    said = [interval for tier in others for interval in tier.intervals]
    below = {}
    for words in tiers:
        if not words.intervals or not _WORDS.fullmatch(words.name):
            continue
        segments = named.get(words.name.replace("words", "segments", 1))
        if segments is None:
            pairs = zip(words.intervals, _around(words.intervals, said), strict=True)
            spelled = [_letters(word) in _letters(around) for word, around in pairs if around]
            if len(said) < len(words.intervals) and sum(spelled) > _MOST * len(spelled):
                below[words.name] = (words, others)
        elif len(segments.intervals) <= len(words.intervals):
            below[words.name] = (words, (segments,))
    return below


def is_untouched(whole: Tier, words: Tier) -> bool:
    """Whether all that a tier says is what the words below say."""
    spelled: defaultdict[Interval | None, str] = defaultdict(str)
    for word, around in zip(words.intervals, _around(words.intervals, whole.intervals), strict=True):
        spelled[around] += _letters(word)
    parts = [(interval, spelled.pop(interval, "")) for interval in whole.intervals]
    return bool(parts) and not spelled and all(_letters(interval) == said for interval, said in parts)


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
