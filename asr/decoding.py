"""The decoder that a configuration asks for, and the files that it names."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from asr import priors
from asr.config import DECODE_LIMITS, DecodeConfig
from asr.decode import Hypothesis, Word
from asr.decode.greedy import GreedyStream, best_paths
from asr.decode.hypothesis import Reading
from asr.decode.inputs import check_labels
from asr.emissions import Vocabulary
from asr.errors import DecodeError
from asr.lexicon import add, entries
from asr.lines import numbered_lines
from asr.text import composed

if TYPE_CHECKING:
    from asr.decode import BeamDecoder, NGram, Stream

DEFAULT_HOTWORD_WEIGHT = 5.0  # natural log: a phrase becomes e^5 = 150 times as likely


@dataclass(frozen=True)
class Resources:
    """What a beam reads from files; None for files that the configuration does not name."""

    lm: "NGram | None" = None
    lexicon: list[str] | dict[str, list[list[str]]] | None = None
    hotwords: dict[str, float] | None = None
    priors: NDArray[np.float64] | None = None

    @classmethod
    def load(cls, config: DecodeConfig, vocabulary: Vocabulary, lm: "NGram | None" = None) -> "Resources":
        """Read the files of a configuration; `lm` is its language model, if that was read already.

        Raises:
            DecodeError: a file cannot be read or a line is wrong; the message names file and line.
        """
        from asr.decode import NGram

        lexicon = read_lexicon(Path(config.lexicon), vocabulary) if config.lexicon else None
        allowed = vocabulary.lexicon if lexicon is None else frozenset(lexicon)
        return cls(
            lm=lm or (NGram.load(config.lm) if config.lm else None),
            lexicon=lexicon,
            hotwords=read_hotwords(Path(config.hotwords), vocabulary, allowed) if config.hotwords else None,
            priors=priors.read(Path(config.priors), vocabulary.labels) if config.priors else None,
        )


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
        self.config = config
        self.vocabulary = vocabulary
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
        return GreedyStream(self._reading, self.vocabulary.blank, where=where)

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
        found = best_paths(log_probs, lengths, self._reading, self.vocabulary.blank)
        return [[hypothesis] for hypothesis in found]

    @cached_property
    def _reading(self) -> Reading:
        check_labels(self.vocabulary.labels, self.vocabulary.blank)
        return self.vocabulary.reading

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


def read_lexicon(path: Path, vocabulary: Vocabulary) -> list[str] | dict[str, list[list[str]]]:
    """Read the words of a lexicon: one a line, spelled by its characters; or word TAB labels separated by spaces.

    Several lines for one word are several spellings. Blank lines are skipped. If labels are phones, words without a
    spelling have the pronunciations that the vocabulary knows. Such words may be written in any Unicode form.

    Raises:
        DecodeError: the file cannot be read or holds no word, the two forms are mixed, a word holds a space or has no
            pronunciation, or a spelling holds something that is not a label. The message names file and line.
    """
    characters, labels = _characters(vocabulary), set(vocabulary.labels)
    words: dict[str, list[list[str]]] = {}
    spelled = vocabulary.lexicon is not None
    as_written = _form_of(vocabulary.lexicon or characters)
    for entry in entries(path, DecodeError):
        if entry.labels is None:
            entry = replace(entry, word=as_written(entry.word))
        if vocabulary.lexicon is not None and entry.labels is None:
            if entry.word not in vocabulary.lexicon:
                raise DecodeError(
                    f"{entry.where}: word {entry.word!r} has no pronunciation in the model: give one after a TAB"
                )
            words[entry.word] = [list(spelling) for spelling in vocabulary.lexicon[entry.word]]
            continue
        spelled = entry.labels is not None
        pieces, known = (list(entry.word), characters) if entry.labels is None else (entry.labels, labels)
        unknown = next((piece for piece in pieces if piece not in known), None)
        if spelled and unknown is not None:
            raise DecodeError(f"{entry.where}: word {entry.word!r} is spelled with {unknown!r}, which is no label")
        if unknown is not None:
            hint = _other_case(entry.word, characters)
            raise DecodeError(f"{entry.where}: word {entry.word!r} holds {unknown!r}, which no label writes{hint}")
        add(words, entry.word, pieces)
    return words if spelled else list(words)


def read_hotwords(path: Path, vocabulary: Vocabulary, allowed: Collection[str] | None = None) -> dict[str, float]:
    """Phrase -> natural-log weight, from lines `phrase` or `phrase TAB weight`; the default is 5.

    Phrases may be written in any Unicode form.

    Args:
        path: a file.
        vocabulary: what labels write.
        allowed: the words that the beam may find; None: any.

    Raises:
        DecodeError: the file cannot be read or holds no phrase, a weight is not a finite number, a phrase occurs twice,
            or has a character that no label writes (another case?) or a word that is not allowed. The message names
            file and line.
    """
    characters = _characters(vocabulary)
    as_written = _form_of(characters if allowed is None else allowed)
    found: dict[str, float] = {}
    for place, line in numbered_lines(path, "hotwords", DecodeError):
        where = f"{path}:{place}"
        text, tab, number = line.partition("\t")
        phrase = " ".join(as_written(text).split())
        if not phrase:
            raise DecodeError(f"{where}: wanted phrase TAB weight, found {line!r}")
        no_tab = _missing_tab(phrase) if not tab else ""
        if allowed is not None:
            lacking = next((word for word in phrase.split() if word not in allowed), None)
            if lacking is not None:
                raise DecodeError(f"{where}: phrase {phrase!r}: the lexicon has no word {lacking!r}{no_tab}")
        elif not characters.issuperset(phrase.replace(" ", "")):
            unknown = next(character for character in phrase.replace(" ", "") if character not in characters)
            hint = no_tab or _other_case(phrase, characters)
            raise DecodeError(f"{where}: phrase {phrase!r} holds {unknown!r}, which no label writes{hint}")
        if phrase in found:
            raise DecodeError(f"{where}: phrase {phrase!r} stands twice")
        try:
            found[phrase] = float(number) if tab else DEFAULT_HOTWORD_WEIGHT
        except ValueError as error:
            raise DecodeError(f"{where}: weight must be a number, found {number!r}") from error
        if not abs(found[phrase]) < float("inf"):
            raise DecodeError(f"{where}: weight must be finite, found {number!r}")
    if not found:
        raise DecodeError(f"{path}: holds no phrase")
    return found


def facts_of(found: Sequence[Hypothesis], n_best: int) -> dict[str, Any]:
    """What JSON output says of an utterance: its best hypothesis, and if `n_best` is above one all of them."""
    best = found[0]
    facts: dict[str, Any] = {
        **_summary(best),
        "words": words_of(best.words),
    }
    if n_best > 1:
        facts["n_best"] = [_summary(hypothesis) for hypothesis in found]
    return facts


def words_of(words: Sequence[Word]) -> list[dict[str, Any]]:
    """What JSON output says of words."""
    return [
        {
            "text": word.text,
            "start_s": round(word.start_s, 3),
            "end_s": round(word.end_s, 3),
            "confidence": round(word.confidence, 4),
        }
        for word in words
    ]


def _summary(hypothesis: Hypothesis) -> Mapping[str, Any]:
    return {
        "text": hypothesis.text,
        "confidence": round(hypothesis.confidence, 4),
        "score": round(hypothesis.score, 4),
        "acoustic_score": round(hypothesis.acoustic_score, 4),
        "lm_score": round(hypothesis.lm_score, 4),
    }


def _characters(vocabulary: Vocabulary) -> set[str]:
    return {character for text in vocabulary.reading.texts for character in text}


def _form_of(written: Collection[str]) -> Callable[[str], str]:
    """What brings a text into the Unicode form of what is written: that of transcripts, unless it has another."""
    return composed if all(composed(text) == text for text in written) else str


def _other_case(text: str, characters: set[str]) -> str:
    """A hint if the text could be spelled in another case, else nothing."""
    for change, kind in ((str.lower, "small letters"), (str.upper, "capitals")):
        if characters.issuperset(change(text).replace(" ", "")):
            return f": the labels are {kind}"
    return ""


def _missing_tab(phrase: str) -> str:
    """A hint if the last word of a phrase is a number, else nothing."""
    try:
        float(phrase.split()[-1])
    except ValueError:
        return ""
    return ": a TAB must come before a weight"
