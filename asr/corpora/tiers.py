"""Tiers of annotations: Praat's TextGrid (.TextGrid) and ELAN's .eaf, UTF-8 or UTF-16, read strictly.

Praat manual, "TextGrid file formats": the long and the short form hold the same values. Of both, texts in quotation
marks, numbers and flags such as <exists> are read where they stand alone, and nothing else. The Language Archive, "ELAN
Annotation Format" (EAFv3.0.xsd): an annotation stands between two time slots, or is about another and has its time.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from asr.errors import CorpusError
from asr.lines import compared_name, read_text

_TEXT, _NUMBER, _COUNT, _FLAG = "a text in quotation marks", "a number", "a number of items", "<exists>"
_FORMS = {
    _TEXT: re.compile(r'"[^"]*(?:""[^"]*)*"'),
    _NUMBER: re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?"),
    _COUNT: re.compile(r"[0-9]{1,9}"),
    _FLAG: re.compile(r"<exists>|<absent>"),
}
_TOKEN = re.compile(rf'{_FORMS[_TEXT].pattern}|![^\n]*|[^\s"!]+|"')  # ! begins a comment; the last " is not closed


class Interval(NamedTuple):
    """What a tier says about a stretch of time.

    Attributes:
        place: in its tier, from 1; in a TextGrid intervals without text count, too.
        where: for messages, the file and the line, or the id of the annotation.
        start_s: in seconds.
        end_s: in seconds, after the start.
        text: on one line.
    """

    place: int
    where: str
    start_s: float
    end_s: float
    text: str


class Tier(NamedTuple):
    """Intervals, most often by one speaker.

    Attributes:
        name: as `compared_name` makes it.
        intervals: in the order of the file; of a TextGrid those with text.
        participant: who speaks, or "".
        is_dependent: whether it is about another tier, as a translation is.
        untimed: ids of annotations whose time the file does not state; they are not among the intervals.
    """

    name: str
    intervals: tuple[Interval, ...]
    participant: str = ""
    is_dependent: bool = False
    untimed: tuple[str, ...] = ()


def read_tiers(path: Path) -> list[Tier]:
    """The tiers of a .TextGrid or .eaf file in its order, without those of points.

    Raises:
        CorpusError: the file is neither UTF-8 nor UTF-16, or malformed; the message names the line or the annotation.
    """
    text = read_text(path, "text", CorpusError)
    return list(_elan(text, path) if path.suffix.lower() == ".eaf" else _textgrid(_Values(text, path)))


def _interval(place: int, where: str, start_s: float, end_s: float, text: str) -> Interval:
    if not start_s < end_s:
        raise CorpusError(f"{where}: wanted an end after the start, found {start_s:g} to {end_s:g} s")
    return Interval(place, where, start_s, end_s, " ".join(text.split()))


class _Values:
    """The values of a TextGrid, one after another; `where` is the file and the line of the last."""

    def __init__(self, text: str, path: Path) -> None:
        self._tokens, self._path, self.where = self._read(text), path, f"{path}:1"

    def _read(self, text: str) -> Iterator[str]:
        line, reached = 1, 0
        for found in _TOKEN.finditer(text):
            if found[0][0] in '"<' or _FORMS[_NUMBER].fullmatch(found[0]):
                line, reached = line + text.count("\n", reached, found.start()), found.start()
                self.where = f"{self._path}:{line}"
                yield found[0]

    def take(self, form: str) -> str:
        found = next(self._tokens, "the end of the file")
        if not _FORMS[form].fullmatch(found):
            raise CorpusError(f"{self.where}: wanted {form}, found {found:.40}")
        return found

    def text(self, *wanted: str) -> str:
        text = self.take(_TEXT)[1:-1].replace('""', '"')
        if wanted and text not in wanted:
            raise CorpusError(f'{self.where}: wanted "{wanted[0]}", found "{text:.40}"')
        return text

    def span(self) -> tuple[float, float]:
        return float(self.take(_NUMBER)), float(self.take(_NUMBER))

    def end(self) -> None:
        for found in self._tokens:
            raise CorpusError(f"{self.where}: wanted the end of the file, by the counts before, found {found:.40}")


def _textgrid(values: _Values) -> Iterator[Tier]:
    values.text("ooTextFile", "ooTextFile short")
    values.text("TextGrid")
    values.span()
    count = int(values.take(_COUNT)) if values.take(_FLAG) == "<exists>" else 0
    for _ in range(count):
        is_interval = values.text("IntervalTier", "TextTier") == "IntervalTier"
        name = compared_name(values.text())
        values.span()
        intervals = []
        for place in range(1, int(values.take(_COUNT)) + 1):
            if is_interval:
                (start_s, end_s), where, text = values.span(), values.where, values.text()
                if text.strip():
                    intervals.append(_interval(place, where, start_s, end_s, text))
            else:
                values.take(_NUMBER)
                values.text()
        if is_interval:
            yield Tier(name, tuple(intervals))
    values.end()


def _elan(text: str, path: Path) -> Iterator[Tier]:
    before, doctype, _ = text.partition("<!DOCTYPE")  # it may define entities that grow without end
    if doctype:
        line = before.count("\n") + 1
        raise CorpusError(f"{path}:{line}: wanted no DOCTYPE, which ELAN does not write and which is not read")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as fault:
        raise CorpusError(f"{path}:{fault.position[0]}: malformed XML: {fault}") from fault
    if root.tag != "ANNOTATION_DOCUMENT":
        raise CorpusError(f"{path}: wanted an ANNOTATION_DOCUMENT, found {root.tag:.40}")
    for media in root.iterfind("HEADER/MEDIA_DESCRIPTOR"):
        if media.get("MIME_TYPE", "").startswith("audio") and media.get("TIME_ORIGIN", "0") != "0":
            raise CorpusError(f"{path}: TIME_ORIGIN of the audio must be 0, found {media.get('TIME_ORIGIN')!r}")
    times = _Times(root, path)
    for tier in root.iterfind("TIER"):
        intervals, untimed = [], []
        for place, annotation in enumerate(tier.iterfind("ANNOTATION/*"), 1):
            span = times.of(annotation)
            if span:
                where, spoken = times.where(annotation), annotation.findtext("ANNOTATION_VALUE", "")
                intervals.append(_interval(place, where, *span, spoken))
            else:
                untimed.append(annotation.get("ANNOTATION_ID", ""))
        name, participant = compared_name(tier.get("TIER_ID", "")), compared_name(tier.get("PARTICIPANT", ""))
        yield Tier(name, tuple(intervals), participant, bool(tier.get("PARENT_REF")), tuple(untimed))


class _Times:
    """When the annotations of a document of ELAN begin and end."""

    def __init__(self, root: ElementTree.Element, path: Path) -> None:
        self._path = path
        self._slots = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iterfind("TIME_ORDER/*")}
        self._by_id = {found.get("ANNOTATION_ID"): found for found in root.iterfind("TIER/ANNOTATION/*")}
        self._sharing: set[str | None] = set()  # ids of those that divide an annotation, at times nobody knows
        for tier in root.iterfind("TIER"):
            found = tier.findall("ANNOTATION/REF_ANNOTATION")
            counts = Counter(part.get("ANNOTATION_REF") for part in found)
            self._sharing |= {part.get("ANNOTATION_ID") for part in found if counts[part.get("ANNOTATION_REF")] > 1}

    def where(self, annotation: ElementTree.Element) -> str:
        return f"{self._path}: annotation {annotation.get('ANNOTATION_ID')}"

    def of(self, annotation: ElementTree.Element) -> tuple[float, float] | None:
        """Start and end in seconds; None where the file does not state them."""
        at, seen = annotation, set()
        while at.tag == "REF_ANNOTATION":
            name, other = at.get("ANNOTATION_ID"), at.get("ANNOTATION_REF")
            if name in self._sharing:
                return None
            if other not in self._by_id or name in seen:
                raise CorpusError(f"{self.where(at)}: wanted another annotation as ANNOTATION_REF, found {other!r}")
            seen.add(name)
            at = self._by_id[other]
        start_s, end_s = self._seconds(at, "TIME_SLOT_REF1"), self._seconds(at, "TIME_SLOT_REF2")
        return None if start_s is None or end_s is None else (start_s, end_s)

    def _seconds(self, annotation: ElementTree.Element, key: str) -> float | None:
        slot = annotation.get(key)
        value = self._slots.get(slot, "no such slot")
        if value is not None and not re.fullmatch(r"[0-9]{1,12}", value):
            raise CorpusError(f"{self.where(annotation)}: wanted milliseconds at {key} {slot!r}, found {value!r}")
        return None if value is None else int(value) / 1000
