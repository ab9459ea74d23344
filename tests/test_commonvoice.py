"""Languages of Common Voice: tables that quote nothing, official splits, and all that is validated."""

from pathlib import Path

import pytest

from asr.corpora import prepare
from asr.errors import CorpusError
from asr.manifest import read_manifest
from fake_corpora import audio, ids, pack, texts, write

HEADER = "client_id\tpath\tsentence_id\tsentence\tup_votes\tlocale\tsegment"


def make_commonvoice(root: Path, **tables: list[tuple[str, str, str]]) -> Path:
    """A language's folder, two below `root`, with MP3 clips; rows are (speaker's first digits, clip, sentence)."""
    language = root / "cv-corpus-19.0-2024-09-13" / "br"
    rows = {
        "train": [("a1", "t1", "N'eo ket \"mat"), ("a1", "t2", '"An ""trede"" eo."'), ("a2", "t3", "Ya")],
        "dev": [("b1", "d1", "Demat")],
        "test": [("c1", "e1", "Kenavo")],
    }
    rows["validated"] = [
        *(row for name in ("train", "dev", "test") for row in rows[name]),
        ("a1", "v1", "Ya"),
        ("b1", "v2", "Nann"),  # of a dev speaker
        ("a3", "v3", "Kenavo"),  # a sentence of test
        ("a3", "v4", "Trugarez"),
    ]
    for name, found in {**rows, **tables}.items():
        lines = [f"{speaker * 64}\tcv_br_{clip}.mp3\t77\t{text}\t2\tbr\t" for speaker, clip, text in found]
        write(language / f"{name}.tsv", HEADER, *lines)
        for _, clip, _ in found:
            audio(language / "clips" / f"cv_br_{clip}.mp3", 0.5, format="MP3")
    return root


def test_commonvoice(tmp_path: Path) -> None:
    root = make_commonvoice(tmp_path / "corpus")
    language = root / "cv-corpus-19.0-2024-09-13" / "br"
    for number, source in enumerate((language, language.parent, root, pack(language.parent, tmp_path / "br.tar.gz"))):
        out = tmp_path / f"out-{number}"
        summary = prepare("commonvoice", source=source, out=out)
        assert list(summary.splits) == ["train", "dev", "test"]
        assert texts(out / "train.jsonl") == {
            "cv_br_t1": "N'eo ket \"mat",
            "cv_br_t2": 'An "trede" eo.',
            "cv_br_t3": "Ya",
        }
        assert texts(out / "dev.jsonl") == {"cv_br_d1": "Demat"}
        train = read_manifest(out / "train.jsonl")
        assert [utterance.speaker for utterance in train] == ["a1" * 8, "a1" * 8, "a2" * 8]
        assert all(0.4 < utterance.duration < 0.7 for utterance in train)


def test_commonvoice_trained_on_all_that_is_validated(tmp_path: Path) -> None:
    source, out = make_commonvoice(tmp_path / "corpus"), tmp_path / "out"
    summary = prepare("commonvoice", source=source, out=out, train="validated")
    assert ids(out / "train.jsonl") == {"cv_br_t1", "cv_br_t2", "cv_br_t3", "cv_br_v1", "cv_br_v4"}
    assert ids(out / "dev.jsonl") == {"cv_br_d1"}
    assert "train is 5 of the 9 clips of validated.tsv, without speakers and sentences of dev and test" in summary.notes
    with pytest.raises(CorpusError, match="train must be train or validated, found 'all'"):
        prepare("commonvoice", source=source, out=out, train="all")


def test_commonvoice_of_a_small_language(tmp_path: Path) -> None:
    source, out = make_commonvoice(tmp_path / "corpus", dev=[], test=[]), tmp_path / "out"
    summary = prepare("commonvoice", source=source, out=out, dev_share=0.5)
    assert list(summary.splits) == ["train", "dev"]
    assert ids(out / "train.jsonl") | ids(out / "dev.jsonl") == {"cv_br_t1", "cv_br_t2", "cv_br_t3"}


def test_commonvoice_clips_that_cannot_be_used(tmp_path: Path) -> None:
    source, out = make_commonvoice(tmp_path / "corpus", test=[("c1", "e1", ""), ("c1", "e2", "Ya")]), tmp_path / "out"
    clips = source / "cv-corpus-19.0-2024-09-13/br/clips"
    (clips / "cv_br_t3.mp3").unlink()
    wanted = r"clips that are missing: 1 \(cv_br_t3.mp3\); clips without a sentence: 1 \(cv_br_e1.mp3\)"
    with pytest.raises(CorpusError, match=wanted):
        prepare("commonvoice", source=source, out=out)
    prepare("commonvoice", source=source, out=out, allow_partial=True)
    assert ids(out / "train.jsonl") == {"cv_br_t1", "cv_br_t2"}
    assert ids(out / "test.jsonl") == {"cv_br_e2"}
    (clips / "cv_br_t2.mp3").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"train\.tsv:3: cv_br_t2\.mp3: .*empty"):
        prepare("commonvoice", source=source, out=out, allow_partial=True)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r"dev\.tsv: is empty, wanted a header with client_id, path, sentence"),
        (["client_id\tpath\ttext"], r"dev\.tsv:1: no column 'sentence'; found client_id, path, text"),
        ([HEADER, "a\tb.mp3"], r"dev\.tsv:2: wanted 7 fields separated by TABs, found 2"),
    ],
)
def test_commonvoice_errors_name_the_line(tmp_path: Path, lines: list[str], message: str) -> None:
    source = make_commonvoice(tmp_path / "corpus")
    write(source / "cv-corpus-19.0-2024-09-13/br/dev.tsv", *lines)
    with pytest.raises(CorpusError, match=message):
        prepare("commonvoice", source=source, out=tmp_path / "out")
