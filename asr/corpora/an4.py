"""CMU AN4 (Census): 948 training and 130 test utterances of 74 and 10 speakers, 16 kHz, NIST SPHERE.

Layout: `etc/an4_{train,test}.fileids` name the audio below `wav/` without its suffix, and
`etc/an4_{train,test}.transcription` hold one transcript a line with the utterance id in parentheses; those of the
training split carry sentence marks: `<s> YES </s> (an251-fash-b)` and `ERASE C Q Q F SEVEN (an407-fcaw-b)`.
The speaker is the folder that holds the audio.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from asr.corpora.common import Archive, Contents, Corpus, find_root, make_utterance, read_lines
from asr.errors import CorpusError
from asr.manifest import Utterance

_TRANSCRIPT = re.compile(r"(?:<s>)?(?P<text>.*?)(?:</s>)?\s*\((?P<id>[^()\s]+)\)\s*")


def read(roots: Sequence[Path]) -> Contents:
    """The official training and test splits.

    Raises:
        CorpusError: a list, transcript or audio file is missing or malformed; the message names it.
    """
    root = find_root(roots, lambda folder: (folder / "etc" / "an4_train.fileids").is_file(), "etc/an4_train.fileids")
    splits = {split: _split(root, split) for split in ("train", "test")}
    counts = {f"{split} utterances": len(utterances) for split, utterances in splits.items()}
    counts["test words"] = sum(len(utterance.text.split()) for utterance in splits["test"])
    return Contents(splits, counts)


def _split(root: Path, split: str) -> list[Utterance]:
    transcript_file = root / "etc" / f"an4_{split}.transcription"
    text_of: dict[str, str] = {}
    for number, line in read_lines(transcript_file):
        match = _TRANSCRIPT.fullmatch(line)
        if match is None:
            raise CorpusError(f"{transcript_file}:{number}: wanted 'WORDS (utterance-id)', found {line!r}")
        if match["id"] in text_of:
            raise CorpusError(f"{transcript_file}:{number}: utterance {match['id']!r} was already given a transcript")
        text_of[match["id"]] = match["text"]
    fileid_file = root / "etc" / f"an4_{split}.fileids"
    utterances = []
    for number, line in read_lines(fileid_file):
        fileid = PurePosixPath(line.strip())
        where = f"{fileid_file}:{number}: {fileid}"
        if fileid.name not in text_of:
            raise CorpusError(f"{where}: no transcript in {transcript_file}")
        text = text_of.pop(fileid.name)
        audio = root / "wav" / f"{fileid}.sph"
        utterances.append(make_utterance(fileid.name, audio, text, where=where, speaker=fileid.parent.name))
    if text_of:
        raise CorpusError(f"{transcript_file}: utterance {next(iter(text_of))!r} is not listed in {fileid_file}")
    return utterances


AN4 = Corpus(
    name="an4",
    read=read,
    archives=lambda: (
        Archive("http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz", file="an4_sphere.tar.gz"),
    ),
    expected={"train utterances": 948, "test utterances": 130, "test words": 773},
)
