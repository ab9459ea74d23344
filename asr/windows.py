"""Runs recordings of any length through a model of whole utterances, in bounded memory.

A model that was trained on utterances recognises a recording of many best if each is encoded alone, so a recording is
cut in its pauses. What has no pause for longer than a window is encoded in windows that overlap, and joined in the
middle of the overlap. Either way, frame t of the log-probabilities is frame t of the whole recording: frames of
features read the same samples, a stretch begins at a multiple of the subsampling, and every frame of the recording is
given exactly once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.batch import from_short_to_long
from asr.boundaries import Levels, bounded
from asr.decode import Hypothesis, Word
from asr.features import FrameStream, require_frame
from asr.lengths import strided
from asr.pauses import Cutter, Cutting, Stretch, levels_of
from asr.process.parallel import batches_at_once, map_batches
from asr.recognizer import Encode, Recognizer

# This many batches' budgets of audio are gathered, for each batch computed at once, to make batches of similar length.
_GATHERED = 4
# Natural-log probability, in a frame of a pause, of the labels that are not there.
_NEVER = -100.0
# In one frame of a pause the separator of words has all probability but this, which the blank has: speech that already
# ends in a separator needs no second.
_NO_SEPARATOR = 1e-3


@dataclass(frozen=True)
class Chunk:
    """Log-probabilities of a part of a recording; one chunk begins where the one before it ended.

    Attributes:
        first_frame: number in the recording of the first row.
        log_probs: (T, V) float32 natural-log probabilities.
        levels: (T * subsampling,) levels of the feature frames; fewer at the end of the recording.
        speech: whether they are the model's. In a pause they are those of the blank, except in one frame, of the
            separator between the words on either side. Consecutive chunks of speech are windows of the same speech.
    """

    first_frame: int
    log_probs: NDArray[np.float32]
    levels: NDArray[np.float64]
    speech: bool


@dataclass(frozen=True)
class Segment:
    """What was said between two pauses.

    Attributes:
        offset_s: where it begins; times in the hypotheses count from there.
        duration_s: of the speech and of the parts of the pauses that go with it.
        hypotheses: at least one, best first.
        levels: how loud it is, from there on.
    """

    offset_s: float
    duration_s: float
    hypotheses: list[Hypothesis]
    levels: Levels = field(compare=False)

    @property
    def text(self) -> str:
        """The best hypothesis' text."""
        return self.hypotheses[0].text

    @property
    def words(self) -> list[Word]:
        """The best hypothesis' words and when their sounds begin and end, from the beginning of the recording."""
        found, at_s = bounded(self.hypotheses[0].words, self.levels), self.offset_s
        return [replace(word, start_s=word.start_s + at_s, end_s=word.end_s + at_s) for word in found]


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

    However long the recording is, memory is that of one window and, for each batch that the CPU computes at once, of
    `_GATHERED` batches of features and one batch in the encoder. Features with normalization=utterance or map are
    normalised over each stretch, as over a training utterance.

    Args:
        recognizer: a loaded model, in evaluation mode.
        blocks: (S,) float32 samples at the model's rate, as from `asr.audio.blocks`.
        cutting: where to cut.
        batch_s: padded seconds of audio in a batch; a longer window is a batch of its own.
        encoder: used in place of the recogniser's own, such as a faster one of `asr.backends`.
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
        feats = stream.accept(block)
        batches.hear(levels_of(feats))
        yield from batches.accept(cutter.accept(feats))
    require_frame(name, stream.samples, recognizer.log_mel.fft_samples)
    yield from batches.accept(cutter.finish())
    yield from batches.finish(stream.frames)


