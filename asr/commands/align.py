"""`asr align`: when each word of a given transcript was said, in one recording or in each of a manifest."""

import argparse
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from asr.commands.common import (
    FAILED,
    FORMATS,
    PARTLY_FAILED,
    add_audio,
    add_compute,
    batch_seconds,
    load_model,
    print_error,
    print_note,
    require_free,
    require_new,
)
from asr.commands.recordings import note_if_averaged
from asr.errors import AsrError, AudioError, ConfigError, TextError
from asr.files import file_name_of, is_called_manifest, require_folder, require_writable
from asr.lines import read_text

if TYPE_CHECKING:
    from torch import Tensor

    from asr.align import AlignedText
    from asr.manifest import Utterance
    from asr.recognizer import Recognizer
    from asr.windows import Encoded
    from asr.writers import Format

_UTTERANCE, _RECORDING = "utterance", "recording"
_HOPELESS = 0.5  # share of doubtful words above which the transcript itself is in doubt
_REMARKS = 20  # shown at most for such a transcript
# How files begin that say when what was said, what they are, and the corpus that `asr prepare` takes them for.
_WITH_TIMES = (
    (re.compile(r'File type = "ooTextFile'), "a TextGrid", "annotations"),
    (re.compile(r"<\?xml|<ANNOTATION_DOCUMENT"), "XML, as ELAN writes it,", "annotations"),
    (re.compile(r"WEBVTT\b|(?:[0-9]+\s+)?[0-9:]+[.,][0-9]{3}\s*-->"), "a subtitle file", "subtitles"),
)
_HELD_S = 600.0  # audio of a manifest's utterances that is encoded at once


class _Heard(NamedTuple):
    """A recording as the model hears it, and its seconds of audio."""

    encoded: "Encoded"
    duration_s: float


