"""What Linux has and other systems lack: all but loading processes does without it where macOS does, the decoder and
n-gram models also where Windows does.

There is no such system to test on here. What Python lacks there is taken away before the package is imported.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from tones import TINY, write_corpus

AS_ON_MACOS = """
import os, signal, sys
del os.sched_getaffinity, os.memfd_create, signal.sigwaitinfo
"""
AS_ON_WINDOWS = """
import os, pathlib, signal, subprocess, sys, tempfile, numba.core.caching
del os.sched_getaffinity, os.memfd_create, os.register_at_fork, os.EX_TEMPFAIL
del signal.sigwaitinfo, signal.pthread_sigmask, signal.SIGHUP
sys.modules["fcntl"] = None
sys.platform = "win32"
"""
COMMANDS = """
import json
from asr.cli import main
for command in json.loads(sys.argv[1]):
    code = main(command)
    assert code == 0, (code, command)
"""


def run(lacking: str, *commands: list[str]) -> str:
    """Standard output of `asr` with these command lines, one after the other, in a process that lacks what it says."""
    program = [sys.executable, "-c", lacking + COMMANDS, json.dumps(commands)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_and_transcribing_as_on_macos(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, ["ab", "ba", "abba", "cab"])
    shards = tmp_path / "shards"
    settings = [
        "train",
        *TINY,
        f"data.train={shards / 'index.jsonl'}",
        f"data.dev={manifest}",
        "train.epochs=1",
        "train.workers=1",
        "train.threads=1",
    ]
    weights = []
    for lacking, name in ((AS_ON_MACOS, "there"), ("import sys\n", "here")):
        model = tmp_path / name
        transcribe = ["transcribe", "--model", str(model), str(tmp_path / "audio")]
        pack = ["pack", str(manifest), "--out", str(shards)]
        output = run(lacking, pack, [*settings, "--out", str(model)], transcribe)
        assert output.count(".wav\t") == 4
        weights.append(load_file(model / "weights.safetensors"))
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_language_model_and_decoder_as_on_windows(tmp_path: Path) -> None:
    text, arpa, binary = (str(tmp_path / name) for name in ("text.txt", "lm.arpa", "lm.bin"))
    Path(text).write_text("a b a\nb a b\n")
    (tmp_path / "labels.txt").write_text("_\n<space>\na\nb\n")
    emissions = tmp_path / "emissions.npz"
    probs = np.full((5, 4), 0.01) + 0.96 * np.eye(4)[[2, 1, 3, 1, 2]]
    np.savez(emissions, one=np.log(probs))
    decode = ["decode", str(emissions), "--labels", str(tmp_path / "labels.txt"), "--decoder", "beam", "--lm", binary]
    output = run(
        AS_ON_WINDOWS,
        ["lm", "train", text, "--order", "2", "-o", arpa],
        ["lm", "compile", arpa, "-o", binary],
        ["lm", "perplexity", binary, text],
        decode,
    )
    assert output.splitlines()[-1] == "one\ta b a"
