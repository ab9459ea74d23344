"""The interface of the package pyctcdecode (0.5.0) on top of `BeamDecoder`: change one import.

    from asr.decode.pyctcdecode import build_ctcdecoder    # was: from pyctcdecode import build_ctcdecoder

`install()` lets libraries that import pyctcdecode themselves, such as transformers, find this one. Signatures,
defaults, labels and weights mean what they mean there. What differs:

- The score of a text is the sum over its alignments. Endings in a blank and in a label share one place in the beam, so
  a beam of the same width holds up to twice as many texts. A separator at the end costs nothing (there it counts as
  one more unknown word).
- The search differs: inside a word the best unigram that it may become is given ahead, so `beam_prune_logp` cuts at
  other places.
- Each character of an unknown word costs half a unit of natural log, times alpha (there only those after the sixth cost
  more, and only until the word is complete): otherwise words would be run together into one long unknown word.
- Every frame goes through log_softmax, which leaves log-probabilities as they are; so raw logits are fine.
  Probabilities, NaN and +inf are refused with a DecodeError and never guessed at. Log-probabilities below ln 1e-15
  stay what they are.
- Language models are ARPA files, plain or gzipped, or files of `NGram.save`. KenLM binaries are refused.
- Without `unigrams` the known words are those of the model. If `unigrams` are given, words outside them are scored as
  `<unk>` (there: with their own probability and the offset of unknown words).
- A `unk_score_offset` below -434 counts as that, one above 4.3 as that: unknown words are all but forbidden, or free.
- Hotwords work by the word, as there: each word of each phrase gets `hotword_weight`, in natural log and not scaled by
  alpha and at most 100, wherever it occurs as a whole word; an unknown word still pays for being unknown.
  `BeamDecoder(hotwords=...)` gives each whole phrase a weight of its own.
- `lm_start_state` must be None. A cut may split a word, and carrying the language model's state across does not mend
  that; `stream()` takes an utterance in chunks and returns the same as for one piece. `last_lm_state` says so.
- `pool` is not used: utterances are decoded in threads of this process, as many as there are cores.
- `prune_history` has no effect: there it trades variety of N-best lists for speed.
- A text occurs once in a list of beams, with the score of its best sequence of labels (there: the sum of those that
  differ in separators).
- The frames of a word are those of the best alignment (there: of any one), and its end is one after the frame in which
  its last label begins (there: in which it ends).
- A word piece after "▁⁇▁" without a "▁" of its own continues the word. `<blank>` and `[blank]` are the blank if no
  other label is.
- What raises ValueError there raises DecodeError; so do two labels that both mean the blank, a label with a space
  inside, a text in place of a list of words, a language model of which the labels can spell hardly a word, a
  `beam_prune_logp` of zero or more and a `token_min_logp` above zero. `reset_params` takes whole numbers.
- `save_to_dir` writes the language model as `NGram.save` does; `load_from_dir` also reads folders of pyctcdecode that
  hold an ARPA file.
- A call with settings other than the last call's builds the search anew: 20 ms with a model of 14,000 words.
- `MultiLanguageModel`, `clear_class_models` and `parse_directory_contents` are missing; a language model belongs to
  its decoder and is freed with it.
"""

from asr.decode.pyctcdecode.alphabet import Alphabet
from asr.decode.pyctcdecode.decoder import BeamSearchDecoderCTC, OutputBeam, OutputBeamMPSafe, build_ctcdecoder
from asr.decode.pyctcdecode.language_model import LanguageModel
from asr.decode.pyctcdecode.stand_in import install

__all__ = [
    "Alphabet",
    "BeamSearchDecoderCTC",
    "LanguageModel",
    "OutputBeam",
    "OutputBeamMPSafe",
    "build_ctcdecoder",
    "install",
]
