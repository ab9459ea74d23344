"""Other recordings than a recipe's own corpus, to train a second model on."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asr.errors import CorpusError
from asr.lines import repeated
from asr.stages import train_stage

if TYPE_CHECKING:  # torch comes with these
    from asr.config import Config
    from asr.manifest import Utterance


def add_outside(arguments: argparse.ArgumentParser) -> None:
    """Add the option of recipes that can train on other recordings too."""
    arguments.add_argument(
        "--outside",
        type=Path,
        action="append",
        default=[],
        metavar="MANIFEST",
        help="other recordings to train on too, for a second model beside that of the corpus alone; may be repeated",
    )


def read_outside(manifests: list[Path], data: Path) -> list["Utterance"]:
    """Read the manifests of other recordings and check them, before hours go by.

    Raises:
        CorpusError: an id occurs twice, or is one of the corpus's own: its test would no longer be a test.
        AudioError: an audio file is missing.
    """
    from asr.corpora import SUMMARY_FILE
    from asr.manifest import read_manifest, require_audio

    found: list[Utterance] = []
    if not manifests:
        return found
    prepared = [summary.parent for pattern in (SUMMARY_FILE, f"*/{SUMMARY_FILE}") for summary in data.glob(pattern)]
    own = sorted(path for folder in prepared for path in folder.glob("*.jsonl"))
    place_of = {item.id: path for path in own for item in read_manifest(path)}
    for manifest in manifests:
        for utterance in read_manifest(manifest):
            if utterance.id in place_of:
                raise CorpusError(f"--outside {manifest}: id {utterance.id!r} is in {place_of[utterance.id]} too")
            place_of[utterance.id] = manifest
            found.append(utterance)
    require_audio(found)
    return found


def join(utterances: list["Utterance"], out: Path) -> Path:
    """Write all to the manifest `out`; CorpusError if it exists and holds others, from which a model was made."""
    from asr.manifest import read_manifest, write_manifest

    def content(utterance: "Utterance") -> tuple[object, ...]:
        audio = utterance.audio_filepath.resolve()
        return utterance.id, audio, round(utterance.offset, 6), utterance.channel, utterance.text

    if not out.is_file():
        twice = repeated(utterance.id for utterance in utterances)
        if twice is not None:
            raise CorpusError(f"--outside: id {twice!r} occurs twice among these and the recipe's own recordings")
        write_manifest(out, utterances)
    elif [content(one) for one in read_manifest(out)] != [content(one) for one in utterances]:
        raise CorpusError(
            f"{out}: was made from other recordings than --outside names now; --out chooses another folder"
        )
    return out


def train_with_outside(
    out: Path,
    train: Path,
    outside: list["Utterance"],
    settings: Callable[..., "Config"],
    others: Sequence[str],
    last: Sequence[str],
) -> None:
    """Train into `out`/outside-mixed on a corpus and other recordings, then into `out`/outside on the corpus alone.

    Args:
        out: where `outside.jsonl`, the manifest of both, goes too.
        train: manifest of the corpus, whose texts make the labels of both trainings.
        outside: see `read_outside`.
        settings: gives the configuration for `key=value` and the manifest `train`.
        others, last: `key=value` of the first and the second training.
    """
    from asr.manifest import read_manifest

    joined = join([*read_manifest(train), *outside], out / "outside.jsonl")
    labels, mixed = f"data.vocabulary={train}", out / "outside-mixed"
    train_stage(mixed, settings(labels, *others, train=joined))
    train_stage(out / "outside", settings(labels, *last, f"train.init_from={mixed}", train=train))
