"""Training states: files with everything that determines the next step, of which the newest few are kept."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.checkpoint import CONFIG_FILE, WEIGHTS_FILE, load, load_facts, load_tensors, load_weights, save_tensors
from asr.config import Config, DecodeConfig
from asr.errors import CheckpointError, ConfigError
from asr.manifest import Utterance
from asr.overrides import flatten
from asr.process.distributed import World
from asr.recognizer import Recognizer
from asr.training.learner import Learner

STATES_FOLDER = "states"
# Settings that do not affect the results, and may change on resuming.
_FREE = {
    "data.train",  # files are compared by content, and may have moved
    "data.dev",
    "data.vocabulary",
    "text.lexicon",
    "train.device",
    "train.deterministic",
    "train.workers",
    "train.threads",
    "train.checkpoint_minutes",
    "train.keep_states",
    *flatten(DecodeConfig(), "decode."),  # training decodes greedily
}


@dataclass
class Position:
    """Where training stands; counts continue across a resume.

    Attributes:
        epoch, batch: the next batch to train on.
        step: optimiser steps tried so far, skipped ones included.
        best_rank: (expected word errors, loss) of the best dev evaluation.
        skipped: steps skipped for a non-finite loss or gradient.
        skipped_in_a_row: how many of these came last, without a good step between.
        loss_sum, loss_count: training loss of this epoch so far, over `loss_count` utterances.
        audio_samples, padded_samples: samples of waveforms in this epoch so far, without and with padding.
        elapsed_s: time taken, over the whole run.
        processes: how many trained together when this was saved.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_rank: list[float] = field(default_factory=list)
    skipped: int = 0
    skipped_in_a_row: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    audio_samples: int = 0
    padded_samples: int = 0
    elapsed_s: float = 0.0
    processes: int = 1


@dataclass(frozen=True)
class Origin:
    """What a run is made from; its states record it, because it can be resumed with nothing else.

    Attributes:
        settings: `deciding` values of the configuration.
        vocabulary: digest of the tokenizer.
        shards: digest of what is in which shard; empty where `data.train` is a manifest.
        data: `fingerprint` of the utterances of data.train and data.dev.
        train_utterances: how many of these are of data.train: they come first.
        source: `asr.training.trainset.vocabulary_source`.
        noise: digest of the names of the recordings in augment.noise_dir; empty where it is.
        precision: what `train.precision` and `train.device` resolved to.
    """

    settings: dict[str, Any]
    vocabulary: str
    shards: str
    data: str
    train_utterances: int
    source: str
    noise: str
    precision: str

    def facts(self) -> dict[str, Any]:
        """All of it in one dict, for `World.agree`."""
        return {**self.settings, **{name: getattr(self, name) for name in _WHAT}}


_WHAT = {
    "vocabulary": "another vocabulary than tokens.txt, bpe.model and pronunciations.txt hold now",
    "shards": "other shards than data.train names now: they were packed again",
    "data": "other data than data.train and data.dev name now",
    "train_utterances": "the same utterances, but with others of them in data.train and data.dev than now",
    "source": "a vocabulary of other texts or words than data.vocabulary or text.lexicon names now",
    "noise": "other recordings than augment.noise_dir holds now",
    "precision": "another precision than train.precision and train.device give now",
}


def deciding(config: Config) -> dict[str, Any]:
    """Every setting that affects the results, by its dotted key, as a JSON value."""
    values = {key: value for key, value in flatten(config).items() if key not in _FREE}
    return dict(json.loads(json.dumps(values)))


def first_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """The first difference between two sets of `deciding` settings, worded as the end of a message."""
    before = {**deciding(Config()), **before}  # a key that was added after `before` had its built-in value
    for key, value in before.items():
        if after.get(key) != value:
            return f"{key}={value!r}, which cannot go on with {after.get(key)!r}"
    return None


def fingerprint(utterances: Sequence[Utterance]) -> str:
    """A digest of ids, segments, channels and texts, by which resuming on other data is refused."""
    digest = hashlib.blake2b(digest_size=16)
    for utterance in utterances:
        # Without a channel the digest is the same as in states written before channels existed.
        channel = "" if utterance.channel is None else f"\0{utterance.channel}"
        segment = f"{utterance.offset}\0{utterance.duration}{channel}"
        digest.update(f"{utterance.id}\0{segment}\0{utterance.text}\n".encode())
    return digest.hexdigest()


def state_files(folder: Path) -> list[Path]:
    """The states in a run folder, newest first."""
    found = (folder / STATES_FOLDER).glob("*.safetensors")
    return sorted((path for path in found if path.stem.isdecimal()), reverse=True)  # no copies under other names


def agree_on_state(world: World, folder: Path) -> None:
    """TrainingError unless all processes see the same newest state, or none."""
    world.agree({"the newest state": next((path.name for path in state_files(folder)), "none")})


