"""Development and test splits for corpora that publish none."""

import hashlib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from asr.errors import CorpusError
from asr.manifest import Utterance

MIN_SPEAKERS = 3  # with fewer, holding one out would leave too little variety to train on; so with recordings
MAX_SHARE = 0.5  # of the duration that held-out recordings may have, or twice the share if that is more


def hold_out(
    utterances: Sequence[Utterance], *, split: str, share: float, seed: int
) -> tuple[list[Utterance], list[Utterance], str]:
    """Take a split out of the training utterances.

    With 3 speakers or more, `round(share * speakers)` of them are taken, at least 1, with all their utterances. With
    fewer, or when a speaker is unknown, recordings are taken in the same way, because who speaks in one part of one
    speaks in another; one that would bring what is held out above `MAX_SHARE` is passed over. With fewer than 3
    recordings, `round(share * utterances)` utterances are taken, at least 1. Who is taken is decided by the SHA-256 of
    seed, split and name, so that it depends on no random generator's version; the name of a recording is that of its
    file, or its path below the folder that holds all recordings where several have the same.

    Args:
        utterances: the training utterances.
        split: name of the new split ("dev" or "test").
        share: part to take, 0 < share < 1.
        seed: another seed takes other speakers.

    Returns:
        rest: the utterances that stay, in their order.
        held: the utterances of the new split, in their order.
        note: one line that says what was done.

    Raises:
        CorpusError: nothing would be left to train on.
    """
    speakers = {utterance.speaker for utterance in utterances}
    by_speaker = None not in speakers and len(speakers) >= MIN_SPEAKERS
    kind, units = "speakers", [str(utterance.speaker) for utterance in utterances]
    if not by_speaker:
        kind, units = _parts(utterances)
    names = set(units)
    wanted = max(1, round(share * len(names)))
    if wanted >= len(names):
        raise CorpusError(
            f"{split} share {share:g} takes {wanted} of {len(names)} training {kind}; none would be left "
            f"(a share of 0 holds none out)"
        )
    order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{split}:{name}".encode()).digest())
    if kind == "recordings":
        order = _not_too_long(order, units, utterances, max(2 * share, MAX_SHARE))
    taken = set(order[:wanted])
    rest = [utterance for utterance, unit in zip(utterances, units, strict=True) if unit not in taken]
    held = [utterance for utterance, unit in zip(utterances, units, strict=True) if unit in taken]
    note = f"{split} is {len(taken)} of {len(names)} training {kind} (share {share:g}, seed {seed})"
    if kind == "recordings":
        note += f", {len(held)} of {len(utterances)} utterances"
    if not by_speaker:
        why = "not every speaker is known" if None in speakers else f"there are fewer than {MIN_SPEAKERS} speakers"
        note += f"; not speaker-disjoint, because {why}"
    return rest, held, note


def _parts(utterances: Sequence[Utterance]) -> tuple[str, list[str]]:
    """What is taken where not speakers are, recordings or utterances, and which of them each utterance belongs to."""
    recordings = {utterance.audio_filepath for utterance in utterances}
    if MIN_SPEAKERS <= len(recordings) < len(utterances):
        names = _names(recordings)
        return "recordings", [names[utterance.audio_filepath] for utterance in utterances]
    return "utterances", [utterance.id for utterance in utterances]


def _names(recordings: Collection[Path]) -> dict[Path, str]:
    """What each is called wherever the folder that holds them lies, and whatever is said in them."""
    folder = os.path.commonpath([path.absolute().parent for path in recordings])
    called = Counter(path.name for path in recordings)
    names = {}
    for path in recordings:
        name = path.name if called[path.name] == 1 else path.absolute().relative_to(folder).as_posix()
        names[path] = unicodedata.normalize("NFC", name)
    return names


def _not_too_long(
    order: Sequence[str], units: Sequence[str], utterances: Sequence[Utterance], share: float
) -> list[str]:
    """Those that are together no longer than this share of the whole, each taken that fits after those before it."""
    seconds: dict[str, float] = defaultdict(float)
    for utterance, unit in zip(utterances, units, strict=True):
        seconds[unit] += utterance.duration
    left_s = share * sum(seconds.values())
    fitting = []
    for name in order:
        if seconds[name] <= left_s:
            fitting.append(name)
            left_s -= seconds[name]
    return fitting
