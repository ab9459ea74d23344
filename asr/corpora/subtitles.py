"""Recordings with subtitles: audio files, in a folder and those below it, each with NAME.srt or NAME.vtt beside it.

Each cue is an utterance. Its id is the path of the recording without suffix and the cue's place in its file, such as
`talks/a-0001`; its speaker is the one that WebVTT's `<v NAME>` names, or unknown. `asr.corpora.beside` says which file
belongs to which recording.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from asr.corpora.beside import Kind, Part, Recording, listed, recordings, utterances
from asr.corpora.common import Contents, Corpus
from asr.corpora.cues import read_cues
from asr.errors import CorpusError
from asr.manifest import Utterance

_KIND = Kind("subtitle", "cue", (".srt", ".vtt"))
_MAX_REPEATING = 0.2  # of the cues of a file


def read(roots: Sequence[Path]) -> Contents:
    """All cues with words as training utterances.

    Raises:
        CorpusError: nothing is found, a subtitle file is malformed, two files claim to be the same, or audio is
            unreadable or ends before a cue, or captions roll.
    """
    found, missing = recordings(roots[0], _KIND)
    remarks: dict[str, list[str]] = defaultdict(list)
    said: list[Utterance] = []
    for recording in found:
        said += utterances(recording, _parts(recording, remarks), _KIND, remarks)
    return Contents({"train": said}, notes=listed(remarks), missing=listed(missing))


def _parts(recording: Recording, remarks: Mapping[str, list[str]]) -> list[Part]:
    """The cues of a recording by their start; adds to `remarks` the ids of some."""
    name, path = recording.name, recording.path
    cues = sorted(enumerate(read_cues(path), 1), key=lambda item: item[1].start_s)
    if not cues:
        remarks["subtitle files without a cue"].append(str(path))
    repeating = [f"{name}-{place:04d}" for (_, before), (place, cue) in pairwise(cues) if cue.repeats(before)]
    if len(repeating) > _MAX_REPEATING * len(cues):
        found = f"{len(repeating)} of {len(cues)} cues repeat lines of the ones before"
        wanted = "leave each line in one cue, or put the text into a file for asr align to cut"
        raise CorpusError(f"{path}: rolling captions: {found}; {wanted}")
    remarks["cues that repeat lines of the ones before"] += repeating
    return [
        Part(f"{name}-{place:04d}", f"{path}:{cue.line}", cue.start_s, cue.end_s, cue.text, cue.speaker)
        for place, cue in cues
    ]


SUBTITLES = Corpus(name="subtitles", read=read)
