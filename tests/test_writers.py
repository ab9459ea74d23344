"""Each format as a whole picture, and read back by parsers that know nothing of the writer."""

import html
import json
import os
import re
from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from asr.decode import Word
from asr.errors import ConfigError
from asr.transcript import LINE_CHARACTERS, Transcript
from asr.writers import (
    FORMATS,
    MIN_CUE_MS,
    SUFFIXES,
    Format,
    destination,
    destinations,
    exists_already,
    render,
    write_transcript,
)
from recognised import Recognised, recognised, transcript, transcripts

WORDS = [
    Word("she", 0.32, 0.56, 0.98),
    Word('said"', 0.6, 0.92, 0.5),
    Word("R&B", 0.92, 0.92, 0.75),  # lasts no time
    Word("-->", 1.7, 1.9, 0.25),
    Word("<b>", 2.0, 2.3456, 1.0),
]
GOLDEN: dict[Format, str] = {
    "txt": """\
she said" R&B --> <b>
""",
    "srt": """\
1
00:00:00,320 --> 00:00:01,153
she said" R&B

2
00:00:01,700 --> 00:00:02,346
-> <b>
""",
    "vtt": """\
WEBVTT

00:00:00.320 --> 00:00:01.153
she said" R&amp;B

00:00:01.700 --> 00:00:02.346
--&gt; &lt;b&gt;
""",
    "ctm": """\
my_talk 1 0.320 0.240 she 0.9800
my_talk 1 0.600 0.320 said" 0.5000
my_talk 1 0.920 0.000 R&B 0.7500
my_talk 1 1.700 0.200 --> 0.2500
my_talk 1 2.000 0.346 <b> 1.0000
""",
    "tsv": """\
start\tend\ttext
320\t920\tshe said" R&B
1700\t2346\t--> <b>
""",
    "textgrid": """\
File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2.3456
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 2.3456
        intervals: size = 9
        intervals [1]:
            xmin = 0
            xmax = 0.32
            text = ""
        intervals [2]:
            xmin = 0.32
            xmax = 0.56
            text = "she"
        intervals [3]:
            xmin = 0.56
            xmax = 0.6
            text = ""
        intervals [4]:
            xmin = 0.6
            xmax = 0.92
            text = "said\"""
        intervals [5]:
            xmin = 0.92
            xmax = 0.921
            text = "R&B"
        intervals [6]:
            xmin = 0.921
            xmax = 1.7
            text = ""
        intervals [7]:
            xmin = 1.7
            xmax = 1.9
            text = "-->"
        intervals [8]:
            xmin = 1.9
            xmax = 2
            text = ""
        intervals [9]:
            xmin = 2
            xmax = 2.3456
            text = "<b>"
    item [2]:
        class = "IntervalTier"
        name = "segments"
        xmin = 0
        xmax = 2.3456
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 0.32
            text = ""
        intervals [2]:
            xmin = 0.32
            xmax = 0.921
            text = "she said\"" R&B"
        intervals [3]:
            xmin = 0.921
            xmax = 1.7
            text = ""
        intervals [4]:
            xmin = 1.7
            xmax = 2.3456
            text = "--> <b>"
""",
}
EMPTY: dict[Format, str] = {
    "txt": "\n",
    "srt": "",
    "vtt": "WEBVTT\n",
    "ctm": "",
    "tsv": "start\tend\ttext\n",
    "textgrid": """\
File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.5
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1.5
            text = ""
    item [2]:
        class = "IntervalTier"
        name = "segments"
        xmin = 0
        xmax = 1.5
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1.5
            text = ""
""",
}


# --- whole pictures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", GOLDEN)
def test_whole_picture(format: Format) -> None:
    assert render(transcript(WORDS, 2.3456, "calls/my talk.wav"), format) == GOLDEN[format]


@pytest.mark.parametrize("format", EMPTY)
def test_silence(format: Format) -> None:
    assert render(transcript([], 1.5), format) == EMPTY[format]


def test_json_whole_picture() -> None:
    second = Recognised("she sad", (), score=-7.0, acoustic_score=-7.5, lm_score=0.5, confidence=0.25)
    made = Transcript.of([recognised(WORDS[:2]), second], 2.34567, "שיחה/my talk.wav", language="en")
    line = render(made, "json")
    assert line.count("\n") == 1
    assert "שיחה" in line
    assert json.loads(line) == {
        "audio_filepath": "שיחה/my talk.wav",
        "duration": 2.346,
        "language": "en",
        "text": 'she said"',
        "confidence": 0.875,
        "segments": [
            {
                "id": 0,
                "start": 0.32,
                "end": 0.92,
                "text": 'she said"',
                "confidence": 0.7,
                "words": [
                    {"word": "she", "start": 0.32, "end": 0.56, "probability": 0.98},
                    {"word": 'said"', "start": 0.6, "end": 0.92, "probability": 0.5},
                ],
            }
        ],
        "alternatives": [
            {"text": 'she said"', "confidence": 0.875, "score": -3.25, "acoustic_score": -4.5, "lm_score": 1.25},
            {"text": "she sad", "confidence": 0.25, "score": -7.0, "acoustic_score": -7.5, "lm_score": 0.5},
        ],
    }


