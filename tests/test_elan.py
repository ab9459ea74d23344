"""Documents of ELAN: one as a whole picture, and what `asr.corpora.tiers` reads of others."""

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given

from asr.corpora import prepare
from asr.corpora.tiers import Tier, read_tiers
from asr.decode import Word
from asr.manifest import read_manifest
from asr.transcript import Dialogue, Transcript
from asr.writers import render, write_transcript
from fake_corpora import audio
from recognised import transcript, transcripts

WORDS = [Word('R"B', 0.5, 0.62, 1.0), Word("<i>", 0.62, 0.62, 1.0), Word("so", 2.0, 2.3456, 1.0)]
XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
SCHEMA = 'xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd"'
ALIGNABLE = 'GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID'
TYPES = f"""\
    <LINGUISTIC_TYPE {ALIGNABLE}="segments" TIME_ALIGNABLE="true" />
    <LINGUISTIC_TYPE CONSTRAINTS="Included_In" {ALIGNABLE}="words" TIME_ALIGNABLE="true" />
    <CONSTRAINT DESCRIPTION="Time alignable annotations within the parent annotation's time interval, gaps are \
allowed" STEREOTYPE="Included_In" />
</ANNOTATION_DOCUMENT>
"""
HEAD = f"""\
<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT {XSI} {SCHEMA} AUTHOR="asr" DATE="1970-01-01T00:00:00Z" FORMAT="3.0" VERSION="3.0">
    <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
"""
GOLDEN = f"""\
{HEAD}\
        <MEDIA_DESCRIPTOR MEDIA_URL="file:./calls/my &amp; talk.WAV" MIME_TYPE="audio/x-wav" \
RELATIVE_MEDIA_URL="./calls/my &amp; talk.WAV" />
        <PROPERTY NAME="lastUsedAnnotationId">5</PROPERTY>
    </HEADER>
    <TIME_ORDER>
        <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="200" />
        <TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="500" />
        <TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="620" />
        <TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="620" />
        <TIME_SLOT TIME_SLOT_ID="ts5" TIME_VALUE="621" />
        <TIME_SLOT TIME_SLOT_ID="ts6" TIME_VALUE="921" />
        <TIME_SLOT TIME_SLOT_ID="ts7" TIME_VALUE="1700" />
        <TIME_SLOT TIME_SLOT_ID="ts8" TIME_VALUE="2000" />
        <TIME_SLOT TIME_SLOT_ID="ts9" TIME_VALUE="2345" />
        <TIME_SLOT TIME_SLOT_ID="ts10" TIME_VALUE="2345" />
    </TIME_ORDER>
    <TIER LINGUISTIC_TYPE_REF="segments" TIER_ID="segments">
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts6">
                <ANNOTATION_VALUE>R"B &lt;i&gt;</ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts7" TIME_SLOT_REF2="ts10">
                <ANNOTATION_VALUE>so</ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
    </TIER>
    <TIER LINGUISTIC_TYPE_REF="words" PARENT_REF="segments" TIER_ID="words">
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a3" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
                <ANNOTATION_VALUE>R"B</ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a4" TIME_SLOT_REF1="ts4" TIME_SLOT_REF2="ts5">
                <ANNOTATION_VALUE>&lt;i&gt;</ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a5" TIME_SLOT_REF1="ts8" TIME_SLOT_REF2="ts9">
                <ANNOTATION_VALUE>so</ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
    </TIER>
{TYPES}"""
SILENCE = f"""\
{HEAD}\
        <PROPERTY NAME="lastUsedAnnotationId">0</PROPERTY>
    </HEADER>
    <TIME_ORDER />
    <TIER LINGUISTIC_TYPE_REF="segments" TIER_ID="segments" />
    <TIER LINGUISTIC_TYPE_REF="words" PARENT_REF="segments" TIER_ID="words" />
{TYPES}"""


def read_back(made: Transcript | Dialogue, path: Path) -> list[Tier]:
    write_transcript(made, path, "eaf")
    return read_tiers(path)


def said(tier: Tier) -> list[tuple[int, int, str]]:
    return [(round(start * 1000), round(end * 1000), text) for _, _, start, end, text in tier.intervals]


def test_whole_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("calls").mkdir()
    Path("calls/my & talk.WAV").touch()
    assert render(transcript(WORDS, 2.3456, "calls/my & talk.WAV"), "eaf") == GOLDEN


@pytest.mark.parametrize("source", ["standard input", "an-id.wav"])
def test_silence_in_a_recording_that_is_no_file(source: str) -> None:
    assert render(transcript([], 1.5, source), "eaf") == SILENCE


