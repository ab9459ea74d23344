"""Each corpus reader on a small corpus made here; what all of them share is in test_prepare.py."""

import itertools
import zlib
from pathlib import Path

import pytest

from asr.corpora import CORPORA, prepare
from asr.corpora.librispeech import PARTS
from asr.errors import CorpusError
from asr.manifest import read_manifest
from fake_corpora import audio, ids, make_digits, pack, texts, write

# --- an4 --------------------------------------------------------------------------------------------------------------


def make_an4(root: Path) -> Path:
    train = [f"an4_clstk/s{speaker}/an{take}-s{speaker}-b" for speaker in range(4) for take in (1, 2)]
    write(root / "etc" / "an4_train.fileids", *train)
    write(root / "etc" / "an4_train.transcription", *(f"<s> GO {x[10]} </s> ({Path(x).name})" for x in train))
    write(root / "etc" / "an4_test.fileids", "an4test_clstk/t/an9-t-b")
    write(root / "etc" / "an4_test.transcription", "ERASE C Q (an9-t-b)")
    for fileid in [*train, "an4test_clstk/t/an9-t-b"]:
        audio(root / "wav" / f"{fileid}.sph", 0.5, format="NIST", subtype="PCM_16")
    return root


def test_an4(tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = prepare("an4", source=make_an4(tmp_path / "an4"), out=out, allow_partial=True)
    assert summary.partial
    assert "found 8 train utterances, wanted 948" in summary.notes
    assert texts(out / "test.jsonl") == {"an9-t-b": "ERASE C Q"}
    test = read_manifest(out / "test.jsonl")[0]
    assert (test.duration, test.speaker) == (0.5, "t")
    assert test.audio_filepath.resolve() == (tmp_path / "an4/wav/an4test_clstk/t/an9-t-b.sph").resolve()
    train, dev = read_manifest(out / "train.jsonl"), read_manifest(out / "dev.jsonl")
    assert len(train) == 6
    assert len(dev) == 2
    assert {utterance.speaker for utterance in train}.isdisjoint({utterance.speaker for utterance in dev})
    assert {utterance.text for utterance in [*train, *dev]} == {"GO s"}


def test_counts_are_checked(tmp_path: Path) -> None:
    source = make_an4(tmp_path / "an4")
    with pytest.raises(CorpusError, match="found 8 train utterances, wanted 948; found 1 test utterances, wanted 130"):
        prepare("an4", source=source, out=tmp_path / "out")
    assert not (tmp_path / "out" / "summary.json").exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["ERASE C Q"], r"an4_test.transcription:1: wanted 'WORDS \(utterance-id\)'"),
        (["GO (an9-t-b)", "GO (an9-t-b)"], r":2: utterance 'an9-t-b' was already given"),
        (["GO (an8-t-b)"], r"an4_test.fileids:1: an4test_clstk/t/an9-t-b: no transcript"),
        (["GO (an9-t-b)", "GO (an8-t-b)"], r"utterance 'an8-t-b' is not listed"),
        (["<s> </s> (an9-t-b)"], r"an4_test.fileids:1: an4test_clstk/t/an9-t-b: the transcript is empty"),
    ],
)
def test_an4_errors_name_the_record(tmp_path: Path, lines: list[str], message: str) -> None:
    root = make_an4(tmp_path / "an4")
    write(root / "etc" / "an4_test.transcription", *lines)
    with pytest.raises(CorpusError, match=message):
        prepare("an4", source=root, out=tmp_path / "out", allow_partial=True)


# --- yesno and digits -------------------------------------------------------------------------------------------------


def make_yesno(root: Path, count: int = 60) -> Path:
    for digits in itertools.islice(itertools.product("01", repeat=8), count):
        audio(root / f"{'_'.join(digits)}.wav", 0.01)
    write(root / "README", "sixty recordings")
    return root


