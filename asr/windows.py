"""Recordings of any length through a model of whole utterances, in memory that does not grow.

A model that was trained on utterances recognises a recording of many best when each is encoded alone, so a recording is
cut in its pauses. What has no pause for longer than a window is encoded in windows that overlap, and joined in the
middle of the overlap. Either way frame t of the log-probabilities is the frame t of the whole recording:
frames of features read the same samples, a stretch begins at a multiple of the subsampling, and every frame of the
recording is given once.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.batch import from_short_to_long
from asr.decode import Hypothesis, Word
from asr.errors import AudioError, ConfigError
from asr.features import POWER_FLOOR, LogMel
from asr.lengths import frames_in, strided
from asr.recognizer import Recognizer

# What a recording's loud level is, is judged over this much audio and the window that follows.
JUDGED_S = 30.0
# The loud level is what this much of it exceeds: a word is enough, and a click is not.
LOUD_S = 0.3
# Speakers and rooms change: for each second the levels are those of this much audio at either side of it, but the loud
# one is never taken to be lower than the recording's by more than this (20 dB).
_AROUND_S = 4.0
_SOFTER = 4.6
# The quiet level is at most this far below the loud one (39 dB): digital silence is no measure of what is quiet.
_DEEPEST = 9.0
# Audio with less than this (4 dB) from quiet to loud is taken for speech all through.
_FLATTEST = 1.0
# Digital silence is POWER_FLOOR in every bin; dither is not much more.
_DIGITAL_SILENCE = math.log(10 * POWER_FLOOR)
# Quiet is what lies below this part of the way from the quiet level to the loud one.
_QUIET_SHARE = 0.25
# So many frames are averaged to a level.
SMOOTHED = 5
# Batches of similar length are made from this many budgets of audio.
_GATHERED = 4
# Natural log; in a pause this is every other label's.
_NEVER = -100.0
# In a pause the separator of words has all but this of one frame: what ends in one already needs no second.
_NO_SEPARATOR = 1e-3


# (B, T, F) normalised features and (B,) lengths to (B, T', V) log-probabilities and (B,) lengths.
Encode = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Cutting:
    """Where a recording is cut; the default is what was best on the development speakers of AN4.

    Attributes:
        window_s: longest stretch that is encoded at once, and how far ahead of a cut is looked.
        overlap_s: of two windows where there is no pause to cut in; the outer half at each side is thrown away.
        pause_s: shortest pause that is cut in.
        margin_s: how much of a pause goes with the speech at each side of it.
    """

    window_s: float = 30.0
    overlap_s: float = 4.0
    pause_s: float = 0.8
    margin_s: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < 2 * self.overlap_s <= self.window_s <= 600:
            raise ConfigError(
                f"windows of {self.window_s:g} s that overlap by {self.overlap_s:g} s: wanted at most 600 s, of which "
                "at most half overlaps"
            )
        if not 0 <= 2 * self.margin_s < self.pause_s <= self.window_s:
            raise ConfigError(
                f"pauses of {self.pause_s:g} s with margins of {self.margin_s:g} s: wanted margins below half of the "
                "pause, and a pause within the window"
            )


@dataclass(frozen=True)
class Chunk:
    """Log-probabilities of a part of a recording; one chunk begins where the one before it ended.

    Attributes:
        first_frame: number in the recording of the first row.
        log_probs: (T, V) float32 natural-log probabilities.
        speech: whether they are the model's; in a pause they are those of the blank, but for one frame of the separator
            between the words at its sides. Chunks of speech that follow one another are windows of the same speech.
    """

    first_frame: int
    log_probs: NDArray[np.float32]
    speech: bool


@dataclass(frozen=True)
class Segment:
    """What was said between two pauses.

    Attributes:
        offset_s: where times in the hypotheses count from.
        hypotheses: at least one, best first.
    """

    offset_s: float
    hypotheses: list[Hypothesis]

    @property
    def text(self) -> str:
        """The best hypothesis' text."""
        return self.hypotheses[0].text

    @property
    def words(self) -> list[Word]:
        """The best hypothesis' words, with times from the beginning of the recording."""
        return shifted(self.hypotheses[0], self.offset_s)


def shifted(hypothesis: Hypothesis, offset_s: float) -> list[Word]:
    """The words of a hypothesis with `offset_s` seconds added to their times."""
    return [replace(word, start_s=word.start_s + offset_s, end_s=word.end_s + offset_s) for word in hypothesis.words]


