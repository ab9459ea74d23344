"""Text for language models: its units, manifests, normalisation, and what cannot be used."""

import gzip
import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from asr.config import TextConfig
from asr.decode import lm as decode_lm
from asr.errors import ManifestError, TextError
from asr.lm import estimate
from asr.lm.text import UNITS, sentences
from asr.text import normalize


def units(text: Sequence[str | Path], unit: str) -> list[list[str]]:
    return [tokens for _, tokens in sentences(text, unit)]


def test_words_and_tokens_stand_between_white_space():
    assert units([" new\tyork \u3000city\r\n", "\u2581ne w"], "word") == [["new", "york", "city"], ["\u2581ne", "w"]]
    assert units(["\u2581ne w"], "token") == [["\u2581ne", "w"]]


def test_characters_are_nfc_and_words_are_joined_by_a_bar():
    assert units(["  cafe\u0301  au\u00a0lait ", " "], "char") == [list("caf\u00e9|au|lait"), []]


def test_gzip_is_known_by_its_content_and_a_byte_order_mark_is_no_word(tmp_path):
    (tmp_path / "a").write_bytes(gzip.compress("\ufeffeins zwei\n\ndrei".encode()))
    assert list(sentences([tmp_path / "a"], "word")) == [
        (f"{tmp_path}/a:1", ["eins", "zwei"]),
        (f"{tmp_path}/a:2", []),
        (f"{tmp_path}/a:3", ["drei"]),
    ]


@pytest.mark.parametrize(
    ("content", "unit", "message"),
    [
        (b"a\nb <s> c\n", "word", "text:2: '<s>' is reserved"),
        (b"a\nb </s>\n", "token", "text:2: '</s>' is reserved"),
        (b"<unk>\n", "word", "text:1: '<unk>' is reserved"),
        (b"a\nb|c\n", "char", "text:2: '|' stands for the space"),
        (b"a\nb\nc \xff\n", "word", r"text:3: not UTF-8 text \(byte 2 of the line\)"),
        (gzip.compress(b"a b c\n" * 1000, mtime=0)[:-12], "word", "text: cannot be read after line"),
        (b"\x1f\x8bnonsense", "word", "text: cannot be read: "),
        (b"\n \n", "word", "holds no token"),
        (b"", "char", "holds no token"),
    ],
)
def test_text_that_cannot_be_used(tmp_path, content, unit, message):
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(TextError, match=message):
        estimate([tmp_path / "text"], 3, unit=unit)


def manifest(folder: Path, *texts: str) -> Path:
    path = folder / "train.jsonl"
    records = [
        {"audio_filepath": f"{number}.wav", "duration": 1.0, "text": text} for number, text in enumerate(texts, start=1)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_of_a_manifest_the_texts_are_read(tmp_path):
    path = manifest(tmp_path, "One two", "three")
    assert list(sentences([path], "word")) == [
        (f"{path}: utterance 1", ["One", "two"]),
        (f"{path}: utterance 2", ["three"]),
    ]
    with pytest.raises(TextError, match=r"train\.jsonl: unit=token wants text that is cut into pieces"):
        units([path], "token")
    with pytest.raises(TextError, match=r"train\.jsonl: utterance 1: '\|' stands for the space"):
        units([manifest(tmp_path, "a|b")], "char")
    path.write_text("one two\n")
    with pytest.raises(ManifestError, match=r"train\.jsonl:1: not a JSON record"):
        units([path], "word")


@pytest.mark.parametrize("packed", [False, True])
def test_a_manifest_of_another_name_is_refused(tmp_path, packed):
    content = manifest(tmp_path, "one").read_bytes()
    (tmp_path / "text").write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(TextError, match=r"text:1: is a manifest's record; if the file is named \.jsonl"):
        units([tmp_path / "text"], "word")


@pytest.mark.parametrize("line", ['{"a": 1} b', '{"a": 1}', "{}", "{one two}", '{"a":' * 100_000])
def test_text_that_looks_like_a_record(tmp_path, line):
    (tmp_path / "text").write_text(line)
    assert units([tmp_path / "text"], "word") == [line.split()]


def rules(case: Literal["lower", "upper"] = "lower") -> Callable[[str], str]:
    return partial(normalize, config=TextConfig(case=case))


def test_text_is_normalised_by_the_rules_that_are_given(tmp_path):
    path = manifest(tmp_path, "Hello, World! It\u2019s | 3.5")
    assert [tokens for _, tokens in sentences([path], "word", rules())] == ["hello world it's 3.5".split()]
    found = sentences(["\ufb01n|e"], "char", rules(case="upper"))
    assert [tokens for _, tokens in found] == [list("FIN|E")]
    with pytest.raises(TextError, match="unit=token: text that is cut into pieces cannot be normalised"):
        list(sentences(["\u2581a b"], "token", rules()))
    assert estimate(["A, b"], 1, normalize=rules()).words[3:] == ["a", "b"]


@pytest.mark.parametrize("name", ["absent", "."])
def test_a_path_that_is_no_file(tmp_path, name):
    with pytest.raises(TextError, match=f"{re.escape(str(tmp_path / name))}: cannot be read: "):
        estimate([tmp_path / name], 3)


def test_units_have_the_same_names_everywhere():
    assert decode_lm.UNITS == UNITS
