"""Regular expressions over words, as trees; `asr.decode.grammar` says how they are written."""

import re
from dataclasses import dataclass
from typing import NoReturn

from asr.errors import DecodeError

RESERVED = ("<unk>", "<s>", "</s>")  # of a language model: no words of a sentence
NO_WORDS = {*RESERVED, "<UNK>"}  # as other programs write them too
_DEEPEST = 100  # parentheses within each other
_TOKEN = re.compile(
    r"\s*(?:(?P<word>(?:\\\S|[^\s\\()|?*+{}<>])+)|<(?P<part>[^\s<>]+)>|\{(?P<least>\d{1,6})(?P<most>,\d{0,6})?\}"
    r"|(?P<sign>[()|?*+]))"
)
_REPEATS: dict[str, tuple[int, int | None]] = {"?": (0, 1), "*": (0, None), "+": (1, None)}


@dataclass(frozen=True)
class Word:
    """A word, without the backslashes it was written with."""

    text: str


@dataclass(frozen=True)
class Part:
    """The expression that is defined elsewhere as `name`; `where` is what messages call the place of this use."""

    name: str
    where: str


@dataclass(frozen=True)
class Concatenation:
    """All items, in their order."""

    items: list["Expression"]


@dataclass(frozen=True)
class Alternation:
    """One of the options."""

    options: list["Expression"]


@dataclass(frozen=True)
class Repetition:
    """The item at least and at most so many times; None: any number."""

    item: "Expression"
    least: int
    most: int | None


Expression = Word | Part | Concatenation | Alternation | Repetition


def parse(text: str, where: str) -> Expression:
    """The tree of an expression.

    Args:
        text: the expression.
        where: what messages call its place.

    Raises:
        DecodeError: it is not well-formed; the message shows from where on.
    """
    return _Parser(text, where).read()


class _Parser:
    """Reads one expression (recursive descent)."""

    def __init__(self, text: str, where: str) -> None:
        self.text = text
        self.where = where
        self.place = 0
        self.depth = 0

    def read(self) -> Expression:
        node = self._choice()
        if self.place < len(self.text):
            self._fail("here is a ) without its (")
        return node

    def _peek(self) -> re.Match[str] | None:
        """The next token; None at the end."""
        found = _TOKEN.match(self.text, self.place)
        if found is None and self.text[self.place :].strip():
            self._fail("wanted a word, <name>, ( ) | ? * + or {least,most}; a backslash makes a sign a letter")
        return found

    def _take(self, sign: str) -> bool:
        found = self._peek()
        if found is None or found["sign"] != sign:
            return False
        self.place = found.end()
        return True

    def _choice(self) -> Expression:
        options = [self._sequence()]
        while self._take("|"):
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Alternation(options)

    def _sequence(self) -> Expression:
        items: list[Expression] = []
        while (item := self._item()) is not None:
            items.append(self._repeated(item))
        if not items:
            self._fail("wanted a word, <name> or (")
        return items[0] if len(items) == 1 else Concatenation(items)

    def _item(self) -> Expression | None:
        found = self._peek()
        if found is None:
            return None
        if found["word"] is not None:
            self.place = found.end()
            word = re.sub(r"\\(.)", r"\1", found["word"])
            if word in NO_WORDS:
                self._fail(f"{word} cannot be a word")
            return Word(word)
        if found["part"] is not None:
            self.place = found.end()
            return Part(found["part"], self.where)
        if found["sign"] != "(":
            return None
        opened, self.place, self.depth = self.place, found.end(), self.depth + 1
        if self.depth > _DEEPEST:
            self._fail(f"more than {_DEEPEST} parentheses within each other")
        inside = self._choice()
        if not self._take(")"):
            self.place = opened
            self._fail("this ( is never closed")
        self.depth -= 1
        return inside

    def _repeated(self, item: Expression) -> Expression:
        """The item with what is said after it of how often it occurs."""
        while (found := self._peek()) is not None:
            if found["least"] is not None:
                least = int(found["least"])
                most = least if found["most"] is None else int(found["most"][1:]) if found["most"][1:] else None
                if most is not None and most < least:
                    self._fail(f"at least {least} times and at most {most}")
            elif found["sign"] in _REPEATS:
                least, most = _REPEATS[found["sign"]]
            else:
                break
            self.place = found.end()
            item = Repetition(item, least, most)
        return item

    def _fail(self, problem: str) -> NoReturn:
        rest = self.text[self.place :].strip()
        shown = f"before {rest[:40]!r}" if rest else f"at the end of {self.text.strip()[-40:]!r}"
        raise DecodeError(f"{self.where}: {shown}: {problem}")
