"""How far word confidences can be trusted: expected calibration error of the decoder on saved log-probabilities.

A word is right where the alignment with the reference says so (jiwer). Words are put into ten bins of equal size by
confidence; the error is the mean distance between mean confidence and share of right words, weighted by the bins' sizes
(Guo et al. 2017, with bins of equal size).

    python benchmarks/confidence.py EMISSIONS.npz [--lm FILE --alpha A --beta B] [--json FILE]
"""

import argparse
from pathlib import Path

import jiwer
import numpy as np
from timing import report

from asr.decode import BeamDecoder, Hypothesis, NGram, greedy
from asr.emissions import read_emissions

BINS = 10


def judged(hypotheses: list[Hypothesis], references: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Confidence of every word, and whether it is right."""
    confidences: list[float] = []
    right: list[bool] = []
    output = jiwer.process_words(references, [hypothesis.text for hypothesis in hypotheses])
    for hypothesis, chunks in zip(hypotheses, output.alignments, strict=True):
        correct = [False] * len(hypothesis.words)
        for chunk in chunks:
            for place in range(chunk.hyp_start_idx, chunk.hyp_end_idx):
                correct[place] = chunk.type == "equal"
        confidences += [word.confidence for word in hypothesis.words]
        right += correct
    return np.array(confidences), np.array(right)


def calibration(confidences: np.ndarray, right: np.ndarray) -> tuple[float, list[tuple[float, float, int]]]:
    """Expected calibration error, and (mean confidence, share right, words) of each bin."""
    bins = np.array_split(np.argsort(confidences, kind="stable"), BINS)
    rows = [(float(confidences[part].mean()), float(right[part].mean()), len(part)) for part in bins if len(part)]
    error = sum(count * abs(confidence - share) for confidence, share, count in rows) / len(right)
    return error, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("emissions", type=Path)
    parser.add_argument("--lm", type=Path)
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--beta", type=float, default=1.5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    emissions = read_emissions(arguments.emissions)
    vocabulary = emissions.vocabulary
    matrices, references = list(emissions.log_probs.values()), [emissions.refs[name] for name in emissions.log_probs]
    common = {"blank": vocabulary.blank, "space": vocabulary.space}
    lm = NGram.load(arguments.lm) if arguments.lm else None
    beam = BeamDecoder(vocabulary.labels, lm=lm, alpha=arguments.alpha, beta=arguments.beta, **common)
    systems = {
        "greedy": greedy(matrices, vocabulary.labels, **common),
        "beam": [found[0] for found in beam(matrices)],
    }
    facts = {}
    for name, hypotheses in systems.items():
        confidences, right = judged(hypotheses, references)
        error, rows = calibration(confidences, right)
        facts[name] = {"ece": error, "bins": rows, "words": len(right), "right": int(right.sum())}
        print(f"{name}: {len(right)} words, {right.mean():.1%} right; expected calibration error {error:.3f}")
        for confidence, share, count in rows:
            print(f"  confidence {confidence:.3f}  right {share:.3f}  of {count}")
    report(facts, arguments.json)


if __name__ == "__main__":
    main()
