"""Recordings with annotations: audio files, in a folder and those below it, each with NAME.TextGrid or NAME.eaf.

Each interval with text is an utterance. Its id is the path of the recording without suffix, the tier and the interval's
place in it, such as `talks/a-Ann-0001`. Its speaker is the participant that ELAN names, or else the tier's name;
unknown, where a single tier is taken and names none. Taken are the tiers that `tiers=NAME,NAME` names, or else all with
text, except those of ELAN that are about others. `asr.corpora.beside` says which file belongs to which recording.

What `asr.writers` writes can be read once it is corrected: `words` below what was said are not read, and `segments #0`
is about the first channel, `segments Ann` by Ann.
"""

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path

from asr.corpora.beside import Annotated, Kind, Part, recordings, utterances
from asr.corpora.common import Contents, Corpus, listed
from asr.corpora.repeating import divides, is_untouched, words_below
from asr.corpora.tiers import Tier, read_tiers
from asr.errors import CorpusError
from asr.lines import compared_name, repeated
from asr.manifest import Utterance, part_name

_KIND = Kind("annotation", "annotation", (".TextGrid", ".eaf"))
_TIERS_LISTED = 20
# What `asr.writers` calls tiers: `segments`, `segments Ann`, `segments #0` or `segments Ann#0`; not `segments Ann #0`.
_SEGMENTS = re.compile(r"segments(?: (?P<speaker>(?:.*?\S)??)(?:#(?P<channel>[0-9]{1,4}))?)?")


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
    names = None if tiers is None else [compared_name(name) for name in tiers.split(",")]
    found, missing = recordings(roots[0], _KIND)
    without: list[str] = []
    missing["annotation files without a tier of these names"] = without
    remarks: dict[str, list[str]] = defaultdict(list)
    said: list[Utterance] = []
    there: dict[str, None] = {}
    counts: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for recording in found:
        path, inside = str(recording.path), read_tiers(recording.path)
        there |= dict.fromkeys(tier.name for tier in inside)
        below = words_below(inside)
        independent = [tier for tier in inside if not tier.is_dependent and tier.name not in below]
        taken = [tier for tier in inside if tier.name in names] if names else independent
        _check(taken, recording.path, are_named=names is not None)
        counts.update({tier.name: len(tier.intervals) for tier in taken})
        others.update({tier.name: len(tier.intervals) for tier in independent if tier not in taken})
        if names and not taken:
            without.append(path)
        elif not any(tier.intervals for tier in taken):
            remarks["annotation files without text"].append(path)
        for words, above in below.values():
            if words not in taken and any(tier in taken for tier in above):
                remarks["annotation files with words below what was said, which are not read"].append(path)
            if len(above) == 1 and above[0] in taken and is_untouched(above[0], words):
                remarks["annotation files that say only what their words say, perhaps not corrected"].append(path)
        parts = _parts(recording, taken, remarks, by_tier=speakers is not None)
        said += utterances(recording, parts, _KIND, remarks)
    for name in names or ():
        if name not in there:
            raise CorpusError(f"tiers: no file has an interval tier {name!r}; there are {', '.join(map(repr, there))}")
    notes = (
        *_counted("annotations by tier", counts),
        *_counted("annotations in tiers that were not named", others),
        *listed({what: list(dict.fromkeys(paths)) for what, paths in remarks.items()}),
    )
    return Contents({"train": said}, notes=notes, missing=listed(missing))


def _check(taken: Sequence[Tier], path: Path, *, are_named: bool) -> None:
    """CorpusError as `read`, for the tiers that are taken of a file."""
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
        if not are_named and not are_sides and divides(fine, whole):
            # Which of two that divide each other, such as a sentence and its translation, only its author knows.
            hint = "" if divides(whole, fine) else f", such as {shlex.quote(f'tiers={whole.name}')}"
            raise CorpusError(
                f"{path}: tier {fine.name!r} divides tier {whole.name!r}: all would be heard twice; choose with "
                f"tiers=NAME,NAME{hint}"
            )


def _parts(
    recording: Annotated, tiers: Sequence[Tier], remarks: Mapping[str, list[str]], *, by_tier: bool
) -> Iterator[Part]:
    """What is said in the tiers of a file; a tier of segments has speaker and channel in its name."""
    for tier in tiers:
        segments = _SEGMENTS.fullmatch(tier.name)
        called, side = (segments["speaker"] or "", segments["channel"]) if segments else (tier.name, None)
        channel = None if side is None else int(side)
        speaker = tier.participant or (called if segments or by_tier or len(tiers) > 1 else "") or None
        if not (speaker or segments):
            remarks["annotation files with one tier, which names a speaker only with speakers=tier"].append(
                str(recording.path)
            )
        name = part_name(recording.name, channel=channel if recording.channel is None else None)
        for place, where, start_s, end_s, text in tier.intervals:
            number = f"-{called}-{place:04d}" if called else f"-{place:04d}"
            yield Part(name + number, where, start_s, end_s, text, speaker, channel)


def _counted(what: str, counts: Counter[str]) -> Iterator[str]:
    """How many annotations the tiers have, the fewest first: those are remarks, or names that are misspelled."""
    told = [f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: item[1]) if count]
    if told:
        more = len(told) - _TIERS_LISTED
        yield f"{what}: {', '.join(told[:_TIERS_LISTED])}" + (f" and {more} more tiers" if more > 0 else "")


ANNOTATIONS = Corpus(name="annotations", read=read, options=("tiers", "speakers"))
