"""LJ Speech 1.1: one English reader, 13,100 clips of non-fiction books, 22.05 kHz.

Layout: `wavs/<id>.wav` and `metadata.csv` with three fields separated by `|`: id, transcript, normalised transcript
(numbers and abbreviations spelled out). The normalised one is used. The file has no quoting: a `"` is part of the
text. There is no official split.
"""

from collections.abc import Sequence
from pathlib import Path

from asr.corpora.common import Archive, Contents, Corpus, find_root, make_utterance, matching, read_lines
from asr.errors import CorpusError


def read(roots: Sequence[Path]) -> Contents:
    """All clips as training utterances.

    Raises:
        CorpusError: a line is malformed, or a clip or its transcript is missing.
    """
    root = find_root(roots, lambda folder: (folder / "metadata.csv").is_file(), "metadata.csv")
    metadata = root / "metadata.csv"
    without_transcript = {audio.stem for audio in matching(root / "wavs", "*.wav")}
    utterances = []
    for number, line in read_lines(metadata):
        fields = line.split("|")
        if len(fields) != 3:
            raise CorpusError(f"{metadata}:{number}: wanted 3 fields separated by '|', found {len(fields)}: {line!r}")
        name, _, text = fields
        where = f"{metadata}:{number}: {name}"
        audio = root / "wavs" / f"{name}.wav"
        utterances.append(make_utterance(name, audio, text, where=where, speaker="LJ"))
        without_transcript.discard(name)
    if without_transcript:
        raise CorpusError(f"{metadata}: no transcript for wavs/{min(without_transcript)}.wav")
    return Contents({"train": utterances}, {"clips": len(utterances)})


LJSPEECH = Corpus(
    name="ljspeech",
    read=read,
    archives=lambda: (
        Archive(
            "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
            file="LJSpeech-1.1.tar.bz2",
            sha256="be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
        ),
    ),
    expected={"clips": 13100},
)