def test_sides_with_their_speakers(tmp_path: Path) -> None:
    left = replace(transcript(WORDS[:1], 1.0), channel=0)
    right = replace(transcript(WORDS[1:2], 1.0), channel=1, speaker='Ann "B" & <C>\n\ufffe')
    named = 'Ann "B" & <C> \ufffd'
    assert [
        (tier.name, tier.participant, tier.is_dependent)
        for tier in read_back(Dialogue((left, right)), tmp_path / "a.eaf")
    ] == [
        ("segments #0", "", False),
        ("words #0", "", True),
        (f"segments {named}#1", named, False),
        (f"words {named}#1", named, True),
    ]
    alone = read_back(replace(right, channel=None), tmp_path / "b.eaf")
    assert [tier.name for tier in alone] == [f"segments {named}", f"words {named}"]
    assert {tier.participant for tier in read_tiers(tmp_path / "b.eaf")} == {named}


def test_awkward_characters(tmp_path: Path) -> None:
    words = [Word(" \x00", 0.0, 0.1, 1.0), Word("a\x0bb\uffff", 0.2, 0.3, 1.0), Word("]]>&\udce9", 0.4, 0.5, 1.0)]
    segments, spoken = read_back(transcript(words, 1.0, "\x01\udce9.wav"), tmp_path / "a.eaf")
    assert [text for *_, text in said(spoken)] == ["a b\ufffd", r"]]>&\udce9"]
    assert [text for *_, text in said(segments)] == ["a b\ufffd ]]>&\\udce9"]


def test_the_audio_is_found_from_the_folder_of_the_document(tmp_path: Path) -> None:
    def media(path: Path, source: str) -> list[str]:
        write_transcript(transcript([], 1.0, source), path, "eaf")
        found = ElementTree.parse(path).find("HEADER/MEDIA_DESCRIPTOR")
        assert found is not None
        assert found.attrib["MEDIA_URL"] == f"file:{found.attrib['RELATIVE_MEDIA_URL']}"
        return [found.attrib[name] for name in ("RELATIVE_MEDIA_URL", "MIME_TYPE")]

    talk = tmp_path / "talks" / "one" / "a  b & c.flac"
    talk.parent.mkdir(parents=True)
    talk.touch()
    assert media(talk.with_suffix(".eaf"), str(talk)) == ["./a  b & c.flac", "audio/*"]
    assert media(talk.with_suffix(".eaf"), os.path.relpath(talk)) == ["./a  b & c.flac", "audio/*"]
    assert media(tmp_path / "drafts" / "a.eaf", str(talk)) == ["../talks/one/a  b & c.flac", "audio/*"]


def test_a_corrected_draft_is_training_data(tmp_path: Path) -> None:
    talk = audio(tmp_path / "talks" / "a.wav", 2.3456)
    write_transcript(transcript(WORDS, 2.3456, str(talk)), talk.with_suffix(".eaf"), "eaf")
    prepare("annotations", source=tmp_path / "talks", out=tmp_path / "out", dev_share=0)
    found = read_manifest(tmp_path / "out" / "train.jsonl")
    assert [(item.text, item.speaker, item.offset) for item in found] == [('R"B <i>', None, 0.2), ("so", None, 1.7)]


@given(transcripts())
def test_words_lie_in_their_segments(made: Transcript) -> None:
    """In ELAN that is decided by the order of time slots, of which each annotation has its own."""
    root = ElementTree.fromstring(render(made, "eaf"))
    slots = {slot.attrib["TIME_SLOT_ID"]: place for place, slot in enumerate(root.iterfind("TIME_ORDER/*"))}
    times = [int(slot.attrib["TIME_VALUE"]) for slot in root.iterfind("TIME_ORDER/*")]
    assert times == sorted(times)
    assert not times or 0 <= times[0] <= times[-1] <= made.duration_s * 1000 + 0.001
    spans = []
    for tier in root.iterfind("TIER"):
        found = list(tier.iterfind("ANNOTATION/*"))
        keys = ("TIME_SLOT_REF1", "TIME_SLOT_REF2")
        spans.append([tuple(slots.pop(annotation.attrib[key]) for key in keys) for annotation in found])
        assert all(times[first] < times[last] for first, last in spans[-1])
        assert all(before[1] < after[0] for before, after in pairwise(spans[-1]))
    assert not slots
    segments, words = spans
    for first, last in words:
        assert sum(start < first and last < end for start, end in segments) == 1