def test_a_long_subtitle_has_two_balanced_lines() -> None:
    spoken = "it was the best of times it was the worst of times".split()
    words = [Word(text, 0.3 * number, 0.3 * number + 0.25, 1.0) for number, text in enumerate(spoken)]
    assert render(transcript(words, 5.0), "srt") == (
        "1\n00:00:00,000 --> 00:00:03,550\nit was the best of times\nit was the worst of times\n"
    )


def test_a_short_subtitle_stands_until_it_can_be_read_but_never_under_the_next() -> None:
    words = [Word("no", 0.0, 0.04, 1.0), Word("no", 0.7, 0.74, 1.0), Word("no", 2.0, 2.04, 1.0)]
    cues = cues_of(render(transcript(words, 2.5), "srt"), ",")
    assert [(start, end) for start, end, _ in cues] == [(0, 700), (700, 1533), (2000, 2500)]


def test_no_arrow_is_left_over_in_srt() -> None:
    made = transcript([Word("a---->b", 0.0, 1.0, 1.0)], 1.0)
    assert render(made, "srt") == "1\n00:00:00,000 --> 00:00:01,000\na->b\n"


def test_more_than_99_hours() -> None:
    made = transcript([Word("late", 363_599.9994, 363_600.5, 1.0)], 363_601.0)  # 101 hours
    assert render(made, "srt").startswith("1\n100:59:59,999 --> 101:00:00,832\n")
    assert "\n100:59:59.999 --> 101:00:00.832\n" in render(made, "vtt")
    assert "xmin = 363599.9994\n" in render(made, "textgrid")
    assert render(made, "ctm") == "talk 1 363599.999 0.501 late 1.0000\n"


@pytest.mark.parametrize(
    ("source", "name"),
    [("a b/my  long talk.v2.wav", "my_long_talk.v2"), (";;x.wav", "_;x"), ("tab\tline\n.wav", "tab_line_"), ("/", "_")],
)
def test_ctm_names_hold_no_space_and_begin_no_comment(source: str, name: str) -> None:
    assert render(transcript(WORDS[:1], 1.0, source), "ctm") == f"{name} 1 0.320 0.240 she 0.9800\n"


def test_a_path_that_is_not_utf8_is_written_escaped_and_json_gives_it_back() -> None:
    source = os.fsdecode(b"caf\xe9.wav")
    made = transcript(WORDS[:1], 1.0, source)
    for format in FORMATS:
        assert render(made, format).encode("utf-8")
    assert render(made, "ctm").startswith("caf\\udce9 1 ")
    assert json.loads(render(made, "json"))["audio_filepath"] == source


def test_an_unknown_format_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"^wanted a format among txt, json, .*, textgrid, found 'doc'$"):
        render(transcript([], 1.0), "doc")  # type: ignore[arg-type]


# --- read back --------------------------------------------------------------------------------------------------------


def cleaned(texts: Iterable[str]) -> list[str]:
    """Each text on one line; those that are nothing but white space fall out."""
    visible = ("".join(" " if ord(c) < 32 or 127 <= ord(c) < 160 else c for c in text) for text in texts)
    return [" ".join(text.split()) for text in visible if text.split()]


def clock(text: str, point: str) -> int:
    hours, minutes, seconds, ms = re.fullmatch(
        rf"(\d\d+):([0-5]\d):([0-5]\d){re.escape(point)}(\d{{3}})", text
    ).groups()
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(ms)


def cues_of(text: str, point: str) -> list[tuple[int, int, list[str]]]:
    """Start, end and lines of each block; SubRip's numbers are checked here."""
    found = []
    for number, block in enumerate(filter(None, text.removeprefix("WEBVTT\n").strip("\n").split("\n\n")), 1):
        lines = block.split("\n")
        if point == ",":
            assert lines.pop(0) == str(number)
        start, end = lines[0].split(" --> ")
        found.append((clock(start, point), clock(end, point), lines[1:]))
    return found


def check_cues(cues: list[tuple[int, int, list[str]]], made: Transcript) -> None:
    for start, end, lines in cues:
        assert 0 <= start < end <= round(made.duration_s * 1000)
        assert 1 <= len(lines) <= 2
        assert all(len(line) <= LINE_CHARACTERS for line in lines) or len(lines) == 1
    for (start, end, _), (following, _, _) in pairwise(cues):
        assert end <= following
        assert end >= min(start + MIN_CUE_MS, following)


