"""Recordings cut in their pauses."""

from dataclasses import replace

import torch

from asr.decode import Word
from asr.splicing.pieces import cut
from tones import RATE_HZ, wave


def tones(text: str) -> torch.Tensor:
    return torch.from_numpy(wave(text)).float()


def word(text: str, start_s: float, end_s: float) -> Word:
    return Word(text, start_s, end_s, 1.0)


def test_cuts_lie_in_the_pauses() -> None:
    samples = tones("ab cd")  # each letter 0.1 s and half as much behind it, after the same of silence
    words = [word("ab", 0.05, 0.25), word("cd", 0.5, 0.75)]
    first, second = cut(samples, words, 0.02, RATE_HZ)
    assert torch.equal(torch.cat([first.wave, second.wave]), samples)
    assert (first.text, second.text) == ("ab", "cd")
    assert 0.30 < len(first.wave) / RATE_HZ < 0.5  # "b" ends at 0.30, "c" begins at 0.5


def test_words_without_a_pause_stay_together() -> None:
    time_s = torch.arange(RATE_HZ) / RATE_HZ
    hum = torch.sin(2 * torch.pi * 440 * time_s)
    (piece,) = cut(hum, [word("a", 0.1, 0.3), word("b", 0.5, 0.7)], 0.02, RATE_HZ)
    assert piece.text == "a b"
    assert torch.equal(piece.wave, hum)
    hum[RATE_HZ // 10 : RATE_HZ // 5] = 0  # inside the first word, where no cut is looked for
    assert len(cut(hum, [word("a", 0.1, 0.3), word("b", 0.5, 0.7)], 0.02, RATE_HZ)) == 1


def test_doubtful_words_stay_with_their_neighbours() -> None:
    samples = tones("ab cd ab")
    words = [word("ab", 0.05, 0.25), word("cd", 0.5, 0.75), word("ab", 0.95, 1.1)]
    assert [piece.text for piece in cut(samples, words, 0.02, RATE_HZ)] == ["ab", "cd", "ab"]
    doubtful = replace(words[1], confidence=0.01)
    assert [piece.text for piece in cut(samples, [words[0], doubtful, words[2]], 0.02, RATE_HZ)] == ["ab cd ab"]
    in_silence = [words[0], word("cd", 0.36, 0.38), word("ab", 0.44, 0.7)]  # all of them between 0.30 and 0.5 s
    assert len(cut(samples[: round(0.5 * RATE_HZ)], in_silence, 0.02, RATE_HZ)) < 3
    last = [words[0], word("cd", 0.5, 0.75), word("ab", 1.15, 1.19)]  # behind the last sound
    assert [piece.text for piece in cut(samples[: round(0.9 * RATE_HZ)], last, 0.02, RATE_HZ)][-1] == "cd ab"
