"""Transcripts: normalisation, and labels in the units that `text.unit` names (asr/units.py).

Normalisation, in this order:

1. Invisible characters (controls, zero-width spaces, direction marks, soft hyphens), variation selectors, the box of a
   keycap (U+20E3) and the stroke that lengthens Arabic letters (U+0640) are removed. The joiners U+200C and U+200D,
   which some scripts need, stay between letters (or their marks), and U+200D after a mark, where it makes a letter of
   its own.
2. Typographic apostrophes (U+2018, U+2019, U+02BC, U+00B4, the Hebrew geresh U+05F3) become `'`, and a fraction is set
   off from the digits before it (`3½` -> `3 ½`).
3. Unicode NFKC: compatibility forms (full-width letters, ligatures) become their plain equivalents and accents are
   composed with their letter; only the Thai and Lao vowel `am` stays one character.
4. `punctuation: strip` makes every character of a Unicode punctuation or symbol category a space (`well-known` ->
   `well known`), accents on it included, except an apostrophe, `·` or the Hebrew gershayim (U+05F4) between two letters
   (`don't`, `col·lecció`) and `.`, `,`, `:` or their Arabic forms (U+066B, U+066C) between two digits (`3.5`). What
   `text.letters` names, in the form that rules 1 to 3 give it, is a letter: it stays wherever it stands, with its
   accents, and an apostrophe beside it may be between two letters.
5. `case: lower | upper | keep`, by the rules that Unicode has for all languages, then composed again. Turkish, in which
   i and I are not a pair, is best written in one case and kept.
6. White space of any kind becomes one space; the ends are trimmed.

Numbers are left as they are written: "42" is two symbols, and spelling it out is up to the corpus. NFKC writes
superscripts as plain digits (`10⁵` -> `105`).
Training transcripts and references for scoring go through the same function. A text in the normal form stays as it is:
spliced and labelled data are such texts. So U+02BC, a letter in Unicode, is no other apostrophe at the edge of a word.
"""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from asr.characters import JOINERS, composed, nfkc
from asr.config import TextConfig
from asr.errors import TextError, WordlessError
from asr.files import write_text_atomic
from asr.lexicon import Lexicon, add, labels_of, read_pronunciations
from asr.lines import SPACE_NAME, read_label, repeated, written_label
from asr.units import PRONUNCIATIONS_FILE, Characters, Phones, Pieces, Units, load_units

BLANK = 0
BLANK_NAME = "<blank>"
TOKENS_FILE = "tokens.txt"
_OF_WORDS = ("L", "M")  # M: accents and vowel signs
_MARKS = ("P", "S")


def normalize(text: str, config: TextConfig) -> str:
    """The transcript in the form that the recogniser learns and is scored in; see the module's rules."""
    text = "".join(_cleaned(composed(text), config))
    if config.case != "keep":
        text = text.lower() if config.case == "lower" else text.upper()
    # An accented letter may be one character in lower case and several in upper case.
    return " ".join(nfkc(text).split())


def removed(texts: Iterable[str], config: TextConfig) -> Counter[str]:
    """How often `normalize` removes each character of the texts, in the form of rule 3; invisible ones do not count."""
    # What is removed depends on the neighbours inside a word, and most words occur often.
    words = Counter(chain.from_iterable(map(str.split, texts)))
    doubtful = {
        character
        for character in set().union(*words)
        if any(_kind(written, config.letters) not in ("L", "N") for written in composed(character))
    }
    counts: Counter[str] = Counter()
    for word, times in words.items():
        if doubtful.isdisjoint(word):
            continue
        written = composed(word)
        for character, left in zip(written, _cleaned(written, config), strict=True):
            if character != left and not character.isspace() and character not in JOINERS:
                counts[character] += times
    return counts


def _cleaned(text: str, config: TextConfig) -> Iterator[str]:
    """What is left of each character: nothing of joiners that join nothing, and a space of punctuation to strip."""
    kinds = [*(_kind(character, config.letters) for character in text), ""]
    before = "Z"  # the kind of what was written last
    for character, kind, after in zip(text, kinds[:-1], kinds[1:], strict=True):
        written = character
        if character in JOINERS:
            joins = after in _OF_WORDS or (character == "\u200d" and before == "M")
            written = character if joins and before in _OF_WORDS else ""
        elif config.punctuation == "strip" and kind in _MARKS:
            inside_word = character in "'·\u05f4" and before in _OF_WORDS and after in _OF_WORDS
            inside_number = character in ".,:\u066b\u066c" and before == after == "N"
            written = character if inside_word or inside_number else " "
        elif config.punctuation == "strip" and kind == "M" and before == "Z":  # what it belonged to was punctuation
            written = ""
        yield written
        if written:
            before = "Z" if written.isspace() else kind


def _kind(character: str, letters: str) -> str:
    """The first letter of its Unicode category, but L for what `text.letters` names."""
    return "L" if character in letters else unicodedata.category(character)[0]


