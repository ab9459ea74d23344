"""The yes/no corpus (OpenSLR 1): 60 recordings of one speaker, eight words each, 8 kHz.

There are no transcripts: the file names serve as such. As the corpus's README defines, 1 is "yes" and 0 is "no", so
`0_1_1_0_0_1_1_0.wav` reads "no yes yes no no yes yes no"; the speaker says them in Hebrew (ken, lo).

There is no official split either. Of the names in sorted order the 1st, 3rd, 5th, ... are for training and the 2nd,
4th, 6th, ... are the test: halves of the sorted list would give a training half in which every recording starts with
"no" and a test half in which nearly every one starts with "yes".
"""

import re
from collections.abc import Sequence
from pathlib import Path

from asr.corpora.common import Archive, Contents, Corpus, find_root, make_utterance, matching
from asr.errors import CorpusError

WORDS = {"1": "yes", "0": "no"}
_NAME = re.compile(r"[01](_[01]){7}")


def read(roots: Sequence[Path]) -> Contents:
    """Training and test halves, alternating in the sorted list of names.

    Raises:
        CorpusError: a file name is not eight digits 0 or 1, or the audio is unreadable.
    """
    root = find_root(roots, lambda folder: any(folder.glob("[01]_[01]_*.wav")), "recordings like 0_1_1_0_0_1_1_0.wav")
    utterances = []
    for audio in matching(root, "*.wav"):
        if not _NAME.fullmatch(audio.stem):
            raise CorpusError(f"{audio}: wanted a name of eight digits 0 or 1 joined by '_'")
        text = " ".join(WORDS[digit] for digit in audio.stem.split("_"))
        utterances.append(make_utterance(audio.stem, audio, text, where=str(audio), speaker="yesno"))
    return Contents(
        {"train": utterances[0::2], "test": utterances[1::2]},
        {"recordings": len(utterances)},
        ("train and test alternate in the sorted list of names (there is no official split)",),
    )


YESNO = Corpus(
    name="yesno",
    read=read,
    archives=lambda: (
        Archive(
            "https://www.openslr.org/resources/1/waves_yesno.tar.gz",
            file="waves_yesno.tar.gz",
            sha256="c3f49e0cca421f96b75b41640749167b52118f232498667ca7a5f9416aef8e73",
        ),
    ),
    expected={"recordings": 60},
)
