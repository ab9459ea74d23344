"""The decoder, with the methods of pyctcdecode's."""

import copy
import importlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.config import DECODE_LIMITS
from asr.decode.beam import BeamDecoder
from asr.decode.hypothesis import Hypothesis
from asr.decode.inputs import as_array, check_labels, check_number, check_shape
from asr.decode.lm import NGram
from asr.decode.pyctcdecode.alphabet import BPE_TOKEN, UNK_BPE_TOKEN, UNK_TOKEN, Alphabet
from asr.decode.pyctcdecode.constants import (
    DEFAULT_ALPHA,
    DEFAULT_BEAM_WIDTH,
    DEFAULT_BETA,
    DEFAULT_HOTWORD_WEIGHT,
    DEFAULT_MIN_TOKEN_LOGP,
    DEFAULT_PRUNE_BEAMS,
    DEFAULT_PRUNE_LOGP,
    DEFAULT_SCORE_LM_BOUNDARY,
    DEFAULT_UNK_LOGP_OFFSET,
)
from asr.decode.pyctcdecode.language_model import ATTRIBUTES, LanguageModel, read_text, require_list
from asr.decode.stream import Stream
from asr.errors import DecodeError
from asr.files import write_text_atomic

_NO_STATE = "not kept: decoder.stream() takes an utterance in chunks"
_SUM_TOLERANCE = 0.1  # of the mean over frames: rounded probabilities are found too

WordFrames = tuple[str, tuple[int, int]]


class OutputBeam(NamedTuple):
    """One transcript: each word has its first frame, and the one after the frame in which its last label begins.

    `logit_score` is ln P(text | x); `lm_score` adds language model, word bonus and hotwords to it, as in pyctcdecode.
    `last_lm_state` is not a state: see `asr.decode.pyctcdecode`.
    """

    text: str
    last_lm_state: str | None
    text_frames: list[WordFrames]
    logit_score: float
    lm_score: float


class OutputBeamMPSafe(NamedTuple):
    """What batches return: an OutputBeam without `last_lm_state`."""

    text: str
    text_frames: list[WordFrames]
    logit_score: float
    lm_score: float


class _Settings(NamedTuple):
    """What every method of a decoder takes besides its input."""

    beam_width: int
    beam_prune_logp: float
    token_min_logp: float
    hotwords: Iterable[str] | None
    hotword_weight: float

    def words(self) -> tuple[str, ...]:
        """The distinct words of the hotwords, each of which has the weight; DecodeError if `hotwords` is one string."""
        require_list("hotwords", self.hotwords)
        return tuple(dict.fromkeys(word for phrase in self.hotwords or () for word in phrase.split()))

    def check(self) -> None:
        """Raise DecodeError if a value is out of range."""
        check_number("beam_width", self.beam_width, *DECODE_LIMITS["beam_size"], whole=True)
        check_number("beam_prune_logp", self.beam_prune_logp, *DECODE_LIMITS["beam_threshold"])
        check_number("token_min_logp", self.token_min_logp, *DECODE_LIMITS["token_threshold"])


