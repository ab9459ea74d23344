"""Recordings with subtitles: what is read of a cue, whose it is, and errors that name its line."""

import html
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from asr.corpora import prepare
from asr.corpora.cues import read_cues
from asr.decode import Word
from asr.errors import CorpusError
from asr.manifest import Utterance, read_manifest
from asr.writers import render
from fake_corpora import audio, texts, write
from recognised import transcript

TIMES = "00:00:00,500 --> 00:00:01,000"


def prepared(source: Path, **options: bool) -> list[Utterance]:
    """The utterances of a folder, none held out."""
    prepare("subtitles", source=source, out=source.parent / "out", dev_share=0, **options)
    return read_manifest(source.parent / "out" / "train.jsonl")


def cue_texts(path: Path, *lines: str) -> list[str]:
    return [cue.text for cue in read_cues(write(path, *lines))]


# --- cues -------------------------------------------------------------------------------------------------------------


def test_subrip(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    content = "\ufeff\n1\n00:00:01,000 --> 00:00:02,500 X1:40 X2:600\n- <i>One</i>\nand {\\an8}<b>two</b>\n \n\n"
    content += "01:02.500-->1:00:03.000\n3 < 4 <font color='red'>&amp; 5 > 2</font>\n\n7\n02:00:00,000 --> 02:00:00,001"
    path.write_bytes(content.replace("\n", "\r\n").encode())
    assert [tuple(cue) for cue in read_cues(path)] == [
        (3, 1.0, 2.5, ("- One", "and two"), ()),
        (8, 62.5, 3603.0, ("3 < 4 &amp; 5 > 2",), ()),
        (12, 7200.0, 7200.001, (), ()),
    ]


def test_webvtt(tmp_path: Path) -> None:
    lines = ["WEBVTT - talk", "Kind: captions", "", "NOTE", "said by nobody", "", "STYLE", "::cue { color: red }", ""]
    lines += ["REGION", "id:left", "", "the first", "00:01.000 --> 00:02.000 region:left align:start position:0%"]
    lines += ["<v.loud Ann  &amp; Bo>Fish &amp; <c.red>chips</c>", "<00:01.500>&lt;now&gt;</v>", ""]
    lines += ["NOTE", "00:03.000 --> 00:04.000", "<v Cleo>a</v> <v Dan>b</v>", "", "00:05.000 --> 00:06.000", "<v >c"]
    assert [tuple(cue) for cue in read_cues(write(tmp_path / "a.VTT", *lines))] == [
        (14, 1.0, 2.0, ("Fish & chips", "<now>"), ("Ann & Bo",)),
        (19, 3.0, 4.0, ("a b",), ("Cleo", "Dan")),
        (22, 5.0, 6.0, ("c",), ()),
    ]
    assert cue_texts(tmp_path / "b.vtt", "WEBVTT") == cue_texts(tmp_path / "b.srt") == []


def test_only_markup_is_taken_out(tmp_path: Path) -> None:
    tags = (
        "<I><b.x>a</B></i> <c.red.big>b</c> <FONT size=1>c</font> <lang en>d</lang> <ruby>e<rt>f</rt></ruby> <u>g</u>"
    )
    kept = "<unclear> <bob@example.com> <br> <verse> <in> </other>"
    assert cue_texts(tmp_path / "a.srt", TIMES, f"{tags} <00:00:01.000>{kept}") == [f"a b c d ef g {kept}"]
    assert cue_texts(tmp_path / "a.vtt", "WEBVTT", "", TIMES, f"<v.loud Ann>{kept}</v>") == [kept]


@pytest.mark.parametrize("space", [" ", "\t", " \r"])
def test_a_line_of_spaces_inside_a_cue(tmp_path: Path, space: str) -> None:
    cue = [TIMES, space, "one<00:00:00.700><c> two</c>", space, "three", space]
    assert cue_texts(tmp_path / "a.vtt", "WEBVTT", "", *cue, "", space, "name", *cue) == ["one two three"] * 2
    assert cue_texts(tmp_path / "a.srt", "1", *cue, "2", *cue, *cue, "", space, *cue) == ["one two three"] * 4
    assert cue_texts(tmp_path / "b.srt", "1", TIMES, space, space, "2", TIMES, space, "no") == ["", "no"]
    with pytest.raises(CorpusError, match=r"a\.vtt:8: wanted a blank line before a cue"):
        cue_texts(tmp_path / "a.vtt", "WEBVTT", "", *cue[:-1], *cue)


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("a.srt", ["1", TIMES, "yes", "", "no"], ":5: wanted times such as .*, found 'no'$"),
        ("a.srt", ["1", TIMES, "yes", "", "so", TIMES, "no"], ":5: wanted times such as .*, found 'so'$"),
        ("a.srt", ["1", "00:00:01,000 -> 00:00:02,000", "yes"], ":2: wanted times such as"),
        ("a.srt", ["00:00:60,000 --> 00:01:02,000", "yes"], ":1: wanted times such as"),
        ("a.srt", ["00:00:01,00 --> 00:01:02,000", "yes"], ":1: wanted times such as"),
        ("a.srt", [TIMES + " yes"], ":1: wanted times such as .*, found .* yes'$"),
        ("a.srt", ["", "00:00:01,000 --> 00:00:01,000", "yes"], ":2: wanted an end after the start, found '00:00:01"),
        ("a.srt", [TIMES, "yes", "2", TIMES, "no"], ":4: wanted a blank line before a cue, found '00:00:00,500"),
        ("a.vtt", [TIMES, "yes"], ":1: wanted WEBVTT on the first line, found '00:00:00,500"),
        ("a.vtt", [], ":1: wanted WEBVTT on the first line, found ''"),
        ("a.vtt", ["WEBVTT", TIMES, "yes"], ":2: wanted a blank line before a cue"),
        ("a.vtt", ["WEBVTT", "", "NOTE", "a --> b"], ":4: wanted times such as"),
        ("a.vtt", ["WEBVTT", "", "STYLES", "yes"], ":4: wanted times such as .*, found 'yes'"),
    ],
)
def test_what_is_malformed_is_named(tmp_path: Path, name: str, lines: list[str], message: str) -> None:
    path = write(tmp_path / name, *lines)
    with pytest.raises(CorpusError, match=rf"{path}{message}"):
        read_cues(path)


