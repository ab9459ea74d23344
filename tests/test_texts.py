"""Recordings with texts beside them: whole ones, and those that Audacity's label tracks divide."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpora import prepare
from asr.errors import CorpusError
from asr.manifest import Utterance, read_manifest
from fake_corpora import audio, write


def prepared(source: Path, **options: str) -> list[Utterance]:
    """The utterances of a folder, none held out."""
    prepare("texts", source=source, out=source.parent / "out", dev_share=0, **options)
    return read_manifest(source.parent / "out" / "train.jsonl")


def test_a_text_is_of_the_whole_recording(tmp_path: Path) -> None:
    source = tmp_path / "corpus"
    for name in ("Ann/one", "Ann/two", "Bo/one"):
        audio(source / f"{name}.flac", 1.0)
    write(source / "Ann/one.txt", "Hello, ", "", " world!")
    write(source / "Ann/two.TXT", "\ufeff 12 o'clock")
    write(source / "Bo/one.txt", "Yes")
    found = {utterance.id: utterance for utterance in prepared(source)}
    assert {name: (one.text, one.duration, one.speaker) for name, one in found.items()} == {
        "Ann/one": ("Hello, world!", 1.0, None),
        "Ann/two": ("12 o'clock", 1.0, None),
        "Bo/one": ("Yes", 1.0, None),
    }
    assert {one.id: one.speaker for one in prepared(source, speakers="folder")} == {
        "Ann/one": "Ann",
        "Ann/two": "Ann",
        "Bo/one": "Bo",
    }
    with pytest.raises(CorpusError, match="speakers must be folder, or not given, found 'tier'"):
        prepared(source, speakers="tier")


def test_the_folder_itself_may_be_the_speaker(tmp_path: Path) -> None:
    audio(tmp_path / "Ann" / "one.wav", 1.0)
    write(tmp_path / "Ann" / "one.txt", "yes")
    assert [one.speaker for one in prepared(tmp_path / "Ann", speakers="folder")] == ["Ann"]


def test_label_tracks(tmp_path: Path) -> None:
    source = tmp_path / "corpus"
    audio(source / "talk.wav", 3.0)
    write(
        source / "talk.txt",
        "0.250000\t1.000000\tone two",
        "\\\t100.000000\t4000.000000",
        "1,5\t2,25\tthree",
        "2.300000\t2.300000\ta moment",
        "2.400000\t2.500000",
        "2.500000\t3.100000\tfour",
    )
    found = [(one.id, one.offset, one.duration, one.text) for one in prepared(source)]
    assert found == [
        ("talk-0001", 0.25, 0.75, "one two"),
        ("talk-0002", 1.5, 0.75, "three"),
        ("talk-0005", 2.5, 0.5, "four"),
    ]
    summary = prepare("texts", source=source, out=tmp_path / "again", dev_share=0)
    assert "labels that mark a moment, left out: 1 (talk-0003)" in summary.notes
    assert "labels without words left out: 1 (talk-0004)" in summary.notes
    assert "labels cut to the end of the audio: 1 (talk-0005)" in summary.notes


def test_channels_of_a_call(tmp_path: Path) -> None:
    source = tmp_path / "corpus"
    source.mkdir()
    soundfile.write(source / "call.wav", np.zeros((8000, 2)), 8000)
    write(source / "call#0.txt", "hello")
    write(source / "call#1.txt", "0.0\t0.5\tyes")
    found = {one.id: (one.channel, one.text) for one in prepared(source)}
    assert found == {"call#0": (0, "hello"), "call#1-0001": (1, "yes")}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], r"a\.txt: the transcript is empty"),
        (
            ["0.1\t0.2\tyes", "no"],
            r"a\.txt:2: wanted start, end and text of a label with TABs between them, found 'no'",
        ),
        (["0.5\t0.2\tyes"], r"a\.txt:1: the label ends at 0\.2 s, before its start at 0\.5 s"),
        (["0.5\t9\tyes"], r"a\.txt:1: 0\.500 to 9\.000 s is not inside .*a\.wav, which is 1\.000 s long"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, lines: list[str], message: str) -> None:
    source = tmp_path / "corpus"
    audio(source / "a.wav", 1.0)
    write(source / "a.txt", *lines)
    with pytest.raises(CorpusError, match=message):
        prepared(source)


def test_what_has_no_partner_is_told(tmp_path: Path) -> None:
    source = tmp_path / "corpus"
    for name in ("a", "b"):
        audio(source / f"{name}.wav", 31.0 if name == "a" else 1.0)
    write(source / "a.txt", "yes")
    write(source / "README.txt", "about these")
    with pytest.raises(CorpusError, match=r"audio files without texts: 1 \(.*b\.wav\); text files without audio: 1 \("):
        prepared(source)
    summary = prepare("texts", source=source, out=tmp_path / "out", dev_share=0, allow_partial=True)
    long = "recordings longer than the 30 s of train.max_utterance_s; asr align cuts them: 1 (a)"
    assert long in summary.notes
