"""From a manifest to training data: labels for every utterance, and no utterance that cannot be learnt."""

import hashlib
import os
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from asr import audio, checkpoint
from asr.augment import noise_files
from asr.config import NO_DEV, Config, TextConfig
from asr.errors import AudioError, CheckpointError, ConfigError, TextError, TrainingError, WordlessError
from asr.files import is_url
from asr.lengths import ctc_frames_needed, s_to_samples
from asr.lexicon import read_pronunciations, to_text
from asr.manifest import Utterance, read_manifest
from asr.recognizer import Recognizer
from asr.shards.index import is_shards, read_index
from asr.text import Tokenizer, build_tokenizer
from asr.training.state import fingerprint

_SHOWN = 5  # unusable utterances named on the error line
_SHARED_S = 0.05  # least overlap that counts: neighbours in annotations touch, and times are rounded


@dataclass(frozen=True)
class LabelledSet:
    """Utterances with their labels.

    Attributes:
        unknown: of each utterance, the out-of-vocabulary symbols that `text.allow_oov` dropped.
    """

    utterances: list[Utterance]
    labels: list[list[int]]
    unknown: list[list[str]]

    @property
    def durations_s(self) -> list[float]:
        """Duration of each utterance."""
        return [utterance.duration for utterance in self.utterances]


def read_utterances(path: str, key: str) -> list[Utterance]:
    """Read the manifest that configuration key `key` names; ConfigError when it names none."""
    if not path:
        raise ConfigError(f"{key} is not set: give {key}=MANIFEST.jsonl (asr prepare makes one)")
    return read_manifest(path)


def read_dev(config: Config) -> list[Utterance]:
    """The utterances of `data.dev`; an empty list where it is `none`, ConfigError where it names shards."""
    if config.data.dev == NO_DEV:
        return []
    if config.data.dev and is_shards(config.data.dev):
        raise ConfigError(f"data.dev={config.data.dev}: is an index of shards, wanted a manifest")
    return read_utterances(config.data.dev, "data.dev")


def utterances_of(path: str, key: str) -> list[Utterance]:
    """The utterances of the manifest or index of shards that configuration key `key` names."""
    if path and is_shards(path):
        return read_index(path).utterances
    return read_utterances(path, key)


def tokenizer_for(config: Config, train: Sequence[Utterance]) -> Tokenizer:
    """The tokenizer of a new training on these utterances: made from them, or from what `data.vocabulary` names.

    Raises:
        CheckpointError: `data.vocabulary` is a folder, but not a run that can be loaded.
        ConfigError: it is a run whose labels are of another unit, or spelled differently, or that was given another
            lexicon than `text.lexicon` names.
        ManifestError: it is a manifest that cannot be read.
        TextError: no labels can be made.
    """
    named = config.data.vocabulary
    if not (named and Path(named).is_dir()):
        spoken = utterances_of(named, "data.vocabulary") if named else train
        return build_tokenizer((utterance.text for utterance in spoken), config.text)
    try:
        there = checkpoint.load_config(Path(named)).text
        if different := unlike(there, config.text):
            key = different[0]
            found, wanted = (getattr(text, key) or "empty" for text in (there, config.text))
            raise ConfigError(f"data.vocabulary={named}: text.{key} is {found} in that run, but {wanted} in this one")
        if config.text.lexicon not in ("", there.lexicon):
            raise ConfigError(f"data.vocabulary={named}: the lexicon comes from that run; leave text.lexicon empty")
        return checkpoint.load_tokenizer(Path(named), config)
    except CheckpointError as error:
        raise CheckpointError(f"data.vocabulary: {error}") from error


def unlike(one: TextConfig, other: TextConfig) -> list[str]:
    """The settings in which two configurations differ so that they cannot share labels."""
    keys = ["unit", "case", "punctuation", "letters", *(["bpe_size"] if other.unit == "bpe" else [])]
    return [key for key in keys if getattr(one, key) != getattr(other, key)]


def vocabulary_source(config: Config) -> str:
    """A digest of the content that the vocabulary is made from, other than `data.train`; empty where there is none.

    It is also empty where the vocabulary comes from another run, which may be gone by now: the digest of the labels
    covers it.
    """
    if config.data.vocabulary and not (is_url(config.data.vocabulary) or Path(config.data.vocabulary).is_file()):
        return ""
    if config.text.unit == "phone":
        content = to_text(read_pronunciations(Path(config.text.lexicon), TextError))
    elif config.data.vocabulary:
        content = "\n".join(utterance.text for utterance in utterances_of(config.data.vocabulary, "data.vocabulary"))
    else:
        return ""
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def data_origin(recognizer: Recognizer, config: Config) -> dict[str, Any]:
    """What an `asr.training.state.Origin` says of the data that `config` names, with these labels."""
    taken, _ = usable(utterances_of(config.data.train, "data.train"), config, recognizer)
    return origin_of(taken.utterances, read_dev(config), config)


