"""Elements, tables and the frame of a page; text never becomes markup."""

import pytest

from asr.html import Html, details, element, escape, facts, join, page, table
from page_parser import read_page

EVIL = "<script>alert(1)</script> & \"'"


def test_text_is_escaped_once() -> None:
    assert escape(EVIL) == "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;&#x27;"
    assert escape(escape(EVIL)) == escape(EVIL)
    assert isinstance(escape("a"), Html)


@pytest.mark.parametrize("character", ["\0", "\x1b", "\x7f", "\x9f", "\ud800"])
def test_what_no_page_can_hold_is_replaced(character: str) -> None:
    assert escape(f"a{character}b") == "a\ufffdb"
    assert escape("a\tb\nc\u2028\U0001f600") == "a\tb\nc\u2028\U0001f600"


def test_element() -> None:
    assert element("p", "a < b", element("b", "c")) == "<p>a &lt; b<b>c</b></p>"
    assert element("audio", controls=True, loop=False, id=None, class_="x", aria_label='"') == (
        '<audio controls class="x" aria-label="&quot;"></audio>'
    )
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_join() -> None:
    assert join(["<", element("b", "x")]) == "&lt;<b>x</b>"


def test_page() -> None:
    shown = table(EVIL, ["name", "count"], [[EVIL, "3"], [Html("<b>x</b>"), "4"]])
    content = join([shown, facts([("who", EVIL)]), details(EVIL, "inside")])
    root = read_page(page(EVIL, [("one", EVIL, content)]))
    assert [node.text for node in root.all("title", "h1", "a", "h2", "summary")] == [EVIL] * 5
    assert root.table(EVIL) == [["name", "count"], [EVIL, "3"], ["x", "4"]]
    assert root.facts() == {"who": EVIL}
    assert [cell.attributes.get("class") for cell in root.all("td")] == ["number", "number"]


def test_a_row_has_as_many_cells_as_there_are_heads() -> None:
    with pytest.raises(ValueError, match="zip"):
        table("t", ["a", "b"], [["1"]])
