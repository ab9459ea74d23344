"""New sentences from the words of old ones: recordings are cut in pauses between words and put together anew.

A model of few recordings learns their sentences by heart: which letter follows which, and how often. In sentences that
nobody said it has only the sound to go by. Where words begin and end comes from a forced alignment with a model that
was trained before (Lam et al. 2021 do the like for whole-word replacements). CTC says where a word is but not where its
sound ends, so a cut is made only where the audio is quiet between two words; what has no pause inside stays whole, and
so do words whose alignment is in doubt.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, pairwise
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.align import DOUBTFUL, align_text
from asr.augment import utterance_generator
from asr.decode import Word
from asr.errors import ConfigError, ManifestError
from asr.evaluate import Evaluation
from asr.files import atomic_path, locked, require_folder
from asr.manifest import Utterance, read_manifest, write_manifest
from asr.progress import Progress
from asr.recognizer import Recognizer
from asr.trainset import LabelledSet, unusable

MANIFEST_FILE = "train.jsonl"
AUDIO_FOLDER = "spliced"
_NAME = re.compile(r"spliced-\d{6,}")  # of a sentence
# Loudness is taken over so many seconds; a pause is that far below the loud parts of a recording: 95 of 100 are softer.
_LOUDNESS_S = 0.02
_PAUSE_DB = 20.0
_LOUD = 0.95
# A word has at least so many seconds above that; one that has less stays with its neighbour.
_SOUND_S = 0.1
# Pieces are faded into each other over so many seconds: half a period of the lowest voice would click.
_FADE_S = 0.01
# A speaker of a few words said fast may have sentences that cannot be learnt; so many more of them than of others are
# no accident.
_REFUSED = 100


@dataclass(frozen=True)
class Piece:
    """Audio from pause to pause.

    Attributes:
        wave: (S,) float32.
        text: its words.
    """

    wave: Tensor
    text: str


@dataclass(frozen=True)
class Spliced:
    """What was made: counts of pieces and sentences, and seconds of the latter."""

    speakers: int
    pieces: int
    whole: int
    sentences: int
    seconds: float

    def render(self) -> str:
        """The counts in a line."""
        return (
            f"{self.sentences} sentences, {self.seconds / 3600:.2f} h, of {self.pieces} pieces by {self.speakers} "
            f"speakers ({self.whole} utterances had no pause to be cut in)"
        )


def splice(
    utterances: Sequence[Utterance],
    recognizer: Recognizer,
    out: Path,
    *,
    hours: float,
    seconds: tuple[float, float],
    seed: int = 0,
) -> Spliced:
    """Write new sentences as FLAC files, and a manifest with the utterances and them.

    Args:
        utterances: what is cut; words of different speakers are never mixed, and those without one count as one.
        recognizer: aligns the transcripts.
        out: folder for `train.jsonl` and `spliced/`; what an earlier call wrote there is replaced.
        hours: how much to make.
        seconds: shortest and longest sentence; lengths are uniform between them, by whole pieces.
        seed: of what is put together.

    Raises:
        AudioError: an utterance cannot be read; the message names it.
        TextError: a transcript cannot be aligned; the message names the utterance.
        ManifestError: an utterance is called as a spliced one would be.
        ConfigError: another process writes to `out`, it holds a `train.jsonl` that was not made here, or the pieces
            make no sentences that training would take.
    """
    for utterance in utterances:
        if _NAME.fullmatch(utterance.id):
            raise ManifestError(
                f"utterance {utterance.id}: spliced sentences are called so; was this manifest spliced before?"
            )
    if seconds[0] > recognizer.config.train.max_utterance_s:
        raise ConfigError(
            f"sentences of {seconds[0]:g} s and more are longer than train.max_utterance_s="
            f"{recognizer.config.train.max_utterance_s:g} of the model, so that training would refuse them"
        )
    if not _is_ours(out / MANIFEST_FILE):
        raise ConfigError(f"{out / MANIFEST_FILE}: would be overwritten; choose another folder")
    require_folder(out)
    with locked(out) as alone:
        if not alone:
            raise ConfigError(f"{out}: another process is writing sentences there")
        return _splice(utterances, recognizer, out, hours, seconds, seed)


def _is_ours(manifest: Path) -> bool:
    """Whether a manifest may be written over: there is none, or the last of its records is a spliced sentence."""
    if not manifest.exists():
        return True
    records = read_manifest(manifest, with_texts=False)
    return _NAME.fullmatch(records[-1].id) is not None


def _splice(
    utterances: Sequence[Utterance],
    recognizer: Recognizer,
    out: Path,
    hours: float,
    seconds: tuple[float, float],
    seed: int,
) -> Spliced:
    rate_hz = recognizer.config.audio.sample_rate_hz
    pieces: dict[str, list[Piece]] = {}
    whole = 0
    for utterance, found in cut_all(utterances, recognizer):
        pieces.setdefault(utterance.speaker or "", []).extend(found)
        whole += len(found) == 1
    made: list[Utterance] = []
    total_s = 0.0
    sentences = _sentences(pieces, recognizer, out / AUDIO_FOLDER, seconds, seed)
    sentences = chain([next(sentences)], sentences)  # an error, where there are none
    (out / MANIFEST_FILE).unlink(missing_ok=True)  # an old one must never stand beside new audio
    with Progress(round(3600 * hours), "s") as progress:
        while total_s < 3600 * hours:
            utterance, wave = next(sentences)
            with atomic_path(utterance.audio_filepath) as temporary:
                soundfile.write(temporary, wave.numpy(), rate_hz, format="FLAC", subtype="PCM_16")
            made.append(utterance)
            before, total_s = round(total_s), total_s + utterance.duration
            for _ in range(before, min(round(total_s), round(3600 * hours))):
                progress.step({"sentences": str(len(made))})
    write_manifest(out / MANIFEST_FILE, [*utterances, *made])
    for path in set((out / AUDIO_FOLDER).glob("spliced-*.flac")) - {sentence.audio_filepath for sentence in made}:
        path.unlink()  # of an earlier call that made more
    return Spliced(len(pieces), sum(map(len, pieces.values())), whole, len(made), total_s)


def _sentences(
    pieces: Mapping[str, Sequence[Piece]], recognizer: Recognizer, folder: Path, seconds: tuple[float, float], seed: int
) -> Iterator[tuple[Utterance, Tensor]]:
    """Sentences of each speaker in turn, without end, but none that training at the model's settings would refuse."""
    speakers, rate_hz = sorted(pieces), recognizer.config.audio.sample_rate_hz
    refused = 0
    for number in count():
        name, speaker = f"spliced-{number:06d}", speakers[number % len(speakers)]
        sentence = assemble(pieces[speaker], utterance_generator(seed, 0, name), seconds, rate_hz)
        utterance = Utterance(
            name, folder / f"{name}.flac", len(sentence.wave) / rate_hz, sentence.text, speaker=speaker or None
        )
        reason = _reason_against(utterance, recognizer)
        if reason is None:
            yield utterance, sentence.wave
            continue
        refused += 1
        if refused > _REFUSED + number // 2:
            raise ConfigError(f"{refused} of {number + 1} sentences could not be trained on, the last: {reason}")


