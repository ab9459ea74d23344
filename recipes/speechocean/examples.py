"""Short sentences of common words, from WordNet's usage examples: a text for `spoken.py`.

apt install wordnet-base
python recipes/speechocean/examples.py [/usr/share/wordnet] [--texts exp/speechocean/data/train.jsonl] > examples.txt
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from asr.cli import parse, run_command
from asr.errors import CorpusError
from asr.manifest import read_manifest

WORDS = range(3, 9)  # how many a sentence has
COMMON = 12  # a word that is not in the transcripts occurs at least this often in the examples
KNOWN = 0.6  # at least this share of a sentence's words is in the transcripts


def run() -> int:
    """Prints the sentences; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="recipes/speechocean/examples.py", description=(__doc__ or "").partition("\n")[0]
    )
    texts = Path("exp/speechocean/data/train.jsonl")
    parser.add_argument(
        "wordnet", type=Path, nargs="?", default=Path("/usr/share/wordnet"), help="folder with data.* (%(default)s)"
    )
    parser.add_argument("--texts", type=Path, default=texts, help="transcripts whose words choose (%(default)s)")
    arguments = parse(parser)
    files = sorted(arguments.wordnet.glob("data.*"))
    if not files:
        raise CorpusError(f"{arguments.wordnet}: has no data.* of WordNet 3.0 (Debian, Ubuntu: package wordnet-base)")
    transcripts = [utterance.text.lower() for utterance in read_manifest(arguments.texts)]
    found = dict.fromkeys(sentence for file in files for sentence in examples(file.read_text(encoding="latin-1")))
    print(*common(found, transcripts), sep="\n")
    return 0


def examples(text: str) -> Iterator[str]:
    """The quotations after each definition that have no digits, in lower case and without punctuation."""
    for line in text.splitlines():
        _, bar, gloss = line.partition("|")
        for quoted in re.findall(r'"([^"]+)"', gloss if bar else ""):
            words = re.sub(r"[^a-z' ]", " ", quoted.lower()).split()
            if len(words) in WORDS and not re.search(r"\d", quoted):
                yield " ".join(words)


def common(sentences: Collection[str], transcripts: Iterable[str]) -> list[str]:
    """The sentences of common words, most of which are in the transcripts."""
    known = {word for text in transcripts for word in text.split()}
    count = Counter(word for sentence in sentences for word in sentence.split())
    chosen = []
    for sentence in sentences:
        words = sentence.split()
        share = sum(word in known for word in words) / len(words)
        if share >= KNOWN and all(word in known or count[word] >= COMMON for word in words):
            chosen.append(sentence)
    return chosen


if __name__ == "__main__":
    sys.exit(run_command(run))
