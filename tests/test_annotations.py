"""Recordings with TextGrids and ELAN's files: what is read of them, whose it is, and errors that name the place."""

import json
import re
from pathlib import Path

import pytest

from asr.corpora import prepare
from asr.corpora.tiers import Interval, Tier, read_tiers
from asr.decode import Word
from asr.errors import CorpusError
from asr.manifest import Utterance, read_manifest
from asr.writers import render
from fake_corpora import audio, texts, write
from recognised import transcript
from tiny_run import save_run, succeed, write_audio

Spoken = tuple[float, float, str]


def text_grid(*tiers: tuple[str, list[Spoken]], points: bool = False) -> str:
    """The long form, as Praat writes it; perhaps with a tier of points in front."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", "xmax = 2 ", "tiers? <exists> "]
    lines += [f"size = {len(tiers) + points} ", "item []: "]
    if points:
        lines += ["    item [1]:", '        class = "TextTier" ', '        name = "tones" ', "        xmin = 0 "]
        lines += ["        xmax = 2 ", "        points: size = 1 ", "        points [1]:", "            number = 0.7 "]
        lines += ['            mark = "H*" ']
    for place, (name, spoken) in enumerate(tiers, 1 + points):
        lines += [f"    item [{place}]:", '        class = "IntervalTier" ', f'        name = "{name}" ']
        lines += ["        xmin = 0 ", "        xmax = 2 ", f"        intervals: size = {len(spoken)} "]
        for number, (start_s, end_s, text) in enumerate(spoken, 1):
            quoted = text.replace('"', '""')
            lines += [
                f"        intervals [{number}]:",
                f"            xmin = {start_s} ",
                f"            xmax = {end_s} ",
            ]
            lines += [f'            text = "{quoted}" ']
    return "\n".join(lines) + "\n"


def shortened(long: str) -> str:
    """The short form of a long one."""
    body = re.sub(r"^ *[\w ]+\[\d*\]: *\n", "", long, flags=re.MULTILINE)
    return re.sub(r"^ *(?:\w+(?:: size)? = |tiers\? )(?!\"ooText|\"TextGrid)", "", body, flags=re.MULTILINE)


SLOTS = {"ts1": 100, "ts2": 900, "ts3": 1000, "ts4": 1500, "ts5": None, "ts6": 1800}


def alignable(name: str, start: str, end: str, text: str) -> str:
    return (
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="{name}" TIME_SLOT_REF1="{start}" TIME_SLOT_REF2="{end}">\n'
        f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
    )


def about(name: str, other: str, text: str, before: str = "") -> str:
    previous = f' PREVIOUS_ANNOTATION="{before}"' if before else ""
    return (
        f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="{name}" ANNOTATION_REF="{other}"{previous}>\n'
        f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
    )


def tier(attributes: str, *annotations: str) -> str:
    return f'<TIER LINGUISTIC_TYPE_REF="default-lt" {attributes}>{"".join(annotations)}</TIER>'


def elan(*tiers: str, media: str = 'MIME_TYPE="audio/x-wav"') -> str:
    """A document as ELAN 6 writes it."""
    slots = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="{name}"{"" if ms is None else f" TIME_VALUE={chr(34)}{ms}{chr(34)}"}/>\n'
        for name, ms in SLOTS.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-05-01T12:00:00+01:00" '
        'FORMAT="3.0" VERSION="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">\n'
        '<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">\n'
        f'<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/talks/a.wav" {media} RELATIVE_MEDIA_URL="./a.wav"/>\n'
        f'<PROPERTY NAME="lastUsedAnnotationId">9</PROPERTY></HEADER>\n<TIME_ORDER>\n{slots}</TIME_ORDER>\n'
        + "\n".join(tiers)
        + '\n<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>\n</ANNOTATION_DOCUMENT>\n'
    )


def put(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))
    return path


def prepared(source: Path, **options: str | bool) -> list[Utterance]:
    """The utterances of a folder, none held out."""
    prepare("annotations", source=source, out=source.parent / "out", dev_share=0, **options)
    return read_manifest(source.parent / "out" / "train.jsonl")


def spoken(found: list[Tier]) -> list[tuple[str, list[Spoken]]]:
    return [(tier.name, [interval[2:] for interval in tier.intervals]) for tier in found]


# --- files ------------------------------------------------------------------------------------------------------------

SAID = [(0, 0.5, ""), (0.5, 1.25, 'sie sagt "é\n! nö <a> 7"'), (1.25, 2, " so ")]


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


GRID = text_grid(("a", [(0, 1, "b"), (1, 2, "c")]))


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


# --- recordings -------------------------------------------------------------------------------------------------------


def test_every_interval_with_text_becomes_an_utterance(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    talk = audio(source / "a.wav", 2.0)
    audio(source / "b.flac", 2.0)
    put(source / "a.TextGrid", text_grid(("Ann", [(0, 0.5, ""), (0.5, 1, "yes")]), ("Bob", [(0.75, 2, "no [no]")])))
    put(source / "b.eaf", elan(tier('TIER_ID="sentences"', alignable("a1", "ts3", "ts4", "so"))))
    ann, bob, unknown = prepared(source)
    assert (ann.id, ann.offset, ann.duration, ann.text, ann.speaker) == ("a-Ann-0002", 0.5, 0.5, "yes", "Ann")
    assert (bob.id, bob.offset, bob.duration, bob.text, bob.speaker) == ("a-Bob-0001", 0.75, 1.25, "no [no]", "Bob")
    assert ann.audio_filepath.resolve() == talk
    assert (unknown.id, unknown.offset, unknown.text, unknown.speaker) == ("b-sentences-0001", 1.0, "so", None)
    put(source / "b.eaf", elan(tier('TIER_ID="s" PARTICIPANT="Cleo"', alignable("a1", "ts3", "ts4", "so"))))
    assert prepared(source)[2].speaker == "Cleo"


def test_what_is_left_out_or_unusual_is_noted(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    audio(source / "a.wav", 1.75)
    audio(source / "b.wav", 2.0)
    put(source / "a.TextGrid", text_grid(("a", [(0, 0.5, "..."), (0.5, 1, "(yes)"), (1, 2, "Bo: so")])))
    put(source / "b.TextGrid", text_grid(("a", [(0, 2, "")])))
    summary = prepare("annotations", source=source, out=tmp_path / "out", dev_share=0)
    assert texts(tmp_path / "out" / "train.jsonl") == {"a-a-0002": "(yes)", "a-a-0003": "Bo: so"}
    assert set(summary.notes) == {
        "annotations without words left out: 1 (a-a-0001)",
        "annotations with brackets, whose content is taken for words: 1 (a-a-0002)",
        "annotations cut to the end of the audio: 1 (a-a-0003)",
        f"annotation files without text: 1 ({source / 'b.TextGrid'})",
    }


@pytest.mark.parametrize(("start_s", "end_s"), [(1, 2.6), (2, 2.1), (-0.5, 1)])
def test_an_interval_beyond_the_audio(tmp_path: Path, start_s: float, end_s: float) -> None:
    audio(tmp_path / "talks" / "a.wav", 2.0)
    put(tmp_path / "talks" / "a.TextGrid", text_grid(("a", [(start_s, end_s, "yes")])))
    with pytest.raises(CorpusError, match=r"a\.TextGrid:17: .* s is not inside .*a\.wav, which is 2\.000 s long$"):
        prepared(tmp_path / "talks")


SENTENCES = ("sentences", [(0.0, 1.0, "Yes, no!"), (1.0, 1.9, "So.")])


@pytest.mark.parametrize(
    ("fine", "whole"),
    [
        (("words", [(0.1, 0.3, "yes"), (0.4, 0.6, "no"), (0.98, 1.2, "so")]), SENTENCES),
        (("sounds", [(0, 0.4, "j"), (0.4, 1, "\u0283"), (1, 1.4, "ts")]), ("words", [(0, 1, "she"), (1, 1.4, "z")])),
        (("German", [(0, 1, "Ja, nein!"), (1, 1.9, "Also.")]), SENTENCES),
    ],
)
def test_a_tier_that_divides_another(tmp_path: Path, fine: tuple[str, list[Spoken]], whole: tuple[str, list]) -> None:
    source = tmp_path / "talks"
    audio(source / "a.wav", 2.0)
    for tiers in ((fine, whole), (whole, fine)):
        path = put(source / "a.TextGrid", text_grid(*tiers))
        with pytest.raises(CorpusError, match=rf"{path}: tier '\w+' divides tier '\w+': .* such as tiers=\w+$"):
            prepared(source)
        assert {utterance.speaker for utterance in prepared(source, tiers=whole[0])} == {None}
        assert len(prepared(source, tiers=f"{fine[0]}, {whole[0]}")) == len(fine[1]) + len(whole[1])


def test_speakers_who_interrupt_each_other_do_not_divide(tmp_path: Path) -> None:
    audio(tmp_path / "talks" / "a.wav", 2.0)
    ann, bob = [(0.0, 1.0, "I say"), (1.0, 1.9, "so")], [(0.2, 0.5, "mm"), (1.2, 1.4, "yes")]
    put(tmp_path / "talks" / "a.TextGrid", text_grid(("Ann", ann), ("Bob", bob)))
    assert len(prepared(tmp_path / "talks")) == 4


def test_tiers_are_chosen(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    audio(source / "a.wav", 2.0)
    sentences = tier('TIER_ID="s"', alignable("a1", "ts1", "ts2", "yes no"))
    words = tier('TIER_ID="w" PARENT_REF="s"', about("a2", "a1", "yes"), about("a3", "a1", "no", "a2"))
    path = put(source / "a.eaf", elan(sentences, words, tier('TIER_ID="t" PARENT_REF="s"', about("a4", "a1", "ja"))))
    assert [utterance.id for utterance in prepared(source)] == ["a-s-0001"]
    assert [(found.text, found.offset, found.duration) for found in prepared(source, tiers="t")] == [("ja", 0.1, 0.8)]
    message = f"{path}: tier 'w' has annotations whose time is not stated: 2 (a2, a3)"
    with pytest.raises(CorpusError, match=rf"^{re.escape(message)}$"):
        prepared(source, tiers="w")
    with pytest.raises(CorpusError, match=r"^tiers: no file has an interval tier 'x'; there are 's', 'w', 't'$"):
        prepared(source, tiers="s,x")
    audio(source / "b.wav", 2.0)
    put(source / "b.TextGrid", text_grid(("u", SAID)))
    with pytest.raises(CorpusError, match=r"annotation files without a tier of these names: 1 \(.*b\.TextGrid\) \("):
        prepared(source, tiers="s")
    assert len(prepared(source, tiers="s", allow_partial=True)) == 1
    put(source / "b.TextGrid", text_grid(("u", SAID), ("u", SAID)))
    with pytest.raises(CorpusError, match=r"b\.TextGrid: two tiers are called 'u'; rename one$"):
        prepared(source)


def test_files_without_a_partner(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    audio(source / "b.wav")
    with pytest.raises(CorpusError, match=r"talks: found no audio file with NAME\.TextGrid or NAME\.eaf beside it$"):
        prepared(source)
    audio(source / "a.wav", 2.0)
    put(source / "a#0.TextGrid", GRID)
    with pytest.raises(CorpusError, match=r"^annotations from .*: audio files without annotations: 1 \("):
        prepared(source)
    found = prepared(source, allow_partial=True)
    assert [(utterance.id, utterance.channel) for utterance in found] == [("a#0-a-0001", 0), ("a#0-a-0002", 0)]
    put(source / "a.eaf", elan())
    with pytest.raises(CorpusError, match=r"a\.eaf and .*a#0\.TextGrid are both annotations of .*a\.wav"):
        prepared(source)


def test_what_align_writes_is_read_back(tmp_path: Path) -> None:
    words = [Word('R"B', 0.0, 0.4, 1.0), Word("<i>", 0.5, 0.6, 1.0), Word("so", 3.0, 3.2, 1.0)]
    path = put(tmp_path / "a.TextGrid", render(transcript(words, 4.0), "textgrid"))
    assert [[interval.text for interval in tier.intervals] for tier in read_tiers(path)] == [
        ['R"B', "<i>", "so"],
        ['R"B <i>', "so"],
    ]


def test_from_a_partial_transcript_to_the_times_of_its_words(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = tmp_path / "talks"
    source.mkdir()
    write_audio(source / "a.wav", 2.0)
    put(source / "a.TextGrid", text_grid(("sentences", [(0, 0.5, ""), (0.5, 1.5, "Bad cab"), (1.5, 2, "")])))
    succeed(capsys, "prepare", "annotations", "--source", source, "--out", tmp_path / "data", "--dev-share", 0)
    run = save_run(tmp_path / "run")
    manifest, out = tmp_path / "data" / "train.jsonl", tmp_path / "aligned"
    succeed(capsys, "align", manifest, "--model", run, "--format", "textgrid", "--out", out)
    words, segments = read_tiers(out / "a-sentences-0002.TextGrid")
    assert [interval.text for interval in words.intervals] == ["Bad", "cab"]
    assert 0 <= words.intervals[0].start_s < words.intervals[-1].end_s <= 1
    assert " ".join(interval.text for interval in segments.intervals) == "Bad cab"
    assert json.loads(manifest.read_text())["offset"] == 0.5
