"""`asr export`."""

import argparse
from pathlib import Path

_EXPORT = """Writes a model as one file that other runtimes take: waveforms in, log-probabilities out. What its inputs,
outputs and metadata mean stands at the top of asr/export.py. Needs the packages onnx and, for int8, onnxruntime."""


def add_export(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr export`."""
    parser.description = _EXPORT
    parser.add_argument("model", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--format", choices=("onnx",), default="onnx", help="(%(default)s)")
    parser.add_argument(
        "--quantize", choices=("int8",), help="eight-bit weights: a quarter of the size, faster in onnxruntime (none)"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.onnx", help="where to")
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
    from asr import checkpoint
    from asr.export import export_onnx

    export_onnx(checkpoint.load(arguments.model), arguments.out, quantize=arguments.quantize)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")
    return 0
