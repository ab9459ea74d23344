"""The recogniser as one object: waveforms in, log-probabilities and text out."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asr import audio
from asr.augment import FeatureAugment
from asr.boundaries import Levels
from asr.config import Config
from asr.decode import Hypothesis
from asr.decoding import Decoder
from asr.emissions import Vocabulary
from asr.encoder import Encoder
from asr.errors import ConfigError
from asr.features import LogMel, Normalizer, require_frame
from asr.manifest import Utterance
from asr.text import BLANK, Tokenizer


class Recognizer(nn.Module):
    """Features, normalisation and encoder with the tokenizer and configuration they belong to."""

    def __init__(self, config: Config, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.log_mel = LogMel(config.features, config.audio.sample_rate_hz)
        self.normalizer = Normalizer(config.features)
        self.encoder = Encoder(config.encoder, config.features.mel_bins, len(tokenizer))

    def output_lengths(self, wave_lens: Tensor) -> Tensor:
        """(B,) int64 frames of log-probabilities for (B,) int64 samples."""
        return self.encoder.output_lengths(self.log_mel.lengths(wave_lens))

    @property
    def frame_s(self) -> float:
        """Seconds from one frame of log-probabilities to the next."""
        return self.log_mel.hop_samples * self.config.encoder.subsampling / self.config.audio.sample_rate_hz

    def forward(self, waves: Tensor, wave_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode waveforms.

        Args:
            waves: (B, S) float32 samples at the configured rate, right-padded.
            wave_lens: (B,) int64 on the CPU, valid samples.

        Returns:
            log_probs: (B, T', V) float32, normalised over V.
            log_prob_lens: (B,) int64 on the CPU.

        Raises:
            AudioError: a waveform is shorter than one frame.
        """
        encoded: tuple[Tensor, Tensor] = self.encoder(*self.features(waves, wave_lens))
        return encoded

    def features(
        self, waves: Tensor, wave_lens: Tensor, augment: tuple[FeatureAugment, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the encoder reads.

        Args:
            waves, wave_lens: as in `forward`.
            augment: feature augmentation and its (B, D) draws; training only.

        Returns:
            feats: (B, T, F) float32, normalised log-mel energy.
            feat_lens: (B,) int64 on the CPU.

        Raises:
            AudioError: a waveform is shorter than one frame.
        """
        feats, feat_lens = self.log_mel(waves, wave_lens)
        if augment is None:
            return self.normalizer(feats, feat_lens), feat_lens
        transform, draws = augment
        feats = transform.filter(transform.warp(feats, draws), feat_lens, draws)
        feats = self.normalizer(feats, feat_lens)
        return transform.mask(feats, feat_lens, draws), feat_lens

    def levels(self, values: NDArray[np.float64]) -> Levels:
        """(T,) levels of feature frames (`asr.pauses.levels_of`) with the times of these frames."""
        log_mel, rate_hz = self.log_mel, self.config.audio.sample_rate_hz
        return Levels(values, log_mel.hop_samples / rate_hz, log_mel.fft_samples / rate_hz)

    def load(self, utterance: Utterance) -> Tensor:
        """The (S,) float32 waveform of a manifest record.

        Raises:
            AudioError: it cannot be read or is shorter than one frame; the message names utterance and file.
        """
        wave = audio.load_utterance(utterance, self.config.audio)
        require_frame(f"utterance {utterance.id}: {utterance.audio_filepath}", len(wave), self.log_mel.fft_samples)
        return wave

    def decode(self, log_probs: Tensor, lens: Tensor) -> list[Hypothesis]:
        """The best transcripts of (B, T', V) log-probabilities, by the configured decoder."""
        return [found[0] for found in self.decoder(log_probs.detach().cpu().numpy(), lens)]

    @cached_property
    def decoder(self) -> Decoder:
        """The decoder that `config.decode` asks for, made once; DecodeError if its files cannot be used."""
        return Decoder(self.config.decode, self.vocabulary)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What the columns of the log-probabilities mean; made once, and so is its table of pronunciations."""
        tokenizer = self.tokenizer
        return Vocabulary(tuple(tokenizer.tokens), BLANK, tokenizer.units.space, self.frame_s, tokenizer.lexicon)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.output.weight.device


def parameters_of(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def pick_device(name: str | torch.device) -> torch.device:
    """The device for a configuration's `auto | cpu | cuda`, or any of torch's; ConfigError when there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device must be auto, cpu, cuda, or one of several as cuda:1, found {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda was asked for, but no CUDA device is available; auto uses what is available")
    if device.type == "cuda" and (device.index or 0) >= (found := torch.cuda.device_count()):
        raise ConfigError(f"device {device} was asked for, but there are {found} CUDA devices, numbered from 0")
    return device


def pad_waves(waves: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Right-pad waveforms to (B, S) and return it with their (B,) int64 lengths."""
    lens = torch.tensor([len(wave) for wave in waves])
    return nn.utils.rnn.pad_sequence(list(waves), batch_first=True), lens
