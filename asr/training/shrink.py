"""A run folder of half the size, for passing on: the same model, its matrices in float16.

Of the 24 bits of a weight's mantissa, 11 are kept. The weights are widened when the model is loaded, and everything is
computed in float32 as before. One-dimensional tensors (biases, normalisation) are a hundredth of the size and stay as
they are.
"""

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from asr import checkpoint
from asr.config import DECODE_PATHS, resolve_decode, without_paths
from asr.errors import CheckpointError
from asr.files import atomic_path, require_folder, whole_folder
from asr.training.state import STATES_FOLDER

_PRECISION = "float16"


def shrink(run: Path, out: Path) -> None:
    """Write a run folder with its matrices in float16, for recognition and not for resuming the training.

    What only training reads is left out (states, logs, paths of manifests, noise and an earlier run). The decoder's
    files are copied into it, so that the folder is self-contained and names no path outside. A model card and a licence
    in the run are copied too.

    Args:
        run: run folder.
        out: folder to write; it must be missing or empty, or hold an earlier shrunk model, which is replaced.

    Raises:
        CheckpointError: `run` cannot be loaded or a file of its decoder is missing, `out` holds something else than a
            shrunk model, or a weight is beyond the range of float16; the message names file or tensor.
        ConfigError: `out` is not a folder.
    """
    require_folder(out)
    replaced = (out / checkpoint.WEIGHTS_FILE).exists()
    if out.resolve() == run.resolve() or (out / STATES_FOLDER).exists() or _is_full(out / checkpoint.WEIGHTS_FILE):
        raise CheckpointError(f"{out}: holds another model, which would be overwritten; choose another folder")
    if not replaced:
        checkpoint.require_empty(out)
    recognizer = checkpoint.load(run)
    halves = {}
    for name, tensor in recognizer.state_dict().items():
        halves[name] = tensor.half() if tensor.ndim > 1 else tensor
        if not torch.isfinite(halves[name]).all():
            largest = tensor.abs().max().item()
            raise CheckpointError(f"{run}: tensor {name} holds {largest:g}, more than float16 can (65504)")
    settings = checkpoint.load_config(run)
    found = resolve_decode(settings.decode, run)
    files = {key: Path(path) for key in DECODE_PATHS if (path := getattr(found, key))}
    for key, path in files.items():
        if not path.is_file():
            raise CheckpointError(f"{run}: decode.{key}={path} is missing")
    beside = [path for kind in ("README*", "LICENSE*", "NOTICE*") for path in sorted(run.glob(kind)) if path.is_file()]
    # Named after their keys, because two of them may share a name, or have that of a file of the model.
    names: dict[str, Any] = {key: key + "".join(path.suffixes) for key, path in files.items()}
    copies = [*((names[key], path) for key, path in files.items()), *((path.name, path) for path in beside)]
    settings = replace(without_paths(settings), decode=replace(settings.decode, **names))
    facts = checkpoint.load_facts(run / checkpoint.WEIGHTS_FILE)
    with nullcontext(out) if replaced else whole_folder(out) as folder:
        for target, path in copies:
            with atomic_path(folder / target) as temporary:
                shutil.copyfile(path, temporary)
        checkpoint.start_run(folder, settings, recognizer.tokenizer)
        checkpoint.save_weights(folder, halves, {**facts, "precision": _PRECISION})


def _is_full(weights: Path) -> bool:
    """Whether these weights exist and were not written by `shrink`."""
    return weights.exists() and checkpoint.load_facts(weights).get("precision") != _PRECISION
