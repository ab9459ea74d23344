"""Recognition while audio comes in: partial results at once, final ones after each pause.

What a unidirectional model recognises between two pauses is what it recognises there offline, if features are
normalised as they are offline: by the training set, and not by what was heard so far. Pauses are not always the same,
as here what comes after them is not known. See `asr.encoder_stream` for the encoder.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.audio import as_rate, as_table
from asr.encoder_stream import EncoderStream
from asr.errors import AudioError, ConfigError
from asr.features import VARIANCE_FLOOR, FrameStream
from asr.pauses import DIGITAL_SILENCE, JUDGED_S, LOUD_S, SMOOTHED, Cutting, levels_of, quiet_beside_silence
from asr.recognizer import Recognizer
from asr.resampling import StreamResampler
from asr.windows import Segment

# With normalization=utterance the first frames wait until this much audio has been heard.
_PRIMED_S = 1.0
# With normalization=utterance or map, once more than this was heard, older audio counts for less, so that a change of
# speaker or level is followed.
_REMEMBERED_S = 30.0


@dataclass(frozen=True)
class Update:
    """What is known after some more audio.

    Attributes:
        segments: what became final, each once the pause after it had been heard.
        partial: text of what is being said; its last words may still change.
        partial_from_s: where the audio of `partial` begins.
    """

    segments: list[Segment]
    partial: str
    partial_from_s: float


class OnlineRecognizer:
    """Recognises one stream of audio; how the audio is cut into pieces as it comes in changes nothing.

    Args:
        recognizer: a loaded model, in evaluation mode; its own decoder is used, greedy or beam.
        sample_rate_hz: of the audio that comes in; None: the model's.
        chunk_s: audio is processed in chunks of this length.
        look_ahead_s: what a bidirectional model hears after a chunk before it decides on it; others hear nothing ahead.
        pauses: where what was said becomes final; None: only at the end. Only `pause_s` and `margin_s` are used.

    Raises:
        ConfigError: a duration is out of range.
        AudioError: the rate is out of range, or cannot be resampled from.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        sample_rate_hz: int | None = None,
        chunk_s: float = 0.32,
        look_ahead_s: float = 1.0,
        pauses: Cutting | None = Cutting(),  # noqa: B008 (frozen)
    ) -> None:
        if not 0 < chunk_s <= 30 or not 0 <= look_ahead_s <= 30:
            raise ConfigError(
                f"chunks of {chunk_s:g} s with a look-ahead of {look_ahead_s:g} s: wanted 0 to 30 s, and chunks above 0"
            )
        config = recognizer.config
        self.recognizer = recognizer
        self._rate_hz = config.audio.sample_rate_hz if sample_rate_hz is None else as_rate(sample_rate_hz, "stream")
        self._resampler = StreamResampler(self._rate_hz, config.audio.sample_rate_hz)
        self._stream = FrameStream(recognizer.log_mel)
        self._feature_s = recognizer.log_mel.hop_samples / config.audio.sample_rate_hz
        self._window_s = recognizer.log_mel.fft_samples / config.audio.sample_rate_hz
        self._chunk = max(1, round(chunk_s / recognizer.frame_s))  # frames of log-probabilities
        self._look_ahead = round(look_ahead_s / recognizer.frame_s) if config.encoder.bidirectional else 0
        subsampling = config.encoder.subsampling
        self._step = self._chunk * subsampling
        self._endpoints = None if pauses is None else _Endpoints(pauses, self._feature_s, subsampling)
        self._waiting = torch.zeros(0, 0)
        self._normalizer = _RunningNormalizer(
            recognizer, primed=round(_PRIMED_S / self._feature_s), remembered=round(_REMEMBERED_S / self._feature_s)
        )
        self._utterance: _Utterance | None = None
        self._taken = 0  # samples
        self._finished = False

    @property
    def latency_s(self) -> float:
        """The longest time from a sound to a partial result that has heard it, without the time of computing.

        With `features.normalization=utterance` there is none before a second was heard.
        """
        ahead = 0  # frames of features that the convolutions look ahead
        for stride in reversed(self.recognizer.encoder.subsampling.time_strides):
            ahead = ahead * stride + 1
        config, frame_s = self.recognizer.config, self.recognizer.frame_s
        # In both directions, frames of a chunk may stay undecided until the next chunk of audio.
        chunks = 1 + (1 if config.encoder.bidirectional else 0)
        return self._window_s + ahead * self._feature_s + (chunks * self._chunk + self._look_ahead) * frame_s

    @property
    def final_latency_s(self) -> float:
        """The longest time from the end of speech to its final result, without the time of computing."""
        if self._endpoints is None:
            return math.inf
        return self._window_s + (self._endpoints.pause + SMOOTHED + self._step) * self._feature_s

    @property
    def audio_s(self) -> float:
        """Seconds of audio that came in."""
        return self._taken / self._rate_hz

    @torch.inference_mode()
    def accept(self, samples: Any) -> Update:
        """Take the next (S,) samples, numpy or torch: floats, nominally in -1..1, or integers of 16 or 32 bits.

        Raises:
            AudioError: another shape or type, samples that are not finite or not audio, or the stream was finished.
        """
        self._require_open()
        table = as_table(samples, "stream", self._taken)
        if table.shape[1] != 1:
            raise AudioError(f"stream: wanted samples of one channel, found {table.shape[1]} channels")
        self._taken += len(table)
        segments = self._take(self._resampler.accept(table[:, 0]))
        return Update(segments, *self._partial())

    @torch.inference_mode()
    def finish(self) -> Update:
        """End the stream; what was said last becomes final."""
        self._require_open()
        self._finished = True
        segments = self._take(self._resampler.finish())
        if len(self._waiting):
            segments += self._chunk_of(self._waiting)
        if self._endpoints is not None:
            for piece in self._endpoints.finish():
                segments += self._feed(piece)
        if self._utterance is not None:
            segments += self._end()
        return Update(segments, "", self.audio_s)

    def _require_open(self) -> None:
        if self._finished:
            raise AudioError("stream: was finished; make a new one")

    def _take(self, samples: Tensor) -> list[Segment]:
        feats = self._stream.accept(samples)
        self._waiting = torch.cat([self._waiting, feats]) if len(self._waiting) else feats
        segments = []
        while len(self._waiting) >= self._step:
            segments += self._chunk_of(self._waiting[: self._step])
            self._waiting = self._waiting[self._step :].clone()
        return segments

    def _chunk_of(self, feats: Tensor) -> list[Segment]:
        if self._endpoints is None:
            return self._feed(_Piece(feats, 0, ends=False))
        return [segment for piece in self._endpoints.accept(feats) for segment in self._feed(piece)]

    def _feed(self, piece: "_Piece") -> list[Segment]:
        if self._utterance is None:
            self._utterance = _Utterance(self.recognizer, self._chunk, self._look_ahead, piece.first)
        self._utterance.hear(levels_of(piece.feats))
        self._utterance.take(self._normalizer.accept(piece.feats))
        return self._end() if piece.ends else []

    def _end(self) -> list[Segment]:
        utterance, self._utterance = self._utterance, None
        assert utterance is not None
        utterance.take(self._normalizer.rest())
        segment = utterance.finish(utterance.first * self._feature_s)
        return [segment] if segment.words else []  # separators alone are not words

    def _partial(self) -> tuple[str, float]:
        if self._utterance is None:
            return "", self.audio_s
        return self._utterance.text(), self._utterance.first * self._feature_s


