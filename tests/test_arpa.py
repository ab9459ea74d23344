"""ARPA files: layouts that mean the same, and every way in which a file can be wrong."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decode.lm import NGram
from asr.errors import DecodeError
from oracles.ngram import SMALL_ARPA


def written(folder: Path, content: str | bytes, name: str = "lm.arpa") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\t", " "),
        lambda text: text.replace("\t", " \t ").replace(" ", "  "),
        lambda text: text.replace(" ", "\t").replace("ngram\t", "ngram "),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.replace("\n", " \t\n \n"),
        lambda text: "\ufeff" + text,
        lambda text: "made by a tool\nngram 1=7\n\\data\n\n" + text,
        lambda text: text.rstrip(),
        lambda text: text + "\nmore text",
        lambda text: text.replace("ngram 2=3", "ngram  2 = 3"),
        lambda text: text.replace("-0.2\t", "-2e-1\t").replace("-0.5\ta", "-.5E+0\ta").replace("-1.5", "-00001.50"),
        lambda text: text.replace("-0.2\ta b </s>", "-0.2\ta b </s>\t0"),
    ],
)
def test_layouts_that_mean_the_same(tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    wanted = NGram.load(written(tmp_path, SMALL_ARPA))
    found = NGram.load(written(tmp_path, change(SMALL_ARPA), "other"))
    assert (found.words, found.counts) == (wanted.words, wanted.counts)
    for ours, theirs in zip(found.arrays, wanted.arrays, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@given(st.floats(-1000, 0) | st.floats(-1e-3, 0), st.sampled_from(["{:.9g}", "{:f}", "{:.12e}", "{:.17g}", "{:.30f}"]))
def test_numbers(tmp_path_factory: pytest.TempPathFactory, value: float, layout: str) -> None:
    text = layout.format(value)
    path = written(tmp_path_factory.getbasetemp(), SMALL_ARPA.replace("-0.625", text), "number.arpa")
    assert NGram.load(path).arrays.unigrams[4] == pytest.approx(np.float32(text), rel=2e-7)


def test_any_word_of_utf8(tmp_path: Path) -> None:
    # What Unicode calls a space is none here: only space, tab and the ends of lines separate fields.
    word = "日本\u3000語\u00a0\x85\\"
    header, sections = SMALL_ARPA.split("\\1-grams")
    text = header + "\\1-grams" + sections.replace("a", word).replace(f"gr{word}m", "gram")
    model = NGram.load(written(tmp_path, text))
    assert model.words[3] == word
    assert model.score([word, "b"]) == pytest.approx(-0.25 - 0.125 - 0.2)


def swapped(old: str, new: str):  # type: ignore[no-untyped-def]
    assert SMALL_ARPA.count(old) >= 1, old
    return SMALL_ARPA.replace(old, new, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"RIFF\x00\x00WAVEfmt \xff", "no line is .data., and the file begins with 'RIFF"),
        (b'{"text": "a"}\n', r"no line is .data., .*; `asr lm train` makes a model of a text or manifest"),
        (b"# asr unit=piece order=2\n" + SMALL_ARPA.encode(), "states unit 'piece', wanted one of word, char, token"),
        (b"mmap lm http://kheafield.com/code format version 5\n\0\0\1", "is a KenLM binary, .* `lmplz`"),
        ("\\data\\\n", "the file ends after the counts"),
        ("\\data\\\n\\1-grams:\n\\end\\\n", r"line 2: wanted 'ngram 1=COUNT'; found '\\\\1-grams:'"),
        (swapped("ngram 1=5", "ngram 1=five"), "line 2: wanted 'ngram 1=COUNT'; found 'ngram 1=five'"),
        (swapped("ngram 2=3", "ngram 3=3"), "line 3: wanted 'ngram 2=COUNT'; found 'ngram 3=3'"),
        (swapped("1=5", "1=" + "9" * 5000), "line 2: wanted 'ngram 1=COUNT'"),
        (swapped("1=5", "1=99999999999"), "declares 99999999999 . 3 . 2 n-grams, which take"),
        (swapped("1=5", "1=4"), r"line 11: .data. declares 4 1-grams, but here is one more; found '-0.625\\tb"),
        (swapped("1=5", "1=6"), r"line 13: .data. declares 6 1-grams, but 5 are here; found '\\\\2-grams:'"),
        (swapped("2=3", "2=2"), r"line 16: .data. declares 2 2-grams, but here is one more"),
        (swapped("2=3", "2=4"), r"line 18: .data. declares 4 2-grams, but 3 are here"),
        (swapped("3=2", "3=1"), r"line 20: .data. declares 1 3-grams, but here is one more"),
        (swapped("3=2", "3=3"), r"line 22: .data. declares 3 3-grams, but 2 are here; found '\\\\end"),
        (swapped("ngram 3=2\n", ""), "line 13: backoff weight '-0.5' in the highest order"),
        (swapped("\\end\\", "\\4-grams:\n\\end\\"), r"line 22: wanted .end.; found '\\\\4-grams:'"),
        (swapped("\\2-grams", "\\4-grams"), r"line 13: wanted .2-grams:; found '\\\\4-grams:'"),
        (swapped("\\end\\", ""), r"ends before .end.: is it truncated?"),
        (SMALL_ARPA[: SMALL_ARPA.index("\\3-grams")], r"declares 5 . 3 . 2 n-grams|ends before .3-grams"),
        (swapped("-0.625", "x0.625"), r"line 11: log10 probability 'x0.625' is not a finite number; found 'x0.625\\tb"),
        (swapped("-0.625", "-0.6.25"), "line 11: .*'-0.6.25' is not a finite number"),
        (swapped("-0.625", "-"), "line 11: .*'-' is not a finite number"),
        (swapped("-0.625", "-1e"), "line 11: .*'-1e' is not a finite number"),
        (swapped("-0.625", "."), "line 11: .*'.' is not a finite number"),
        (swapped("-0.625", "nan"), "line 11: .*'nan' is not a finite number"),
        (swapped("-0.625", "-inf"), "line 11: .*'-inf' is not a finite number"),
        (swapped("-0.625", "-1e39"), "line 11: .*'-1e39' is not a finite number"),
        (swapped("-0.625", "-" + "9" * 400), "line 11: .* is not a finite number"),
        (swapped("-0.625", "0.625"), "line 11: log10 probability '0.625' is above 0"),
        (
            swapped("-0.0625", "inf"),
            "line 15: found 'inf' after 2 words, wanted a log10 backoff weight of at most",
        ),
        (
            swapped("-0.0625", "300"),
            "line 15: found '300' after 2 words, wanted a log10 backoff weight of at most 10",
        ),
        (swapped("-0.375\ta b", "-0.375\ta b a"), "line 15: wanted a log10 probability, 2 words and at most a backoff"),
        (swapped("-0.3\tb </s>", "-0.3\tb a </s>"), "line 16: found '</s>' after 2 words"),
        (swapped("-0.375\ta b\t-0.0625", "-0.375\ta"), "line 15: wanted a log10 probability, 2 words and"),
        (swapped("-0.625\tb\t-0.125", "-0.625"), "line 11: wanted a log10 probability, 1 word and"),
        (swapped("-0.2\ta b </s>", "-0.2\ta b </s> -0.5"), "line 20: backoff weight '-0.5' in the highest order"),
        (swapped("a b\t-0.0625", "a c\t-0.0625"), "line 15: word 'c' is not among the unigrams; found '-0.375"),
        (swapped("a b </s>", "b a </s>"), "line 20: the first 2 words of this 3-gram are not listed as a 2-gram"),
        (swapped("b </s>", "a b"), "line 16: this 2-gram is listed twice"),
        (swapped("\tb", "\ta"), "line 11: this 1-gram is listed twice"),
        (swapped("a b </s>", "<s> a b"), "line 20: this 3-gram is listed twice"),
        (swapped("\tb\t", "\t<unk>\t"), "line 11: this 1-gram is listed twice"),
        (SMALL_ARPA.encode().replace(b"\tb\t", b"\tb\xff\t"), "line 11: the word is not UTF-8|line 15: word 'b'"),
    ],
)
def test_bad_files(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DecodeError, match=message) as error:
        NGram.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("before", "unit"),
    [
        ("", None),
        ("# asr unit=char order=6\n", "char"),
        ("\ufeff# asr order=6 unit=word\r\n", "word"),
        ("# of a tool\n# asr unit=token\n\n", "token"),
        ("# asr order=6\nunit=char\n", None),
    ],
)
def test_the_unit_stands_before_the_data(tmp_path: Path, before: str, unit: str | None) -> None:
    text = before + SMALL_ARPA.replace("\\end\\", "\\end\\\n# asr unit=char\n")
    assert NGram.load(written(tmp_path, text)).unit == unit


def test_words_that_are_not_utf8(tmp_path: Path) -> None:
    path = written(tmp_path, b"\\data\\\nngram 1=3\n\\1-grams:\n-1 a\n-1 \xc3\xa9\n-1 b\xff\n\\end\\\n")
    with pytest.raises(DecodeError, match="line 6: the word is not UTF-8"):
        NGram.load(path)


def test_every_cut_is_found(tmp_path: Path) -> None:
    whole = SMALL_ARPA.rstrip()
    for length in range(len(whole)):
        with pytest.raises(DecodeError, match=str(tmp_path)):
            NGram.load(written(tmp_path, whole[:length]))


@given(st.integers(0, len(SMALL_ARPA) - 1), st.binary(min_size=1, max_size=4))
def test_damage_gives_a_model_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, place: int, noise: bytes
) -> None:
    content = SMALL_ARPA.encode()
    content = content[:place] + noise + content[place + len(noise) :]
    path = written(tmp_path_factory.getbasetemp(), content, "noise.arpa")
    try:
        model = NGram.load(path)
    except DecodeError:
        return
    assert math.isfinite(model.score(["a", "b", "c"]))
