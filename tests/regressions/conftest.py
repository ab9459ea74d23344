"""The corpus of several of these files."""

from pathlib import Path

import pytest

from asr.shards.pack import pack
from tones import write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four utterances of tones; the manifest."""
    return write_corpus(tmp_path_factory.mktemp("tones"), ["ab", "cab", "bad", "dab"])


@pytest.fixture(scope="module")
def packed(corpus: Path) -> Path:
    """The same corpus, a shard for each utterance; the index."""
    pack(corpus, corpus.parent / "shards", shard_mb=0.001)
    return corpus.parent / "shards" / "index.jsonl"
