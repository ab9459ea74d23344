"""`asr pack`."""

import argparse
import sys
from pathlib import Path

from asr.errors import ConfigError


def add_pack(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr pack`."""
    parser.add_argument("manifest", type=Path, help="manifest of the utterances")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the shards and their index.jsonl")
    parser.add_argument(
        "--shard-mb", type=float, default=256.0, help="size of a shard in millions of bytes (%(default)s)"
    )
    order = parser.add_mutually_exclusive_group()
    order.add_argument("--seed", type=int, default=0, help="for shuffling the utterances (%(default)s)")
    order.add_argument("--keep-order", action="store_true", help="keep the order of the manifest")
    parser.add_argument("--threads", type=int, help="threads that encode audio (default: one for each core)")
    parser.set_defaults(run=_pack)


def _pack(arguments: argparse.Namespace) -> int:
    from asr.process import cores
    from asr.shards.pack import pack

    if not arguments.shard_mb > 0:
        raise ConfigError(f"--shard-mb must be positive, found {arguments.shard_mb}")
    threads = cores() if arguments.threads is None else arguments.threads
    if threads < 1:
        raise ConfigError(f"--threads must be at least 1, found {threads}")
    packed = pack(
        arguments.manifest,
        arguments.out,
        shard_mb=arguments.shard_mb,
        seed=None if arguments.keep_order else arguments.seed,
        threads=threads,
    )
    print(packed.render(), file=sys.stderr)
    return 0
