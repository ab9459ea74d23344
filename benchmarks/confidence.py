"""How far word confidences can be trusted: expected calibration error of the decoder on saved log-probabilities.

A word is right where the alignment with the reference says so. The error is that of `asr.calibration`, over ten bins of
equal size; `asr report` shows the same of a run.

    python benchmarks/confidence.py EMISSIONS.npz [--lm FILE --alpha A --beta B] [--json FILE]
"""

import argparse
from pathlib import Path

from timing import report

from asr.calibration import calibrate, judge
from asr.decode import BeamDecoder, NGram, greedy
from asr.emissions import read_emissions
from asr.hypotheses import Result
from asr.wer import score


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
    matrices = list(emissions.log_probs.values())
    common = {"blank": vocabulary.blank, "space": vocabulary.space}
    lm = NGram.load(arguments.lm) if arguments.lm else None
    beam = BeamDecoder(vocabulary.labels, lm=lm, alpha=arguments.alpha, beta=arguments.beta, **common)
    systems = {
        "greedy": greedy(matrices, vocabulary.labels, **common),
        "beam": [found[0] for found in beam(matrices)],
    }
    facts = {}
    for system, hypotheses in systems.items():
        named = dict(zip(emissions.log_probs, hypotheses, strict=True))
        results = [Result(name, None, emissions.refs[name], found.text, 0.0) for name, found in named.items()]
        confidences, right = judge(score(results).utterances, {name: found.words for name, found in named.items()})
        found = calibrate(confidences, right)
        bins = [(row.confidence, row.right, row.words) for row in found.bins]
        facts[system] = {"ece": found.error, "bins": bins, "words": len(right), "right": sum(right)}
        share = sum(right) / len(right)
        print(f"{system}: {len(right)} words, {share:.1%} right; expected calibration error {found.error:.3f}")
        for row in found.bins:
            print(f"  confidence {row.confidence:.3f}  right {row.right:.3f}  of {row.words}")
    report(facts, arguments.json)


if __name__ == "__main__":
    main()
