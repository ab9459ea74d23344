"""Configuration: one frozen dataclass per section, filled from YAML and `key=value` overrides.

Every key is used, or is an error that suggests the right one. The comment beside a field is its documentation;
`asr config` prints the result.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from asr.characters import composed, no_mark
from asr.errors import ConfigError
from asr.files import is_url
from asr.lengths import ms_to_samples
from asr.overrides import filled, flatten

NO_DEV = "none"  # value of `data.dev`: train without a dev set
TELEPHONE_HZ = 8000  # sample rate of telephone audio
_BOUNDLESS = ("audio.max_duration_s", "decode.token_threshold", "decode.beam_threshold")  # infinity switches these off
DECODE_PATHS = ("lm", "lexicon", "hotwords", "priors")  # keys of `decode` that name files
# What a setting of the beam must be, in words, and its least and largest value.
DECODE_LIMITS: Mapping[str, tuple[str, float, float]] = {
    "alpha": ("in 0..10", 0, 10),
    "beta": ("in -100..100", -100, 100),
    "unknown_offset": ("in -1000..10", -1000, 10),
    "unknown_per_character": ("in -20..0", -20, 0),
    "beam_size": ("in 1..100000", 1, 100_000),
    "token_threshold": ("at most 0", -math.inf, 0),
    "beam_threshold": ("below 0", -math.inf, -math.ulp(0.0)),
    "prior_weight": ("in 0..1", 0, 1),
}


def _require(condition: bool, key: str, wanted: str, found: object) -> None:
    if not condition:
        raise ConfigError(f"{key} must be {wanted}, found {found!r}")


def _require_choices(section: Any, name: str) -> None:
    """Check the fields that take one of a few values; OmegaConf does so only for what YAML and overrides give."""
    for item in fields(section):
        if get_origin(item.type) is Literal:
            *others, last = map(str, get_args(item.type))
            found = getattr(section, item.name)
            _require(found in get_args(item.type), f"{name}.{item.name}", f"{', '.join(others)} or {last}", found)


@dataclass(frozen=True)
class DataConfig:
    """Where the manifests are."""

    train: str = ""  # manifest, or index of shards, to train on
    dev: str = ""  # manifest that the best checkpoint is chosen on; none: no dev set, the last checkpoint is kept
    # Manifest whose texts the labels are made from, or run folder whose labels are reused; empty: the texts of `train`.
    vocabulary: str = ""


@dataclass(frozen=True)
class AudioConfig:
    """How a file becomes a waveform."""

    sample_rate_hz: int = 16000  # every file is resampled to this rate
    channels: Literal["auto", "first", "mean"] = "auto"  # auto: one as it is, the mean of two; more is an error
    max_duration_s: float = 3600.0  # longer segments are an error, found in the header before memory is taken

    def __post_init__(self) -> None:
        _require_choices(self, "audio")
        _require(1000 <= self.sample_rate_hz <= 192000, "audio.sample_rate_hz", "1000..192000", self.sample_rate_hz)
        _require(self.max_duration_s > 0, "audio.max_duration_s", "positive", self.max_duration_s)


@dataclass(frozen=True)
class FeatureConfig:
    """Log-mel filterbank."""

    mel_bins: int = 80
    window_ms: float = 25.0  # Hann window, centred in a frame of the next power of two of samples
    hop_ms: float = 10.0
    low_hz: float = 20.0
    high_hz: float = 0.0  # 0: half the sample rate
    # How each mel bin is normalised. global: by mean and deviation of the training set. map: by that deviation, and a
    # mean between the training set's and the utterance's. utterance: by the utterance's own. none: not at all.
    normalization: Literal["global", "map", "utterance", "none"] = "map"
    prior_s: float = 1.0  # map: the training set's mean counts as much as this many seconds of the utterance

    def __post_init__(self) -> None:
        _require_choices(self, "features")
        _require(8 <= self.mel_bins <= 1024, "features.mel_bins", "in 8..1024", self.mel_bins)
        _require(self.window_ms <= 1000, "features.window_ms", "at most 1000", self.window_ms)
        _require(0 < self.hop_ms <= self.window_ms, "features.hop_ms", "in (0, window_ms]", self.hop_ms)
        _require(self.low_hz >= 0, "features.low_hz", "at least 0", self.low_hz)
        _require(0 < self.prior_s <= 3600, "features.prior_s", "in (0, 3600]", self.prior_s)


@dataclass(frozen=True)
class TextConfig:
    """Normalisation and tokenizer; see asr/text.py for what each does."""

    case: Literal["lower", "upper", "keep"] = "lower"
    punctuation: Literal["strip", "keep"] = "strip"
    letters: str = ""  # punctuation and symbols that punctuation=strip keeps, as ' and : where they write sounds
    unit: Literal["char", "bpe", "phone"] = "char"
    bpe_size: int = 128  # vocabulary size for unit=bpe, blank included
    # For unit=phone: file with lines of word TAB phones separated by spaces; a word's first pronunciation is learned.
    lexicon: str = ""
    allow_oov: bool = False  # true: unknown symbols are dropped from the labels, counted and listed

    def __post_init__(self) -> None:
        _require_choices(self, "text")
        _require(4 <= self.bpe_size <= 1_000_000, "text.bpe_size", "in 4..1000000", self.bpe_size)
        _require(not self.lexicon or self.unit == "phone", "text.unit", "phone where text.lexicon is given", self.unit)
        if self.letters:
            _require(self.punctuation == "strip", "text.letters", "empty where text.punctuation=keep", self.letters)
            if wrong := no_mark(self.letters):
                raise ConfigError(
                    "text.letters must be punctuation and symbols that Unicode NFKC leaves such "
                    f"(letters stay anyway), found {wrong!r} in {self.letters!r}"
                )
            # One form for the same letters, so that configurations compare equal.
            object.__setattr__(self, "letters", "".join(sorted(set(composed(self.letters)))))


@dataclass(frozen=True)
class AugmentConfig:
    """Training-only transforms; zero or an empty list switches one off."""

    speeds: tuple[float, ...] = (0.9, 0.95, 1.0, 1.05, 1.1)  # speed factors, one drawn per utterance; in whole per cent
    crop_share: float = 0.0  # up to this share is cut off at each end, uniform: for words trimmed more or less tightly
    gain_db: float = 20.0  # uniform in -gain_db..gain_db; no effect with features.normalization=utterance
    noise_probability: float = 0.3  # chance that noise is added to an utterance
    noise_snr_db: tuple[float, float] = (10.0, 30.0)  # uniform range of the signal-to-noise ratio
    noise_dir: str = ""  # folder of recordings; empty: synthetic noise of a random spectral slope
    reverb_probability: float = 0.0  # chance that an utterance is heard in a synthetic room (Ko et al. 2017)
    reverb_s: tuple[float, float] = (0.1, 0.6)  # uniform range of the reverberation time, in which echoes fall by 60 dB
    telephone_probability: float = 0.0  # chance that most above 4 kHz is removed; needs audio.sample_rate_hz above 8000
    filter_db: float = 0.0  # other microphones: random response in -filter_db..filter_db (Nam et al. 2022)
    warp: float = 0.1  # vocal-tract warp: frequencies are divided by a factor uniform in 1-warp..1+warp
    freq_masks: int = 2  # SpecAugment (Park et al. 2019), without its time warp
    freq_mask_bins: int = 15  # widest frequency mask
    time_masks: int = 2
    time_mask_frames: int = 25  # widest time mask
    time_mask_share: float = 0.2  # a mask is never wider than this share of the utterance

    def __post_init__(self) -> None:
        _require(all(0.5 <= s <= 2 for s in self.speeds), "augment.speeds", "factors in 0.5..2", list(self.speeds))
        whole = all(abs(100 * s - round(100 * s)) < 1e-6 for s in self.speeds)
        _require(whole, "augment.speeds", "whole per cents, as 0.95", list(self.speeds))
        low, high = self.noise_snr_db
        _require(-100 <= low <= high <= 200, "augment.noise_snr_db", "[low, high] in -100..200", [low, high])
        short, long = self.reverb_s
        _require(0.01 <= short <= long <= 5, "augment.reverb_s", "[low, high] in 0.01..5", [short, long])
        _require(0 <= self.filter_db <= 40, "augment.filter_db", "in 0..40", self.filter_db)
        _require(0 <= self.crop_share < 0.5, "augment.crop_share", "at least 0 and below 0.5", self.crop_share)
        _require(0 <= self.gain_db <= 60, "augment.gain_db", "in 0..60", self.gain_db)
        _require(0 <= self.warp <= 0.5, "augment.warp", "in 0..0.5", self.warp)
        for key in ("noise_probability", "reverb_probability", "telephone_probability", "time_mask_share"):
            _require(0 <= getattr(self, key) <= 1, f"augment.{key}", "in 0..1", getattr(self, key))
        for key in ("freq_masks", "freq_mask_bins", "time_masks", "time_mask_frames"):
            _require(0 <= getattr(self, key) <= 1000, f"augment.{key}", "in 0..1000", getattr(self, key))


@dataclass(frozen=True)
class EncoderConfig:
    """Convolutional subsampling and the stacked recurrent layers."""

    subsampling: Literal[1, 2, 4, 8] = 4  # feature frames per output frame
    conv_channels: int = 32
    cell: Literal["lstm", "gru", "rnn"] = "lstm"  # rnn: tanh
    bidirectional: bool = True
    layers: int = 3
    width: int = 256  # units per direction
    projection: int = 0  # 0: none; otherwise a linear layer to this width after each recurrent layer
    layer_norm: bool = True  # after each recurrent layer
    dropout: float = 0.2  # before each recurrent layer and the output layer
    locked_dropout: bool = False  # one mask for all frames of an utterance (Gal & Ghahramani 2016)
    weight_dropout: float = 0.0  # of recurrent weights, one mask for a batch (Wan et al. 2013; Merity et al. 2018)
    # Training only: states begin anew about every so many output frames (soft forgetting, Audhkhasi et al. 2019).
    chunk_frames: int = 0  # 0: never
    forget_bias: float = 1.0  # initial bias of the LSTM's forget gate (Gers et al. 2000; Jozefowicz et al. 2015)

    def __post_init__(self) -> None:
        _require_choices(self, "encoder")
        for key in ("conv_channels", "layers", "width"):
            _require(1 <= getattr(self, key) <= 16384, f"encoder.{key}", "in 1..16384", getattr(self, key))
        _require(0 <= self.projection <= 16384, "encoder.projection", "in 0..16384", self.projection)
        for key in ("dropout", "weight_dropout"):
            _require(0 <= getattr(self, key) <= 0.99, f"encoder.{key}", "in 0..0.99", getattr(self, key))
        _require(0 <= self.chunk_frames <= 16384, "encoder.chunk_frames", "in 0..16384", self.chunk_frames)
        _require(-100 <= self.forget_bias <= 100, "encoder.forget_bias", "in -100..100", self.forget_bias)


@dataclass(frozen=True)
class TrainConfig:
    """Loss, optimiser, schedule and batches."""

    epochs: int = 60
    seed: int = 1
    batch_s: float = 24.0  # seconds of audio in a batch, padding included, after speed perturbation
    max_utterance_s: float = 30.0  # longer training utterances are listed and stop the run, unless skip_unusable
    skip_unusable: bool = False  # true: leave out training utterances too long or infeasible for CTC, listed by id
    loss_per: Literal["utterance", "label"] = "utterance"  # what a batch's CTC loss is averaged over
    # Weight of CTC on the middle layer (Lee & Watanabe 2021), the last gets the rest; no effect with encoder.layers=1.
    intermediate_ctc: float = 0.3
    label_smoothing: float = 0.0  # weight of each frame's divergence from equal probabilities (Kim et al. 2018)
    consistency: float = 0.0  # weight of the divergence between two views of an utterance (CR-CTC, Yao et al. 2024)
    init_from: str = ""  # run folder whose weights training starts from; labels may differ (asr/training/finetune.py)
    learning_rate: float = 1e-3  # peak
    # Steps of linear warm-up, at most a tenth of all; then a cosine that would reach final_rate_share of the peak one
    # step after the last.
    warmup_steps: int = 300
    final_rate_share: float = 0.01
    weight_decay: float = 0.01
    grad_clip: float = 5.0  # largest global gradient norm
    ema_decay: float = 0.998  # exponential moving average of the weights, used for dev and for the result; 0: off
    max_bad_steps: int = 10  # this many steps in a row with a non-finite loss or gradient stop the run
    device: Literal["auto", "cpu", "cuda"] = "auto"
    # auto: bfloat16 on CUDA devices that have it, with float16 in recurrent layers; float32 elsewhere
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    deterministic: bool = False  # on CUDA: slower kernels that make resuming exact there too
    workers: int = -1  # loading processes; 0: in the training process; -1: chosen by device
    threads: int = 0  # CPU threads of the process; 0: its share of the cores
    dev_every: int = 1  # epochs between evaluations on dev
    checkpoint_minutes: float = 10.0  # save inside an epoch too, whenever this much time has passed
    keep_states: int = 2  # how many states are kept to resume from; if the newest is damaged, the one before serves

    def __post_init__(self) -> None:
        _require_choices(self, "train")
        for key in ("epochs", "dev_every", "max_bad_steps", "keep_states"):
            _require(getattr(self, key) >= 1, f"train.{key}", "at least 1", getattr(self, key))
        for key in ("batch_s", "max_utterance_s", "learning_rate", "grad_clip", "checkpoint_minutes"):
            _require(0 < getattr(self, key) < math.inf, f"train.{key}", "positive", getattr(self, key))
        for key in ("intermediate_ctc", "label_smoothing", "ema_decay"):
            _require(0 <= getattr(self, key) < 1, f"train.{key}", "at least 0 and below 1", getattr(self, key))
        _require(0 <= self.consistency <= 10, "train.consistency", "in 0..10", self.consistency)
        _require(self.warmup_steps >= 0, "train.warmup_steps", "at least 0", self.warmup_steps)
        _require(self.weight_decay >= 0, "train.weight_decay", "at least 0", self.weight_decay)
        _require(0 <= self.final_rate_share <= 1, "train.final_rate_share", "in 0..1", self.final_rate_share)
        _require(self.workers >= -1, "train.workers", "at least -1", self.workers)
        _require(0 <= self.threads <= 1024, "train.threads", "in 0..1024", self.threads)
        _require(0 <= self.seed < 2**63, "train.seed", "in 0..2^63-1", self.seed)


@dataclass(frozen=True)
class DecodeConfig:
    """From log-probabilities to text; evaluation on dev during training is always greedy.

    In a run folder, relative paths are relative to that folder. All but `decoder` is for the beam; see `BeamDecoder`,
    which has the same defaults and limits.
    """

    decoder: Literal["greedy", "beam"] = "greedy"
    lm: str = ""  # n-gram model: an ARPA file, or one made by `asr lm compile`
    lm_unit: Literal["auto", "word", "token"] = "auto"  # unit of the model; auto: token if it has the labels
    alpha: float = 0.5  # weight of the language model's natural-log probability
    beta: float = 1.5  # natural log, added for each word (for each label, if the model is of labels)
    unknown_offset: float = -5.0  # natural log, added to the probability of a word that the model does not know
    unknown_per_character: float = -1.0  # natural log, added for each character of such a word
    beam_size: int = 100  # prefixes kept
    token_threshold: float = -7.0  # natural log; labels less likely than this in a frame cannot begin there
    beam_threshold: float = -10.0  # natural log; prefixes this much worse than the best are dropped
    lexicon: str = ""  # file of the only words allowed, one a line, or word TAB labels separated by spaces
    hotwords: str = ""  # file of phrases that get a bonus, one a line, or phrase TAB natural-log weight
    priors: str = ""  # file of prior probabilities of labels, to be discounted: label TAB natural-log probability
    prior_weight: float = 0.3  # how strongly they are discounted

    def __post_init__(self) -> None:
        _require_choices(self, "decode")
        for key, (wanted, least, largest) in DECODE_LIMITS.items():
            _require(least <= getattr(self, key) <= largest, f"decode.{key}", wanted, getattr(self, key))


@dataclass(frozen=True)
class Config:
    """Everything that decides a run."""

    data: DataConfig = field(default_factory=DataConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    text: TextConfig = field(default_factory=TextConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        for key, value in flatten(self).items():
            bounded = key not in _BOUNDLESS and isinstance(value, float)
            _require(not bounded or math.isfinite(value), key, "a finite number", value)
        if self.augment.telephone_probability and self.audio.sample_rate_hz <= TELEPHONE_HZ:
            raise ConfigError(
                "augment.telephone_probability needs audio.sample_rate_hz above "
                f"{TELEPHONE_HZ}, found {self.audio.sample_rate_hz}: at that rate all audio is like telephone audio"
            )
        nyquist = self.audio.sample_rate_hz / 2
        high = self.features.high_hz or nyquist
        if self.features.normalization == "none" and (self.augment.freq_masks or self.augment.time_masks):
            raise ConfigError(
                "augment.freq_masks and augment.time_masks must be 0 with features.normalization=none: "
                "masks write zero, which is the mean of normalised features only"
            )
        _require(self.features.low_hz < high <= nyquist, "features.high_hz", f"above low_hz, at most {nyquist:g}", high)
        for key in ("window_ms", "hop_ms"):
            try:
                ms_to_samples(getattr(self.features, key), self.audio.sample_rate_hz)
            except (ValueError, OverflowError) as error:
                raise ConfigError(f"features.{key}: {error}") from error


def load(path: Path | str | None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file (None: all defaults) and put `key=value` overrides on top; ConfigError as `filled`."""
    return filled(Config, path, overrides)


