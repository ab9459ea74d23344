"""How far the times of words are from true ones: of their labels, and of their sounds (`asr.boundaries`).

Recordings of single words, such as the digits recipe's, are joined into sequences of --words by one speaker, with a
pause of 60 to 500 ms between half of the words and nothing between the others, over a little noise. The words are
aligned, and their starts and ends compared with where the recordings were put. Some of these have silence of their own
at their edges, which counts as an error of a word's boundary. Doubtful words (`asr.align.DOUBTFUL`) are left out and
counted.

    python benchmarks/word_boundaries.py MANIFEST --model RUN [--sequences 120] [--words 6] [--noise-db -60]
        [--json FILE]
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from timing import report
from torch import Tensor

from asr import checkpoint
from asr.align import DOUBTFUL, align_text
from asr.boundaries import bounded
from asr.lengths import s_to_samples
from asr.manifest import Utterance, read_manifest
from asr.recognizer import Recognizer
from asr.windows import encode_all

EDGE_S = (0.1, 0.5)
PAUSE_S = (0.06, 0.5)
PEAK = 0.5


class Sequenced(NamedTuple):
    """(S,) samples, and text, start and end in seconds of the words in them."""

    wave: Tensor
    words: list[tuple[str, float, float]]


def sequenced(
    utterances: Sequence[Utterance], recognizer: Recognizer, choose: random.Random, noise_db: float
) -> Sequenced:
    """The recordings one after another, each with the same peak."""
    rate_hz = recognizer.config.audio.sample_rate_hz
    parts = [torch.zeros(s_to_samples(choose.uniform(*EDGE_S), rate_hz))]
    words = []
    for utterance in utterances:
        wave = recognizer.load(utterance)
        first = sum(map(len, parts))
        words.append((utterance.text, first / rate_hz, (first + len(wave)) / rate_hz))
        pause_s = choose.uniform(*PAUSE_S) if choose.random() < 0.5 else 0.0
        parts += [PEAK * wave / wave.abs().max(), torch.zeros(s_to_samples(pause_s, rate_hz))]
    joined = torch.cat([*parts, torch.zeros(s_to_samples(choose.uniform(*EDGE_S), rate_hz))])
    noise = torch.randn(len(joined), generator=torch.Generator().manual_seed(choose.randrange(1 << 32)))
    return Sequenced(joined + PEAK * 10 ** (noise_db / 20) * noise, words)


def deviations(made: Sequenced, recognizer: Recognizer) -> tuple[np.ndarray, int]:
    """(N, 2, 2) seconds by which labels and sounds start and end later than the words, and how many words were not."""
    [(_, [encoded])] = encode_all(recognizer, [made.wave])
    text = " ".join(word for word, _, _ in made.words)
    labelled = align_text(encoded.log_probs, text, recognizer.tokenizer, recognizer.vocabulary).words
    rows = [
        [(word.start_s - start_s, word.end_s - end_s) for word in found]
        for *found, (_, start_s, end_s) in zip(labelled, bounded(labelled, encoded.levels), made.words, strict=True)
        if found[0].confidence >= DOUBTFUL
    ]
    return np.array(rows).reshape(-1, 2, 2), len(made.words) - len(rows)


def summary(late_s: np.ndarray) -> dict[str, float]:
    """Mean, median and 90th percentile in milliseconds, and the share within 50 ms."""
    absolute = 1000 * np.abs(late_s)
    return {
        "mean": 1000 * float(late_s.mean()),
        "median": float(np.median(absolute)),
        "p90": float(np.percentile(absolute, 90)),
        "within_50": float((absolute <= 50).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--sequences", type=int, default=120)
    parser.add_argument("--words", type=int, default=6, help="in each sequence (%(default)s)")
    parser.add_argument("--noise-db", type=float, default=-60.0, help="level below the words' peak")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    recognizer = checkpoint.load(arguments.model)
    speakers: dict[str | None, list[Utterance]] = defaultdict(list)
    for utterance in read_manifest(arguments.manifest):
        speakers[utterance.speaker].append(utterance)
    choose = random.Random(1)
    found, doubtful = [], 0
    for number in range(arguments.sequences):
        clips = list(speakers.values())[number % len(speakers)]
        made = sequenced(choose.sample(clips, arguments.words), recognizer, choose, arguments.noise_db)
        late_s, left_out = deviations(made, recognizer)
        found.append(late_s)
        doubtful += left_out
    late = np.concatenate(found)
    facts: dict[str, Any] = {"words": len(late), "doubtful": doubtful}
    print(f"{len(late)} words, {doubtful} doubtful ones left out; ms by which times are late\n")
    print("| times of | start: mean | median | 90 % | within 50 ms | end: mean | median | 90 % | within 50 ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    for place, name in enumerate(("labels", "sounds")):
        facts[name] = {edge: summary(late[:, place, side]) for side, edge in enumerate(("start", "end"))}
        cells = [
            f"{row['mean']:.0f} | {row['median']:.0f} | {row['p90']:.0f} | {row['within_50']:.0%}"
            for row in facts[name].values()
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    report(facts, arguments.json)


if __name__ == "__main__":
    main()
