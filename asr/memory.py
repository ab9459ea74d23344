"""How long a model remembers: half-lives of its units, and the reach of its outputs into the input.

A unit's state decays by its forget gate: k frames after frame s, what was in it then is multiplied by
f_{s+1} * ... * f_{s+k}. The time in which this product falls to one half is measured from every frame of every
recording. If a recording ends first, the time is censored: known only to be longer than what was left. Kaplan and
Meier's (1958) estimate of the median is right for such data, so long as recordings do not end because a unit is about
to forget. A unit whose curve never falls to one half has no half-life that could be measured, only a lower bound.

Half-lives cover only the direct path through a unit. What it wrote into other units through its output may come back
later; the reach covers every path.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.encoder import Encoder
from asr.errors import AudioError, CheckpointError
from asr.gates import KEEPING, Direction, Trace, trace
from asr.manifest import Utterance
from asr.recognizer import Recognizer

Array = NDArray[np.float64]

# A gate of exactly zero forgets at once; its logarithm must still be finite.
_SHUT = 1e-30
_ROUNDING = 1e-12  # tolerance for shares that are one half, or a round number
# Lags that a smaller share of the probe frames has (the others are too near an end) say nothing of speech in general.
_LEAST_SHARE = 0.25
# Only this much of a longer utterance is read: lags of a few seconds are of interest, and memory is bounded.
MEASURED_S = 30.0
# Share of the reach that its span holds.
HELD = 0.9


@dataclass(frozen=True, eq=False)
class HalfLives:
    """Half-lives of the units of one layer in one direction.

    Attributes:
        layer: as in `asr.gates.Trace`.
        direction: as there.
        ms: (H,) float64 half-lives in milliseconds; infinite for a unit without one (censored), which is then longer
            than `watched_ms`, as far as the estimate goes.
        watched_ms: the longest time over which units were watched.
    """

    layer: int
    direction: Direction
    ms: Array
    watched_ms: float

    @property
    def name(self) -> str:
        """Such as `layer 2, backward`."""
        return f"layer {self.layer}, {self.direction}"

    @property
    def censored(self) -> int:
        """Number of units without a half-life."""
        return int(np.isinf(self.ms).sum())

    def quantile_ms(self, share: float) -> float:
        """The half-life that this share of the units stays below; infinite where that unit is censored."""
        return float(np.quantile(self.ms, share, method="inverted_cdf"))


def half_lives(traces: Iterable[Sequence[Trace]], frame_s: float) -> list[HalfLives]:
    """Half-lives of all units on real speech.

    Args:
        traces: for each utterance the traces of all layers and directions (`asr.gates.trace`).
        frame_s: seconds from one frame to the next.

    Returns:
        One for each layer and direction, in the order of the traces.

    Raises:
        ConfigError: the model's cell has no gate that forgets (a plain RNN).
        AudioError: there is no utterance of two frames or more.
    """
    decays: defaultdict[tuple[int, Direction], list[tuple[Array, Array]]] = defaultdict(list)
    for utterance in traces:
        for part in utterance:
            if len(part.keeping) > 1:  # after the last frame nothing more is seen
                kept = part.keeping if part.direction == "forward" else part.keeping[::-1]
                decays[part.layer, part.direction].append(decay_times(kept))
    if not decays:
        raise AudioError("there is no utterance of two frames or more, which a half-life needs")
    found = []
    for (layer, direction), pairs in decays.items():
        times, watched = (np.concatenate(kind) for kind in zip(*pairs, strict=True))
        frame_ms = 1000 * frame_s
        medians = kaplan_meier_median(times, watched)
        found.append(HalfLives(layer, direction, frame_ms * medians, frame_ms * float(watched.max())))
    return found


def decay_times(kept: NDArray[np.floating]) -> tuple[Array, Array]:
    """From each frame on, the number of frames in which the product of gates falls to one half.

    Between two frames the product is taken to fall exponentially, so times are not whole numbers.

    Args:
        kept: (T, H) gates in 0..1, in the order in which the layer reads.

    Returns:
        times: (T - 1, H) frames from frame s (row s) until the product of the gates after it is 0.5; infinite if
            the recording ends before.
        watched: (T - 1,) frames that follow frame s.
    """
    starts = np.arange(len(kept), dtype=np.float64)
    # Half-lives passed since the beginning: minus the binary logarithm of the product of the gates.
    passed = np.cumsum(-np.log2(np.maximum(kept, _SHUT, dtype=np.float64)), axis=0)
    times = np.empty((len(kept) - 1, kept.shape[1]))
    for unit, sums in enumerate(passed.T):
        times[:, unit] = np.interp(sums[:-1] + 1, sums, starts, right=np.inf) - starts[:-1]
    return times, len(kept) - 1 - starts[:-1]


def kaplan_meier_median(times: Array, watched: Array) -> Array:
    """Median of times of which some are only known to be longer than they were watched (Kaplan & Meier 1958).

    Args:
        times: (N, H) times, infinite where the event did not happen.
        watched: (N,) how long each was watched; a time is at most as long, or infinite.

    Returns:
        (H,) first time at which the estimated share of those still to come is at most one half; infinite where it never
        is.
    """
    happened = np.isfinite(times)
    observed = np.where(happened, times, watched[:, None])
    # Events come first: what is censored at the moment of an event was still being watched.
    order = np.lexsort((~happened, observed), axis=0)
    happened, observed = (np.take_along_axis(values, order, axis=0) for values in (happened, observed))
    at_risk = np.arange(len(times), 0, -1)[:, None]
    surviving = np.cumprod(1 - happened / at_risk, axis=0)
    below = surviving <= 0.5 + _ROUNDING  # a product of fractions
    first = below.argmax(axis=0)
    median = np.take_along_axis(observed, first[None], axis=0)[0]
    return np.where(below.any(axis=0), median, np.inf)


@dataclass(frozen=True, eq=False)
class Reach:
    """How much an output frame changes with the input around it.

    Attributes:
        lags_ms: (K,) float64, rising; input that comes later than the output frame has positive lags. Lags that fewer
            than a quarter of the probe frames have are left out.
        gradient: (K,) float64 root mean square, over the probe frames that have such a lag, of the Frobenius norm of
            the derivatives of all log-probabilities of the frame by all mel bins of the input frame; in nats for one
            standard deviation of a mel bin where features are normalised.
        probes: number of output frames that were probed.
    """

    lags_ms: Array
    gradient: Array
    probes: int

    def span_ms(self) -> tuple[float, float]:
        """The lags between which `HELD` of the sum of `gradient` lies, with as much of the rest before as after."""
        outside = (1 - HELD) / 2
        below = np.cumsum(self.gradient) / self.gradient.sum()
        first = int(np.searchsorted(below, outside + _ROUNDING, side="right"))
        last = int(np.searchsorted(below, 1 - outside - _ROUNDING))
        return float(self.lags_ms[first]), float(self.lags_ms[last])


def reach(encoder: Encoder, utterances: Iterable[Tensor], hop_s: float, *, probes: int = 8) -> Reach:
    """Measure the reach on real speech.

    The derivatives of all V log-probabilities would take V backward passes for each probe frame. One pass through their
    sum with random signs gives the same mean square (Hutchinson 1989), and the mean is taken anyway.

    Args:
        encoder: in evaluation mode, on the CPU.
        utterances: (T, F) float32 normalised log-mel energy of each.
        hop_s: seconds from one frame of features to the next.
        probes: output frames of each utterance, evenly spread over it.

    Raises:
        ValueError: there is no utterance.
        CheckpointError: the outputs do not change with the input, or by more than a number can hold.
    """
    generator = torch.Generator().manual_seed(1)
    squares: defaultdict[int, float] = defaultdict(float)
    counts: defaultdict[int, int] = defaultdict(int)
    asked = 0
    # Frame t of a convolution of stride s is centred on input frame s * t: lags count from there.
    stride = math.prod(encoder.subsampling.time_strides)
    for feats in utterances:
        frames = int(encoder.output_lengths(torch.tensor([len(feats)]))[0])
        count = min(probes, frames)
        places = np.array([(2 * number + 1) * frames // (2 * count) for number in range(count)])
        asked += count
        for place, row in zip(places.tolist(), _squared_gradients(encoder, feats, places, generator), strict=True):
            for lag, value in enumerate(row, -place * stride):
                squares[lag] += value
                counts[lag] += 1
    if not asked:
        raise ValueError("no utterance")
    lags = np.array(sorted(lag for lag, count in counts.items() if count >= _LEAST_SHARE * asked))
    means = np.array([squares[lag] / counts[lag] for lag in lags])
    if not 0 < means.sum() < math.inf:
        raise CheckpointError(
            f"the squared derivatives of this model's outputs by its input add up to {means.sum():g}: wanted a number "
            "above 0 to measure the reach"
        )
    return Reach(1000 * hop_s * lags, np.sqrt(means), asked)


def _squared_gradients(
    encoder: Encoder, feats: Tensor, places: NDArray[np.int64], generator: torch.Generator
) -> list[list[float]]:
    """For each output frame in `places`, the squared norm of its signed sum's gradient at each of T input frames."""
    rows = feats.repeat(len(places), 1, 1).requires_grad_()  # a row for each place: rows of a batch do not mix
    log_probs, _ = encoder(rows, torch.full((len(places),), len(feats)))
    probed = log_probs[torch.arange(len(places)), torch.from_numpy(places)]
    signs = torch.randint(0, 2, probed.shape, generator=generator) * 2 - 1
    (gradient,) = torch.autograd.grad((probed * signs).sum(), rows)
    squares: list[list[float]] = gradient.double().square().sum(dim=2).tolist()
    return squares


