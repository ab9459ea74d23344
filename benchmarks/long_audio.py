"""Hours in one file against their utterances one by one: word errors, peak memory and speed at several lengths.

Joins the recordings of a manifest in random order, repeated where there are too few, with pauses of 0.5 to 3 s between
them that sound like the quietest fifth of a second of the recording before. A child process recognises each file; its
words are assigned to the utterances by their times.

python benchmarks/long_audio.py MANIFEST [MANIFEST ...] --model RUN [--score MANIFEST] [--hours 1 3]
    [--windows 20 30 60] [--pauses room zeros] [--threads 2] [--precision auto] [--json FILE]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from asr import process

process.set_up()  # as `asr` does, before torch is imported

import numpy as np
import soundfile
from timing import report

from asr.manifest import Utterance, read_manifest

PAUSE_S = (0.5, 3.0)
_QUIETEST_S = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--score", type=Path, help="manifest of the only utterances whose errors count")
    parser.add_argument("--hours", nargs="+", type=float, default=[1.0, 3.0])
    parser.add_argument("--windows", nargs="+", type=float, default=[20.0, 30.0, 60.0])
    parser.add_argument("--pauses", nargs="+", choices=("room", "zeros"), default=["room"])
    parser.add_argument("--cut", choices=("pauses", "never"), default="pauses", help="never: cut in windows alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="auto", help="for the file; utterances one by one are in float32")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", choices=("utterances", "file"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(recognise(arguments)))
        return
    utterances = [utterance for path in arguments.manifests for utterance in read_manifest(path)]
    scored = {utterance.id for utterance in read_manifest(arguments.score)} if arguments.score else None
    one_by_one = child(arguments, "utterances", arguments.manifests)[0]
    print("hours | pauses | window, s | utterances scored | one by one, WER % | joined, WER % | peak MiB | x real time")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for hours in arguments.hours:
            for kind in arguments.pauses:
                path = Path(folder) / f"{hours:g}-{kind}.wav"
                joined, spans = join(utterances, path, hours, kind, arguments.seed)
                for window_s in arguments.windows:
                    started = time.perf_counter()
                    found, peak_mib = child(arguments, "file", [path], window_s)
                    speed = hours * 3600 / (time.perf_counter() - started)
                    texts = assign(found["words"], spans)
                    places = [place for place, item in enumerate(joined) if scored is None or item.id in scored]
                    pairs = [(joined[place], texts[place]) for place in places]
                    alone = [(item, one_by_one["texts"][item.id]) for item, _ in pairs]
                    references = one_by_one["references"]
                    row = {
                        "hours": hours,
                        "pauses": kind,
                        "window_s": window_s,
                        "scored": len(pairs),
                        "one_by_one": errors(alone, references),
                        "joined": errors(pairs, references),
                        "peak_mib": round(peak_mib),
                        "x_real_time": round(speed, 1),
                    }
                    rows.append(row)
                    print(" | ".join(str(value) for value in row.values()), flush=True)
    report({"rows": rows}, arguments.json)


def join(
    utterances: list[Utterance], path: Path, hours: float, kind: str, seed: int
) -> tuple[list[Utterance], list[tuple[float, float]]]:
    """Write a file of so many hours; returns the utterances in it, and the start and end of each in seconds."""
    from asr.audio import load_utterance
    from asr.config import AudioConfig

    rng = np.random.default_rng(seed)
    config = AudioConfig()
    rate_hz, at = config.sample_rate_hz, 0
    joined: list[Utterance] = []
    spans: list[tuple[float, float]] = []
    with soundfile.SoundFile(path, "w", rate_hz, 1, "PCM_16") as file:
        while at < hours * 3600 * rate_hz:
            for place in rng.permutation(len(utterances)).tolist():
                if at >= hours * 3600 * rate_hz:
                    break
                wave = load_utterance(utterances[place], config).numpy()
                pause = np.zeros(round(rng.uniform(*PAUSE_S) * rate_hz), np.float32)
                if kind == "room":
                    pause = room(wave, len(pause), round(_QUIETEST_S * rate_hz), rng)
                file.write(np.concatenate([wave, pause]))
                joined.append(utterances[place])
                spans.append((at / rate_hz, (at + len(wave)) / rate_hz))
                at += len(wave) + len(pause)
    return joined, spans


def room(wave: np.ndarray, samples: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Noise with the spectrum and the level of the quietest part of a recording."""
    power = np.convolve(wave.astype(np.float64) ** 2, np.full(length, 1 / length), mode="valid")
    first = int(power.argmin())
    quietest = wave[first : first + length]
    size = 1 << (samples + length).bit_length()
    spectrum = np.fft.rfft(rng.standard_normal(samples + length), size) * np.fft.rfft(
        np.hanning(len(quietest)) * quietest, size
    )
    noise = np.fft.irfft(spectrum, size)[length : length + samples]
    return (noise * np.sqrt(power[first] / np.mean(noise**2))).astype(np.float32)


