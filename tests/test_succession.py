"""New sentences of pieces: what follows what, what is used how often, and how they are joined."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from asr.augment import utterance_generator
from asr.decode import NGram
from asr.errors import TextError
from asr.lm import estimate
from asr.lm.arpa import write_arpa
from asr.splicing.pieces import Piece
from asr.splicing.succession import Stock, Succession, assemble

RATE_HZ = 4000
TEXTS = ["one two three", "one two three", "one two", "a b a b", "b a", "a a"] * 20
WORDS = ["one", "two", "three", "a", "b"]


def piece(text: str, value: float = 0.0, seconds: float = 0.25) -> Piece:
    return Piece(torch.full((round(seconds * RATE_HZ),), value), text)


def drawn(stock: Stock, count: int, name: str = "x") -> list[list[str]]:
    """Texts of sentences without a shortest or longest length."""
    generator = utterance_generator(0, 0, name)
    return [assemble(stock, generator, (0.0, 1e6), RATE_HZ).text.split() for _ in range(count)]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("said", [[], ["one"], ["one", "two"], ["b", "a", "b"], ["three", "a", "one", "two"]])
def test_what_may_follow_is_what_the_model_says(tmp_path: Path, order: int, said: Sequence[str]) -> None:
    succession = Succession(TEXTS, order)
    after = succession.after(said)
    assert after.sum() == pytest.approx(1)
    write_arpa(estimate(TEXTS, order), tmp_path / "texts.arpa")
    model = NGram.load(tmp_path / "texts.arpa")
    for word in WORDS:
        (*_, (log10, _, _)) = model.full_scores([*said, word], eos=False)
        assert math.log10(after[succession.id_of[word]]) == pytest.approx(log10, abs=1e-5)
    (*_, (log10, _, _)) = model.full_scores(said)
    assert math.log10(after[succession.id_of["</s>"]]) == pytest.approx(log10, abs=1e-5)


def test_what_was_said_decides() -> None:
    succession = Succession(TEXTS, 3)

    def likeliest(*said: str) -> str:
        return max(succession.id_of, key=lambda word: float(succession.after(said)[succession.id_of[word]]))

    assert likeliest("one") == "two"
    assert likeliest("one", "two") == "three"
    assert likeliest("two", "three") == "</s>"
    unigram = Succession(TEXTS, 1)
    assert (unigram.after([]) == unigram.after(["one"])).all()


def test_texts_of_reserved_words_are_refused() -> None:
    with pytest.raises(TextError, match="sentence 2: '</s>' is reserved"):
        Succession(["one", "two </s>"], 2)


def test_sentences_follow_the_transcripts() -> None:
    pieces = [piece(word) for word in WORDS]
    pairs = {order: Counter[bool]() for order in (1, 3)}
    for order, found in pairs.items():
        for sentence in drawn(Stock(pieces, Succession(TEXTS, order)), 300):
            found.update(f"{one} {two}" in " ".join(TEXTS) for one, two in pairwise(sentence))
    shares = {order: found[True] / found.total() for order, found in pairs.items()}
    assert shares[1] < 0.4 < 0.65 < shares[3]


def test_pieces_are_used_equally_often() -> None:
    texts = ["one two"] * 99 + ["three"]
    pieces = [piece("one"), piece("one"), piece("two"), piece("three"), piece("three three")]
    used = Counter(word for sentence in drawn(Stock(pieces, Succession(texts, 2)), 2000) for word in sentence)
    succession = Succession(texts, 2)
    first = succession.after([])
    assert first[succession.id_of["one"]] > 10 * first[succession.id_of["three"]]
    assert used["one"] > used["two"]  # of which there is one piece
    assert used["three"] > used["one"] / 3


def test_draws_are_those_of_the_generator() -> None:
    def sentences(name: str) -> list[list[str]]:
        return drawn(Stock([piece(word) for word in WORDS], Succession(TEXTS, 3)), 20, name)

    assert sentences("x") == sentences("x") != sentences("y")


def test_sentences_are_pieces_in_a_row() -> None:
    words = [str(number) for number in range(5)]
    stock = Stock([piece(word, float(word)) for word in words], Succession([" ".join(words * 50)], 1))
    made = assemble(stock, utterance_generator(0, 0, "x"), (1.0, 1.0), RATE_HZ)
    numbers = [int(text) for text in made.text.split()]
    assert len(numbers) == 4
    fade = 40
    assert len(made.wave) == 4 * 1000 - 3 * fade
    for place, number in enumerate(numbers):
        start = place * (1000 - fade)
        assert (made.wave[start + fade : start + 1000 - fade] == number).all()
    others = {assemble(stock, utterance_generator(0, 0, str(n)), (0.5, 2.0), RATE_HZ).text for n in range(20)}
    assert len({text.count(" ") for text in others}) > 3


def test_sentences_end_as_the_transcripts_do_or_are_broken_off() -> None:
    stock = Stock([piece("a"), piece("b")], Succession(["a b"] * 20, 2))
    ends = [assemble(stock, utterance_generator(0, 0, str(n)), (0.0, 100.0), RATE_HZ).text for n in range(50)]
    assert sum(text.endswith("b") for text in ends) > 35
    for number in range(20):  # one text ends, and another begins
        long = assemble(stock, utterance_generator(0, 0, str(number)), (3.0, 4.0), RATE_HZ)
        assert 3.0 * 0.9 <= len(long.wave) / RATE_HZ <= 4.25
        assert len(long.text.split()) >= 12
