"""Recordings of any length to transcripts; one that cannot be used becomes a failure and never stops the others."""

import heapq
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from asr import audio, checkpoint
from asr.backends import Precision, make_backend
from asr.boundaries import Levels, bounded
from asr.config import DecodeConfig, asked_decode
from asr.decode import Hypothesis, Word
from asr.decode.inputs import check_number
from asr.errors import AsrError, AudioError, ConfigError, DecodeError
from asr.lengths import s_to_samples
from asr.overrides import require_keys
from asr.pauses import Cutting
from asr.process.ahead import map_ahead
from asr.process.parallel import batches_at_once
from asr.recognizer import Recognizer, pick_device
from asr.segmentation import mean_confidence
from asr.sources import Recording, each_channel
from asr.transcript import Dialogue, Recognised, Transcript
from asr.windows import Segment, encode, encode_all, segments

# Recordings up to this length are held in memory and decoded as one text; of longer ones each part by itself.
WHOLE_S = 30.0
# Segments up to this length are sought in their file; longer ones are read in pieces, from the beginning of the file.
SOUGHT_S = 600.0
# Recordings are sorted by length and decoded in groups of this much audio for each batch that the CPU computes at once,
# and returned in the order given.
GROUP_S = 600.0
# Files that are read ahead, each at most WHOLE_S long.
_READ_AHEAD = 64
_READERS = 2


@dataclass(frozen=True)
class Failure:
    """A recording that could not be transcribed, and why, on one line that names it."""

    name: str
    error: AsrError


@dataclass(frozen=True)
class Joined:
    """The first hypothesis of each part of a recording, joined into one that `Transcript.of` takes."""

    parts: Sequence[Segment]

    @cached_property
    def words(self) -> list[Word]:
        """All words, timed from the beginning of the recording."""
        return [word for part in self.parts for word in part.words]

    @property
    def text(self) -> str:
        """All words, separated by single spaces."""
        return " ".join(part.text for part in self.parts if part.text)

    @property
    def score(self) -> float:
        """Sum over the parts."""
        return sum(part.hypotheses[0].score for part in self.parts)

    @property
    def acoustic_score(self) -> float:
        """Sum over the parts."""
        return sum(part.hypotheses[0].acoustic_score for part in self.parts)

    @property
    def lm_score(self) -> float:
        """Sum over the parts."""
        return sum(part.hypotheses[0].lm_score for part in self.parts)

    @property
    def confidence(self) -> float:
        """Geometric mean of the words' confidences; 1 if nothing was said."""
        words = [word for part in self.parts for word in part.hypotheses[0].words]
        return mean_confidence(words) if words else 1.0


def best_joined(parts: Sequence[Segment], n_best: int) -> list[Joined]:
    """The `n_best` ways to choose a hypothesis of each part with the highest sums of scores, best first."""
    # Parts are decoded independently, so the best ways for more parts begin with the best ways for fewer.
    ways: list[tuple[float, tuple[Segment, ...]]] = [(0.0, ())]
    for part in parts:
        longer = [(score + found.score, chosen, found) for score, chosen in ways for found in part.hypotheses]
        best = heapq.nlargest(n_best, longer, key=lambda way: way[0])
        ways = [(score, (*chosen, replace(part, hypotheses=[found]))) for score, chosen, found in best]
    return [Joined(chosen) for _, chosen in ways]


