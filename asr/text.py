"""Transcripts: normalisation and tokenizers.

Normalisation, in this order:

1. Unicode NFKC: compatibility forms (full-width letters, ligatures) become their plain equivalents and accents are
   composed with their letter.
2. Typographic apostrophes (U+2018, U+2019, U+02BC) become `'`.
3. `case: lower | upper | keep`, by the rules that Unicode has for all languages: Turkish, whose i and I are no pair,
   is best written in one case and kept.
4. `punctuation: strip` makes every character of a Unicode punctuation or symbol category a space (`well-known` ->
   `well known`), except an apostrophe between two letters (`don't`) and `.`, `,` or `:` between two digits (`3.5`).
5. Characters that show nothing (controls, zero-width spaces, direction marks, soft hyphens) go, but for the two joiners
   U+200C and U+200D, which scripts need.
6. White space of any kind becomes one space; the ends are trimmed.

Numbers are left as they are written: "42" is two symbols, and spelling it out belongs to the corpus, not to us.
Training transcripts and references for scoring go through the same function.
"""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from asr.config import TextConfig
from asr.errors import TextError
from asr.files import atomic_path, write_text_atomic

BLANK = 0
BLANK_NAME = "<blank>"
SPACE_NAME = "<space>"
TOKENS_FILE = "tokens.txt"
BPE_FILE = "bpe.model"
_APOSTROPHES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'"})


def normalize(text: str, config: TextConfig) -> str:
    """The transcript in the form that the recogniser learns and is scored in; see the module's rules."""
    text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES)
    if config.case == "lower":
        text = text.lower()
    elif config.case == "upper":
        text = text.upper()
    if config.punctuation == "strip":
        text = "".join(_without_punctuation(text))
    return " ".join("".join(map(_visible, text)).split())


def _visible(character: str) -> str:
    invisible = unicodedata.category(character) in ("Cf", "Cc") and not character.isspace()
    return "" if invisible and character not in "\u200c\u200d" else character


def _without_punctuation(text: str) -> Iterable[str]:
    for position, character in enumerate(text):
        if unicodedata.category(character)[0] not in "PS":
            yield character
            continue
        before, after = text[position - 1 : position], text[position + 1 : position + 2]
        inside_word = character == "'" and _is(before, "LM") and _is(after, "LM")  # M: accents and vowel signs
        inside_number = character in ".,:" and _is(before, "N") and _is(after, "N")
        yield character if inside_word or inside_number else " "


def _is(character: str, categories: str) -> bool:
    return bool(character) and unicodedata.category(character)[0] in categories


