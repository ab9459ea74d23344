"""Our CTC beam search against pyctcdecode, flashlight-text and fast-ctc-decode: speed, word error rate, memory.

    python benchmarks/decoders.py [--tables letters words an4 pieces long] [--decoders ...] [--rounds 5] [--json FILE]
        [--emissions DIR] [--lm DIR] [--peers-python PATH | --peers-env DIR] [--core N]

The peers cannot live in our environment (pyctcdecode wants numpy below 2). Without `--peers-python`, an environment
for them is made once in `--peers-env`; kenlm and fast-ctc-decode may want cmake and a C++ or Rust compiler there.

Each setting is a process of its own with one thread on one core. All settings of a table take turns, a round each;
seconds are CPU seconds of the decoding process, without loading, the median of the passes that a second
takes. Ratios to our decoder at the same beam are taken within a round; above 1 the other one is slower. The tables:

letters  29 symbols, no language model; `cut` is the probability below which a symbol is not tried in a frame
words    the same with a word 3-gram: natural-log weight 0.8 (flashlight's is 0.8 ln 10, on log10), word bonus 3; words
         that it does not know cost 10 more on log10 (pyctcdecode's default) or are not allowed (flashlight, `lexicon`)
an4      real emissions of the AN4 test set with a word 3-gram, weight 0.5, word bonus 1.5
pieces   1,025 BPE-like symbols, made up as peaky as the letters, no language model
long     30 minutes in one piece, each round in a fresh process: seconds, and the growth of memory while decoding
"""

import argparse
import gzip
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from decoder_peers import OURS, PEERS, Failure, Worker, make_peers
from timing import ratio, report

from asr.hypotheses import Result
from asr.wer import Score, score

ROOT = Path(__file__).parent.parent

CUT = 0.0067  # pyctcdecode's default, exp(-5)
SMALL_CUT = 0.00097  # fast-ctc-decode wants less than 1 / V, which at 1,025 symbols is 0.000976
LONG_FRAMES = 45_000  # 30 minutes of 40 ms


@dataclass(frozen=True)
class Setting:
    """A decoder as it is measured; the options are those that `decoder_peers.py` reads."""

    name: str
    decoder: str
    beam: int
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """What all settings of a table decode: `emissions` holds (T, V) float32 log-probabilities by utterance id."""

    emissions: Path
    labels: list[str]
    space: str
    references: dict[str, str]
    frames: int
    frame_s: float
    arpa: Path | None = None
    alpha: float = 0.0
    beta: float = 0.0


def our(beam: int, cut: float = CUT, name: str = "", **options: Any) -> Setting:
    return Setting(f"ours{name}", "ours", beam, {"token_threshold": math.log(cut), **options})


def flashlight(beam: int, name: str, **options: Any) -> Setting:
    return Setting(f"flashlight-text, {name}", "flashlight", beam, options)


def with_words(beam: int) -> list[Setting]:
    return [
        Setting("ours, beam threshold -6", "ours", beam, {"beam_threshold": -6.0}),
        Setting("ours, defaults", "ours", beam),
        Setting("ours, lexicon", "ours", beam, {"lexicon": True, "beam_threshold": -20.0}),  # what flashlight searches
        flashlight(beam, "defaults"),
        flashlight(beam, "5 tokens", tokens=5),
        flashlight(beam, "5 tokens, log_add", tokens=5, log_add=True),
        flashlight(beam, "10 tokens, threshold 10", tokens=10, threshold=10.0),
        Setting("pyctcdecode", "pyctcdecode", beam),
    ]


def without_words(beam: int, cut: float = CUT) -> list[Setting]:
    return [
        our(beam, cut, f", cut {cut}"),
        our(beam, cut, f", cut {cut}, no beam threshold", beam_threshold=None),  # what fast-ctc-decode searches
        Setting("ours, defaults", "ours", beam),
        Setting(f"fast-ctc-decode, cut {cut}", "fast-ctc-decode", beam, {"cut": cut}),
        flashlight(beam, "5 tokens", tokens=5),
        flashlight(beam, "10 tokens, threshold 10", tokens=10, threshold=10.0),
        Setting("pyctcdecode", "pyctcdecode", beam),
    ]