@dataclass(frozen=True, eq=False)
class Memory:
    """How long a model remembers.

    Attributes:
        half_lives: one for each layer and direction; empty where the cell has no gate that forgets.
        reach: of its outputs.
        audio_s: seconds of audio that this was measured on.
    """

    half_lives: list[HalfLives]
    reach: Reach
    audio_s: float


def measure(recognizer: Recognizer, utterances: Sequence[Utterance]) -> Memory:
    """Half-lives and reach of a model on at most the first `MEASURED_S` of some utterances.

    Args:
        recognizer: on the CPU, in evaluation mode.
        utterances: at least one.

    Raises:
        AudioError: an utterance cannot be read or is shorter than one frame; the message names it.
        CheckpointError: as `reach`.
    """
    hop_s = recognizer.log_mel.hop_samples / recognizer.config.audio.sample_rate_hz
    feats = [_features(recognizer, utterance) for utterance in utterances]
    lives: list[HalfLives] = []
    if recognizer.config.encoder.cell in KEEPING:
        lives = half_lives((trace(recognizer.encoder, frames)[1] for frames in feats), recognizer.frame_s)
    seconds = sum(min(utterance.duration, MEASURED_S) for utterance in utterances)
    return Memory(lives, reach(recognizer.encoder, feats, hop_s), seconds)


def _features(recognizer: Recognizer, utterance: Utterance) -> Tensor:
    """(T, F) normalised features of (the beginning of) an utterance."""
    utterance = replace(utterance, duration=min(utterance.duration, MEASURED_S))
    wave = recognizer.load(utterance)
    with torch.no_grad():
        return recognizer.features(wave.unsqueeze(0), torch.tensor([len(wave)]))[0][0]
