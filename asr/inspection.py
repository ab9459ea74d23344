"""Runs a recording, or a part of it, through a model and keeps everything that a picture could show.

The part is encoded alone and as a whole, so that every gate belongs to one pass: a bidirectional layer knows nothing of
what comes before or after it. `asr transcribe` cuts long recordings in their pauses instead, and may read a word at the
edge of a part differently.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from asr import audio
from asr.align import align_text
from asr.decode import Hypothesis, Word
from asr.emissions import Vocabulary
from asr.errors import ConfigError
from asr.features import require_frame
from asr.gates import Trace, trace
from asr.hypotheses import Result
from asr.recognizer import Recognizer
from asr.wer import Counts, score

# Longest part that is shown: a wider picture cannot be read, and gates of an hour would not fit in memory.
SHOWN_S = 30.0


@dataclass(frozen=True)
class Compared:
    """A column of the alignment of reference and hypothesis; times are seconds of the recording.

    Attributes:
        said: the reference's word, timed by forced alignment; None where a word was inserted.
        heard: the hypothesis' word; None where a word was deleted.
    """

    said: Word | None
    heard: Word | None

    @property
    def verdict(self) -> str:
        """`right`, `substituted`, `deleted` or `inserted`."""
        if self.said is None:
            return "inserted"
        if self.heard is None:
            return "deleted"
        return "right" if self.said.text == self.heard.text else "substituted"


@dataclass(frozen=True, eq=False)
class Inspection:
    """What a model did with a part of a recording. Times are seconds of the recording, not of the part.

    Attributes:
        name: the recording.
        start_s: where the part begins.
        end_s: where it ends.
        total_s: length of the recording.
        wave: (S,) float32 samples at `rate_hz`.
        rate_hz: sample rate of the model.
        log_mel: (T, F) float32 natural-log mel energy, not normalised.
        mel_hz: lowest and highest frequency of the mel filters.
        mel_start_s: middle of the first frame of `log_mel`.
        hop_s: from one of its frames to the next.
        log_probs: (T', V) float32 natural-log probabilities.
        vocabulary: what their columns mean; its `frame_s` is also that of the traces.
        hypothesis: what the model's own decoder reads in them; its times count from `start_s`.
        heard: its words.
        traces: gates and states of each layer and direction.
        compared: the alignment with a reference, or None.
        counts: its errors, or None.
        unknown: words of the reference that the vocabulary cannot spell, a line each; they are timed as any sound.
    """

    name: str
    start_s: float
    end_s: float
    total_s: float
    wave: NDArray[np.float32]
    rate_hz: int
    log_mel: NDArray[np.float32]
    mel_hz: tuple[float, float]
    mel_start_s: float
    hop_s: float
    log_probs: NDArray[np.float32]
    vocabulary: Vocabulary
    hypothesis: Hypothesis
    heard: tuple[Word, ...]
    traces: list[Trace]
    compared: tuple[Compared, ...] | None
    counts: Counts | None
    unknown: tuple[str, ...]

    @property
    def part(self) -> str:
        """Which part it is, in words."""
        if self.start_s == 0 and self.end_s == self.total_s:
            return f"all {self.total_s:.2f} s"
        return f"{self.start_s:.2f} to {self.end_s:.2f} s of {self.total_s:.2f} s"


def part_of(name: str, total_s: float, start_s: float, end_s: float | None) -> tuple[float, float]:
    """Which part of a recording to show: the one asked for, or as much as can be shown.

    Raises:
        ConfigError: the part is empty, too long, or not inside the recording.
    """
    if not 0 <= start_s < total_s:
        raise ConfigError(f"{name}: a part from {start_s:g} s begins outside the recording of {total_s:.2f} s")
    if end_s is None:
        return start_s, min(total_s, start_s + SHOWN_S)
    if not start_s < end_s <= total_s + audio.END_TOLERANCE_S:
        raise ConfigError(
            f"{name}: a part from {start_s:g} to {end_s:g} s is not inside the recording of {total_s:.2f} s"
        )
    if end_s - start_s > SHOWN_S:
        raise ConfigError(
            f"{name}: {end_s - start_s:g} s from {start_s:g} to {end_s:g} are more than the "
            f"{SHOWN_S:g} s that a picture shows"
        )
    return start_s, min(end_s, total_s)


def inspect_recording(
    recognizer: Recognizer,
    path: Path | str,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    reference: str | None = None,
) -> Inspection:
    """Encode a part of a recording and keep everything.

    Args:
        recognizer: on the CPU, in evaluation mode.
        path: an audio file.
        start_s: beginning of the part.
        end_s: its end; None: as far as `SHOWN_S` goes.
        reference: what is said in the part.

    Raises:
        AudioError: the audio cannot be read, or is shorter than one frame.
        ConfigError: the part is not inside the recording or too long; the model's cells are not known.
        TextError: the reference cannot be aligned.
    """
    config, log_mel = recognizer.config, recognizer.log_mel
    with audio.opened(path) as opened:
        total_s = opened.frames / opened.file.samplerate
        start_s, end_s = part_of(opened.name, total_s, start_s, end_s)
        wave = opened.mono(*opened.segment(start_s, end_s - start_s), config.audio)
    require_frame(str(path), len(wave), log_mel.fft_samples)
    rate_hz = config.audio.sample_rate_hz
    with torch.inference_mode():
        energies, frames = log_mel(wave.unsqueeze(0), torch.tensor([len(wave)]))
        log_probs, traces = trace(recognizer.encoder, recognizer.normalizer(energies, frames)[0])
    hypothesis = recognizer.decode(torch.from_numpy(log_probs).unsqueeze(0), torch.tensor([len(log_probs)]))[0]
    heard = _spelled(hypothesis.words, str, start_s)
    compared = counts = None
    unknown: list[str] = []
    if reference is not None:
        aligned = align_text(log_probs, reference, recognizer.tokenizer, recognizer.vocabulary, where="--text")
        compared, counts = compare(_spelled(aligned.words, recognizer.tokenizer.normalize, start_s), heard)
        for place in aligned.written:
            if place.unknown:
                lacking = ", ".join(map(repr, place.unknown))
                unknown.append(f"{place}: aligned as any sound: the vocabulary lacks {lacking}")
    return Inspection(
        name=Path(path).name,
        start_s=start_s,
        end_s=end_s,
        total_s=total_s,
        wave=wave.numpy(),
        rate_hz=rate_hz,
        log_mel=energies[0].numpy(),
        mel_hz=(config.features.low_hz, config.features.high_hz or rate_hz / 2),
        mel_start_s=start_s + log_mel.fft_samples / 2 / rate_hz,
        hop_s=log_mel.hop_samples / rate_hz,
        log_probs=log_probs,
        vocabulary=recognizer.vocabulary,
        hypothesis=hypothesis,
        heard=tuple(heard),
        traces=traces,
        compared=compared,
        counts=counts,
        unknown=tuple(unknown),
    )


def compare(said: Sequence[Word], heard: Sequence[Word]) -> tuple[tuple[Compared, ...], Counts]:
    """Align timed words of a reference with those of a hypothesis, as the word error rate does, and count errors."""
    reference, hypothesis = (" ".join(word.text for word in words) for words in (said, heard))
    [scored] = score([Result("", None, reference, hypothesis, duration=0.0)]).utterances
    left, right = iter(said), iter(heard)
    columns = (
        Compared(None if before is None else next(left), None if after is None else next(right))
        for before, after in scored.alignment
    )
    return tuple(columns), scored.words


def _spelled(words: Sequence[Word], normalize: Callable[[str], str], start_s: float) -> list[Word]:
    """Words as scoring counts them (one written word may hold several), timed from the recording's start."""
    return [
        replace(word, text=text, start_s=word.start_s + start_s, end_s=word.end_s + start_s)
        for word in words
        for text in normalize(word.text).split()
    ]