def origin_of(train: Sequence[Utterance], dev: Sequence[Utterance], config: Config) -> dict[str, Any]:
    """The same, for the utterances that are trained and evaluated on."""
    return {
        "data": fingerprint([*train, *dev]),
        "train_utterances": len(train),
        "source": vocabulary_source(config),
    }


def noise_origin(config: Config) -> str:
    """`noise` of an `asr.training.state.Origin`; an AudioError names a recording that training could not use."""
    paths = noise_files(config.augment)
    for path in paths:
        try:
            with audio.opened(path) as opened:
                opened.check_channels(config.audio)
        except AudioError as error:
            raise AudioError(f"augment.noise_dir: {error}") from error
    names = "\0".join(path.relative_to(config.augment.noise_dir).as_posix() for path in paths)
    return names and hashlib.blake2b(os.fsencode(names), digest_size=16).hexdigest()


def label(
    utterances: Sequence[Utterance],
    tokenizer: Tokenizer,
    where: str = "",
    *,
    vocabulary: str = "",
    wordless: dict[str, str] | None = None,
) -> LabelledSet:
    """Encode every transcript, with labels from what `data.vocabulary` names, if it names anything.

    A TextError names the utterance, after `where`, and the symbol. Utterances whose transcripts are empty after
    normalisation are left out and added to `wordless`, with why, where it is given; else they are an error too.
    """
    other = "data.vocabulary=RUN takes the labels of another run"
    if vocabulary:
        other = f"without data.vocabulary={vocabulary} labels are made from the training texts"
        if tokenizer.config.unit == "bpe":
            other += " (of few recordings with text.unit=char)"
    labelled, labels = [], []
    for utterance in utterances:
        try:
            found = tokenizer.encode(utterance.text, where=f"{where}utterance {utterance.id}", other_labels=other)
        except WordlessError as error:
            if wordless is None:
                raise
            wordless[utterance.id] = str(error)
            continue
        labelled.append(utterance)
        labels.append(found)
    dropped = tokenizer.out_of_vocabulary if tokenizer.config.allow_oov else lambda _: []  # others were an error
    unknown = [dropped(utterance.text) for utterance in labelled]
    return LabelledSet(labelled, labels, unknown)


def unusable(labelled: LabelledSet, config: Config, recognizer: Recognizer) -> dict[str, str]:
    """Training utterances that cannot be learnt, each id with its reason.

    They are longer than `train.max_utterance_s` or `audio.max_duration_s`, shorter than one frame, or have more labels
    than output frames at the fastest speed and closest crop of the augmentation (the CTC loss would be infinite).
    """
    # Audio may end a little before the segment does: where that could matter, its header tells how much there is.
    least_s = [duration - audio.END_TOLERANCE_S for duration in labelled.durations_s]
    fastest = max(config.augment.speeds, default=1.0) / (1 - 2 * config.augment.crop_share)
    doubtful = {item.id for item in infeasible(labelled, least_s, config, recognizer, speed=fastest)}
    reasons = {}
    if doubtful:
        heard_s = [_heard_s(item) if item.id in doubtful else item.duration for item in labelled.utterances]
        reasons = {item.id: str(item) for item in infeasible(labelled, heard_s, config, recognizer, speed=fastest)}
    limits = (
        (config.train.max_utterance_s, "train.max_utterance_s"),
        (config.audio.max_duration_s, "audio.max_duration_s"),
    )
    longest_s, key = min(limits)
    for utterance in labelled.utterances:
        if utterance.duration > longest_s:
            found = f"utterance {utterance.id}: {utterance.duration:.2f} s"
            reasons[utterance.id] = f"{found}, longer than {key}={longest_s:g}"
    return reasons


def _heard_s(utterance: Utterance) -> float:
    """How much of an utterance's segment its file holds, by the header; its duration where that cannot be read."""
    with suppress(AudioError), audio.opened(utterance.audio_filepath) as opened:
        return float(opened.segment(utterance.offset, utterance.duration)[1] / opened.file.samplerate)
    return utterance.duration  # what is wrong with the file is told elsewhere; shards are not opened here


@dataclass(frozen=True)
class Infeasible:
    """An utterance with fewer output frames than its labels need, or with none.

    Attributes:
        seconds: duration that the frames were counted for, before the speed.
    """

    id: str
    seconds: float
    frames: int
    needed: int

    def __str__(self) -> str:
        if not self.frames:
            return f"utterance {self.id}: {self.seconds:.3f} s, shorter than one frame"
        return f"utterance {self.id}: {self.frames} output frames, its transcript needs {self.needed}"


