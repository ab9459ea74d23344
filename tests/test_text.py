"""Transcripts: the normal form, and labels there and back."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from asr.config import TextConfig
from asr.errors import TextError
from asr.text import TOKENS_FILE, Tokenizer, build_tokenizer, normalize, removed
from asr.units import BPE_FILE

LOWER = TextConfig()
KEEP = TextConfig(case="keep", punctuation="keep")
LETTERS = TextConfig(letters="'!:-=.\u00b7\u02e5\u02e7\u2021")


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("Hello, World!", "hello world"),
        ("ＦＵＬＬ　ｗｉｄｔｈ ﬁne", "full width fine"),  # NFKC
        ("cafe\u0301", "café"),  # NFKC composes
        ("don\u2019t O\u2018Brien l\u02bcété", "don't o'brien l'été"),
        ("'twas rock 'n' roll, the dogs' bowl", "twas rock n roll the dogs bowl"),
        ("well-known and/or he stopped\u2014then", "well known and or he stopped then"),
        ("he stopped--then 1914-1918 re- -5", "he stopped then 1914 1918 re 5"),
        ("½ cup, 3/4", "1 2 cup 3 4"),
        ("AT&T: 50 % (C++) a_b", "at t 50 c a b"),
        ("  tab\tfeed\n no\u00a0break\u2003em\u2028line\u3000 ", "tab feed no break em line"),
        ("42", "42"),
        ("3.5, 10,000 at 12:30.", "3.5 10,000 at 12:30"),
        ("hello,world yes…no \u200bzero\u00adwidth", "hello world yes no zerowidth"),
        ("ΟΔΥΣΣΕΥΣ ΤΕΛΟΣ.Η ΘΕΟΣ…ΤΙ", "οδυσσευς τελος η θεος τι"),  # final sigma
        ("Straße", "straße"),
        ("नमस्ते। की-बात", "नमस्ते की बात"),  # vowel signs are marks, not letters
        ("ẹ\u0300\u2019s", "ẹ\u0300's"),  # an accent that has no composed form
        ("你好，世界。", "你好 世界"),
        ("هل أنت؟", "هل أنت"),
        ("don´t don´t ŉa", "don't don't na"),
        ("❤️ hello 1️⃣ 葛󠄀", "hello 1 葛"),  # variation selectors, a keycap
        ("👨‍👩 hi‍ a‌-b ‌c", "hi a b c"),  # joiners that join nothing
        ("می‌خواهم ന്‍", "می‌خواهم ന്‍"),
        ("a¨b ¯ ‾c ゛d -́e", "a b c d e"),  # symbols that NFKC takes for a space with an accent
        ("3½ miles ½¾ a½", "3 1 2 miles 1 2 3 4 a1 2"),
        ("10⁵ x²", "105 x2"),
        ("كــتاب ٣٫٥", "كتاب ٣٫٥"),
        ("ทำงาน น้ำ ຄຳ", "ทำงาน น้ำ ຄຳ"),
        ("ג׳ירפה צה״ל ״שלום״", "ג'ירפה צה״ל שלום"),
        ("col·lecció paraŀlel a · b", "col·lecció paral·lel a b"),
        ("Windows™ 1º", "windowstm 1o"),
        ("...", ""),
        ("", ""),
    ],
)
def test_normal_form(written: str, wanted: str) -> None:
    assert normalize(written, LOWER) == wanted


def test_case() -> None:
    assert normalize("Straße, Don't", TextConfig(case="upper")) == "STRASSE DON'T"
    assert normalize("e\u200b\u0301", LOWER) == "\u00e9"
    assert normalize("\u0390", TextConfig(case="upper")) == "\u03aa\u0301"
    assert normalize("Don't: IJ", TextConfig(case="keep")) == "Don't IJ"
    # No language's own rules: a Turkish dotted capital keeps its dot as a combining mark, the dotless one gets a dot.
    assert normalize("\u0130I", LOWER) == "i\u0307i"


def test_punctuation_kept() -> None:
    assert normalize(" Well-known:  \u2018A/B\u2019\u2026 ", TextConfig(punctuation="keep")) == "well-known: 'a/b'..."


@pytest.mark.parametrize(
    ("written", "letters", "wanted"),
    [
        ("K\u02bca t\u02bc", "'", "k'a t'"),
        ("\u2019okina, \u2018o \u00b4k''", "\u02bc", "'okina 'o 'k''"),  # quotation marks of the same form stay as well
        ("K\u02bca t\u02bc, 't", "", "k'a t t"),  # so that a text in the normal form stays as it is
        ("ma\u02e5\u02e7. m\u00e1!", "\u02e5\u02e7", "ma\u02e5\u02e7 má"),
        ("!Xoo! ka:na: 12:30: (a)", "!:", "!xoo! ka:na: 12:30: a"),
        (
            "\uff01xoo a!'a !\u0301a '!",
            "\uff01",
            "!xoo a!'a !\u0301a !",
        ),  # full width; accents and apostrophes beside it
        ("mu-ndu=ko -- ok?", "-=", "mu-ndu=ko -- ok"),
    ],
)
def test_punctuation_that_writes_sounds(written: str, letters: str, wanted: str) -> None:
    config = TextConfig(letters=letters)
    assert normalize(written, config) == normalize(wanted, config) == wanted


def test_what_is_removed_is_counted() -> None:
    texts = ["Kʼa tʼ, ‘don’t’  3.5\tma˥˧.", "ma˥˧?… a \u0301b \u200bc\u00ad 12:30", "ka:na (t) t\u02bc"]
    assert removed(texts, LOWER) == {
        "'": 4,
        ".": 4,
        "˥": 2,
        "˧": 2,
        ",": 1,
        "?": 1,
        "\u0301": 1,
        ":": 1,
        "(": 1,
        ")": 1,
    }
    assert removed(texts, LETTERS) == {",": 1, "?": 1, "\u0301": 1, "(": 1, ")": 1}
    assert not removed(texts, KEEP)
    assert not removed(["don't l\u02bcété 3.5", " नमस्ते  col·lecció\u00a0صہ "], LOWER)


def is_plain(character: str) -> bool:
    """Whether it is a letter without case that NFKC leaves alone, as most are, or none at all."""
    category = unicodedata.category(character)
    return category in ("Cn", "Co", "Cs") or (category == "Lo" and unicodedata.is_normalized("NFKC", character))


@pytest.mark.parametrize("config", [LOWER, KEEP, LETTERS], ids=["lower", "keep", "letters"])
def test_what_is_normal_stays_so(config: TextConfig) -> None:
    """All of Unicode, alone and between others; each is a word, so that one text holds them all."""
    characters = [character for character in map(chr, range(0x110000)) if not is_plain(character)]
    for before, after in (("", ""), ("a", "b"), ("3", "5"), ("a\u200d", "\u0301b")):
        once = normalize(" ".join(f"{before}{character}{after}" for character in characters), config)
        assert normalize(once, config) == once


@given(st.text())
def test_normal_form_holds_words_between_single_spaces(text: str) -> None:
    for config in (LOWER, TextConfig(case="upper"), TextConfig(case="keep")):
        found = normalize(text, config)
        assert " ".join(found.split()) == found
        symbols = [character for character in found if unicodedata.category(character)[0] in "PS"]
        assert set(symbols) <= set("'.,:·\u05f4\u066b\u066c")  # inside words and numbers


# --- characters -------------------------------------------------------------------------------------------------------


def test_labels_are_numbered_in_code_point_order_after_the_blank() -> None:
    tokenizer = build_tokenizer(["B'a, ab!", "é", "..."], LOWER)
    assert tokenizer.tokens == ["<blank>", " ", "'", "a", "b", "é"]
    assert len(tokenizer) == 6
    assert tokenizer.encode(" B'A  é", where="u") == [4, 2, 3, 1, 5]
    assert tokenizer.decode([4, 2, 3, 1, 5]) == "b'a é"
    assert tokenizer.decode([1, 4, 1, 1, 3, 1]) == "b a"
    assert tokenizer.decode([]) == ""


@limits(max_examples=60)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=5), st.sampled_from([LOWER, KEEP]))
def test_every_training_text_is_encoded_and_comes_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], config: TextConfig
) -> None:
    wanted = [text for text in (normalize(text, config) for text in texts) if text]
    if not wanted:
        with pytest.raises(TextError, match="no transcript to build a vocabulary from"):
            build_tokenizer(texts, config)
        return
    made = build_tokenizer(texts, config)
    made.save(tmp_path_factory.getbasetemp())
    loaded = Tokenizer.load(tmp_path_factory.getbasetemp(), config)
    assert loaded.tokens == made.tokens
    for text in texts:
        if normalize(text, config):
            labels = loaded.encode(text, where="u")
            assert 0 not in labels
            assert loaded.decode(labels) == normalize(text, config)


def test_unknown_symbols_are_an_error_that_names_them() -> None:
    tokenizer = build_tokenizer(["ab"], LOWER)
    with pytest.raises(TextError, match=r"utterance 7: symbol 'x' is not in the vocabulary of 3 tokens .*'aXb Y'"):
        tokenizer.encode("aXb Y", where="utterance 7")
    with pytest.raises(TextError, match=r"symbol '4' is not in .*; write numbers as words, as they are said; "):
        tokenizer.encode("ab42", where="utterance 7")
    with pytest.raises(TextError, match=r"utterance 7: transcript '\?!' is empty after normalisation"):
        tokenizer.encode("?!", where="utterance 7")


def test_unknown_symbols_are_dropped_and_counted_on_request() -> None:
    tokenizer = Tokenizer(["<blank>", "a", "b"], TextConfig(allow_oov=True))
    assert tokenizer.encode("aXbxa", where="u") == [1, 2, 1]
    assert tokenizer.out_of_vocabulary("aXb xa") == ["x", " ", "x"]
    assert tokenizer.out_of_vocabulary("AB") == []
    with pytest.raises(TextError, match="u: no symbol of transcript 'xyz' is in the vocabulary"):
        tokenizer.encode("xyz", where="u")
    with pytest.raises(TextError, match="is empty after normalisation"):
        tokenizer.encode("!", where="u")


# --- word pieces ------------------------------------------------------------------------------------------------------

SENTENCES = [
    "she sells sea shells on the sea shore",
    "the shells she sells are surely sea shells",
    "so if she sells shells on the sea shore",
    "i'm sure she sells sea shore shells",
]


@pytest.fixture(scope="module")
def pieces() -> Tokenizer:
    return build_tokenizer(SENTENCES, TextConfig(unit="bpe", bpe_size=40))


def test_word_pieces_fill_the_wanted_size_blank_included(pieces: Tokenizer) -> None:
    assert len(pieces) == 40
    assert pieces.tokens[0] == "<blank>"
    assert "<unk>" not in pieces.tokens
    assert any(len(token) > 2 for token in pieces.tokens[1:])
    labels = pieces.encode(SENTENCES[0], where="u")
    assert len(labels) < len(SENTENCES[0])
    assert 0 not in labels


WORD = st.text("shelratonfuiym'", min_size=1, max_size=8)


@limits(max_examples=50)
@given(words=st.lists(WORD, min_size=1, max_size=5))
def test_word_pieces_there_and_back(pieces: Tokenizer, words: list[str]) -> None:
    text = " ".join(words)
    wanted = normalize(text, pieces.config)
    if wanted:
        assert pieces.decode(pieces.encode(text, where="u")) == wanted


def test_word_pieces_from_a_folder(pieces: Tokenizer, tmp_path: Path) -> None:
    pieces.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [BPE_FILE, TOKENS_FILE]
    loaded = Tokenizer.load(tmp_path, pieces.config)
    assert loaded.tokens == pieces.tokens
    assert loaded.encode("sea shells", where="u") == pieces.encode("sea shells", where="u")
    (tmp_path / BPE_FILE).write_bytes(b"nonsense")
    with pytest.raises(TextError, match=r"bpe\.model is not a sentencepiece model") as raised:
        Tokenizer.load(tmp_path, pieces.config)
    assert "\n" not in str(raised.value)
    (tmp_path / BPE_FILE).unlink()
    with pytest.raises(TextError, match=r"cannot read the vocabulary: .*bpe\.model"):
        Tokenizer.load(tmp_path, pieces.config)


def test_unknown_symbols_in_word_pieces(pieces: Tokenizer) -> None:
    with pytest.raises(TextError, match="u: symbol 'z' is not in the vocabulary of 40 tokens"):
        pieces.encode("sea zone", where="u")
    loose = Tokenizer(pieces.tokens, TextConfig(unit="bpe", allow_oov=True), pieces.units)
    assert loose.decode(loose.encode("sea zhell", where="u")) == "sea hell"
    assert loose.out_of_vocabulary("sea zhell") == ["z"]


@pytest.mark.parametrize(
    ("size", "advice"), [(5, "another text.bpe_size may be possible"), (4000, r"at most \d+ for this text")]
)
def test_sizes_that_the_text_cannot_give(size: int, advice: str) -> None:
    with pytest.raises(
        TextError,
        match=rf"sentencepiece cannot make text.bpe_size={size} pieces of this text; {advice}, or take the labels of",
    ) as raised:
        build_tokenizer(SENTENCES, TextConfig(unit="bpe", bpe_size=size))
    assert "\n" not in str(raised.value)


# --- the vocabulary file ----------------------------------------------------------------------------------------------


def test_vocabulary_file_has_a_readable_line_for_each_label(tmp_path: Path) -> None:
    build_tokenizer(["no 小 #-"], KEEP).save(tmp_path)
    lines = (tmp_path / TOKENS_FILE).read_text(encoding="utf-8")
    assert lines == "<blank>\n<space>\n#\n-\nn\no\n小\n"
    assert Tokenizer.load(tmp_path, KEEP).tokens == ["<blank>", " ", "#", "-", "n", "o", "小"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\n", "the first token must be <blank>, found 'a'"),
        (b"", "the first token must be <blank>, found ''"),
        (b"<blank>\na\nb\na\n", "token 'a' stands more than once"),
        (b"<blank>\n\xff\n", "cannot read the vocabulary: 'utf-8' codec"),
    ],
)
def test_damaged_vocabulary(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / TOKENS_FILE).write_bytes(content)
    with pytest.raises(TextError, match=f"{tmp_path}: {message}"):
        Tokenizer.load(tmp_path, LOWER)


def test_missing_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"cannot read the vocabulary: .*tokens\.txt"):
        Tokenizer.load(tmp_path, LOWER)
