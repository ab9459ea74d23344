"""Grammars as language models: which sentences they allow, and what the search makes of that."""

import itertools
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr.cli import main
from asr.decode import BeamDecoder, NGram, grammar
from asr.errors import DecodeError
from oracles.beam import ranked
from oracles.grammar import log10_prob, random_expression, sentences, written
from random_ctc import random_log_probs

LABELS = ["_", " ", "a", "b"]
EVERYTHING: dict[str, Any] = {"beam_size": 6000, "token_threshold": -200.0, "beam_threshold": -600.0, "n_best": 100000}


@pytest.mark.parametrize("endless", [False, True])
def test_the_sentences_of_expressions(endless: bool) -> None:
    rng = random.Random(endless)
    for _ in range(150):
        expression = random_expression(rng, ["a", "b"], 3, endless=endless)
        model = NGram.from_grammar(written(expression))
        allowed = sentences(expression, 4)
        for length in range(5):
            for words in itertools.product("ab", repeat=length):
                assert (model.score(words) > -math.inf) == (words in allowed), (written(expression), words)


def test_what_may_follow_is_equally_probable() -> None:
    rng = random.Random(2)
    for _ in range(60):
        expression = random_expression(rng, ["a", "b", "c"], 2, endless=False)
        model = NGram.from_grammar(written(expression))
        allowed = sentences(expression, 100)
        assert sum(10 ** model.score(words) for words in allowed) == pytest.approx(1)
        for words in allowed:
            assert model.score(words) == pytest.approx(log10_prob(words, allowed), abs=1e-5)


GRAMMAR = """\ufeff# What may be said.
<digit> = one | two
  | three # and so on
turn (on|off) the (light | fan) please ?

call <digit>{2,3}
| dial <digit>+
c\\# don't \\| \\\\ \\<t\\> # c# is no comment, and these are words
"""


