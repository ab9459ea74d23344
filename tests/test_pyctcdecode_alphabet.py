"""Vocabularies as pyctcdecode reads them."""

from pathlib import Path

import numpy as np
import pytest

from asr.decode.pyctcdecode import Alphabet, BeamSearchDecoderCTC, build_ctcdecoder
from asr.errors import DecodeError


@pytest.mark.parametrize(
    ("labels", "wanted", "is_bpe"),
    [
        (["<pad>", "|", "a", "<unk>"], ["", " ", "a", "⁇"], False),  # wav2vec2
        (["[PAD]", " ", "|", "a"], ["", " ", "|", "a"], False),
        (["_", " ", "a"], ["", " ", "a"], False),
        (["", " ", "_"], ["", " ", "_"], False),
        (["<blank>", " ", "a"], ["", " ", "a"], False),
        (["", " ", "<blank>"], ["", " ", "<blank>"], False),
        ([" ", "a", "b"], [" ", "a", "b", ""], False),  # NeMo, characters
        (["<unk>", "▁the", "re", "▁"], ["▁⁇▁", "▁the", "re", "▁", ""], True),  # NeMo, sentencepiece
        (["▁⁇▁", "▁a", "_", ""], ["▁⁇▁", "▁a", "_", ""], True),
        (["[PAD]", "[UNK]", "[CLS]", "the", "##re"], ["", "▁⁇▁", "[CLS]", "▁the", "re"], True),  # WordPiece
    ],
)
def test_labels_are_read_as_in_pyctcdecode(labels: list[str], wanted: list[str], is_bpe: bool) -> None:
    given_labels = list(labels)
    alphabet = Alphabet.build_alphabet(labels)
    assert (alphabet.labels, alphabet.is_bpe) == (wanted, is_bpe)
    assert labels == given_labels
    again = Alphabet.loads(alphabet.dumps())
    assert (again.labels, again.is_bpe) == (wanted, is_bpe)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["", " ", "a", "a"], "label 'a' stands twice in the vocabulary, at 2 and 3"),
        (["▁a", " ", ""], "label ' ' holds a space, which word pieces cannot have"),
        (["▁a", "b c", ""], "label 'b c' holds a space, which word pieces cannot have"),
        (["", " ", "a b"], "label 'a b' holds a space, which ends a word: wanted ' ' alone, or at the beginning"),
        (["", "|", "a "], "label 'a ' holds a space, which ends a word"),
        (["[PAD]", "a", ""], "labels '[PAD]' at 0 and '' at 2 all mean the blank, wanted one"),
    ],
)
def test_labels_that_cannot_be_read(labels: list[str], message: str) -> None:
    with pytest.raises(DecodeError, match=message.replace("[", r"\[")):
        Alphabet.build_alphabet(labels)


@pytest.mark.parametrize(
    ("labels", "path", "text"),
    [
        (["<pad>", "|", "a", "b"], [2, 3, 1, 3], "ab b"),
        (["▁a", "b", "▁", "<unk>"], [0, 1, 2, 1, 3, 0], "ab b ⁇ a"),
        (["[PAD]", "[UNK]", "a", "##b"], [2, 3, 2, 1, 3], "ab a ⁇b"),
        (["", " a", "b"], [1, 2, 1, 2], "ab ab"),
        (["", " ", "a", "\u00a0"], [2, 3, 2, 1, 3, 2], "a\u00a0a \u00a0a"),
    ],
)
def test_vocabularies_are_written_as_words(labels: list[str], path: list[int], text: str) -> None:
    decoder = build_ctcdecoder(labels)
    vocabulary = decoder._alphabet.labels
    rows = np.full((2 * len(path), len(vocabulary)), -20.0, np.float32)
    rows[np.arange(0, len(rows), 2), path] = 0.0
    rows[np.arange(1, len(rows), 2), vocabulary.index("")] = 0.0
    assert decoder.decode(rows) == text
    assert " ".join(word for word, _ in decoder.decode_beams(rows)[0].text_frames) == text


def test_a_folder_with_labels_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "alphabet.json").write_text('{"labels": ["", " ", "a b"], "is_bpe": false}')
    with pytest.raises(DecodeError, match="label 'a b' holds a space"):
        BeamSearchDecoderCTC.load_from_dir(tmp_path)
