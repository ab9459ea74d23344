"""The n-gram model of words with its weights."""

import json
import math
import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.config import DECODE_LIMITS
from asr.decode.lm import NGram
from asr.decode.pyctcdecode.constants import (
    DEFAULT_ALPHA,
    DEFAULT_BETA,
    DEFAULT_SCORE_LM_BOUNDARY,
    DEFAULT_UNK_LOGP_OFFSET,
    UNKNOWN_PER_CHARACTER,
)
from asr.errors import DecodeError
from asr.files import write_text_atomic

_LN_10 = math.log(10.0)
ATTRIBUTES = ("alpha", "beta", "unk_score_offset", "score_boundary")
_ATTRIBUTES_FILE, _UNIGRAMS_FILE, _NGRAM_FILE = "attrs.json", "unigrams.txt", "ngram.bin"


@dataclass(eq=False)
class LanguageModel:
    """An n-gram model of words with its weights, which may be set at any time.

    Attributes:
        kenlm_model: an `NGram` (not a `kenlm.Model`).
        unigrams: the words that are known; None or empty: those of the model.
        alpha: weight of ln P. beta: added for each word, natural log.
        unk_score_offset: added to the log10 probability of unknown words, so weighted by alpha * ln 10.
        score_boundary: whether sentences begin after `<s>` and end in `</s>`.

    Raises:
        DecodeError: the model is not an NGram, or knows none of the unigrams.
    """

    kenlm_model: NGram
    unigrams: Collection[str] | None = None
    alpha: float = DEFAULT_ALPHA
    beta: float = DEFAULT_BETA
    unk_score_offset: float = DEFAULT_UNK_LOGP_OFFSET
    score_boundary: bool = DEFAULT_SCORE_LM_BOUNDARY

    def __post_init__(self) -> None:
        given: object = self.kenlm_model
        if not isinstance(given, NGram):
            raise DecodeError(f"language model is a {type(given).__name__}, wanted an NGram: NGram.load(ARPA file)")
        self._known = self.kenlm_model
        if self.unigrams:
            require_list("unigrams", self.unigrams)
            wanted = set(self.unigrams)
            words = [word if word in wanted else "" for word in self.kenlm_model.words]
            if not any(words):
                raise DecodeError(
                    f"unigrams: the language model knows none of these {len(wanted)} words ({min(wanted)!r}, ...)"
                )
            # A word with an empty name cannot be spelled, so the search takes it for an unknown one.
            text = np.frombuffer("\n".join(words).encode(), np.uint8)
            self._known = replace(self.kenlm_model, _text=text)

    @property
    def order(self) -> int:
        """N, the number of words in the longest n-grams."""
        return self.kenlm_model.order

    @property
    def settings(self) -> tuple[float, float, float, bool]:
        """The weights, in the order of the fields."""
        return self.alpha, self.beta, self.unk_score_offset, self.score_boundary

    def arguments(self) -> dict[str, Any]:
        """The arguments that a BeamDecoder takes for this model."""
        _, least, largest = DECODE_LIMITS["unknown_offset"]
        lm = self._known if self.score_boundary else replace(self._known, bos_id=-1, eos_id=-1)
        return {
            "lm": lm,
            "lm_unit": "word",
            "alpha": self.alpha,
            "beta": self.beta,
            "unknown_offset": min(max(self.unk_score_offset * _LN_10, least), largest),
            "unknown_per_character": UNKNOWN_PER_CHARACTER,
        }

    def save_to_dir(self, filepath: str | os.PathLike[str]) -> None:
        """Write `attrs.json`, `unigrams.txt` and the model into a folder; DecodeError if it has another model."""
        folder = Path(filepath)
        if others := [name for name in _models_in(folder) if name != _NGRAM_FILE]:
            raise DecodeError(f"{folder}: has a language model already, {others[0]}; save into another folder")
        attributes = dict(zip(ATTRIBUTES, self.settings, strict=True))
        write_text_atomic(folder / _ATTRIBUTES_FILE, json.dumps(attributes))
        write_text_atomic(folder / _UNIGRAMS_FILE, "".join(f"{word}\n" for word in sorted(self.unigrams or ())))
        self.kenlm_model.save(folder / _NGRAM_FILE)

    @classmethod
    def load_from_dir(cls, filepath: str | os.PathLike[str], unigram_encoding: str | None = None) -> "LanguageModel":
        """Read a folder of `save_to_dir`, or of pyctcdecode with an ARPA file; DecodeError if it is incomplete."""
        folder = Path(filepath)
        attributes = _read_attributes(folder / _ATTRIBUTES_FILE)
        unigrams = read_text(folder / _UNIGRAMS_FILE, unigram_encoding or "utf-8").splitlines()
        models = _models_in(folder)
        if len(models) != 1:
            raise DecodeError(f"{folder}: wanted one language model, found {models}")
        return cls(NGram.load(folder / models[0]), unigrams, **attributes)


def _models_in(folder: Path) -> list[str]:
    """Names of the files that may be models, none where there is no folder."""
    names = sorted(path.name for path in folder.glob("*") if not path.name.startswith((".", "__")))
    return [name for name in names if name not in (_ATTRIBUTES_FILE, _UNIGRAMS_FILE)]


def _read_attributes(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_text(path))
    except ValueError as error:
        raise DecodeError(f"{path}: is no JSON: {error}") from error
    named = isinstance(found, dict) and set(found) == set(ATTRIBUTES)
    if not named or not all(isinstance(value, (int, float)) for value in found.values()):
        raise DecodeError(f"{path}: wanted numbers for {', '.join(ATTRIBUTES)}, found {found}")
    return dict(found)


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file; DecodeError where it cannot be read."""
    try:
        return path.read_text(encoding)
    except (OSError, UnicodeDecodeError) as error:
        raise DecodeError(f"{path}: cannot be read: {error}") from error


def require_list(name: str, values: object) -> None:
    """Raise DecodeError if one string is given instead of a list of words."""
    if isinstance(values, str):
        raise DecodeError(f"{name}: wanted a list of words, found the text {values!r}")