@pytest.mark.parametrize(
    ("sentence", "allowed"),
    [
        ("turn on the light", True),
        ("turn off the fan please", True),
        ("turn on the light please please", False),
        ("turn on", False),
        ("call one", False),
        ("call one three two", True),
        ("call one three two two", False),
        ("dial two two two two two", True),
        ("dial", False),
        ("c# don't | \\ <t>", True),
        ("call one four", False),
        ("", False),
    ],
)
def test_how_a_grammar_is_written(sentence: str, allowed: bool) -> None:
    assert (NGram.from_grammar(GRAMMAR).score(sentence.split()) > -math.inf) == allowed


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("", "grammar: has no sentence"),
        ("# nothing\n<a> = b\n", "grammar: has no sentence"),
        ("a{0}", "grammar: holds no word"),
        ("one\n(two | three", "line 2: before '(two | three': this ( is never closed"),
        ("one) two", "line 1: before ') two': here is a ) without its ("),
        ("one | | two", "line 1: before '| two': wanted a word, <name> or ("),
        ("one |", "line 1: at the end of 'one |': wanted a word"),
        ("()", "line 1: before ')': wanted a word"),
        ("? one", "line 1: before '? one': wanted a word"),
        ("one {x}", "line 1: before '{x}': wanted a word, <name>, ( ) | ? * + or {least,most}"),
        ("one{3,2}", "line 1: before '{3,2}': at least 3 times and at most 2"),
        ("call <digit>", "line 1: no line defines <digit>"),
        ("<a> = <b> c\n<b> = d <a>\n<a>", "line 2: <a> would hold itself"),
        ("<a> = b\n<a> = c\n<a>", "line 2: <a> is defined twice"),
        ("living\\ room", "line 1: before '\\\\ room': wanted a word, <name>"),
        ("<a> =\n<a>", "line 1: at the end of '': wanted a word"),
        ("\\<unk\\>", "line 1: at the end of '\\\\<unk\\\\>': <unk> cannot be a word"),
        ("(" * 101 + "a" + ")" * 101, "more than 100 parentheses within each other"),
        ("a" + "?" * 101, "more than 100 expressions within each other"),
        ("(((((a{999}){999}){999})", "this ( is never closed"),
    ],
)
def test_what_is_no_grammar(grammar: str, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        NGram.from_grammar(grammar)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("limit", "text"),
    [("_MOST_STATES", "a{300}"), ("_MOST_STATES", "(a | b)* a (a | b){8}"), ("_MOST_VISITS", "(a?){40}")],
)
def test_what_would_take_too_much_memory(limit: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    NGram.from_grammar(text)
    monkeypatch.setattr(grammar, limit, 300)
    with pytest.raises(DecodeError, match="grammar: is too large: too many repetitions within each other"):
        NGram.from_grammar(text)


def test_a_list_of_many_commands_is_read_in_linear_time() -> None:
    commands = [f"call number {number:05d} {place}" for number in range(5000) for place in ("home", "work")]
    model = NGram.from_grammar("\n".join(commands))
    assert model.score(["call", "number", "00042", "home"]) == pytest.approx(-math.log10(10000), abs=1e-4)
    assert model.counts == (3 + 5004, 5003, 0)


# --- in the search ----------------------------------------------------------------------------------------------------


HOTWORDS = {"a": 1.0, "ab bb": 2.0, "bb": -1.0}
LEXICONS: dict[str, Any] = {
    "lexicon": ["a", "ab", "bb", "b"],
    "spelled": {"a": [["a"]], "ab": [["a"], ["a", "b"]], "bb": [["b", "b"]]},  # two words have a spelling in common
}


@pytest.mark.parametrize("parts", ["", "hot", "lexicon", "spelled", "prefix"])
def test_the_search_finds_the_sentences_of_a_grammar_and_no_others(parts: str) -> None:
    rng, choices = np.random.default_rng(5), random.Random(5)
    compared = missed = 0
    for _ in range(40):
        expression = random_expression(choices, ["a", "ab", "bb"], 2, endless=False)
        allowed = sentences(expression, 5)

        def bonus(tokens: tuple[int, ...], allowed: set[tuple[str, ...]] = allowed) -> float:
            words = "".join(LABELS[token] for token in tokens).split()
            readings = [("a", "ab") if parts == "spelled" and word == "a" else (word,) for word in words]
            score = 0.7 * math.log(10) * max(log10_prob(said, allowed) for said in itertools.product(*readings))
            for phrase, weight in HOTWORDS.items() if parts == "hot" else ():
                wanted = phrase.split()
                score += weight * sum(words[at : at + len(wanted)] == wanted for at in range(len(words)))
            return score + 0.4 * len(words) if parts != "prefix" or tokens[:1] == (2,) else -math.inf

        log_probs = random_log_probs(rng, 6, 4)
        wanted = ranked(log_probs, bonus)
        if not wanted:
            continue
        decoder = BeamDecoder(
            LABELS,
            lm=NGram.from_grammar(written(expression)),
            lm_unit="word",
            lexicon=LEXICONS.get(parts),
            hotwords=HOTWORDS if parts == "hot" else None,
            alpha=0.7,
            beta=0.4,
            **EVERYTHING,
        )
        [found] = decoder([log_probs], prefix="a" if parts == "prefix" else "")
        scores = {labels: score for score, labels in wanted}
        for hypothesis in found:
            assert hypothesis.score == pytest.approx(scores.pop(hypothesis.tokens), abs=1e-5)
            assert tuple(word.text for word in hypothesis.words) in allowed
        assert found == sorted(found, key=lambda hypothesis: -hypothesis.score)
        assert not scores or parts == "spelled"  # see `BeamDecoder` on words that share a spelling
        compared, missed = compared + 1, missed + bool(scores)
    assert compared > 20
    assert missed < 5


def test_a_grammar_of_labels() -> None:
    rng = np.random.default_rng(6)
    model = NGram.from_grammar("a b{1,2} (a | b a)", unit="char")
    decoder = BeamDecoder(["_", "a", "b"], lm=model, alpha=1.0, beta=0.0, **EVERYTHING)
    allowed = sentences(("then", "a", ("times", "b", 1, 2), ("or", "a", ("then", "b", "a"))), 9)
    for _ in range(10):
        log_probs = random_log_probs(rng, 8, 3)
        wanted = ranked(
            log_probs, lambda tokens: math.log(10) * log10_prob(tuple("_ab"[token] for token in tokens), allowed)
        )
        [found] = decoder([log_probs])
        assert [hypothesis.tokens for hypothesis in found] == [labels for _, labels in wanted]
    [[none]] = decoder([random_log_probs(rng, 2, 3)], n_best=1)
    assert (none.text, none.tokens) == ("", ())


def spoken(text: str) -> Any:
    """(T, V) log-probabilities of a text, all but certain, with a blank after each label."""
    probs = np.full((2 * len(text), 28), 1e-3)
    for place, character in enumerate(text):
        probs[2 * place, 1 + " abcdefghijklmnopqrstuvwxyz".index(character)] = 1
        probs[2 * place + 1, 0] = 1
    return np.log(probs / probs.sum(1, keepdims=True))


@pytest.mark.parametrize(
    ("heard", "text"),
    [
        ("turn onn the lihgt", "turn on the light"),
        ("turn off the fan pleese", "turn off the fan please"),
        ("turn on the light plea", "turn on the light"),
        ("turn", ""),
        ("call one two th", "call one two"),
    ],
)
def test_a_sentence_that_ends_too_early_is_cut_to_one_that_may_end_there(heard: str, text: str) -> None:
    grammar = "<digit> = one | two | three\nturn (on | off) the (light | fan) please?\ncall <digit>{2,3}"
    decoder = BeamDecoder(["_", " ", *map(chr, range(97, 123))], lm=NGram.from_grammar(grammar))
    [[found]] = decoder([spoken(heard)])
    assert found.text == text
    for size in (1, 7):
        stream = decoder.stream()
        rows = spoken(heard)
        for start in range(0, len(rows), size):
            stream.accept(rows[start : start + size])
        assert stream.finish() == [found]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "grammar: word 'abc' cannot be spelled with the labels: \\['c'\\] is missing"),
        ({"lexicon": ["a", "b"]}, "grammar: the lexicon has no word 'abc'"),
        ({"lexicon": {"a": [["a"]]}}, "grammar: the lexicon has no word 'abc'"),
    ],
)
def test_words_that_could_never_be_heard(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        BeamDecoder(LABELS, lm=NGram.from_grammar("a abc"), lm_unit="word", **settings)


def test_alpha_zero_keeps_the_grammar() -> None:
    decoder = BeamDecoder(LABELS, lm=NGram.from_grammar("ab (a | b)"), lm_unit="word", alpha=0.0, beta=0.0, n_best=99)
    [found] = decoder([random_log_probs(np.random.default_rng(0), 12, 4)])
    assert {hypothesis.text for hypothesis in found} == {"ab a", "ab b"}


# --- files and commands -----------------------------------------------------------------------------------------------


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grammar, binary = tmp_path / "lights.txt", tmp_path / "lights.bin"
    grammar.write_text("turn (on | off)\r\n", encoding="utf-16")
    assert main(["lm", "grammar", str(grammar), "-o", str(binary)]) == 0
    assert capsys.readouterr().err == f"{binary}: a grammar of 3 words and 3 states\n"
    assert main(["lm", "info", str(binary)]) == 0
    assert capsys.readouterr().out == "a grammar of 3 words and 3 states\nunit: word\nmemory: 0.0 MB\n"
    model = NGram.load(binary)
    assert model.is_grammar
    assert model.score(["turn", "on"]) == pytest.approx(math.log10(0.5))
    assert model.score(["turn"]) == -math.inf
    assert model.score(["turn", "up"]) == -math.inf
    (tmp_path / "said.txt").write_text("turn on\nturn off\n")
    assert main(["lm", "perplexity", str(binary), str(tmp_path / "said.txt")]) == 0
    assert f"Perplexity including OOVs:\t{2 ** (1 / 3):.6g}\n" in capsys.readouterr().out

    assert main(["lm", "grammar", str(grammar), "-o", str(binary)]) == 2
    assert "lights.bin: exists" in capsys.readouterr().err
    assert main(["lm", "grammar", str(grammar), "-o", str(grammar), "--overwrite"]) == 2
    grammar.write_text("turn (on | off\n")
    capsys.readouterr()
    assert main(["lm", "grammar", str(grammar), "-o", str(binary), "--overwrite"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {grammar}: line 1: ")
    assert NGram.load(binary).score(["turn", "on"]) == model.score(["turn", "on"])


def test_no_torch() -> None:
    script = "from asr.decode import NGram; NGram.from_grammar('a'); import sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
