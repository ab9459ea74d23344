"""Each format as a whole picture."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace

import pytest

from asr.decode import Word
from asr.errors import ConfigError, DecodeError
from asr.transcript import Dialogue, Transcript
from asr.writers import (
    FORMATS,
    SUFFIXES,
    Format,
    render,
)
from recognised import Recognised, recognised, transcript

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
00:00:00,020 --> 00:00:01,220
she said" R&B

2
00:00:01,400 --> 00:00:02,346
-> <b>
""",
    "vtt": """\
WEBVTT

00:00:00.020 --> 00:00:01.220
she said" R&amp;B

00:00:01.400 --> 00:00:02.346
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
        name = "segments"
        xmin = 0
        xmax = 2.3456
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 0.02
            text = ""
        intervals [2]:
            xmin = 0.02
            xmax = 1.221
            text = "she said\"" R&B"
        intervals [3]:
            xmin = 1.221
            xmax = 1.4
            text = ""
        intervals [4]:
            xmin = 1.4
            xmax = 2.3456
            text = "--> <b>"
    item [2]:
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
        name = "segments"
        xmin = 0
        xmax = 1.5
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1.5
            text = ""
    item [2]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.5
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1.5
            text = ""
""",
}


@pytest.mark.parametrize("format", GOLDEN)
def test_whole_picture(format: Format) -> None:
    assert render(transcript(WORDS, 2.3456, "calls/my talk.wav"), format) == GOLDEN[format]


@pytest.mark.parametrize("format", EMPTY)
def test_silence(format: Format) -> None:
    assert render(transcript([], 1.5), format) == EMPTY[format]


