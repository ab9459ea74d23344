"""How well decoders time words, against forced alignment of the reference by the same model.

Correctly recognised words (by jiwer's alignment) are compared: median, 90th percentile and largest absolute deviation
of their starts and ends, and the mean. Both sides read the same posteriors, so this says what the search loses, and not
how far CTC's labels are from the sounds: that needs words timed by hand.

The second table is about doubtful words (`asr.align.DOUBTFUL`): the share of words with a confidence below some
thresholds, among the references' own words, and among words of the references that were put in the place of others, one
at a time.

    python benchmarks/word_times.py MANIFEST --model RUN [--json FILE]
"""

import argparse
import random
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
from timing import report

from asr import checkpoint
from asr.align import DOUBTFUL, AlignedText, align_text
from asr.config import DecodeConfig
from asr.decode import Hypothesis
from asr.decoding import Decoder
from asr.emissions import Emissions
from asr.errors import DecodeError
from asr.evaluate import Evaluation, emit
from asr.manifest import read_manifest
from asr.recognizer import Recognizer

THRESHOLDS = (0.01, DOUBTFUL, 0.1, 0.3, 0.5)


def deviations(hypotheses: list[Hypothesis], references: list[AlignedText]) -> np.ndarray:
    """(N, 2) seconds by which start and end of each correctly recognised word are later than in the reference."""
    output = jiwer.process_words([aligned.text for aligned in references], [found.text for found in hypotheses])
    rows = []
    for found, aligned, chunks in zip(hypotheses, references, output.alignments, strict=True):
        for chunk in chunks:
            if chunk.type != "equal":
                continue
            pairs = zip(
                found.words[chunk.hyp_start_idx : chunk.hyp_end_idx],
                aligned.words[chunk.ref_start_idx : chunk.ref_end_idx],
                strict=True,
            )
            rows += [(word.start_s - wanted.start_s, word.end_s - wanted.end_s) for word, wanted in pairs]
    return np.array(rows)


def summary(values_s: np.ndarray) -> dict[str, float]:
    """Statistics of deviations, in milliseconds."""
    absolute = 1000 * np.abs(values_s)
    return {
        "median": float(np.median(absolute)),
        "p90": float(np.percentile(absolute, 90)),
        "largest": float(absolute.max()),
        "mean": 1000 * float(values_s.mean()),
    }


def replaced(emissions: Emissions, recognizer: Recognizer) -> tuple[list[float], int]:
    """Confidences of words put in the place of others, and how many did not fit there."""
    choose = random.Random(1)
    words = sorted({word for text in emissions.refs.values() for word in text.split()})
    confidences, without_room = [], 0
    for name, text in emissions.refs.items():
        for place, word in enumerate(text.split()):
            changed = text.split()
            changed[place] = choose.choice([other for other in words if other != word])
            try:
                aligned = align_text(
                    emissions.log_probs[name], " ".join(changed), recognizer.tokenizer, recognizer.vocabulary
                )
            except DecodeError:
                without_room += 1
                continue
            confidences.append(aligned.words[place].confidence)
    return confidences, without_room


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    recognizer = checkpoint.load(arguments.model)
    emissions = emit(Evaluation(read_manifest(arguments.manifest), recognizer, batch_s=60.0), recognizer)
    references = [
        align_text(rows, emissions.refs[name], recognizer.tokenizer, recognizer.vocabulary, where=name)
        for name, rows in emissions.log_probs.items()
    ]
    facts: dict[str, Any] = {"frame_ms": 1000 * recognizer.frame_s}
    print(f"deviation in ms from forced alignment, frames of {facts['frame_ms']:.0f} ms\n")
    print("| decoder | words | start: median | 90 % | largest | mean | end: median | 90 % | largest | mean |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in ("greedy", "beam"):
        decoder = Decoder(DecodeConfig(decoder=name), recognizer.vocabulary)
        hypotheses = [found[0] for found in decoder(list(emissions.log_probs.values()))]
        late = deviations(hypotheses, references)
        start, end = summary(late[:, 0]), summary(late[:, 1])
        facts[name] = {"words": len(late), "start_ms": start, "end_ms": end}
        cells = [f"{value:.0f}" for value in (*start.values(), *end.values())]
        print(f"| {name} | {len(late)} | {' | '.join(cells)} |")
    said = np.array([word.confidence for aligned in references for word in aligned.words])
    found, without_room = replaced(emissions, recognizer)
    put_in = np.array(found)
    facts["doubtful"] = {
        str(threshold): [float((said < threshold).mean()), float((put_in < threshold).mean())]
        for threshold in THRESHOLDS
    }
    print(f"\n{len(said)} words of the references, {len(put_in)} put in their places ({without_room} had no room)\n")
    print("| confidence below | of the references' | of those put in |\n|---|---|---|")
    for threshold, (share_said, share_put_in) in facts["doubtful"].items():
        print(f"| {threshold} | {share_said:.1%} | {share_put_in:.1%} |")
    report(facts, arguments.json)


if __name__ == "__main__":
    main()
