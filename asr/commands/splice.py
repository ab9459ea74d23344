"""`asr splice`."""

import argparse
import sys
from pathlib import Path

from asr.commands.common import add_audio, add_device, load_model, print_note
from asr.errors import ConfigError


def add_splice(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr splice`."""
    parser.add_argument("manifest", type=Path, help="manifest of the training utterances")
    parser.add_argument(
        "--model", type=Path, required=True, metavar="RUN", help="run folder of a model that finds the words"
    )
    parser.add_argument(
        "-o", "--out", type=Path, required=True, help="folder for train.jsonl (old and new sentences) and the audio"
    )
    parser.add_argument("--hours", type=float, default=1.0, help="hours of new sentences (%(default)s)")
    parser.add_argument(
        "--seconds",
        type=float,
        nargs=2,
        default=(1.5, 6.0),
        metavar=("LOW", "HIGH"),
        help="shortest and longest new sentence (1.5 6)",
    )
    parser.add_argument(
        "--order",
        type=int,
        default=3,
        metavar="N",
        help="words follow each other as in an N-gram model of the transcripts; 1: in any order (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="for choosing what is put together (%(default)s)")
    add_device(parser)
    add_audio(parser)
    parser.set_defaults(run=_splice)


def _splice(arguments: argparse.Namespace) -> int:
    from asr.manifest import read_manifest, require_audio
    from asr.splicing.sentences import Plan, splice

    low, high = arguments.seconds
    if not 0 < low <= high <= 3600:
        raise ConfigError(f"--seconds must be LOW HIGH with 0 < LOW <= HIGH <= 3600, found {low:g} {high:g}")
    if not 0 < arguments.hours <= 100_000:
        raise ConfigError(f"--hours must be in 0..100000, found {arguments.hours:g}")
    if not 1 <= arguments.order <= 10:
        raise ConfigError(f"--order must be in 1..10, found {arguments.order}")
    utterances = read_manifest(arguments.manifest)
    require_audio(utterances)
    plan = Plan(arguments.hours, (low, high), arguments.order, arguments.seed)
    recognizer = load_model(arguments, {"decoder": "greedy"}, arguments.channels)  # no decoder is needed
    made = splice(utterances, recognizer, arguments.out, plan)
    print(f"{arguments.out}: {made.render()}", file=sys.stderr)
    if unknown := sum(utterance.speaker is None for utterance in utterances):
        print_note(f"{unknown} utterances name no speaker; sentences mix their voices")
    return 0
