"""New sentences from pieces of recordings, whose words follow each other as in the transcripts.

A recogniser learns from its training sentences which word follows which, as well as how each sounds. In words thrown
together it learns that anything follows anything, an "h" between two digits too.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.lm import estimate
from asr.lm.kneser_ney import Order
from asr.lm.text import BEGIN, END
from asr.splicing.pieces import Piece

# Pieces are faded into each other over so many seconds: half a period of the lowest voice would click.
_FADE_S = 0.01


class Succession:
    """The probabilities of the next word by an n-gram model (interpolated modified Kneser-Ney) of some texts.

    Args:
        texts: sentences, words separated by spaces.
        order: the longest n-gram; 1: what was said before does not matter.

    Attributes:
        id_of: by word, its place among the probabilities; the end of a sentence is `</s>`.

    Raises:
        TextError: a text cannot be used; see `asr.lm.estimate`.
    """

    def __init__(self, texts: Iterable[str], order: int) -> None:
        model = estimate(texts, order)
        self.id_of = {word: number for number, word in enumerate(model.words)}
        self._orders = model.orders
        self._anywhere: NDArray[np.float64] = 10 ** model.orders[0].log_prob
        self._anywhere[self.id_of[BEGIN]] = 0  # which never follows

    def after(self, said: Sequence[str]) -> NDArray[np.float64]:
        """(V,) probabilities of what follows the beginning of a sentence, which is given by its words."""
        context = [self.id_of[word] for word in (BEGIN, *said)[-len(self._orders) :]]
        probabilities: NDArray[np.float64] = self._anywhere.copy()
        # From the shortest history to the longest, as far as the texts have it: what followed there has a probability
        # of its own, and the rest a share of what the shorter one gave it.
        for length, (order, longer) in enumerate(pairwise(self._orders), start=1):
            history = self._row(context[-length:]) if len(context) >= length else None
            if history is None:
                break
            probabilities *= 10 ** order.backoff[history]
            rows = _followers(longer, history)
            probabilities[longer.last[rows]] = 10 ** longer.log_prob[rows]
        return probabilities

    def _row(self, words: Sequence[int]) -> int | None:
        """Where an n-gram stands in its order; None where the texts do not have it."""
        row = words[0]
        for order, word in zip(self._orders[1:], words[1:], strict=False):
            rows = _followers(order, row)
            row = rows.start + int(np.searchsorted(order.last[rows], word))
            if row == rows.stop or order.last[row] != word:
                return None
        return row


def _followers(order: Order, history: int) -> slice:
    """The rows of the n-grams that begin with the `history`-th n-gram of the order below."""
    start, stop = np.searchsorted(order.prefix, [history, history + 1])
    return slice(int(start), int(stop))


class Stock:
    """The pieces of a speaker, drawn with replacement.

    Args:
        pieces: at least one, each with a word.
        succession: what follows what.
    """

    def __init__(self, pieces: Sequence[Piece], succession: Succession) -> None:
        groups: dict[str, list[Piece]] = {}
        for piece in pieces:
            groups.setdefault(piece.text.split()[0], []).append(piece)
        self._ids = [succession.id_of[word] for word in groups]
        self._groups = list(groups.values())
        self._sizes = torch.tensor([len(group) for group in self._groups], dtype=torch.float64)
        self._used = torch.zeros_like(self._sizes)
        self._succession = succession

    def draw(self, said: Sequence[str], generator: torch.Generator) -> Piece | None:
        """The piece that goes on behind the words so far, or None where the sentence ends."""
        probabilities = self._succession.after(said)
        follows = torch.from_numpy(probabilities[self._ids])
        ends = float(probabilities[self._succession.id_of[END]])
        if float(torch.rand((), generator=generator)) * (ends + float(follows.sum())) < ends:
            return None
        # A rare word seldom follows anything: pieces that were used less than others are more likely, and catch up.
        mean = self._used.sum() / self._sizes.sum()
        weights = follows * ((1 + mean) / (1 + self._used / self._sizes)) ** 2
        number = int(torch.multinomial(weights, 1, generator=generator))
        self._used[number] += 1
        group = self._groups[number]
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
