"""Stages of this recipe alone: the mean of several models, and labels of recordings without transcripts."""

import json
from collections.abc import Sequence
from pathlib import Path

from asr import stages
from asr.cli import commands, parse
from asr.errors import AudioError, CheckpointError
from asr.files import digest_of, made_since, write_text_atomic


def average_stage(runs: Sequence[Path], out: Path) -> None:
    """Run `asr average` into `out`, once for these weights of `runs`.

    Raises:
        CheckpointError: `out` holds something else, such as the mean of other runs or of earlier weights.
    """
    from asr import checkpoint
    from asr.training.average import AVERAGED, average

    weights = out / checkpoint.WEIGHTS_FILE
    if weights.is_file():
        beside = [out.parent / path for path in checkpoint.load_facts(weights).get(AVERAGED, [])]
        newer = made_since(weights, *(run / checkpoint.WEIGHTS_FILE for run in runs))
        if not newer or [run.resolve() for run in beside] != [run.resolve() for run in runs]:
            raise CheckpointError(
                f"{out}: is not the mean of what {', '.join(map(str, runs))} hold now; move that folder away, and run "
                "the recipe again"
            )
        stages.say(f"average: complete in {out}, skipped")
        return
    stages.say(f"average: {out}")
    average(runs, out)


def label_stage(manifest: Path, model: Path, out: Path) -> None:
    """Run `asr label` on a manifest into `out`, once for these recordings and for weights and settings of `model`.

    A file beside `out` says which recordings these were.

    Raises:
        AudioError: one of them could not be recognised; an earlier message names it.
        ConfigError: nothing was recognised with enough confidence.
    """
    from asr import checkpoint

    record, made_from = out.with_suffix(f".{stages.MADE_FROM_FILE}"), {"recordings": digest_of(manifest, "sha256")}
    newer = made_since(out, model / checkpoint.WEIGHTS_FILE, model / checkpoint.CONFIG_FILE)
    if newer and stages.read_record(record) == made_from:
        stages.say(f"label: complete in {out}, skipped")
        return
    stages.say(f"label: {out}")
    record.unlink(missing_ok=True)
    command = ["label", str(manifest), "--model", str(model), "-o", str(out), "--overwrite"]
    command += ["--precision", "float32", "--device", checkpoint.load_config(model).train.device]
    arguments = parse(commands(), command)
    if arguments.run(arguments):
        raise AudioError(f"{manifest}: not all of its recordings could be recognised")
    write_text_atomic(record, json.dumps(made_from) + "\n")
