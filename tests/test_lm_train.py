"""Estimated n-gram models: equal to lmplz and to the definition, normalised, and written as ARPA."""

import gzip
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decode.lm import NGram
from asr.errors import TextError
from asr.lm import Model, estimate, write_arpa
from asr.lm.text import open_text
from oracles.kneser_ney import kneser_ney

Table = dict[tuple[str, ...], tuple[float, float]]  # n-gram -> log10 probability and backoff


def table(model: Model) -> Table:
    """What the model's arrays say."""
    found: Table = {}
    below: list[tuple[str, ...]] = [()] * len(model.words)
    for order in model.orders:
        grams = [
            (*below[prefix], model.words[last])
            for prefix, last in zip(order.prefix.tolist(), order.last.tolist(), strict=True)
        ]
        found.update(
            zip(grams, zip(order.log_prob.tolist(), order.backoff.tolist(), strict=True), strict=True),
        )
        below = grams
    return found


def read_table(path: Path) -> Table:
    """What an ARPA file says."""
    found: Table = {}
    with open_text(path) as file:
        text = file.read().decode()
    for section in text.split("-grams:\n")[1:]:
        for line in section.split("\n\n")[0].split("\n"):
            fields = line.split("\t")
            if len(fields) > 1:
                found[tuple(fields[1].split(" "))] = float(fields[0]), float(fields[2]) if len(fields) > 2 else 0.0
    return found


def assert_equal(found: Table, wanted: Table, tolerance: float) -> None:
    assert found.keys() == wanted.keys()
    for gram, values in wanted.items():
        assert found[gram] == pytest.approx(values, abs=tolerance, rel=0), gram


def read_back(model: Model, folder: Path) -> NGram:
    write_arpa(model, folder / "lm.arpa")
    return NGram.load(folder / "lm.arpa")


# -- equal to lmplz


@pytest.fixture
def shared_lm(shared_data: Path) -> Path:
    folder = shared_data.parent / "lm"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder} with the models that lmplz estimated")
    return folder


@pytest.mark.parametrize(
    ("text", "order", "unit", "reference"),
    [
        ("an4_train.txt.gz", 3, "word", "an4_word3.lmplz.arpa.gz"),
        pytest.param("text.txt.gz", 3, "word", "word3.lmplz.arpa.gz", marks=pytest.mark.slow),
        pytest.param("text.txt.gz", 6, "char", "char6.lmplz.arpa.gz", marks=pytest.mark.slow),
    ],
)
def test_equals_lmplz(shared_lm, tmp_path, text, order, unit, reference):
    write_arpa(estimate([shared_lm / text], order, unit=unit), tmp_path / "lm.arpa.gz")
    found, wanted = read_table(tmp_path / "lm.arpa.gz"), read_table(shared_lm / reference)
    assert found.keys() == wanted.keys()
    pairs = [(a, b) for gram, values in wanted.items() for a, b in zip(found[gram], values, strict=True)]
    assert max(abs(a - b) for a, b in pairs) < 2e-6  # lmplz computes with float32


def test_equals_lmplz_with_pruning(tmp_path):
    # What `lmplz -o 3 --discount_fallback --prune 0 0 1` writes for this text. Its bigram "b c", the last it sorts, has
    # adjusted count 1 and stands twice, which the discounts of the bigrams show.
    lines = ["a b", "", "a b c", "b", "c a b", "a b c"]
    wanted = {
        ("<unk>",): (-1.0, 0),
        ("<s>",): (0.0, -0.13830273),
        ("</s>",): (-0.57403123, 0),
        ("a",): (-0.6754889, -0.11197377),
        ("b",): (-0.6754889, -0.17609124),
        ("c",): (-0.6754889, -0.3424227),
        ("<s>", "</s>"): (-0.5453861, 0),
        ("b", "</s>"): (-0.48241758, 0),
        ("c", "</s>"): (-0.40457058, 0),
        ("<s>", "a"): (-0.81379163, 0),
        ("c", "a"): (-0.43334234, 0),
        ("<s>", "b"): (-0.6118198, 0),
        ("a", "b"): (-0.4084857, -0.079181254),
        ("<s>", "c"): (-0.6118198, 0),
        ("b", "c"): (-0.4913909, -0.079181254),
        ("a", "b", "</s>"): (-0.44642746, 0),
        ("b", "c", "</s>"): (-0.30543908, 0),
        ("<s>", "a", "b"): (-0.4084857, 0),
        ("a", "b", "c"): (-0.45329398, 0),
    }
    assert_equal(table(estimate(lines, 3, prune=(0, 0, 1))), wanted, 2e-6)


# -- equal to the definition, and normalised

words = st.sampled_from("abcde")
corpora = (
    st.integers(1, 40).flatmap(lambda n: st.lists(st.lists(words, max_size=6), min_size=n, max_size=n)).filter(any)
)
thresholds = st.lists(st.integers(0, 2), min_size=1, max_size=5).map(sorted)


@given(corpora, st.integers(1, 5), thresholds)
def test_equals_the_definition(corpus, order, prune):
    prune = prune[:order]
    model = estimate([" ".join(sentence) for sentence in corpus], order, prune=prune)
    wanted = kneser_ney(corpus, order, prune + prune[-1:] * (order - len(prune)))
    assert_equal(table(model), wanted, 1e-9)


