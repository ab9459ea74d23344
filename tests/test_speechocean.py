"""The reader of speechocean762 on a small fake of its layout, and the real training folder where it is."""

import os
from pathlib import Path

import pytest

from asr.corpora import prepare
from asr.errors import CorpusError
from asr.manifest import read_manifest
from fake_corpora import audio, ids, write

SPEAKERS = 50  # the first 20 are children
ARCHIVE = (
    Path(os.environ.get("ASR_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    / "speechocean762_train_opus.tar"
)


def make_part(root: Path, part: str, speakers: int = SPEAKERS) -> Path:
    """A data folder of one recording a speaker, the audio beside it; dev and test have a word of their own."""
    names = [f"{part}{number:03}" for number in range(speakers)]
    write(root / part / "wav.scp", *(f"u{name}\tWAVE/SPEAKER{name}/u{name}.WAV" for name in names))
    write(root / part / "text", *(f"u{name}\tTHE {name.upper()}" for name in names))
    write(root / part / "utt2spk", *(f"u{name}\t{name}" for name in names))
    write(root / part / "spk2age", *(f"{name}\t{15 if number < 20 else 16}" for number, name in enumerate(names)))
    for name in names:
        audio(root / "WAVE" / f"SPEAKER{name}" / f"u{name}.WAV", 0.01)
    return root


def speakers_of(out: Path) -> dict[str, set[str]]:
    return {path.stem: {str(utterance.speaker) for utterance in read_manifest(path)} for path in out.glob("*.jsonl")}


def test_speakers_are_in_one_split_and_ages_are_balanced(tmp_path: Path) -> None:
    root = make_part(tmp_path / "speechocean762", "train")
    summary = prepare("speechocean", source=root, out=tmp_path / "out", allow_partial=True)
    speakers = speakers_of(tmp_path / "out")
    assert {split: len(names) for split, names in speakers.items()} == {"train": 25, "dev": 12, "test": 13}
    assert len(set.union(*speakers.values())) == SPEAKERS
    children = {split: sum(name < "train020" for name in names) for split, names in speakers.items()}
    assert children == {"train": 10, "dev": 5, "test": 5}
    assert summary.notes[0] == (
        "speakers: test 5 children and 8 adults, dev 5 children and 7 adults, train 10 children and 15 adults "
        "(children are younger than 16)"
    )
    assert summary.notes[1] == "not in any training transcript: 50.0 % of the dev words and 50.0 % of the test words"


def test_the_division_depends_on_names_alone(tmp_path: Path) -> None:
    root = make_part(tmp_path / "one", "train")
    prepare("speechocean", source=root, out=tmp_path / "a", allow_partial=True)
    for table in ("wav.scp", "spk2age"):
        lines = (root / "train" / table).read_text().splitlines()
        write(root / "train" / table, *reversed(lines))
    prepare("speechocean", source=root, out=tmp_path / "b", allow_partial=True, seed=7)
    assert speakers_of(tmp_path / "a") == speakers_of(tmp_path / "b")


def test_the_official_test_folder(tmp_path: Path) -> None:
    root = make_part(tmp_path / "speechocean762", "train")
    with pytest.raises(CorpusError, match=r"speechocean762: holds no folder test/; the official archive has it"):
        prepare("speechocean", source=root, out=tmp_path / "out", allow_partial=True, part="test")
    make_part(root, "test", 3)
    summary = prepare("speechocean", source=root, out=tmp_path / "out", allow_partial=True, part="test")
    assert list(summary.splits) == ["test"]
    assert ids(tmp_path / "out" / "test.jsonl") == {"utest000", "utest001", "utest002"}
    assert "found 3 test utterances, wanted 2500" in summary.notes


def test_counts_are_checked(tmp_path: Path) -> None:
    root = make_part(tmp_path / "speechocean762", "train")
    message = (
        "found 50 train utterances, wanted 2500; found 50 train speakers, wanted 125; found 100 train words, wanted"
    )
    with pytest.raises(CorpusError, match=message):
        prepare("speechocean", source=root, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("table", "lines", "message"),
    [
        ("spk2age", ["train000 30"], "spk2age: speaker 'train.*' of .*utt2spk is missing"),
        ("spk2age", ["train000 thirty"], "spk2age:1: wanted a speaker and an age in years, found 'train000 thirty'"),
        ("spk2age", ["train000"], "spk2age:1: wanted a speaker and an age in years"),
        ("wav.scp", ["utrain000 WAVE/none.WAV"], "utrain000: audio file .*none.WAV is missing"),
    ],
)
def test_errors_name_the_record(tmp_path: Path, table: str, lines: list[str], message: str) -> None:
    root = make_part(tmp_path / "speechocean762", "train")
    write(root / "train" / table, *lines)
    with pytest.raises(CorpusError, match=message):
        prepare("speechocean", source=root, out=tmp_path / "out", allow_partial=True)


def test_a_wrong_source(tmp_path: Path) -> None:
    audio(tmp_path / "other" / "a.wav")
    with pytest.raises(CorpusError, match=r"other: found no train/wav.scp of speechocean762, neither here nor one"):
        prepare("speechocean", source=tmp_path / "other", out=tmp_path / "out")
    few = make_part(tmp_path / "few", "train", 25)
    with pytest.raises(CorpusError, match="wanted more than 25 speakers, found 25: none would be left"):
        prepare("speechocean", source=few, out=tmp_path / "out", allow_partial=True)
    with pytest.raises(CorpusError, match="part must be train or test, found 'dev'"):
        prepare("speechocean", source=few, out=tmp_path / "out", part="dev")


@pytest.mark.slow
@pytest.mark.skipif(not ARCHIVE.is_file(), reason=f"{ARCHIVE} is not here (ASR_TEST_DATA names another folder)")
def test_the_published_training_folder(tmp_path: Path) -> None:
    summary = prepare("speechocean", source=ARCHIVE, out=tmp_path / "out")
    assert not summary.partial
    found = {split: (counts.utterances, counts.speakers, counts.words) for split, counts in summary.splits.items()}
    assert found == {"train": (2000, 100, 12803), "dev": (240, 12, 1445), "test": (260, 13, 1601)}
