"""New sentences from pieces of recordings, whose words follow each other as in the transcripts.

A recogniser learns from its training sentences which word follows which, as well as how each sounds. In words thrown
together it learns that anything follows anything, an "h" between two digits too.
"""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from asr.decode import NGram
from asr.lm import estimate
from asr.lm.arpa import write_arpa
from asr.pieces import Piece

# Pieces are faded into each other over so many seconds: half a period of the lowest voice would click.
_FADE_S = 0.01


class Succession:
    """The probabilities of the next word by an n-gram model (interpolated modified Kneser-Ney) of some texts.

    Args:
        texts: sentences, words separated by spaces.
        order: the longest n-gram; 1: what was said before does not matter.

    Raises:
        TextError: a text cannot be used; see `asr.lm.estimate`.
    """

    def __init__(self, texts: Iterable[str], order: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            arpa = Path(folder) / "texts.arpa"
            write_arpa(estimate(texts, order), arpa)
            self._model = NGram.load(arpa)
        self._known: dict[tuple[str, ...], dict[str, float]] = {}

    def probabilities(self, said: Sequence[str], words: Sequence[str]) -> tuple[Tensor, float]:
        """What may follow the beginning of a sentence.

        Args:
            said: the words so far.
            words: W that might come next, none of them empty.

        Returns:
            (W,) float64 probabilities of these words, and that of the sentence's end.
        """
        context = self._model.order - 1
        begins = len(said) < context
        history = ("<s>", *said) if begins else tuple(said[len(said) - context :])
        known = self._known.setdefault(history, {})
        for word in words:
            if word not in known:
                known[word] = self._last([*said[-context:], word] if context else [word], bos=begins)
        if "" not in known:
            known[""] = self._last(said[-context:] if context else [], bos=begins, eos=True)
        return torch.tensor([known[word] for word in words], dtype=torch.float64), known[""]

    def _last(self, words: Sequence[str], *, bos: bool, eos: bool = False) -> float:
        """The probability of the last of these words, or of the end behind them."""
        log10, _, _ = self._model.full_scores(words, bos=bos, eos=eos)[-1]
        return float(10**log10)


class Stock:
    """The pieces of a speaker, drawn with replacement.

    Args:
        pieces: at least one, each with a word.
        succession: what follows what.
    """

    def __init__(self, pieces: Sequence[Piece], succession: Succession) -> None:
        self._pieces: dict[str, list[Piece]] = {}
        for piece in pieces:
            self._pieces.setdefault(piece.text.split()[0], []).append(piece)
        self._words = list(self._pieces)
        self._sizes = torch.tensor([len(group) for group in self._pieces.values()], dtype=torch.float64)
        self._used = torch.zeros_like(self._sizes)
        self._succession = succession

    def draw(self, said: Sequence[str], generator: torch.Generator) -> Piece | None:
        """The piece that goes on behind the words so far, or None where the sentence ends."""
        follows, ends = self._succession.probabilities(said, self._words)
        if float(torch.rand((), generator=generator)) * (ends + float(follows.sum())) < ends:
            return None
        # A rare word seldom follows anything: pieces that were used less than others are more likely, and catch up.
        mean = self._used.sum() / self._sizes.sum()
        weights = follows * ((1 + mean) / (1 + self._used / self._sizes)) ** 2
        number = int(torch.multinomial(weights, 1, generator=generator))
        self._used[number] += 1
        group = self._pieces[self._words[number]]
        return group[int(torch.randint(len(group), (), generator=generator))]


def assemble(stock: Stock, generator: torch.Generator, seconds: tuple[float, float], rate_hz: int) -> Piece:
    """A sentence of pieces of a speaker.

    It ends where the transcripts end, once the shortest length is reached; before, another sentence begins. Or it is
    broken off, at a length drawn between the shortest and the longest.

    Args:
        stock: what to draw from.
        generator: draws.
        seconds: shortest and longest.
        rate_hz: of the waveforms.
    """
    low, high = seconds
    length_s = low + (high - low) * float(torch.rand((), generator=generator))
    chosen: list[Piece] = []
    said: list[str] = []
    total = 0
    while not chosen or total + len(chosen[-1].wave) // 2 < length_s * rate_hz:
        piece = stock.draw(said, generator)
        if piece is not None:
            chosen.append(piece)
            said += piece.text.split()
            total += len(piece.wave)
        elif total >= low * rate_hz:
            break
        else:
            said = []
    return Piece(_joined([piece.wave for piece in chosen], round(_FADE_S * rate_hz)), " ".join(p.text for p in chosen))


def _joined(waves: Sequence[Tensor], fade: int) -> Tensor:
    """One after the other, each faded into the next over `fade` samples."""
    joined = torch.empty(sum(map(len, waves)))
    end = 0
    for wave in waves:
        overlap = min(fade, end, len(wave))
        rise = torch.linspace(0, 1, overlap)
        joined[end - overlap : end] = joined[end - overlap : end] * (1 - rise) + wave[:overlap] * rise
        joined[end : end + len(wave) - overlap] = wave[overlap:]
        end += len(wave) - overlap
    return joined[:end]
