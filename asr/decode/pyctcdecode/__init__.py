"""The interface of the package pyctcdecode (0.5.0) on top of `BeamDecoder`: change one import.

    from asr.decode.pyctcdecode import build_ctcdecoder    # was: from pyctcdecode import build_ctcdecoder

`install()` lets libraries that import pyctcdecode themselves, such as transformers, find this one. Signatures,
defaults, labels and weights mean what they mean there. What differs:

- The score of a text is the sum over its alignments. Endings in a blank and in a label share one place in the beam, so
  a beam of the same width holds up to twice as many texts. A separator at the end costs nothing (there it counts as
  one more unknown word).
- The search differs: inside a word the best unigram that it may become is
  given ahead, so `beam_prune_logp` cuts at other places.
- Each character of an unknown word costs half a unit of natural log, times alpha (there only those behind the sixth
  cost more, and only until the word is complete): or words would be run together to one long unknown word.
- Every frame goes through log_softmax, which leaves log-probabilities as they are; so raw logits are fine.
  Probabilities are refused with a DecodeError and not guessed at; so are NaN and +inf. Log-probabilities below
  ln 1e-15 stay what they are.
- Language models are ARPA files, plain or gzipped, or files of `NGram.save`. KenLM binaries are refused.
- The model's own words are the known ones, without `unigrams`. Where these are given, words outside them are read as
  `<unk>` (there: their own probability with the offset of unknown words).
- Hotwords are told by their words as there: each word of each phrase has `hotword_weight`, in natural log and not
  scaled by alpha, wherever it stands as a whole word; an unknown word still pays for being unknown.
  `BeamDecoder(hotwords=...)` weighs whole phrases, each with a weight of its own.
- `lm_start_state` must be None. A cut goes through a word, which carrying the state of the language model over it does
  not mend; `stream()` takes an utterance in chunks and returns what it returns in one piece. `last_lm_state` says so.
- `pool` is not used: utterances are decoded in threads of this process, as many as there are cores.
- `prune_history` has no effect: it traded variety of N-best lists for speed.
- A text stands once in a list of beams, with the score of its best sequence of labels (there: their sum where they
  differ in separators).
- The frames of a word are those of the best alignment (there: of any one), and its end is one behind the frame in which
  its last label begins (there: in which it ends).
- A word piece after "▁⁇▁" without a "▁" of its own goes on with the word. `<blank>` and `[blank]` are the blank where
  no other label is.
- What raises ValueError there raises DecodeError; so do two labels that both mean the blank, a label with a space
  inside, a text in place of a list of words, a `beam_prune_logp` of zero or more and a `token_min_logp` above zero.
  `reset_params` takes whole numbers.
- `save_to_dir` writes the language model as `NGram.save` does; `load_from_dir` also reads folders of pyctcdecode that
  hold an ARPA file.
- Settings that differ from those of the call before build the search anew: 20 ms with a model of 14,000 words.
- `MultiLanguageModel`, `clear_class_models` and `parse_directory_contents` are missing; language models belong to their
  decoder and go with it.
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