class FrameStream:
    """Log-mel frames of audio that comes in pieces: those of the whole, however it is cut."""

    def __init__(self, log_mel: LogMel) -> None:
        self.log_mel = log_mel
        self.samples = 0  # so many were taken
        self.frames = 0  # so many were given
        self._rest = log_mel.window.new_zeros(0)

    def accept(self, samples: Tensor) -> Tensor:
        """Take (S,) float32 samples; returns the (T, F) frames, perhaps none, that lie wholly inside what there is."""
        self.samples += len(samples)
        rest = torch.cat([self._rest, samples.to(self._rest)])
        frames = frames_in(len(rest), self.log_mel.fft_samples, self.log_mel.hop_samples)
        self._rest = rest[frames * self.log_mel.hop_samples :].clone()
        self.frames += frames
        if not frames:
            return rest.new_zeros(0, self.log_mel.mel_bins)
        feats: Tensor = self.log_mel(rest.unsqueeze(0), torch.tensor([len(rest)]))[0][0]
        return feats


@dataclass(frozen=True)
class Stretch:
    """Feature frames that are encoded at once.

    Attributes:
        feats: (T, F) log-mel energies, not normalised.
        first: number in the recording of the first feature frame, a multiple of the subsampling.
        keep: number of the first feature frame whose log-probabilities count, and of the first behind them.
    """

    feats: Tensor
    first: int
    keep: tuple[int, int]


