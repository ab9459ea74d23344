"""Development and test splits for corpora that publish none."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from asr.errors import CorpusError
from asr.manifest import Utterance

MIN_SPEAKERS = 3  # with fewer, holding one out would leave too little variety to train on; so with recordings


def hold_out(
    utterances: Sequence[Utterance], *, split: str, share: float, seed: int
) -> tuple[list[Utterance], list[Utterance], str]:
    """Take a split out of the training utterances.

    With 3 speakers or more, `round(share * speakers)` of them are taken, at least 1, with all their utterances. With
    fewer, or when a speaker is unknown, recordings are taken in the same way: who speaks in one part of them speaks in
    another. With fewer than 3 recordings, `round(share * utterances)` utterances are taken, at least 1. Who is taken is
    decided by the SHA-256 of seed, split and name, so that it depends on no random generator's version; the name of a
    recording is the first id in it.

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
    taken = set(sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{split}:{name}".encode()).digest())[:wanted])
    rest = [utterance for utterance, unit in zip(utterances, units, strict=True) if unit not in taken]
    held = [utterance for utterance, unit in zip(utterances, units, strict=True) if unit in taken]
    note = f"{split} is {wanted} of {len(names)} training {kind} (share {share:g}, seed {seed})"
    if not by_speaker:
        why = "not every speaker is known" if None in speakers else f"there are fewer than {MIN_SPEAKERS} speakers"
        note += f"; not speaker-disjoint, because {why}"
    return rest, held, note


def _parts(utterances: Sequence[Utterance]) -> tuple[str, list[str]]:
    """What is taken where not speakers are, recordings or utterances, and which of them each utterance belongs to."""
    first: dict[Path, str] = {}
    for utterance in utterances:
        audio = utterance.audio_filepath
        first[audio] = min(utterance.id, first.get(audio, utterance.id))
    if MIN_SPEAKERS <= len(first) < len(utterances):
        return "recordings", [first[utterance.audio_filepath] for utterance in utterances]
    return "utterances", [utterance.id for utterance in utterances]
