"""HTML pages in one file: elements whose text is escaped, tables, and the frame that all pages share.

A page needs no network and runs no script. Its content security policy forbids both, so that a transcript or a file
name that looks like markup stays harmless even where a mistake lets it through.
"""

import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

# Control characters are not allowed in an HTML document, and half of a surrogate pair cannot be written at all.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_VOID = {"br", "hr", "img", "meta"}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; base-uri 'none'"


class Html(str):
    """Markup, as opposed to text: `element` takes it as it is, and escapes any other string."""

    __slots__ = ()


def printable(text: str) -> str:
    """Text with U+FFFD in place of characters that neither a page nor a picture can hold."""
    return _UNPRINTABLE.sub("\ufffd", text)


def escape(text: str) -> Html:
    """Text as markup that shows it; characters that no page can hold become U+FFFD."""
    return text if isinstance(text, Html) else Html(html.escape(printable(text)))


def element(tag: str, *content: str, **attributes: str | bool | None) -> Html:
    """`<tag attributes>content</tag>`.

    Args:
        tag: name of the element.
        content: text, which is escaped, and `Html`.
        attributes: values, which are escaped; True stands for an attribute without a value, False and None for none.
            A trailing underscore is dropped (`class_`) and the others become hyphens (`aria_label`).
    """
    shown = []
    for key, value in attributes.items():
        name = key.rstrip("_").replace("_", "-")
        if value is True:
            shown.append(f" {name}")
        elif value not in (False, None):
            shown.append(f' {name}="{escape(str(value))}"')
    start = f"<{tag}{''.join(shown)}>"
    return Html(start if tag in _VOID else f"{start}{join(content)}</{tag}>")


def join(parts: Iterable[str]) -> Html:
    """The parts one after the other; those that are text are escaped."""
    return Html("".join([escape(part) for part in parts]))


def table(
    caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int | Sequence[int] = 1
) -> Html:
    """A table whose first column names the rows.

    Args:
        caption: what the table is; it stands above it.
        heads: names of the columns.
        rows: cells, as many as there are heads.
        text_columns: the first so many columns, or those with these numbers, hold text; the others hold numbers, which
            are set flush right.
    """
    text = range(text_columns) if isinstance(text_columns, int) else text_columns
    kinds = [None if place in text else "number" for place in range(len(heads))]
    head = [element("th", name, scope="col", class_=kind) for name, kind in zip(heads, kinds, strict=True)]
    body = []
    for row in rows:
        name, *cells = row
        columns = [element("td", cell, class_=kind) for cell, kind in zip(cells, kinds[1:], strict=True)]
        body.append(element("tr", element("th", name, scope="row"), *columns))
    whole = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *body),
    )
    return scrolling(caption, whole)


def scrolling(name: str, content: Html) -> Html:
    """Content that scrolls by itself, also with the keyboard, where it is too wide for a screen."""
    return element("div", content, class_="wide", tabindex="0", role="region", aria_label=name)


def facts(pairs: Iterable[tuple[str, str]]) -> Html:
    """Names with their values, one below the other."""
    return element("dl", *[part for name, value in pairs for part in (element("dt", name), element("dd", value))])


def details(summary: str, *content: str) -> Html:
    """What is folded away until the reader opens it; printing shows it all the same."""
    return element("details", element("summary", summary), *content)


def section(anchor: str, title: str, *content: str, level: int = 2) -> Html:
    """A part of a page under its heading; `anchor` is what links lead to."""
    return element("section", element(f"h{level}", title), *content, id=anchor)


_MARK = element("meta", name="generator", content="asr")


def is_own_page(path: Path) -> bool:
    """Whether a file is a page that `page` made."""
    with path.open("rb") as file:
        return _MARK.encode() in file.read(200)


def page(title: str, parts: Sequence[tuple[str, str, Html]], *, style: str = "") -> Html:
    """A whole page.

    Args:
        title: its name, which is also its first heading.
        parts: anchor, heading and content of each; they are listed at the top.
        style: CSS of this page only, placed after that of all pages.
    """
    links = [element("li", element("a", name, href=f"#{anchor}")) for anchor, name, _ in parts]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        _MARK,
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(_STYLE + style + _PRINT)),
    )
    body = element(
        "body",
        element("header", element("h1", title), element("nav", element("ul", *links), aria_label="On this page")),
        element("main", *[section(*part) for part in parts]),
    )
    return Html(f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n")


_STYLE = """
:root {
  color-scheme: light dark;
  --back: #fff; --ink: #1b1b1b; --soft: #595959; --line: #c9c9c9; --tint: #f3f3f3; --link: #0b57b0;
  --sub: #ffe3a8; --del: #ffd0cc; --ins: #cfe3ff; --one: #0b57b0; --two: #a83200;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #161616; --ink: #ececec; --soft: #ababab; --line: #4a4a4a; --tint: #232323; --link: #8ab8ff;
    --sub: #5f4300; --del: #6b1f19; --ins: #123f76; --one: #8ab8ff; --two: #ffa071;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 68rem; padding: 1rem; background: var(--back); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word;
}
h1 { font-size: 1.6rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; border-top: 1px solid var(--line); margin-top: 2.5rem; padding-top: 1rem; }
h3 { font-size: 1.1rem; margin-top: 1.8rem; }
h1, h2, h3, h4 { text-wrap: balance; }
a { color: var(--link); }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; list-style: none; padding: 0; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.soft { color: var(--soft); }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .92rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
tbody th { font-weight: 400; }
thead th { border-bottom: 2px solid var(--soft); }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 1rem 0; }
dt { color: var(--soft); }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
details { margin: .8rem 0; }
summary { cursor: pointer; padding: .3rem 0; }
@media (max-width: 30rem) {
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
  th, td { padding: .25rem .45rem; }
}
"""

# Placed after the style of a page, so that it has the last word.
_PRINT = """
@page { margin: 1.5cm; }
@media print {
  :root {
    color-scheme: light; --back: #fff; --ink: #000; --soft: #444; --line: #999; --tint: #fff; --link: #000;
    --sub: #ffe3a8; --del: #ffd0cc; --ins: #cfe3ff; --one: #000; --two: #a83200;
  }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav, audio { display: none; }
  .wide { overflow: visible; }
  h2, h3, h4 { break-after: avoid; }
  tr, figure, article { break-inside: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
  * { print-color-adjust: exact; }
}
"""
