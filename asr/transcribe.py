"""Audio files to transcripts; an unusable file becomes a failure and never stops the others."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from asr import audio
from asr.decode import Hypothesis
from asr.errors import AsrError, AudioError, DecodeError
from asr.recognizer import Recognizer, pad_waves

# Files are read, sorted by length and decoded in windows of this much audio, then come back in the order given.
WINDOW_S = 1800.0


@dataclass(frozen=True)
class Transcript:
    """What was recognised in one file.

    Attributes:
        path: the file, as given.
        hypotheses: at least one, best first.
        duration: seconds of audio.
    """

    path: Path
    hypotheses: list[Hypothesis]
    duration: float

    @property
    def text(self) -> str:
        """Recognised text, perhaps empty."""
        return self.hypotheses[0].text


@dataclass(frozen=True)
class Failure:
    """A file that could not be transcribed, and why, on one line that names it."""

    path: Path
    error: AsrError


def find_audio(paths: Iterable[Path | str]) -> tuple[list[Path], list[Path]]:
    """The files named, and for a folder every audio file below it, sorted; then the folders' other files.

    Raises:
        AudioError: a folder holds no audio file, or one below it cannot be read. (A missing file is left to
            `transcribe`, so that others go on.)
    """
    found: list[Path] = []
    others: list[Path] = []
    for path in map(Path, paths):
        if not os.path.isdir(path):  # unlike Path.is_dir no error where the path cannot be looked up
            found.append(path)
            continue
        inside = sorted(Path(folder, name) for folder, _, names in os.walk(path, onerror=_unreadable) for name in names)
        by_name = [child for child in inside if child.suffix.lower() in audio.SUFFIXES]
        if not by_name:
            raise AudioError(f"{path}: no audio file in this folder (looked for {', '.join(audio.SUFFIXES)})")
        found += by_name
        others += [child for child in inside if child.suffix.lower() not in audio.SUFFIXES]
    return found, others


def _unreadable(error: OSError) -> None:
    raise AudioError(f"{error.filename}: cannot read folder: {error.strerror}") from error


def transcribe(
    recognizer: Recognizer, paths: Sequence[Path], *, batch_s: float = 120.0, n_best: int = 1
) -> Iterator[Transcript | Failure]:
    """Transcribe files with the recogniser's decoder.

    Args:
        recognizer: a loaded model, on the device to compute on.
        paths: audio files.
        batch_s: padded seconds of audio in a batch; one longer file is a batch of its own.
        n_best: hypotheses for each file; greedy decoding has one.

    Yields:
        A Transcript or a Failure for each path, in the order given.
    """
    window: list[Path] = []
    waves: dict[int, Tensor] = {}
    failures: dict[int, AsrError] = {}
    rate_hz = recognizer.config.audio.sample_rate_hz
    for path in paths:
        try:
            waves[len(window)] = _load(path, recognizer)
        except AsrError as error:
            failures[len(window)] = error
        window.append(path)
        if sum(map(len, waves.values())) > WINDOW_S * rate_hz:
            yield from _decode(recognizer, window, waves, failures, batch_s, n_best)
            window, waves, failures = [], {}, {}
    yield from _decode(recognizer, window, waves, failures, batch_s, n_best)


def _load(path: Path, recognizer: Recognizer) -> Tensor:
    wave = audio.load(path, recognizer.config.audio)
    shortest = recognizer.log_mel.fft_samples
    if len(wave) < shortest:
        raise AudioError(f"{path}: {len(wave)} samples of audio are shorter than one frame of {shortest}")
    return wave


def _decode(
    recognizer: Recognizer,
    window: Sequence[Path],
    waves: dict[int, Tensor],
    failures: dict[int, AsrError],
    batch_s: float,
    n_best: int,
) -> Iterator[Transcript | Failure]:
    rate_hz = recognizer.config.audio.sample_rate_hz
    done: dict[int, list[Hypothesis] | DecodeError] = {}
    batch: list[int] = []
    for place in sorted(waves, key=lambda place: -len(waves[place])):
        # Longest first, so the first of a batch sets its padded length.
        if batch and len(waves[batch[0]]) * (len(batch) + 1) > batch_s * rate_hz:
            done.update(_transcribe_batch(recognizer, window, waves, batch, n_best))
            batch = []
        batch.append(place)
    if batch:
        done.update(_transcribe_batch(recognizer, window, waves, batch, n_best))
    for place, path in enumerate(window):
        found = failures[place] if place in failures else done[place]
        if isinstance(found, AsrError):
            yield Failure(path, found)
        else:
            yield Transcript(path, found, len(waves[place]) / rate_hz)


@torch.inference_mode()
def _transcribe_batch(
    recognizer: Recognizer, window: Sequence[Path], waves: dict[int, Tensor], batch: Sequence[int], n_best: int
) -> dict[int, list[Hypothesis] | DecodeError]:
    padded, lens = pad_waves([waves[place] for place in batch])
    log_probs, frames = recognizer(padded.to(recognizer.device), lens)
    names = [str(window[place]) for place in batch]
    found = recognizer.decoder.attempt(log_probs.cpu().numpy(), frames, names=names, n_best=n_best)
    return dict(zip(batch, found, strict=True))
