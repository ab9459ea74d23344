"""`asr export`."""

import argparse
import sys
from pathlib import Path

from asr.commands.common import require_free
from asr.errors import ConfigError

_EXPORT = """Writes a model to pass on. onnx: one file for other runtimes, from waveforms to log-probabilities; the top
of asr/export.py says what its inputs, outputs and metadata mean; writing it needs the package onnx. float16: a run
folder of half the size for the commands of asr, which needs nothing else."""


def add_export(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr export`."""
    parser.description = _EXPORT
    parser.add_argument("model", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--format", choices=("onnx", "float16"), default="onnx", help="what to write (%(default)s)")
    parser.add_argument(
        "--quantize", choices=("int8",), help="for onnx: eight-bit weights, a quarter of the size, faster (none)"
    )
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="PATH", help="FILE.onnx, or for float16 a folder"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE.onnx")
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
    if arguments.format == "float16":
        return _export_float16(arguments)
    from asr import checkpoint
    from asr.export import export_onnx

    require_free(arguments.out, arguments.overwrite)
    export_onnx(checkpoint.load(arguments.model), arguments.out, quantize=arguments.quantize)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB", file=sys.stderr)
    return 0


def _export_float16(arguments: argparse.Namespace) -> int:
    from asr.checkpoint import WEIGHTS_FILE
    from asr.training.shrink import shrink

    if arguments.quantize:
        raise ConfigError(f"--quantize {arguments.quantize} is for --format onnx, found --format float16")
    if arguments.overwrite:
        raise ConfigError("--overwrite is for --format onnx: a model of --format float16 is made anew without it")
    shrink(arguments.model, arguments.out)
    before, after = ((folder / WEIGHTS_FILE).stat().st_size / 1e6 for folder in (arguments.model, arguments.out))
    print(f"{arguments.out}: weights of {after:.1f} MB, before {before:.1f} MB", file=sys.stderr)
    return 0
