"""Runs recordings of any length through a model of whole utterances, in bounded memory.

A model that was trained on utterances recognises a recording of many best if each is encoded alone, so a recording is
cut in its pauses. What has no pause for longer than a window is encoded in windows that overlap, and joined in the
middle of the overlap. Either way, frame t of the log-probabilities is frame t of the whole recording: frames of
features read the same samples, a stretch begins at a multiple of the subsampling, and every frame of the recording is
given exactly once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

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
from asr.recognizer import Recognizer, pad_waves

# This many batches' budgets of audio are gathered, for each batch computed at once, to make batches of similar length.
_GATHERED = 4
# Natural-log probability, in a frame of a pause, of the labels that are not there.
_NEVER = -100.0
# In one frame of a pause the separator of words has all probability but this, which the blank has: speech that already
# ends in a separator needs no second.
_NO_SEPARATOR = 1e-3

# (B, T, F) normalised features and (B,) lengths to (B, T', V) log-probabilities and (B,) lengths.
Encode = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Encoded(NamedTuple):
    """(T, V) float32 natural-log probabilities of a recording, and how loud it is."""

    log_probs: NDArray[np.float32]
    levels: Levels


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
        labelled, at_s = self.hypotheses[0].words, self.offset_s
        # The window of the last frame may reach beyond the segment.
        behind_s = max(self.duration_s, labelled[-1].end_s) if labelled else 0.0
        return [
            replace(word, start_s=word.start_s + at_s, end_s=min(word.end_s, behind_s) + at_s)
            for word in bounded(labelled, self.levels)
        ]


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
    batches, joiner = _Batches(recognizer, batch_s, encoder or recognizer.encoder), _Joiner(recognizer)
    gathered = _GATHERED * batches.frames * batches_at_once(recognizer.device)
    cutter = _cutter(recognizer, cutting)
    held: list[Stretch] = []
    for block in blocks:
        feats = stream.accept(block)
        joiner.hear(levels_of(feats))
        for stretch in cutter.accept(feats):
            held.append(stretch)
            if sum(len(each.feats) for each in held) >= gathered:
                yield from joiner.join(held, batches.rows(held))
                held = []
    require_frame(name, stream.samples, recognizer.log_mel.fft_samples)
    held += cutter.finish()
    yield from joiner.join(held, batches.rows(held))
    yield from joiner.finish(stream.frames)


def encode_all(
    recognizer: Recognizer,
    waves: Sequence[Tensor],
    cutting: Cutting | None = None,
    *,
    batch_s: float = 120.0,
    encoder: Encode | None = None,
) -> Iterator[tuple[list[int], list[Encoded]]]:
    """Encode recordings that are in memory as `encode` does; yields places among them, and what came of each.

    Args:
        recognizer, cutting, batch_s, encoder: as for `encode`.
        waves: (S,) float32 samples at the model's rate, each of at least one frame.
    """
    batches = _Batches(recognizer, batch_s, encoder or recognizer.encoder)

    def run(batch: list[int]) -> list[Encoded]:
        padded, lens = pad_waves([waves[place] for place in batch])
        feats, feat_lens = recognizer.log_mel(padded.to(recognizer.device), lens)
        recordings = [row[:count] for row, count in zip(feats, feat_lens.tolist(), strict=True)]
        cut: list[list[Stretch]] = []
        for recording in recordings:
            cutter = _cutter(recognizer, cutting)
            cut.append([*cutter.accept(recording), *cutter.finish()])
        rows = iter(batches.rows([stretch for stretches in cut for stretch in stretches], one_by_one=True))
        found = []
        for recording, stretches in zip(recordings, cut, strict=True):
            levels, joiner = levels_of(recording), _Joiner(recognizer)
            joiner.hear(levels)
            chunks = [*joiner.join(stretches, [next(rows) for _ in stretches]), *joiner.finish(len(levels))]
            log_probs = np.concatenate([chunk.log_probs for chunk in chunks])
            found.append(Encoded(log_probs, recognizer.levels(levels)))
        return found

    lengths = torch.tensor([len(wave) for wave in waves]) / recognizer.log_mel.hop_samples
    yield from map_batches(run, batches.of(lengths), recognizer.device)


def _cutter(recognizer: Recognizer, cutting: Cutting | None) -> Cutter:
    hop_s = recognizer.log_mel.hop_samples / recognizer.config.audio.sample_rate_hz
    return Cutter(cutting or Cutting(), hop_s, recognizer.config.encoder.subsampling)


class _Batches:
    """Encodes stretches, several at once.

    Attributes:
        frames: of features in a batch, with padding.
    """

    def __init__(self, recognizer: Recognizer, batch_s: float, encoder: Encode) -> None:
        self.recognizer = recognizer
        self.encoder = encoder
        self.frames = batch_s * recognizer.config.audio.sample_rate_hz / recognizer.log_mel.hop_samples

    def of(self, lengths: Tensor) -> list[list[int]]:
        """Batches of what has these (N,) lengths in frames of features, as places."""
        return from_short_to_long(lengths.double(), self.frames, None) if len(lengths) else []

    def rows(self, stretches: Sequence[Stretch], *, one_by_one: bool = False) -> list[NDArray[np.float32]]:
        """The log-probabilities of each stretch that count; `one_by_one` where other batches are computed already."""
        lengths = torch.tensor([len(stretch.feats) for stretch in stretches])

        def run(batch: list[int]) -> Tensor:
            feats = torch.nn.utils.rnn.pad_sequence([stretches[place].feats for place in batch], batch_first=True)
            return self.encoder(self.recognizer.normalizer(feats, lengths[batch]), lengths[batch])[0]

        subsampling, batches = self.recognizer.config.encoder.subsampling, self.of(lengths)
        done = ((batch, run(batch)) for batch in batches)
        found: dict[int, NDArray[np.float32]] = {}
        for batch, log_probs in done if one_by_one else map_batches(run, batches, self.recognizer.device):
            for place, row in zip(batch, log_probs, strict=True):
                first, behind = (strided(at - stretches[place].first, subsampling) for at in stretches[place].keep)
                found[place] = row[first:behind].cpu().numpy().copy()  # a view would keep the batch
        return [found[place] for place in range(len(stretches))]


class _Joiner:
    """Joins the stretches of a recording, once they are encoded, into chunks without a gap."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.vocabulary = recognizer.vocabulary
        self.subsampling = recognizer.config.encoder.subsampling
        self._levels: list[NDArray[np.float64]] = []  # of what was not yet given
        self._given = 0  # frames of log-probabilities
        self._spoken = False  # whether any of them are of speech

    def hear(self, levels: NDArray[np.float64]) -> None:
        """Take the levels of the next frames of features, before the stretches that they are in."""
        self._levels.append(levels)

    def join(self, stretches: Sequence[Stretch], rows: Sequence[NDArray[np.float32]]) -> Iterator[Chunk]:
        """The next stretches with their log-probabilities, and the pauses before them."""
        for stretch, log_probs in zip(stretches, rows, strict=True):
            yield from self._pause(strided(stretch.keep[0], self.subsampling), separator=self._spoken)
            yield self._chunk(log_probs, speech=True)
            self._spoken = True

    def finish(self, frames: int) -> Iterator[Chunk]:
        """The pause at the end of a recording of `frames` frames of features."""
        yield from self._pause(strided(frames, self.subsampling), separator=False)

    def _pause(self, end: int, *, separator: bool) -> Iterator[Chunk]:
        """The frames of a pause up to `end`, if there are any."""
        frames = end - self._given
        if not frames:
            return
        blank, space, labels = self.vocabulary.blank, self.vocabulary.space, self.vocabulary.labels
        log_probs = np.full((frames, len(labels)), _NEVER, np.float32)
        log_probs[:, blank] = 0
        # Utterances are trained on without a separator at their ends; pieces that begin words need none.
        if separator and space in labels:
            log_probs[frames // 2, blank] = np.log(_NO_SEPARATOR)
            log_probs[frames // 2, labels.index(space)] = np.log1p(-_NO_SEPARATOR)
        yield self._chunk(log_probs, speech=False)

    def _chunk(self, log_probs: NDArray[np.float32], *, speech: bool) -> Chunk:
        """The chunk with which the recording goes on."""
        levels, heard = np.concatenate(self._levels), len(log_probs) * self.subsampling
        chunk = Chunk(self._given, log_probs, levels[:heard], speech)
        self._given, self._levels = self._given + len(log_probs), [levels[heard:]]
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