def test_json_whole_picture() -> None:
    second = Recognised("she sad", (), score=-7.0, acoustic_score=-7.5, lm_score=0.5, confidence=0.25)
    made = Transcript.of([recognised(WORDS[:2]), second], 2.34567, "שיחה/my talk.wav")
    line = render(made, "json")
    assert line.count("\n") == 1
    assert "שיחה" in line
    assert json.loads(line) == {
        "audio_filepath": "שיחה/my talk.wav",
        "duration": 2.346,
        "language": None,
        "text": 'she said"',
        "confidence": 0.7,
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


def dialogue(*sides: Sequence[Word], duration_s: float = 4.0) -> Dialogue:
    """Each side's words, of channels 0, 1, ..."""
    made = (transcript(words, duration_s, "calls/my talk.wav") for words in sides)
    return Dialogue(tuple(replace(side, channel=channel) for channel, side in enumerate(made)))


# Side 1 speaks into the first turn of side 0, and both begin the last one at the same time.
LEFT = [Word("who's", 0.4, 0.6, 1.0), Word("there?", 0.6, 1.2, 0.25), Word("<b>", 3.0, 3.2, 1.0)]
RIGHT = [Word("me", 1.0, 1.5, 0.5), Word("-->", 3.0, 3.5, 1.0)]
GOLDEN_DIALOGUE: dict[Format, str] = {
    "txt": """\
0: who's there?
1: me
0: <b>
1: -->
""",
    "srt": """\
1
00:00:00,100 --> 00:00:01,500
0: who's there?

2
00:00:00,700 --> 00:00:01,800
1: me

3
00:00:02,700 --> 00:00:03,533
0: <b>

4
00:00:02,700 --> 00:00:03,800
1: ->
""",
    "vtt": """\
WEBVTT

00:00:00.100 --> 00:00:01.500
<v 0>who's there?

00:00:00.700 --> 00:00:01.800
<v 1>me

00:00:02.700 --> 00:00:03.533
<v 0>&lt;b&gt;

00:00:02.700 --> 00:00:03.800
<v 1>--&gt;
""",
    "ctm": """\
my_talk 1 0.400 0.200 who's 1.0000
my_talk 1 0.600 0.600 there? 0.2500
my_talk 1 3.000 0.200 <b> 1.0000
my_talk 2 1.000 0.500 me 0.5000
my_talk 2 3.000 0.500 --> 1.0000
""",
    "tsv": """\
start\tend\ttext\tchannel
400\t1200\twho's there?\t0
1000\t1500\tme\t1
3000\t3200\t<b>\t0
3000\t3500\t-->\t1
""",
}


@pytest.mark.parametrize("format", GOLDEN_DIALOGUE)
def test_whole_picture_of_a_dialogue(format: Format) -> None:
    assert render(dialogue(LEFT, RIGHT), format) == GOLDEN_DIALOGUE[format]


def test_json_of_a_dialogue() -> None:
    facts = json.loads(render(dialogue(LEFT, RIGHT), "json"))
    segments = facts.pop("segments")
    assert facts == {
        "audio_filepath": "calls/my talk.wav",
        "duration": 4.0,
        "language": None,
        "text": "who's there? me <b> -->",
        "confidence": 0.6598,  # the fifth root of 0.25 * 0.5
    }
    assert [(item["id"], item["channel"], item["text"]) for item in segments] == [
        (0, 0, "who's there?"),
        (1, 1, "me"),
        (2, 0, "<b>"),
        (3, 1, "-->"),
    ]
    assert segments[1]["words"] == [{"word": "me", "start": 1.0, "end": 1.5, "probability": 0.5}]


def test_a_dialogue_without_words() -> None:
    made = dialogue([], [], duration_s=1.5)
    wanted = {**EMPTY, "tsv": "start\tend\ttext\tchannel\n"}
    for format in ("txt", "srt", "vtt", "ctm", "tsv"):
        assert render(made, format) == wanted[format]
    facts = json.loads(render(made, "json"))
    assert (facts["text"], facts["segments"], facts["confidence"]) == ("", [], 0.875)
    names = ("words #0", "segments #0", "words #1", "segments #1")
    assert [render(made, "textgrid").count(f'name = "{name}"') for name in names] == [1, 1, 1, 1]


def test_sides_of_speakers_are_called_by_their_names() -> None:
    left, right = dialogue(LEFT, RIGHT).sides
    made = Dialogue((replace(left, speaker='Ann "B" <C>\n'), replace(right, channel=None)))
    assert render(made, "txt") == GOLDEN_DIALOGUE["txt"].replace("0:", 'Ann "B" <C>:').replace("1:", "unknown:")
    assert "\nunknown: ->\n" in render(made, "srt")
    assert '\n<v Ann "B" &lt;C&gt;>who\'s there?\n' in render(made, "vtt")
    lines = render(made, "tsv").splitlines()
    assert lines[:2] == ["start\tend\ttext\tspeaker", '400\t1200\twho\'s there?\tAnn "B" <C>']
    assert '        name = "words Ann ""B"" <C>#0"\n' in render(made, "textgrid")
    assert '        name = "segments"\n' in render(made, "textgrid")
    # All of one channel, as far as is known: by time.
    starts = [line.split()[1:3] for line in render(made, "ctm").splitlines()]
    assert starts == [["1", "0.400"], ["1", "0.600"], ["1", "1.000"], ["1", "3.000"], ["1", "3.000"]]
    segments = json.loads(render(made, "json"))["segments"]
    whose = [(item.get("channel"), item.get("speaker")) for item in segments]
    assert whose[:2] == [(0, 'Ann "B" <C>\n'), (None, None)]


def test_the_sides_of_a_dialogue_are_told_apart() -> None:
    wanted = "wanted sides of different speakers or channels, found"
    with pytest.raises(DecodeError, match=rf"^dialogue: {wanted} \[\]$"):
        Dialogue(())
    ann = replace(transcript([], 1.0), speaker="Ann", channel=0)
    with pytest.raises(DecodeError, match=rf"^talk\.wav: {wanted} \[\('Ann', 0\), \('Ann', 0\)\]$"):
        Dialogue((ann, ann))
    for other in (replace(ann, channel=1), replace(ann, speaker="0"), replace(ann, speaker=None)):
        assert len(Dialogue((ann, other)).sides) == 2


def test_a_long_subtitle_has_two_balanced_lines() -> None:
    spoken = "it was the best of times it was the worst of times".split()
    words = [Word(text, 0.3 * number, 0.3 * number + 0.25, 1.0) for number, text in enumerate(spoken)]
    assert render(transcript(words, 5.0), "srt") == (
        "1\n00:00:00,000 --> 00:00:03,850\nit was the best of times\nit was the worst of times\n"
    )


def test_no_arrow_is_left_over_in_srt() -> None:
    made = transcript([Word("a---->b", 0.0, 1.0, 1.0)], 1.0)
    assert render(made, "srt") == "1\n00:00:00,000 --> 00:00:01,000\na->b\n"


def test_more_than_99_hours() -> None:
    made = transcript([Word("late", 363_599.9994, 363_600.5, 1.0)], 363_601.0)  # 101 hours
    assert render(made, "srt").startswith("1\n100:59:59,699 --> 101:00:00,800\n")
    assert "\n100:59:59.699 --> 101:00:00.800\n" in render(made, "vtt")
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
    with pytest.raises(ConfigError, match=r"^wanted a format among txt, json, .*, eaf, found 'doc'$"):
        render(transcript([], 1.0), "doc")  # type: ignore[arg-type]


def test_every_format_has_a_suffix() -> None:
    assert {*SUFFIXES} == {*FORMATS} == {*GOLDEN, "json", "eaf"}
    assert SUFFIXES["textgrid"] == ".TextGrid"
    assert SUFFIXES["srt"] == ".srt"