class _Batches:
    """Encodes stretches into chunks, several stretches at once."""

    def __init__(self, recognizer: Recognizer, batch_s: float, encoder: Encode) -> None:
        self.recognizer = recognizer
        self.encoder = encoder
        self.subsampling = recognizer.config.encoder.subsampling
        self.budget = batch_s * recognizer.config.audio.sample_rate_hz / recognizer.log_mel.hop_samples  # frames
        self.gathered = _GATHERED * self.budget * batches_at_once(recognizer.device)
        self._held: list[Stretch] = []
        self._levels = np.zeros(0)  # of what was not yet given
        self._given = 0  # frames of log-probabilities
        self._spoken = False  # whether any of them are of speech

    def hear(self, levels: NDArray[np.float64]) -> None:
        """Take the levels of the next frames of features, before the stretches that they are in."""
        self._levels = np.concatenate([self._levels, levels])

    def accept(self, stretches: Iterable[Stretch]) -> Iterator[Chunk]:
        for stretch in stretches:
            self._held.append(stretch)
            if sum(len(held.feats) for held in self._held) >= self.gathered:
                yield from self._encode()

    def finish(self, frames: int) -> Iterator[Chunk]:
        """The chunks that are left of a recording of `frames` frames of features."""
        yield from self._encode()
        yield from self._pause(strided(frames, self.subsampling), separator=False)

    def _encode(self) -> Iterator[Chunk]:
        held, self._held = self._held, []
        lengths = torch.tensor([len(stretch.feats) for stretch in held])
        rows: dict[int, NDArray[np.float32]] = {}

        def run(batch: list[int]) -> Tensor:
            feats = torch.nn.utils.rnn.pad_sequence([held[place].feats for place in batch], batch_first=True)
            return self.encoder(self.recognizer.normalizer(feats, lengths[batch]), lengths[batch])[0]

        batches = from_short_to_long(lengths.double(), self.budget, None) if held else []
        for batch, log_probs in map_batches(run, batches, self.recognizer.device):
            for place, row in zip(batch, log_probs, strict=True):
                first, behind = (strided(at - held[place].first, self.subsampling) for at in held[place].keep)
                rows[place] = row[first:behind].cpu().numpy().copy()  # a view would keep the batch
        for place, stretch in enumerate(held):
            first = strided(stretch.keep[0], self.subsampling)
            yield from self._pause(first, separator=self._spoken)
            yield self._chunk(rows[place], speech=True)
            self._spoken = True

    def _pause(self, end: int, *, separator: bool) -> Iterator[Chunk]:
        """The frames of a pause up to `end`, if there are any."""
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
        yield self._chunk(log_probs, speech=False)

    def _chunk(self, log_probs: NDArray[np.float32], *, speech: bool) -> Chunk:
        """The chunk with which the recording goes on."""
        heard = len(log_probs) * self.subsampling
        chunk = Chunk(self._given, log_probs, self._levels[:heard], speech)
        self._given, self._levels = self._given + len(log_probs), self._levels[heard:]
        return chunk


def segments(recognizer: Recognizer, chunks: Iterable[Chunk], *, n_best: int = 1, name: str = "") -> Iterator[Segment]:
    """What is said between pauses, each part decoded by itself like an utterance; those without a label are left out.

    Args:
        recognizer: whose decoder to use.
        chunks: what `encode` yields.
        n_best: hypotheses for each segment; greedy decoding has one.
        name: what messages call the recording.

    Raises:
        DecodeError: log-probabilities cannot be decoded.
    """
    for parts in _utterances(chunks):
        offset_s = parts[0].first_frame * recognizer.frame_s
        duration_s = sum(len(part.log_probs) for part in parts) * recognizer.frame_s
        stream = recognizer.decoder.stream(where=f"{name or 'recording'} from {offset_s:.2f} s on")
        for part in parts:
            stream.take(part.log_probs)
        found = stream.finish(n_best)
        if found[0].tokens:
            levels = recognizer.levels(np.concatenate([part.levels for part in parts]))
            yield Segment(offset_s, duration_s, found, levels)


def _utterances(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    """The chunks between consecutive pauses."""
    parts: list[Chunk] = []
    for chunk in chunks:
        if chunk.speech:
            parts.append(chunk)
        elif parts:
            yield parts
            parts = []
    if parts:
        yield parts