def settings_of(table: str, beams: Sequence[int]) -> list[Setting]:
    """The rows of a table whose settings take turns."""
    rows = [Setting("greedy", "greedy", 1)]
    for beam in beams:
        if table in ("words", "an4"):
            rows += with_words(beam)
        elif table == "pieces":
            rows += without_words(beam, SMALL_CUT)
        else:
            rows += [*without_words(beam), flashlight(beam, "defaults")]
    return rows


def request(setting: Setting, task: Task, core: int) -> dict[str, Any]:
    """What a worker must know to load."""
    return {
        "decoder": setting.decoder,
        "beam": setting.beam,
        "options": setting.options,
        "core": core,
        "emissions": str(task.emissions),
        "ids": list(task.references),
        "labels": task.labels,
        "space": task.space,
        "arpa": str(task.arpa) if task.arpa else None,
        "alpha": task.alpha,
        "beta": task.beta,
    }


@dataclass
class Row:
    """What was measured of a setting; `failure` says why there is nothing."""

    setting: Setting
    answers: list[dict[str, Any]] = field(default_factory=list)
    start_s: float = 0.0
    failure: str | None = None

    def seconds(self) -> list[float]:
        return [answer["cpu_s"] for answer in self.answers]


class Bench:
    """Runs tables; knows the two interpreters."""

    def __init__(self, peers_python: str, core: int, rounds: int, limit_s: float) -> None:
        self.peers_python = peers_python
        self.core = core
        self.rounds = rounds
        self.limit_s = limit_s

    def start(self, row: Row, task: Task) -> Worker | None:
        python = sys.executable if row.setting.decoder in OURS else self.peers_python
        try:
            worker = Worker(python, row.setting.decoder, request(row.setting, task, self.core), self.limit_s)
        except Failure as failure:
            row.failure = str(failure)
            return None
        row.start_s = worker.facts["load_s"] + worker.facts["first_s"]
        return worker

    def take_turns(self, settings: Sequence[Setting], task: Task) -> list[Row]:
        """Every setting once in each round, after a round that only warms up."""
        rows = [Row(setting) for setting in settings]
        workers = [self.start(row, task) for row in rows]
        for number in range(self.rounds + 1):
            for position, row in enumerate(rows):
                worker = workers[position]
                if worker is None:
                    continue
                try:
                    answer = worker.ask({})
                except Failure as failure:
                    row.failure, workers[position] = str(failure), None
                    continue
                if number:
                    row.answers.append(answer)
        for worker in workers:
            if worker is not None:
                worker.close()
        return rows

    def fresh(self, settings: Sequence[Setting], task: Task, rounds: int) -> list[Row]:
        """A new process for every setting in each round, so that memory is that of one decoding."""
        rows = [Row(setting) for setting in settings]
        for _ in range(rounds):
            for row in rows:
                if row.failure is not None or (worker := self.start(row, task)) is None:
                    continue
                try:
                    row.answers.append(worker.ask({}))
                    worker.close()
                except Failure as failure:
                    row.failure = str(failure)
        return rows


def word_errors(task: Task, texts: Sequence[str]) -> Score:
    names = task.references.items()
    return score([Result(name, None, said, heard, 1.0) for (name, said), heard in zip(names, texts, strict=True)])


