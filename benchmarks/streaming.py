"""What it costs a model to hear less of what comes next: word errors of a stream, by its look-ahead.

    python benchmarks/streaming.py RUN MANIFEST [--look-ahead-s 0 0.1 0.2 0.4 1 2] [--chunk-s 0.32] [--json FILE]

Each utterance is a stream of its own, comes in in pieces of 0.1 s and becomes final at its end, so that pauses play no
part. The last row hears whole utterances, as `asr evaluate` does. Delay is the longest time from a sound to a partial
result that has heard it, without computing; computing is processor time as a share of the audio's, on one thread.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from asr import process

process.set_up()  # as `asr` does, before torch is imported

import torch
from timing import report
from torch import Tensor

from asr import checkpoint
from asr.hypotheses import Result
from asr.manifest import Utterance, read_manifest
from asr.online import OnlineRecognizer
from asr.recognizer import Recognizer, pad_waves
from asr.wer import Counts, score

PIECE_S = 0.1


@dataclass(frozen=True)
class Row:
    """One setting; `delay_s` is None for whole utterances."""

    name: str
    words: Counts
    delay_s: float | None
    computing_share: float

    def __str__(self) -> str:
        delay = "-" if self.delay_s is None else f"{self.delay_s:.2f} s"
        errors = f"{self.words.percent:.2f} % [{self.words.errors} / {self.words.reference}]"
        return f"| {self.name} | {delay} | {errors} | {100 * self.computing_share:.1f} % |"


def streamed(recognizer: Recognizer, wave: Tensor, online: OnlineRecognizer) -> str:
    """The text of one utterance that comes in piece by piece."""
    for piece in wave.split(round(PIECE_S * recognizer.config.audio.sample_rate_hz)):
        online.accept(piece)
    return " ".join(segment.text for segment in online.finish().segments)


@torch.inference_mode()
def whole(recognizer: Recognizer, wave: Tensor) -> str:
    """The text of one utterance that was heard to its end."""
    return recognizer.decode(*recognizer(*pad_waves([wave])))[0].text


def measured(
    name: str,
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    waves: Sequence[Tensor],
    text_of: Callable[[Tensor], str],
    delay_s: float | None = None,
) -> Row:
    """Score what `text_of` makes of each waveform."""
    started = time.process_time()
    texts = [text_of(wave) for wave in waves]
    seconds = time.process_time() - started
    lengths_s = [len(wave) / recognizer.config.audio.sample_rate_hz for wave in waves]
    results = [
        Result(item.id, item.speaker, recognizer.tokenizer.normalize(item.text), text, length_s)
        for item, text, length_s in zip(utterances, texts, lengths_s, strict=True)
    ]
    return Row(name, score(results).words, delay_s, seconds / sum(lengths_s))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--look-ahead-s", type=float, nargs="+", default=[0, 0.1, 0.2, 0.4, 1, 2])
    parser.add_argument("--chunk-s", type=float, default=0.32)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    recognizer = checkpoint.load(arguments.run)
    utterances = read_manifest(arguments.manifest)
    waves = [recognizer.load(utterance) for utterance in utterances]

    def online(look_ahead_s: float) -> OnlineRecognizer:
        return OnlineRecognizer(recognizer, chunk_s=arguments.chunk_s, look_ahead_s=look_ahead_s, pauses=None)

    whole(recognizer, waves[0])  # warm-up
    rows = []
    print("| look-ahead | delay at most | word errors | computing |\n|---|---|---|---|")
    for seconds in arguments.look_ahead_s:
        rows.append(
            measured(
                f"{seconds:g} s",
                recognizer,
                utterances,
                waves,
                lambda wave, seconds=seconds: streamed(recognizer, wave, online(seconds)),
                online(seconds).latency_s,
            )
        )
        print(rows[-1], flush=True)
    rows.append(measured("whole utterances", recognizer, utterances, waves, lambda wave: whole(recognizer, wave)))
    print(rows[-1])
    report(
        {"run": str(arguments.run), "chunk_s": arguments.chunk_s, "rows": [asdict(row) for row in rows]}, arguments.json
    )


if __name__ == "__main__":
    main()