class _Utterance:
    """What is being said: the states of its encoder and its decoder."""

    def __init__(self, recognizer: Recognizer, chunk: int, look_ahead: int, first: int) -> None:
        self.recognizer = recognizer
        self.first = first  # frame of features
        self._encoder = EncoderStream(recognizer.encoder, chunk=chunk, look_ahead=look_ahead)
        self._decoder = recognizer.decoder.stream()
        self._nothing = np.zeros((0, len(recognizer.tokenizer)), np.float32)
        self._frames = 0  # of log-probabilities
        self._levels: list[NDArray[np.float64]] = []

    def hear(self, levels: NDArray[np.float64]) -> None:
        """Take the levels of the next frames of features, before they are normalised."""
        self._levels.append(levels)

    def take(self, feats: Tensor) -> None:
        self._decode(self._encoder.accept(feats))

    def text(self) -> str:
        return self._decoder.accept(self._nothing).text

    def finish(self, offset_s: float) -> Segment:
        self._decode(self._encoder.finish())
        levels = self.recognizer.levels(np.concatenate(self._levels))
        return Segment(offset_s, self._frames * self.recognizer.frame_s, self._decoder.finish(1), levels)

    def _decode(self, log_probs: Tensor) -> None:
        self._frames += len(log_probs)
        self._decoder.take(log_probs.cpu().numpy())


