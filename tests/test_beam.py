"""Beam search against every labelling there is, scored by its formula."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr.decode import BeamDecoder, Hypothesis, NGram
from asr.errors import DecodeError
from oracles.beam import best_alignment, ranked
from random_ctc import random_log_probs, write_random_arpa

EVERYTHING: dict[str, Any] = {
    "beam_size": 6000,
    "token_threshold": -200.0,
    "beam_threshold": -600.0,
    "n_best": 100000,
    "threads": 1,
}
LABELS = ["_", " ", "a", "b"]


def no_bonus(_: tuple[int, ...]) -> float:
    return 0.0


def assert_same(
    found: list[Hypothesis], log_probs: Any, bonus: Callable[[tuple[int, ...]], float], blank: int = 0
) -> None:
    """The whole N-best list against the oracle: labellings, scores, order, no duplicates."""
    wanted = ranked(log_probs, bonus, blank)
    scores = {labels: score for score, labels in wanted}
    assert len(found) == len(wanted) == len({hypothesis.tokens for hypothesis in found})
    for hypothesis, (score, _) in zip(found, wanted, strict=True):
        assert hypothesis.score == pytest.approx(score, abs=1e-6)
        assert scores[hypothesis.tokens] == pytest.approx(hypothesis.score, abs=1e-6)
        assert hypothesis.lm_score == pytest.approx(bonus(hypothesis.tokens), abs=1e-6)
        assert hypothesis.acoustic_score == pytest.approx(hypothesis.score - hypothesis.lm_score, abs=1e-9)


# --- acoustics alone --------------------------------------------------------------------------------------------------

ALPHABETS = [["_", " ", "a", "b"], ["_", "a", "b", "c"], ["_", "|", "a", "\u2581b"], ["_", "ab", "a", "b"]]


def assert_exact(trials: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for trial in range(trials):
        vocabulary, frames = int(rng.integers(1, 5)), int(rng.integers(0, 6))
        blank = int(rng.integers(vocabulary))
        log_probs = random_log_probs(rng, frames, vocabulary)
        decoder = BeamDecoder(ALPHABETS[trial % 4][:vocabulary], blank=blank, **EVERYTHING)
        [found] = decoder([log_probs])
        assert_same(found, log_probs, no_bonus, blank)
        for hypothesis in found[:2]:
            assert list(hypothesis.token_frames) == best_alignment(log_probs, hypothesis.tokens, blank)[1]


def test_all_labellings_with_their_sums() -> None:
    assert_exact(trials=100, seed=0)


@pytest.mark.slow
def test_all_labellings_of_many_matrices() -> None:
    assert_exact(trials=2500, seed=1)


def test_the_best_labelling_is_not_the_best_path() -> None:
    # Graves 2006, figure 2: two frames, "a" 0.4 each and blank 0.6: the best path is empty (0.36), the best labelling
    # is "a" (0.64).
    [[found]] = BeamDecoder(["_", "a"])([np.log([[0.6, 0.4], [0.6, 0.4]])])
    assert (found.text, found.score) == ("a", pytest.approx(math.log(0.64)))


def test_a_small_beam_gives_an_ordered_list() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        [found] = BeamDecoder(LABELS, beam_size=5, n_best=5)([random_log_probs(rng, 40, 4)])
        scores = [hypothesis.score for hypothesis in found]
        assert scores == sorted(scores, reverse=True)
        assert len({hypothesis.tokens for hypothesis in found}) == len(found) == 5


def test_long_utterances_keep_their_scale() -> None:
    rng = np.random.default_rng(4)
    log_probs = random_log_probs(rng, 5000, 30)
    labels = ["_", *map(chr, range(97, 126))]
    [[found]] = BeamDecoder(labels, beam_size=8, token_threshold=-20.0)([log_probs])
    tensor = torch.from_numpy(log_probs).double().unsqueeze(1)
    loss = torch.nn.functional.ctc_loss(
        tensor, torch.tensor([found.tokens]), torch.tensor([5000]), torch.tensor([len(found.tokens)]), reduction="none"
    )
    # The beam has lost some alignments of its prefix, and so scores it a little lower than all of them together.
    assert 1.1 * -loss.item() < found.score <= -loss.item() + 1e-3
    assert list(found.token_frames) == sorted(set(found.token_frames))


def test_uniform_rows_fill_the_beam() -> None:
    labels = ["_", *map(chr, range(97, 123)), *map(chr, range(65, 91))]
    log_probs = np.full((6, len(labels)), -math.log(len(labels)))
    [found] = BeamDecoder(labels, beam_size=10, n_best=10)([log_probs])
    assert len({hypothesis.tokens for hypothesis in found}) == 10


# --- language model, lexicon, hotwords --------------------------------------------------------------------------------

SPACES = [(" ", ["_", " ", "a", "b"]), ("|", ["_", "|", "a", "b"]), ("\u2581", ["_", "\u2581a", "b", "\u2581b"])]


def words_of(labels: list[str], space: str, tokens: tuple[int, ...]) -> list[str]:
    return "".join(labels[token] for token in tokens).replace(space, " ").split()


def occurrences(phrase: str, words: list[str]) -> int:
    wanted = phrase.split()
    return sum(words[place : place + len(wanted)] == wanted for place in range(len(words)))


@pytest.mark.parametrize("space_and_labels", SPACES, ids=["space", "pipe", "pieces"])
@pytest.mark.parametrize(
    "parts", ["word", "word lexicon", "word hot", "token", "token hot", "lexicon", "hot", "lexicon hot"]
)
def test_every_part_of_the_formula(parts: str, space_and_labels: tuple[str, list[str]], tmp_path: Path) -> None:
    space, labels = space_and_labels
    rng = np.random.default_rng(len(parts))
    for trial in range(8):
        log_probs = random_log_probs(rng, int(rng.integers(1, 7)), 4)
        alpha, beta, offset = (
            float(rng.choice([0, 0.5, 1.3])),
            float(rng.choice([-1.0, 0, 2])),
            float(rng.choice([0, -3])),
        )
        per_character = float(rng.choice([0, -0.7]))
        kind = parts.split()[0]
        lm = None
        if kind in ("word", "token"):
            known = ["a", "ab", "ba", "aab"] if kind == "word" else [label.replace(" ", "|") for label in labels[1:]]
            lm = NGram.load(write_random_arpa(rng, tmp_path / f"{trial}.arpa", known, int(rng.integers(1, 4))))
        lexicon = ["a", "ab", "bb"] if "lexicon" in parts else None
        hotwords = {"a": 1.0, "ab": -2.0, "a b": 1.5, "b a b": 3.0} if "hot" in parts else None
        if hotwords and lexicon:
            hotwords = {phrase.replace("b", "bb") if " " in phrase else phrase: hotwords[phrase] for phrase in hotwords}

        def bonus(
            tokens: tuple[int, ...],
            lm: NGram | None = lm,
            kind: str = kind,
            lexicon: list[str] | None = lexicon,
            hotwords: dict[str, float] | None = hotwords,
            weights: tuple[float, float, float, float] = (alpha, beta, offset, per_character),
        ) -> float:
            words = words_of(labels, space, tokens)
            if lexicon is not None and not set(words) <= set(lexicon):
                return -math.inf
            total = sum(weight * occurrences(phrase, words) for phrase, weight in (hotwords or {}).items())
            if lm is not None:
                units = words if kind == "word" else [labels[token].replace(" ", "|") for token in tokens]
                unknown = [unit for unit in units if lm.word_id(unit) == 0]
                letters = 0 if kind == "token" else sum(len(word) for word in unknown if lexicon is None)
                offsets = weights[2] * len(unknown) + weights[3] * letters
                total += weights[0] * (math.log(10) * lm.score(units) + offsets) + weights[1] * len(units)
            return total

        decoder = BeamDecoder(
            labels,
            space=space,
            lm=lm,
            lm_unit="token" if kind == "token" else "word",
            lexicon=lexicon,
            hotwords=hotwords,
            alpha=alpha,
            beta=beta,
            unknown_offset=offset,
            unknown_per_character=per_character,
            **EVERYTHING,
        )
        [found] = decoder([log_probs])
        assert_same(found, log_probs, bonus)
        assert all(hypothesis.text.split() == words_of(labels, space, hypothesis.tokens) for hypothesis in found)


def test_a_lexicon_of_phonemes_with_several_spellings_and_homophones(tmp_path: Path) -> None:
    labels = ["_", "|", "T", "UW", "AH", "M"]
    lexicon = {"two": [["T", "UW"]], "too": [["T", "UW"], ["T", "AH"]], "tomb": [["T", "UW", "M"]]}
    arpa = tmp_path / "lm.arpa"
    arpa.write_text(
        "\\data\\\nngram 1=5\nngram 2=1\n\n\\1-grams:\n-1\t<s>\t0\n-1\t</s>\n-1\ttwo\t0\n-1.2\ttoo\t0\n-3\ttomb\t0\n\n"
        "\\2-grams:\n-0.1\ttwo too\n\n\\end\\\n"
    )
    path = [2, 3, 0, 1, 2, 3, 1, 2, 4]  # T UW, T UW, T AH
    probs = np.full((len(path), 6), 0.01)
    probs[np.arange(len(path)), path] = 0.95
    decoder = BeamDecoder(labels, space="|", lexicon=lexicon, lm=NGram.load(arpa), lm_unit="word", alpha=1.0, beta=0.0)
    [[found]] = decoder([np.log(probs)])
    assert found.text == "two two too"  # "two too too" has 0.2 less
    assert [word.text for word in found.words] == ["two", "two", "too"]
    assert found.lm_score == pytest.approx(math.log(10) * (-1 - 1 - 0.1 - 1))


def test_a_separator_at_the_end_of_a_spelling_or_in_front_is_left_out() -> None:
    path = [2, 3, 1, 3]
    probs = np.full((4, 4), 0.01)
    probs[np.arange(4), path] = 0.97
    lexicon = {"ab": [["a", "b", " "]], "b": [[" ", "b"]]}
    [[found]] = BeamDecoder(LABELS, lexicon=lexicon, hotwords={"ab b": 1.0})([np.log(probs)])
    assert found.text == "ab b"
    assert found.lm_score == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("lexicon", "message"),
    [
        ([], "lexicon holds no word"),
        ({"ab": "ab"}, "lexicon: spellings of 'ab' must be a list of lists of labels, found 'ab'"),
        ({"ab": ["a b"]}, "lexicon: a spelling of 'ab' must be a list of labels, found 'a b'"),
        ({"ab": [[["a"]]]}, "lexicon: a label of 'ab' must be a string, found \\['a'\\]"),
        ({"ab": []}, "lexicon: word 'ab' needs a list of spellings, each a list of labels"),
        ({"ab": [["a", "x"]]}, "lexicon: word 'ab' is spelled with \\['x'\\], which is no label"),
        ({"ab": [["a", "_", "b"]]}, "lexicon: word 'ab' is spelled with \\['_'\\], which writes nothing"),
        ({"ab": [["a", " ", "b"]]}, "lexicon: word 'ab' is spelled with \\[' '\\], which writes nothing"),
        ({"ab": [[" "]]}, "lexicon: word 'ab' is spelled with \\[' '\\], which writes nothing"),
        ({"ab": [["a", " b"]]}, "lexicon: word 'ab' is spelled with \\[' b'\\], which begins another word"),
    ],
)
def test_lexicons_whose_words_could_never_be_heard(lexicon: Any, message: str) -> None:
    with pytest.raises(DecodeError, match=f"^{message}$"):
        BeamDecoder(["_", " ", "a", "b", " b"], lexicon=lexicon)


def test_a_spelling_must_begin_a_word_where_pieces_alone_do() -> None:
    lexicon = {"ab": [["\u2581a", "b"]], "b": [["b"]]}
    with pytest.raises(DecodeError, match=r"^lexicon: word 'b' is spelled with 'b' in front, which begins no word$"):
        BeamDecoder(["_", "\u2581a", "b"], space="\u2581", lexicon=lexicon)
    BeamDecoder(["_", "\u2581", "\u2581a", "b"], space="\u2581", lexicon=lexicon)


def test_a_word_that_the_end_cuts_off_is_left_out_under_a_lexicon() -> None:
    path = [2, 3, 1, 2]  # "ab a": "a" is no word
    probs = np.full((4, 4), 1e-6)
    probs[np.arange(4), path] = 1 - 3e-6
    [[found]] = BeamDecoder(LABELS, lexicon=["ab"], beam_size=2)([np.log(probs)])
    assert found.text == "ab"


def test_unknown_words_are_scored_and_never_lost(tmp_path: Path) -> None:
    lm = NGram.load(write_random_arpa(np.random.default_rng(0), tmp_path / "lm.arpa", ["ab"], 2))
    path = [3, 0, 3, 1, 2, 3]  # "bb ab"
    probs = np.full((6, 4), 1e-4)
    probs[np.arange(6), path] = 1 - 3e-4
    [[found]] = BeamDecoder(LABELS, lm=lm, alpha=0.5, unknown_offset=-5.0, unknown_per_character=-0.25)([np.log(probs)])
    assert found.text == "bb ab"
    assert found.lm_score == pytest.approx(0.5 * (math.log(10) * lm.score(["bb", "ab"]) - 5.0 - 0.25 * 2) + 1.5 * 2)


def test_a_large_alphabet_of_words() -> None:
    # More symbols than the 64 that a node of the trie can tell apart at a glance.
    characters = [chr(0x4E00 + number) for number in range(200)]
    rng = np.random.default_rng(9)
    words = ["".join(rng.choice(characters, int(rng.integers(1, 4)))) for _ in range(500)]
    labels = ["_", " ", *characters]
    decoder = BeamDecoder(labels, lexicon=words)
    for _ in range(20):
        said = " ".join(rng.choice(words, 3))
        probs = np.full((2 * len(said), len(labels)), 1e-5)
        probs[np.arange(0, len(probs), 2), [labels.index(character) for character in said]] = 1
        probs[np.arange(1, len(probs), 2), 0] = 1
        other = rng.integers(2, len(labels), len(probs))
        probs[np.arange(len(probs)), other] += 0.3
        [[found]] = decoder([np.log(probs / probs.sum(1, keepdims=True))])
        assert found.text == said


def test_a_forced_prefix() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        log_probs = random_log_probs(rng, 6, 4)
        [found] = BeamDecoder(LABELS, **EVERYTHING)([log_probs], prefix="ab")
        assert_same(found, log_probs, lambda tokens: 0.0 if tokens[:2] == (2, 3) else -math.inf)
    with pytest.raises(DecodeError, match=r"utterance 0: the forced prefix needs 3 frames, found 2"):
        BeamDecoder(LABELS)([random_log_probs(rng, 2, 4)], prefix="aa")
    with pytest.raises(DecodeError, match=r"utterance 0: the forced prefix contradicts the 3 frames, or the lexicon"):
        BeamDecoder(LABELS, lexicon=["b"])([random_log_probs(rng, 3, 4)], prefix="a")
    with pytest.raises(DecodeError, match=r"prefix 'ax' cannot be spelled with the labels, from 'x' on"):
        BeamDecoder(LABELS)([random_log_probs(rng, 3, 4)], prefix="ax")


def test_a_decoder_shows_what_its_users_may_use() -> None:
    shown = [name for name in dir(BeamDecoder(LABELS)) if not name.startswith("_")]
    settings = ["beam_size", "blank", "confidence_scale", "labels", "n_best", "space", "threads"]
    assert shown == sorted([*settings, "labels_of", "reading", "stream"])


def test_a_prefix_is_spelled_where_any_labels_spell_it() -> None:
    decoder = BeamDecoder(["_", "ab", "a", "bc"], space="|")
    assert decoder.labels_of("abc").tolist() == [2, 3]  # not "ab", which leaves a "c"
    assert decoder.labels_of("abab").tolist() == [1, 1]


def test_white_space_behind_a_prefix_ends_its_word() -> None:
    assert BeamDecoder(LABELS).labels_of(" a  b \n").tolist() == [2, 1, 3, 1]
    assert BeamDecoder(LABELS).labels_of(" ").tolist() == []
    assert BeamDecoder(["_", "\u2581a", "b", "\u2581"], space="\u2581").labels_of("ab ").tolist() == [1, 2]
    log_probs = np.log(np.eye(4)[[2, 0, 0, 3]] * 0.97 + 0.01)
    [[found]] = BeamDecoder(LABELS)([log_probs], prefix="a ")
    assert found.text == "a b"


def test_a_word_that_is_cut_off_after_a_forced_prefix_is_dropped() -> None:
    log_probs = np.log(np.eye(4)[[3, 1, 2]] * 0.97 + 0.01)  # "b a"
    for lexicon in (["b", "ab"], ["b"]):
        [[found]] = BeamDecoder(LABELS, lexicon=lexicon, beam_size=2)([log_probs], prefix="b")
        assert found.text == "b"
    with pytest.raises(DecodeError, match=r"contradicts the 3 frames, or the lexicon"):
        BeamDecoder(LABELS, lexicon=["ab"])([log_probs], prefix="a b")


def test_a_forced_prefix_of_words_that_the_model_does_not_know(tmp_path: Path) -> None:
    arpa = tmp_path / "lm.arpa"  # without <unk>, an unknown word has a probability of 1e-100
    arpa.write_text("\\data\\\nngram 1=3\n\n\\1-grams:\n-1\t<s>\n-1\t</s>\n-0.5\tb\n\n\\end\\\n")
    said = "a ab a ab a ab a ab"
    path = [label for character in said for label in (LABELS.index(character), 0)]
    probs = np.full((len(path), 4), 0.005)
    probs[np.arange(len(path)), path] = 0.985
    decoder = BeamDecoder(LABELS, lm=NGram.load(arpa), alpha=1.0, beta=0.0)
    [[found]] = decoder([np.log(probs)], prefix=said)
    assert found.text == said
    unknown = -100 * math.log(10) - 5
    assert found.lm_score == pytest.approx(8 * unknown - 12 - math.log(10), rel=1e-6)  # 12 characters


@pytest.mark.parametrize("beam_size", [1, 2, 5])
def test_a_forced_prefix_survives_in_a_small_beam(beam_size: int) -> None:
    rng = np.random.default_rng(10)
    prefix = "abba ab ba"
    sure = np.full((60, 4), 1e-4)
    sure[:, 0] = 1 - 3e-4  # silence, which says nothing of the prefix
    for log_probs in (np.log(sure), random_log_probs(rng, 60, 4)):
        decoder = BeamDecoder(LABELS, beam_size=beam_size)
        [[found]] = decoder([log_probs], prefix=prefix)
        assert found.text.startswith(prefix)
        [[best]] = BeamDecoder(LABELS, beam_size=100)([log_probs], prefix=prefix)
        assert found.score <= best.score + 1e-9


# --- words, times, confidence -----------------------------------------------------------------------------------------


def test_words_have_times_and_confidences() -> None:
    path = [1, 2, 2, 0, 1, 1, 3, 0]
    probs = np.full((8, 4), 0.02)
    probs[np.arange(8), path] = 0.94
    [[found]] = BeamDecoder(LABELS, frame_s=0.04)([np.log(probs)])
    assert found.text == "a b"
    assert [(word.text, round(word.start_s, 2), round(word.end_s, 2)) for word in found.words] == [
        ("a", 0.04, 0.08),
        ("b", 0.24, 0.28),
    ]
    assert all(0.7 < word.confidence < 1 for word in found.words)
    assert 0.5 < found.confidence < 1


def test_the_confidence_of_a_word_is_its_share_of_what_goes_on_from_the_same_words() -> None:
    rng = np.random.default_rng(11)
    for _ in range(50):
        log_probs = random_log_probs(rng, 6, 4)
        decoder = BeamDecoder(LABELS, **EVERYTHING, confidence_scale=1.0)
        [everything] = decoder([log_probs])
        [[best]] = decoder([log_probs], n_best=1)
        assert best.words == everything[0].words
        for hypothesis in everything[:20]:
            assert [word.confidence for word in hypothesis.words] == pytest.approx(
                [share_of_word(span, hypothesis, everything) for span in spans(hypothesis.tokens)], rel=1e-6
            )


def spans(tokens: tuple[int, ...]) -> list[tuple[int, int]]:
    """Where the words of a labelling begin and end; label 1 stands between them."""
    edges = [-1, *(place for place, label in enumerate(tokens) if label == 1), len(tokens)]
    return [(before + 1, after) for before, after in pairwise(edges) if after > before + 1]


def share_of_word(span: tuple[int, int], hypothesis: Hypothesis, everything: list[Hypothesis]) -> float:
    """Of all hypotheses that begin as this one until its word begins, the part that has the same word there."""
    start, end = span
    alike = [other for other in everything if other.tokens[:start] == hypothesis.tokens[:start]]
    same = [other for other in alike if other.tokens[:end] == hypothesis.tokens[:end] and (*other.tokens, 1)[end] == 1]
    return sum(other.confidence for other in same) / sum(other.confidence for other in alike)


def test_confidence_tells_sure_words_from_unsure_ones() -> None:
    sure, unsure = [0.002, 0.002, 0.994, 0.002], [0.002, 0.002, 0.6, 0.396]
    space, blank = [0.002, 0.994, 0.002, 0.002], [0.994, 0.002, 0.002, 0.002]
    rows = [sure, space, unsure, space, sure, *[blank] * 80, space, unsure]
    [[found]] = BeamDecoder(LABELS, confidence_scale=1.0)([np.log(rows)])
    assert found.text == "a a a a"
    first, second, third, fourth = (word.confidence for word in found.words)
    assert first > 0.98
    assert third == pytest.approx(0.75, abs=0.03)  # 80 blanks of 0.994, in each of which something may be hidden
    assert second == pytest.approx(0.6, abs=0.03)
    assert fourth == pytest.approx(0.51, abs=0.03)
