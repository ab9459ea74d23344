"""The decoder that a configuration asks for."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from asr.config import DECODE_LIMITS, DecodeConfig
from asr.decode import Hypothesis
from asr.decode.greedy import GreedyStream, best_paths
from asr.decode.inputs import check_labels
from asr.decoder_files import Resources
from asr.emissions import Vocabulary
from asr.errors import DecodeError

if TYPE_CHECKING:
    from asr.decode import BeamDecoder, Stream


class Decoder:
    """Log-probabilities to hypotheses, as a configuration says.

    Args:
        config: its paths must be absolute, or relative to the working directory.
        vocabulary: what the columns of log-probabilities mean.
        resources: what was read already; None reads the files that `config` names.

    Raises:
        DecodeError: a file cannot be read, or does not fit the labels.
    """

    def __init__(self, config: DecodeConfig, vocabulary: Vocabulary, resources: Resources | None = None) -> None:
        _, blank = check_labels(vocabulary.labels, vocabulary.blank)
        self.config = config
        self.vocabulary = replace(vocabulary, blank=blank)
        self._resources = resources
        if config.decoder == "beam":
            _ = self._beam  # so that errors come now and not after the first batch

    @cached_property
    def resources(self) -> Resources:
        """What the beam reads from files."""
        return self._resources or Resources.load(self.config, self.vocabulary)

    def with_weights(self, alpha: float, beta: float) -> "Decoder":
        """The same beam with other weights; the files are not read again."""
        return Decoder(replace(self.config, alpha=alpha, beta=beta), self.vocabulary, self.resources)

    def __call__(
        self, log_probs: Any, lengths: Any = None, *, names: Sequence[str] | None = None, n_best: int = 1
    ) -> list[list[Hypothesis]]:
        """Decode a batch.

        Args:
            log_probs: (B, T, V) natural-log probabilities, or a list of (T, V), on the CPU.
            lengths: (B,) valid frames; None: all.
            names: B names for messages; None: numbers.
            n_best: hypotheses for each utterance; greedy has one.

        Returns:
            For each utterance at least one hypothesis, best first.

        Raises:
            DecodeError: as `BeamDecoder` and `greedy`; the message names the utterance.
        """
        try:
            return self._decode(log_probs, lengths, n_best)
        except DecodeError:
            if names is None:
                raise
        found = []
        for item in self._one_by_one(log_probs, lengths, names, n_best):
            if isinstance(item, DecodeError):
                raise item
            found.append(item)
        return found

    def attempt(
        self, log_probs: Any, lengths: Any, *, names: Sequence[str], n_best: int = 1
    ) -> list[list[Hypothesis] | DecodeError]:
        """Decode a batch as by calling, but give an error in place of each utterance that cannot be decoded."""
        try:
            return list(self._decode(log_probs, lengths, n_best))
        except DecodeError:
            return list(self._one_by_one(log_probs, lengths, names, n_best))

    def stream(self, where: str = "stream") -> "Stream | GreedyStream":
        """A decoder for one utterance whose frames arrive in pieces; `where` is what messages call it."""
        if self.config.decoder == "beam":
            from asr.decode import Stream

            return Stream(self._beam, where=where)
        return GreedyStream(self.vocabulary.reading, self.vocabulary.blank, where=where)

    def _one_by_one(
        self, log_probs: Any, lengths: Any, names: Sequence[str], n_best: int
    ) -> Iterator[list[Hypothesis] | DecodeError]:
        for place, name in enumerate(names):
            try:
                only = None if lengths is None else lengths[place : place + 1]
                yield self._decode(log_probs[place : place + 1], only, n_best)[0]
            except DecodeError as error:
                yield DecodeError(str(error).replace("utterance 0", f"utterance {name}", 1))

    def _decode(self, log_probs: Any, lengths: Any, n_best: int) -> list[list[Hypothesis]]:
        if self.config.decoder == "beam":
            return self._beam(log_probs, lengths, n_best)
        found = best_paths(log_probs, lengths, self.vocabulary.reading, self.vocabulary.blank)
        return [[hypothesis] for hypothesis in found]

    @cached_property
    def _beam(self) -> "BeamDecoder":
        from asr.decode import BeamDecoder  # imports numba, which greedy decoding does without

        config, vocabulary, resources = self.config, self.vocabulary, self.resources
        try:
            return BeamDecoder(
                vocabulary.labels,
                blank=vocabulary.blank,
                space=vocabulary.space,
                lm=resources.lm,
                lm_unit=config.lm_unit,
                lexicon=vocabulary.lexicon if resources.lexicon is None else resources.lexicon,
                hotwords=resources.hotwords,
                log_priors=resources.priors,
                frame_s=vocabulary.frame_s,
                **{name: getattr(config, name) for name in DECODE_LIMITS},
            )
        except DecodeError as error:
            if config.lm and "language model" in str(error):
                raise DecodeError(f"{config.lm}: {error}") from error
            raise

    def __str__(self) -> str:
        """One line for logs."""
        return describe(self.config)


def describe(config: DecodeConfig) -> str:
    """The decoder of a configuration on one line: `greedy` or `beam of 100, language model FILE (alpha ...)`."""
    if config.decoder == "greedy":
        return "greedy"
    parts = [f"beam of {config.beam_size}"]
    if config.lm:
        parts.append(f"language model {config.lm} (alpha {config.alpha:g}, beta {config.beta:g})")
    parts += [f"{key} {getattr(config, key)}" for key in ("lexicon", "hotwords") if getattr(config, key)]
    parts += [f"priors {config.priors} (weight {config.prior_weight:g})"] if config.priors else []
    return ", ".join(parts)