class Transcriber:
    """A model ready to transcribe; calls from several threads take turns.

    Args:
        recognizer: a loaded model, on the device to compute on; its own decoder is used.
        batch_s: padded seconds of audio in a batch; on a CPU each of torch's threads computes one.
        cutting: where recordings are cut to be encoded.
        longest_s: longest file to take; `audio.max_duration_s`, which limits memory in training, has no effect
            here.
        precision: what runs the encoder; see `asr.backends.make_backend`.

    Attributes:
        averaged: how many files so far had their two channels averaged, as `audio.channels=auto` says.

    Raises:
        ConfigError: a value is out of range, or as `make_backend`.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        batch_s: float = 120.0,
        cutting: Cutting | None = None,
        longest_s: float = audio.LONGEST_S,
        precision: Precision = "float32",
    ) -> None:
        if not 0 < batch_s < math.inf:
            raise ConfigError(f"batch_s must be a positive number of seconds, found {batch_s}")
        self.recognizer = recognizer
        self.backend = make_backend(recognizer, precision)
        self.batch_s = batch_s
        self.cutting = cutting or Cutting()
        self.longest_s = longest_s
        self.averaged = 0
        self._counting = threading.Lock()
        self._config = replace(recognizer.config.audio, max_duration_s=max(longest_s, WHOLE_S))
        self._turn = threading.Lock()

    def transcribe(
        self,
        source: Path | str | bytes | NDArray[Any] | Tensor,
        *,
        sample_rate_hz: int | None = None,
        n_best: int = 1,
        name: str = "",
    ) -> Transcript:
        """Transcribe one recording.

        Args:
            source: path of an audio file, the content of one, or samples: (S,), or (S, channels) as soundfile gives
                them, float in -1..1 or integers of 16 or 32 bits.
            sample_rate_hz: of samples; files state it themselves.
            n_best: most hypotheses to return; more than one needs the beam, `load(RUN, decoder="beam")`.
            name: what messages call it.

        Raises:
            AudioError: the audio cannot be used; the message names it.
            DecodeError: it cannot be decoded, or not into so many hypotheses.
        """
        if isinstance(source, Path | str | bytes):
            if sample_rate_hz is not None:
                raise AudioError("sample_rate_hz goes with samples; a file states its own rate")
            (found,) = self.transcribe_all([_recording(source, name)], n_best=n_best)
        else:
            self._check_n_best(n_best)
            wave = audio.from_array(source, sample_rate_hz, self._config, name=name or "samples")
            found = next(self._in_turn([(Recording(name or "samples", b""), wave)], n_best))
        if isinstance(found, Failure):
            raise found.error
        return found

    def transcribe_all(
        self, recordings: Iterable[Recording | Path | str | bytes], *, n_best: int = 1
    ) -> Iterator[Transcript | Failure]:
        """Transcribe many recordings; yields a Transcript or a Failure for each, in the order given.

        Args:
            recordings: paths of audio files, contents of such files, or `Recording`s, which may be segments.
            n_best: as for `transcribe`.

        Raises:
            DecodeError: `n_best` is not a number of hypotheses.
        """
        self._check_n_best(n_best)
        group: list[tuple[Recording, Tensor | AsrError | None]] = []
        held = 0
        enough = GROUP_S * batches_at_once(self.recognizer.device) * self.recognizer.config.audio.sample_rate_hz
        for recording, read in map_ahead(self._read, map(_recording, recordings), threads=_READERS, ahead=_READ_AHEAD):
            group.append((recording, read))
            held += len(read) if isinstance(read, Tensor) else 0
            if read is None or held > enough:
                yield from self._in_turn(group, n_best)
                group, held = [], 0
        yield from self._in_turn(group, n_best)

    def dialogues(
        self, recordings: Iterable[Recording | Path | str | bytes]
    ) -> Iterator[Transcript | Dialogue | Failure]:
        """Transcribe many recordings, each channel by itself; yields what came of each, in the order given.

        That is a Dialogue, or of one channel (also where a manifest names it) a Transcript; or a Failure, if a channel
        failed.
        """
        # Not told apart in messages: almost all that can be wrong is so of the file.
        parts = [
            [replace(part, split=False) for part in each_channel([_recording(recording)])] for recording in recordings
        ]
        results = self.transcribe_all(chain.from_iterable(parts))
        for part in parts:
            found = list(islice(results, len(part)))
            failures = [result for result in found if isinstance(result, Failure)]
            sides = [result for result in found if isinstance(result, Transcript)]
            if failures:
                yield failures[0]
            else:
                yield sides[0] if len(sides) == 1 else Dialogue(tuple(sides))

    def _check_n_best(self, n_best: int) -> None:
        check_number("n_best", n_best, "at least 1", 1, whole=True)
        if n_best > 1 and self.recognizer.config.decode.decoder == "greedy":
            raise DecodeError(
                f"n_best={n_best}: greedy decoding has one hypothesis; load the model with decoder='beam'"
            )

    def _read(self, recording: Recording) -> Tensor | AsrError | None:
        """(S,) samples, or the error why there are none; None: too long to be held in memory."""
        try:
            with audio.opened(recording.audio, recording.title) as opened:
                first, frames = opened.segment(recording.offset_s, recording.duration_s)
                seconds = frames / opened.file.samplerate
                if seconds > self.longest_s:
                    raise AudioError(
                        f"{recording.title}: {seconds:.1f} s of audio, wanted at most {self.longest_s:g} s"
                    )
                if opened.averages(self._config, recording.channel):
                    with self._counting:
                        self.averaged += 1
                return None if seconds > WHOLE_S else opened.mono(first, frames, self._config, recording.channel)
        except AsrError as error:
            return error

    def _in_turn(
        self, group: Sequence[tuple[Recording, Tensor | AsrError | None]], n_best: int
    ) -> Iterator[Transcript | Failure]:
        with self._turn, torch.inference_mode():
            found = list(self._group(group, n_best))
        yield from found

    def _group(
        self, group: Sequence[tuple[Recording, Tensor | AsrError | None]], n_best: int
    ) -> Iterator[Transcript | Failure]:
        rate_hz, shortest = self.recognizer.config.audio.sample_rate_hz, self.recognizer.log_mel.fft_samples
        whole = {
            place: read
            for place, (_, read) in enumerate(group)
            if isinstance(read, Tensor) and shortest <= len(read) <= WHOLE_S * rate_hz
        }
        done = self._short(whole, [recording.title for recording, _ in group], n_best)
        for place, (recording, read) in enumerate(group):
            try:
                if place in done:
                    hypotheses, levels = done[place]
                    if isinstance(hypotheses, AsrError):
                        raise hypotheses
                    words = bounded(hypotheses[0].words, levels)
                    yield _transcript(recording, hypotheses, words, len(whole[place]) / rate_hz)
                elif isinstance(read, AsrError):
                    raise read
                else:
                    yield self._long(recording, read, n_best)
            except AsrError as error:
                yield Failure(recording.title, error)

    def _short(
        self, waves: dict[int, Tensor], names: Sequence[str], n_best: int
    ) -> dict[int, tuple[list[Hypothesis] | DecodeError, Levels]]:
        """Hypotheses, or the error why there are none, and levels of recordings that are in memory."""
        places, found = list(waves), {}
        encoder = self.backend.encode
        for batch, encoded in encode_all(
            self.recognizer, list(waves.values()), self.cutting, batch_s=self.batch_s, encoder=encoder
        ):
            rows, named = [each.log_probs for each in encoded], [names[places[number]] for number in batch]
            decoded = self.recognizer.decoder.attempt(rows, None, names=named, n_best=n_best)
            for number, hypotheses, each in zip(batch, decoded, encoded, strict=True):
                found[places[number]] = hypotheses, each.levels
        return found

    def _long(self, recording: Recording, wave: Tensor | None, n_best: int) -> Transcript:
        """Transcribe block by block, in bounded memory; a recording shorter than a frame is refused."""
        counted = 0

        def blocks() -> Iterator[Tensor]:
            nonlocal counted
            for piece in [wave] if wave is not None else self._pieces(recording):
                counted += len(piece)
                yield piece

        chunks = encode(
            self.recognizer,
            blocks(),
            self.cutting,
            batch_s=self.batch_s,
            encoder=self.backend.encode,
            name=recording.title,
        )
        parts = list(segments(self.recognizer, chunks, n_best=n_best, name=recording.title))
        found = best_joined(parts, n_best)
        return _transcript(recording, found, found[0].words, counted / self._config.sample_rate_hz)

    def _pieces(self, recording: Recording) -> Iterator[Tensor]:
        """(S,) pieces of a recording that is too long to be held in memory."""
        if recording.duration_s is not None and recording.duration_s <= SOUGHT_S:
            # Sought, so that many segments of a long file need not each read all that comes before.
            with audio.opened(recording.audio, recording.title) as opened:
                first, frames = opened.segment(recording.offset_s, recording.duration_s)
                yield opened.mono(first, frames, self._config, recording.channel)
            return
        rate_hz = self._config.sample_rate_hz
        first = s_to_samples(recording.offset_s, rate_hz)
        end = None if recording.duration_s is None else first + s_to_samples(recording.duration_s, rate_hz)
        begun = 0
        # No limit for the file: what counts is the length of the segment, which was checked.
        for block in audio.blocks(
            recording.audio, self._config, name=recording.title, channel=recording.channel, max_duration_s=math.inf
        ):
            piece = block[max(0, first - begun) : None if end is None else max(0, end - begun)]
            begun += len(block)
            if len(piece):
                yield piece
            if end is not None and begun >= end:
                return


def _recording(source: Recording | Path | str | bytes, name: str = "") -> Recording:
    """A source as a recording; without a name it is called by its path or its size."""
    if isinstance(source, Recording):
        return source
    if isinstance(source, bytes):
        return Recording(name or f"{len(source)} bytes", source)
    return Recording(name or str(Path(source)), Path(source))


def _transcript(
    recording: Recording, found: Sequence[Recognised], words: Sequence[Word], duration_s: float
) -> Transcript:
    """The transcript of what was found in a recording."""
    return Transcript.of(found, duration_s, recording.name, words=words, channel=recording.channel)


def load(run: Path | str, device: str = "auto", *, precision: Precision = "float32", **decode: Any) -> Transcriber:
    """Load a trained model to transcribe with.

    Args:
        run: run folder.
        device: auto, cpu, cuda, or one of several as cuda:1.
        precision: what runs the encoder; "auto" is the fastest (`asr.backends.make_backend`).
        decode: values of `DecodeConfig` to use in place of the run's own, such as lm="words.arpa"; one that only the
            beam has selects the beam, as on the command line. Relative paths are relative to the working directory.

    Raises:
        ConfigError: `decode` has an unknown name (the message suggests the right one), or decoder="greedy" and a value
            that only the beam has; or as `Transcriber`.
        CheckpointError: a file is missing or damaged.
        DecodeError: the decoder's files cannot be used.
    """
    require_keys(decode, DecodeConfig)
    recognizer = checkpoint.load(run, pick_device(device), decode=asked_decode(decode))
    _ = recognizer.decoder  # so that faults in its files are found now
    return Transcriber(recognizer, precision=precision)