def random_state() -> dict[str, Tensor]:
    """This process's random states, which dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def save_state(
    folder: Path,
    position: Position,
    learner: Learner,
    randoms: Sequence[dict[str, Tensor]],
    origin: Origin,
    *,
    keep: int,
) -> None:
    """Write `states/STEP.safetensors`, then remove all but the newest `keep` states.

    Args:
        folder: run folder.
        position: where training stands.
        learner: weights, their average and the optimiser's moments.
        randoms: `random_state()` of every process, by rank.
        origin: what the run is made from.
        keep: states to keep, this one included.
    """
    tensors: dict[str, Tensor] = {}
    for rank, states in enumerate(randoms):
        tensors |= {f"random.{rank}.{name}": state for name, state in states.items()}
    tensors |= {f"model.{name}": tensor for name, tensor in learner.recognizer.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in learner.average.state_dict().items()}
    for index, moments in learner.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
    path = folder / STATES_FOLDER / f"{position.step:09d}.safetensors"
    save_tensors(path, tensors, {"position": asdict(position), **asdict(origin)})
    for old in state_files(folder)[keep:]:
        old.unlink()


def set_aside(damaged: Iterable[Path]) -> None:
    """Rename states that were passed over, so that they are not taken for good ones and kept in place of these."""
    for path in damaged:
        path.replace(path.with_suffix(".damaged"))


def load_state(folder: Path, learner: Learner, origin: Origin, *, rank: int = 0) -> tuple[Position, dict[Path, str]]:
    """Restore the newest state that is whole.

    Returns:
        position: where training goes on.
        damaged: each newer state that was passed over, and what is wrong with it.

    Raises:
        CheckpointError: there is no state, none is whole, or it was made from something else.
    """
    path, tensors, facts, damaged = _newest(folder)
    _require_origin(facts, asdict(origin), path)
    try:
        position = Position(**facts["position"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: made by another version of this program") from error
    load_weights(learner.recognizer, _under("model.", tensors), where=path)
    load_weights(learner.average, _under("average.", tensors), where=path)
    moments: dict[int, dict[str, Any]] = {}
    for name, tensor in _under("optimizer.", tensors).items():
        index, kind = name.split(".")
        moments.setdefault(int(index), {})[kind] = tensor
    learner.optimizer.load_state_dict({**learner.optimizer.state_dict(), "state": moments})
    _restore_random(_under(f"random.{rank}.", tensors), position, rank)
    return position, damaged


def _newest(folder: Path) -> tuple[Path, dict[str, Tensor], dict[str, Any], dict[Path, str]]:
    damaged: dict[Path, str] = {}
    for path in state_files(folder):
        try:
            return path, *load_tensors(path), damaged
        except CheckpointError as error:
            damaged[path] = str(error)
    if damaged:
        raise CheckpointError(f"{'; '.join(damaged.values())}; no older state is left")
    begin = f"begin it anew: asr train {folder / CONFIG_FILE} --out {folder}"
    if (folder / WEIGHTS_FILE).exists():
        begin = f"a new run may begin with its weights: train.init_from={folder}"
    raise CheckpointError(f"{folder}: holds no state to go on from ({STATES_FOLDER}/ is missing or empty); {begin}")


def _restore_random(states: dict[str, Tensor], position: Position, rank: int) -> None:
    if not states:  # more processes than before: the new ones start a random stream of their own
        torch.manual_seed(hash((position.step, rank)))
        return
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _require_origin(facts: Mapping[str, Any], origin: Mapping[str, Any], path: Path) -> None:
    """CheckpointError where the origins differ; what a state of an older version does not hold is not compared."""
    change = first_change(facts["settings"], origin["settings"]) if "settings" in facts else None
    if change is not None:
        raise CheckpointError(f"{path}: was made with {change}")
    for name, what in _WHAT.items():
        if name in origin and facts.get(name, origin[name]) != origin[name]:
            raise CheckpointError(f"{path}: was made from {what}")


def is_finished(folder: Path, epochs: int) -> bool:
    """Whether the run in `folder` was trained to its last epoch."""
    for path in state_files(folder):
        try:
            return bool(load_facts(path)["position"]["epoch"] >= epochs)
        except (CheckpointError, KeyError):  # then training resumes from an older one, and says why
            return False
    return False


def require_finished_whole(
    folder: Path, config: Config, data: Callable[[Recognizer, Config], dict[str, Any]] | None = None
) -> None:
    """Check a run that `is_finished`: its files are those that it was trained with, and its weights are undamaged.

    Args:
        folder: of the run.
        config: what it should have been trained with.
        data: returns what its `Origin` should say of the data (`asr.training.trainset.data_origin`); None: that is not
            compared.

    Raises:
        CheckpointError: they are not; the message names the file.
    """
    recognizer = load(folder)
    origin = {"settings": deciding(config), "vocabulary": recognizer.tokenizer.digest()}
    if data is not None:
        origin |= data(recognizer, config)
    path = state_files(folder)[0]
    _require_origin(load_facts(path), origin, path)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def require_same(saved: Config, wanted: Config, out: Path) -> None:
    """ConfigError unless the run in `out` can be resumed with `wanted`: no setting that affects results may differ."""
    change = first_change(deciding(saved), deciding(wanted))
    if change is not None:
        raise ConfigError(f"{out}: holds a run with {change}")


def require_decoder(saved: Config, wanted: Config, out: Path) -> None:
    """ConfigError for a setting of the decoder that is neither built in nor the run's in `out`: it would be ignored."""
    built_in, kept = flatten(DecodeConfig(), "decode."), flatten(saved.decode, "decode.")
    for key, value in flatten(wanted.decode, "decode.").items():
        if value not in (built_in[key], kept[key]):
            raise ConfigError(
                f"{key}={value}: is not kept, as {out} holds a run with {kept[key]!r}; asr tune {out} chooses a decoder"
            )
