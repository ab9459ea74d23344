"""Searches a language model's weights for the fewest expected word errors on saved log-probabilities."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from asr.config import DecodeConfig
from asr.decode import Hypothesis
from asr.decoding import Decoder
from asr.emissions import Emissions
from asr.ensemble import read_ensemble
from asr.errors import ConfigError, DecodeError
from asr.hypotheses import Result
from asr.wer import HARDLY_ANYTHING, Counts, score, word_errors

Range = tuple[float, float]

ALPHA: Range = (0.0, 3.2)  # searched if nothing else is asked for
BETA: Range = (-2.0, 6.0)
_STEPS = 8  # steps of the coarse grid, for each weight
_FINER = 4  # steps of the fine grid in one of the coarse grid
_N_BEST = 20  # hypotheses over which expected errors are computed
SHOWN = 10  # rows of the table


@dataclass(frozen=True)
class Trial:
    """One setting of the weights and its errors on the utterances.

    Attributes:
        expected: word errors of the `_N_BEST` best hypotheses of each utterance, weighted by their probabilities.
        words, characters: counts of the best hypotheses.
    """

    alpha: float
    beta: float
    expected: float
    words: Counts
    characters: Counts

    @property
    def rank(self) -> tuple[float, float, float]:
        """Lower is better; of settings with as many expected errors, the one with the smaller weights."""
        return self.expected, self.alpha, self.beta


@dataclass(frozen=True)
class Tuning:
    """Every setting that a search tried, best first."""

    trials: tuple[Trial, ...]

    @property
    def chosen(self) -> Trial:
        """The setting to use."""
        return self.trials[0]

    def render(self) -> str:
        """A table of the ten best and the one chosen."""
        lines = ["  alpha    beta  expected     WER  errors     CER"]
        lines += [
            f"{trial.alpha:7g} {trial.beta:7g} {trial.expected:9.2f} {trial.words.percent:6.2f}% "
            f"{trial.words.errors:7d} {trial.characters.percent:6.2f}%"
            for trial in self.trials[:SHOWN]
        ]
        chosen = self.chosen
        lines.append(
            f"chosen: alpha {chosen.alpha:g}, beta {chosen.beta:g}: {chosen.expected:.2f} errors expected, "
            f"WER {chosen.words.percent:.2f}% [{chosen.words.errors} / {chosen.words.reference}]"
        )
        return "\n".join(lines) + "\n"


def tune_files(
    paths: Sequence[Path], config: DecodeConfig, alpha: Range, beta: Range, *, say: Callable[[str], object]
) -> Tuning:
    """Search the weights of a language model for log-probabilities of any model.

    Args:
        paths: files with references, of several the mean.
        config: a beam with a language model.
        alpha, beta: ranges to search.
        say: is called with lines that say what happens.

    Raises:
        ConfigError: no language model is named, or a weight cannot be used.
        DecodeError: a file cannot be used, or is without references.
    """
    if not config.lm:
        raise ConfigError("no language model is named: give --lm FILE")
    require_weights(config, alpha, beta)
    emissions = read_with_references(paths, say)
    return tune_aloud(emissions, Decoder(config, emissions.vocabulary), alpha, beta, say)


def require_weights(config: DecodeConfig, alpha: Range, beta: Range) -> None:
    """ConfigError where a weight in these ranges cannot be used."""
    for end in (0, 1):
        replace(config, alpha=alpha[end], beta=beta[end])


def read_with_references(paths: Sequence[Path], say: Callable[[str], object]) -> Emissions:
    """The mean of log-probabilities in files; DecodeError where they cannot be used or are without references."""
    emissions = read_ensemble(paths)
    files = ", ".join(map(str, paths))
    say(f"tuning on {files}")
    if not emissions.refs:
        raise DecodeError(f"{files}: the JSON beside it has no refs; tuning needs reference texts")
    return emissions


def tune_aloud(
    emissions: Emissions, decoder: Decoder, alpha: Range, beta: Range, say: Callable[[str], object]
) -> Tuning:
    """As `tune`; `say` is called with how long it took, and with what makes the weights found doubtful."""
    started = time.perf_counter()
    tuning = tune(emissions, decoder, alpha, beta)
    took_s = time.perf_counter() - started
    say(f"{len(tuning.trials)} settings on {len(emissions.refs)} utterances in {took_s:.1f} s")
    chosen = tuning.chosen
    for name, value, limits in (("alpha", chosen.alpha, alpha), ("beta", chosen.beta, beta)):
        if at_the_end(value, limits) and (name, value) != ("alpha", 0.0):  # the least that there is
            say(f"note: {name} {value:g} is at the end of its range; --{name} LOW HIGH widens it")
    lm = decoder.resources.lm
    if chosen.alpha == 0 and lm is not None and not lm.is_grammar:
        say("note: alpha 0 leaves the language model out: its text may be unlike dev's, or dev too small to tell")
    if chosen.words.percent > HARDLY_ANYTHING:
        say("note: hardly a word is recognised, so the weights mean little: the model comes first")
    return tuning


def tune(emissions: Emissions, decoder: Decoder, alpha: Range, beta: Range) -> Tuning:
    """Search the weights of `decoder`'s language model; see `search`."""
    rows, names = list(emissions.log_probs.values()), list(emissions.log_probs)
    references = [emissions.refs[name] for name in names]
    known: dict[tuple[str, str], int] = {}

    def measure(alpha: float, beta: float) -> Trial:
        found = decoder.with_weights(alpha, beta)(rows, names=names, n_best=_N_BEST)
        pairs = [(said, one.text) for said, hypotheses in zip(references, found, strict=True) for one in hypotheses]
        known.update(word_errors(pair for pair in pairs if pair not in known))
        expected = sum(
            _expected([known[said, one.text] for one in hypotheses], hypotheses)
            for said, hypotheses in zip(references, found, strict=True)
        )
        texts = {name: hypotheses[0].text for name, hypotheses in zip(names, found, strict=True)}
        scored = score(results_of(emissions, texts))
        return Trial(alpha, beta, expected, scored.words, scored.characters)

    return search(measure, alpha, beta)


