"""The weights of a language model, searched for the lowest word error rate on saved log-probabilities."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from asr.decoding import Decoder
from asr.emissions import Emissions
from asr.errors import ConfigError
from asr.wer import Counts, Result, score

Range = tuple[float, float]

_STEPS = 8  # of the coarse grid, for each weight
_FINER = 4  # steps of the fine grid in one of the coarse
SHOWN = 10  # rows of the table


@dataclass(frozen=True)
class Trial:
    """One setting and what it made of the utterances."""

    alpha: float
    beta: float
    words: Counts
    characters: Counts

    @property
    def rank(self) -> tuple[int, int]:
        """Lower is better: word errors, then character errors."""
        return self.words.errors, self.characters.errors


@dataclass(frozen=True)
class Tuning:
    """What a search found.

    Attributes:
        trials: every setting tried, best first; equal ones by their distance to the one chosen, which is the first.
        equal: settings of the fine grid that are as good as the one chosen.
    """

    trials: tuple[Trial, ...]
    equal: int

    @property
    def chosen(self) -> Trial:
        """The setting to use."""
        return self.trials[0]

    def render(self) -> str:
        """A table of the ten best and the one chosen."""
        lines = ["  alpha    beta     WER  errors     CER"]
        lines += [
            f"{trial.alpha:7g} {trial.beta:7g} {trial.words.percent:6.2f}% {trial.words.errors:7d} "
            f"{trial.characters.percent:6.2f}%"
            for trial in self.trials[:SHOWN]
        ]
        lines.append(
            f"chosen: alpha {self.chosen.alpha:g}, beta {self.chosen.beta:g}, nearest to the middle of {self.equal} "
            f"equal settings: WER {self.chosen.words.percent:.2f}% "
            f"[{self.chosen.words.errors} / {self.chosen.words.reference}]"
        )
        return "\n".join(lines) + "\n"


def tune(emissions: Emissions, decoder: Decoder, alpha: Range, beta: Range) -> Tuning:
    """Search the weights of `decoder`'s language model; see `search`."""
    rows, names = list(emissions.log_probs.values()), list(emissions.log_probs)

    def measure(alpha: float, beta: float) -> Trial:
        found = decoder.with_weights(alpha, beta)(rows, names=names)
        texts = {name: hypotheses[0].text for name, hypotheses in zip(names, found, strict=True)}
        scored = score(results_of(emissions, texts))
        return Trial(alpha, beta, scored.words, scored.characters)

    return search(measure, alpha, beta)


def search(measure: Callable[[float, float], Trial], alpha: Range, beta: Range) -> Tuning:
    """The best of a grid of 9 by 9 settings, then of one four times as fine, a coarse step to each side of it.

    Fewest word errors count, then fewest character errors. On a small dev set many settings are equal in both: of these
    the one is chosen that is nearest to their mean, in steps of the grid, because it stands furthest from where
    results get worse; among equally near ones that with the smaller alpha, then the smaller beta.

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

    def run(alphas: Sequence[float], betas: Sequence[float]) -> list[Trial]:
        for setting in ((a, b) for a in alphas for b in betas):
            if setting not in tried:
                tried[setting] = measure(*setting)
        return [tried[a, b] for a in alphas for b in betas]

    steps = ((alpha[1] - alpha[0]) / _STEPS, (beta[1] - beta[0]) / _STEPS)
    whole = range(_STEPS + 1)
    coarse = run(_grid(alpha[0], steps[0], whole, alpha), _grid(beta[0], steps[1], whole, beta))
    centre = _middle(coarse, steps)
    around = range(-_FINER, _FINER + 1)
    fine = run(
        _grid(centre.alpha, steps[0] / _FINER, around, alpha), _grid(centre.beta, steps[1] / _FINER, around, beta)
    )
    chosen = _middle(fine, steps)
    trials = sorted(tried.values(), key=lambda trial: (trial.rank, _order(trial, chosen.alpha, chosen.beta, steps)))
    return Tuning(tuple(trials), sum(trial.rank == chosen.rank for trial in fine))


def at_the_end(value: float, limits: Range) -> bool:
    """Whether a chosen weight is an end of the range in which it was looked for: better ones may lie outside."""
    return limits[0] < limits[1] and value in limits


def results_of(emissions: Emissions, texts: Mapping[str, str]) -> list[Result]:
    """What was recognised (text by utterance id) beside the references of the emissions, to be scored."""
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
    # Rounded, so that a setting of the coarse grid is found again in the fine one; a range of one value has one.
    values = {round(origin + place * step, 9) for place in places}
    return sorted(value for value in values if limits[0] <= value <= limits[1])


def _middle(trials: Sequence[Trial], steps: Range) -> Trial:
    """Of the best trials the one that is nearest to their mean."""
    best = min(trial.rank for trial in trials)
    equal = [trial for trial in trials if trial.rank == best]
    alpha, beta = sum(trial.alpha for trial in equal) / len(equal), sum(trial.beta for trial in equal) / len(equal)
    return min(equal, key=lambda trial: _order(trial, alpha, beta, steps))


def _order(trial: Trial, alpha: float, beta: float, steps: Range) -> tuple[float, float, float]:
    """Distance to a setting in steps; among equally near ones the smaller weights come first."""
    away = ((trial.alpha - alpha) / (steps[0] or 1), (trial.beta - beta) / (steps[1] or 1))
    return round(away[0] ** 2 + away[1] ** 2, 9), trial.alpha, trial.beta