class Tokenizer:
    """Maps normalised text to labels and back; label 0 is the CTC blank.

    Attributes:
        tokens: (V,) symbol of each label; `tokens[0]` is `<blank>`. The space between words is " "; BPE pieces carry
            sentencepiece's word mark (U+2581) and have no space.
        config: the normalisation that belongs to the vocabulary.
        units: what the symbols are.
    """

    def __init__(self, tokens: Sequence[str], config: TextConfig, units: Units | None = None) -> None:
        if not tokens or tokens[BLANK] != BLANK_NAME:
            raise TextError(f"the first token must be {BLANK_NAME}, found {tokens[0] if tokens else 'nothing'!r}")
        twice = repeated(tokens)
        if twice is not None:
            raise TextError(f"token {twice!r} stands more than once in the vocabulary")
        self.tokens = list(tokens)
        self.config = config
        self.units: Units = units or Characters()
        self._label_of = {token: label for label, token in enumerate(tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def digest(self) -> str:
        """A digest of what decides the labels of a normalised text."""
        digest = hashlib.blake2b("\n".join(self.tokens).encode(), digest_size=16)
        digest.update(self.units.content)
        return digest.hexdigest()

    @property
    def lexicon(self) -> Lexicon | None:
        """The pronunciations of words, where labels are phones."""
        return self.units.lexicon

    def normalize(self, text: str) -> str:
        """`normalize` with this tokenizer's configuration."""
        return normalize(text, self.config)

    def encode(self, text: str, *, where: str, other_labels: str = "") -> list[int]:
        """Labels of a transcript, without blanks.

        Args:
            text: transcript; it is normalised here.
            where: the record's name, for the error message.
            other_labels: what the message says of a symbol that has no label: how to have other labels.

        Raises:
            WordlessError: nothing is left after normalisation.
            TextError: a symbol is not in the vocabulary, or a word not in the lexicon (unless `text.allow_oov`, which
                drops it; `out_of_vocabulary` counts what is dropped).
        """
        symbols = self.units.split(self.normalize(text), self._label_of)
        if not symbols:
            raise WordlessError(f"{where}: transcript {text!r} is empty after normalisation")
        unknown = [symbol for symbol, label in symbols if label is None]
        if unknown and not self.config.allow_oov:
            lacks = f"symbol {unknown[0]!r} is not in the vocabulary of {len(self)} tokens"
            if self.lexicon is not None:
                lacks = f"word {unknown[0]!r} has no pronunciation in the lexicon of {len(self.lexicon)} words"
            hints = ["write numbers as words, as they are said"] if any(map(str.isdecimal, unknown[0])) else []
            hints.append(f"text.allow_oov=true drops and counts such {'symbols' if self.lexicon is None else 'words'}")
            if other_labels and self.lexicon is None:
                hints.append(other_labels)
            raise TextError(f"{where}: {lacks} (transcript {text!r}); {'; '.join(hints)}")
        labels = [label for _, label in symbols if label is not None]
        if not labels:
            raise TextError(f"{where}: no symbol of transcript {text!r} is in the vocabulary")
        return labels

    def out_of_vocabulary(self, text: str) -> list[str]:
        """The symbols, or words, of a transcript that have no label, in order and with repeats."""
        return [symbol for symbol, label in self.units.split(self.normalize(text), self._label_of) if label is None]

    def decode(self, labels: Iterable[int]) -> str:
        """Text of labels without blanks."""
        return self.units.join([self.tokens[label] for label in labels])

    def save(self, folder: Path) -> None:
        """Write `tokens.txt` (one symbol a line, in label order), and what the units need beside it."""
        write_text_atomic(folder / TOKENS_FILE, "\n".join(map(written_label, self.tokens)) + "\n")
        self.units.save(folder)

    @classmethod
    def load(cls, folder: Path, config: TextConfig) -> "Tokenizer":
        """Read what `save` wrote.

        Raises:
            TextError: a file is missing or malformed.
        """
        try:
            lines = (folder / TOKENS_FILE).read_text(encoding="utf-8").rstrip("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise TextError(f"{folder}: cannot read the vocabulary: {error}") from error
        units, tokens = load_units(folder, config.unit), list(map(read_label, lines))
        lexicon = units.lexicon or {}
        if unknown := labels_of(lexicon).difference(tokens):
            phone = min(unknown)
            word = next(word for word in lexicon if phone in labels_of({word: lexicon[word]}))
            raise TextError(
                f"{folder / PRONUNCIATIONS_FILE}: word {word!r} is pronounced with {phone!r}, which is no label"
            )
        try:
            return cls(tokens, config, units)
        except TextError as error:
            raise TextError(f"{folder}: {error}") from error


def build_tokenizer(texts: Iterable[str], config: TextConfig) -> Tokenizer:
    """A tokenizer whose vocabulary is what the training transcripts hold, or the phones of a lexicon.

    Raises:
        TextError: no text, sentencepiece cannot make a model of the wanted size, or the lexicon cannot be read.
    """
    normalized = [text for text in (normalize(text, config) for text in texts) if text]
    if not normalized:
        raise TextError("no transcript to build a vocabulary from")
    if config.unit == "char":
        return Tokenizer([BLANK_NAME, *sorted(set("".join(normalized)))], config)
    if config.unit == "bpe":
        pieces = Pieces.train(normalized, config.bpe_size)
        return Tokenizer([BLANK_NAME, *pieces.symbols], config, pieces)
    if not config.lexicon:
        raise TextError("text.unit=phone needs text.lexicon=FILE, each line a word, TAB, its phones")
    phones = Phones(read_dictionary(Path(config.lexicon), config))
    return Tokenizer([BLANK_NAME, *phones.symbols], config, phones)


def read_dictionary(path: Path, config: TextConfig) -> dict[str, list[list[str]]]:
    """Pronunciations by word, with the words as normalised transcripts have them.

    A word that normalisation takes apart, such as `the(2)`, occurs in no transcript and is left out.

    Raises:
        TextError: the file cannot be used, or a phone has the name of the blank or the space.
    """
    found: dict[str, list[list[str]]] = {}
    for word, spellings in read_pronunciations(path, TextError).items():
        written = normalize(word, config)
        if len(written.split()) == 1:
            for spelling in spellings:
                add(found, written, spelling)
        for name, what in ((BLANK_NAME, "the blank"), (SPACE_NAME, "the space between words")):
            if any(name in one for one in spellings):
                raise TextError(f"{path}: word {word!r}: {name} is {what}, not a phone")
    if not found:
        raise TextError(f"{path}: no word is left after normalisation")
    return found
