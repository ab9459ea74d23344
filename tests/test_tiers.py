"""TextGrids and ELAN's files: what is read of them, and errors that name the place."""

import re
from pathlib import Path

import pytest

from annotated import GRID, SAID, Spoken, about, alignable, elan, put, shortened, text_grid, tier
from asr.corpora.tiers import Interval, Tier, read_tiers
from asr.errors import CorpusError
from fake_corpora import write


def spoken(found: list[Tier]) -> list[tuple[str, list[Spoken]]]:
    return [(tier.name, [interval[2:] for interval in tier.intervals]) for tier in found]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("form", [str, shortened])
def test_text_grids(tmp_path: Path, form: type[str], encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    content = mark + form(text_grid(("Zoe\u0301", SAID), ("", []), points=True)).replace("\n", "\r\n")
    zoe, empty = read_tiers(put(tmp_path / "a.TEXTGRID", content, encoding))
    assert (zoe.name, empty) == ("Zo\u00e9", Tier("", ()))
    assert [interval.place for interval in zoe.intervals] == [2, 3]
    assert spoken([zoe]) == [("Zo\u00e9", [(0.5, 1.25, 'sie sagt "é ! nö <a> 7"'), (1.25, 2.0, "so")])]


def test_the_short_form_is_short() -> None:
    wanted = (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0 \n2 \n<exists> \n1 \n"IntervalTier" \n"a" \n0 \n2 \n'
    )
    assert shortened(text_grid(("a", [(0, 2, "b")]))) == wanted + '1 \n0 \n2 \n"b" \n'


def test_what_stands_between_values_is_no_value(tmp_path: Path) -> None:
    lines = ['"ooTextFile short" ! 3 "no"', '"TextGrid"', "x1 = 0 [5] 1e0 seconds <exists> 1", '"IntervalTier" "a" 0 1']
    assert spoken(read_tiers(write(tmp_path / "a.TextGrid", *lines, '1 0 y.5 [2] 1.0E0 "b"'))) == [("a", [(0, 1, "b")])]
    assert read_tiers(write(tmp_path / "a.TextGrid", *lines[:2], "0 1 <absent>")) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ooTextFile", "ooBinaryFile", ':1: wanted "ooTextFile", found "ooBinaryFile"'),
        ('"TextGrid"', '"PitchTier"', ':2: wanted "TextGrid", found "PitchTier"'),
        ("<exists>", "<maybe>", ":6: wanted <exists>, found <maybe>"),
        ("size = 1", 'size = "1"', ':7: wanted a number of items, found "1"'),
        ("IntervalTier", "IntervalTiers", ':10: wanted "IntervalTier", found "IntervalTiers"'),
        ("size = 2", "size = 2.5", ":14: wanted a number of items, found 2.5"),
        ("size = 2", "size = 1", ":20: wanted the end of the file, by the counts before, found 1"),
        ("size = 2", "size = 3", ":22: wanted a number, found the end of the file"),
        ("xmax = 1 ", "xmax = one ", ':18: wanted a number, found "b"'),
        ("xmax = 1 ", "xmax = 0 ", ":17: wanted an end after the start, found 0 to 0 s"),
        ('"c"', '"c', ':22: wanted a text in quotation marks, found "'),
        ('"b"', "b", ":20: wanted a text in quotation marks, found 1"),
    ],
)
def test_malformed_text_grids(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GRID
    path = put(tmp_path / "a.TextGrid", GRID.replace(old, new, 1))
    with pytest.raises(CorpusError, match=rf"^{re.escape(f'{path}{message}')}$"):
        read_tiers(path)


def test_broken_utf16(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_bytes(GRID.encode("utf-16")[:-1])
    with pytest.raises(CorpusError, match=r"a\.TextGrid: broken UTF-16 text \(byte \d+\)$"):
        read_tiers(path)


def test_elan(tmp_path: Path) -> None:
    ann = tier('PARTICIPANT="Ann" TIER_ID="A"', alignable("a1", "ts1", "ts2", "yes &amp;\nno"))
    bob = tier('PARTICIPANT="" TIER_ID="Bob"', alignable("a2", "ts3", "ts4", ""), alignable("a3", "ts4", "ts5", "so"))
    words = tier('PARENT_REF="A" TIER_ID="words"', about("a4", "a1", "yes"), about("a5", "a1", "no", "a4"))
    translation = tier('PARENT_REF="words" TIER_ID="t"', about("a6", "a1", "ja nein"), about("a7", "a5", "nein"))
    path = tmp_path / "a.eaf"
    for encoding in ("utf-8", "utf-16"):
        assert read_tiers(put(path, elan(ann, bob, words, translation), encoding)) == [
            Tier("A", (Interval(1, f"{path}: annotation a1", 0.1, 0.9, "yes & no"),), "Ann"),
            Tier("Bob", (Interval(1, f"{path}: annotation a2", 1.0, 1.5, ""),), untimed=("a3",)),
            Tier("words", (), is_dependent=True, untimed=("a4", "a5")),
            Tier("t", (Interval(1, f"{path}: annotation a6", 0.1, 0.9, "ja nein"),), "", True, ("a7",)),
        ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<a>\n<b></a>", ":2: malformed XML: mismatched tag"),
        ('<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', ":2: wanted no DOCTYPE"),
        ("<a/>", ": wanted an ANNOTATION_DOCUMENT, found a"),
        (elan(media='MIME_TYPE="audio/x-wav" TIME_ORIGIN="250"'), ": TIME_ORIGIN of the audio must be 0, found '250'"),
        (
            elan(tier("", alignable("a1", "ts2", "ts1", "b"))),
            ": annotation a1: wanted an end after the start, found 0.9",
        ),
        (
            elan(tier("", alignable("a1", "ts1", "ts9", "b"))),
            ": annotation a1: wanted milliseconds at TIME_SLOT_REF2 'ts9'",
        ),
        (
            elan(tier("", about("a1", "a9", "b"))),
            ": annotation a1: wanted another annotation as ANNOTATION_REF, found 'a9'",
        ),
        (
            elan(tier("", about("a1", "a2", "b")), tier("", about("a2", "a1", "c"))),
            ": annotation a1: wanted another anno",
        ),
    ],
)
def test_malformed_documents(tmp_path: Path, content: str, message: str) -> None:
    path = put(tmp_path / "a.eaf", content)
    with pytest.raises(CorpusError, match=rf"^{re.escape(f'{path}{message}')}"):
        read_tiers(path)


def test_media_that_begin_at_another_time_than_the_audio(tmp_path: Path) -> None:
    read_tiers(put(tmp_path / "a.eaf", elan(media='MIME_TYPE="video/mp4" TIME_ORIGIN="250"')))
