"""Characters of a text: one form for those that look alike, and what kind each is."""

import re
import unicodedata

JOINERS = "\u200c\u200d"
# Before NFKC, which takes U+00B4 (and U+1FFD, the same) for a space with an accent, and U+0149 apart.
_REPLACED = {
    **dict.fromkeys([0x20E3, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)], ""),
    **dict.fromkeys([0x2018, 0x2019, 0x02BC, 0x00B4, 0x1FFD, 0x05F3], "'"),
    0x0149: "'n",
}
# After NFKC, which takes the Thai and Lao vowels apart, and makes the Arabic stroke from other characters.
_MENDED = (("\u0e4d\u0e32", "\u0e33"), ("\u0ecd\u0eb2", "\u0eb3"), ("\u0640", ""))
_FRACTIONS = "\u00bc-\u00be\u2150-\u215f\u2189"
_BEFORE_FRACTION = re.compile(rf"(?<=[\d{_FRACTIONS}])(?=[{_FRACTIONS}])")


def composed(text: str) -> str:
    """The text in one form where it may be written in several that look alike: the first three rules of `asr.text`."""
    return nfkc(_BEFORE_FRACTION.sub(" ", "".join(map(_visible, text)).translate(_REPLACED)))


def nfkc(text: str) -> str:
    """Unicode NFKC, but the Thai and Lao vowel `am` stays one character, and the Arabic stroke goes."""
    text = unicodedata.normalize("NFKC", text)
    for found, wanted in _MENDED:
        text = text.replace(found, wanted)
    return text


def _visible(character: str) -> str:
    invisible = unicodedata.category(character) in ("Cf", "Cc") and not character.isspace()
    return "" if invisible and character not in JOINERS else character


def _is_mark(character: str) -> bool:
    """Whether it is of a Unicode punctuation or symbol category."""
    return unicodedata.category(character)[0] in "PS"


def no_mark(text: str) -> str:
    """The first character that is no punctuation or symbol, or has another form that is none; empty if all are."""
    return next((one for one in text if not composed(one) or not all(map(_is_mark, composed(one)))), "")