def show(title: str, task: Task, rows: Sequence[Row], with_memory: bool = False) -> list[dict[str, Any]]:
    """Print a table, and return it as JSON."""
    audio_s = task.frames * task.frame_s
    counts = f"{len(task.references)} utterances, {task.frames} frames, {audio_s:.0f} s, {len(task.labels)} symbols"
    print(f"\n{title}: {counts}")
    print(
        f"{'':46} | beam | {'WER %':>6} {'CER %':>6} | ms/s audio | us/frame | slower than ours at that beam"
        f" | start s{' | memory MiB' if with_memory else ''}"
    )
    facts = []
    for row in rows:
        head = f"{row.setting.name:46} | {row.setting.beam:4d}"
        fact: dict[str, Any] = {
            "setting": row.setting.name,
            "decoder": row.setting.decoder,
            "beam": row.setting.beam,
            "options": row.setting.options,
        }
        facts.append(fact)
        if row.failure is not None:
            print(f"{head} | not available: {row.failure}")
            fact["not_available"] = row.failure
            continue
        scored = word_errors(task, row.answers[-1]["texts"])
        seconds = row.seconds()
        memory_mib = max(answer["memory_mib"] for answer in row.answers)
        fact |= {
            "wer_percent": scored.words.percent,
            "word_errors": scored.words.errors,
            "words": scored.words.reference,
            "cer_percent": scored.characters.percent,
            "cpu_s": seconds,
            "wall_s": [answer["wall_s"] for answer in row.answers],
            "start_s": row.start_s,
            "memory_mib": memory_mib,
        }
        median_s = statistics.median(seconds)
        reference = next((r for r in rows if r.setting.decoder == "ours" and r.setting.beam == row.setting.beam), None)
        against = ""
        if reference is not None and reference.failure is None and reference is not row:
            fact["ratio"] = ratio(seconds, reference.seconds())
            against = "{1:.2f} ({0:.2f}-{2:.2f})".format(*fact["ratio"])
        print(
            f"{head} | {scored.words.percent:6.2f} {scored.characters.percent:6.2f} | "
            f"{1e3 * median_s / audio_s:10.4f} | {1e6 * median_s / task.frames:8.2f} | {against:>29} | "
            f"{row.start_s:7.2f}{f' | {memory_mib:10.1f}' if with_memory else ''}",
            flush=True,
        )
    return facts


def read_task(folder: Path, name: str, arpa: Path | None = None, alpha: float = 0.0, beta: float = 0.0) -> Task:
    facts = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    with np.load(folder / f"{name}.npz") as archive:
        frames = sum(len(archive[key]) for key in facts["refs"])
    space = facts["labels"][facts["space"]]
    return Task(
        folder / f"{name}.npz", facts["labels"], space, facts["refs"], frames, facts["frame_s"], arpa, alpha, beta
    )


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add flags for where the log-probabilities, language models and peers are, and for the core that decodes."""
    parser.add_argument("--emissions", type=Path, default=ROOT.parent / "shared" / "emissions")
    parser.add_argument("--lm", type=Path, default=ROOT.parent / "shared" / "lm")
    peers = parser.add_mutually_exclusive_group()
    peers.add_argument("--peers-python", help="interpreter of an environment with the other decoders")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    peers.add_argument("--peers-env", type=Path, default=cache / "asr" / "decoder-peers")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--limit", type=float, default=300, help="seconds to wait for an answer")


def peers_python(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, emissions: Sequence[str], models: Sequence[str]
) -> str:
    """The peers' interpreter, after a check that everything is in its place."""
    if arguments.peers_python and not shutil.which(arguments.peers_python):
        parser.error(f"{arguments.peers_python} is no interpreter")
    for path in (
        *(arguments.emissions / f"{name}.{kind}" for name in emissions for kind in ("npz", "json")),
        *(arguments.lm / f"{name}.lmplz.arpa.gz" for name in models),
    ):
        if not path.exists():
            parser.error(f"{path} is missing: name the folders with --emissions and --lm")
    return arguments.peers_python or make_peers(arguments.peers_env)


def unpack(packed: Path, plain: Path) -> None:
    """Unpack an ARPA file, so that every decoder can read it."""
    with gzip.open(packed) as source, plain.open("wb") as target:
        shutil.copyfileobj(source, target)


def one_long(task: Task, path: Path) -> Task:
    """The utterances one after another, a frame of separator between them, until there are 30 minutes."""
    gap = np.full((1, len(task.labels)), math.log(1e-6), np.float32)
    gap[0, task.labels.index(task.space)] = math.log(1 - 1e-6 * (len(task.labels) - 1))
    pieces: list[np.ndarray] = []
    texts: list[str] = []
    frames = 0
    with np.load(task.emissions) as archive:
        names = list(task.references)
        while frames < LONG_FRAMES:
            name = names[len(texts) % len(names)]
            pieces += [archive[name], gap]
            texts.append(task.references[name])
            frames += len(pieces[-2]) + 1
    np.savez(path, long=np.concatenate(pieces))
    return Task(
        path, task.labels, task.space, {"long": " ".join(texts)}, frames, task.frame_s, task.arpa, task.alpha, task.beta
    )


