"""How well a model predicts a text."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from asr.decode.lm import NGram
from asr.errors import TextError
from asr.lm.text import Unit, sentences


@dataclass(frozen=True)
class Perplexity:
    """Sums over a text, and the perplexities that follow from them; a token is a word, or the end of a sentence.

    Attributes:
        sentences: lines of the text.
        tokens: words and ends of sentences.
        oovs: tokens that the model does not know.
        log10: summed log10 probability of all tokens, unknown ones as `<unk>`.
        log10_oovs: the part of `log10` that is due to unknown tokens.
    """

    sentences: int
    tokens: int
    oovs: int
    log10: float
    log10_oovs: float

    @property
    def including_oovs(self) -> float:
        """10 ** (-log10 / tokens); infinite where a token has probability 0, NaN where there is no token."""
        return _perplexity(self.log10, self.tokens)

    @property
    def excluding_oovs(self) -> float:
        """The same over the known tokens."""
        return _perplexity(self.log10 - self.log10_oovs, self.tokens - self.oovs)

    def render(self) -> str:
        """Five lines, including the four of KenLM's `query`."""
        return (
            f"Perplexity including OOVs:\t{self.including_oovs:.6g}\n"
            f"Perplexity excluding OOVs:\t{self.excluding_oovs:.6g}\n"
            f"OOVs:\t{self.oovs}\n"
            f"Tokens:\t{self.tokens}\n"
            f"Sentences:\t{self.sentences}\n"
        )


def agreed_unit(model: NGram, unit: Unit | None, name: str = "the model") -> Unit | None:
    """What a token of the model is: what the model states, else `unit`; TextError if the two differ."""
    if unit is not None and model.unit not in (None, unit):
        raise TextError(f"{name}: is a model of unit={model.unit}, wanted unit={unit}")
    return unit or model.unit


def perplexity(
    model: NGram, text: Iterable[str | Path], *, unit: Unit | None = None, normalize: Callable[[str], str] | None = None
) -> Perplexity:
    """Measure how well `model` predicts a text, each sentence between `<s>` and `</s>`.

    Args:
        model: what to score with.
        text: as for `estimate`: a `Path` is a file, a `str` is a sentence.
        unit: what a token of the model is; None: what the model states, else a word.
        normalize: rewrites each sentence first; None: nothing.

    Raises:
        TextError: see `asr.lm.text.sentences`; or the model states another unit.
        ManifestError: a manifest cannot be used.
    """
    unit = agreed_unit(model, unit) or "word"
    lines = tokens = oovs = 0
    log10 = log10_oovs = 0.0
    for _, words in sentences(text, unit, normalize):
        lines += 1
        for log10_prob, _, unknown in model.full_scores(words):
            tokens += 1
            log10 += log10_prob
            if unknown:
                oovs += 1
                log10_oovs += log10_prob
    return Perplexity(lines, tokens, oovs, log10, log10_oovs)


def _perplexity(log10: float, tokens: int) -> float:
    if not tokens:
        return math.nan
    try:
        return float(10 ** (-log10 / tokens))
    except OverflowError:
        return math.inf
