"""How long an n-gram model takes to load, each time in a fresh process, with the kernels already compiled.

numba itself takes about 0.3 s to start, once in a process; to leave that out, a model of one word is loaded first.

python benchmarks/lm_load.py MODEL.arpa[.gz] [--rounds 7] [--json FILE]
"""

import argparse
import gzip
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import report

from asr.decode import NGram

_LOAD = """
import json, sys, time
import asr.decode.lm
asr.decode.lm.NGram.load(sys.argv[2])
started = time.perf_counter()
model = asr.decode.lm.NGram.load(sys.argv[1])
took = time.perf_counter() - started
print(json.dumps({"s": took, "bytes": sum(array.nbytes for array in model.arrays), "counts": model.counts}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = arguments.model.read_bytes()
        plain = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        (folder / "plain.arpa").write_bytes(plain)
        (folder / "packed.arpa.gz").write_bytes(gzip.compress(plain))
        NGram.load(folder / "plain.arpa").save(folder / "binary")
        (folder / "tiny.arpa").write_text("\\data\\\nngram 1=1\n\n\\1-grams:\n-1\ta\n\n\\end\\\n")
        files = {"ARPA": "plain.arpa", "ARPA, gzipped": "packed.arpa.gz", "binary": "binary"}
        rounds: dict[str, list[float]] = {kind: [] for kind in files}
        for _ in range(arguments.rounds + 1):  # the first one warms up
            for kind, file in files.items():
                command = [sys.executable, "-c", _LOAD, str(folder / file), str(folder / "tiny.arpa")]
                facts = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                rounds[kind].append(1000 * facts["s"])
    print(f"{' + '.join(map(str, facts['counts']))} n-grams, {facts['bytes'] / 1e6:.1f} MB in memory")
    for kind, milliseconds in rounds.items():
        taken = milliseconds[1:]
        print(f"{kind:14} {statistics.median(taken):7.2f} ms (smallest {min(taken):.2f}, largest {max(taken):.2f})")
    report({"milliseconds": rounds, **facts}, arguments.json)


if __name__ == "__main__":
    main()