def assign(words: list[tuple[str, float, float]], spans: list[tuple[float, float]]) -> list[str]:
    """The text of each utterance: the words that are nearest to it in time."""
    borders = [(before[1] + after[0]) / 2 for before, after in pairwise(spans)]
    texts: list[list[str]] = [[] for _ in spans]
    for text, start_s, end_s in words:
        texts[int(np.searchsorted(borders, (start_s + end_s) / 2))].append(text)
    return [" ".join(found) for found in texts]


def errors(pairs: list[tuple[Utterance, str]], references: dict[str, str]) -> str:
    from asr.hypotheses import Result
    from asr.wer import score

    counts = score(
        [
            Result(f"{place}", item.speaker, references[item.id], text, item.duration)
            for place, (item, text) in enumerate(pairs)
        ]
    ).words
    return f"{counts.percent:.2f} [{counts.errors} / {counts.reference}]"


def child(
    arguments: argparse.Namespace, kind: str, paths: list[Path], window_s: float = 0.0
) -> tuple[dict[str, Any], float]:
    """What a child process prints, and its peak memory in MiB."""
    command = [sys.executable, __file__, *map(str, paths), "--model", str(arguments.model), "--child", kind]
    command += ["--windows", f"{window_s:g}", "--cut", arguments.cut]
    command += ["--threads", str(arguments.threads), "--precision", arguments.precision]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)  # of this child: RUSAGE_CHILDREN is the largest of all of them
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    return json.loads(output), usage.ru_maxrss / 1024


def recognise(arguments: argparse.Namespace) -> dict[str, Any]:
    """In the child: the text of each utterance, or the words of a file with their times."""
    import torch

    from asr import checkpoint
    from asr.audio import blocks
    from asr.backends import make_backend
    from asr.evaluate import Evaluation
    from asr.pauses import Cutting
    from asr.windows import encode, segments

    torch.set_num_threads(arguments.threads)
    recognizer = checkpoint.load(arguments.model)
    if arguments.child == "utterances":
        utterances = [utterance for path in arguments.manifests for utterance in read_manifest(path)]
        results, _ = Evaluation(utterances, recognizer, batch_s=120.0, workers=0).run(recognizer, recognizer.decoder)
        return {
            "texts": {result.id: result.hypothesis for result in results},
            "references": {result.id: result.reference for result in results},
        }
    [window_s], [path] = arguments.windows, arguments.manifests
    cutting = Cutting(window_s) if arguments.cut == "pauses" else Cutting(window_s, pause_s=window_s)
    encoder = make_backend(recognizer, arguments.precision).encode
    chunks = encode(recognizer, blocks(path, recognizer.config.audio), cutting, encoder=encoder)
    words = [word for segment in segments(recognizer, chunks) for word in segment.words]
    return {"words": [(word.text, word.start_s, word.end_s) for word in words]}


if __name__ == "__main__":
    main()
