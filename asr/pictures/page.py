"""The folders that `asr inspect` writes: a page that holds pictures, which lie beside it as PNG and SVG."""

import base64
from collections.abc import Sequence
from pathlib import Path

from asr import html
from asr.files import write_text_atomic
from asr.html import Html, element

PAGE = "index.html"

_STYLE = """
figure { margin: 0; }
.wide img { display: block; max-width: none; }
@media print { .wide img { max-width: 100%; } }
"""


def write_page(title: str, sections: Sequence[tuple[str, str, list[Html]]], folder: Path) -> Path:
    """Write a page of these sections (anchor, heading, content) into a folder; returns its path."""
    parts = [(anchor, name, html.join(content)) for anchor, name, content in sections]
    write_text_atomic(folder / PAGE, html.page(title, parts, style=_STYLE))
    return folder / PAGE


def picture_files(folder: Path, stems: Sequence[str]) -> list[Path]:
    """The files of the pictures with these names."""
    return [folder / (stem + suffix) for stem in stems for suffix in (".png", ".svg")]


def picture(png: bytes, alt: str, caption: str) -> Html:
    """A picture inside the page at its own size."""
    address = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    image = html.scrolling(caption, element("img", src=address, alt=alt))
    return element("figure", image, element("figcaption", caption))