def infeasible(
    labelled: LabelledSet, durations_s: Sequence[float], config: Config, recognizer: Recognizer, *, speed: float
) -> list[Infeasible]:
    """Utterances that are too short for a frame, or for their labels, if they last so long and play at `speed`."""
    rate_hz = config.audio.sample_rate_hz
    samples = torch.tensor([s_to_samples(duration / speed, rate_hz) for duration in durations_s])
    frames = recognizer.output_lengths(samples).tolist()
    needed = [max(1, ctc_frames_needed(labels)) for labels in labelled.labels]
    rows = zip(labelled.utterances, durations_s, frames, needed, strict=True)
    return [Infeasible(item.id, seconds, found, least) for item, seconds, found, least in rows if found < least]


def require_segments(utterances: Sequence[Utterance], config: Config, recognizer: Recognizer) -> None:
    """AudioError when a file cannot be opened or ends before its segment, or that is too long or under a frame.

    Used for dev, which is otherwise first read when an epoch is over.
    """
    for utterance in utterances:
        try:
            with audio.opened(utterance.audio_filepath) as opened:
                opened.check_channels(config.audio, utterance.channel)
                _, frames = opened.segment(utterance.offset, utterance.duration)
                opened.check_duration(config.audio, frames)
                seconds = frames / opened.file.samplerate
        except AudioError as error:
            raise AudioError(f"utterance {utterance.id}: {error}") from error
        if s_to_samples(seconds, config.audio.sample_rate_hz) < recognizer.log_mel.fft_samples:
            where = f"utterance {utterance.id}: {utterance.audio_filepath}"
            raise AudioError(f"{where}: {seconds:g} s of audio are shorter than one frame")


def usable(utterances: Sequence[Utterance], config: Config, recognizer: Recognizer) -> tuple[LabelledSet, list[str]]:
    """The utterances that can be trained on, with labels, and why the others are left out; see `leave_out`."""
    reasons: dict[str, str] = {}
    labelled = label(utterances, recognizer.tokenizer, vocabulary=config.data.vocabulary, wordless=reasons)
    reasons |= unusable(labelled, config, recognizer)
    return leave_out(labelled, reasons, config), list(reasons.values())


def heard_in_training(dev: Sequence[Utterance], train: Iterable[Utterance]) -> list[str]:
    """Ids of the dev utterances that share 50 ms of audio or more with an utterance that is trained on.

    Audio is the same where the file is, by whatever path or link, and the channel, or where one names no channel.
    """
    folder = cache(os.path.realpath)  # to look up every part of every path would take long

    @cache
    def file_of(path: Path) -> str:
        place = os.path.join(folder(path.parent), path.name)
        return os.path.realpath(place) if os.path.islink(place) else place

    trained: defaultdict[str, list[Utterance]] = defaultdict(list)
    for item in train:
        if item.duration >= _SHARED_S:
            trained[file_of(item.audio_filepath)].append(item)

    @cache
    def spans(file: str, channel: int | None) -> tuple[list[float], list[float]]:
        """The starts of what is trained on, in order, and up to each the latest end."""
        parts = [item for item in trained[file] if channel == item.channel or None in (channel, item.channel)]
        parts.sort(key=lambda item: item.offset)
        return [item.offset for item in parts], list(accumulate((item.offset + item.duration for item in parts), max))

    def heard(item: Utterance) -> bool:
        starts, ends = spans(file_of(item.audio_filepath), item.channel)
        before = bisect_right(starts, item.offset + item.duration - _SHARED_S)
        return before > 0 and item.duration >= _SHARED_S and ends[before - 1] >= item.offset + _SHARED_S

    return [item.id for item in dev if heard(item)]


def listed(reasons: Sequence[object], shown: int) -> str:
    """The first `shown` reasons in one text, and how many more there are."""
    more = [f"and {len(reasons) - shown} more"] if len(reasons) > shown else []
    return "; ".join([*map(str, reasons[:shown]), *more])


def leave_out(labelled: LabelledSet, reasons: dict[str, str], config: Config) -> LabelledSet:
    """The set without its unusable utterances.

    Raises:
        TrainingError: there are some and `train.skip_unusable` is off, or nothing is left.
    """
    if not reasons:
        return labelled
    shown = listed(list(reasons.values()), _SHOWN)
    kept = [place for place, utterance in enumerate(labelled.utterances) if utterance.id not in reasons]
    short = config.encoder.subsampling > 1 and any("output frames" in reason for reason in reasons.values())
    finer = "; a smaller encoder.subsampling gives them more frames" if short else ""
    if not config.train.skip_unusable:
        raise TrainingError(
            f"{len(reasons)} of {len(reasons) + len(kept)} training utterances cannot be used "
            f"(train.skip_unusable=true leaves them out{finer}): {shown}"
        )
    if not kept:
        raise TrainingError(f"no training utterance can be used: {shown}")
    return LabelledSet(
        [labelled.utterances[place] for place in kept],
        [labelled.labels[place] for place in kept],
        [labelled.unknown[place] for place in kept],
    )
