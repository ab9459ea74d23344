"""The stand-in for pyctcdecode that other libraries find, and transformers on top of it."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from asr.lm import estimate, write_arpa

ROOT = Path(__file__).resolve().parent.parent


def run(script: str, *arguments: str, folder: Path) -> str:
    """Run Python apart: what `install` does stays for the life of a process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


INSTALLED = """
import sys, importlib.metadata, importlib.util
from asr.decode import pyctcdecode
pyctcdecode.install()
pyctcdecode.install()
assert importlib.util.find_spec("pyctcdecode") is not None
import pyctcdecode as alias, pyctcdecode.decoder as inner
from pyctcdecode import build_ctcdecoder, Alphabet, BeamSearchDecoderCTC, LanguageModel
from pyctcdecode.alphabet import BLANK_TOKEN_PTN, UNK_TOKEN, UNK_TOKEN_PTN
from pyctcdecode.constants import DEFAULT_BEAM_WIDTH
assert alias is pyctcdecode and inner.build_ctcdecoder is build_ctcdecoder
assert build_ctcdecoder(["", " ", "a"])._alphabet.labels == ["", " ", "a"]
print(importlib.metadata.version("pyctcdecode"))
import kenlm
try:
    kenlm.Model
except AttributeError as error:
    assert "kenlm is not installed" in str(error), error
"""

TOO_LATE = """
import sys
from types import SimpleNamespace
from asr.decode import pyctcdecode
from asr.errors import DecodeError
name, found = sys.argv[1:]
sys.modules[name] = SimpleNamespace(is_pyctcdecode_available=lambda: False, __file__="there.py", __spec__=None)
before = set(sys.modules), list(sys.meta_path)
try:
    pyctcdecode.install()
except DecodeError as error:
    assert found in str(error), error
    assert (set(sys.modules), list(sys.meta_path)) == before
    print("refused")
"""


def test_pyctcdecode_is_found_once_installed(tmp_path: Path) -> None:
    if importlib.util.find_spec("kenlm") or importlib.util.find_spec("pyctcdecode"):
        pytest.skip("the real pyctcdecode or kenlm is installed here")
    assert run(INSTALLED, folder=tmp_path) == "0.5.0\n"


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("pyctcdecode", "pyctcdecode was imported before, from there.py: call install() first"),
        ("transformers.utils.import_utils", "transformers was imported before and found no pyctcdecode"),
    ],
)
def test_installing_too_late_is_refused(tmp_path: Path, module: str, message: str) -> None:
    assert run(TOO_LATE, module, message, folder=tmp_path) == "refused\n"


TRANSFORMERS = """
import json, sys
import numpy as np
from asr.decode import pyctcdecode
pyctcdecode.install()
from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ProcessorWithLM
arpa = sys.argv[1]
letters = ["<pad>", "<s>", "</s>", "<unk>", "|", "a", "b", "c"]
with open("vocab.json", "w") as file:
    json.dump({letter: place for place, letter in enumerate(letters)}, file)
tokenizer = Wav2Vec2CTCTokenizer("vocab.json")
labels = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
decoder = pyctcdecode.build_ctcdecoder(labels, arpa)
processor = Wav2Vec2ProcessorWithLM(Wav2Vec2FeatureExtractor(), tokenizer, decoder)
path = [letters.index(letter) for letter in "ab|ba"]
logits = np.full((2, 2 * len(path) + 3, len(letters)), -4.0, np.float32)
logits[0, np.arange(0, 2 * len(path), 2), path] = 6.0
logits[0, 1::2, 0] = 6.0
logits[0, 2 * len(path):] = -100.0  # transformers' padding
logits[1] = logits[0]
logits[1, :4] = -100.0
found = processor.batch_decode(logits, pool=False, n_best=2, output_word_offsets=True)
one = processor.decode(logits[0, : 2 * len(path)], output_word_offsets=True, alpha=0.6, hotwords=["ba"])
processor.save_pretrained("saved")
again = Wav2Vec2ProcessorWithLM.from_pretrained("saved", beta=2.5)
assert (again.language_model.alpha, again.language_model.beta) == (0.6, 2.5)
assert again.decode(logits[0, : 2 * len(path)]).text == one.text
assert len(repr(processor)) < 5000
forked = processor.batch_decode(logits, num_processes=1)
print(json.dumps([found.text, found.word_offsets[0][0], one.text, one.word_offsets, forked.text]))
"""


@pytest.mark.slow
def test_transformers_decodes_with_it(tmp_path: Path) -> None:
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    write_arpa(estimate(["ab ba", "cab ab"], 2), tmp_path / "lm.arpa")
    texts, offsets, text, more_offsets, forked = json.loads(run(TRANSFORMERS, "lm.arpa", folder=tmp_path))
    words = [
        {"word": "ab", "start_offset": 0, "end_offset": 3},
        {"word": "ba", "start_offset": 6, "end_offset": 9},
    ]
    assert [found[0] for found in texts] == forked == ["ab ba", "ba"]
    assert offsets == more_offsets == words
    assert text == "ab ba"
