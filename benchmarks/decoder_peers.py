"""Decoders in processes of their own, for benchmarks/decoders.py: both ends of the pipe, and the peers' environment.

As a script it is one decoder: a JSON object a line in, a JSON object a line out. Our interpreter runs it for our
decoder, another one for the peers, and it imports only what the requested decoder needs. `Worker` is the other end.
"""

import gzip
import json
import math
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
OURS = ("ours", "greedy")  # run by our interpreter
PEERS = ("numpy==1.26.4", "kenlm==0.3.0", "pyctcdecode==0.5.0", "flashlight-text==0.0.7", "fast-ctc-decode==0.3.7")
_MEASURED_S = 1.0
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}

Decode = Callable[[], list[str]]
Prepared = Callable[[list[np.ndarray]], Decode]  # (T, V) log-probabilities -> what is timed


def arpa_words(path: str) -> list[str]:
    """The unigrams of an ARPA file, without those in angle brackets."""
    words, inside = [], False
    with gzip.open(path, "rt") if path.endswith(".gz") else open(path, encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("\\"):
                if inside:
                    break
                inside = line.startswith("\\1-grams")
            elif inside and line.strip():
                words.append(line.split("\t")[1].strip())
    return [word for word in words if not word.startswith("<")]


def ours(task: dict[str, Any]) -> Prepared:
    """`asr.decode.BeamDecoder`, the utterances in one call."""
    from asr.decode import BeamDecoder, NGram

    options = {name: -math.inf if value is None else value for name, value in task["options"].items()}
    if options.get("lexicon"):
        options["lexicon"] = arpa_words(task["arpa"])
    if task["arpa"]:
        options |= {"lm": NGram.load(task["arpa"]), "alpha": task["alpha"], "beta": task["beta"]}
    decoder = BeamDecoder(task["labels"], blank=0, space=task["space"], beam_size=task["beam"], threads=1, **options)
    return lambda rows: lambda: [hypotheses[0].text for hypotheses in decoder(rows)]


def greedy(task: dict[str, Any]) -> Prepared:
    """Best path, for the error rate that a search starts from."""
    from asr.decode import greedy as best_path

    return lambda rows: (
        lambda: [hypothesis.text for hypothesis in best_path(rows, task["labels"], blank=0, space=task["space"])]
    )


def pyctcdecode(task: dict[str, Any]) -> Prepared:
    """`decode` of pyctcdecode, which takes a natural-log weight like ours."""
    from pyctcdecode import build_ctcdecoder

    lm = {"kenlm_model_path": task["arpa"], "unigrams": arpa_words(task["arpa"])} if task["arpa"] else {}
    labels = ["", *task["labels"][1:]]
    decoder = build_ctcdecoder(labels, **lm, alpha=task["alpha"], beta=task["beta"])
    return lambda rows: lambda: [decoder.decode(row, beam_width=task["beam"]) for row in rows]


def fast_ctc_decode(task: dict[str, Any]) -> Prepared:
    """`beam_search` of fast-ctc-decode; it takes probabilities; converting to them is not timed."""
    from fast_ctc_decode import beam_search

    cut, labels, space = task["options"]["cut"], task["labels"], task["space"]

    def prepare(rows: list[np.ndarray]) -> Decode:
        probs = [np.exp(row) for row in rows]
        return lambda: [
            beam_search(row, labels, beam_size=task["beam"], beam_cut_threshold=cut)[0].replace(space, " ")
            for row in probs
        ]

    return prepare


def flashlight(task: dict[str, Any]) -> Prepared:
    """The decoders of flashlight-text, set up as torchaudio's `ctc_decoder` does: spellings end in the separator.

    The language model's scores are log10 there, so the weight is alpha * ln 10. A frame of pure separator is put
    behind each utterance, without which the lexicon decoder loses the last word.
    """
    from flashlight.lib.text import decoder as lib
    from flashlight.lib.text.dictionary import Dictionary

    labels, options = task["labels"], task["options"]
    separator = labels.index(task["space"])
    common = {
        "beam_size": task["beam"],
        "beam_size_token": options.get("tokens", len(labels)),
        "beam_threshold": options.get("threshold", 50.0),
        "sil_score": 0.0,
        "log_add": options.get("log_add", False),
        "criterion_type": lib.CriterionType.CTC,
    }
    if task["arpa"] is None:
        lm: Any = lib.ZeroLM()
        decoder = lib.LexiconFreeDecoder(lib.LexiconFreeDecoderOptions(lm_weight=0.0, **common), lm, separator, 0, [])

        def text(result: Any) -> str:
            tokens = [token for token, _ in groupby(result.tokens) if token != 0]
            return "".join([labels[token] for token in tokens]).replace(task["space"], " ")

    else:
        from flashlight.lib.text.decoder.kenlm import KenLM

        words = [*arpa_words(task["arpa"]), "<unk>"]
        dictionary = Dictionary()
        for number, word in enumerate(words):
            dictionary.add_entry(word, number)
        lm = KenLM(task["arpa"], dictionary)
        trie, start = lib.Trie(len(labels), separator), lm.start(False)
        index = {label: number for number, label in enumerate(labels)}
        for number, word in enumerate(words[:-1]):
            if all(letter in index for letter in word):
                spelling = [*(index[letter] for letter in word), separator]
                trie.insert(spelling, number, lm.score(start, number)[1])
        trie.smear(lib.SmearingMode.MAX)
        decoder = lib.LexiconDecoder(
            lib.LexiconDecoderOptions(
                lm_weight=task["alpha"] * math.log(10), word_score=task["beta"], unk_score=-math.inf, **common
            ),
            trie,
            lm,
            separator,
            0,
            len(words) - 1,
            [],
            False,
        )

        def text(result: Any) -> str:
            return " ".join([words[number] for number in result.words if number >= 0])

    final = np.full((1, len(labels)), -50.0, np.float32)
    final[0, separator] = 0.0

    def prepare(rows: list[np.ndarray]) -> Decode:
        closed = [np.ascontiguousarray(np.concatenate([row, final]), np.float32) for row in rows]
        # The default argument keeps the language model alive as long as the decoder, which holds no reference to it.
        return lambda lm=lm: [text(decoder.decode(row.ctypes.data, *row.shape)[0]) for row in closed]

    return prepare


DECODERS: dict[str, Callable[[dict[str, Any]], Prepared]] = {
    "ours": ours,
    "greedy": greedy,
    "pyctcdecode": pyctcdecode,
    "fast-ctc-decode": fast_ctc_decode,
    "flashlight": flashlight,
}


def memory_mib() -> tuple[float, float]:
    """Resident memory now and its peak, of this process alone (`ru_maxrss` would count its parent's at the fork)."""
    facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    now, peak = (int(facts[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return now, peak


def load(task: dict[str, Any]) -> tuple[Decode, dict[str, Any]]:
    """Build the decoder, decode the beginning of the first utterance, and prepare everything."""
    os.sched_setaffinity(0, {task["core"]})
    started = time.perf_counter()
    prepared = DECODERS[task["decoder"]](task)
    loaded = time.perf_counter()
    with np.load(task["emissions"]) as archive:
        rows = [archive[name] for name in task["ids"]]
    prepared([rows[0][:200]])()
    warm = time.perf_counter()
    return prepared(rows), {"load_s": loaded - started, "first_s": warm - loaded}


def run(decode: Decode) -> dict[str, Any]:
    """Decode everything, again and again for a second; memory is the peak above what was resident before.

    The time is the median: on a virtual machine the first pass after other processes had the core may take several
    times as long, which would be held against fast decoders above all.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before, _ = memory_mib()
    times: list[tuple[float, float]] = []
    while not times or sum(cpu for cpu, _ in times) < _MEASURED_S:
        wall, cpu = time.perf_counter(), time.process_time()
        texts = decode()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu, wall = sorted(times)[len(times) // 2]
    return {
        "cpu_s": cpu,
        "wall_s": wall,
        "memory_mib": memory_mib()[1] - before,
        "texts": [" ".join(text.split()) for text in texts],
    }


class Failure(Exception):
    """A worker that ended, or did not answer in time; the message is one line."""


class Worker:
    """A decoder in a process of its own."""

    def __init__(self, python: str, decoder: str, request: dict[str, Any], limit_s: float) -> None:
        self.limit_s = limit_s
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the worker
        self.process = subprocess.Popen(
            [python, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT) if decoder in OURS else ""},
        )
        self.facts = self.ask(request)

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a message and wait for the answer.

        Raises:
            Failure: the process ended (with the last line of its standard error), or the time is over.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended: reported below
        if not select.select([self.process.stdout], [], [], self.limit_s)[0]:
            self.close()
            raise Failure(f"no answer in {self.limit_s:g} s")
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.errors.seek(0)
            last = (self.errors.read().strip().splitlines() or ["no message"])[-1]
            self.close()
            raise Failure(f"{last} (exit code {code})")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.errors.close()


def make_peers(folder: Path) -> str:
    """An environment with the peers, made once; a package that cannot be installed is named and left out."""
    python, stamp = folder / "bin" / "python", folder / "peers.json"
    if stamp.exists() and json.loads(stamp.read_text(encoding="utf-8")) == list(PEERS):
        return str(python)
    if sys.version_info >= (3, 13):
        raise SystemExit("the peers have no packages for Python 3.13: name an older one that has them: --peers-python")
    print(f"installing {', '.join(PEERS)} into {folder}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    complete = True
    for package in PEERS:
        command = [str(python), "-m", "pip", "install", "--quiet", package, PEERS[0]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.strip().lower().startswith("error")]
            print(f"{package} cannot be installed: {errors[-1] if errors else done.stderr.strip()[-200:]}")
            complete = False
    if complete:
        stamp.write_text(json.dumps(PEERS), encoding="utf-8")
    return str(python)


def main() -> None:
    # The answers get a descriptor of their own: whatever a library prints goes to standard error.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        decode, facts = load(json.loads(sys.stdin.readline()))
        answers.write(json.dumps(facts) + "\n")
        answers.flush()
        for _ in sys.stdin:
            answers.write(json.dumps(run(decode)) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