def _expected(errors: Sequence[int], hypotheses: Sequence[Hypothesis]) -> float:
    """Errors of hypotheses, best first, weighted by their probabilities, which sum to one over these."""
    shares = [math.exp(one.score - hypotheses[0].score) for one in hypotheses]
    return sum(share * count for share, count in zip(shares, errors, strict=True)) / sum(shares)


def search(measure: Callable[[float, float], Trial], alpha: Range, beta: Range) -> Tuning:
    """Search a grid of 9 by 9 settings, then one four times as fine, a coarse step to each side of the best.

    The criterion is the fewest expected word errors, as in minimum word error training (Prabhavalkar et al. 2018). On
    a small dev set the errors of the best hypotheses alone are equal for many settings, and which has the fewest is
    chance: docs/experiments.md has by how much that was worse.

    Args:
        measure: decodes and scores with (alpha, beta).
        alpha: lowest and highest alpha, both tried.
        beta: the same.

    Raises:
        ConfigError: the low end of a range is above its high end.
    """
    for name, (low, high) in (("alpha", alpha), ("beta", beta)):
        if not low <= high:
            raise ConfigError(f"{name}: the range must be LOW HIGH with LOW <= HIGH, found {low:g} {high:g}")
    tried: dict[tuple[float, float], Trial] = {}

    def best_of(alphas: Sequence[float], betas: Sequence[float]) -> Trial:
        for setting in ((a, b) for a in alphas for b in betas):
            if setting not in tried:
                tried[setting] = measure(*setting)
        return min((tried[a, b] for a in alphas for b in betas), key=lambda trial: trial.rank)

    steps = ((alpha[1] - alpha[0]) / _STEPS, (beta[1] - beta[0]) / _STEPS)
    whole = range(_STEPS + 1)
    centre = best_of(_grid(alpha[0], steps[0], whole, alpha), _grid(beta[0], steps[1], whole, beta))
    around = range(-_FINER, _FINER + 1)
    best_of(_grid(centre.alpha, steps[0] / _FINER, around, alpha), _grid(centre.beta, steps[1] / _FINER, around, beta))
    return Tuning(tuple(sorted(tried.values(), key=lambda trial: trial.rank)))


def at_the_end(value: float, limits: Range) -> bool:
    """Whether a chosen weight is an end of the range that was searched: better ones may lie outside."""
    return limits[0] < limits[1] and value in limits


def results_of(emissions: Emissions, texts: Mapping[str, str]) -> list[Result]:
    """Recognised texts (by utterance id) with the references of the emissions, to be scored."""
    return [
        Result(
            id=name,
            speaker=None,
            reference=emissions.refs[name],
            hypothesis=texts[name],
            duration=len(rows) * emissions.vocabulary.frame_s,
        )
        for name, rows in emissions.log_probs.items()
    ]


def _grid(origin: float, step: float, places: range, limits: Range) -> list[float]:
    # Rounded, so that a setting of the coarse grid recurs in the fine one, and a range of one value gives one. The ends
    # of the range stay what they are.
    low, high = limits
    values = {round(origin + place * step, 9) for place in places}
    return sorted({min(max(value, low), high) for value in values if low - 1e-9 <= value <= high + 1e-9})