def add_align(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr align`."""
    parser.add_argument("source", type=Path, metavar="AUDIO", help="an audio file, or a manifest (NAME.jsonl)")
    parser.add_argument(
        "transcript",
        type=Path,
        nargs="?",
        metavar="TEXT",
        help="file with the transcript, plain text; a manifest has its own",
    )
    parser.add_argument("--text", metavar="WORDS", help="the transcript itself, in place of a file")
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument(
        "--format",
        type=str.lower,
        choices=FORMATS,
        default="json",
        help="words and segments with times and confidences (json), subtitles (srt, vtt), NIST's CTM, tables, Praat's "
        "TextGrid, ELAN's document (eaf), or plain text (%(default)s)",
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        help="file to write (default: standard output); for a manifest, a folder for its files",
    )
    parser.add_argument(
        "--by",
        choices=(_UTTERANCE, _RECORDING),
        help="for a manifest: a file for each utterance, named after its id, with times from the beginning of the "
        f"utterance ({_UTTERANCE}, the default), or for each audio file, named after it, with times from its beginning "
        f"and each speaker's words apart ({_RECORDING})",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    add_compute(parser)
    add_audio(parser, "a day; for utterances of a manifest the model's setting, an hour by default")
    parser.set_defaults(run=_align)


def _align(arguments: argparse.Namespace) -> int:
    if is_called_manifest(arguments.source):
        return _align_manifest(arguments)
    return _align_recording(arguments)


def _align_recording(arguments: argparse.Namespace) -> int:
    from asr.transcript import Transcript
    from asr.writers import render, write_transcript

    if (arguments.transcript is None) == (arguments.text is None):
        found = "neither" if arguments.text is None else "both"
        raise ConfigError(f"{arguments.source}: wanted the transcript as a file TEXT or --text WORDS, found {found}")
    if arguments.by is not None:
        raise ConfigError(f"{arguments.source}: --by goes with a manifest (NAME.jsonl)")
    if arguments.out is not None:
        inputs = [path for path in (arguments.source, arguments.transcript) if path is not None]
        require_free(arguments.out, arguments.overwrite, inputs)
    where, text = "--text", arguments.text
    if text is None:
        where, text = str(arguments.transcript), _read_transcript(arguments.transcript)
    batch_s = batch_seconds(arguments)
    recognizer = load_model(arguments, {"decoder": "greedy"}, arguments.channels)  # no decoder is needed
    heard = _encode_recording(arguments.source, recognizer, batch_s, arguments.max_duration_s)
    note_if_averaged(arguments.source, recognizer)
    aligned = _aligned(heard.encoded, text, recognizer, where)
    transcript = Transcript.of([aligned], heard.duration_s, arguments.source)
    if arguments.out is None:
        print(render(transcript, arguments.format), end="")
    else:
        write_transcript(transcript, arguments.out, arguments.format)
    return 0


def _read_transcript(path: Path) -> str:
    """The content of a file of plain text; TextError if it has times, too, which would be taken for words."""
    text = read_text(path, "transcript", TextError)
    for beginning, what, corpus in _WITH_TIMES:
        if beginning.match(text.lstrip()):
            raise TextError(
                f"{path}: is {what} and no plain text: asr prepare {corpus} makes a manifest of it and its recording, "
                "which asr align MANIFEST takes"
            )
    return text


def _align_manifest(arguments: argparse.Namespace) -> int:
    from asr.align import recording_of
    from asr.manifest import read_manifest, require_audio
    from asr.writers import write_transcript

    if arguments.transcript is not None or arguments.text is not None:
        found = "--text" if arguments.transcript is None else arguments.transcript
        raise ConfigError(f"{arguments.source}: a manifest has transcripts of its own, found {found} as well")
    if arguments.out is None:
        raise ConfigError(f"{arguments.source}: a manifest needs --out, the folder for its alignments")
    require_folder(arguments.out)
    utterances = read_manifest(arguments.source)
    require_audio(utterances, some=True)  # the others are aligned
    targets = _targets(arguments, utterances)
    require_writable(arguments.out)
    require_new(list(dict.fromkeys(targets.values())), arguments.overwrite)
    batch_s = batch_seconds(arguments)
    recognizer = load_model(arguments, {"decoder": "greedy"}, arguments.channels)  # no decoder is needed
    failed = 0
    left = Counter(targets.values())  # utterances still to come
    parts: defaultdict[Path, list[tuple[Utterance, AlignedText]]] = defaultdict(list)
    for utterance, found in _encode_utterances(utterances, recognizer, batch_s):
        target, source = targets[utterance.id], utterance.audio_filepath
        left[target] -= 1
        try:
            if isinstance(found, AsrError):
                raise found
            offset_s = utterance.offset if arguments.by == _RECORDING else 0.0
            where = f"utterance {utterance.id}"
            aligned = _aligned(found.encoded, utterance.text, recognizer, where, offset_s)
            if arguments.by == _RECORDING:
                parts[target].append((utterance, aligned))
            else:
                if arguments.format == "ctm" or (arguments.format == "eaf" and utterance.offset):
                    source = Path(target.stem)  # a CTM has ids; in ELAN the audio would begin elsewhere
                made = recording_of([(utterance, aligned)], found.duration_s, source)
                write_transcript(made, target, arguments.format)
        except AsrError as error:
            failed += 1
            print_error(error)
        if not left[target] and target in parts:
            failed += _write_recording(parts.pop(target), target, arguments.format)
    print(f"{arguments.out}: {len(utterances) - failed} of {len(utterances)} utterances aligned", file=sys.stderr)
    if failed == len(utterances):
        return FAILED
    return PARTLY_FAILED if failed else 0


def _targets(arguments: argparse.Namespace, utterances: "Sequence[Utterance]") -> dict[str, Path]:
    """The file that each utterance's alignment goes to, by its id."""
    from asr.destinations import destinations
    from asr.sources import Recording
    from asr.writers import SUFFIXES

    if arguments.by == _RECORDING:
        recordings = [Recording(str(utterance.audio_filepath), utterance.audio_filepath) for utterance in utterances]
        shared = os.path.commonpath([os.path.abspath(utterance.audio_filepath.parent) for utterance in utterances])
        files = destinations(recordings, arguments.format, out=arguments.out, given=[shared])
        return {utterance.id: path for utterance, path in zip(utterances, files, strict=True)}
    suffix = SUFFIXES[arguments.format]
    return {utterance.id: arguments.out / f"{file_name_of(utterance.id)}{suffix}" for utterance in utterances}


def _write_recording(parts: "Sequence[tuple[Utterance, AlignedText]]", target: Path, format: "Format") -> int:
    """Write the words of all utterances of a recording; returns how many could not be written."""
    from asr import audio
    from asr.align import overlapping, recording_of
    from asr.writers import write_transcript

    source = parts[0][0].audio_filepath
    mixed = overlapping(parts)
    if mixed:
        print_note(
            f"{target}: words of {len(mixed)} utterances stand among those of others that they overlap, such as "
            f"{mixed[0].id}: with the same speaker and channel, or none, they cannot be told apart"
        )
    try:
        with audio.opened(source) as opened:
            duration_s = opened.frames / opened.file.samplerate
        write_transcript(recording_of(parts, duration_s, source), target, format)
    except AsrError as error:
        print_error(error)
        return len(parts)
    return 0


def _aligned(
    encoded: "Encoded", text: str, recognizer: "Recognizer", where: str, offset_s: float = 0.0
) -> "AlignedText":
    """Align a transcript, and list on standard error the words that could not be aligned well."""
    from asr.align import align_text
    from asr.boundaries import bounded

    aligned = align_text(encoded.log_probs, text, recognizer.tokenizer, recognizer.vocabulary, where=where)
    aligned = replace(aligned, words=bounded(aligned.words, encoded.levels)).later(offset_s)
    doubtful, words = len(aligned.doubtful), len(aligned.words)
    hopeless = doubtful > _HOPELESS * words
    for remark in islice(aligned.remarks(), _REMARKS if hopeless else None):
        print_note(f"{where}: {remark}")
    if hopeless:
        print_note(f"{where}: {doubtful} of {words} words are doubtful: is it the transcript of this recording?")
    return aligned


def _encode_recording(path: Path, recognizer: "Recognizer", batch_s: float, longest_s: float | None) -> _Heard:
    """Encode a recording of any length, cut in its pauses, in parts."""
    import numpy as np

    from asr import audio, windows

    samples = 0

    def counted() -> Iterator["Tensor"]:
        nonlocal samples
        for block in audio.blocks(path, recognizer.config.audio, max_duration_s=longest_s or audio.LONGEST_S):
            samples += len(block)
            yield block

    chunks = list(windows.encode(recognizer, counted(), batch_s=batch_s, name=str(path)))
    rows = np.concatenate([chunk.log_probs for chunk in chunks])
    levels = recognizer.levels(np.concatenate([chunk.levels for chunk in chunks]))
    return _Heard(windows.Encoded(rows, levels), samples / recognizer.config.audio.sample_rate_hz)


def _encode_utterances(
    utterances: Sequence["Utterance"], recognizer: "Recognizer", batch_s: float
) -> Iterator[tuple["Utterance", _Heard | AsrError]]:
    """Each utterance in order, or the error of its audio."""
    group: list[tuple[Utterance, Tensor | AudioError]] = []
    held_s = 0.0
    for utterance in utterances:
        group.append((utterance, _load(utterance, recognizer)))
        held_s += utterance.duration
        if held_s > _HELD_S:
            yield from _encode_group(group, recognizer, batch_s)
            group, held_s = [], 0.0
    yield from _encode_group(group, recognizer, batch_s)


def _load(utterance: "Utterance", recognizer: "Recognizer") -> "Tensor | AudioError":
    try:
        return recognizer.load(utterance)
    except AudioError as error:
        return error


def _encode_group(
    group: Sequence[tuple["Utterance", "Tensor | AudioError"]], recognizer: "Recognizer", batch_s: float
) -> Iterator[tuple["Utterance", _Heard | AsrError]]:
    from asr.windows import encode_all

    waves = [wave for _, wave in group if not isinstance(wave, AudioError)]
    encoded: dict[int, Encoded] = {}
    for batch, found in encode_all(recognizer, waves, batch_s=batch_s):
        encoded.update(zip(batch, found, strict=True))
    place = count()
    for utterance, wave in group:
        if isinstance(wave, AudioError):
            yield utterance, wave
        else:
            yield utterance, _Heard(encoded[next(place)], len(wave) / recognizer.config.audio.sample_rate_hz)