def check_srt(made: Transcript) -> None:
    text = render(made, "srt")
    cues = cues_of(text, ",")
    check_cues(cues, made)
    wanted = cleaned(segment.text for segment in made.segments)
    assert [" ".join(lines) for _, _, lines in cues] == [re.sub("-{2,}>", "->", text) for text in wanted]
    assert text.count("-->") == len(cues)


def check_vtt(made: Transcript) -> None:
    text = render(made, "vtt")
    assert text.startswith("WEBVTT\n")
    cues = cues_of(text, ".")
    for _, _, lines in cues:
        assert not set("<>") & set("".join(lines))
    cues = [(start, end, [html.unescape(line) for line in lines]) for start, end, lines in cues]
    check_cues(cues, made)
    assert [" ".join(lines) for _, _, lines in cues] == cleaned(segment.text for segment in made.segments)
    assert text.count("-->") == len(cues)


def check_ctm(made: Transcript) -> None:
    rows = [line.split(" ") for line in render(made, "ctm").split("\n")[:-1]]
    assert all(len(row) == 6 and row[:2] == ["talk", "1"] for row in rows)
    assert [row[4].replace("_", " ") for row in rows] == cleaned(word.text for word in made.words)
    spans = [(Decimal(row[2]), Decimal(row[2]) + Decimal(row[3])) for row in rows]
    check_in_order(spans, Decimal(round(made.duration_s * 1000)) / 1000)


def check_tsv(made: Transcript) -> None:
    header, *rows = [line.split("\t") for line in render(made, "tsv").split("\n")[:-1]]
    assert header == ["start", "end", "text"]
    assert [row[2] for row in rows if row[2]] == cleaned(segment.text for segment in made.segments)
    assert all(len(row) == 3 for row in rows)
    check_in_order([(int(row[0]), int(row[1])) for row in rows], round(made.duration_s * 1000))


def check_txt_and_json(made: Transcript) -> None:
    assert render(made, "txt") == f"{''.join(cleaned([made.text]))}\n"
    line = render(made, "json")
    assert line.index("\n") == len(line) - 1
    facts = json.loads(line)
    words = [word for segment in facts["segments"] for word in segment["words"]]
    assert [word["word"] for word in words] == [word.text for word in made.words]
    check_in_order([(word["start"], word["end"]) for word in words], facts["duration"])
    check_in_order([(segment["start"], segment["end"]) for segment in facts["segments"]], facts["duration"])


def check_in_order(spans: list[tuple[Any, Any]], end: Any) -> None:
    times = [0, *(time for span in spans for time in span), end]
    assert times == sorted(times)


def textgrid_of(text: str) -> tuple[Decimal, dict[str, list[tuple[Decimal, Decimal, str]]]]:
    """End and tiers, read as Praat does: the free-standing numbers and strings of the file, in their order."""
    tokens = re.findall(r'"(?:[^"]|"")*"|(?<= )\d+(?:\.\d+)?(?=\n)', text)
    assert tokens[:2] == ['"ooTextFile"', '"TextGrid"']
    numbers = iter(tokens[2:])
    assert next(numbers) == "0"
    end, tiers = Decimal(next(numbers)), {}
    for _ in range(int(next(numbers))):
        assert next(numbers) == '"IntervalTier"'
        name = next(numbers)[1:-1]
        assert (next(numbers), Decimal(next(numbers))) == ("0", end)
        tiers[name] = [
            (Decimal(next(numbers)), Decimal(next(numbers)), next(numbers)[1:-1].replace('""', '"'))
            for _ in range(int(next(numbers)))
        ]
    assert next(numbers, None) is None
    return end, tiers


def check_textgrid(made: Transcript) -> None:
    end, tiers = textgrid_of(render(made, "textgrid"))
    assert abs(end - Decimal(made.duration_s)) <= Decimal("0.0000005")
    assert list(tiers) == ["words", "segments"]
    for intervals in tiers.values():
        assert intervals[0][0] == 0
        assert intervals[-1][1] == end
        assert all(start < stop for start, stop, _ in intervals)
        assert all(before[1] == after[0] for before, after in pairwise(intervals))
    assert [text for _, _, text in tiers["words"] if text] == cleaned(word.text for word in made.words)
    assert [text for _, _, text in tiers["segments"] if text] == cleaned(segment.text for segment in made.segments)
    edges = {time for start, stop, _ in tiers["words"] for time in (start, stop)}
    assert {time for start, stop, _ in tiers["segments"] for time in (start, stop)} <= edges


