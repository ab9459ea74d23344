"""The hotword automaton: what a text is given for its phrases, and how much room it takes."""

import numpy as np
import pytest

from asr.decode import BeamDecoder
from asr.decode.hotwords import OTHER, WORD_END, Hotwords, build_hotwords


def bonus(hot: Hotwords, text: str) -> float:
    """What a finished text is given, step by step through its words and their ends."""
    states, state, total = hot.states, hot.first, 0.0
    for character in text + " ":
        symbol = WORD_END if character == " " else hot.alphabet.get(character, OTHER)
        owed = states["owed"][state]
        while True:
            children = range(states["child"][state], states["child"][state + 1])
            after = [child for child in children if states["symbol"][child] == symbol]
            if after or state == 0:
                break
            state = states["failure"][state]
        state = after[0] if after else 0
        total += float(states["complete"][state] + states["owed"][state] - owed)
    return total - float(states["owed"][state])


def occurrences(phrase: str, words: list[str]) -> int:
    wanted = phrase.split()
    return sum(words[place : place + len(wanted)] == wanted for place in range(len(words)))


def test_each_occurrence_as_whole_words() -> None:
    phrases = {"ab": 1.0, "ab cd": 4.0, "cd ab": -2.0, "b": 0.5, "cd": 0.25}
    hot = build_hotwords(phrases)
    rng = np.random.default_rng(0)
    for _ in range(200):
        words = rng.choice(["ab", "cd", "b", "abc", "x"], int(rng.integers(1, 7))).tolist()
        wanted = sum(weight * occurrences(phrase, words) for phrase, weight in phrases.items())
        assert bonus(hot, " ".join(words)) == pytest.approx(wanted)


def test_thousands_of_phrases_in_a_large_alphabet_take_little_room() -> None:
    rng = np.random.default_rng(1)
    characters = [chr(0x4E00 + number) for number in range(1000)]
    phrases = {"".join(rng.choice(characters, 5)): 5.0 for _ in range(1000)}
    hot = build_hotwords(phrases)
    assert len(hot.alphabet) > 900
    assert hot.states.nbytes < 500_000
    said = list(phrases)[123]
    labels = ["_", " ", *characters]
    probs = np.full((5, len(labels)), 1e-5)
    probs[np.arange(5), [labels.index(character) for character in said]] = 0.4
    probs[np.arange(5), rng.integers(2, 1002, 5)] += 0.5  # something else is likelier
    [[found]] = BeamDecoder(labels, hotwords=phrases)([np.log(probs / probs.sum(1, keepdims=True))])
    assert found.text == said
