"""Recordings inside a page: short ones as FLAC, within a limit on the whole."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import soundfile

from asr.audio import opened
from asr.config import AudioConfig
from asr.errors import AudioError, ManifestError
from asr.evaluate import Provenance
from asr.html import Html, element
from asr.manifest import Utterance, read_manifest

PLAYED_S = 30.0
PAGE_BYTES = 12_000_000  # of base64; about 25 minutes of telephone speech, 6 of 48 kHz
_HIGHEST_HZ = 48_000  # what every browser plays
LIMITS = (
    f"Recordings of up to {PLAYED_S:g} s are inside the page, the first {PAGE_BYTES / 1e6:g} MB of them, at their own "
    f"sample rate (at most {_HIGHEST_HZ // 1000} kHz), channels averaged unless one is meant; the others name their "
    "file."
)


@dataclass
class Recordings:
    """The recordings inside a page; one object for the whole page keeps its limit.

    Attributes:
        left_bytes: room left for more.
        unread: one line for each recording that could not be read.
    """

    left_bytes: int = PAGE_BYTES
    unread: list[str] = field(default_factory=list)

    def player(self, name: str, utterances: Mapping[str, Utterance]) -> Html:
        """A player for an utterance of a manifest, or a line that says why there is none."""
        if not utterances:  # the page says so once
            return Html()
        if name not in utterances:
            return _silent("no audio: the manifest no longer holds this utterance")
        utterance = utterances[name]
        where = f"{utterance.audio_filepath}"
        if utterance.offset:
            where += f" from {utterance.offset:g} s"
        if utterance.channel is not None:
            where += f", channel {utterance.channel}"
        if utterance.duration > PLAYED_S:
            return _silent(f"{utterance.duration:.1f} s, too long for this page: {where}")
        try:
            content = _flac(utterance)
        except AudioError as error:
            self.unread.append(f"utterance {name}: {error}")
            return _silent(f"no audio: {error}")
        data = base64.b64encode(content).decode("ascii")
        if len(data) > self.left_bytes:
            return _silent(f"no room left in this page: {where}")
        self.left_bytes -= len(data)
        source = f"data:audio/flac;base64,{data}"
        return element("audio", controls=True, preload="metadata", src=source, aria_label=f"audio of {name}")


def utterances_of(made: Provenance | None, folder: Path) -> tuple[dict[str, Utterance], str]:
    """The utterances that results are for, by id, and, where there are none, a line that says why."""
    if made is None:
        return {}, f"{folder}: does not say which manifest it is of, so that nothing can be played"
    try:
        return {utterance.id: utterance for utterance in read_manifest(made.manifest)}, ""
    except ManifestError as error:
        return {}, f"{folder}: nothing can be played: {error}"


def _flac(utterance: Utterance) -> bytes:
    with opened(utterance.audio_filepath) as audio:
        rate_hz = min(audio.file.samplerate, _HIGHEST_HZ)
        config = AudioConfig(sample_rate_hz=rate_hz, channels="mean", max_duration_s=2 * PLAYED_S)
        samples = audio.mono(*audio.segment(utterance.offset, utterance.duration), config, utterance.channel)
    content = io.BytesIO()
    soundfile.write(content, samples.numpy(), rate_hz, format="FLAC", subtype="PCM_16")
    return content.getvalue()


def _silent(reason: str) -> Html:
    return element("p", reason, class_="soft")