class BeamSearchDecoderCTC:
    """CTC beam search with the methods of pyctcdecode's class; `asr.decode.pyctcdecode` says what differs.

    Args:
        alphabet: the labels; V of them.
        language_model: of words.

    In all methods `logits` are (T, V) logits or natural-log probabilities, numpy or anything on the CPU with
    `__array__` or `__dlpack__`; `beam_width` is the number of prefixes kept; `beam_prune_logp` (natural log, below
    zero) drops those this much worse than the best; labels below `token_min_logp` (natural log) in a frame start no new
    prefixes there. DecodeError names utterance and frame of what cannot be decoded.
    """

    _ALPHABET_SERIALIZED_FILENAME = "alphabet.json"
    _LANGUAGE_MODEL_SERIALIZED_DIRECTORY = "language_model"

    def __init__(self, alphabet: Alphabet, language_model: LanguageModel | None = None) -> None:
        self._alphabet = alphabet
        # The final "▁" of "▁⁇▁" would be written out.
        labels = [BPE_TOKEN + UNK_TOKEN if label == UNK_BPE_TOKEN else label for label in alphabet.labels]
        if "" not in labels:
            raise DecodeError("alphabet: no label is the blank, which is ''; Alphabet.build_alphabet finds it")
        self._labels, _ = check_labels(labels, labels.index(""))
        # transformers reaches the language model through these two.
        self._model_key = b"model"
        self.model_container: dict[bytes, LanguageModel | None] = {self._model_key: language_model}
        self._last_search: tuple[object, BeamDecoder] | None = None

    def __deepcopy__(self, memo: object) -> "BeamSearchDecoderCTC":
        """A copy that shares the n-grams, which never change; transformers copies a processor to print it."""
        return BeamSearchDecoderCTC(self._alphabet, copy.copy(self._language_model))

    @property
    def _language_model(self) -> LanguageModel | None:
        return self.model_container[self._model_key]

    def reset_params(
        self,
        alpha: float | None = None,
        beta: float | None = None,
        unk_score_offset: float | None = None,
        lm_score_boundary: bool | None = None,
    ) -> None:
        """Set the weights that are given; does nothing without a language model."""
        if self._language_model is not None:
            for name, value in zip(ATTRIBUTES, (alpha, beta, unk_score_offset, lm_score_boundary), strict=True):
                if value is not None:
                    setattr(self._language_model, name, value)

    def cleanup(self) -> None:
        """Release the language model."""
        self.model_container[self._model_key] = None
        self._last_search = None

    def decode(
        self,
        logits: Any,
        beam_width: int = DEFAULT_BEAM_WIDTH,
        beam_prune_logp: float = DEFAULT_PRUNE_LOGP,
        token_min_logp: float = DEFAULT_MIN_TOKEN_LOGP,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float = DEFAULT_HOTWORD_WEIGHT,
        lm_start_state: None = None,
    ) -> str:
        """The best text, that of the first beam of `decode_beams`."""
        _require_no_state(lm_start_state)
        settings = _Settings(beam_width, beam_prune_logp, token_min_logp, hotwords, hotword_weight)
        return self._texts([logits], settings)[0]

    def decode_batch(
        self,
        pool: object,
        logits_list: Iterable[Any],
        beam_width: int = DEFAULT_BEAM_WIDTH,
        beam_prune_logp: float = DEFAULT_PRUNE_LOGP,
        token_min_logp: float = DEFAULT_MIN_TOKEN_LOGP,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float = DEFAULT_HOTWORD_WEIGHT,
    ) -> list[str]:
        """The best text of each utterance."""
        settings = _Settings(beam_width, beam_prune_logp, token_min_logp, hotwords, hotword_weight)
        return self._texts(logits_list, settings)

    def decode_beams(
        self,
        logits: Any,
        beam_width: int = DEFAULT_BEAM_WIDTH,
        beam_prune_logp: float = DEFAULT_PRUNE_LOGP,
        token_min_logp: float = DEFAULT_MIN_TOKEN_LOGP,
        prune_history: bool = DEFAULT_PRUNE_BEAMS,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float = DEFAULT_HOTWORD_WEIGHT,
        lm_start_state: None = None,
    ) -> list[OutputBeam]:
        """The different texts of the beam, best first, without those worse than the best by `beam_prune_logp`."""
        _require_no_state(lm_start_state)
        settings = _Settings(beam_width, beam_prune_logp, token_min_logp, hotwords, hotword_weight)
        state = None if self._language_model is None else _NO_STATE
        [beams] = self._beams([logits], settings)
        return [OutputBeam(text, state, frames, logit, total) for text, frames, logit, total in beams]

    def decode_beams_batch(
        self,
        pool: object,
        logits_list: Iterable[Any],
        beam_width: int = DEFAULT_BEAM_WIDTH,
        beam_prune_logp: float = DEFAULT_PRUNE_LOGP,
        token_min_logp: float = DEFAULT_MIN_TOKEN_LOGP,
        prune_history: bool = DEFAULT_PRUNE_BEAMS,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float = DEFAULT_HOTWORD_WEIGHT,
    ) -> list[list[OutputBeamMPSafe]]:
        """`decode_beams` of each utterance, without `last_lm_state`."""
        settings = _Settings(beam_width, beam_prune_logp, token_min_logp, hotwords, hotword_weight)
        return self._beams(logits_list, settings)

    def stream(
        self,
        beam_width: int = DEFAULT_BEAM_WIDTH,
        beam_prune_logp: float = DEFAULT_PRUNE_LOGP,
        token_min_logp: float = DEFAULT_MIN_TOKEN_LOGP,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float = DEFAULT_HOTWORD_WEIGHT,
    ) -> Stream:
        """Start a search through one utterance in chunks of log-probabilities: `accept(chunk)`, then `finish()`."""
        settings = _Settings(beam_width, beam_prune_logp, token_min_logp, hotwords, hotword_weight)
        return self._search(settings).stream()

    def save_to_dir(self, filepath: str | os.PathLike[str]) -> None:
        """Write `alphabet.json`, and the language model into the folder `language_model`.

        Raises:
            DecodeError: that folder has another language model, which would be in the way of this decoder's, or be
                loaded where this decoder has none.
        """
        folder = Path(filepath) / self._LANGUAGE_MODEL_SERIALIZED_DIRECTORY
        if self._language_model is not None:
            self._language_model.save_to_dir(folder)
        elif folder.exists():
            raise DecodeError(f"{folder}: has a language model, and this decoder none; save into another folder")
        write_text_atomic(Path(filepath) / self._ALPHABET_SERIALIZED_FILENAME, self._alphabet.dumps())

    @classmethod
    def load_from_dir(
        cls, filepath: str | os.PathLike[str], unigram_encoding: str | None = None
    ) -> "BeamSearchDecoderCTC":
        """Read what `save_to_dir` wrote, even among other files; DecodeError if it is incomplete."""
        alphabet = Alphabet.loads(read_text(Path(filepath) / cls._ALPHABET_SERIALIZED_FILENAME))
        folder = Path(filepath) / cls._LANGUAGE_MODEL_SERIALIZED_DIRECTORY
        return cls(alphabet, LanguageModel.load_from_dir(folder, unigram_encoding) if folder.is_dir() else None)

    @classmethod
    def load_from_hf_hub(cls, model_id: str, cache_dir: str | None = None, **kwargs: Any) -> "BeamSearchDecoderCTC":
        """Download a model with `huggingface_hub.snapshot_download`, which takes `kwargs`, and load it."""
        hub = importlib.import_module("huggingface_hub")
        return cls.load_from_dir(hub.snapshot_download(model_id, cache_dir=cache_dir, **kwargs))

    def _texts(self, logits_list: Iterable[Any], settings: "_Settings") -> list[str]:
        """The best text of each utterance."""
        return [found[0].text for found in self._search(settings)(self._log_probs(logits_list), n_best=1)]

    def _beams(self, logits_list: Iterable[Any], settings: "_Settings") -> list[list[OutputBeamMPSafe]]:
        """The different texts of each utterance, best first."""
        search = self._search(settings)
        return [
            [
                OutputBeamMPSafe(found.text, _text_frames(found, search), found.acoustic_score, found.score)
                for found in _different_texts(hypotheses, settings.beam_prune_logp)
            ]
            for hypotheses in search(self._log_probs(logits_list), n_best=settings.beam_width)
        ]

    def _search(self, settings: "_Settings") -> BeamDecoder:
        """The decoder with these settings; the last one is kept, as most calls do not change them."""
        words = settings.words()
        lm = self._language_model
        key = settings._replace(hotwords=words), lm, lm and lm.settings
        last = self._last_search
        if last is not None and last[0] == key:
            return last[1]
        settings.check()
        characters = set("".join(self._labels))
        search = BeamDecoder(
            self._labels,
            blank=self._labels.index(""),
            space=BPE_TOKEN if self._alphabet.is_bpe else " ",
            hotwords={word: settings.hotword_weight for word in words if characters.issuperset(word)},
            beam_size=settings.beam_width,
            beam_threshold=settings.beam_prune_logp,
            token_threshold=settings.token_min_logp,
            **(lm.arguments() if lm is not None else {}),
        )
        self._last_search = key, search
        return search

    def _log_probs(self, logits_list: Iterable[Any]) -> list[NDArray[np.float32]]:
        """(T, V) natural-log probabilities of each utterance."""
        found = []
        for number, logits in enumerate(logits_list):
            rows = as_array(logits)
            check_shape(rows, f"utterance {number}", len(self._labels))
            found.append(_log_softmax(rows, f"utterance {number}") if len(rows) else rows.astype(np.float32))
        return found


