"""A transcript may hold U+2028 or U+0085, at which `str.splitlines` would cut a manifest's line in two."""

from pathlib import Path

import pytest

from asr.manifest import Utterance, read_manifest, write_manifest


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b"])
def test_survives_a_manifest(tmp_path: Path, separator: str) -> None:
    said = [Utterance("a", tmp_path / "a.wav", 1.0, f"one{separator}two")]
    write_manifest(tmp_path / "m.jsonl", said)
    assert read_manifest(tmp_path / "m.jsonl")[0].text == said[0].text