LINES = st.lists(
    st.sampled_from(["a", "1", "é小", "♪", "R&B;", "&amp;", "3 < 4 > 2", "-", "WEBVTT", "NOTE"]), max_size=4
)
CUES = st.lists(st.tuples(st.integers(0, 5_000_000), st.integers(1, 9_000), LINES), max_size=5)


def clock(ms: int, point: str) -> str:
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"


@given(CUES)
def test_cues_read_back_from_both_formats(
    tmp_path_factory: pytest.TempPathFactory, cues: list[tuple[int, int, list[str]]]
) -> None:
    folder = tmp_path_factory.mktemp("cues")
    for name, header, point, escape in (("a.srt", [], ",", str), ("a.vtt", ["WEBVTT", ""], ".", html.escape)):
        lines = list(header)
        for start, length, spoken in cues:
            lines += [f"{clock(start, point)} --> {clock(start + length, point)}", *map(escape, spoken), ""]
        found = read_cues(write(folder / name, *lines))
        assert [(cue.start_s, cue.end_s, cue.text) for cue in found] == [
            (start / 1000, (start + length) / 1000, " ".join(spoken)) for start, length, spoken in cues
        ]


def test_what_transcribe_writes_is_read_back(tmp_path: Path) -> None:
    words = [Word("R&B", 0.0, 0.4, 1.0), Word("<i>", 0.5, 0.6, 1.0), Word("so", 3.0, 3.2, 1.0)]
    for format, spoken in (("srt", "R&B"), ("vtt", "R&B <i>")):
        path = tmp_path / f"a.{format}"
        path.write_text(render(transcript(words, 4.0), format))
        assert [cue.text for cue in read_cues(path)] == [spoken, "so"]
        path.write_text(render(transcript([], 4.0), format))
        assert read_cues(path) == []


# --- recordings -------------------------------------------------------------------------------------------------------