def build_ctcdecoder(
    labels: Sequence[str],
    kenlm_model_path: str | os.PathLike[str] | None = None,
    unigrams: Collection[str] | None = None,
    alpha: float = DEFAULT_ALPHA,
    beta: float = DEFAULT_BETA,
    unk_score_offset: float = DEFAULT_UNK_LOGP_OFFSET,
    lm_score_boundary: bool = DEFAULT_SCORE_LM_BOUNDARY,
) -> BeamSearchDecoderCTC:
    """Build a decoder for a vocabulary, read by `Alphabet.build_alphabet`, and a language model of words.

    Args:
        labels: V symbols in the order of the logits; one fewer if the blank is last and not among them (NeMo).
        kenlm_model_path: ARPA file, plain or gzipped, or a file of `NGram.save`.
        unigrams, alpha, beta, unk_score_offset, lm_score_boundary: see `LanguageModel`.

    Raises:
        DecodeError: the labels or the language model cannot be used; a KenLM binary is recognised by its content.
    """
    lm = None
    if kenlm_model_path is not None:
        ngram = NGram.load(kenlm_model_path)
        lm = LanguageModel(ngram, unigrams, alpha, beta, unk_score_offset, lm_score_boundary)
    return BeamSearchDecoderCTC(Alphabet.build_alphabet(labels), lm)


