"""The run folder: a trained model that needs nothing else, and the state from which training resumes.

    config.yaml          the whole configuration
    tokens.txt           vocabulary, one symbol a line; beside it bpe.model for BPE, pronunciations.txt for phones
    weights.safetensors  the best weights on dev (the last without one); the header says which epoch and versions
    states/              everything that decides the next training step, the newest few (only `asr train` reads them)

Loading a model runs no code: tensors are safetensors, the rest is YAML, JSON and text. But resuming a training opens
what its configuration names as data, which may be `pipe:COMMAND`.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torchaudio
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from asr import __version__, config
from asr.config import Config, resolve_decode
from asr.errors import CheckpointError, ConfigError, TextError
from asr.files import atomic_path, require_folder, write_text_atomic
from asr.recognizer import Recognizer
from asr.text import Tokenizer

CONFIG_FILE = "config.yaml"
WEIGHTS_FILE = "weights.safetensors"


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and JSON-able facts as one safetensors file with a checksum, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    written = json.dumps(facts)
    metadata = {"facts": written, "facts_crc32": _crc32(written.encode()), "crc32": _checksum(tensors)}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:
            raise CheckpointError(f"{path}: cannot be written: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise CheckpointError(f"{path}: file is missing")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged or not a safetensors file: {error}") from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        CheckpointError: the file is missing, truncated or not safetensors, or its tensors are not those written.
    """
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if (file.metadata() or {}).get("crc32") != _checksum(tensors):
            raise CheckpointError(f"{path}: damaged: its tensors do not have the checksum that was written with them")
        return tensors, _facts(file, path)


def _checksum(tensors: dict[str, Tensor]) -> str:
    """CRC-32 (that of zip and PNG) over the bytes of all tensors: finds damage, not malice."""
    checksum = 0
    for name in sorted(tensors):
        checksum = zlib.crc32(tensors[name].flatten().view(torch.uint8).numpy().data, checksum)
    return f"{checksum:08x}"


def _crc32(content: bytes) -> str:
    return f"{zlib.crc32(content):08x}"


def load_facts(path: Path) -> dict[str, Any]:
    """Read only the facts that `save_tensors` wrote; CheckpointError as `load_tensors`."""
    with _opened(path) as file:
        return _facts(file, path)


def _facts(file: Any, path: Path) -> dict[str, Any]:
    metadata = file.metadata() or {}
    written = metadata.get("facts", "{}")
    found = _crc32(written.encode())
    if metadata.get("facts_crc32", found) != found:  # earlier versions wrote none
        raise CheckpointError(f"{path}: damaged: its facts do not have the checksum that was written with them")
    return dict(json.loads(written))


def versions() -> dict[str, str]:
    """Versions of this package and of the libraries that compute the numbers."""
    return {"asr": __version__, "torch": str(torch.__version__), "torchaudio": str(torchaudio.__version__)}


def start_run(folder: Path, settings: Config, tokenizer: Tokenizer) -> None:
    """Write the files that do not change during training: the configuration last, so it is never without labels."""
    tokenizer.save(folder)
    write_text_atomic(folder / CONFIG_FILE, config.to_yaml(settings))


def note_moved(folder: Path, settings: Config) -> None:
    """Update where data and lexicon are in the configuration of a run that is resumed."""
    saved = load_config(folder)
    moved = replace(saved, data=settings.data, text=replace(saved.text, lexicon=settings.text.lexicon))
    if moved != saved:
        write_text_atomic(folder / CONFIG_FILE, config.to_yaml(moved))


def save_weights(folder: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write the weights of a Recognizer with facts about them (step, dev WER)."""
    save_tensors(folder / WEIGHTS_FILE, tensors, {**facts, "versions": versions()})


def require_there(folder: Path) -> None:
    """Raise CheckpointError if the run folder is missing or is not a folder."""
    if not folder.is_dir():
        what = "is a file, wanted a run folder" if folder.exists() else "run folder is missing"
        raise CheckpointError(f"{folder}: {what}")


def require_empty(folder: Path) -> None:
    """CheckpointError where `folder` holds anything, ConfigError where it is no folder; it may be missing."""
    require_folder(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise CheckpointError(f"{folder}: is not empty; choose another folder")


def load_config(folder: Path) -> Config:
    """The configuration of a run folder.

    Raises:
        CheckpointError: the folder or its configuration is missing or unusable.
    """
    require_there(folder)
    if not (folder / CONFIG_FILE).is_file():
        raise CheckpointError(f"{folder}: not a run folder ({CONFIG_FILE} is missing)")
    try:
        return config.load(folder / CONFIG_FILE)
    except ConfigError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def load_tokenizer(folder: Path, settings: Config) -> Tokenizer:
    """The tokenizer of a run folder; CheckpointError when it is missing or damaged."""
    try:
        return Tokenizer.load(folder, settings.text)
    except TextError as error:
        raise CheckpointError(str(error)) from error


def load(
    folder: Path | str,
    device: torch.device | str = "cpu",
    *,
    audio: Mapping[str, Any] | None = None,
    decode: Mapping[str, Any] | None = None,
) -> Recognizer:
    """Load a trained recogniser, ready for evaluation.

    Args:
        folder: run folder.
        device: where to put it.
        audio: values of `AudioConfig` to use in place of the run's own, such as {"channels": "first"}.
        decode: the same for `DecodeConfig`; relative paths are relative to the run folder.

    Raises:
        CheckpointError: a file is missing or damaged, the vocabulary does not match the weights, or a weight has the
            wrong shape or is not finite. The message names file and tensor.
    """
    folder = Path(folder)
    settings = load_config(folder)
    settings = replace(
        settings,
        audio=replace(settings.audio, **(audio or {})),
        decode=resolve_decode(replace(settings.decode, **(decode or {})), folder),
    )
    tensors, _ = load_tensors(folder / WEIGHTS_FILE)
    recognizer = Recognizer(settings, load_tokenizer(folder, settings))
    load_weights(recognizer, tensors, where=folder / WEIGHTS_FILE)
    return recognizer.to(device).eval()


def load_weights(recognizer: Recognizer, tensors: dict[str, Tensor], *, where: Path) -> None:
    """Copy tensors into a recogniser after checking names, shapes and values; CheckpointError otherwise."""
    wanted = recognizer.state_dict()
    outputs = tensors.get("encoder.output.weight")
    if outputs is not None and len(outputs) != len(recognizer.tokenizer):
        raise CheckpointError(
            f"{where}: the vocabulary has {len(recognizer.tokenizer)} tokens, the weights have {len(outputs)} outputs"
        )
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors:
            raise CheckpointError(f"{where}: tensor {name} is missing")
        if name not in wanted:
            raise CheckpointError(f"{where}: tensor {name} is not part of the configured model")
        if tensors[name].shape != wanted[name].shape:
            found, expected = tuple(tensors[name].shape), tuple(wanted[name].shape)
            raise CheckpointError(f"{where}: tensor {name} has shape {found}, the configuration wants {expected}")
        if not torch.isfinite(tensors[name]).all():
            raise CheckpointError(f"{where}: tensor {name} holds values that are not finite")
    recognizer.load_state_dict(tensors)
