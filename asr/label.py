"""Recordings without transcripts as training data: what a model hears in them, where it is confident.

Training on from these weights with what they recognised is self-training with pseudo-labels, chosen by confidence
(Kahn, Lee and Hannun, ICASSP 2020, arXiv 1909.09116). It teaches a model voices, rooms and microphones, and no words.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from asr.decode import Word
from asr.errors import ConfigError
from asr.files import write_text_atomic
from asr.manifest import Utterance, hours, line_of
from asr.pauses import Cutting
from asr.sources import Recording
from asr.transcribe import WHOLE_S
from asr.transcript import Transcript, mean_confidence, runs_of, segments_of

_MARGIN_S = Cutting().margin_s  # of the quiet around words that goes with them, as where long recordings are cut


@dataclass(frozen=True)
class Labelled:
    """An utterance whose text a model gave it.

    Attributes:
        utterance: its text is empty where nothing was heard.
        confidence: 0 to 1, the geometric mean of its words'.
    """

    utterance: Utterance
    confidence: float


def name_of(recording: Recording) -> str:
    """The id of a recording in a manifest: its own in the manifest it is from, or its path in one word.

    Raises:
        ConfigError: it came on standard input, where nobody can read it again.
    """
    if isinstance(recording.audio, bytes):
        raise ConfigError(f"{recording.name}: a manifest names files, and standard input is none")
    if recording.is_segment:
        return recording.name
    return "_".join(part for part in Path(recording.name).with_suffix("").parts if part not in ("/", ".", ".."))


def label(recording: Recording, transcript: Transcript) -> Iterator[Labelled]:
    """The utterances of a recording, in order.

    One of up to `asr.transcribe.WHOLE_S` is one utterance. A longer one is cut where no word is for
    `asr.transcript.PAUSE_S`, and what is longer then at the ends of segments; around its words an utterance has
    as much of the pause as speech has where long recordings are cut, at most half of it. What lies between
    is in none, nor is a word that lasts no time where it is cut.

    Args:
        recording: a file, or a part of one.
        transcript: what was recognised in it.
    """
    whole = Utterance(
        id=name_of(recording),
        audio_filepath=Path(str(recording.audio)),
        duration=transcript.duration_s if recording.duration_s is None else recording.duration_s,
        text=transcript.text,
        offset=recording.offset_s,
        speaker=recording.speaker,
    )
    if transcript.duration_s <= WHOLE_S or not transcript.words:
        yield Labelled(whole, transcript.confidence)
        return
    parts = [part for run in runs_of(transcript.words) for part in _short(run)]
    between = [(one[-1].end_s + other[0].start_s) / 2 for one, other in pairwise(parts)]
    for part, (earliest_s, latest_s) in zip(parts, pairwise([0.0, *between, transcript.duration_s]), strict=True):
        start_s = max(earliest_s, part[0].start_s - _MARGIN_S)
        end_s = min(latest_s, part[-1].end_s + _MARGIN_S)
        if round(end_s - start_s, 6) <= 0:
            continue
        offset = recording.offset_s + start_s
        piece = replace(
            whole,
            id=f"{whole.id}@{round(offset, 6)}",
            offset=offset,
            duration=end_s - start_s,
            text=" ".join(word.text for word in part),
        )
        yield Labelled(piece, mean_confidence(part))


def _short(run: Sequence[Word]) -> Iterator[Sequence[Word]]:
    if run[-1].end_s - run[0].start_s <= WHOLE_S:
        yield run
    else:
        yield from (segment.words for segment in segments_of(run))


def left_of(manifest: Path) -> Path:
    """Where what is not taken into `manifest` is written."""
    return manifest.with_suffix(f".left{manifest.suffix}")


def write_labelled(manifest: Path, found: Iterable[Labelled], least: float) -> str:
    """Write what has a text and at least this confidence to `manifest`, the others to `left_of` it; returns a summary.

    Each record has its `confidence` too. Both files are there afterwards, one may be empty.

    Raises:
        ManifestError: a path is not UTF-8; the message names the utterance.
    """
    kept: list[Labelled] = []
    left: list[Labelled] = []
    for item in found:
        (kept if item.utterance.text and item.confidence >= least else left).append(item)
    for path, items in ((manifest, kept), (left_of(manifest), left)):
        lines = [line_of(item.utterance, path, confidence=round(item.confidence, 4)) + "\n" for item in items]
        write_text_atomic(path, "".join(lines))
    taken, all_of_it = ([item.utterance for item in items] for items in (kept, [*kept, *left]))
    words = sum(len(utterance.text.split()) for utterance in taken)
    return (
        f"{len(taken)} of {len(all_of_it)} utterances, {hours(taken):.2f} of {hours(all_of_it):.2f} h, {words} words "
        f"with a confidence of {least:g} or more; the others are in {left_of(manifest)}"
    )
