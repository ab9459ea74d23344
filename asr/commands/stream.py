"""`asr transcribe --stream`: raw samples on standard input, partial results at once and final ones after each pause."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from asr.commands.common import flag_of, given_decoder, load_model, require_output
from asr.errors import AudioError, ConfigError

if TYPE_CHECKING:
    from asr.decode import Word
    from asr.online import OnlineRecognizer, Update

_READ_BYTES = 65536
_WIDTH_BYTES = 2  # s16le
_DEFAULTS = {"look_ahead_s": 1.0, "chunk_s": 0.32, "pause_s": 0.8}


def add_stream(parser: argparse.ArgumentParser) -> None:
    """The arguments that `run_stream` reads besides those of `asr transcribe`."""
    group = parser.add_argument_group("streaming", "with --stream")
    group.add_argument(
        "--sample-rate",
        type=int,
        metavar="HZ",
        help="rate of the raw samples, which are one channel, 16 bits, little endian",
    )
    group.add_argument(
        "--look-ahead-s",
        type=float,
        metavar="X",
        help="seconds that a bidirectional model hears ahead before it decides; less is quicker and less accurate "
        f"({_DEFAULTS['look_ahead_s']})",
    )
    for name, meaning in (
        ("chunk_s", "seconds of audio processed at once"),
        ("pause_s", "seconds of pause that end a result"),
    ):
        group.add_argument(flag_of(name), type=float, metavar="X", help=f"{meaning} ({_DEFAULTS[name]})")


def refuse_stream_arguments(arguments: argparse.Namespace) -> None:
    """Refuse the arguments of `add_stream`, which have no meaning where files are read.

    Raises:
        ConfigError: one was given.
    """
    if arguments.sample_rate is not None:
        raise ConfigError("--sample-rate goes with --stream; a file states its own rate")
    for name in _DEFAULTS:
        if getattr(arguments, name) is not None:
            raise ConfigError(f"{flag_of(name)} goes with --stream")


def run_stream(arguments: argparse.Namespace) -> int:
    """Recognise raw s16le samples from standard input until it ends.

    As text, partial results are overwritten on a terminal and are lines `partial TAB text` elsewhere; final ones are
    `final TAB start TAB end TAB latency TAB text`, in seconds. As JSON lines, each has "type", "text", "start" and
    "audio_s", how much audio had come in, and "compute_s", the time that the last of it took; a final one also has what
    else a segment of `asr transcribe` has, and "latency_s", from the end of its last word to the audio with which it
    became final.

    Raises:
        ConfigError: an argument is out of range.
        AudioError: the input is an audio file, or ends inside a sample; then all results have been given.
    """
    from asr.online import OnlineRecognizer
    from asr.pauses import Cutting

    rate_hz = arguments.sample_rate
    if rate_hz is None or not 1000 <= rate_hz <= 768000:
        found = "none" if rate_hz is None else rate_hz
        raise ConfigError(
            f"--stream needs --sample-rate HZ, the rate of the raw samples, in 1000..768000, found {found}"
        )
    given = {name: value for name in _DEFAULTS if (value := getattr(arguments, name)) is not None}
    look_ahead_s, chunk_s, pause_s = (_DEFAULTS | given).values()
    pauses = Cutting(pause_s=pause_s, margin_s=min(Cutting.margin_s, 0.375 * pause_s))
    require_output()
    if sys.stdin is None:
        raise AudioError("standard input: is closed")
    recognizer = load_model(arguments, given_decoder(arguments), arguments.channels)
    online = OnlineRecognizer(
        recognizer,
        sample_rate_hz=rate_hz,
        chunk_s=chunk_s,
        look_ahead_s=look_ahead_s,
        pauses=pauses,
    )
    print(
        f"listening: partial results are at most {online.latency_s:.2f} s late, final ones "
        f"{online.final_latency_s:.2f} s, plus the time to compute them",
        file=sys.stderr,
    )
    show = _show_json if arguments.format == "json" else _Text(sys.stdout)
    partial = ""
    for update, compute_s in _updates(online):
        show(online, update, compute_s, update.partial != partial)
        partial = update.partial
    return 0


def _updates(online: "OnlineRecognizer") -> Iterator[tuple["Update", float]]:
    """Each update and the seconds that it took to compute."""
    import numpy as np

    from asr.sources import AUDIO_START

    rest, begun = b"", False
    descriptor = sys.stdin.fileno()
    while True:
        data = os.read(descriptor, _READ_BYTES)  # whatever there is, without waiting for a microphone's next samples
        if not data:
            break
        if not begun and AUDIO_START.match(data):
            raise AudioError(
                "standard input is an audio file, wanted raw samples: asr transcribe - without --stream takes files"
            )
        begun = True
        data = rest + data
        whole = len(data) // _WIDTH_BYTES * _WIDTH_BYTES
        rest = data[whole:]
        started = time.perf_counter()
        update = online.accept(np.frombuffer(data[:whole], "<i2"))
        yield update, time.perf_counter() - started
    started = time.perf_counter()
    update = online.finish()
    yield update, time.perf_counter() - started
    if rest:
        raise AudioError("standard input ends within a sample: wanted 16-bit samples, an even number of bytes")


def _latency_s(online: "OnlineRecognizer", words: "Sequence[Word]") -> float:
    return max(0.0, online.audio_s - words[-1].end_s)  # the last frame may reach beyond the end of the audio


def _show_json(online: "OnlineRecognizer", update: "Update", compute_s: float, changed: bool) -> None:
    from asr.segmentation import Segment

    for segment in update.segments:
        words = segment.words
        facts = {
            "type": "final",
            **Segment.of(words).as_json(),
            "audio_s": round(online.audio_s, 3),
            "latency_s": round(_latency_s(online, words), 3),
            "compute_s": round(compute_s, 3),
        }
        print(json.dumps(facts, ensure_ascii=False), flush=True)
    if changed and update.partial:
        facts = {
            "type": "partial",
            "text": update.partial,
            "start": round(update.partial_from_s, 3),
            "audio_s": round(online.audio_s, 3),
            "compute_s": round(compute_s, 3),
        }
        print(json.dumps(facts, ensure_ascii=False), flush=True)


class _Text:
    """Results as lines; on a terminal the partial one is overwritten."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.terminal = out.isatty()

    def __call__(self, online: "OnlineRecognizer", update: "Update", compute_s: float, changed: bool) -> None:
        if self.terminal and (changed or update.segments):
            self.out.write("\r\x1b[K")
        for segment in update.segments:
            words = segment.words
            latency_s = _latency_s(online, words)
            self.out.write(f"final\t{words[0].start_s:.2f}\t{words[-1].end_s:.2f}\t{latency_s:.2f}\t{segment.text}\n")
        if self.terminal:
            width = os.get_terminal_size(self.out.fileno()).columns
            if changed or update.segments:
                self.out.write(update.partial[-(width - 1) :])
        elif changed and update.partial:
            self.out.write(f"partial\t{update.partial}\n")
        self.out.flush()
