"""Transcripts as text files: plain, JSON, subtitles, and what scoring tools, Praat and ELAN read.

All are UTF-8 with LF line ends. Each time is rounded to milliseconds by itself, so what did not overlap before does not
overlap afterwards. White space and control characters inside a word (a label may hold any) become one space;
a path whose bytes are not UTF-8 is written with backslash escapes.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal, get_args

from asr import elan
from asr.errors import ConfigError
from asr.files import AUDIO_SUFFIXES, write_text_atomic
from asr.lines import escaped
from asr.manifest import part_name
from asr.segmentation import PAUSE_S, lines_of
from asr.transcript import Dialogue, Transcript

Format = Literal["txt", "json", "srt", "vtt", "ctm", "tsv", "textgrid", "eaf"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[Format, str] = {name: f".{name}" for name in FORMATS} | {"textgrid": ".TextGrid"}  # as Praat spells it

# Netflix' Timed Text Style Guide, General Requirements: a subtitle stands for at least 5/6 s.
MIN_CUE_MS = 833
# A word's soft beginning or end may have been taken for a part of the pause (`asr.boundaries`), so a subtitle has this
# much of a pause on either side, half of one that ends a segment.
CUE_MARGIN_MS = round(PAUSE_S * 1000 / 2)
_US_PER_MS = 1000
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_SRT_ARROW = re.compile(r"--+>")
_VTT_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})

Span = tuple[int, int]  # first and last tick
Made = Transcript | Dialogue


def render(made: Made, format: Format, folder: Path = Path()) -> str:
    """The text of a file in a format; every format is valid even without a word.

    - `txt`: the text on one line. Silence is an empty line, so that `cat *.txt` has a line for each file.
    - `json`: `Transcript.as_json` on one line.
    - `srt`: SubRip. It has no specification and no escapes: `-->` in a text is written `->`, and players may read
      `<i>` or `{...}` as markup. Silence is an empty file.
    - `vtt`: WebVTT (W3C, https://www.w3.org/TR/webvtt1/); `&`, `<` and `>` are escaped, so `-->` cannot occur.
    - `ctm`: NIST's time marked conversation (SCTK, doc/infmts.htm), as sclite and Kaldi read it:
      `file channel start duration word confidence`, the first channel being 1. The file is the source's name without
      folders and suffix, as sclite wants it; so is an id that looks like the name of an audio file. Columns are
      separated by spaces, so a space in the name or inside a word becomes `_`. sclite reads a word `@` as no word, and
      `(word)` as optional.
    - `tsv`: `start end text` with a header, times in milliseconds, as Whisper's writer has it. Nothing is quoted:
      read it with quoting off (`csv.QUOTE_NONE`).
    - `textgrid`: Praat's text file, long form (Praat manual, "TextGrid file formats"): tiers `segments` and `words`
      that cover the recording, empty intervals where nothing is said; `"` is doubled. Its times have microseconds, as
      the end must be the sound's. A segment has the margins of a subtitle.
    - `eaf`: ELAN's document (`asr.elan`): the same tiers, words depending on segments, in milliseconds. A source
      that is named like an audio file is its medium, by its path from `folder`, where the text is to be written.

    A subtitle is a segment on one or two lines (`asr.segmentation.lines_of`). It is shown from `CUE_MARGIN_MS` before
    its first word until as long after its last, but no longer than to the middle of a pause; then for at least
    `MIN_CUE_MS`, or until the next one or the end of the audio.

    In a dialogue a line of `txt` is a turn, after its side (`Transcript.side`) and a colon; so are subtitles of `srt`,
    and `vtt` has the side as its voice (`<v 0>`). Subtitles stand by their start, those of each side where it alone
    would have them, so that they overlap where two speak. `tsv` has a fourth column, `speaker`, or `channel` where no
    speaker is known. `ctm` has the channels one after the other, as NIST orders its lines. `textgrid` has tiers for
    each side: `segments Ann` and `words Ann` for a speaker, `segments #0` for the channel of an unknown one, and
    `segments Ann#0` for both, as also where a single transcript states them; so has `eaf`, with the speaker as the
    participant, too.

    Raises:
        ConfigError: an unknown format.
    """
    writers: dict[str, Callable[[Made], str]] = {
        "txt": _txt,
        "json": _json,
        "srt": _srt,
        "vtt": _vtt,
        "ctm": _ctm,
        "tsv": _tsv,
        "textgrid": _textgrid,
        "eaf": partial(_eaf, folder=folder),
    }
    if format not in writers:
        raise ConfigError(f"wanted a format among {', '.join(FORMATS)}, found {format!r}")
    # Only lone surrogates, which stand for a path's undecodable bytes, cannot be encoded. JSON spells the escape alike.
    return writers[format](made).encode("utf-8", "backslashreplace").decode("utf-8")


def write_transcript(made: Made, path: Path, format: Format) -> None:
    """Write a transcript or dialogue so that `path` is never half-written; missing folders are made.

    Raises:
        ConfigError: an unknown format.
        OSError: the file cannot be written; it names `path`.
    """
    write_text_atomic(path, render(made, format, path.parent))


def line_of(name: str, text: str) -> str:
    """A line of `txt` output where several recordings follow one another: name TAB text.

    Control characters in a name, a line end or a TAB, are written with backslash escapes.
    """
    return f"{escaped(name)}\t{_clean(text)}\n"


def _sides(made: Made) -> tuple[Transcript, ...]:
    return made.sides if isinstance(made, Dialogue) else (made,)


def _txt(made: Made) -> str:
    if isinstance(made, Dialogue):
        turns = [(_clean(side.side), _clean(segment.text)) for side, segment in made.turns]
        return "".join(f"{name}: {text}\n" for name, text in turns if text) or "\n"
    return f"{_clean(made.text)}\n"


def _json(made: Made) -> str:
    return json.dumps(made.as_json(), ensure_ascii=False) + "\n"


def _srt(made: Made) -> str:
    cues = []
    for number, (start, end, text, name) in enumerate(_cues(made), 1):
        spoken = _SRT_ARROW.sub("->", f"{name}: {text}" if name else text)
        cues.append(f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{spoken}\n")
    return "\n".join(cues)


def _vtt(made: Made) -> str:
    cues = ["WEBVTT\n"]
    for start, end, text, name in _cues(made):
        voice = f"<v {name.translate(_VTT_ESCAPES)}>" if name else ""
        cues.append(f"\n{_clock(start, '.')} --> {_clock(end, '.')}\n{voice}{text.translate(_VTT_ESCAPES)}\n")
    return "".join(cues)


def ctm_name(source: str) -> str:
    """What a recording is called in CTM: its file without folders and suffix, or its id in a manifest, in one word."""
    path = Path(source)
    stem = path.stem if path.suffix.lower() in AUDIO_SUFFIXES else path.name
    return re.sub(r"^;", "_", _BLANKS.sub("_", stem)) or "_"  # sclite takes a line that begins with ;; for a comment


def _ctm(made: Made) -> str:
    words = [word for side in _sides(made) for word in _ctm_words(side)]
    return "".join(line for *_, line in sorted(words, key=lambda word: word[:2]))


def _ctm_words(side: Transcript) -> Iterator[tuple[int, int, str]]:
    """Channel, start in milliseconds and line of each word."""
    name, channel = ctm_name(side.source), 1 + (side.channel or 0)
    for word in side.words:
        text = _clean(word.text).replace(" ", "_")
        if not text:
            continue  # a line without a word would shift the columns
        start, end = _ms(word.start_s), _ms(word.end_s)
        line = f"{name} {channel} {start / 1000:.3f} {(end - start) / 1000:.3f} {text} {word.confidence:.4f}\n"
        yield channel, start, line


def _tsv(made: Made) -> str:
    if isinstance(made, Dialogue):
        column = "\tspeaker" if any(side.speaker is not None for side in made.sides) else "\tchannel"
        turns = [(segment, f"\t{_clean(side.side)}") for side, segment in made.turns]
    else:
        column, turns = "", [(segment, "") for segment in made.segments]
    lines = [f"{_ms(segment.start_s)}\t{_ms(segment.end_s)}\t{_clean(segment.text)}{side}\n" for segment, side in turns]
    return "".join([f"start\tend\ttext{column}\n", *lines])


def _tiers(side: Transcript, end: int) -> Iterator[tuple[str, list[Span], list[str]]]:
    """Names, spans in microseconds up to `end`, and texts of a side's tiers."""
    speaker = re.sub(r"(?<=\S)(?=#[0-9]+\Z)", " ", _clean(side.speaker or ""))  # that number is no channel
    name = part_name(speaker, channel=side.channel)  # `Ann`, `#0`, `Ann#0` or nothing
    mark = f" {name}" if name else ""
    # Praat drops intervals without length when it reads the file, so words get a millisecond, which can still be seen.
    words = _spread([(_us(word.start_s), _us(word.end_s)) for word in side.words], _US_PER_MS, end)
    firsts = accumulate((len(segment.words) for segment in side.segments), initial=0)
    segments = [(words[first][0], words[behind - 1][1]) for first, behind in pairwise(firsts)]
    widened = _widened(segments, CUE_MARGIN_MS * _US_PER_MS, end)
    yield f"segments{mark}", widened, [segment.text for segment in side.segments]
    yield f"words{mark}", words, [word.text for word in side.words]


def _textgrid(made: Made) -> str:
    end = _us(made.duration_s)
    tiers = [tier for side in _sides(made) for tier in _tiers(side, end)]
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {_decimal(end)}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, spans, texts) in enumerate(tiers, 1):
        intervals = list(_covering(spans, texts, end))
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {_decimal(end)}", f"        intervals: size = {len(intervals)}"]
        for place, (start, stop, text) in enumerate(intervals, 1):
            lines += [f"        intervals [{place}]:", f"            xmin = {_decimal(start)}"]
            lines += [f"            xmax = {_decimal(stop)}", f"            text = {_quoted(_clean(text))}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"{}"'.format(text.replace('"', '""'))


def _eaf(made: Made, folder: Path) -> str:
    end = _us(made.duration_s) // _US_PER_MS * _US_PER_MS  # no time is rounded beyond the audio
    tiers = []
    for side in _sides(made):
        participant = None if side.speaker is None else _clean(side.speaker)
        parent = None
        for tier, spans, texts in _tiers(side, end):
            # Halves are rounded up, so that a word of a millisecond still has one.
            starts, ends = ([(span[edge] + _US_PER_MS // 2) // _US_PER_MS for span in spans] for edge in (0, 1))
            said = zip(starts, ends, map(_clean, texts), strict=True)
            tiers.append(elan.Tier(tier, [spoken for spoken in said if spoken[2]], participant, parent))
            parent = tier
    is_audio = made.source.lower().endswith(AUDIO_SUFFIXES) and os.path.isfile(made.source)  # and no id like a name
    return elan.document(tiers, os.path.relpath(made.source, folder) if is_audio else None)


def _covering(spans: Sequence[Span], texts: Sequence[str], end: int) -> Iterator[tuple[int, int, str]]:
    """The intervals of a tier: spans with their texts, and the gaps between them with none."""
    reached = 0
    for (start, stop), text in zip(spans, texts, strict=True):
        if start > reached:
            yield reached, start, ""
        yield start, stop, text
        reached = stop
    if reached < end:
        yield reached, end, ""


def _cues(made: Made) -> list[tuple[int, int, str, str]]:
    """Start and end in milliseconds, lines, and in a dialogue the side of each subtitle, by start, then side."""
    are_named = isinstance(made, Dialogue)
    cues = [(*cue, _clean(side.side) if are_named else "") for side in _sides(made) for cue in _cues_of(side)]
    return sorted(cues, key=lambda cue: cue[0])


def _cues_of(transcript: Transcript) -> Iterator[tuple[int, int, str]]:
    """Start and end in milliseconds and the lines of each subtitle of one side."""
    end = _ms(transcript.duration_s)
    shown = []
    for segment in transcript.segments:
        words = [text for word in segment.words if (text := _clean(word.text))]
        if words:  # an empty line would end the subtitle before its text
            shown.append((_ms(segment.start_s), _ms(segment.end_s), "\n".join(lines_of(words))))
    if not shown:
        return
    # WebVTT wants a cue to end after it begins.
    spans = _widened(_spread([(start, stop) for start, stop, _ in shown], 1, end), CUE_MARGIN_MS, end)
    free = [*(start for start, _ in spans[1:]), end]
    for (start, stop), until, (_, _, text) in zip(spans, free, shown, strict=True):
        yield start, max(stop, min(start + MIN_CUE_MS, until)), text


def _widened(spans: Sequence[Span], margin: int, end: int) -> list[Span]:
    """Spans with a margin on either side, of a shorter pause between two of them half, and none beyond the audio."""
    if not spans:
        return []
    middles = [0, *((before[1] + after[0]) // 2 for before, after in pairwise(spans)), end]
    return [
        (max(start - margin, first), min(stop + margin, last))
        for (start, stop), (first, last) in zip(spans, pairwise(middles), strict=True)
    ]


def _spread(spans: Sequence[Span], least: int, end: int) -> list[Span]:
    """Spans of at least `least` ticks, in order and not overlapping, up to `end`; moved only where they must be.

    `end` holds them all, because `Transcript.of` allows a word a millisecond.
    """
    found: list[Span] = []
    reached = 0
    for start, stop in spans:
        start = max(start, reached)
        reached = max(stop, start + least)
        found.append((start, reached))
    free = end
    for place in range(len(found) - 1, -1, -1):
        start, stop = found[place]
        if stop <= free:
            break  # those before it fit too
        found[place] = (min(start, free - least), free)
        free = found[place][0]
    return found


def _clean(text: str) -> str:
    return _BLANKS.sub(" ", text).strip()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _decimal(us: int) -> str:
    """Seconds as the shortest decimal."""
    return f"{us // 1_000_000}.{us % 1_000_000:06d}".rstrip("0").rstrip(".")


def _clock(ms: int, point: str) -> str:
    """HH:MM:SS.mmm; hours take more digits where they must."""
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{ms:03d}"
