"""Subtitle files: SubRip (.srt) and WebVTT (.vtt, W3C, https://www.w3.org/TR/webvtt1/), read strictly.

Times have hours or not, and a comma or a point before the milliseconds, in both formats. The lines of a cue are joined
by spaces. A line of spaces belongs to its cue, except in SubRip where the next cue follows it. Markup is taken out
(`<i>`, `<font ...>`, `<00:00:01.000>`, `{\\an8}`); `<v NAME>` names the speaker. What is malformed is an error: nothing
can be lost between two cues.
"""

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from asr.errors import CorpusError
from asr.lines import read_text

_ARROW = "-->"
_TIME = r"(?:([0-9]{1,4}):)?([0-5]?[0-9]):([0-5][0-9])[.,]([0-9]{3})"
_TIMES = re.compile(rf"\s*{_TIME}\s*{_ARROW}\s*{_TIME}(?:\s+\w+:\S+)*\s*")  # SubRip's X1:40, WebVTT's align:left
_HEADER = re.compile(r"WEBVTT(?:[ \t].*)?")
_COMMENT = re.compile(r"(?:NOTE|STYLE|REGION)(?:[ \t].*)?")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]*)>")
_MARKUP = re.compile(
    r"</?(?:[bciusv]|font|lang|ruby|rt)(?:[.\s][^<>]*)?>|<[0-9:.]+>|\{\\[^}]*\}", re.IGNORECASE
)  # other words in angle brackets are someone's remarks

Line = tuple[int, str]  # its number in the file, from 1, and its text


class Cue(NamedTuple):
    """What is shown at once.

    Attributes:
        line: number of the line with its times, from 1.
        start_s: in seconds.
        end_s: in seconds, after the start.
        lines: those with text, without markup; perhaps none.
        speakers: those that it names, each once.
    """

    line: int
    start_s: float
    end_s: float
    lines: tuple[str, ...]
    speakers: tuple[str, ...]

    @property
    def speaker(self) -> str | None:
        """The one that it names; None if it names none or several."""
        return self.speakers[0] if len(self.speakers) == 1 else None

    @property
    def text(self) -> str:
        """The lines joined by spaces."""
        return " ".join(self.lines)

    def repeats(self, before: "Cue") -> bool:
        """Whether it begins with the last lines of the one before and goes on, as captions do that roll."""
        return any(self.lines[:count] == before.lines[-count:] for count in range(1, len(self.lines)))


def read_cues(path: Path) -> list[Cue]:
    """The cues of a .srt or .vtt file in its order.

    Raises:
        CorpusError: the file is neither UTF-8 nor UTF-16, or malformed; the message names the line.
    """
    is_vtt = path.suffix.lower() == ".vtt"
    texts = read_text(path, "text", CorpusError).split("\n")
    blocks = list(_blocks([text.rstrip("\r") for text in texts], is_vtt))
    if is_vtt:
        header = blocks.pop(0) if blocks else [(1, "")]
        if not _HEADER.fullmatch(header[0][1]):
            raise CorpusError(f"{path}:{header[0][0]}: wanted WEBVTT on the first line, found {header[0][1]!r}")
        _require_no_times(header, path)
        blocks = [block for block in blocks if not _is_comment(block)]
    return [_cue(block, path, is_vtt) for block in blocks]


def _blocks(texts: Sequence[str], is_vtt: bool) -> Iterator[list[Line]]:
    """What stands between blank lines, which are not among these; lines of spaces may be."""
    block: list[Line] = []
    for number, text in enumerate(texts, 1):
        before_cue = not is_vtt and any(_ARROW in following for following in texts[number : number + 2])
        if text.strip() or (text and block and not before_cue):
            block.append((number, text))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _is_comment(block: Sequence[Line]) -> bool:
    return bool(_COMMENT.fullmatch(block[0][1])) and not any(_ARROW in text for _, text in block)


def _cue(block: Sequence[Line], path: Path, is_vtt: bool) -> Cue:
    first = block[0][1]
    named = len(block) > 1 and _ARROW not in first and (is_vtt or first.strip().isdecimal())
    (line, times), *texts = block[1:] if named else block
    found = _TIMES.fullmatch(times)
    if not found:
        raise CorpusError(f"{path}:{line}: wanted times such as 00:00:01,000 --> 00:00:02,500, found {times!r}")
    _require_no_times(texts, path)
    start_s, end_s = _seconds(*found.groups()[:4]), _seconds(*found.groups()[4:])
    if not start_s < end_s:
        raise CorpusError(f"{path}:{line}: wanted an end after the start, found {times.strip()!r}")
    raw = "\n".join(text for _, text in texts)
    voices = dict.fromkeys(unicodedata.normalize("NFC", _plain(name, is_vtt)) for name in _VOICE.findall(raw))
    speakers = tuple(name for name in voices if name)
    plain = (_plain(text, is_vtt) for text in _MARKUP.sub("", raw).split("\n"))
    return Cue(line, start_s, end_s, tuple(filter(None, plain)), speakers)


def _require_no_times(lines: Sequence[Line], path: Path) -> None:
    for number, text in lines:
        if _ARROW in text:
            raise CorpusError(f"{path}:{number}: wanted a blank line before a cue, found {text!r} below another line")


def _seconds(hours: str | None, minutes: str, seconds: str, ms: str) -> float:
    return (((int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(ms)) / 1000


def _plain(text: str, is_vtt: bool) -> str:
    """Without WebVTT's character references, which SubRip has not, and with single spaces."""
    return " ".join((html.unescape(text) if is_vtt else text).split())