class _RunningNormalizer:
    """The recogniser's normalisation; with `utterance` and `map` by the moments of what was heard so far.

    Args:
        recognizer: the model.
        primed: frames that `utterance` waits for.
        remembered: frames; once more were heard, older ones count for less.
    """

    def __init__(self, recognizer: Recognizer, primed: int, remembered: int) -> None:
        self.normalizer = recognizer.normalizer
        self.primed = primed if self.normalizer.kind == "utterance" else 0
        self.remembered = remembered
        self._held: list[Tensor] = []
        self._count = 0.0
        self._sum = torch.zeros(recognizer.config.features.mel_bins, dtype=torch.float64)
        self._squares = torch.zeros_like(self._sum)

    def accept(self, feats: Tensor) -> Tensor:
        """(T, F) frames -> the (T, F) that can be normalised by now."""
        if self.normalizer.kind not in ("utterance", "map"):
            normalised: Tensor = self.normalizer(feats.unsqueeze(0), torch.tensor([len(feats)]))[0]
            return normalised
        values = feats.double().cpu()
        if self._count > self.remembered:
            kept = self.remembered / self._count
            self._count *= kept
            self._sum *= kept
            self._squares *= kept
        self._count += len(values)
        self._sum += values.sum(0)
        self._squares += values.square().sum(0)
        self._held.append(feats)
        return self.rest() if self._count >= self.primed else feats[:0]

    def rest(self) -> Tensor:
        """The frames that were held back, normalised."""
        held, self._held = self._held, []
        if not held:
            return self._sum.float()[None][:0]
        feats = torch.cat(held)
        if self.normalizer.kind == "map":
            mean = self.normalizer.adapted(self._sum.to(feats.device), self._count)
            return (feats - mean.to(feats)) / self.normalizer.std
        mean = self._sum / self._count
        variance = (self._squares / self._count - mean.square()).clamp_min(0)
        return (feats - mean.to(feats)) * torch.rsqrt(variance.to(feats) + VARIANCE_FLOOR)


@dataclass(frozen=True)
class _Piece:
    """(T, F) frames of speech from frame `first` on; `ends` if a pause follows."""

    feats: Tensor
    first: int
    ends: bool


class _Endpoints:
    """Finds the speech among frames that come a chunk at a time, and where it ends.

    A frame is judged once its chunk is there, by the last 30 s. Digital silence at the beginning, before a microphone
    is on, does not count there: it says nothing about how quiet a pause is. In a pause only the margin goes on to the
    encoder; the rest is held back until the pause is long enough to be dropped, or speech goes on.
    """

    def __init__(self, pauses: Cutting, feature_s: float, subsampling: int) -> None:
        self.subsampling = subsampling
        self.margin = round(pauses.margin_s / feature_s)
        self.pause = max(round(pauses.pause_s / feature_s), self.margin + subsampling)
        self._judged, self._loud = round(JUDGED_S / feature_s), round(LOUD_S / feature_s)
        self._levels = np.zeros(0)
        self._silent = 0  # how many levels at the beginning are those of digital silence
        self._held = torch.zeros(0, 0)  # frames that were not passed on
        self._first = 0  # number of the first of them
        self._speech = False
        self._quiet = 0  # frames since the last loud one

    def accept(self, feats: Tensor) -> Iterator[_Piece]:
        """Take a chunk of (T, F) frames; yields the speech that can be passed on."""
        heard = self._first + len(self._held)
        self._held = torch.cat([self._held, feats]) if len(self._held) else feats
        levels = np.concatenate([self._levels, levels_of(feats)])
        if self._silent == len(self._levels):
            loud = np.flatnonzero(levels > DIGITAL_SILENCE)
            self._silent = int(loud[0]) if len(loud) else len(levels)
        judged = levels[self._silent :][-self._judged :]
        threshold = quiet_beside_silence(judged, self._loud)
        recent = levels[-(len(feats) + SMOOTHED - 1) :]
        recent = np.pad(recent, (len(feats) + SMOOTHED - 1 - len(recent), 0), mode="edge")
        quiet = np.convolve(recent, np.full(SMOOTHED, 1 / SMOOTHED), mode="valid") < threshold
        self._levels = levels[-self._judged :]
        self._silent = max(0, self._silent - len(levels) + len(self._levels))
        for frame, is_quiet in enumerate(quiet.tolist(), heard):
            self._quiet = self._quiet + 1 if is_quiet else 0
            if not self._speech and not is_quiet:
                self._speech = True
                self._drop(self._aligned(frame - self.margin))
            elif self._speech and self._quiet == self.pause:
                self._speech = False
                yield self._piece(self._aligned(frame + 1 - self.pause + self.margin), ends=True)
        end = heard + len(feats)
        if not self._speech:
            self._drop(self._aligned(end - self.margin))
            return
        piece = self._piece(self._aligned(end - max(0, self._quiet - self.margin)), ends=False)
        if len(piece.feats):
            yield piece

    def finish(self) -> Iterator[_Piece]:
        """What is left of the speech at the stream's end."""
        if self._speech:
            yield self._piece(self._first + len(self._held), ends=True)

    def _aligned(self, frame: int) -> int:
        """The last place up to `frame`, among the frames that are held, where a frame of log-probabilities begins."""
        return max(self._first, frame // self.subsampling * self.subsampling)

    def _drop(self, end: int) -> None:
        self._held = self._held[end - self._first :].clone()
        self._first = end

    def _piece(self, end: int, *, ends: bool) -> _Piece:
        piece = _Piece(self._held[: end - self._first], self._first, ends)
        self._drop(end)
        return piece
