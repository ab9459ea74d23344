"""From a configuration to a decoder: each setting reaches it, and each file that cannot be used is named."""

from dataclasses import replace
from pathlib import Path

import pytest

from asr.config import DecodeConfig
from asr.decoder_files import DEFAULT_HOTWORD_WEIGHT, read_hotwords, read_lexicon
from asr.decoding import Decoder
from asr.emissions import Vocabulary
from asr.errors import DecodeError
from peaky import VOCABULARY, spelled, write_arpa

BEAM = DecodeConfig(decoder="beam")
# Greedy reads "ab", and "cb" is nearly as likely.
UNSURE = spelled("ab", instead={0: "c"})


def text_of(config: DecodeConfig) -> str:
    return Decoder(config, VOCABULARY)([UNSURE])[0][0].text


def test_greedy_is_the_default() -> None:
    [[found]] = Decoder(DecodeConfig(), VOCABULARY)([spelled("ab cab")])
    assert found.text == "ab cab"
    assert [(word.text, word.start_s) for word in found.words] == [("ab", 0.0), ("cab", pytest.approx(0.24))]


def test_each_setting_reaches_the_beam(tmp_path: Path) -> None:
    lm = replace(BEAM, lm=str(write_arpa(tmp_path / "lm.arpa", [(-3.0, "ab"), (-0.5, "cb")])))
    assert text_of(BEAM) == "ab"
    assert text_of(lm) == "cb"
    assert text_of(replace(lm, decoder="greedy")) == "ab"
    assert text_of(replace(lm, alpha=0.0)) == "ab"
    assert text_of(replace(lm, alpha=0.0, beam_size=1)) == "ab"
    assert text_of(replace(lm, token_threshold=-0.7)) == "ab"  # e^-0.7 = 0.497: "c" begins nothing
    assert text_of(replace(lm, token_threshold=0.0)) == "ab"  # nor does anything but a frame's likeliest label
    (tmp_path / "words.txt").write_text("cb\n")
    assert text_of(replace(BEAM, lexicon=str(tmp_path / "words.txt"))) == "cb"
    (tmp_path / "hot.txt").write_text("cb\n")
    assert text_of(replace(BEAM, hotwords=str(tmp_path / "hot.txt"))) == "cb"
    (tmp_path / "hot.txt").write_text("cb\t0.01\n")
    assert text_of(replace(BEAM, hotwords=str(tmp_path / "hot.txt"))) == "ab"
    unknown = replace(lm, lm=str(write_arpa(tmp_path / "other.arpa", [(-1.0, "ab")])))
    assert text_of(unknown) == "ab"
    assert text_of(replace(unknown, unknown_offset=9.0)) == "cb"


def test_other_weights_do_not_read_the_files_again(tmp_path: Path) -> None:
    path = write_arpa(tmp_path / "lm.arpa", [(-3.0, "ab"), (-0.5, "cb")])
    decoder = Decoder(replace(BEAM, lm=str(path)), VOCABULARY)
    path.unlink()
    assert decoder.with_weights(0.0, 0.0)([UNSURE])[0][0].text == "ab"
    assert decoder.with_weights(1.0, 0.0)([UNSURE])[0][0].text == "cb"
    assert str(decoder.with_weights(1.0, 0.25)) == f"beam of 100, language model {path} (alpha 1, beta 0.25)"


def test_what_cannot_be_decoded_is_named() -> None:
    damaged = spelled("ab")
    damaged[2, 3] = float("nan")
    rows, names = [spelled("ab"), damaged, spelled("h")], ["first", "second", "third"]
    for config in (DecodeConfig(), BEAM):
        decoder = Decoder(config, VOCABULARY)
        with pytest.raises(DecodeError, match=r"^utterance second, frame 2: log-probability is nan$"):
            decoder(rows, names=names)
        with pytest.raises(DecodeError, match=r"^utterance 1, frame 2: "):
            decoder(rows)
        one, two, three = decoder.attempt(rows, None, names=names)
        assert isinstance(one, list)
        assert isinstance(three, list)
        assert (one[0].text, three[0].text) == ("ab", "h")
        assert str(two) == "utterance second, frame 2: log-probability is nan"


def test_a_model_that_does_not_fit_is_named(tmp_path: Path) -> None:
    path = write_arpa(tmp_path / "lm.arpa", [(-1.0, "XYZ")])
    with pytest.raises(DecodeError, match=r"lm\.arpa: language model: 1 of 1 words cannot be spelled"):
        Decoder(replace(BEAM, lm=str(path)), VOCABULARY)
    with pytest.raises(DecodeError, match=r"none\.bin: cannot be read: No such file"):
        Decoder(replace(BEAM, lm=str(tmp_path / "none.bin")), VOCABULARY)