class Cutter:
    """Cuts the feature frames of a recording into stretches; any pieces give the same ones.

    Where it cuts is decided over one window at a time: in the first pause of it, or at its end. A frame is quiet when
    its level, the mean over mel bins of natural-log energy, is in the lowest quarter between the quiet and the loud
    level of the seconds around it: their 10th percentile, and what `LOUD_S` of them exceeds. What is quiet for longer
    than a pause is taken for silence and not recognised: a voice 30 dB below another one right beside it, say.

    Args:
        cutting: what is wanted.
        frame_s: seconds from one feature frame to the next.
        subsampling: feature frames per frame of log-probabilities.
    """

    def __init__(self, cutting: Cutting, frame_s: float, subsampling: int) -> None:
        def frames(seconds: float) -> int:  # whole frames of log-probabilities
            return round(seconds / frame_s / subsampling) * subsampling

        self.subsampling = subsampling
        self.overlap = 2 * frames(cutting.overlap_s / 2)
        self.margin = frames(cutting.margin_s)
        # Two frames of log-probabilities at least are between two stretches.
        self.pause = max(frames(cutting.pause_s), 2 * self.margin + 3 * subsampling)
        self.window = max(frames(cutting.window_s), 2 * self.overlap, 2 * self.pause)
        self._judged = round(JUDGED_S / frame_s)
        self._loud = round(LOUD_S / frame_s)
        self._second, self._around = round(1 / frame_s), round(_AROUND_S / frame_s)
        self._waiting = torch.zeros(0, 0)  # frames that are not dealt with
        self._first = 0  # number of the first of them
        self._speech = False  # whether that begins a stretch
        self._keep = 0  # number of the first frame that was not given
        self._before = np.zeros(0)  # levels of the frames before the first

    def accept(self, feats: Tensor) -> Iterator[Stretch]:
        """Take (T, F) frames; yields what can be cut."""
        # Only one window is ever looked at, so that it does not matter how much came at once.
        self._waiting = torch.cat([self._waiting, feats]) if len(self._waiting) else feats
        while len(self._waiting) >= self.window:
            yield from self._cut(self._waiting[: self.window], at_end=False)

    def finish(self) -> Iterator[Stretch]:
        """Yields what is left at the end of the recording."""
        while len(self._waiting):
            yield from self._cut(self._waiting, at_end=True)

    def _cut(self, feats: Tensor, *, at_end: bool) -> Iterator[Stretch]:
        levels = feats.mean(dim=1).double().cpu().numpy()
        quiet = self._quiet(levels)
        if not self._speech:
            loud = np.flatnonzero(~quiet)
            if len(loud):
                self._speech = True
                begin = self._aligned(int(loud[0]) - self.margin)
            else:
                begin = len(feats) if at_end else self._aligned(len(feats) - self.margin)
            self._go_on(max(begin, self._keep - self._first), levels)
            return
        end = next((first for first, behind in _runs(quiet) if behind - first >= self.pause), None)
        if end is not None:
            end = self._aligned(end + self.margin)
            yield from self._give(feats[:end], end)
            # Behind it is room for a separator, wherever the pause is found to end.
            self._keep += self.subsampling
            self._speech = False
            self._go_on(end, levels)
        elif at_end:
            yield from self._give(feats, len(feats))
            self._go_on(len(feats), levels)
        else:
            yield from self._give(feats, len(feats) - self.overlap // 2)
            self._go_on(len(feats) - self.overlap, levels)

    def _give(self, feats: Tensor, kept: int) -> Iterator[Stretch]:
        """The stretch of these frames, of which the first `kept` count, unless all of them were given already."""
        behind = self._first + kept
        if behind > self._keep:
            yield Stretch(feats.clone(), self._first, (self._keep, behind))
            self._keep = behind

    def _go_on(self, frames: int, levels: NDArray[np.float64]) -> None:
        """Leave the first frames behind."""
        self._before = np.concatenate([self._before, levels[:frames]])[-self._judged :]
        self._waiting = self._waiting[frames:].clone()
        self._first += frames
        self._keep = max(self._keep, self._first)

    def _aligned(self, frame: int) -> int:
        return max(0, frame) // self.subsampling * self.subsampling

    def _quiet(self, levels: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which frames of a window with these levels are quiet."""
        judged, place = np.concatenate([self._before, levels]), len(self._before)
        loudest = _largest(judged, self._loud) - _SOFTER
        thresholds = np.empty(len(levels))
        for start in range(0, len(levels), self._second):
            first, behind = place + start - self._around, place + start + self._second + self._around
            near = judged[max(0, first) : behind]
            thresholds[start : start + self._second] = quiet_below(near, self._loud, loudest)
        half = SMOOTHED // 2
        before = self._before[-half:]
        padded = np.pad(np.concatenate([before, levels]), (half - len(before), half), mode="edge")
        smooth = np.convolve(padded, np.full(SMOOTHED, 1 / SMOOTHED), mode="valid")
        return np.asarray(smooth < thresholds)


def quiet_below(levels: NDArray[np.float64], loud_frames: int, at_least: float = -math.inf) -> float:
    """The level below which a frame among these is quiet; infinite where all are, minus infinite where none is.

    Args:
        levels: (T,) of frames.
        loud_frames: how many frames must be as loud as the loud level.
        at_least: the loud level is no lower than this.
    """
    loud, quiet = max(_largest(levels, loud_frames), at_least), float(np.percentile(levels, 10))
    if loud <= _DIGITAL_SILENCE:
        return math.inf
    if loud - quiet < _FLATTEST:
        return -math.inf
    quiet = max(quiet, loud - _DEEPEST)
    return quiet + _QUIET_SHARE * (loud - quiet)


def _largest(values: NDArray[np.float64], count: int) -> float:
    """The `count`-th largest, or the smallest of fewer."""
    place = min(count, len(values))
    return float(np.partition(values, -place)[-place])


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Place of the first and behind the last of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return [(int(first), int(behind)) for first, behind in edges.reshape(-1, 2)]


@torch.inference_mode()
def encode(
    recognizer: Recognizer,
    blocks: Iterable[Tensor],
    cutting: Cutting | None = None,
    *,
    batch_s: float = 120.0,
    encoder: Encode | None = None,
    name: str = "",
) -> Iterator[Chunk]:
    """The log-probabilities of a recording, in chunks of a stretch each, in order and without a gap.

    Memory is that of one window, of `_GATHERED` batches of features and of one batch in the encoder, however long the
    recording is. Features with normalization=utterance are normalised over each stretch, as over a training utterance.

    Args:
        recognizer: a loaded model, in evaluation mode.
        blocks: (S,) float32 samples at the model's rate, as from `asr.audio.blocks`.
        cutting: where to cut.
        batch_s: padded seconds of audio in a batch; a longer window is a batch of its own.
        encoder: in place of the recogniser's own, a faster one of `asr.backends`.
        name: what messages call the recording.

    Yields:
        Chunks; the last ends at frame `recognizer.output_lengths` of the number of samples.

    Raises:
        AudioError: the recording is shorter than one frame; or what `blocks` raises.
    """
    stream = FrameStream(recognizer.log_mel)
    batches = _Batches(recognizer, batch_s, encoder or recognizer.encoder)
    hop_s = recognizer.log_mel.hop_samples / recognizer.config.audio.sample_rate_hz
    cutter = Cutter(cutting or Cutting(), hop_s, recognizer.config.encoder.subsampling)
    for block in blocks:
        yield from batches.accept(cutter.accept(stream.accept(block)))
    if not stream.frames:
        raise AudioError(
            f"{f'{name}: ' if name else ''}{stream.samples} samples of audio are shorter than one frame of "
            f"{recognizer.log_mel.fft_samples}"
        )
    yield from batches.accept(cutter.finish())
    yield from batches.finish(stream.frames)


class _Batches:
    """Stretches to chunks, several stretches at once."""

    def __init__(self, recognizer: Recognizer, batch_s: float, encoder: Encode) -> None:
        self.recognizer = recognizer
        self.encoder = encoder
        self.subsampling = recognizer.config.encoder.subsampling
        self.budget = batch_s * recognizer.config.audio.sample_rate_hz / recognizer.log_mel.hop_samples  # frames
        self._held: list[Stretch] = []
        self._given = 0  # frames of log-probabilities
        self._spoken = False  # whether any of them are of speech

    def accept(self, stretches: Iterable[Stretch]) -> Iterator[Chunk]:
        for stretch in stretches:
            self._held.append(stretch)
            if sum(len(held.feats) for held in self._held) >= _GATHERED * self.budget:
                yield from self._encode()

    def finish(self, frames: int) -> Iterator[Chunk]:
        """What is left of a recording of so many frames of features."""
        yield from self._encode()
        yield from self._pause(strided(frames, self.subsampling), separator=False)

    def _encode(self) -> Iterator[Chunk]:
        held, self._held = self._held, []
        lengths = torch.tensor([len(stretch.feats) for stretch in held])
        rows: dict[int, NDArray[np.float32]] = {}
        for batch in from_short_to_long(lengths.double(), self.budget, None) if held else []:
            feats = torch.nn.utils.rnn.pad_sequence([held[place].feats for place in batch], batch_first=True)
            normalised = self.recognizer.normalizer(feats, lengths[batch])
            log_probs = self.encoder(normalised, lengths[batch])[0]
            for place, row in zip(batch, log_probs, strict=True):
                first, behind = (strided(at - held[place].first, self.subsampling) for at in held[place].keep)
                rows[place] = row[first:behind].cpu().numpy().copy()  # a view would hold the batch
        for place, stretch in enumerate(held):
            first = strided(stretch.keep[0], self.subsampling)
            yield from self._pause(first, separator=self._spoken)
            yield Chunk(first, rows[place], speech=True)
            self._given, self._spoken = first + len(rows[place]), True

    def _pause(self, end: int, *, separator: bool) -> Iterator[Chunk]:
        """The frames up to `end`, where there are any."""
        frames = end - self._given
        if not frames:
            return
        vocabulary = self.recognizer.vocabulary
        log_probs = np.full((frames, len(vocabulary.labels)), _NEVER, np.float32)
        log_probs[:, vocabulary.blank] = 0
        # Utterances are trained on without a separator at their ends; pieces that begin words need none.
        if separator and vocabulary.space in vocabulary.labels:
            log_probs[frames // 2, vocabulary.blank] = np.log(_NO_SEPARATOR)
            log_probs[frames // 2, vocabulary.labels.index(vocabulary.space)] = np.log1p(-_NO_SEPARATOR)
        yield Chunk(self._given, log_probs, speech=False)
        self._given = end


def segments(recognizer: Recognizer, chunks: Iterable[Chunk], *, n_best: int = 1, name: str = "") -> Iterator[Segment]:
    """What is said between pauses, each part decoded by itself, as utterances are; those without a word are left out.

    Args:
        recognizer: whose decoder to use.
        chunks: what `encode` yields.
        n_best: hypotheses for each segment; greedy decoding has one.
        name: what messages call the recording.

    Raises:
        DecodeError: log-probabilities cannot be decoded.
    """
    for first, parts in _utterances(chunks):
        offset_s = first * recognizer.frame_s
        stream = recognizer.decoder.stream(where=f"{name or 'recording'} from {offset_s:.2f} s on")
        for part in parts:
            stream.take(part)
        found = stream.finish(n_best)
        if found[0].tokens:
            yield Segment(offset_s, found)


def _utterances(chunks: Iterable[Chunk]) -> Iterator[tuple[int, list[NDArray[np.float32]]]]:
    """First frame and log-probabilities of what is between two pauses."""
    parts: list[NDArray[np.float32]] = []
    first = 0
    for chunk in chunks:
        if chunk.speech:
            first = first if parts else chunk.first_frame
            parts.append(chunk.log_probs)
        elif parts:
            yield first, parts
            parts = []
    if parts:
        yield first, parts


def whole(recognizer: Recognizer, chunks: Iterable[Chunk], *, n_best: int = 1, name: str = "") -> list[Hypothesis]:
    """The recording decoded as one utterance, best first; arguments and errors as for `segments`."""
    stream = recognizer.decoder.stream(where=name or "recording")
    for chunk in chunks:
        stream.take(chunk.log_probs)
    return stream.finish(n_best)