def _reason_against(utterance: Utterance, recognizer: Recognizer) -> str | None:
    """Why training would refuse an utterance; one with a word that the model has no labels for is not judged."""
    tokenizer = recognizer.tokenizer
    unknown = tokenizer.out_of_vocabulary(utterance.text)
    judged = not unknown or recognizer.config.text.allow_oov
    labels = [] if not judged else tokenizer.encode(utterance.text, where=f"utterance {utterance.id}")
    return unusable(LabelledSet([utterance], [labels], [unknown]), recognizer.config, recognizer).get(utterance.id)


def cut_all(utterances: Sequence[Utterance], recognizer: Recognizer) -> Iterator[tuple[Utterance, list[Piece]]]:
    """The pieces of each utterance, as they come out of batches of similar length."""
    by_id = {utterance.id: utterance for utterance in utterances}
    rate_hz = recognizer.config.audio.sample_rate_hz
    evaluation = Evaluation(utterances, recognizer, batch_s=recognizer.config.train.batch_s, workers=0)
    for batch, log_probs, lens in evaluation.encode(recognizer):
        rows = zip(batch.ids, batch.waves.cpu(), batch.wave_lens.tolist(), log_probs.cpu(), lens.tolist(), strict=True)
        for name, wave, samples, row, frames in rows:
            utterance = by_id[name]
            text = recognizer.tokenizer.normalize(utterance.text)
            aligned = align_text(
                row[:frames], text, recognizer.tokenizer, recognizer.vocabulary, where=f"utterance {name}"
            )
            yield utterance, cut(wave[:samples].clone(), aligned.words, recognizer.frame_s, rate_hz)