def made_up_pieces(path: Path, symbols: int = 1025, utterances: int = 100, frames: int = 206) -> Task:
    """Emissions of a BPE-like vocabulary that look like real ones: blanks, and peaks that have a few rivals.

    A piece comes every 4.5 frames (5.5 a second at 40 ms) and stands for one or two of them; its rivals are always
    the same six. One in ten peaks is won by a rival.
    """
    rng = np.random.default_rng(1)
    labels = ["<b>", "\u2581"]
    while len(labels) < symbols:
        syllables = rng.integers(1, 4)
        label = "\u2581" * (rng.random() < 0.35) + "".join(
            rng.choice(list("bcdfghklmnprstvw")) + rng.choice(list("aeiou")) for _ in range(syllables)
        )
        if label not in labels:
            labels.append(label)
    rivals = rng.integers(2, symbols, (symbols, 6))
    rows, references = {}, {}
    for number in range(utterances):
        probs = np.exp(rng.normal(-13, 1, (frames, symbols)))
        probs[:, 0] += 1
        said, frame = [], int(rng.integers(1, 4))
        while frame < frames - 2:
            piece = int(rng.integers(2, symbols))
            said.append(piece)
            shares = np.concatenate([[rng.beta(6, 1)], rng.dirichlet(np.full(5, 0.3))])
            shares[1:] *= 1 - shares[0]
            order = [piece, *rng.choice(rivals[piece], 4, replace=False)]
            if rng.random() < 0.1:
                order[:2] = order[1], order[0]
            for offset in range(1 + (rng.random() < 0.4)):
                probs[frame + offset] = np.exp(rng.normal(-13, 1, symbols))
                probs[frame + offset, order] += shares[:5]
                probs[frame + offset, 0] += shares[5]
            frame += 2 + int(rng.geometric(0.4))
        name = f"p{number:03d}"
        rows[name] = np.log(probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)
        references[name] = " ".join("".join(labels[piece] for piece in said).replace("\u2581", " ").split())
    np.savez(path, **rows)
    return Task(path, labels, "\u2581", references, utterances * frames, 0.04)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = ["letters", "words", "an4", "pieces", "long"]
    parser.add_argument("--tables", nargs="+", choices=tables, default=tables)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--long-rounds", type=int, default=1)
    parser.add_argument("--beams", type=int, nargs="+", default=[25, 100])
    kinds = ["ours", "greedy", "pyctcdecode", "fast-ctc-decode", "flashlight"]
    parser.add_argument("--decoders", nargs="+", choices=kinds, default=kinds)
    add_places(parser)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    python = peers_python(parser, arguments, ("synthetic", "an4_test"), ("word3", "an4_word3"))
    bench = Bench(python, arguments.core, arguments.rounds, arguments.limit)
    results = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        arpas = {}
        for kind, file in (("words", "word3.lmplz.arpa.gz"), ("an4", "an4_word3.lmplz.arpa.gz")):
            arpas[kind] = scratch / f"{kind}.arpa"  # pyctcdecode knows an ARPA file by this ending
            unpack(arguments.lm / file, arpas[kind])
        letters = read_task(arguments.emissions, "synthetic")
        words = read_task(arguments.emissions, "synthetic", arpas["words"], 0.8, 3.0)

        def chosen(settings: Sequence[Setting]) -> list[Setting]:
            return [one for one in settings if one.decoder in arguments.decoders]

        for table in arguments.tables:
            if table == "long":
                for kind, source, settings_at in (("letters", letters, without_words), ("words", words, with_words)):
                    task = one_long(source, scratch / f"long-{kind}.npz")
                    rows = bench.fresh(chosen(settings_at(max(arguments.beams))), task, arguments.long_rounds)
                    results[f"long-{kind}"] = show(f"long, {kind}", task, rows, with_memory=True)
                continue
            if table == "pieces":
                task = made_up_pieces(scratch / "pieces.npz")
            elif table == "an4":
                task = read_task(arguments.emissions, "an4_test", arpas["an4"], 0.5, 1.5)
            else:
                task = letters if table == "letters" else words
            results[table] = show(table, task, bench.take_turns(chosen(settings_of(table, arguments.beams)), task))
    report({"tables": results, "peers": PEERS, "rounds": arguments.rounds}, arguments.json)
    if any(row["decoder"] in OURS and "not_available" in row for rows in results.values() for row in rows):
        raise SystemExit(1)  # a peer may be absent, our own decoder may not


if __name__ == "__main__":
    main()