def log10_prob(model: Table, history: tuple[str, ...], word: str) -> float:
    """Backoff evaluation (Katz 1987)."""
    gram = (*history, word)
    if gram in model:
        return -math.inf if gram == ("<s>",) else model[gram][0]
    return model.get(history, (0.0, 0.0))[1] + log10_prob(model, history[1:], word)


@given(corpora, st.integers(1, 5), thresholds)
def test_probabilities_sum_to_one_after_every_history(corpus, order, prune):
    model = table(estimate([" ".join(sentence) for sentence in corpus], order, prune=prune[:order]))
    vocabulary = [gram[0] for gram in model if len(gram) == 1]
    histories = {(), *(gram for gram in model if len(gram) < order and gram[-1] not in ("</s>", "<unk>"))}
    for history in histories:
        total = sum(10 ** log10_prob(model, history, word) for word in vocabulary)
        assert total == pytest.approx(1, abs=1e-9), history


@given(corpora, st.integers(1, 5))
def test_a_kept_ngram_has_its_prefix_and_suffix(corpus, order):
    model = table(estimate([" ".join(sentence) for sentence in corpus], order, prune=(0, 1)[:order]))
    assert all(len(gram) == 1 or (gram[:-1] in model and gram[1:] in model) for gram in model)


# -- small and artificial texts


def test_a_tiny_text_gets_the_fallback_discounts():
    model = estimate(["a b c"], 2)
    assert model.fallbacks == (1, 2)
    assert model.discounts.tolist() == [[0.5, 1, 1.5]] * 2


def test_a_negative_discount_gets_the_fallback():
    # Words stand 1, 1, 2, 3, 3 and 3 times: Y = 1/2 and D2 = 2 - 3/2 * 3 / 1 < 0.
    assert estimate(["a", "b", "c c", "d d d", "e e e", "f f f"], 1).fallbacks == (1,)


def test_a_discount_of_exactly_zero_is_no_fallback():
    # Words stand 1, 1, 1, 2 and 3 times, </s> once: Y = 2/3 and D2 = 2 - 2 * 1 / 1 = 0, which is in range.
    model = estimate(["a b c d d e e e"], 1)
    assert model.fallbacks == ()
    assert model.discounts[0, 1] == 0


def test_sentences_shorter_than_the_order(tmp_path):
    model = estimate(["a b", "b"], 6)
    assert [len(order.last) for order in model.orders][3:] == [1, 0, 0]
    assert read_back(model, tmp_path).order == 6


def test_an_empty_line_is_an_empty_sentence():
    assert ("<s>", "</s>") in table(estimate(["a", ""], 2))
    assert ("<s>", "</s>") not in table(estimate(["a"], 2))


def test_unigram_pruning_keeps_special_words():
    model = table(estimate(["a b", "a"], 2, prune=(5,)))
    assert set(model) == {("<unk>",), ("<s>",), ("</s>",)}


def test_the_bar_is_a_word_like_any_other():
    assert ("|",) in table(estimate(["a | b"], 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": 0}, "order=0"),
        ({"order": 2, "prune": (0, 0, 1)}, "3 pruning thresholds for a model of order 2"),
        ({"order": 2, "prune": ()}, "0 pruning thresholds"),
        ({"order": 2, "prune": (1, 0)}, "thresholds 1 0: they must be >= 0 and must not decrease"),
        ({"order": 2, "prune": (-1, 0)}, "thresholds -1 0"),
        ({"order": 2, "unit": "words"}, "unit='words' is none of word, char, token"),
    ],
)
def test_settings_that_cannot_be_used(settings, message):
    with pytest.raises(TextError, match=re.escape(message)):
        estimate(["a b"], **settings)


# -- the file


def test_arpa_text(tmp_path):
    write_arpa(estimate(["b a", "b"], 2, unit="token"), tmp_path / "lm.arpa")
    lines = (tmp_path / "lm.arpa").read_text().split("\n")
    assert lines[:6] == ["# asr unit=token order=2", "\\data\\", "ngram 1=5", "ngram 2=4", "", "\\1-grams:"]
    # in the order in which words first stand in the text
    assert [line.split("\t")[1] for line in lines[6:11]] == ["<unk>", "<s>", "</s>", "b", "a"]
    assert [line.split("\t")[1] for line in lines[13:17]] == ["<s> b", "b </s>", "b a", "a </s>"]
    assert lines[7].startswith("0\t<s>\t-")
    assert lines[17:] == ["", "\\end\\", ""]


def test_the_same_text_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_arpa(estimate(["b a", "c b"], 3), tmp_path / f"{name}.arpa.gz")
        write_arpa(estimate(["b a", "c b"], 3), tmp_path / f"{name}.arpa")
    assert (tmp_path / "a.arpa.gz").read_bytes() == (tmp_path / "b.arpa.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.arpa.gz").read_bytes()) == (tmp_path / "b.arpa").read_bytes()


def test_the_decoder_reads_what_was_written(tmp_path):
    lines = ["ab ba", "aab", "", "b ab", "abba ab"]
    model = estimate(lines, 4, unit="char")
    loaded = read_back(model, tmp_path)
    written = table(model)
    for line in [*lines, "zab"]:
        history: tuple[str, ...] = ("<s>",)
        wanted = 0.0
        for token in [*line.replace(" ", "|"), "</s>"]:
            token = token if (token,) in written else "<unk>"
            wanted += log10_prob(written, history, token)
            history = (*history, token)[-3:]
        assert loaded.score(list(line.replace(" ", "|"))) == pytest.approx(wanted, abs=1e-4)
