"""Words that are spelled alike: the likeliest sequence of them, against all there are."""

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from asr.decode import BeamDecoder, NGram
from asr.lm import estimate, write_arpa
from random_ctc import random_log_probs, write_random_arpa
from test_beam import EVERYTHING, assert_same

LABELS = ["_", "|", "T", "U"]
LEXICON = {
    "two": [["T", "U"]],
    "too": [["T", "U"], ["T"]],
    "to": [["T", "U"], ["U", "T"]],
    "tea": [["T"]],
    "you": [["U"]],
    "ewe": [["U"]],
    "tut": [["T", "U", "T"]],
    "tattoo": [["T", "T", "U"]],  # of which the first two labels are no word
}


@pytest.mark.parametrize("order", [1, 2, 3])
def test_every_labelling_has_the_score_of_its_likeliest_words(order: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(order)
    owners: dict[tuple[int, ...], list[str]] = {}
    for word, spellings in LEXICON.items():
        for spelling in spellings:
            owners.setdefault(tuple(map(LABELS.index, spelling)), []).append(word)
    for trial in range(12):
        known = [word for word in LEXICON if word != "ewe"]  # which is unknown to the model
        lm = NGram.load(write_random_arpa(rng, tmp_path / f"{trial}.arpa", known, order))
        alpha, beta, offset = (
            float(rng.choice([0, 0.7, 1.5])),
            float(rng.choice([-1, 0, 2])),
            float(rng.choice([0, -3])),
        )

        def of_words(
            words: Sequence[str], lm: NGram = lm, alpha: float = alpha, beta: float = beta, offset: float = offset
        ) -> float:
            return alpha * (math.log(10) * lm.score(words) + offset * words.count("ewe")) + beta * len(words)

        def bonus(tokens: tuple[int, ...], of_words: Callable[[Sequence[str]], float] = of_words) -> float:
            spelled = [tuple(group) for end, group in itertools.groupby(tokens, lambda token: token == 1) if not end]
            if not all(spelling in owners for spelling in spelled):
                return -math.inf
            return max(of_words(words) for words in itertools.product(*(owners[part] for part in spelled)))

        log_probs = random_log_probs(rng, int(rng.integers(1, 7)), 4)
        decoder = BeamDecoder(
            LABELS, space="|", lm=lm, lexicon=LEXICON, alpha=alpha, beta=beta, unknown_offset=offset, **EVERYTHING
        )
        [found] = decoder([log_probs])
        assert_same(found, log_probs, bonus)
        for hypothesis in found:
            assert of_words([word.text for word in hypothesis.words]) == pytest.approx(hypothesis.lm_score, abs=1e-6)
        [[best]] = decoder([log_probs], n_best=1)
        assert (best.text, best.score, best.confidence) == (found[0].text, found[0].score, found[0].confidence)
        assert sum(hypothesis.confidence for hypothesis in found) == pytest.approx(1)


@pytest.fixture
def told_by_the_next(tmp_path: Path) -> BeamDecoder:
    """`to` is the likelier beginning of a sentence, `two` the one that dogs follow."""
    texts = ["to go"] * 6 + ["go to go"] * 4 + ["two dogs"] * 5 + ["see two dogs"] * 3 + ["go"] * 3 + ["see go"] * 2
    write_arpa(estimate(texts, 2), tmp_path / "lm.arpa")
    lexicon = {"to": [["T", "UW"]], "two": [["T", "UW"]], "dogs": [["D"]], "go": [["G"]]}
    labels = ["_", "|", "T", "UW", "D", "G"]
    return BeamDecoder(
        labels, space="|", lm=NGram.load(tmp_path / "lm.arpa"), lexicon=lexicon, alpha=1.0, beta=0.0, beam_size=16
    )


def spoken(decoder: BeamDecoder, labels: list[str]) -> NDArray[np.float64]:
    probs = np.full((len(labels), len(decoder.labels)), 1e-6)
    probs[np.arange(len(labels)), [decoder.labels.index(label) for label in labels]] = 1
    return np.asarray(np.log(probs / probs.sum(1, keepdims=True)))


def test_the_words_after_it_tell_what_a_word_is(told_by_the_next: BeamDecoder) -> None:
    dogs, go = (spoken(told_by_the_next, ["T", "UW", "|", label]) for label in "DG")
    assert [found.text for [found] in told_by_the_next([dogs, go])] == ["two dogs", "to go"]
    stream, longer = told_by_the_next.stream(), spoken(told_by_the_next, ["T", "UW", "|", "D", "|"])
    assert [stream.accept(row[None]).text for row in longer] == ["T", "TUW", "to", "to D", "two dogs"]
    assert stream.finish() == told_by_the_next([longer])[0]


@pytest.mark.parametrize("order", [2, 3])
def test_a_long_recording_is_read_alike_in_any_chunks(order: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(order)
    lm = NGram.load(write_random_arpa(rng, tmp_path / "lm.arpa", list(LEXICON), order))
    decoder = BeamDecoder(LABELS, space="|", lm=lm, lexicon=LEXICON, alpha=1.0, beta=0.5, beam_size=16)
    spellings = [spelling for owner in LEXICON.values() for spelling in owner]
    labels = [label for place in rng.integers(len(spellings), size=4000) for label in (*spellings[place], "|")]
    rows = spoken(decoder, labels)  # for many times the room of a tree
    [[whole]] = decoder([rows])
    words = [word.text for word in whole.words]
    assert len(words) == 4000
    assert whole.lm_score == pytest.approx(math.log(10) * lm.score(words) + 0.5 * len(words))
    stream = decoder.stream()
    for start in range(0, len(rows), 777):
        stream.accept(rows[start : start + 777])
    assert stream.finish() == [whole]