def with_absolute_paths(config: Config) -> Config:
    """The configuration with its paths made absolute, so that a run can be resumed from any folder; URLs are kept.

    Raises:
        ConfigError: a path is not UTF-8, perhaps that of the working directory.
    """
    given = vars(config.data).items()
    no_path = ("", NO_DEV)
    data = DataConfig(
        **{key: path if path in no_path or is_url(path) else str(Path(path).absolute()) for key, path in given}
    )
    noise_dir = config.augment.noise_dir and str(Path(config.augment.noise_dir).absolute())
    lexicon = config.text.lexicon and str(Path(config.text.lexicon).absolute())
    decode = resolve_decode(config.decode, Path.cwd())
    init_from = config.train.init_from and str(Path(config.train.init_from).absolute())
    made = replace(
        config,
        data=data,
        text=replace(config.text, lexicon=lexicon),
        augment=replace(config.augment, noise_dir=noise_dir),
        train=replace(config.train, init_from=init_from),
        decode=decode,
    )
    for key, value in flatten(made).items():
        require_utf8(key, str(value))
    return made


def require_utf8(key: str, name: str) -> None:
    """ConfigError where a file's name is not UTF-8: neither a configuration nor a log could hold it."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{key} must be a name in UTF-8, found {name!r}") from error


def asked_decode(
    given: Mapping[str, Any], *needs_beam: str, spelled: Callable[[str], str] = lambda name: name
) -> dict[str, Any]:
    """The decoder settings that replace a run's own; one that only the beam has selects the beam.

    Args:
        given: values of `DecodeConfig`; relative paths are relative to the working directory.
        needs_beam: names of anything else asked for that only a beam can do.
        spelled: how a name is spelled where the user gave it.

    Raises:
        ConfigError: greedy decoding is asked for, together with something that only the beam has.
    """
    asked = {
        name: str(Path(value).absolute()) if name in DECODE_PATHS and value else value for name, value in given.items()
    }
    of_beam = [*(spelled(name) for name in given if name != "decoder"), *needs_beam]
    if of_beam and asked.setdefault("decoder", "beam") == "greedy":
        raise ConfigError(f"{of_beam[0]} needs {spelled('decoder')} beam, found {spelled('decoder')} greedy")
    return asked


def without_paths(config: Config) -> Config:
    """The configuration without the paths that only training or a decoder read: nobody else has these files."""
    return replace(
        config,
        data=DataConfig(),
        text=replace(config.text, lexicon=""),
        augment=replace(config.augment, noise_dir=""),
        train=replace(config.train, init_from=""),
        decode=replace(config.decode, lm="", lexicon="", hotwords="", priors=""),
    )


def resolve_decode(decode: DecodeConfig, folder: Path) -> DecodeConfig:
    """The section with its paths made absolute; relative ones are relative to `folder`."""
    given = {key: getattr(decode, key) for key in DECODE_PATHS}
    paths: dict[str, Any] = {key: path and str((folder / path).absolute()) for key, path in given.items()}
    return replace(decode, **paths)


def to_yaml(config: Config) -> str:
    """The configuration as YAML that `load` reads back to an equal Config."""
    from omegaconf import OmegaConf

    return str(OmegaConf.to_yaml(OmegaConf.structured(config)))
