"""Recordings without transcripts as training data: what a model hears in them, where it is confident.

To go on training a model with what it recognised is self-training with pseudo-labels, chosen by confidence (Kahn, Lee
and Hannun, ICASSP 2020, arXiv 1909.09116). It teaches a model voices, rooms and microphones, but no words.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

from asr.decode import Word
from asr.errors import ConfigError
from asr.files import AUDIO_SUFFIXES, write_text_atomic
from asr.manifest import Utterance, hours, line_of, part_name
from asr.pauses import Cutting
from asr.segmentation import mean_confidence
from asr.sources import Recording
from asr.transcribe import WHOLE_S, Joined
from asr.transcript import Transcript

LEARNT_S = WHOLE_S  # longest utterance that is taken: training takes no longer ones, unless told to
# A long recording should give many utterances. AN4's 89 of dev, joined without pauses, become 65 of 0.8 to 13 s,
# recognised as well (25 errors instead of 27, of 505); with the pauses that transcription uses they become one.
CUTTING = Cutting(pause_s=0.4, margin_s=0.15)


@dataclass(frozen=True)
class Labelled:
    """An utterance with the text that a model recognised.

    Attributes:
        utterance: its text is empty where nothing was heard.
        confidence: 0 to 1, the geometric mean of its words' confidences; 0 without a word.
    """

    utterance: Utterance
    confidence: float


def require_labelable(recordings: Iterable[Recording], manifest: Path) -> None:
    """Check, before hours of work, that the recordings can be written to `manifest`.

    Raises:
        ConfigError: a recording is not a file, or is named twice.
        ManifestError: a name is not UTF-8.
    """
    names: dict[tuple[Path, float, float | None, int | None], str] = {}
    for recording in recordings:
        if isinstance(recording.audio, bytes):
            raise ConfigError(f"{recording.name}: is not a file, and a manifest can only name files")
        line_of(_labelled(recording, 0.0, 1.0, "", ()).utterance, manifest)
        part = (recording.audio.resolve(), recording.offset_s, recording.duration_s, recording.channel)
        if part in names:
            raise ConfigError(f"{recording.title}: is the same recording as {names[part]}")
        names[part] = recording.title


def label(recording: Recording, transcript: Transcript) -> Iterator[Labelled]:
    """The utterances of a recording, in order.

    A recording of up to `asr.transcribe.WHOLE_S` is one utterance. In a longer one, each stretch that was recognised
    between two pauses is an utterance, and what lies between the stretches is in none.

    Args:
        recording: a file, or a part of one.
        transcript: what a Transcriber with `CUTTING` recognised in it.
    """
    best = transcript.alternatives[0]
    if isinstance(best, Joined) and transcript.duration_s > WHOLE_S and best.words:
        for part in best.parts:
            duration_s = min(part.duration_s, transcript.duration_s - part.offset_s)
            yield _labelled(recording, part.offset_s, duration_s, part.text, part.words)
    else:
        duration_s = transcript.duration_s if recording.duration_s is None else recording.duration_s
        yield _labelled(recording, 0.0, duration_s, transcript.text, transcript.words)


def _labelled(recording: Recording, start_s: float, duration_s: float, text: str, words: Sequence[Word]) -> Labelled:
    """What is said in the recording from `start_s` on, for `duration_s`."""
    assert isinstance(recording.audio, Path)
    name = recording.name
    if not recording.is_segment:  # then its name is a path
        stem = Path(name).with_suffix("") if Path(name).suffix.lower() in AUDIO_SUFFIXES else Path(name)
        name = "_".join(part for part in stem.parts if part.strip("/. ")) or "recording"
    offset = round(recording.offset_s + start_s, 6)
    utterance = Utterance(
        id=part_name(name, offset if start_s else 0.0, recording.side),
        audio_filepath=recording.audio,
        duration=duration_s,
        text=text,
        offset=offset,
        speaker=recording.speaker,
        channel=recording.channel,
    )
    return Labelled(utterance, mean_confidence(words) if words else 0.0)


def left_of(manifest: Path) -> Path:
    """The file for utterances that are not taken into `manifest`."""
    return manifest.with_suffix(f".left{manifest.suffix}")


def write_labelled(manifest: Path, found: Iterable[Labelled], least: float) -> str:
    """Write the utterances to be learnt to `manifest`, and the others to `left_of(manifest)`; returns a summary.

    An utterance is taken if it has a text, a confidence of at least `least`, and lasts at most `LEARNT_S`. Each record
    has its `confidence` too, with four decimals; an id that was used already gets a number.

    Raises:
        ConfigError: nothing is taken; `manifest` is then left as it was.
        ManifestError: an id or a path is not UTF-8; the message names the utterance.
    """
    kept: list[tuple[Utterance, float]] = []
    left: list[tuple[Utterance, float]] = []
    ids: set[str] = set()
    for item in found:
        utterance, confidence = item.utterance, round(item.confidence, 4)
        names = chain([utterance.id], (f"{utterance.id}~{number}" for number in count(2)))
        utterance = replace(utterance, id=next(name for name in names if name not in ids))
        ids.add(utterance.id)
        learnt = utterance.text and confidence >= least and utterance.duration <= LEARNT_S
        (kept if learnt else left).append((utterance, confidence))
    _write(left_of(manifest), left)
    what = f"a text, a confidence of at least {least:g} and at most {LEARNT_S:g} s of audio"
    if not kept:
        raise ConfigError(
            f"{manifest}: not written: none of {len(left)} utterances has {what}; see {left_of(manifest)}"
        )
    _write(manifest, kept)
    taken, others = ([utterance for utterance, _ in items] for items in (kept, left))
    words = sum(len(utterance.text.split()) for utterance in taken)
    return (
        f"{len(taken)} of {len(taken) + len(others)} utterances, {hours(taken):.3f} of "
        f"{hours(taken) + hours(others):.3f} h, {words} words taken, each utterance with {what}; the others are in "
        f"{left_of(manifest)}"
    )


def _write(path: Path, items: Iterable[tuple[Utterance, float]]) -> None:
    lines = [line_of(utterance, path, confidence=confidence) + "\n" for utterance, confidence in items]
    write_text_atomic(path, "".join(lines))
