"""What every corpus goes through: checks, held-out splits, the summary; and the published corpora where present."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from asr.corpora import CORPORA, preparation, prepare
from asr.corpora.common import Archive, Corpus, find_root
from asr.corpora.split import hold_out
from asr.errors import CorpusError
from asr.manifest import Utterance, read_manifest
from fake_corpora import audio, ids, make_digits, pack, texts, write

# --- any reader -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"RIFF, and then nothing"), "my.csv:2: a.wav: .*a.wav: cannot read audio: "),
        (lambda path: audio(path, 0.0), "my.csv:2: a.wav: .*a.wav: holds no samples"),
        (lambda path: path.write_bytes(audio(path, 1.0).read_bytes()[:2000]), "a.wav: truncated: header declares"),
        (lambda path: path.mkdir(), "audio file .*a.wav is missing"),
    ],
)
def test_unusable_audio(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    make(tmp_path / "a.wav")
    with pytest.raises(CorpusError, match=message):
        prepare("csv", source=write(tmp_path / "my.csv", "audio,text", "a.wav,yes"), out=tmp_path / "out")


def test_text_files_must_be_utf8(tmp_path: Path) -> None:
    table = tmp_path / "my.csv"
    table.write_bytes(b"audio,text\na.wav,\xe9t\xe9\n")
    with pytest.raises(CorpusError, match=r"my.csv: not UTF-8 text \(byte 17\)"):
        prepare("csv", source=table, out=tmp_path / "out")
    for coding in ("utf-16-le", "utf-16-be"):
        table.write_bytes("\ufeffaudio,text\na.wav,yes\n".encode(coding)[:-1])
        with pytest.raises(CorpusError, match=r"my.csv: broken UTF-16 text \(byte \d+\)$"):
            prepare("csv", source=table, out=tmp_path / "out")


# --- holding out ------------------------------------------------------------------------------------------------------


def speech(speakers: Mapping[str | None, int]) -> list[Utterance]:
    return [
        Utterance(f"{speaker}-{number}", Path("a.wav"), 1.0, "text", speaker=speaker)
        for speaker, count in speakers.items()
        for number in range(count)
    ]


def test_hold_out_takes_whole_speakers() -> None:
    utterances = speech({f"s{number}": number + 1 for number in range(20)})
    rest, held, note = hold_out(utterances, split="dev", share=0.1, seed=0)
    taken = {utterance.speaker for utterance in held}
    assert len(taken) == 2
    assert sorted([*rest, *held], key=utterances.index) == utterances
    assert taken.isdisjoint({utterance.speaker for utterance in rest})
    assert note == "dev is 2 of 20 training speakers (share 0.1, seed 0)"


def test_hold_out_depends_on_the_seed_and_on_nothing_else() -> None:
    utterances = speech({f"s{number}": 1 for number in range(50)})
    _, first, _ = hold_out(utterances, split="dev", share=0.1, seed=0)
    _, again, _ = hold_out(utterances[::-1], split="dev", share=0.1, seed=0)
    _, other, _ = hold_out(utterances, split="dev", share=0.1, seed=1)
    _, test, _ = hold_out(utterances, split="test", share=0.1, seed=0)
    assert again == first[::-1]
    assert other != first
    assert test != first


@pytest.mark.parametrize("speakers", [{"a": 10, "b": 10}, {"a": 5, "b": 5, "c": 5, None: 5}])
def test_hold_out_by_utterance(speakers: dict[str | None, int]) -> None:
    rest, held, note = hold_out(speech(speakers), split="dev", share=0.1, seed=0)
    assert (len(rest), len(held)) == (18, 2)
    assert "not speaker-disjoint" in note


def test_hold_out_by_recording() -> None:
    utterances = [
        Utterance(f"{name}-{number}", Path(f"{name}.wav"), 1.0, "text") for name in "abcde" for number in range(9)
    ]
    rest, held, note = hold_out(utterances[::-1], split="dev", share=0.4, seed=0)
    taken = {utterance.audio_filepath for utterance in held}
    assert (len(taken), len(held)) == (2, 18)
    assert taken.isdisjoint({utterance.audio_filepath for utterance in rest})
    assert note.startswith(
        "dev is 2 of 5 training recordings (share 0.4, seed 0), 18 of 45 utterances; not speaker-disjoint"
    )
    assert hold_out(utterances, split="dev", share=0.4, seed=0)[1] == held[::-1]
    assert "dev is 2 of 5 training utterances" in hold_out(utterances[::9], split="dev", share=0.4, seed=0)[2]


def test_a_recording_that_is_most_of_a_corpus_is_not_held_out() -> None:
    for long in "abc":
        utterances = [
            Utterance(f"{name}-{number}", Path(f"{name}.wav"), 2.0, "text")
            for name in "abc"
            for number in range(1000 if name == long else 3)
        ]
        rest, held, note = hold_out(utterances, split="dev", share=0.1, seed=0)
        assert (len(rest), len(held)) == (1003, 3)
        assert note.startswith("dev is 1 of 3 training recordings (share 0.1, seed 0), 3 of 1006 utterances; not")
    assert len(hold_out(utterances, split="dev", share=0.6, seed=3)[1]) == 1003  # twice the share is more


@pytest.mark.parametrize("names", ["abcdef", ["1/a", "2/a", "3/a", "d", "e", "f"]])
def test_which_recordings_are_held_out_depends_on_their_names_alone(
    names: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(folder: Path, first: int, seed: int) -> set[str]:
        utterances = [
            Utterance(f"{number}-{name}", folder / f"{name}.wav", 1.0, "text")
            for name in names
            for number in range(first, 9)
        ]
        found = hold_out(utterances, split="dev", share=0.2, seed=seed)[1]
        return {utterance.audio_filepath.relative_to(folder).as_posix() for utterance in found}

    monkeypatch.chdir(tmp_path)
    for seed in range(5):
        here = held(Path(), 0, seed)
        assert here == held(tmp_path, 1, seed) == held(Path("/elsewhere/talks"), 2, seed)
    assert len({min(held(Path(), 0, seed)) for seed in range(20)}) > 3


def test_a_recording_goes_by_its_file_alone_where_no_other_is_called_so() -> None:
    def held(names: Sequence[str], seed: int) -> tuple[list[str], str]:
        utterances = [
            Utterance(f"{place}-{number}", Path(f"{name}.wav"), 1.0, "text")
            for place, name in enumerate(names)
            for number in range(2)
        ]
        _, found, note = hold_out(utterances, split="dev", share=0.5, seed=seed)
        return [item.id for item in found], note

    for seed in range(9):
        taken, note = held(["1/a", "2/a", "3/a", "d", "e", "f"], seed)
        assert note.startswith("dev is 3 of 6 training recordings")
        assert held(["1/a", "2/a", "3/a", "x/d", "y/z/e", "f"], seed) == (taken, note)


def test_hold_out_leaves_something_to_train_on() -> None:
    _, held, _ = hold_out(speech({"a": 1, "b": 1, "c": 1}), split="dev", share=0.01, seed=0)
    assert len(held) == 1
    with pytest.raises(CorpusError, match="none would be left"):
        hold_out(speech({"a": 1}), split="dev", share=0.1, seed=0)


# --- prepare ----------------------------------------------------------------------------------------------------------


def test_summary(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav", 1.8)
    audio(tmp_path / "b.wav", 1.8)
    write(tmp_path / "train.csv", "audio,text,speaker", "a.wav,go on go,ann", "b.wav,stop,bob")
    summary = prepare("csv", source=tmp_path, out=tmp_path / "out", dev_share=0)
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == {
        "corpus": "csv",
        "source": str(tmp_path),
        "partial": False,
        "notes": [],
        "splits": {
            "train": {
                "utterances": 2,
                "hours": 0.001,
                "words": 4,
                "vocabulary": 3,
                "characters": 12,
                "alphabet": " gnopst",
                "speakers": 2,
            }
        },
    }
    assert summary.render() == (
        f"csv from {tmp_path}\n"
        "split  utterances  hours  words  vocabulary  characters  alphabet  speakers\n"
        "train           2   0.00      4           3          12         7         2"
    )


def test_names_in_two_unicode_forms_are_one_speaker_but_two_files(tmp_path: Path) -> None:
    audio(tmp_path / "e\u0301.wav")
    table = write(tmp_path / "my.csv", "audio,text,speaker", "e\u0301.wav,yes,Zoe\u0308", "\u00e9.wav,no,Zo\u00eb")
    with pytest.raises(
        CorpusError, match=r"é\.wav is missing; its name looks the same in Unicode's form NFD, and that"
    ):
        prepare("csv", source=table, out=tmp_path / "out", dev_share=0)
    audio(tmp_path / "\u00e9.wav")
    assert prepare("csv", source=table, out=tmp_path / "out", dev_share=0).splits["train"].speakers == 1


def test_speakers_of_two_splits_are_noted(tmp_path: Path) -> None:
    for name in "abcd":
        audio(tmp_path / f"{name}.wav")
    write(tmp_path / "train.csv", "audio,text,speaker", "a.wav,yes,ann", "b.wav,no,bob")
    write(tmp_path / "dev.csv", "audio,text,speaker", "c.wav,yes,ann", "d.wav,no,cleo")
    summary = prepare("csv", source=tmp_path, out=tmp_path / "out")
    note = "1 of 2 dev speakers are in train too: errors on dev are not those on unheard speakers"
    assert summary.notes == (note,)
    write(tmp_path / "dev.csv", "audio,text,speaker", "c.wav,yes,dan", "d.wav,no,cleo")
    assert prepare("csv", source=tmp_path, out=tmp_path / "out").notes == ()


def test_speakers_that_differ_only_in_case_are_noted(tmp_path: Path) -> None:
    for name in "abc":
        audio(tmp_path / f"{name}.wav")
    table = write(tmp_path / "my.csv", "audio,text,speaker", "a.wav,yes,ann", "b.wav,no,Ann", "c.wav,no,bob")
    summary = prepare("csv", source=table, out=tmp_path / "out", dev_share=0)
    assert summary.notes == ("names that differ only in case count as different speakers: 'Ann' and 'ann'",)
    assert summary.splits["train"].speakers == 3


def test_an_archive_is_unpacked_once_below_the_manifests(tmp_path: Path) -> None:
    archive = pack(make_digits(tmp_path / "fsdd"), tmp_path / "fsdd.tar.gz")
    out = tmp_path / "out"
    prepare("digits", source=archive, out=out, allow_partial=True)
    recording = out / "source" / "fsdd" / "fsdd" / "recordings" / "7_ann_10.wav"
    assert "7_ann_10" in ids(out / "train.jsonl")
    before = recording.stat().st_mtime_ns
    prepare("digits", source=archive, out=out, allow_partial=True)
    assert recording.stat().st_mtime_ns == before


def test_test_share(tmp_path: Path) -> None:
    rows = [f"{speaker}{take}.wav,go,{speaker}" for speaker in "abcdefghij" for take in range(2)]
    for row in rows:
        audio(tmp_path / row.split(",")[0], 0.01)
    table = write(tmp_path / "my.csv", "audio,text,speaker", *rows)
    summary = prepare("csv", source=table, out=tmp_path / "out", test_share=0.2, dev_share=0.25)
    assert {name: split.speakers for name, split in summary.splits.items()} == {"train": 6, "dev": 2, "test": 2}
    assert sum(split.utterances for split in summary.splits.values()) == 20
    again = prepare("csv", source=table, out=tmp_path / "out", dev_share=0.25)
    assert again.notes[-1] == f"the test split that {tmp_path / 'out'} had before is removed"
    assert not (tmp_path / "out" / "test.jsonl").exists()


def test_what_was_prepared_before_survives_a_failure(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav")
    table = write(tmp_path / "my.csv", "audio,text", "a.wav,yes")
    prepare("csv", source=table, out=tmp_path / "out", dev_share=0)
    write(table, "audio,text", "none.wav,yes")
    with pytest.raises(CorpusError, match="missing"):
        prepare("csv", source=table, out=tmp_path / "out", dev_share=0)
    assert ids(tmp_path / "out" / "train.jsonl") == {"a"}
    assert (tmp_path / "out" / "summary.json").exists()


def test_a_folder_whose_recordings_are_gone_is_not_complete(tmp_path: Path) -> None:
    audio(tmp_path / "mine" / "a.wav")
    write(tmp_path / "mine" / "my.csv", "audio,text", "a.wav,yes")
    archive, out = tmp_path / "mine.tar.gz", tmp_path / "out"
    prepare("csv", source=pack(tmp_path / "mine", archive), out=out, dev_share=0)
    write(tmp_path / "mine" / "my.csv", "audio,text", "none.wav,yes")
    (tmp_path / "mine" / "a.wav").unlink()
    with pytest.raises(CorpusError, match=r"none\.wav is missing"):
        prepare("csv", source=pack(tmp_path / "mine", archive), out=out, dev_share=0)
    assert not (out / "summary.json").exists()
    audio(tmp_path / "mine" / "none.wav")
    prepare("csv", source=pack(tmp_path / "mine", archive), out=out, dev_share=0)
    assert texts(out / "train.jsonl") == {"none": "yes"}
    assert (out / "summary.json").exists()


def test_a_foreign_manifest_is_not_overwritten(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav")
    table = write(tmp_path / "my.csv", "audio,text", "a.wav,yes")
    mine = write(tmp_path / "out" / "train.jsonl", "mine")
    with pytest.raises(CorpusError, match=r"out/train\.jsonl: would be overwritten, and was not prepared here"):
        prepare("csv", source=table, out=tmp_path / "out", dev_share=0)
    assert mine.read_text() == "mine\n"
    mine.unlink()
    prepare("csv", source=table, out=tmp_path / "out", dev_share=0)
    (tmp_path / "out" / "summary.json").unlink()  # removed by hand
    assert prepare("csv", source=table, out=tmp_path / "out", dev_share=0).splits["train"].utterances == 1


def test_after_a_crash_other_options_may_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio(tmp_path / "a.wav")
    audio(tmp_path / "b.wav")
    table = write(tmp_path / "my.csv", "audio,text,speaker", "a.wav,yes,x", "b.wav,no,y")
    out = tmp_path / "out"
    for dev_share, other in ((0.5, 0.0), (0.0, 0.5)):  # into a new folder, and over what was there
        with monkeypatch.context() as crash:
            crash.setattr(preparation, "write_manifest", writes_then_fails(preparation.write_manifest))
            with pytest.raises(KeyboardInterrupt):
                prepare("csv", source=table, out=out, dev_share=dev_share)
        assert not (out / "summary.json").exists()
        prepare("csv", source=table, out=out, dev_share=other)
        assert (out / "dev.jsonl").exists() == (other > 0)
        assert not (out / ".summary.json").exists()


def writes_then_fails(write_manifest: Callable[..., None]) -> Callable[..., None]:
    def stop(path: Path, records: Any) -> None:
        write_manifest(path, records)
        raise KeyboardInterrupt

    return stop


def test_a_foreign_summary_is_not_overwritten(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav")
    table = write(tmp_path / "my.csv", "audio,text", "a.wav,yes")
    write(tmp_path / "out" / "summary.json", "[]")
    with pytest.raises(CorpusError, match="not a summary of a prepared corpus"):
        prepare("csv", source=table, out=tmp_path / "out", dev_share=0)


@pytest.mark.parametrize(
    ("corpus", "arguments", "message"),
    [
        ("an5", {}, "there is no corpus 'an5'; did you mean 'an4'?"),
        ("switchboard", {}, "there is no corpus 'switchboard'; there are an4, yesno, digits, "),
        ("an4", {"held_out_speaker": "x"}, "corpus an4 has no option 'held_out_speaker'; it takes no options"),
        ("digits", {"speaker": "x"}, "corpus digits has no option 'speaker'; it takes held_out_speaker"),
        ("an4", {"dev_share": 1.0}, "dev_share must be at least 0 and below 1, found 1.0"),
        ("an4", {"source": Path("/nonexistent/an4.tar.gz")}, "/nonexistent/an4.tar.gz: the source does not exist"),
        ("kaldi", {"source": None}, "corpus kaldi has no official address; give --source PATH"),
        ("csv", {"source": None}, "corpus csv has no official address; give --source PATH"),
        ("an4", {}, "found no etc/an4_train.fileids"),
        ("yesno", {}, "found no recordings like"),
        ("digits", {}, "found no recordings/"),
        ("librispeech", {}, "found no LibriSpeech part"),
        ("ljspeech", {}, "found no metadata.csv"),
        ("kaldi", {}, "found no data folder"),
        ("csv", {}, "found no CSV file"),
        ("csv", {"source": Path(__file__)}, "wanted a file *.csv or *.tsv, a folder or an archive"),
    ],
)
def test_wrong_calls(tmp_path: Path, corpus: str, arguments: dict[str, object], message: str) -> None:
    source = tmp_path / "empty"
    source.mkdir()
    with pytest.raises(CorpusError) as caught:
        prepare(corpus, **{"source": source, "out": tmp_path / "out", **arguments})  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_test_share_needs_a_corpus_without_a_test_split(tmp_path: Path) -> None:
    source = make_digits(tmp_path / "fsdd")
    with pytest.raises(CorpusError, match="only a corpus without a test split"):
        prepare("digits", source=source, out=tmp_path / "out", allow_partial=True, test_share=0.1)


def test_find_root_refuses_to_choose(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name / "mark")
    with pytest.raises(CorpusError, match=r"one and .*two both hold mark"):
        find_root([tmp_path], lambda folder: (folder / "mark").is_file(), "mark")
    assert find_root([tmp_path / "two"], lambda folder: (folder / "mark").is_file(), "mark") == tmp_path / "two"


def test_without_a_source_the_official_archives_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(make_digits(tmp_path / "fsdd"), tmp_path / "packed.tar.gz")
    fetched: list[str] = []

    def fetch(url: str, path: Path, **checksums: str | None) -> Path:
        fetched.append(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed.read_bytes())
        return path

    monkeypatch.setattr("asr.corpora.preparation.download", fetch)
    out = tmp_path / "out"
    summary = prepare("digits", source=None, out=out, allow_partial=True)
    assert fetched == [summary.source]
    assert summary.source.startswith("https://github.com/Jakobovski/free-spoken-digit-dataset/")
    assert len(read_manifest(out / "test.jsonl")) == 16
    (out / "download" / "free-spoken-digit-dataset-v1.0.10.tar.gz").unlink()
    prepare("digits", source=None, out=out, allow_partial=True)
    assert len(fetched) == 1  # what was unpacked needs its archive no more


@pytest.mark.parametrize("corpus", CORPORA.values(), ids=list(CORPORA))
def test_registry(corpus: Corpus) -> None:
    assert CORPORA[corpus.name] is corpus
    archives: tuple[Archive, ...] = corpus.archives()
    assert (archives == ()) == (corpus.name in ("commonvoice", "kaldi", "csv", "texts", "subtitles", "annotations"))
    for archive in archives:
        assert archive.url.startswith(("https://", "http://www.speech.cs.cmu.edu/"))
        assert len(archive.sha256 or "0" * 64) == 64
        assert len(archive.md5 or "0" * 32) == 32


# --- the published corpora --------------------------------------------------------------------------------------------


def published(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return path


@pytest.mark.slow
def test_published_an4(shared_data: Path, tmp_path: Path) -> None:
    summary = prepare("an4", source=published(shared_data, "an4_sphere.tar.gz"), out=tmp_path)
    train, dev, test = (summary.splits[split] for split in ("train", "dev", "test"))
    assert not summary.partial
    assert train.utterances + dev.utterances == 948
    assert train.speakers + dev.speakers == 74
    assert (test.utterances, test.words, test.speakers) == (130, 773, 10)
    assert len(train.alphabet) == 27  # A to Z and the space
    assert train.hours + dev.hours == pytest.approx(0.71, abs=0.01)


def test_published_yesno(shared_data: Path, tmp_path: Path) -> None:
    summary = prepare("yesno", source=published(shared_data, "waves_yesno.tar.gz"), out=tmp_path)
    assert {name: split.words for name, split in summary.splits.items()} == {"train": 216, "dev": 24, "test": 240}


@pytest.mark.slow
def test_published_digits(shared_data: Path, tmp_path: Path) -> None:
    archive = published(shared_data, "free-spoken-digit-dataset.tar.gz")
    official = prepare("digits", source=archive, out=tmp_path)
    assert {name: split.utterances for name, split in official.splits.items()} == {
        "train": 2400,
        "dev": 300,
        "test": 300,
    }
    held_out = prepare("digits", source=archive, out=tmp_path, held_out_speaker="theo")
    assert {name: split.speakers for name, split in held_out.splits.items()} == {"train": 4, "dev": 1, "test": 1}
    assert held_out.splits["test"].utterances == 500


def test_published_librispeech_sample(shared_data: Path, tmp_path: Path) -> None:
    archive = published(shared_data, "librispeech_sample.tar.gz")
    with pytest.raises(CorpusError, match="found 4 test-clean utterances, wanted 2620"):
        prepare("librispeech", source=archive, out=tmp_path)
    summary = prepare("librispeech", source=archive, out=tmp_path, allow_partial=True)
    assert summary.partial
    assert list(summary.splits) == ["test-clean"]
    assert texts(tmp_path / "test-clean.jsonl")["1089-134686-0001"] == "STUFF IT INTO YOU HIS BELLY COUNSELLED HIM"


@pytest.mark.slow
def test_published_speechocean762(shared_data: Path, tmp_path: Path) -> None:
    archive = published(shared_data, "speechocean762_train_opus.tar")
    summary = prepare("kaldi", source=archive, out=tmp_path, test_share=0.1)
    assert sum(split.utterances for split in summary.splits.values()) == 2500
    assert sum(split.speakers for split in summary.splits.values()) == 125
    assert sum(split.hours for split in summary.splits.values()) == pytest.approx(2.88, abs=0.01)
