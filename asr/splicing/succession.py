"""New sentences from pieces of recordings, whose words follow each other as in the transcripts.

A recogniser learns from its training sentences which word follows which, as well as how each sounds. From words thrown
together at random it learns that anything may follow anything, even an "h" between two digits.
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

# Pieces are cross-faded over this many seconds; half a period of the lowest voice would click.
_FADE_S = 0.01


class Succession:
    """The probabilities of the next word by an n-gram model (interpolated modified Kneser-Ney) of some texts.

    Args:
        texts: sentences, words separated by spaces.
        order: length of the longest n-grams; 1: the words before do not matter.

    Attributes:
        id_of: index of each word in the probabilities; the end of a sentence is `</s>`.

    Raises:
        TextError: a text cannot be used; see `asr.lm.estimate`.
    """

    def __init__(self, texts: Iterable[str], order: int) -> None:
        model = estimate(texts, order)
        self.id_of = {word: number for number, word in enumerate(model.words)}
        self._orders = model.orders
        self._anywhere: NDArray[np.float64] = 10 ** model.orders[0].log_prob
        self._anywhere[self.id_of[BEGIN]] = 0  # which never follows a word

    def after(self, said: Sequence[str]) -> NDArray[np.float64]:
        """(V,) probabilities of what follows `said`, the words of a sentence so far."""
        context = [self.id_of[word] for word in (BEGIN, *said)[-len(self._orders) :]]
        probabilities: NDArray[np.float64] = self._anywhere.copy()
        # From the shortest history to the longest that the texts have: words that followed it have probabilities of
        # their own, and the rest get a share of what the shorter history gave them.
        for length, (order, longer) in enumerate(pairwise(self._orders), start=1):
            history = self._row(context[-length:]) if len(context) >= length else None
            if history is None:
                break
            probabilities *= 10 ** order.backoff[history]
            rows = _followers(longer, history)
            probabilities[longer.last[rows]] = 10 ** longer.log_prob[rows]
        return probabilities

    def _row(self, words: Sequence[int]) -> int | None:
        """The row of an n-gram among those of its order; None where the texts do not have it."""
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
        succession: which word follows which.
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
        """Draw the piece that follows the words so far, or None where the sentence ends."""
        probabilities = self._succession.after(said)
        follows = torch.from_numpy(probabilities[self._ids])
        ends = float(probabilities[self._succession.id_of[END]])
        if float(torch.rand((), generator=generator)) * (ends + float(follows.sum())) < ends:
            return None
        # A rare word seldom follows anything, so pieces used less than others are made more likely, and catch up.
        mean = self._used.sum() / self._sizes.sum()
        weights = follows * ((1 + mean) / (1 + self._used / self._sizes)) ** 2
        number = int(torch.multinomial(weights, 1, generator=generator))
        self._used[number] += 1
        group = self._groups[number]
        return group[int(torch.randint(len(group), (), generator=generator))]


def assemble(stock: Stock, generator: torch.Generator, seconds: tuple[float, float], rate_hz: int) -> Piece:
    """A sentence made of a speaker's pieces.

    Once the shortest length is reached, it ends where the model of the transcripts ends it; an earlier end is followed
    by the beginning of another sentence. At a length drawn between the shortest and the longest it is broken off.

    Args:
        stock: what to draw from.
        generator: of the random draws.
        seconds: shortest and longest length.
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
    """The waveforms one after another, each faded into the next over `fade` samples."""
    joined = torch.empty(sum(map(len, waves)))
    end = 0
    for wave in waves:
        overlap = min(fade, end, len(wave))
        rise = torch.linspace(0, 1, overlap)
        joined[end - overlap : end] = joined[end - overlap : end] * (1 - rise) + wave[:overlap] * rise
        joined[end : end + len(wave) - overlap] = wave[overlap:]
        end += len(wave) - overlap
    return joined[:end]
