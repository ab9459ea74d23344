"""speechocean762 (OpenSLR 101): read English sentences by people whose first language is Mandarin, half of them
children; 16 kHz, 2,500 training utterances by 125 speakers and a test of the same size by 125 others.

Layout: `train/` and `test/` are Kaldi data folders (see `asr.corpora.kaldi`) whose audio lies beside them in `WAVE/`;
`spk2age` in each gives every speaker's age in years.

By default only the training folder is read: of its speakers 13 are held out as test and 12 as dev, children and adults
in the proportion of the whole. So a source with nothing but the training folder can be trained and scored on. With
`part=test` the official test folder is read instead, and nothing else.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from asr.corpora.common import Archive, Contents, Corpus, find_root, read_lines
from asr.corpora.kaldi import read_data_folder
from asr.errors import CorpusError
from asr.manifest import Utterance

HELD_OUT = {"test": 13, "dev": 12}  # speakers, of 125
ADULT_YEARS = 16  # the youngest adult here; the corpus has children of 6 to 15


def read(roots: Sequence[Path], *, part: str = "train") -> Contents:
    """The training folder divided by speakers, or the official test folder.

    Args:
        roots: folders that may hold the corpus.
        part: "train" or "test".

    Raises:
        CorpusError: the part is unknown or not in the source, has too few speakers, or a record is malformed.
    """
    if part not in ("train", "test"):
        raise CorpusError(f"part must be train or test, found {part!r}")
    root = find(roots)
    folder = root / part
    if not folder.is_dir():
        raise CorpusError(f"{root}: holds no folder {part}/; the official archive has it (without --source: download)")
    utterances = read_data_folder(folder)
    counts = {
        f"{part} utterances": len(utterances),
        f"{part} speakers": len({utterance.speaker for utterance in utterances}),
        f"{part} words": sum(len(utterance.text.split()) for utterance in utterances),
        f"whole minutes of {part}": int(sum(utterance.duration for utterance in utterances) / 60),
    }
    if part == "test":
        return Contents({"test": utterances}, counts, ("the official test folder",))
    splits, note = _divide(utterances, _ages(folder), folder)
    return Contents(splits, counts, (note, _unseen_words(splits)))


def find(roots: Sequence[Path]) -> Path:
    """The folder among `roots`, and those in them, that is the corpus; CorpusError where there is none."""
    return find_root(roots, lambda folder: (folder / "train" / "wav.scp").is_file(), "train/wav.scp of speechocean762")


def _divide(
    utterances: Sequence[Utterance], age_of: dict[str, int], folder: Path
) -> tuple[dict[str, list[Utterance]], str]:
    """Train, dev and test by speakers, and a line that says who is in them.

    In each age group the speakers are taken in the order of the SHA-256 of their names, which depends on nothing else.
    """
    speakers = sorted({str(utterance.speaker) for utterance in utterances}, key=_digest)
    wanted = sum(HELD_OUT.values())
    if len(speakers) <= wanted:
        raise CorpusError(f"{folder}: wanted more than {wanted} speakers, found {len(speakers)}: none would be left")
    for speaker in speakers:
        if speaker not in age_of:
            raise CorpusError(f"{folder / 'spk2age'}: speaker {speaker!r} of {folder / 'utt2spk'} is missing")
    children = [speaker for speaker in speakers if age_of[speaker] < ADULT_YEARS]
    adults = [speaker for speaker in speakers if age_of[speaker] >= ADULT_YEARS]
    share = len(children) / len(speakers)
    split_of: dict[str, str] = {}
    described = []
    for split, count in (*HELD_OUT.items(), ("train", len(speakers))):
        young = children[: round(count * share)]
        grown = adults[: count - len(young)]
        split_of |= dict.fromkeys([*young, *grown], split)
        children, adults = children[len(young) :], adults[len(grown) :]
        described.append(f"{split} {len(young)} children and {len(grown)} adults")
    splits: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    for utterance in utterances:
        splits[split_of[str(utterance.speaker)]].append(utterance)
    return splits, f"speakers: {', '.join(described)} (children are younger than {ADULT_YEARS})"


def _digest(speaker: str) -> bytes:
    return hashlib.sha256(f"speechocean762:{speaker}".encode()).digest()


def _ages(folder: Path) -> dict[str, int]:
    """Age in years by speaker."""
    ages = {}
    for number, line in read_lines(folder / "spk2age"):
        fields = line.split()
        if len(fields) != 2 or not fields[1].isdecimal():
            raise CorpusError(f"{folder / 'spk2age'}:{number}: wanted a speaker and an age in years, found {line!r}")
        ages[fields[0]] = int(fields[1])
    return ages


def _unseen_words(splits: dict[str, list[Utterance]]) -> str:
    """How open the vocabulary is: words of dev and test that no training transcript has."""
    words = {split: [word for item in held for word in item.text.split()] for split, held in splits.items()}
    known = set(words["train"])
    shares = (
        f"{100 * sum(word not in known for word in words[split]) / len(words[split]):.1f} % of the {split} words"
        for split in ("dev", "test")
    )
    return f"not in any training transcript: {' and '.join(shares)}"


SPEECHOCEAN = Corpus(
    name="speechocean",
    read=read,
    # OpenSLR publishes no checksum of this archive, so the counts are checked instead.
    archives=lambda **options: (
        Archive("https://www.openslr.org/resources/101/speechocean762.tar.gz", file="speechocean762.tar.gz"),
    ),
    expected={
        "train utterances": 2500,
        "train speakers": 125,
        "train words": 15849,
        "whole minutes of train": 172,
        "test utterances": 2500,
        "test speakers": 125,
    },
    options=("part",),
)
