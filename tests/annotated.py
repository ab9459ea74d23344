"""TextGrids and ELAN's files, as Praat and ELAN write them."""

import re
from pathlib import Path

Spoken = tuple[float, float, str]

SAID = [(0, 0.5, ""), (0.5, 1.25, 'sie sagt "é\n! nö <a> 7"'), (1.25, 2, " so ")]


def text_grid(*tiers: tuple[str, list[Spoken]], points: bool = False) -> str:
    """The long form, as Praat writes it; perhaps with a tier of points in front."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", "xmax = 2 ", "tiers? <exists> "]
    lines += [f"size = {len(tiers) + points} ", "item []: "]
    if points:
        lines += ["    item [1]:", '        class = "TextTier" ', '        name = "tones" ', "        xmin = 0 "]
        lines += ["        xmax = 2 ", "        points: size = 1 ", "        points [1]:", "            number = 0.7 "]
        lines += ['            mark = "H*" ']
    for place, (name, spoken) in enumerate(tiers, 1 + points):
        lines += [f"    item [{place}]:", '        class = "IntervalTier" ', f'        name = "{name}" ']
        lines += ["        xmin = 0 ", "        xmax = 2 ", f"        intervals: size = {len(spoken)} "]
        for number, (start_s, end_s, text) in enumerate(spoken, 1):
            quoted = text.replace('"', '""')
            lines += [
                f"        intervals [{number}]:",
                f"            xmin = {start_s} ",
                f"            xmax = {end_s} ",
            ]
            lines += [f'            text = "{quoted}" ']
    return "\n".join(lines) + "\n"


def shortened(long: str) -> str:
    """The short form of a long one."""
    body = re.sub(r"^ *[\w ]+\[\d*\]: *\n", "", long, flags=re.MULTILINE)
    return re.sub(r"^ *(?:\w+(?:: size)? = |tiers\? )(?!\"ooText|\"TextGrid)", "", body, flags=re.MULTILINE)


SLOTS = {"ts1": 100, "ts2": 900, "ts3": 1000, "ts4": 1500, "ts5": None, "ts6": 1800}


def alignable(name: str, start: str, end: str, text: str) -> str:
    return (
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="{name}" TIME_SLOT_REF1="{start}" TIME_SLOT_REF2="{end}">\n'
        f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
    )


def about(name: str, other: str, text: str, before: str = "") -> str:
    previous = f' PREVIOUS_ANNOTATION="{before}"' if before else ""
    return (
        f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="{name}" ANNOTATION_REF="{other}"{previous}>\n'
        f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
    )


def tier(attributes: str, *annotations: str) -> str:
    return f'<TIER LINGUISTIC_TYPE_REF="default-lt" {attributes}>{"".join(annotations)}</TIER>'


def elan(*tiers: str, media: str = 'MIME_TYPE="audio/x-wav"') -> str:
    """A document as ELAN 6 writes it."""
    slots = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="{name}"{"" if ms is None else f" TIME_VALUE={chr(34)}{ms}{chr(34)}"}/>\n'
        for name, ms in SLOTS.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-05-01T12:00:00+01:00" '
        'FORMAT="3.0" VERSION="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">\n'
        '<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">\n'
        f'<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/talks/a.wav" {media} RELATIVE_MEDIA_URL="./a.wav"/>\n'
        f'<PROPERTY NAME="lastUsedAnnotationId">9</PROPERTY></HEADER>\n<TIME_ORDER>\n{slots}</TIME_ORDER>\n'
        + "\n".join(tiers)
        + '\n<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>\n</ANNOTATION_DOCUMENT>\n'
    )


def put(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))
    return path


GRID = text_grid(("a", [(0, 1, "b"), (1, 2, "c")]))
