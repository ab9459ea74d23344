"""ELAN's annotation format (.eaf): tiers of annotations with times, as an XML document.

The Language Archive, "ELAN Annotation Format", version 3.0 (EAFv3.0.xsd). `asr.corpora.tiers` reads it.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, indent, tostring

_SCHEMA = {
    "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
}
_DATE = "1970-01-01T00:00:00Z"  # the schema wants one, and the same transcript is to be the same file at any time
_WHOLE, _PART = "segments", "words"  # linguistic types
_WITHIN = "Included_In"  # parts with gaps between them
_MEANS = "Time alignable annotations within the parent annotation's time interval, gaps are allowed"  # in ELAN's words
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


class Tier(NamedTuple):
    """What is said when.

    Attributes:
        name: no other tier of the document has it.
        annotations: start and end in milliseconds, the end being later, and text; in order, not overlapping.
        participant: who speaks; None if unknown.
        parent: the name of the tier of whose annotations these are parts; None: they are wholes.
    """

    name: str
    annotations: Sequence[tuple[int, int, str]]
    participant: str | None = None
    parent: str | None = None


def document(tiers: Sequence[Tier], media: str | None = None) -> str:
    """The tiers as a document of ELAN; characters that XML cannot hold become U+FFFD.

    Args:
        tiers: with each parent before its parts.
        media: the path of the audio, relative to the document's folder or absolute; None: the document names none.
    """
    root = Element("ANNOTATION_DOCUMENT", _SCHEMA, AUTHOR="asr", DATE=_DATE, FORMAT="3.0", VERSION="3.0")
    header = SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    if media is not None:
        place = _valid(media if media.startswith(("/", "../")) else f"./{media}")
        kind = "audio/x-wav" if media.lower().endswith(".wav") else "audio/*"
        SubElement(header, "MEDIA_DESCRIPTOR", MEDIA_URL=f"file:{place}", MIME_TYPE=kind, RELATIVE_MEDIA_URL=place)
    used = SubElement(header, "PROPERTY", NAME="lastUsedAnnotationId")
    used.text = str(sum(len(tier.annotations) for tier in tiers))
    spans = _slots(SubElement(root, "TIME_ORDER"), tiers)
    for tier in tiers:
        kind = _WHOLE if tier.parent is None else _PART
        named = {"PARENT_REF": tier.parent, "PARTICIPANT": tier.participant, "TIER_ID": tier.name}
        known = {key: _valid(value) for key, value in named.items() if value is not None}
        found = SubElement(root, "TIER", {"LINGUISTIC_TYPE_REF": kind, **known})
        for (*_, text), span in zip(tier.annotations, spans, strict=False):
            annotation = SubElement(SubElement(found, "ANNOTATION"), "ALIGNABLE_ANNOTATION", span)
            SubElement(annotation, "ANNOTATION_VALUE").text = _valid(text)
    for kind, constraint in ((_WHOLE, {}), (_PART, {"CONSTRAINTS": _WITHIN})):
        alignable = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": kind, "TIME_ALIGNABLE": "true"}
        SubElement(root, "LINGUISTIC_TYPE", constraint | alignable)
    SubElement(root, "CONSTRAINT", DESCRIPTION=_MEANS, STEREOTYPE=_WITHIN)
    indent(root, "    ")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(root, encoding="unicode")}\n'


def _slots(order: Element, tiers: Sequence[Tier]) -> Iterator[dict[str, str]]:
    """Fill the order of time slots; the ids of each annotation and of its slots, tier by tier.

    ELAN tells by the order of slots what lies within what. At the same time, ends come before starts, those of parts
    before those of wholes, and starts of wholes before those of parts.
    """
    times = []
    number = 0
    for tier in tiers:
        depth = 0 if tier.parent is None else 1
        for start, end, _ in tier.annotations:
            number += 1
            times += [(start, depth, number, "TIME_SLOT_REF1"), (end, -1 - depth, number, "TIME_SLOT_REF2")]
    found = [{"ANNOTATION_ID": f"a{place}"} for place in range(1, number + 1)]
    for place, (ms, _, number, key) in enumerate(sorted(times), 1):
        SubElement(order, "TIME_SLOT", TIME_SLOT_ID=f"ts{place}", TIME_VALUE=str(ms))
        found[number - 1][key] = f"ts{place}"
    return iter(found)


def _valid(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
