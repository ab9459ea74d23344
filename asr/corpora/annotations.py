"""Recordings with annotations: audio files, in a folder and those below it, each with NAME.TextGrid or NAME.eaf.

Each interval with text is an utterance. Its id is the path of the recording without suffix, the tier and the interval's
place in it, such as `talks/a-Ann-0001`. Its speaker is the participant that ELAN names, or else the tier's name;
unknown, where a single tier is taken and names none. Taken are the tiers that `tiers=NAME,NAME` names, or else all with
text, except those of ELAN that are about others. `asr.corpora.beside` says which file belongs to which recording.
"""

import shlex
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path

from asr.corpora.beside import Kind, Part, listed, recordings, utterances
from asr.corpora.common import Contents, Corpus
from asr.corpora.tiers import Interval, Tier, read_tiers, tier_name
from asr.errors import CorpusError
from asr.lines import repeated
from asr.manifest import Utterance

_KIND = Kind("annotation", "annotation", (".TextGrid", ".eaf"))
# A tier divides another although its intervals leave those of the other by so much, a few are elsewhere, and between
# them are pauses.
_SLACK_S = 0.05
_NEARLY_ALL = 0.8
_MOST = 0.5


def read(roots: Sequence[Path], *, tiers: str | None = None) -> Contents:
    """All intervals with words, of the tiers named or of all, as training utterances.

    Raises:
        CorpusError: nothing is found, a file is malformed or does not state a time, two files claim to be the same,
            audio is unreadable or ends before an interval, a tier that is named is in no file, or one of those taken
            without being named divides another.
    """
    names = None if tiers is None else [tier_name(name) for name in tiers.split(",")]
    found, missing = recordings(roots[0], _KIND)
    without: list[str] = []
    missing["annotation files without a tier of these names"] = without
    remarks: dict[str, list[str]] = defaultdict(list)
    said: list[Utterance] = []
    there: dict[str, None] = {}
    for recording in found:
        inside = read_tiers(recording.path)
        there |= dict.fromkeys(tier.name for tier in inside)
        taken = _taken(inside, names, recording.path)
        if names and not taken:
            without.append(str(recording.path))
        elif not any(tier.intervals for tier in taken):
            remarks["annotation files without text"].append(str(recording.path))
        said += utterances(recording, _parts(recording.name, taken), _KIND, remarks)
    for name in names or ():
        if name not in there:
            raise CorpusError(f"tiers: no file has an interval tier {name!r}; there are {', '.join(map(repr, there))}")
    return Contents({"train": said}, notes=listed(remarks), missing=listed(missing))


def _taken(tiers: Sequence[Tier], names: Sequence[str] | None, path: Path) -> list[Tier]:
    """The tiers of a file that are named, or all that may be taken; CorpusError as `read`."""
    taken = [tier for tier in tiers if (tier.name in names if names else not tier.is_dependent)]
    twice = repeated(tier.name for tier in taken if tier.intervals)
    if twice is not None:
        raise CorpusError(f"{path}: two tiers are called {twice!r}; rename one")
    for tier in taken:
        if tier.untimed:
            (ids,) = listed({"annotations whose time is not stated": tier.untimed})
            raise CorpusError(f"{path}: tier {tier.name!r} has {ids}")
    for fine, whole in permutations(taken, 2):
        if not names and _divides(fine, whole):
            raise CorpusError(
                f"{path}: tier {fine.name!r} divides tier {whole.name!r}: all would be heard twice; choose with "
                f"tiers=NAME,NAME, such as {shlex.quote(f'tiers={whole.name}')}"
            )
    return taken


def _parts(name: str, tiers: Sequence[Tier]) -> Iterator[Part]:
    for tier in tiers:
        speaker = tier.participant or (tier.name if len(tiers) > 1 else "") or None
        for place, where, start_s, end_s, text in tier.intervals:
            yield Part(f"{name}-{tier.name}-{place:04d}", where, start_s, end_s, text, speaker)


def _divides(fine: Tier, whole: Tier) -> bool:
    """Whether a tier says the same again, in parts: nearly all of its intervals lie inside one of the other.

    And their texts are parts of that one's, as of words in a sentence; or they fill most of it, as sounds or a
    translation do, and what another speaker says meanwhile does not.
    """
    parts = list(filter(_letters, fine.intervals))
    wholes = sorted(filter(_letters, whole.intervals), key=lambda interval: interval.start_s)
    if not parts or not wholes:
        return False
    starts = [interval.start_s for interval in wholes]
    inside, spelled, filled_s = 0, 0, 0.0
    around = set()
    for part in parts:
        other = wholes[max(0, bisect_right(starts, (part.start_s + part.end_s) / 2) - 1)]
        if other.start_s - _SLACK_S <= part.start_s and part.end_s <= other.end_s + _SLACK_S:
            around.add(other)
            inside += 1
            spelled += _letters(part) in _letters(other)
            filled_s += part.end_s - part.start_s
    enough = _NEARLY_ALL * len(parts)
    is_full = filled_s > _MOST * sum(other.end_s - other.start_s for other in around)
    return inside >= enough and (spelled >= enough or is_full)


def _letters(interval: Interval) -> str:
    return "".join(filter(str.isalnum, interval.text.casefold()))


ANNOTATIONS = Corpus(name="annotations", read=read, options=("tiers",))
