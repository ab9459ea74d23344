"""The files that the configuration of a decoder names: language model, lexicon, hotwords and priors."""

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from asr import priors
from asr.characters import composed
from asr.config import DecodeConfig
from asr.decode.inputs import DEFAULT_HOTWORD_WEIGHT
from asr.emissions import Vocabulary
from asr.errors import DecodeError
from asr.lexicon import add, entries
from asr.lines import numbered_lines

if TYPE_CHECKING:
    from asr.decode import NGram


@dataclass(frozen=True)
class Resources:
    """What a beam reads from files; None for files that the configuration does not name."""

    lm: "NGram | None" = None
    lexicon: list[str] | dict[str, list[list[str]]] | None = None
    hotwords: dict[str, float] | None = None
    priors: NDArray[np.float64] | None = None

    @classmethod
    def load(cls, config: DecodeConfig, vocabulary: Vocabulary, lm: "NGram | None" = None) -> "Resources":
        """Read the files of a configuration; `lm` is its language model, if that was read already.

        Raises:
            DecodeError: a file cannot be read or a line is wrong; the message names file and line.
        """
        from asr.decode import NGram

        lexicon = read_lexicon(Path(config.lexicon), vocabulary) if config.lexicon else None
        allowed = vocabulary.lexicon if lexicon is None else frozenset(lexicon)
        return cls(
            lm=lm or (NGram.load(config.lm) if config.lm else None),
            lexicon=lexicon,
            hotwords=read_hotwords(Path(config.hotwords), vocabulary, allowed) if config.hotwords else None,
            priors=priors.read(Path(config.priors), vocabulary.labels) if config.priors else None,
        )


def read_lexicon(path: Path, vocabulary: Vocabulary) -> list[str] | dict[str, list[list[str]]]:
    """Read the words of a lexicon: one a line, spelled by its characters; or word TAB labels separated by spaces.

    Several lines for one word are several spellings. Blank lines are skipped. If labels are phones, words without a
    spelling have the pronunciations that the vocabulary knows. Such words may be written in any Unicode form.

    Raises:
        DecodeError: the file cannot be read or holds no word, the two forms are mixed, a word holds a space or has no
            pronunciation, or a spelling holds something that is not a label. The message names file and line.
    """
    characters, labels = _characters(vocabulary), set(vocabulary.labels)
    words: dict[str, list[list[str]]] = {}
    spelled = vocabulary.lexicon is not None
    for entry in entries(path, DecodeError):
        if entry.labels is None:
            entry = replace(entry, word=_as_written(entry.word, characters, vocabulary.lexicon))
        if vocabulary.lexicon is not None and entry.labels is None:
            if entry.word not in vocabulary.lexicon:
                raise DecodeError(
                    f"{entry.where}: word {entry.word!r} has no pronunciation in the model: give one after a TAB"
                )
            words[entry.word] = [list(spelling) for spelling in vocabulary.lexicon[entry.word]]
            continue
        spelled = entry.labels is not None
        pieces, known = (list(entry.word), characters) if entry.labels is None else (entry.labels, labels)
        unknown = next((piece for piece in pieces if piece not in known), None)
        if spelled and unknown is not None:
            raise DecodeError(f"{entry.where}: word {entry.word!r} is spelled with {unknown!r}, which is no label")
        if unknown is not None:
            hint = _other_case(entry.word, characters)
            raise DecodeError(f"{entry.where}: word {entry.word!r} holds {unknown!r}, which no label writes{hint}")
        add(words, entry.word, pieces)
    return words if spelled else list(words)


def read_hotwords(path: Path, vocabulary: Vocabulary, allowed: Collection[str] | None = None) -> dict[str, float]:
    """Phrase -> natural-log weight, from lines `phrase` or `phrase TAB weight`; the default is 5.

    Phrases may be written in any Unicode form.

    Args:
        path: a file.
        vocabulary: what labels write.
        allowed: the words that the beam may find; None: any.

    Raises:
        DecodeError: the file cannot be read or holds no phrase, a weight is not a finite number, a phrase occurs twice,
            or has a character that no label writes (another case?) or a word that is not allowed. The message names
            file and line.
    """
    characters = _characters(vocabulary)
    found: dict[str, float] = {}
    for place, line in numbered_lines(path, "hotwords", DecodeError):
        where = f"{path}:{place}"
        text, tab, number = line.partition("\t")
        phrase = " ".join(_as_written(text, characters, allowed).split())
        if not phrase:
            raise DecodeError(f"{where}: wanted phrase TAB weight, found {line!r}")
        no_tab = _missing_tab(phrase) if not tab else ""
        if allowed is not None:
            lacking = next((word for word in phrase.split() if word not in allowed), None)
            if lacking is not None:
                raise DecodeError(f"{where}: phrase {phrase!r}: the lexicon has no word {lacking!r}{no_tab}")
        elif not characters.issuperset(phrase.replace(" ", "")):
            unknown = next(character for character in phrase.replace(" ", "") if character not in characters)
            hint = no_tab or _other_case(phrase, characters)
            raise DecodeError(f"{where}: phrase {phrase!r} holds {unknown!r}, which no label writes{hint}")
        if phrase in found:
            raise DecodeError(f"{where}: phrase {phrase!r} stands twice")
        try:
            found[phrase] = float(number) if tab else DEFAULT_HOTWORD_WEIGHT
        except ValueError as error:
            raise DecodeError(f"{where}: weight must be a number, found {number!r}") from error
        if not abs(found[phrase]) < float("inf"):
            raise DecodeError(f"{where}: weight must be finite, found {number!r}")
    if not found:
        raise DecodeError(f"{path}: holds no phrase")
    return found


def _characters(vocabulary: Vocabulary) -> set[str]:
    return {character for text in vocabulary.reading.texts for character in text}


def _as_written(text: str, characters: Collection[str], words: Collection[str] | None) -> str:
    """A text in the Unicode form that the labels write, or that has these words; that of transcripts if none does."""

    def fits(form: str) -> bool:
        known, parts = (characters, list("".join(form.split()))) if words is None else (words, form.split())
        return all(part in known for part in parts)

    forms = (composed(text), text, unicodedata.normalize("NFD", composed(text)))
    return next(filter(fits, forms), forms[0])


def _other_case(text: str, characters: set[str]) -> str:
    """A hint if the text could be spelled in another case, else nothing."""
    for change, kind in ((str.lower, "small letters"), (str.upper, "capitals")):
        if characters.issuperset(change(text).replace(" ", "")):
            return f": the labels are {kind}"
    return ""


def _missing_tab(phrase: str) -> str:
    """A hint if the last word of a phrase is a number, else nothing."""
    try:
        float(phrase.split()[-1])
    except ValueError:
        return ""
    return ": a TAB must come before a weight"