def _log_softmax(logits: NDArray[Any], where: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rows = logits.astype(np.float32, copy=False)
        tops = rows.max(axis=1, keepdims=True)
        wrong = ~np.isfinite(tops[:, 0])
        if wrong.any():
            frame = int(wrong.argmax())
            raise DecodeError(f"{where}, frame {frame}: largest logit is {tops[frame, 0]}, wanted a finite number")
        if rows.min() >= 0 and abs(float(rows.sum(axis=1).mean()) - 1) <= _SUM_TOLERANCE:
            raise DecodeError(
                f"{where}: no value is below zero and frames sum to one: these are probabilities, wanted logits or "
                "log-probabilities (numpy.log of them)"
            )
        rows = rows - tops
        return np.asarray(rows - np.log(np.exp(rows).sum(axis=1, keepdims=True)), np.float32)


def _different_texts(hypotheses: Sequence[Hypothesis], prune_logp: float) -> Iterator[Hypothesis]:
    """The best hypothesis of each text; some label sequences differ only in separators or in pieces."""
    seen = set()
    for found in hypotheses:
        if found.text not in seen and found.score >= hypotheses[0].score + prune_logp:
            seen.add(found.text)
            yield found


def _text_frames(found: Hypothesis, search: BeamDecoder) -> list[WordFrames]:
    """The words and their times in frames, in a tenth of the time of `found.words`: N-best lists are long."""
    frames = found.token_frames
    spans = [(frames[first], frames[last] + 1) for first, last in search.reading.groups(found.tokens)]
    return list(zip(found.text.split(" ") if spans else (), spans, strict=True))


def _require_no_state(state: object) -> None:
    if state is not None:
        raise DecodeError(
            f"lm_start_state must be None: decoder.stream() takes an utterance in chunks; found {state!r}"
        )
