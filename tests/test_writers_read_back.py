"""Each format read back by parsers that know nothing of the writer."""

import html
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

from hypothesis import given

from asr.decode import Word
from asr.segmentation import LINE_CHARACTERS
from asr.transcript import Dialogue, Transcript
from asr.writers import (
    MIN_CUE_MS,
    render,
)
from recognised import transcript, transcripts


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
    assert list(tiers) == ["segments", "words"]
    for intervals in tiers.values():
        assert intervals[0][0] == 0
        assert intervals[-1][1] == end
        assert all(start < stop for start, stop, _ in intervals)
        assert all(before[1] == after[0] for before, after in pairwise(intervals))
    assert [text for _, _, text in tiers["words"] if text] == cleaned(word.text for word in made.words)
    assert [text for _, _, text in tiers["segments"] if text] == cleaned(segment.text for segment in made.segments)
    told = [(start, stop) for start, stop, text in tiers["segments"] if text]
    for first, last, text in tiers["words"]:
        assert not text or any(start <= first and last <= stop for start, stop in told)


@given(transcripts())
def test_every_format_reads_back(made: Transcript) -> None:
    for check in (check_srt, check_vtt, check_ctm, check_tsv, check_txt_and_json, check_textgrid):
        check(made)


@given(transcripts(), transcripts())
def test_each_side_of_a_dialogue_is_written_as_it_is_alone(left: Transcript, right: Transcript) -> None:
    sides = replace(left, channel=0), replace(right, channel=1)
    made = Dialogue(sides)
    end = made.duration_s

    for format, point, mark in (("srt", ",", "{}: "), ("vtt", ".", "<v {}>")):
        cues = cues_of(render(made, format), point)
        assert [start for start, _, _ in cues] == sorted(start for start, _, _ in cues)
        for channel, side in enumerate(sides):
            begins = mark.format(channel)
            of_side = [cue for cue in cues if cue[2][0].startswith(begins)]
            alone = cues_of(render(side, format), point)
            assert of_side == [(start, stop, [begins + lines[0], *lines[1:]]) for start, stop, lines in alone]
            cues = [cue for cue in cues if cue not in of_side]
        assert cues == []

    assert render(made, "ctm") == "".join(render(side, "ctm") for side in sides)
    _, *rows = [line.split("\t") for line in render(made, "tsv").split("\n")[:-1]]
    assert [int(row[0]) for row in rows] == sorted(int(row[0]) for row in rows)
    turns = [line.split(": ", 1) for line in render(made, "txt").split("\n")[:-1] if line]
    segments = json.loads(render(made, "json"))["segments"]
    assert [segment["id"] for segment in segments] == list(range(len(segments)))
    _, tiers = textgrid_of(render(made, "textgrid"))
    assert list(tiers) == ["segments #0", "words #0", "segments #1", "words #1"]
    for channel, side in enumerate(sides):
        rows_alone = render(side, "tsv").split("\n")[1:-1]
        assert ["\t".join(row[:3]) for row in rows if row[3] == str(channel)] == rows_alone
        assert [text for name, text in turns if name == str(channel)] == cleaned(item.text for item in side.segments)
        assert [item["words"] for item in segments if item["channel"] == channel] == [
            item.as_json()["words"] for item in side.segments
        ]
        _, alone = textgrid_of(render(replace(side, duration_s=end), "textgrid"))
        assert {name: tiers[name] for name in alone} == alone


def test_words_without_time_at_the_end_of_the_audio_have_room_in_a_textgrid() -> None:
    words = [Word("a", 0.9, 1.0, 1.0), Word("b", 1.0, 1.0, 1.0), Word("c", 1.0, 1.0, 1.0)]
    _, tiers = textgrid_of(render(transcript(words, 1.0), "textgrid"))
    spans = [(float(start), float(stop), text) for start, stop, text in tiers["words"]]
    assert spans == [(0, 0.9, ""), (0.9, 0.998, "a"), (0.998, 0.999, "b"), (0.999, 1, "c")]


def test_a_subtitle_has_half_of_a_short_pause_and_a_margin_of_a_long_one() -> None:
    words = [Word("a" * 60, 1.0, 2.0, 1.0), Word("b" * 60, 2.3, 4.0, 1.0), Word("c", 9.0, 9.04, 1.0)]
    cues = cues_of(render(transcript(words, 9.1), "srt"), ",")
    assert [(start, end) for start, end, _ in cues] == [(700, 2150), (2150, 4300), (8700, 9100)]


def test_a_short_subtitle_stands_until_it_can_be_read_but_never_under_the_next() -> None:
    words = [Word("no", 0.0, 0.04, 1.0), Word("no", 0.7, 0.74, 1.0), Word("no", 2.0, 2.04, 1.0)]
    cues = cues_of(render(transcript(words, 2.5), "srt"), ",")
    assert [(start, end) for start, end, _ in cues] == [(0, 400), (400, 1233), (1700, 2500)]
