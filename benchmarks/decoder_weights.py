"""Weights of the language model tuned on dev in the same way for our decoder and the peers, and the errors on test.

    python benchmarks/decoder_weights.py [--emissions DIR] [--lm DIR] [--peers-python PATH | --peers-env DIR]

Dev is the 47 utterances of `an4_dev` whose speakers the model was not trained on, with a word 3-gram of the training
transcripts without theirs; test is `an4_test` with the 3-gram of all. Every decoder tries the same grid at a beam of
100. Of the settings with the fewest word errors on dev, the one nearest to their middle is chosen; their spread on test
shows what dev leaves open. The errors with untuned weights, 0.5 and 1.5, are given too.
"""

import argparse
import gzip
import itertools
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from decoder_peers import OURS, Failure, Worker
from decoders import Setting, Task, add_places, flashlight, peers_python, read_task, request, unpack, word_errors
from timing import report

from asr.lm.arpa import write_arpa
from asr.lm.kneser_ney import estimate

GRID = list(itertools.product((np.arange(1, 15, 2) / 10).tolist(), np.arange(-1, 4.5, 0.5).tolist()))
UNTUNED = 0.5, 1.5  # one of the grid
SETTINGS = (
    Setting("ours, defaults", "ours", 100),
    Setting("ours, lexicon", "ours", 100, {"lexicon": True, "beam_threshold": -20.0}),
    flashlight(100, "defaults"),
    flashlight(100, "5 tokens", tokens=5),
    Setting("pyctcdecode", "pyctcdecode", 100),
)


@dataclass(frozen=True)
class Found:
    """Word errors of a decoder at every setting of the grid."""

    dev: dict[tuple[float, float], int]
    test: dict[tuple[float, float], int]

    def best(self) -> list[tuple[float, float]]:
        """The settings with the fewest errors on dev, the one nearest to their middle first."""
        fewest = min(self.dev.values())
        tied = np.array([weights for weights, errors in self.dev.items() if errors == fewest])
        steps = np.abs(tied - tied.mean(axis=0)) / (0.2, 0.5)
        return [(float(alpha), float(beta)) for alpha, beta in tied[np.argsort(steps.sum(axis=1), kind="stable")]]


def held_out(emissions: Path, texts: Path, arpa: Path) -> Task:
    """Dev without the speakers that the model was trained on; writes a 3-gram of `texts` without dev's to `arpa`."""
    names = json.loads((emissions / "an4_dev.json").read_text(encoding="utf-8"))["heldout"]
    whole = read_task(emissions, "an4_dev", arpa)
    task = replace(whole, references={name: whole.references[name] for name in names})
    with gzip.open(texts, "rt", encoding="utf-8") as lines:
        left = Counter(line.strip() for line in lines if line.strip())
    for said in task.references.values():
        if not left[said]:
            raise SystemExit(f"{texts} does not have {said!r}, which {emissions}/an4_dev.json says it was made of")
        left[said] -= 1
    write_arpa(estimate(left.elements(), 3), arpa)
    return task


def errors_of(task: Task, setting: Setting, python: str, core: int, limit_s: float) -> dict[tuple[float, float], int]:
    errors = {}
    for alpha, beta in GRID:
        asked = request(setting, replace(task, alpha=alpha, beta=beta), core)
        worker = Worker(python, setting.decoder, asked, limit_s)
        errors[alpha, beta] = word_errors(task, worker.ask({})["texts"]).words.errors
        worker.close()
    return errors


def span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_places(parser)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    peers = peers_python(parser, arguments, ("an4_dev", "an4_test"), ("an4_word3",))
    facts = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        dev = held_out(arguments.emissions, arguments.lm / "an4_train.txt.gz", scratch / "dev.arpa")
        unpack(arguments.lm / "an4_word3.lmplz.arpa.gz", scratch / "test.arpa")
        test = read_task(arguments.emissions, "an4_test", scratch / "test.arpa")
        print(
            f"{'':28} | dev | settings | alpha | beta | test | test, all of these | test, {UNTUNED[0]} and {UNTUNED[1]}"
        )
        for setting in SETTINGS:
            python = sys.executable if setting.decoder in OURS else peers
            try:
                found = Found(
                    *(errors_of(task, setting, python, arguments.core, arguments.limit) for task in (dev, test))
                )
            except Failure as failure:
                print(f"{setting.name:28} | not available: {failure}")
                facts[setting.name] = {"not_available": str(failure)}
                continue
            best = found.best()
            (alpha, beta), spread = best[0], [found.test[weights] for weights in best]
            print(
                f"{setting.name:28} | {found.dev[best[0]]:3} | {len(best):8} | {alpha:5.1f} | {beta:4.1f} | "
                f"{spread[0]:4} | {span(spread):>18} | {found.test[UNTUNED]}",
                flush=True,
            )
            facts[setting.name] = {
                "dev_errors": found.dev[best[0]],
                "weights": best,
                "test_errors": spread,
                "untuned": {"dev_errors": found.dev[UNTUNED], "test_errors": found.test[UNTUNED]},
            }
    report({"decoders": facts}, arguments.json)


if __name__ == "__main__":
    main()
