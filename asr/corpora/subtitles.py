"""Recordings with subtitles: audio files, in a folder and those below it, each with NAME.srt or NAME.vtt beside it.

Each cue is an utterance. Its id is the path of the recording without suffix and the cue's place in its file, such as
`talks/a-0001`; its speaker is the one that WebVTT's `<v NAME>` names, or with `speakers=colon` a name and a colon
before the words, or unknown. `asr.corpora.beside` says which file belongs to which recording.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from asr.corpora.beside import Annotated, Kind, Part, recordings, utterances
from asr.corpora.common import Contents, Corpus, listed
from asr.corpora.cues import read_cues
from asr.errors import CorpusError
from asr.lines import compared_name
from asr.manifest import Utterance

_KIND = Kind("subtitle", "cue", (".srt", ".vtt"))
_MAX_REPEATING = 0.2  # of the cues of a file


def read(roots: Sequence[Path], *, speakers: str | None = None) -> Contents:
    """All cues with words as training utterances.

    Args:
        roots: the folder, first.
        speakers: "colon": a name and a colon at the beginning of a cue are its speaker, and no words; None: words.

    Raises:
        CorpusError: `speakers` is something else, nothing is found, a subtitle file is malformed, two files claim to be
            the same, or audio is unreadable or ends before a cue, or captions roll.
    """
    if speakers not in (None, "colon"):
        raise CorpusError(f"speakers must be colon, or not given, found {speakers!r}")
    found, missing = recordings(roots[0], _KIND)
    remarks: dict[str, list[str]] = defaultdict(list)
    said: list[Utterance] = []
    for recording in found:
        said += utterances(recording, _parts(recording, remarks, by_colon=speakers is not None), _KIND, remarks)
    return Contents({"train": said}, notes=listed(remarks), missing=listed(missing))


def _parts(recording: Annotated, remarks: Mapping[str, list[str]], *, by_colon: bool) -> list[Part]:
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
    parts = []
    for place, cue in cues:
        spoken, speaker, text = f"{name}-{place:04d}", cue.speaker, cue.text
        before_colon, after_colon = _speaker_and_words(text)
        if len(cue.speakers) > 1:
            remarks["cues of several speakers, whose words are joined"].append(spoken)
        if by_colon and before_colon:
            speaker, text = before_colon, after_colon
        elif before_colon:
            remarks["cues that begin with a name and a colon, taken for words unless speakers=colon"].append(spoken)
        elif by_colon and speaker is None:
            remarks["cues of an unknown speaker, without a name and a colon"].append(spoken)
        parts.append(Part(spoken, f"{path}:{cue.line}", cue.start_s, cue.end_s, text, speaker))
    return parts


def _speaker_and_words(text: str) -> tuple[str | None, str]:
    """The one or two words, as of `Ann:`, `- Ann Lee:` or `Speaker 1:`, that come first with a colon, and the rest."""
    name, colon, rest = text.partition(": ")
    words = name.lstrip("->").split()
    if colon and len(words) in (1, 2) and words[0][0].isupper() and not words[-1][0].islower():
        return compared_name(" ".join(words)), rest
    return None, text


SUBTITLES = Corpus(name="subtitles", read=read, options=("speakers",))
