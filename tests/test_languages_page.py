"""Every command of docs/languages.md runs as it stands, on recordings in the language of tests/tones.py."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile

from annotated import text_grid
from asr import checkpoint
from asr.corpora.tiers import read_tiers
from asr.hypotheses import read_hypotheses
from asr.manifest import read_manifest
from asr.train import Trainer
from page_commands import blocks_of, commands_of, run
from tones import RATE_HZ, tiny, wave, write_corpus

TEXTS = ["ab cab", "bad cab", "ba", "dab", "abba cab", "cad ab", "ba dab", "cab", "ad ba", "dab cab"]


def write_recordings(folder: Path) -> None:
    """Ten annotated recordings of two speakers, who take turns, four without annotations, and one with a transcript."""
    for number in range(15):
        name = f"annotated/{number}" if number < 10 else f"new/{number}"
        audio = folder / "field" / f"{name}.wav" if number < 14 else folder / "legend.wav"
        audio.parent.mkdir(parents=True, exist_ok=True)
        said: dict[str, list[tuple[float, float, str]]] = {f"s{number}": [], f"s{number + 1}": []}
        now_s, pieces = 0.0, []
        for turn in range(4):
            text = TEXTS[(number + 3 * turn) % len(TEXTS)]
            pieces += [np.zeros(RATE_HZ), wave(text)]
            begin_s, now_s = now_s + 1, now_s + 1 + len(pieces[-1]) / RATE_HZ
            said[f"s{number + turn % 2}"].append((begin_s, now_s, text.upper()))
        soundfile.write(audio, np.concatenate(pieces), RATE_HZ, subtype="PCM_16")
        if number < 10:
            audio.with_suffix(".TextGrid").write_text(text_grid(*said.items()))
        elif number == 14:
            texts = [text for _, _, text in sorted(itertools.chain(*said.values()))]
            audio.with_suffix(".txt").write_text("\n".join(texts))


def test_from_annotations_to_drafts_and_times_of_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_recordings(tmp_path)
    manifest = write_corpus(tmp_path / "other", TEXTS * 2)
    quickly = ("train.epochs=40", "train.batch_s=4", "train.dev_every=40", "train.learning_rate=0.02")
    Trainer(tiny(manifest, manifest, *quickly), tmp_path / "recipes" / "an4" / "model").run()
    monkeypatch.chdir(tmp_path)
    for line in commands_of(blocks_of("languages.md")):
        run(line)
        if "--beside" in line:  # two of the four are corrected
            drafts = sorted(Path("field/new").glob("*.TextGrid"))
            assert [path.stem for path in drafts] == ["10", "11", "12", "13"]
            for path in drafts[:2]:
                path.unlink()

    annotated, corrected = read_manifest("data/field/all.jsonl"), read_manifest("data/corrected/train.jsonl")
    assert {item.speaker for item in annotated} == {f"s{number}" for number in range(11)}
    assert {item.audio_filepath.stem for item in corrected} == {"12", "13"}
    learnt = [item.id for item in read_manifest("data/both/train.jsonl")]
    assert learnt == [item.id for item in (*read_manifest("data/field/train.jsonl"), *corrected)]
    assert checkpoint.load("runs/second").tokenizer.tokens == ["<blank>", " ", *"abcd"]
    assert len(read_hypotheses(Path("runs/second/test/hypotheses.jsonl"))) > 0

    # The words of a recording, each inside the annotation that it is from.
    tiers = {tier.name: tier.intervals for tier in read_tiers(Path("words/3.TextGrid"))}
    assert list(tiers) == ["segments s3", "words s3", "segments s4", "words s4"]
    for speaker in ("s3", "s4"):
        spoken = [item for item in annotated if item.audio_filepath.stem == "3" and item.speaker == speaker]
        words = tiers[f"words {speaker}"]
        assert [word.text for word in words] == " ".join(item.text for item in spoken).split()
        for word in words:
            assert any(item.offset <= word.start_s < word.end_s <= item.offset + item.duration for item in spoken)
    segments, words = read_tiers(Path("legend.TextGrid"))
    assert " ".join(word.text for word in words.intervals) == Path("legend.txt").read_text().replace("\n", " ")
    assert " ".join(segment.text for segment in segments.intervals) == " ".join(word.text for word in words.intervals)
