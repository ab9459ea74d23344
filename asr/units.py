"""What labels stand for: characters, pieces of words, or phones; how text becomes such symbols, and symbols text."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Protocol

from asr.errors import TextError
from asr.files import atomic_path, write_text_atomic
from asr.lexicon import Lexicon, first_words, labels_of, read_pronunciations, to_text

BPE_FILE = "bpe.model"
PRONUNCIATIONS_FILE = "pronunciations.txt"
SPACE = " "
WORD_MARK = "\u2581"  # sentencepiece's, at the beginning of a word

Symbols = list[tuple[str, int | None]]


class Units(Protocol):
    """One way to write words in labels.

    Attributes:
        space: what begins a word, in the form that decoders take.
        lexicon: the pronunciations of words, if symbols are phones.
    """

    space: str
    lexicon: Lexicon | None

    @property
    def content(self) -> bytes:
        """What decides the symbols of a text, besides the labels."""

    def split(self, text: str, label_of: Mapping[str, int]) -> Symbols:
        """The symbols of a normalised text in order, each with its label; None where there is none."""

    def join(self, symbols: Sequence[str]) -> str:
        """The text that the symbols of labels stand for."""

    def save(self, folder: Path) -> None:
        """Write what `load_units` needs, besides the labels."""


class Characters:
    """Each character is a symbol, and so is the space between two words."""

    space = SPACE
    lexicon: Lexicon | None = None
    content = b""

    def split(self, text: str, label_of: Mapping[str, int]) -> Symbols:
        return [(character, label_of.get(character)) for character in text]

    def join(self, symbols: Sequence[str]) -> str:
        return " ".join("".join(symbols).split())

    def save(self, folder: Path) -> None:
        pass


class Pieces:
    """Sentencepiece's byte-pair encoding.

    Args:
        content: the content of its model file.

    Raises:
        TextError: the model cannot be read.
    """

    space = WORD_MARK
    lexicon: Lexicon | None = None

    def __init__(self, content: bytes) -> None:
        import sentencepiece

        self.content = content
        try:
            self._processor: Any = sentencepiece.SentencePieceProcessor(model_proto=content)  # ships no types
        except RuntimeError as error:
            raise TextError(f"{BPE_FILE} is not a sentencepiece model: {error}") from error

    @classmethod
    def train(cls, texts: Sequence[str], size: int) -> "Pieces":
        """Learn `size` pieces; TextError if these texts do not allow so many or so few."""
        import io

        import sentencepiece

        model = io.BytesIO()
        kind: Literal["bpe"] = "bpe"
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_writer=model,
                model_type=kind,
                vocab_size=size,
                character_coverage=1.0,
                normalization_rule_name="identity",  # normalised already
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                minloglevel=2,
            )
        except RuntimeError as error:
            most = re.search(r"<= (\d+)", str(error))
            allowed = f"at most {most[1]} for this text" if most else "another text.bpe_size may be possible"
            reason = "" if most else f": {error}"
            raise TextError(
                f"sentencepiece cannot make text.bpe_size={size} pieces of this text; {allowed}, or take the labels of "
                f"another run (data.vocabulary=RUN){reason}"
            ) from error
        return cls(model.getvalue())

    @property
    def symbols(self) -> list[str]:
        """All pieces. Piece 0, sentencepiece's <unk>, is not among them: CTC has no use for it."""
        return [self._processor.id_to_piece(index) for index in range(1, self._processor.get_piece_size())]

    def split(self, text: str, label_of: Mapping[str, int]) -> Symbols:
        pieces = map(str, self._processor.encode(text, out_type=str))
        return [(piece, label_of.get(piece)) for piece in pieces]

    def join(self, symbols: Sequence[str]) -> str:
        return " ".join("".join(symbols).replace(WORD_MARK, " ").split())

    def save(self, folder: Path) -> None:
        with atomic_path(folder / BPE_FILE) as temporary:
            temporary.write_bytes(self.content)


class Phones:
    """Words as they are pronounced, with a space between two.

    A word is learned with the first of its pronunciations. A sequence of phones is read as the first word with that
    pronunciation; if no word has it, it is written as it is.

    Args:
        lexicon: the pronunciations of words.
    """

    space = SPACE

    def __init__(self, lexicon: Lexicon) -> None:
        self._spellings = lexicon
        self.lexicon: Lexicon | None = lexicon

    @property
    def content(self) -> bytes:
        return to_text(self._spellings).encode()

    @property
    def symbols(self) -> list[str]:
        """The space and every phone of the lexicon."""
        return [SPACE, *sorted(labels_of(self._spellings))]

    def split(self, text: str, label_of: Mapping[str, int]) -> Symbols:
        found: Symbols = []
        spoken = False
        for word in text.split():
            if word not in self._spellings:
                found.append((word, None))  # if it is dropped, no space for it is left
                continue
            found += [(SPACE, label_of.get(SPACE))] if spoken else []
            found += [(phone, label_of.get(phone)) for phone in self._spellings[word][0]]
            spoken = True
        return found

    def join(self, symbols: Sequence[str]) -> str:
        between = groupby(symbols, key=lambda symbol: symbol == SPACE)
        words = [tuple(phones) for is_space, phones in between if not is_space]
        return " ".join(self._word_of.get(word, "".join(word)) for word in words)

    @cached_property
    def _word_of(self) -> dict[tuple[str, ...], str]:
        return first_words(self._spellings)

    def save(self, folder: Path) -> None:
        write_text_atomic(folder / PRONUNCIATIONS_FILE, to_text(self._spellings))


def load_units(folder: Path, unit: Literal["char", "bpe", "phone"]) -> Units:
    """Load what `save` wrote into a run folder.

    Raises:
        TextError: a file is missing or damaged.
    """
    if unit == "char":
        return Characters()
    if unit == "phone":
        return Phones(read_pronunciations(folder / PRONUNCIATIONS_FILE, TextError))
    try:
        return Pieces((folder / BPE_FILE).read_bytes())
    except OSError as error:
        raise TextError(f"{folder}: cannot read the vocabulary: {error}") from error
    except TextError as error:
        raise TextError(f"{folder}: {error}") from error