@given(transcripts())
def test_every_format_reads_back(made: Transcript) -> None:
    for check in (check_srt, check_vtt, check_ctm, check_tsv, check_txt_and_json, check_textgrid):
        check(made)


def test_words_without_time_at_the_end_of_the_audio_have_room_in_a_textgrid() -> None:
    words = [Word("a", 0.9, 1.0, 1.0), Word("b", 1.0, 1.0, 1.0), Word("c", 1.0, 1.0, 1.0)]
    _, tiers = textgrid_of(render(transcript(words, 1.0), "textgrid"))
    spans = [(float(start), float(stop), text) for start, stop, text in tiers["words"]]
    assert spans == [(0, 0.9, ""), (0.9, 0.998, "a"), (0.998, 0.999, "b"), (0.999, 1, "c")]


# --- files ------------------------------------------------------------------------------------------------------------


def test_every_format_has_a_suffix() -> None:
    assert {*SUFFIXES} == {*FORMATS} == {*GOLDEN, "json"}
    assert SUFFIXES["textgrid"] == ".TextGrid"
    assert SUFFIXES["srt"] == ".srt"


def test_destination() -> None:
    source = Path("calls/2024/talk.v2.WAV")
    assert destination(source, "srt") == Path("calls/2024/talk.v2.srt")
    assert destination(source, "textgrid", out=Path("out")) == Path("out/talk.v2.TextGrid")
    assert destination(source, "srt", out=Path("out"), root=Path("calls")) == Path("out/2024/talk.v2.srt")
    assert destination(source, "srt", out=Path("out"), root=Path(".")) == Path("out/calls/2024/talk.v2.srt")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders with recordings of equal names, from inside one of them."""
    for name in ("a/one.wav", "a/sub/one.wav", "b/one.wav", "b/two.wav", "b/two.flac"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folders_below_what_was_given_are_kept(tree: Path) -> None:
    sources = [Path("a/one.wav"), Path("a/sub/one.wav"), Path("b/two.wav")]
    wanted = [Path("out/one.txt"), Path("out/sub/one.txt"), Path("out/two.txt")]
    out = Path("out")
    assert destinations(sources, "txt", out=out, given=["a", "b/two.wav"]) == wanted
    # The outermost folder counts, also when a file or an inner one is named as well, or the way to it is another.
    assert destinations(sources, "txt", out=out, given=["a/sub", "a/one.wav", "a", "b/two.wav"]) == wanted
    assert destinations(sources, "txt", out=out, given=["b/../a", tree / "a"]) == wanted
    assert destinations(sources[:2], "txt", out=out, given=["."]) == [Path("out/a/one.txt"), Path("out/a/sub/one.txt")]


def test_nothing_is_written_outside_out(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "a")
    sources = [Path("one.wav"), Path("../b/two.wav")]
    assert destinations(sources, "txt", out=Path("out"), given=[".", "../b"]) == [
        Path("out/one.txt"),
        Path("out/two.txt"),
    ]


def test_two_sources_with_one_destination_are_an_error_that_names_both(tree: Path) -> None:
    with pytest.raises(ConfigError, match=r"^a/one\.wav and b/one\.wav would both be written to out/one\.srt: "):
        destinations([Path("a/one.wav"), Path("b/one.wav")], "srt", out=Path("out"), given=["a", "b"])
    with pytest.raises(ConfigError, match=r"^b/two\.wav and b/two\.flac would both be written to b/two\.srt: "):
        destinations([Path("b/two.wav"), Path("b/two.flac")], "srt", given=["b"])
    # The same file twice is no collision.
    assert len(destinations([Path("b/two.wav"), tree / "b/two.wav"], "srt", out=Path("out"), given=["b"])) == 2


def test_a_recording_is_never_overwritten(tree: Path) -> None:
    sources = [Path("b/two.wav"), Path("b/two.txt")]  # audio by content, perhaps
    with pytest.raises(
        ConfigError, match=r"^b/two\.wav: its transcript b/two\.txt would overwrite the recording b/two\.txt$"
    ):
        destinations(sources, "txt")


@pytest.mark.parametrize("format", FORMATS)
def test_files_are_written_whole_as_utf8(tmp_path: Path, format: Format) -> None:
    made = transcript([Word("größer", 0.0, 0.5, 1.0), Word("小", 0.5, 0.9, 1.0)], 1.0)
    path = tmp_path / "new" / f"talk{SUFFIXES[format]}"
    assert not exists_already(path)
    write_transcript(made, path, format)
    assert exists_already(path)
    assert path.read_bytes() == render(made, format).encode("utf-8")
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_is_no_transcript_that_exists(tmp_path: Path) -> None:
    assert not exists_already(tmp_path)
    with pytest.raises(OSError, match="not a regular file"):
        write_transcript(transcript([], 1.0), tmp_path, "txt")
