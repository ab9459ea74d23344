"""Recordings with texts: audio files, in a folder and those below it, each with NAME.txt beside it.

A text is what is said in the whole recording, which is one utterance, named by its path without suffix. Or it is a
label track as Audacity exports it: on each line the start and the end of a label, in seconds, and its text, with TABs
between them; then each label is an utterance, such as `talks/a-0001` by its place. With `speakers=folder` the speaker
is the folder that the recording lies in, else unknown. `asr.corpora.beside` says which file belongs to which recording.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from asr.config import TrainConfig
from asr.corpora.beside import Annotated, Kind, Part, recordings, utterances
from asr.corpora.common import Contents, Corpus, listed, make_utterance, read_lines
from asr.errors import CorpusError
from asr.manifest import Utterance

_KIND = Kind("text", "label", (".txt",))
_TIME = r"[0-9]+(?:[.,][0-9]+)?"  # Audacity's point becomes a comma in some languages
_LABEL = re.compile(rf"({_TIME})\t({_TIME})(?:\t(.*))?")
_FREQUENCIES = "\\\t"  # begins a line about the label above: the frequencies that were selected with it

Lines = list[tuple[int, str]]


def read(roots: Sequence[Path], *, speakers: str | None = None) -> Contents:
    """All recordings, or their labels with words, as training utterances.

    Args:
        roots: the folder, first.
        speakers: "folder": recordings in one folder are of one speaker, who is called as it is; None: unknown.

    Raises:
        CorpusError: `speakers` is something else, nothing is found, a text is empty or a label malformed, two files
            claim to be the same, or audio is unreadable or ends before a label.
    """
    if speakers not in (None, "folder"):
        raise CorpusError(f"speakers must be folder, or not given, found {speakers!r}")
    found, missing = recordings(roots[0], _KIND)
    remarks: dict[str, list[str]] = defaultdict(list)
    said: list[Utterance] = []
    for recording in found:
        speaker = recording.audio.absolute().parent.name if speakers else None
        lines = [line for line in read_lines(recording.path) if not line[1].startswith(_FREQUENCIES)]
        if lines and _LABEL.fullmatch(lines[0][1]):
            said += utterances(recording, _labels(recording, lines, speaker, remarks), _KIND, remarks)
        else:
            said.append(_whole(recording, lines, speaker, remarks))
    return Contents({"train": said}, notes=listed(remarks), missing=listed(missing))


def _whole(recording: Annotated, lines: Lines, speaker: str | None, remarks: Mapping[str, list[str]]) -> Utterance:
    """A recording as one utterance."""
    text = " ".join(line.strip() for _, line in lines)
    name, audio, channel, path = recording
    utterance = make_utterance(name, audio, text, where=str(path), speaker=speaker, channel=channel)
    longest_s = TrainConfig().max_utterance_s
    if utterance.duration > longest_s:
        remarks[f"recordings longer than the {longest_s:g} s of train.max_utterance_s; asr align cuts them"].append(
            name
        )
    return utterance


def _labels(
    recording: Annotated, lines: Lines, speaker: str | None, remarks: Mapping[str, list[str]]
) -> Iterator[Part]:
    """The labels of a track; adds to `remarks` those without a duration."""
    for place, (number, line) in enumerate(lines, 1):
        where = f"{recording.path}:{number}"
        label = _LABEL.fullmatch(line)
        if label is None:
            raise CorpusError(f"{where}: wanted start, end and text of a label with TABs between them, found {line!r}")
        start_s, end_s = (float(time.replace(",", ".")) for time in label.groups()[:2])
        name = f"{recording.name}-{place:04d}"
        if start_s == end_s:
            remarks["labels that mark a moment, left out"].append(name)
            continue
        if end_s < start_s:
            raise CorpusError(f"{where}: the label ends at {end_s:g} s, before its start at {start_s:g} s")
        yield Part(name, where, start_s, end_s, (label[3] or "").strip(), speaker)


TEXTS = Corpus(name="texts", read=read, options=("speakers",))
