"""AN4 with a tanh RNN, a GRU and an LSTM, in one and in two directions, of equal size and equal training."""

import argparse
import bisect
import itertools
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from asr import config, stages
from asr.cli import parse, run_command
from asr.config import Config, EncoderConfig
from asr.corpora import SUMMARY_FILE
from asr.files import write_text_atomic
from asr.hypotheses import HYPOTHESES_FILE, read_hypotheses
from asr.wer import Counts, score

ROOT = Path(__file__).resolve().parents[2]
# A model that trains in minutes. This is the width of the LSTM in two directions; the others get one of equal size.
SMALL = (
    "features.normalization=global",
    "augment.gain_db=6",
    "encoder.layers=2",
    "encoder.width=96",
    "encoder.dropout=0.1",
    "train.epochs=20",
    "train.intermediate_ctc=0",
    "train.warmup_steps=100",
)
CELLS = ("rnn", "gru", "lstm")
TABLE_FILE = "speech.md"


@dataclass(frozen=True)
class Setting:
    """One kind of encoder, and what its trainings gave on the test set.

    Attributes:
        cell, directions: which.
        width: units for each direction.
        parameters: of the encoder.
        counts: of words, for each seed.
    """

    cell: str
    directions: int
    width: int
    parameters: int
    counts: tuple[Counts, ...] = ()


def run() -> int:
    """Every training and its score, each skipped when it is complete, then the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="recipes/memory/speech.py", description=__doc__)
    parser.add_argument("--source", type=Path, help="AN4's archive (default: download it)")
    parser.add_argument(
        "--data", type=Path, default=Path("exp/an4/data"), help="folder of the prepared AN4 (%(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("exp/memory/speech"), help="folder for the trainings (%(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each kind (%(default)s)")
    parser.add_argument(
        "--only", choices=[f"{c}-{d}" for c in CELLS for d in (1, 2)], help="train one kind only, such as lstm-2"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="configuration values, such as train.epochs=5"
    )
    arguments = parse(parser)
    if arguments.seeds < 1:
        parser.error(f"--seeds must be at least 1, found {arguments.seeds}")
    settings = config.load(ROOT / "conf" / "an4.yaml", [*SMALL, *arguments.overrides])
    stages.require_corpus(arguments.data, "an4")
    if not (arguments.data / SUMMARY_FILE).is_file():  # made by this recipe, AN4's own, or `asr prepare`: all the same
        stages.corpus_stage(arguments.data, "an4", arguments.source)
    kinds = [kind for kind in kinds_of(settings, arguments.data) if arguments.only in (None, name_of(kind))]
    done = [replace(kind, counts=train(kind, settings, arguments)) for kind in kinds]
    text = table(done)
    write_text_atomic(arguments.out / TABLE_FILE, text)
    print(text, end="")
    return 0


def name_of(kind: Setting) -> str:
    """As in `--only`."""
    return f"{kind.cell}-{kind.directions}"


def kinds_of(settings: Config, data: Path) -> list[Setting]:
    """Each cell in one and two directions, with the width that gives it most nearly the configured one's parameters."""
    from asr.manifest import read_manifest
    from asr.text import build_tokenizer

    tokenizer = build_tokenizer((item.text for item in read_manifest(data / "train.jsonl")), settings.text)
    size = partial(parameters_of, mel_bins=settings.features.mel_bins, vocabulary=len(tokenizer))
    wanted = size(settings.encoder)
    # An RNN in one direction needs about three times the units of an LSTM in two.
    widths = range(4, 4 * settings.encoder.width + 1, 4)
    kinds = []
    for cell, directions in itertools.product(CELLS, (1, 2)):
        encoders = [of_kind(settings.encoder, cell, directions, width) for width in widths]
        above = bisect.bisect_left(encoders, wanted, lo=1, hi=len(encoders) - 1, key=size)
        encoder = min(encoders[above - 1 : above + 1], key=lambda encoder: abs(size(encoder) - wanted))
        kinds.append(Setting(cell, directions, encoder.width, size(encoder)))
    return kinds


def of_kind(encoder: EncoderConfig, cell: str, directions: int, width: int) -> EncoderConfig:
    """The same encoder with another cell, direction and width."""
    return replace(encoder, cell=cell, bidirectional=directions == 2, width=width)  # type: ignore[arg-type]


def parameters_of(encoder: EncoderConfig, mel_bins: int, vocabulary: int) -> int:
    """The number of an encoder's weights and biases, without creating them."""
    import torch

    from asr.encoder import Encoder

    with torch.device("meta"):
        model = Encoder(encoder, mel_bins, vocabulary)
    return sum(parameter.numel() for parameter in model.parameters())


def train(kind: Setting, settings: Config, arguments: argparse.Namespace) -> tuple[Counts, ...]:
    """Train and score once for each seed; returns the word counts of each test."""
    counts = []
    for seed in range(1, arguments.seeds + 1):
        encoder = of_kind(settings.encoder, kind.cell, kind.directions, kind.width)
        own = replace(settings, encoder=encoder, train=replace(settings.train, seed=seed))
        model = arguments.out / f"{name_of(kind)}-seed{seed}"
        stages.run_experiment(arguments.data, model, own)
        counts.append(score(read_hypotheses(model / "test" / HYPOTHESES_FILE)).words)
    return tuple(counts)


def table(kinds: Sequence[Setting]) -> str:
    """Markdown: mean, spread and counts of the word error rates."""
    lines = ["| cell | directions | width | parameters | test WER, mean | spread over seeds | errors / words |"]
    lines.append("|---|---|---|---|---|---|---|")
    for kind in kinds:
        rates = [counts.percent for counts in kind.counts]
        deviation = f", sd {statistics.stdev(rates):.2f}" if len(rates) > 1 else ""
        size = f"{kind.width} | {kind.parameters:,}"
        lines.append(
            f"| {kind.cell} | {kind.directions} | {size} | {statistics.mean(rates):.2f} % | "
            f"{min(rates):.2f}-{max(rates):.2f} %{deviation} | "
            f"{', '.join(str(counts.errors) for counts in kind.counts)} of {kind.counts[0].reference} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(run_command(run))
