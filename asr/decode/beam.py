"""Beam search decoding of CTC log-probabilities: the public class."""

import math
import sys
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from types import NoneType
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from asr.config import DECODE_LIMITS, DecodeConfig
from asr.decode.batch import blocks_of, decode_block
from asr.decode.compose import HotwordsGiven, Lexicon, LmUnit, compose
from asr.decode.hypothesis import Hypothesis, Reading
from asr.decode.inputs import check_kind, check_labels, check_number, discounts, read_batch
from asr.decode.layout import CAPACITY, Workspace, new_workspace
from asr.decode.lm import NGram
from asr.decode.scoring import TOKEN_LM
from asr.decode.stream import Stream
from asr.errors import DecodeError
from asr.process import cores

# Calibrated on AN4's development speakers (benchmarks/confidence.py).
_SCALE_ALONE, _SCALE_WITH_LM = 0.85, 0.6
_WITH_GRAMMAR = -20.0  # the largest token threshold


class BeamDecoder:
    """Prefix beam search over CTC log-probabilities, with an n-gram model, a lexicon and hotwords.

    It looks for the labels y that maximise

        score(y) = ln P(y | x) + alpha * ln P_LM(y) + beta * |y| + sum of hotword weights in y

    where P(y | x) is the sum over all alignments of y (Graves et al. 2006), P_LM the n-gram model with the sentence's
    end, and |y| the number of words (of labels, for a model of labels). Without a language model alpha and beta have no
    effect. With a beam that holds every prefix, and no thresholds, the result is exact; a smaller one may lose it, and
    its sums miss the alignments through prefixes that were dropped.

    With `log_priors` the probability p of a label in a frame becomes p / prior ** prior_weight, renormalised in each
    frame: how likely labels are by themselves is left to the language model, as in hybrid recognisers (Bourlard &
    Morgan 1994; for CTC Sak et al. 2015). It helps most where the model is unsure.

    The confidence of a hypothesis is its share in the scores of the last beam. That of a word is its share among the
    entries that agree on everything before it, taken when the search is some frames past it.

    Args:
        labels: V symbols; `blank` is the index of the blank, from the end where it is negative.
        space: the word separator: " ", "|" (HuggingFace), or sentencepiece's U+2581 at the beginning of pieces.
        lm: n-gram model of words or of labels; or a grammar (`NGram.from_grammar`), whose sentences alone are allowed:
            a hypothesis is one of them, or empty if the beam holds none.
        lm_unit: what `lm` models; `auto`: labels, if it knows half of the labels, and the separator where words need
            one; words otherwise.
        lexicon: allow these words only. A list of words, spelled by their characters; or word -> spellings, each a list
            of labels, without its separators. Of words that share a spelling, a hypothesis has those with the highest
            P_LM, as far as 16 sequences at a time tell; the search itself goes by the words before, which matters only
            where it drops prefixes, as it does where a grammar does not go on from the word that it took.
        hotwords: phrase -> natural-log weight, added for each occurrence as whole words; of a list of phrases each has
            5. Where a lexicon spells words in labels, phrases are matched by these, so words that are spelled alike get
            the same weight.
        log_priors: (V,) natural log of each label's prior, such as its mean probability over recordings.
        prior_weight: exponent of the priors, 0 to 1.
        alpha, beta: weights of the formula.
        unknown_offset, unknown_per_character: added to ln P_LM of each unknown word, once and for each character: an
            n-gram model's `<unk>` means little, and a long unknown word is several that were run together. For words of
            a lexicon, and for labels, only the first. No word (label) loses more than 400, however improbable.
        beam_size: prefixes kept.
        token_threshold: natural log; labels less likely than this in a frame start no new prefixes there, except
            the likeliest one and those of a forced prefix. With a grammar it is -20 at most: what the model is sure of
            may be no word of it.
        beam_threshold: natural log, below zero; prefixes this much worse than the best are dropped.
        n_best: hypotheses returned for each utterance.
        frame_s: seconds from one frame to the next; by default, times are in frames.
        confidence_scale: exponent of the scores in confidences, below one if these are too high; None: 0.6 with a
            language model and 0.85 without one.
        threads: utterances decoded at once; None: as many as there are cores. The result does not depend on it.

    Raises:
        DecodeError: a setting is out of range, the blank is not among the labels, a label occurs twice, a lexicon word
            cannot be spelled, a language model does not fit the labels, a hotword cannot be matched, is not in the
            lexicon or weighs too much, or the priors are not one finite number of at most 0 per label whose
            probabilities sum to one.
    """

    def __init__(
        self,
        labels: Sequence[str],
        *,
        blank: int = 0,
        space: str = " ",
        lm: NGram | None = None,
        lm_unit: LmUnit = "auto",
        lexicon: Lexicon | None = None,
        hotwords: HotwordsGiven | None = None,
        log_priors: Any = None,
        prior_weight: float = DecodeConfig.prior_weight,
        alpha: float = DecodeConfig.alpha,
        beta: float = DecodeConfig.beta,
        unknown_offset: float = DecodeConfig.unknown_offset,
        unknown_per_character: float = DecodeConfig.unknown_per_character,
        beam_size: int = DecodeConfig.beam_size,
        token_threshold: float = DecodeConfig.token_threshold,
        beam_threshold: float = DecodeConfig.beam_threshold,
        n_best: int = 1,
        frame_s: float = 1.0,
        confidence_scale: float | None = None,
        threads: int | None = None,
    ) -> None:
        self.labels, self.blank = check_labels(labels, blank)
        tiny = math.ulp(0.0)  # for limits that exclude zero
        check_number("beam_size", beam_size, *DECODE_LIMITS["beam_size"], whole=True)
        check_number("n_best", n_best, "at least 1", 1, whole=True)
        check_number("token_threshold", token_threshold, *DECODE_LIMITS["token_threshold"])
        check_number("beam_threshold", beam_threshold, *DECODE_LIMITS["beam_threshold"])
        check_number("alpha", alpha, *DECODE_LIMITS["alpha"])
        check_number("beta", beta, *DECODE_LIMITS["beta"])
        check_number("unknown_offset", unknown_offset, *DECODE_LIMITS["unknown_offset"])
        check_number("unknown_per_character", unknown_per_character, *DECODE_LIMITS["unknown_per_character"])
        check_number("prior_weight", prior_weight, *DECODE_LIMITS["prior_weight"])
        check_number("frame_s", frame_s, "positive", tiny, sys.float_info.max)
        if confidence_scale is not None:
            check_number("confidence_scale", confidence_scale, "in (0, 10]", tiny, 10)
        if threads is not None:
            check_number("threads", threads, "at least 1", 1, whole=True)
        check_kind("space", space, str, "a string")
        check_kind("lm", lm, (NGram, NoneType), "an NGram (NGram.load reads one)")
        if lm_unit not in get_args(LmUnit):
            raise DecodeError(f"lm_unit must be one of {', '.join(get_args(LmUnit))}, found {lm_unit!r}")
        self.space = space
        reading = Reading.of(self.labels, self.blank, space, frame_s)
        self.beam_size = int(beam_size)
        self.n_best = int(n_best)
        # What begins with an underscore is for the searches in `batch` and `stream`, which are parts of this class.
        self._grammar = lm if lm is not None and lm.is_grammar else None
        tried = token_threshold if self._grammar is None else min(token_threshold, _WITH_GRAMMAR)
        self._token_floor = np.float32(math.exp(tried))
        self._beam_floor = math.exp(beam_threshold)
        calibrated = _SCALE_ALONE if lm is None else _SCALE_WITH_LM
        self.confidence_scale = calibrated if confidence_scale is None else float(confidence_scale)
        self.threads = threads or cores()
        self._discounts = None if log_priors is None else discounts(log_priors, prior_weight, len(self.labels))
        self._capacity = max(1024, 512 * beam_size)  # what 512 frames can make; the tree is tidied every 256
        self._workspaces: deque[Workspace] = deque()  # of finished utterances, for reuse
        self._scorer, words = compose(
            self.labels,
            reading,
            self.blank,
            lm=lm,
            lm_unit=lm_unit,
            lexicon=lexicon,
            hotwords=hotwords,
            alpha=alpha,
            beta=beta,
            unknown_offset=unknown_offset,
            unknown_per_character=unknown_per_character,
        )
        self.reading = replace(reading, lexicon=tuple(words))

    def __getstate__(self) -> dict[str, Any]:
        # Arrays of a workspace share memory, which copies would not.
        return {**self.__dict__, "_workspaces": deque()}

    def __call__(
        self, log_probs: Any, lengths: Any = None, n_best: int | None = None, *, prefix: str = ""
    ) -> list[list[Hypothesis]]:
        """Decode a batch.

        Args:
            log_probs: (B, T, V) natural-log probabilities, or a list of (T, V): numpy, or anything on the CPU with
                `__array__` or `__dlpack__` (a torch tensor); float16, float32 or float64, any strides.
            lengths: (B,) valid frames of each utterance; None: all.
            n_best: hypotheses for each utterance; None: the decoder's.
            prefix: text that the labels of every hypothesis begin with. White space at its end finishes its last word,
                where words are separated by a label and not by how they begin.

        Returns:
            For each utterance at most `n_best` hypotheses with different labels, best first, and at least one.

        Raises:
            DecodeError: a value is NaN or +inf, a frame's probabilities do not sum to one within 0.02, V is not the
                number of labels, a length is beyond T or not a whole number, the prefix cannot be spelled or does not
                fit in the frames. The message names utterance, frame and value; input is never guessed to be something
                else.
        """
        check_kind("prefix", prefix, str, "a string")
        rows = read_batch(log_probs, lengths, len(self.labels))
        n_best = self._wanted(n_best)

        blocks = blocks_of(rows, self.threads)

        def decode(block: slice) -> list[list[Hypothesis]]:
            if n_best == 1 and not prefix:
                return decode_block(self, rows[block], block.start)
            return [
                Stream(self, prefix=prefix, where=f"utterance {number}").decode(rows[number], n_best)
                for number in range(block.start, block.stop)
            ]

        if min(self.threads, len(blocks)) <= 1:
            return [found for block in blocks for found in decode(block)]
        with ThreadPoolExecutor(min(self.threads, len(blocks))) as pool:
            return [found for part in pool.map(decode, blocks) for found in part]

    def stream(self, *, prefix: str = "") -> Stream:
        """Start a search that takes one utterance in chunks; the result is that of one call, whatever the chunks."""
        check_kind("prefix", prefix, str, "a string")
        return Stream(self, prefix=prefix)

    def _wanted(self, n_best: int | None) -> int:
        """How many hypotheses a call asks for."""
        if n_best is None:
            return self.n_best
        check_number("n_best", n_best, "at least 1", 1, whole=True)
        return n_best

    def _cut_off(self, found: Hypothesis) -> Hypothesis:
        """The hypothesis without its last word, and without those before it after which a sentence cannot end."""
        grammar, of_labels = self._grammar, self._scorer.rules["kind"][0] == TOKEN_LM
        found = found.without_last_word()
        while grammar is not None and found.tokens:
            labels = self._scorer.labels["token_lm"][list(found.tokens)].tolist()
            units = [grammar.words[label] for label in labels] if of_labels else [word.text for word in found.words]
            if grammar.score(units) > -math.inf:
                break
            found = found.without_last_word()
        return found

    def _take_workspace(self, beam_size: int) -> Workspace:
        """Memory for a new search, from a finished one if possible."""
        found = None
        if beam_size == self.beam_size:
            with suppress(IndexError):
                found = self._workspaces.pop()
        if found is None:
            homophones = bool(self._scorer.rules["homophones"][0])
            found = new_workspace(beam_size, len(self.labels), self._capacity, homophones=homophones)
        found.counters.fill(0)
        found.counters[CAPACITY] = self._capacity
        return found

    def _give_back(self, workspace: Workspace) -> None:
        """Let a later search use this memory."""
        if workspace.beam_size == self.beam_size:
            self._workspaces.append(workspace)

    def labels_of(self, text: str) -> NDArray[np.int32]:
        """The labels that spell a text, each the longest whose rest can be spelled; DecodeError if none do."""
        written = {label: place for place, label in enumerate(self.labels) if place != self.blank and label}
        wanted = self.space.join(text.split())
        if wanted and any(len(label) > 1 and label.startswith(self.space) for label in self.labels):
            wanted = self.space + wanted  # the separator is a part of the pieces that begin a word
        elif wanted and text[-1].isspace() and self.space in written:
            wanted += self.space
        longest = max(map(len, written), default=0)
        ends = {len(wanted): len(wanted)}  # where labels spell the rest: where the first of them ends
        for start in reversed(range(len(wanted))):
            for end in range(min(start + longest, len(wanted)), start, -1):
                if end in ends and wanted[start:end] in written:
                    ends[start] = end
                    break
        if 0 not in ends:
            rest = wanted[min(ends) - 1 :]
            raise DecodeError(f"prefix {text!r} cannot be spelled with the labels, from {rest!r} on")
        found, start = [], 0
        while start < len(wanted):
            found.append(written[wanted[start : ends[start]]])
            start = ends[start]
        return np.array(found, np.int32)
