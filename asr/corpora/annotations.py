"""Recordings with annotations: audio files, in a folder and those below it, each with NAME.TextGrid or NAME.eaf.

Each interval with text is an utterance. Its id is the path of the recording without suffix, the tier and the interval's
place in it, such as `talks/a-Ann-0001`. Its speaker is the participant that ELAN names, or else the tier's name;
unknown, where a single tier is taken and names none. Taken are the tiers that `tiers=NAME,NAME` names, or else all with
text, except those of ELAN that are about others. `asr.corpora.beside` says which file belongs to which recording.

What `asr.writers` writes can be read once it is corrected: of the tiers `segments` and `words` the segments are taken,
and those of `segments 0` are about the first channel, those of `segments Ann` by Ann.
"""

import re
import shlex
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path

from asr.corpora.beside import Kind, Part, listed, recordings, utterances
from asr.corpora.common import Contents, Corpus
from asr.corpora.tiers import Interval, Tier, read_tiers, tier_name
from asr.errors import CorpusError
from asr.lines import repeated
from asr.manifest import Utterance, part_name

_KIND = Kind("annotation", "annotation", (".TextGrid", ".eaf"))
# A tier divides another although its intervals leave those of the other by so much, a few are elsewhere, and between
# them are pauses.
_SLACK_S = 0.05
_NEARLY_ALL = 0.8
_MOST = 0.5
_TIERS_LISTED = 10
# What `asr.writers` calls the tiers of a transcript, and of each side of a dialogue: a channel, or a speaker.
_WORDS = re.compile(r"\Awords(?= |\Z)")
_SEGMENTS = re.compile(r"segments(?: (.+))?")
_CHANNEL = re.compile(r"[0-9]{1,4}")


def read(roots: Sequence[Path], *, tiers: str | None = None, speakers: str | None = None) -> Contents:
    """All intervals with words, of the tiers named or of all, as training utterances.

    Args:
        roots: the folder, first.
        tiers: names of those to take, separated by commas; None: all that may be taken.
        speakers: "tier": a tier's name is its speaker even where no other is taken; None: not there.

    Raises:
        CorpusError: `speakers` is something else, nothing is found, a file is malformed or does not state a time, two
            files claim to be the same, audio is unreadable, lacks a channel or ends before an interval, a tier that is
            named is in no file, or one of those taken without being named divides another.
    """
    if speakers not in (None, "tier"):
        raise CorpusError(f"speakers must be tier, or not given, found {speakers!r}")
    names = None if tiers is None else [tier_name(name) for name in tiers.split(",")]
    found, missing = recordings(roots[0], _KIND)
    without: list[str] = []
    missing["annotation files without a tier of these names"] = without
    remarks: dict[str, list[str]] = defaultdict(list)
    said: list[Utterance] = []
    there: dict[str, None] = {}
    counts: Counter[str] = Counter()
    for recording in found:
        inside = read_tiers(recording.path)
        there |= dict.fromkeys(tier.name for tier in inside)
        taken = _taken(inside, names, recording.path)
        counts.update({tier.name: len(tier.intervals) for tier in taken})
        if names and not taken:
            without.append(str(recording.path))
        elif not any(tier.intervals for tier in taken):
            remarks["annotation files without text"].append(str(recording.path))
        if not names and len(_without_words(inside)) < len(inside):
            remarks["annotation files with words below their segments, which are not read"].append(str(recording.path))
        parts = _parts(recording.name, taken, by_tier=speakers is not None)
        said += utterances(recording, parts, _KIND, remarks)
    for name in names or ():
        if name not in there:
            raise CorpusError(f"tiers: no file has an interval tier {name!r}; there are {', '.join(map(repr, there))}")
    return Contents({"train": said}, notes=(*_counted(counts), *listed(remarks)), missing=listed(missing))


def _taken(tiers: Sequence[Tier], names: Sequence[str] | None, path: Path) -> list[Tier]:
    """The tiers of a file that are named, or all that may be taken; CorpusError as `read`."""
    if names:
        taken = [tier for tier in tiers if tier.name in names]
    else:
        taken = _without_words([tier for tier in tiers if not tier.is_dependent])
    twice = repeated(tier.name for tier in taken if tier.intervals)
    if twice is not None:
        raise CorpusError(f"{path}: two tiers are called {twice!r}; rename one")
    for tier in taken:
        if tier.untimed:
            (ids,) = listed({"annotations whose time is not stated": tier.untimed})
            raise CorpusError(f"{path}: tier {tier.name!r} has {ids}")
    for fine, whole in permutations(taken, 2):
        # Sides of a dialogue may say the same, where one is heard on the other's channel.
        are_sides = _SEGMENTS.fullmatch(fine.name) and _SEGMENTS.fullmatch(whole.name)
        if not names and not are_sides and _divides(fine, whole):
            # Which of two that divide each other, such as a sentence and its translation, only its author knows.
            hint = "" if _divides(whole, fine) else f", such as {shlex.quote(f'tiers={whole.name}')}"
            raise CorpusError(
                f"{path}: tier {fine.name!r} divides tier {whole.name!r}: all would be heard twice; choose with "
                f"tiers=NAME,NAME{hint}"
            )
    return taken


def _without_words(tiers: Sequence[Tier]) -> list[Tier]:
    """The tiers but for those of words below their segments, as `asr transcribe` writes them.

    Elsewhere segments are the sounds of words; those of words do not lie inside them.
    """
    named = {tier.name: tier for tier in tiers}
    below = {}
    for tier in tiers:
        segments = named.get(_WORDS.sub("segments", tier.name)) if _WORDS.match(tier.name) else None
        if segments:
            inside = sum(part is not None for part in _around(tier.intervals, segments.intervals))
            below[tier.name] = inside >= _NEARLY_ALL * len(tier.intervals)
    return [tier for tier in tiers if not below.get(tier.name)]


def _parts(name: str, tiers: Sequence[Tier], *, by_tier: bool) -> Iterator[Part]:
    """What is said in the tiers; a tier of segments has the side of a dialogue in its name."""
    for tier in tiers:
        draft = _SEGMENTS.fullmatch(tier.name)
        called = draft[1] or "" if draft else tier.name
        channel = int(called) if draft and _CHANNEL.fullmatch(called) else None
        told = by_tier or draft or len(tiers) > 1
        speaker = tier.participant or (called if told and channel is None else "") or None
        whose = part_name(name, channel=channel) + (f"-{called}" if called and channel is None else "")
        for place, where, start_s, end_s, text in tier.intervals:
            yield Part(f"{whose}-{place:04d}", where, start_s, end_s, text, speaker, channel)


def _counted(counts: Counter[str]) -> Iterator[str]:
    """Which tiers were taken, the fullest first, so that one of remarks is noticed."""
    told = [f"{name} {count}" for name, count in counts.most_common(_TIERS_LISTED) if count]
    if told:
        more = len(counts) - _TIERS_LISTED
        yield f"annotations by tier: {', '.join(told)}" + (f" and {more} tiers more" if more > 0 else "")


def _divides(fine: Tier, whole: Tier) -> bool:
    """Whether a tier says the same again, in parts: nearly all of its intervals lie inside one of the other.

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


ANNOTATIONS = Corpus(name="annotations", read=read, options=("tiers", "speakers"))
