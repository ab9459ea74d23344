"""Free Spoken Digit Dataset: single English digits, 8 kHz, 3,000 recordings of 6 speakers.

Layout: `recordings/{digit}_{speaker}_{index}.wav`, index 0 to 49. The official test split is indices 0 to 4 of every
digit and speaker, so every speaker is heard in training. The development split mirrors it: indices 5 to 9.
With `held_out_speaker` all of one speaker is the test split instead, and everything else is for training.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from asr.corpora.common import Archive, Contents, Corpus, find_root, make_utterance, matching
from asr.errors import CorpusError
from asr.manifest import Utterance

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_NAME = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[^_]+)_(?P<index>[0-9]+)")


def read(roots: Sequence[Path], *, held_out_speaker: str | None = None) -> Contents:
    """The official split with a development split that mirrors it, or one that holds a speaker out.

    Args:
        roots: folders that may hold the corpus.
        held_out_speaker: the speaker whose recordings are the test; None for the official split.

    Raises:
        CorpusError: a file name does not fit, the audio is unreadable or the speaker is unknown.
    """
    recordings = find(roots)
    by_index: list[tuple[int, Utterance]] = []
    for audio in matching(recordings, "*.wav"):
        match = _NAME.fullmatch(audio.stem)
        if match is None:
            raise CorpusError(f"{audio}: wanted a name like 7_jackson_32.wav (digit, speaker, index)")
        text = WORDS[int(match["digit"])]
        utterance = make_utterance(audio.stem, audio, text, where=str(audio), speaker=match["speaker"])
        by_index.append((int(match["index"]), utterance))
    counts = {"recordings": len(by_index)}
    if held_out_speaker is None:
        splits = {
            "train": [utterance for index, utterance in by_index if index >= 10],
            "dev": [utterance for index, utterance in by_index if 5 <= index < 10],
            "test": [utterance for index, utterance in by_index if index < 5],
        }
        return Contents(splits, counts, ("dev is indices 5 to 9 and test (official) 0 to 4 of each digit and speaker",))
    everyone = [utterance for _, utterance in by_index]
    splits = {
        "train": [utterance for utterance in everyone if utterance.speaker != held_out_speaker],
        "test": [utterance for utterance in everyone if utterance.speaker == held_out_speaker],
    }
    if not splits["test"]:
        speakers = ", ".join(sorted({str(utterance.speaker) for utterance in everyone}))
        raise CorpusError(f"{recordings}: there is no speaker {held_out_speaker!r} to hold out; there are {speakers}")
    return Contents(splits, counts, (f"test is every recording of speaker {held_out_speaker}",))


def find(roots: Sequence[Path]) -> Path:
    """The folder of recordings in one of `roots`, or of the folders in them; CorpusError where there is none."""
    root = find_root(roots, lambda folder: bool(matching(folder / "recordings", "*.wav")), "recordings/*.wav")
    return root / "recordings"


_TAG = "v1.0.10"
DIGITS = Corpus(
    name="digits",
    read=read,
    # No checksum: the host repacks a tag's archive from time to time. The count of recordings is checked.
    archives=lambda **options: (
        Archive(
            f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/{_TAG}.tar.gz",
            file=f"free-spoken-digit-dataset-{_TAG}.tar.gz",
        ),
    ),
    expected={"recordings": 3000},
    options=("held_out_speaker",),
)