class Tokenizer:
    """Maps normalised text to labels and back; label 0 is the CTC blank.

    Attributes:
        tokens: (V,) symbol of each label; `tokens[0]` is `<blank>`. Spaces are stored as " " in the character
            tokenizer; BPE pieces carry sentencepiece's word mark (U+2581).
        config: the normalisation that belongs to the vocabulary.
    """

    def __init__(self, tokens: Sequence[str], config: TextConfig, bpe_model: bytes | None = None) -> None:
        if not tokens or tokens[BLANK] != BLANK_NAME:
            raise TextError(f"the first token must be {BLANK_NAME}, found {tokens[0] if tokens else 'nothing'!r}")
        twice = [token for token, count in Counter(tokens).items() if count > 1]
        if twice:
            raise TextError(f"token {twice[0]!r} stands more than once in the vocabulary")
        self.tokens = list(tokens)
        self.config = config
        self._label_of = {token: label for label, token in enumerate(tokens)}
        self._bpe_model = bpe_model
        self._bpe = _load_bpe(bpe_model) if bpe_model is not None else None

    def __len__(self) -> int:
        return len(self.tokens)

    def digest(self) -> str:
        """Of what decides the labels of a normalised text."""
        digest = hashlib.blake2b("\n".join(self.tokens).encode(), digest_size=16)
        digest.update(self._bpe_model or b"")
        return digest.hexdigest()

    def normalize(self, text: str) -> str:
        """`normalize` with this tokenizer's configuration."""
        return normalize(text, self.config)

    def encode(self, text: str, *, where: str) -> list[int]:
        """Labels of a transcript, without blanks.

        Args:
            text: transcript; it is normalised here.
            where: the record's name, for the error message.

        Raises:
            TextError: nothing is left after normalisation, or a symbol is not in the vocabulary (unless
                `text.allow_oov`, which drops it; `out_of_vocabulary` counts what is dropped).
        """
        pieces = self._pieces(self.normalize(text))
        if not pieces:
            raise TextError(f"{where}: transcript {text!r} is empty after normalisation")
        unknown = [piece for piece in pieces if piece not in self._label_of]
        if unknown and not self.config.allow_oov:
            raise TextError(
                f"{where}: symbol {unknown[0]!r} is not in the vocabulary of {len(self)} tokens "
                f"(transcript {text!r}); text.allow_oov=true drops and counts such symbols"
            )
        labels = [self._label_of[piece] for piece in pieces if piece in self._label_of]
        if not labels:
            raise TextError(f"{where}: no symbol of transcript {text!r} is in the vocabulary")
        return labels

    def out_of_vocabulary(self, text: str) -> list[str]:
        """The symbols of a transcript that have no label, in order and with repeats."""
        return [piece for piece in self._pieces(self.normalize(text)) if piece not in self._label_of]

    def decode(self, labels: Iterable[int]) -> str:
        """Text of labels without blanks."""
        pieces = [self.tokens[label] for label in labels]
        if self._bpe is not None:
            return " ".join("".join(pieces).replace("\u2581", " ").split())
        return " ".join("".join(pieces).split())

    def save(self, folder: Path) -> None:
        """Write `tokens.txt` (one symbol a line, in label order) and for BPE `bpe.model`."""
        lines = [SPACE_NAME if token == " " else token for token in self.tokens]
        write_text_atomic(folder / TOKENS_FILE, "\n".join(lines) + "\n")
        if self._bpe_model is not None:
            with atomic_path(folder / BPE_FILE) as temporary:
                temporary.write_bytes(self._bpe_model)

    @classmethod
    def load(cls, folder: Path, config: TextConfig) -> "Tokenizer":
        """Read what `save` wrote.

        Raises:
            TextError: a file is missing or malformed.
        """
        try:
            lines = (folder / TOKENS_FILE).read_text(encoding="utf-8").rstrip("\n").split("\n")
            bpe_model = (folder / BPE_FILE).read_bytes() if config.unit == "bpe" else None
        except (OSError, UnicodeDecodeError) as error:
            raise TextError(f"{folder}: cannot read the vocabulary: {error}") from error
        tokens = [" " if line == SPACE_NAME else line for line in lines]
        try:
            return cls(tokens, config, bpe_model)
        except TextError as error:
            raise TextError(f"{folder}: {error}") from error

    def _pieces(self, normalized: str) -> list[str]:
        if self._bpe is None:
            return list(normalized)
        return [str(piece) for piece in self._bpe.encode(normalized, out_type=str)]


def build_tokenizer(texts: Iterable[str], config: TextConfig) -> Tokenizer:
    """A tokenizer whose vocabulary is what the training transcripts hold.

    Raises:
        TextError: no text, or sentencepiece cannot make a model of the wanted size.
    """
    normalized = [text for text in (normalize(text, config) for text in texts) if text]
    if not normalized:
        raise TextError("no transcript to build a vocabulary from")
    if config.unit == "char":
        return Tokenizer([BLANK_NAME, *sorted(set("".join(normalized)))], config)
    bpe_model = _train_bpe(normalized, config.bpe_size)
    processor = _load_bpe(bpe_model)
    # Piece 0 is sentencepiece's <unk>, which CTC has no use for: the blank takes its place.
    pieces = [processor.id_to_piece(index) for index in range(1, processor.get_piece_size())]
    return Tokenizer([BLANK_NAME, *pieces], config, bpe_model)


def _train_bpe(texts: Sequence[str], size: int) -> bytes:
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
        raise TextError(f"sentencepiece cannot make text.bpe_size={size} pieces of this text: {error}") from error
    return model.getvalue()


def _load_bpe(model: bytes) -> Any:  # sentencepiece ships no types
    import sentencepiece

    try:
        return sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise TextError(f"{BPE_FILE} is not a sentencepiece model: {error}") from error