def test_yesno(tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = prepare("yesno", source=make_yesno(tmp_path / "waves_yesno").parent, out=out)
    assert not summary.partial
    assert {name: split.utterances for name, split in summary.splits.items()} == {"train": 27, "dev": 3, "test": 30}
    # In sorted order 0_0_0_0_0_0_0_0 is the first name (training side) and 0_0_0_0_0_0_0_1 the second (test).
    assert texts(out / "test.jsonl")["0_0_0_0_0_0_0_1"] == "no no no no no no no yes"
    assert "0_0_0_0_0_0_0_0" in ids(out / "train.jsonl") | ids(out / "dev.jsonl")
    assert any("fewer than 3 speakers" in note for note in summary.notes)


def test_yesno_refuses_other_names(tmp_path: Path) -> None:
    root = make_yesno(tmp_path / "yesno", 4)
    audio(root / "0_1_2_0_0_0_0_0.wav")
    with pytest.raises(CorpusError, match=r"0_1_2_0_0_0_0_0.wav: wanted a name of eight digits"):
        prepare("yesno", source=root, out=tmp_path / "out", allow_partial=True)


def test_digits(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare("digits", source=make_digits(tmp_path / "fsdd"), out=out, allow_partial=True)
    indices = {
        split: {int(name.split("_")[2]) for name in ids(out / f"{split}.jsonl")} for split in ("train", "dev", "test")
    }
    assert indices == {"train": {10, 49}, "dev": {5, 9}, "test": {0, 4}}
    assert texts(out / "train.jsonl")["7_bob_49"] == "seven"
    assert texts(out / "train.jsonl")["0_bob_49"] == "zero"


def test_digits_without_one_speaker(tmp_path: Path) -> None:
    out = tmp_path / "out"
    source = make_digits(tmp_path / "fsdd")
    summary = prepare("digits", source=source, out=out, allow_partial=True, held_out_speaker="bob")
    speakers = {split: {name.split("_")[1] for name in ids(out / f"{split}.jsonl")} for split in summary.splits}
    assert speakers["test"] == {"bob"}
    assert len(speakers["dev"]) == 1
    assert speakers["train"] == {"ann", "cat", "dan"} - speakers["dev"]
    assert summary.splits["test"].utterances == 12
    with pytest.raises(CorpusError, match="no speaker 'bobby' to hold out; there are ann, bob, cat, dan"):
        prepare("digits", source=source, out=out, allow_partial=True, held_out_speaker="bobby")


def beside_each(root: Path) -> None:
    """What macOS writes beside files on a disk of another kind."""
    for path in [path for path in root.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\xff")


@pytest.mark.parametrize("corpus", ["yesno", "digits", "librispeech", "ljspeech"])
def test_what_macos_writes_beside_files_is_not_read(tmp_path: Path, corpus: str) -> None:
    root = tmp_path / "source"
    if corpus == "ljspeech":
        write(root / "metadata.csv", "LJ1|a|a")
        audio(root / "wavs" / "LJ1.wav")
    elif corpus == "librispeech":
        make_libri(root, "test-clean")
    else:
        (make_yesno if corpus == "yesno" else make_digits)(root)
    before = prepare(corpus, source=root, out=tmp_path / "before", allow_partial=True, dev_share=0)
    beside_each(root)
    assert prepare(corpus, source=root, out=tmp_path / "after", allow_partial=True, dev_share=0) == before


# --- librispeech and ljspeech -----------------------------------------------------------------------------------------


def make_libri(root: Path, *parts: str) -> Path:
    """Two speakers a part, named after the part, with one chapter of two utterances each."""
    for part in parts:
        for speaker in (f"{part}1", f"{part}2"):
            speaker = str(zlib.crc32(speaker.encode()))
            chapter = root / "LibriSpeech" / part / speaker / "7"
            names = [f"{speaker}-7-{number:04}" for number in range(2)]
            for name in names:
                audio(chapter / f"{name}.flac", 0.02)
            write(chapter / f"{speaker}-7.trans.txt", *(f"{name} HE SAID {part}" for name in names))
    return root


def libri_splits(tmp_path: Path, source: Path, **options: str) -> dict[str, set[str]]:
    """Which parts went into which manifest."""
    out = tmp_path / "out"
    prepare("librispeech", source=source, out=out, allow_partial=True, dev_share=0, **options)
    return {path.stem: {text.split()[-1] for text in texts(path).values()} for path in out.glob("*.jsonl")}


def test_librispeech_default_splits(tmp_path: Path) -> None:
    source = make_libri(tmp_path / "src", "train-clean-100", "train-other-500", "dev-clean", "test-clean", "test-other")
    assert libri_splits(tmp_path, source) == {
        "train": {"train-clean-100", "train-other-500"},
        "dev": {"dev-clean"},
        "test": {"test-clean"},
        "test-other": {"test-other"},
    }


@pytest.mark.parametrize("below", ["", "LibriSpeech", "LibriSpeech/test-clean"])
def test_librispeech_single_part(tmp_path: Path, below: str) -> None:
    source = make_libri(tmp_path / "src", "test-clean") / below
    assert libri_splits(tmp_path, source) == {"test-clean": {"test-clean"}}


def test_librispeech_chosen_parts(tmp_path: Path) -> None:
    source = make_libri(tmp_path / "src", "train-clean-5", "dev-clean-2", "test-clean", "test-other")
    chosen = libri_splits(tmp_path, source, train_parts="dev-clean-2", test_parts="test-clean, test-other")
    assert chosen == {"train": {"dev-clean-2"}, "test": {"test-clean", "test-other"}}
    # The earlier run's manifests are gone with it, so none is taken for part of this run.
    assert libri_splits(tmp_path, source, dev_parts="test-clean") == {"dev": {"test-clean"}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_parts": "test-clear"}, "test_parts: there is no part 'test-clear'; there are train-clean-100, "),
        ({"test_parts": "test-clean", "dev_parts": "test-clean"}, "'test-clean' is already in dev_parts"),
        ({"test_parts": "test-other"}, "part 'test-other' is not here; found test-clean"),
    ],
)
def test_librispeech_wrong_parts(tmp_path: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        libri_splits(tmp_path, make_libri(tmp_path / "src", "test-clean"), **options)


def test_librispeech_audio_and_transcripts_must_match(tmp_path: Path) -> None:
    source = make_libri(tmp_path / "src", "test-clean")
    transcripts = sorted(source.rglob("*.trans.txt"))[0]
    first, second = transcripts.read_text().splitlines()
    write(transcripts, first)
    with pytest.raises(CorpusError, match=f"no transcript for {second.split()[0]}.flac"):
        libri_splits(tmp_path, source)
    write(transcripts, first, second.split()[0])
    with pytest.raises(CorpusError, match=f":2: {second.split()[0]}: the transcript is empty"):
        libri_splits(tmp_path, source)
    write(transcripts, first, second, "9-9-0009 NOBODY")
    with pytest.raises(CorpusError, match=r":3: 9-9-0009: audio file .*9-9-0009.flac is missing"):
        libri_splits(tmp_path, source)


def test_librispeech_chapter_without_transcripts(tmp_path: Path) -> None:
    source = make_libri(tmp_path / "src", "test-clean")
    transcripts = sorted(source.rglob("*.trans.txt"))[0]
    transcripts.unlink()
    with pytest.raises(CorpusError, match=rf"^{transcripts.parent}: has recordings and no \*\.trans\.txt$"):
        libri_splits(tmp_path, source)


def test_librispeech_parts_are_counted(tmp_path: Path) -> None:
    source = make_libri(tmp_path / "src", *PARTS)
    with pytest.raises(CorpusError) as caught:
        prepare("librispeech", source=source, out=tmp_path / "out")
    assert str(caught.value).count("found 4 ") == len(PARTS)
    assert "found 4 train-clean-5 utterances, wanted 1519" in str(caught.value)


def test_librispeech_addresses() -> None:
    archives = CORPORA["librispeech"].archives
    assert [archive.file for archive in archives()] == [
        "train-clean-100.tar.gz",
        "dev-clean.tar.gz",
        "test-clean.tar.gz",
    ]
    mini, full = archives(train_parts="train-clean-5", test_parts="test-other")
    assert mini.url == "https://www.openslr.org/resources/31/train-clean-5.tar.gz"
    assert full.url == "https://www.openslr.org/resources/12/test-other.tar.gz"
    assert mini.md5 is not None
    assert full.sha256 is not None


def test_ljspeech(tmp_path: Path) -> None:
    root = tmp_path / "LJSpeech-1.1"
    rows = ['LJ001-0001|He said "2|He said "two', "LJ001-0002|Mr. B\u2028.|Mister B\u2028.", "LJ001-0003|c|see"]
    metadata = write(root / "metadata.csv", *rows)
    for row in rows:
        audio(root / "wavs" / f"{row[:10]}.wav", 0.02)
    out = tmp_path / "out"
    prepare("ljspeech", source=root, out=out, allow_partial=True, dev_share=0)
    assert texts(out / "train.jsonl") == {
        "LJ001-0001": 'He said "two',
        "LJ001-0002": "Mister B\u2028.",
        "LJ001-0003": "see",
    }
    write(metadata, *rows[:2])
    with pytest.raises(CorpusError, match=r"no transcript for wavs/LJ001-0003.wav"):
        prepare("ljspeech", source=root, out=out, allow_partial=True)
    write(metadata, rows[0], "LJ001-0002|two fields")
    with pytest.raises(CorpusError, match=r"metadata.csv:2: wanted 3 fields separated by '\|', found 2"):
        prepare("ljspeech", source=root, out=out, allow_partial=True)


# --- kaldi ------------------------------------------------------------------------------------------------------------


def make_kaldi(root: Path, **files: list[str]) -> Path:
    """A data folder `root/train` of three one-second recordings; the audio lies beside it."""
    tables = {
        "wav.scp": [f"r{number} WAVE/r{number}.wav" for number in range(3)],
        "text": [f"r{number}\tHELLO {number}" for number in range(3)],
        "utt2spk": [f"r{number} s{number}" for number in range(3)],
    }
    for name, lines in {**tables, **files}.items():
        write(root / "train" / name.replace("wav_scp", "wav.scp"), *lines)
    for number in range(3):
        audio(root / "WAVE" / f"r{number}.wav", 1.0)
    return root


def test_kaldi_data_folder(tmp_path: Path) -> None:
    root = make_kaldi(tmp_path / "corpus")
    for source in (root, root / "train", pack(root, tmp_path / "corpus.tar.gz")):
        out = tmp_path / f"out-{source.name}"
        summary = prepare("kaldi", source=source, out=out, dev_share=0)
        assert texts(out / "train.jsonl") == {"r0": "HELLO 0", "r1": "HELLO 1", "r2": "HELLO 2"}
        assert {utterance.speaker for utterance in read_manifest(out / "train.jsonl")} == {"s0", "s1", "s2"}
        assert list(summary.splits) == ["train"]


def test_a_record_that_training_would_refuse_leaves_what_was_there(tmp_path: Path) -> None:
    root, out = make_kaldi(tmp_path / "corpus"), tmp_path / "out"
    prepare("kaldi", source=root, out=out, dev_share=0)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    write(root / "train" / "segments", "r0 r0 0 1", "r1 r1 0 0.0000001", "r2 r2 0 1")
    with pytest.raises(CorpusError, match=r"^utterance r1: duration must be positive"):
        prepare("kaldi", source=root, out=out, dev_share=0)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_kaldi_split_without_audio(tmp_path: Path) -> None:
    root = make_kaldi(tmp_path / "corpus")
    write(root / "dev" / "text", "x BYE")
    with pytest.raises(CorpusError, match=r"dev: has a text and no wav\.scp$"):
        prepare("kaldi", source=root, out=tmp_path / "out")


def test_kaldi_audio_in_the_data_folder_goes_first(tmp_path: Path) -> None:
    root = make_kaldi(tmp_path / "corpus")
    audio(root / "train" / "WAVE" / "r0.wav", 2.0)
    prepare("kaldi", source=root, out=tmp_path / "out", dev_share=0)
    assert [utterance.duration for utterance in read_manifest(tmp_path / "out" / "train.jsonl")] == [2.0, 1.0, 1.0]


def test_kaldi_segments(tmp_path: Path) -> None:
    root = make_kaldi(
        tmp_path / "corpus",
        segments=["u1 r0 0.1 0.35", "u2 r0 0.5 1.03", "u3 r1 0.25 -1"],  # 0.03 s past the end is rounding
        text=["u1 A", "u2 B", "u3 C"],
        utt2spk=["u1 s", "u2 s", "u3 s"],
    )
    prepare("kaldi", source=root, out=tmp_path / "out", dev_share=0)
    found = [(u.id, u.offset, round(u.duration, 6)) for u in read_manifest(tmp_path / "out" / "train.jsonl")]
    assert found == [("u1", 0.1, 0.25), ("u2", 0.5, 0.5), ("u3", 0.25, 0.75)]


def test_kaldi_folder_names_give_the_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_kaldi(tmp_path / "corpus")
    (root / "train").rename(root / "part_a")
    summary = prepare("kaldi", source=root, out=tmp_path / "one", dev_share=0)
    assert list(summary.splits) == ["train"]
    write(root / "test" / "wav.scp", f"x {audio(tmp_path / 'x.wav')}")
    write(root / "test" / "text", "x BYE")
    write(root / "test" / "utt2spk", "x x")
    summary = prepare("kaldi", source=root, out=tmp_path / "two")
    assert list(summary.splits) == ["test", "part_a"]
    for number, (folder, source) in enumerate((("test", "."), ("test/below", ".."), (".", "test"))):
        (root / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(root / folder)
        summary = prepare("kaldi", source=Path(source), out=tmp_path / f"test-{number}")
        assert (list(summary.splits), summary.source) == (["test"], source)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"wav_scp": ["r0 sox r0.sph -t wav - |"]}, "r0: wanted the path of an audio file, found the command"),
        ({"wav_scp": ["r0 WAVE/none.wav"]}, "r0: audio file .*train/WAVE/none.wav is missing"),
        ({"wav_scp": ["r0 WAVE/r0.wav", "r0 WAVE/r1.wav"]}, "wav.scp:2: 'r0' stands here a second time"),
        ({"text": ["r0 A", "r2 C"]}, "text: utterance 'r1' of .*wav.scp is missing"),
        ({"utt2spk": ["r0 a", "r1 a"]}, "utt2spk: utterance 'r2' of .*wav.scp is missing"),
        ({"utt2spk": ["r0 a", "r1 a b", "r2 a"]}, "utt2spk:2: wanted an utterance and its speaker, found 'r1 a b'"),
        ({"utt2spk": ["r0 a", "r1", "r2 a"]}, "utt2spk:2: wanted an utterance and its speaker, found 'r1'"),
        ({"text": ["r0 A", "r1 B", "r2 C", "r3 D"]}, "text: utterance 'r3' is not in .*wav.scp"),
        ({"utt2spk": ["r0 a", "r1 a", "r2 a", "r3 a"]}, "utt2spk: utterance 'r3' is not in .*wav.scp"),
        ({"text": ["r0 A", "r1", "r2 C"]}, "text: r1: the transcript is empty"),
        ({"segments": ["r0 r0 0 1", "r1 r9 0 1", "r2 r2 0 1"]}, "segments: r1: recording 'r9' is not in"),
        ({"segments": ["r0 r0 0 1", "r1 r1 0 1.2", "r2 r2 0 1"]}, "r1: ends at 1.2 s, but 'r1' is 1.000 s long"),
        ({"segments": ["r0 r0 0.5 0.5", "r1 r1 0 1", "r2 r2 0 1"]}, "r0: wanted 0 <= start < end, found start 0.5"),
        ({"segments": ["r0 r0 0 one", "r1 r1 0 1", "r2 r2 0 1"]}, "r0: wanted a recording, a start and an end"),
    ],
)
def test_kaldi_errors_name_the_record(tmp_path: Path, files: dict[str, list[str]], message: str) -> None:
    root = make_kaldi(tmp_path / "corpus", **files)
    with pytest.raises(CorpusError, match=message):
        prepare("kaldi", source=root, out=tmp_path / "out")
