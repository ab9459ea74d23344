"""A strict reader of the pages: it takes nothing for granted that a browser would mend."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "br", "hr", "img"}
HEADINGS = ("h1", "h2", "h3", "h4")


@dataclass
class Node:
    """An element with its attributes, and its children in order (strings are text)."""

    tag: str
    attributes: dict[str, str | None]
    children: list["Node | str"] = field(default_factory=list)

    def all(self, *tags: str) -> list["Node"]:
        """The elements below with one of these names, in order; every one without names."""
        found = []
        for child in self.children:
            if isinstance(child, Node):
                found += [child] if not tags or child.tag in tags else []
                found += child.all(*tags)
        return found

    def one(self, anchor: str) -> "Node":
        """The element below with this id."""
        (found,) = [node for node in self.all() if node.attributes.get("id") == anchor]
        return found

    @property
    def text(self) -> str:
        """What is written in it."""
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def table(self, caption: str) -> list[list[str]]:
        """The rows of the one table below with this caption, heads first."""
        (found,) = [node for node in self.all("table") if node.all("caption")[0].text == caption]
        return [[cell.text for cell in row.all("th", "td")] for row in found.all("tr")]

    def facts(self) -> dict[str, str]:
        """Names and values of the first list of facts below."""
        parts = self.all("dl")[0].all("dt", "dd")
        return {name.text: value.text for name, value in zip(parts[::2], parts[1::2], strict=True)}


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"<{tag}> has an attribute twice"
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read_page(page: str) -> Node:
    """Parse a page and check what every page must have: balance, one title, headings without gaps, tables that can be
    read aloud, links that lead somewhere, no script, nothing from a network."""
    assert page.startswith("<!DOCTYPE html>\n")
    parser = _Parser()
    parser.feed(page.removeprefix("<!DOCTYPE html>\n"))
    parser.close()
    assert parser.open == [parser.root], "an element is not closed"
    root = parser.root
    (html,) = root.all("html")
    assert html.attributes["lang"] == "en"
    assert [len(root.all(tag)) for tag in ("title", "h1", "main", "nav")] == [1, 1, 1, 1]
    levels = [int(node.tag[1]) for node in root.all(*HEADINGS)]
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels
    metas = {node.attributes.get("http-equiv") or node.attributes.get("name") for node in root.all("meta")}
    assert metas >= {"Content-Security-Policy", "viewport", "color-scheme"}
    assert root.all("script", "link", "iframe", "object", "img") == []
    anchors = [node.attributes["id"] for node in root.all() if "id" in node.attributes]
    assert len(anchors) == len(set(anchors))
    for node in root.all():
        assert not any(name.startswith("on") for name in node.attributes), node.attributes
        for name in ("src", "href"):
            value = node.attributes.get(name)
            assert value is None or value.startswith("data:audio/flac;base64,") or value[1:] in anchors, value
        if node.tag in ("svg", "audio"):
            assert node.attributes["aria-label"]
    for table in root.all("table"):
        assert table.all("caption")[0].text
        heads, *rows = table.all("tr")
        assert {cell.attributes["scope"] for cell in heads.all("th", "td")} == {"col"}
        assert all(row.all("th")[0].attributes["scope"] == "row" for row in rows)
        assert {len(row.all("th", "td")) for row in rows} <= {len(heads.all("th", "td"))}
    return root