def test_every_cue_becomes_an_utterance(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    talk, other = audio(source / "\u00e9.wav", 3.0), audio(source / "more" / "talk.flac", 1.0)
    write(source / "e\u0301.srt", TIMES, "yes", "", "00:00:01,200 --> 00:00:03,400", "no")
    write(other.with_suffix(".vtt"), "WEBVTT", "", TIMES, "<v Zoe\u0301>stop <v Zo\u00e9>it")
    (source / "._\u00e9.srt").write_bytes(b"\0\5\x16\7")  # macOS
    first, second, third = sorted(prepared(source), key=lambda utterance: utterance.text)
    assert (first.id, first.offset, first.duration, first.text) == ("\u00e9-0002", 1.2, 1.8, "no")
    assert (second.id, second.audio_filepath.resolve(), second.speaker) == ("more/talk-0001", other, "Zo\u00e9")
    assert (third.id, third.offset, third.duration, third.channel) == ("\u00e9-0001", 0.5, 0.5, None)
    assert (third.text, third.speaker, third.audio_filepath.resolve()) == ("yes", None, talk)


def test_what_is_left_out_or_unusual_is_noted(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    audio(source / "a.wav", 2.0)
    audio(source / "b.wav", 2.0)
    write(source / "b.srt")
    cues = [
        (1.0, 1.5, "♪ ♪"),
        (0.4, 0.6, "two"),
        (0.0, 0.9, "one"),
        (1.0, 1.1, "<i></i>"),
        (1.1, 2.5, "(laughs) four"),
        (0.7, 0.8, "<unclear> three"),
        (2.0, 9.0, "♪"),  # not even the audio is there
    ]
    lines = [(f"00:00:0{start:.3f} --> 00:00:0{end:.3f}", text, "") for start, end, text in cues]
    write(source / "a.srt", *(line for cue in lines for line in cue))
    summary = prepare("subtitles", source=source, out=tmp_path / "out", dev_share=0)
    found = texts(tmp_path / "out" / "train.jsonl")
    assert found == {"a-0002": "two", "a-0003": "one", "a-0005": "(laughs) four", "a-0006": "<unclear> three"}
    assert set(summary.notes) == {
        "cues without words left out: 3 (a-0001, a-0004, a-0007)",
        "cues that overlap an earlier one: 2 (a-0002, a-0006)",
        "cues cut to the end of the audio: 1 (a-0005)",
        "cues with brackets, whose content is taken for words: 2 (a-0006, a-0005)",
        f"subtitle files without a cue: 1 ({source / 'b.srt'})",
    }


def test_long_cues_and_those_of_several_speakers_are_noted(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    audio(source / "a.wav", 60.25)
    cues = [("00:00.000 --> 00:30.000", "<v Ann>yes"), ("00:30.000 --> 01:00.250", "<v Ann>yes <v Bo>no <v Ann>so")]
    write(source / "a.vtt", "WEBVTT", "", *(line for times, text in cues for line in (times, text, "")))
    summary = prepare("subtitles", source=source, out=tmp_path / "out", dev_share=0)
    assert summary.notes == (
        "cues of several speakers, whose words are joined: 1 (a-0002)",
        "cues longer than the 30 s of train.max_utterance_s: 1 (a-0002)",
    )


def test_rolling_captions_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    audio(source / "a.wav", 2.0)
    rows = [["hello"], ["hello"], ["hello", "so <i>you</i>"], ["so you"], ["so you", "said"], ["you", "so you", "said"]]
    said_again = [["no"], ["no"], ["no"], ["no", "never"], ["never no"]]  # a caption or two may say a line again
    for cues in (rows, rows[:4], [["a", "b"], ["a", "b", "c"]], [["a", "b", "c"], ["b", "c", "d"]]):
        write(source / "a.srt", *(line for cue in cues for line in (TIMES, *cue, "")))
        with pytest.raises(
            CorpusError, match=r"a\.srt: rolling captions: [12] of . cues repeat lines of the ones before"
        ):
            prepared(source)
    write(source / "a.srt", *(line for cue in said_again for line in (TIMES, *cue, "")))
    summary = prepare("subtitles", source=source, out=tmp_path / "out", dev_share=0)
    assert "cues that repeat lines of the ones before: 1 (a-0004)" in summary.notes


def test_cues_that_begin_with_a_name_are_noted(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    audio(source / "a.wav", 2.0)
    named = ["Ann: yes", "JOHN SMITH: no", "- Bo: so", "Speaker 1: it", ">> Zo\u00e9 \u00c9luard:\nyou"]
    unnamed = ["Psalm 23:1", "the end: yes", "All three of: no", "Then said: no", "12: it", ": so", "Ann"]
    write(source / "a.srt", *(line for text in named + unnamed for line in (TIMES, text, "")))
    notes = prepare("subtitles", source=source, out=tmp_path / "out", dev_share=0).notes
    listed = "a-0001, a-0002, a-0003 and 2 more"
    assert f"cues that begin with a name and a colon, taken for words unless speakers=colon: 5 ({listed})" in notes


def test_a_name_and_a_colon_may_be_the_speaker(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    audio(source / "a.wav", 2.0)
    cues = ["Ann  Lee: Hello: Bo", ">> Zoe\u0301:\nyou", "Then said: no", "<v Cleo>so", "<v Cleo>Dan: it"]
    cues.append("Ann Lee: \u266a")
    write(source / "a.vtt", "WEBVTT", "", *(line for text in cues for line in (TIMES, text, "")))
    summary = prepare("subtitles", source=source, out=tmp_path / "out", dev_share=0, speakers="colon")
    found = [(utterance.speaker, utterance.text) for utterance in read_manifest(tmp_path / "out" / "train.jsonl")]
    assert found == [
        ("Ann Lee", "Hello: Bo"),
        ("Zo\u00e9", "you"),
        (None, "Then said: no"),
        ("Cleo", "so"),
        ("Dan", "it"),
    ]
    assert "cues of an unknown speaker, without a name and a colon: 1 (a-0003)" in summary.notes
    assert "cues without words left out: 1 (a-0006)" in summary.notes
    assert not any("taken for words" in note for note in summary.notes)
    with pytest.raises(CorpusError, match=r"^speakers must be colon, or not given, found 'yes'$"):
        prepare("subtitles", source=source, out=tmp_path / "out", speakers="yes")


@pytest.mark.parametrize("times", ["00:00:01,000 --> 00:00:02,501", "00:00:02,000 --> 00:00:02,100"])
def test_a_cue_beyond_the_audio(tmp_path: Path, times: str) -> None:
    audio(tmp_path / "talks" / "a.wav", 2.0)
    write(tmp_path / "talks" / "a.srt", "1", times, "yes")
    with pytest.raises(CorpusError, match=r"a\.srt:2: .* s is not inside .*a\.wav, which is 2\.000 s long$"):
        prepared(tmp_path / "talks")


def test_files_without_a_partner(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    audio(source / "a.wav", 2.0)
    write(source / "a.srt", TIMES, "yes")
    audio(source / "b.wav")
    write(source / "c.vtt", "WEBVTT")
    missing = re.escape(
        f"audio files without subtitles: 1 ({source / 'b.wav'}); subtitle files without audio: 1 ({source / 'c.vtt'})"
    )
    with pytest.raises(CorpusError, match=rf"{missing} \(a partial corpus: --allow-partial\)$"):
        prepared(source)
    assert [utterance.id for utterance in prepared(source, allow_partial=True)] == ["a-0001"]
    (source / "a.srt").unlink()
    with pytest.raises(CorpusError, match=r"talks/c\.vtt: found no audio file of this name beside it$"):
        prepared(source)
    (source / "c.vtt").unlink()
    with pytest.raises(CorpusError, match=r"talks: found no audio file with NAME\.srt or NAME\.vtt beside it$"):
        prepared(source)


@pytest.mark.parametrize(
    ("subtitles", "film"), [("my talk.srt", "my talk.mp4"), ("a.en.vtt", "a.webm"), ("a#1.srt", "a.MOV")]
)
def test_a_film_is_no_audio(tmp_path: Path, subtitles: str, film: str) -> None:
    write(tmp_path / film)
    write(tmp_path / "_.srt")
    write(tmp_path / subtitles)
    command = shlex.join(["ffmpeg", "-i", str(tmp_path / film), str((tmp_path / film).with_suffix(".wav"))])
    message = f"{tmp_path / subtitles}: {film} is not audio that asr reads: {command}"
    with pytest.raises(CorpusError, match=rf"^{re.escape(message)}$"):
        prepared(tmp_path)


def test_long_lists_are_cut(tmp_path: Path) -> None:
    audio(tmp_path / "talks" / "a.wav", 2.0)
    for count, listed in ((3, "a-0001, a-0002, a-0003"), (5, "a-0001, a-0002, a-0003 and 2 more")):
        write(tmp_path / "talks" / "a.srt", *(TIMES, "[so]", "") * count)
        notes = prepare("subtitles", source=tmp_path / "talks", out=tmp_path / "out", dev_share=0).notes
        assert f"cues with brackets, whose content is taken for words: {count} ({listed})" in notes


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.mp3"], r"a\.mp3 and .*a\.wav would share their subtitles"),
        (["a.vtt"], r"a\.srt and .*a\.vtt are both subtitles of .*a\.wav"),
        (["a.en.srt"], r"a\.en\.srt and .*a\.srt are both subtitles"),
        (["a.transcript.srt"], r"a\.srt and .*a\.transcript\.srt are both subtitles"),
        (["a#0.srt"], r"a\.srt and .*a#0\.srt are both subtitles"),
    ],
)
def test_two_files_that_claim_the_same(tmp_path: Path, names: list[str], message: str) -> None:
    source = tmp_path / "talks"
    audio(source / "a.wav", 2.0)
    for name in ("a.srt", *names):
        write(source / name, TIMES, "yes")
    with pytest.raises(CorpusError, match=message):
        prepared(source)


def test_channels_and_languages(tmp_path: Path) -> None:
    source = tmp_path / "calls"
    for name in ("call.v2", "b.en", "b"):
        audio(source / f"{name}.wav", 2.0)
    for name, text in (("call.v2#0", "left"), ("call.v2#1.pt-BR", "right"), ("b.en", "own"), ("b.de", "other")):
        write(source / f"{name}.srt", TIMES, text)
    with pytest.raises(CorpusError, match=r"call\.v2#1\.pt-BR\.srt: .*call\.v2\.wav: .*channel"):
        prepared(source)
    soundfile.write(source / "call.v2.wav", np.zeros((16000, 2), dtype=np.int16), 8000)
    found = {utterance.id: (utterance.text, utterance.channel) for utterance in prepared(source)}
    assert found == {
        "call.v2#0-0001": ("left", 0),
        "call.v2#1-0001": ("right", 1),
        "b.en-0001": ("own", None),
        "b-0001": ("other", None),
    }


@pytest.mark.parametrize("kind", ["transcript", "cc"])
def test_names_that_zoom_gives(tmp_path: Path, kind: str) -> None:
    audio(tmp_path / "talks" / "GMT2026_Recording.wav", 2.0)
    write(tmp_path / "talks" / f"GMT2026_Recording.{kind}.vtt", "WEBVTT", "", TIMES, "yes")
    assert [utterance.id for utterance in prepared(tmp_path / "talks")] == ["GMT2026_Recording-0001"]


def test_the_cues_of_a_recording_stay_together(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    for name in "abcd":
        audio(source / f"{name}.wav", 2.0)
        write(source / f"{name}.srt", TIMES, "yes", "", TIMES, "no")
    summary = prepare("subtitles", source=source, out=tmp_path / "out", test_share=0.1)
    recordings = [
        {utterance.audio_filepath for utterance in read_manifest(tmp_path / "out" / f"{split}.jsonl")}
        for split in ("train", "dev", "test")
    ]
    assert [len(found) for found in recordings] == [2, 1, 1]
    assert len(set.union(*recordings)) == 4
    assert "dev is 1 of 3 training recordings (share 0.1, seed 0)" in summary.notes[-1]