def cut(wave: Tensor, words: Sequence[Word], frame_s: float, rate_hz: int) -> list[Piece]:
    """Cut a recording in the pauses between words.

    Args:
        wave: (S,) float32.
        words: with times; a word's last label is taken to be in its last frame.
        frame_s: seconds of a frame of those times.
        rate_hz: of the waveform.

    Returns:
        Pieces that make the whole recording, in order; one, when there is no pause.
    """
    window = round(_LOUDNESS_S * rate_hz)
    if len(wave) < window:
        return [Piece(wave, " ".join(word.text for word in words))]
    loudness = _loudness_db(wave, window)
    loud = loudness >= np.quantile(loudness, _LOUD) - _PAUSE_DB
    cuts, groups = [0], [[words[0]]]
    for before, after in pairwise(words):
        first = round((before.end_s - frame_s) * rate_hz) // window
        last = max(first + 1, round(after.start_s * rate_hz) // window)
        pause = _middle_of_longest(~loud[first:last])
        if pause is not None and _is_said(groups[-1], loud[cuts[-1] : first + pause]):
            cuts.append(first + pause)
            groups.append([after])
        else:
            groups[-1].append(after)
    if len(cuts) > 1 and not _is_said(groups[-1], loud[cuts[-1] :]):
        cuts.pop()
        groups[-2:] = [groups[-2] + groups[-1]]
    bounds = [0, *(place * window + window // 2 for place in cuts[1:]), len(wave)]
    return [
        Piece(wave[start:end], " ".join(word.text for word in group))
        for (start, end), group in zip(pairwise(bounds), groups, strict=True)
    ]


def _is_said(words: Sequence[Word], loud: NDArray[np.bool_]) -> bool:
    """Whether there is sound enough for the words, and none is doubtful: a poor alignment is no place to cut."""
    return _LOUDNESS_S * int(loud.sum()) >= _SOUND_S * len(words) and all(w.confidence >= DOUBTFUL for w in words)


def assemble(pieces: Sequence[Piece], generator: torch.Generator, seconds: tuple[float, float], rate_hz: int) -> Piece:
    """A sentence of pieces drawn with replacement, until a length drawn from `seconds` is reached."""
    low, high = seconds
    length_s = low + (high - low) * float(torch.rand((), generator=generator))
    chosen: list[Piece] = []
    total = 0
    while not chosen or total + len(chosen[-1].wave) // 2 < length_s * rate_hz:
        chosen.append(pieces[int(torch.randint(len(pieces), (), generator=generator))])
        total += len(chosen[-1].wave)
    return Piece(_joined([piece.wave for piece in chosen], round(_FADE_S * rate_hz)), " ".join(p.text for p in chosen))


def _joined(waves: Sequence[Tensor], fade: int) -> Tensor:
    """One after the other, each faded into the next over `fade` samples."""
    joined = torch.empty(sum(map(len, waves)))
    end = 0
    for wave in waves:
        overlap = min(fade, end, len(wave))
        rise = torch.linspace(0, 1, overlap)
        joined[end - overlap : end] = joined[end - overlap : end] * (1 - rise) + wave[:overlap] * rise
        joined[end : end + len(wave) - overlap] = wave[overlap:]
        end += len(wave) - overlap
    return joined[:end]


def _middle_of_longest(marks: NDArray[np.bool_]) -> int | None:
    """Where (N,) marks are true for the longest time; None when nowhere."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]]).astype(np.int8)))
    if not len(edges):
        return None
    begins, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - begins))
    return int(begins[longest] + ends[longest]) // 2


def _loudness_db(wave: Tensor, window: int) -> NDArray[np.float64]:
    """(N,) mean power of each whole window, in decibels."""
    whole = wave.numpy().astype(np.float64)
    windows = whole[: len(whole) // window * window].reshape(-1, window)
    power: NDArray[np.float64] = np.square(windows).mean(1)
    return np.asarray(10 * np.log10(power + 1e-10))