def test_lexicons(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\ufeffab\r\n\r\n  cab \r\nab\r\n", encoding="utf-8")
    assert read_lexicon(path, VOCABULARY) == ["ab", "cab"]
    path.write_text("one\ta b\ntwo\tc\none\td d\none\ta b\n")
    assert read_lexicon(path, VOCABULARY) == {"one": [["a", "b"], ["d", "d"]], "two": [["c"]]}


def test_words_and_phrases_in_another_unicode_form(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("l\u2019e\u0301cole\n", encoding="utf-8")
    letters = Vocabulary(("_", " ", *"l'\u00e9ecol", "\u0301"))
    assert read_lexicon(path, letters) == ["l'\u00e9cole"]
    assert list(read_hotwords(path, letters)) == ["l'\u00e9cole"]
    sounds = Vocabulary(("_", " ", "l", "e"), lexicon={"l'\u00e9cole": [["l", "e"]]})
    assert read_lexicon(path, sounds) == {"l'\u00e9cole": [["l", "e"]]}
    assert list(read_hotwords(path, sounds, sounds.lexicon)) == ["l'\u00e9cole"]
    typographic = Vocabulary(("_", " ", *"l\u2019ecol", "\u0301", "\u0301x"))  # labels that normalisation would change
    assert read_lexicon(path, typographic) == ["l\u2019e\u0301cole"]
    apart = Vocabulary(("_", " ", *"l'ecol", "\u0301"))  # an accent has a label of its own
    for text in ("l\u2019\u00e9cole\n", "l\u2019e\u0301cole\n"):
        path.write_text(text, encoding="utf-8")
        assert read_lexicon(path, apart) == list(read_hotwords(path, apart)) == ["l'e\u0301cole"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": holds no word"),
        (b"ab\ncab\ta b\n", ":2: wanted a word alone, as on the lines before, found 'cab\\ta b'"),
        (b"one\ta\n\ntwo\n", ":3: wanted word TAB labels, as on the lines before, found 'two'"),
        (b"ab cab\n", ":1: wanted one word, or word TAB labels, found 'ab cab'"),
        (b"\ta b\n", ":1: wanted one word, found ''"),
        (b"ab\nAb\n", ":2: word 'Ab' holds 'A', which no label writes: the labels are small letters"),
        (b"one\ta x\n", ":1: word 'one' is spelled with 'x', which is no label"),
        (b"one\t \n", ":1: word 'one' is spelled with nothing"),
        (b"caf\xe9\n", ": not UTF-8 text (byte 3): save it as UTF-8"),
    ],
)
def test_lexicons_that_are_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(DecodeError) as raised:
        read_lexicon(path, VOCABULARY)
    assert str(raised.value) == f"{path}{message}"


def test_hotwords(tmp_path: Path) -> None:
    path = tmp_path / "hot.txt"
    path.write_text("ab  cab\t2.5\n\ndad\nh\t-1e0\r\n", newline="")
    assert read_hotwords(path, VOCABULARY) == {"ab cab": 2.5, "dad": DEFAULT_HOTWORD_WEIGHT, "h": -1.0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n", ": holds no phrase"),
        ("ab\n\t3\n", ":2: wanted phrase TAB weight, found '\\t3'"),
        ("Dad\n", ":1: phrase 'Dad' holds 'D', which no label writes: the labels are small letters"),
        ("dad 5\n", ":1: phrase 'dad 5' holds '5', which no label writes: a TAB must come before a weight"),
        ("dad 5\t1\n", ":1: phrase 'dad 5' holds '5', which no label writes"),
        ("x\n", ":1: phrase 'x' holds 'x', which no label writes"),
        ("ab\nab\t3\n", ":2: phrase 'ab' stands twice"),
        ("ab\tmuch\n", ":1: weight must be a number, found 'much'"),
        ("ab\t\n", ":1: weight must be a number, found ''"),
        ("ab\tnan\n", ":1: weight must be finite, found 'nan'"),
        ("ab\tinf\n", ":1: weight must be finite, found 'inf'"),
    ],
)
def test_hotwords_that_are_wrong(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "hot.txt"
    path.write_text(content)
    with pytest.raises(DecodeError) as raised:
        read_hotwords(path, VOCABULARY)
    assert str(raised.value) == f"{path}{message}"
