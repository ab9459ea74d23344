"""Words of a reference above what systems recognised, column by column."""

from collections.abc import Sequence
from itertools import zip_longest

from asr.html import Html, element
from asr.report import GAP, mark
from asr.wer import Column

# What was said, and what each system heard; None is a gap.
Columns = Sequence[tuple[str | None, Sequence[str | None]]]
_KINDS = {"S": "substituted", "D": "deleted", "I": "inserted"}

LEGEND = element(
    "p",
    *[
        part
        for letter, kind in _KINDS.items()
        for part in (element("b", letter, class_=f"word {letter}"), f" {kind}   ")
    ],
    class_="legend",
)


def of_one(alignment: Sequence[Column]) -> Columns:
    """An alignment of one system."""
    return [(said, (heard,)) for said, heard in alignment]


def of_two(a: Sequence[Column], b: Sequence[Column]) -> Columns:
    """Two alignments with the same reference, joined at its words; insertions between two words stand side by side."""
    columns: list[tuple[str | None, tuple[str | None, str | None]]] = []
    for (extra_a, said, heard_a), (extra_b, _, heard_b) in zip(_by_word(a), _by_word(b), strict=True):
        columns += [(None, pair) for pair in zip_longest(extra_a, extra_b)]
        if said is not None:
            columns.append((said, (heard_a, heard_b)))
    return columns


def _by_word(alignment: Sequence[Column]) -> list[tuple[list[str], str | None, str | None]]:
    """For each word of the reference, and its end (None): what was inserted before it, the word, what was heard."""
    found: list[tuple[list[str], str | None, str | None]] = []
    inserted: list[str] = []
    for said, heard in alignment:
        if said is None:
            inserted.append(heard or "")
        else:
            found.append((inserted, said, heard))
            inserted = []
    return [*found, (inserted, None, None)]


def picture(columns: Columns, names: Sequence[str]) -> Html:
    """The columns as a list that wraps; each error is marked by a letter and a colour.

    Args:
        columns: see `of_one` and `of_two`.
        names: of the rows below the reference.
    """
    # The names stand outside the list, whose text direction is that of the first letter in it.
    labels = element("div", *[element("span", name) for name in ("said", *names)], class_="labels", aria_hidden="true")
    items = [
        element("li", element("span", said or GAP, class_="word"), *[_heard(said, heard) for heard in row])
        for said, row in columns
    ]
    return element("div", labels, element("ol", *items, dir="auto"), class_="aligned")


def _heard(said: str | None, heard: str | None) -> Html:
    letter = " " if said is None and heard is None else mark((said, heard))
    if letter == " ":
        return element("span", heard or GAP, class_="word right")
    sign = element("abbr", letter, title=_KINDS[letter])
    return element("span", heard or GAP, " ", sign, class_=f"word {letter}")


STYLE = """
.aligned { display: flex; gap: .7rem; font-size: .95rem; line-height: 1.5; margin: .4rem 0; }
.aligned ol { display: flex; flex-wrap: wrap; gap: .5rem .35rem; margin: 0; padding: 0;
  min-width: 0; list-style: none; }
.aligned li { display: flex; flex-direction: column; min-width: 0; }
.labels { display: flex; flex-direction: column; color: var(--soft); flex: none; max-width: 6rem; }
.labels span { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.word { padding: 0 .25rem; border-radius: .2rem; overflow-wrap: anywhere; }
.right { color: var(--soft); }
.S { background: var(--sub); }
.D { background: var(--del); }
.I { background: var(--ins); }
.word abbr { font-size: .75em; font-weight: 700; text-decoration: none; }
.legend { white-space: pre-wrap; }
"""
