"""Every command of docs/calls.md runs as it stands, on calls in the language of tests/tones.py."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import checkpoint
from asr.hypotheses import read_hypotheses
from asr.manifest import read_manifest
from asr.train import Trainer
from page_commands import blocks_of, commands_of, run
from tones import RATE_HZ, tiny, wave, write_corpus

BLOCKS = blocks_of("calls.md")
TEXTS = ["ab cab", "bad cab", "ba", "dab", "abba cab", "cad ab", "ba dab", "cab", "ad ba", "dab cab"]


def write_calls(folder: Path) -> None:
    """Sixteen calls of two speakers, two utterances each; the table is of ten of them."""
    rows = [BLOCKS[0][1].splitlines()[0]]
    (folder / "calls").mkdir()
    for call in range(16):
        sides = []
        for channel in (0, 1):
            now, pieces = 0.5, [np.zeros(RATE_HZ // 2)]
            for number in (0, 1):
                text = TEXTS[(call + 3 * channel + 5 * number) % len(TEXTS)]
                pieces += [wave(text), np.zeros(RATE_HZ)]
                seconds = len(pieces[-2]) / RATE_HZ
                if call < 10:
                    rows.append(f"calls/{call}.wav,{now},{seconds},{channel},s{2 * call + channel},{text}")
                now += seconds + 1
            sides.append(np.concatenate(pieces))
        stereo = np.zeros((max(map(len, sides)), 2))
        for channel, side in enumerate(sides):
            stereo[: len(side), channel] = side
        soundfile.write(folder / "calls" / f"{call}.wav", stereo, RATE_HZ, subtype="PCM_16")
    (folder / "calls.csv").write_text("\n".join(rows) + "\n")


def test_from_calls_to_a_model_that_learnt_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_calls(tmp_path)
    manifest = write_corpus(tmp_path / "other", TEXTS * 2)
    beginning = tmp_path / "recipes" / "an4" / "model"
    quickly = ("train.epochs=40", "train.batch_s=4", "train.dev_every=40", "train.learning_rate=0.02")
    Trainer(tiny(manifest, manifest, *quickly), beginning).run()
    monkeypatch.chdir(tmp_path)
    assert [language for language, _ in BLOCKS] == ["csv", "sh", "sh", "sh", "text", "sh", "sh"]
    for line in commands_of(BLOCKS):
        run(line)
        if "--beside" in line:  # calls 10 to 13 are to be corrected
            for path in Path("calls").glob("*.srt"):
                if path.name.split("#")[0] not in ("10", "11", "12", "13"):
                    path.unlink()
    train, heard = (read_manifest(Path("data") / f"{name}.jsonl") for name in ("train", "heard"))
    assert {item.channel for item in train} == {0, 1}
    assert {item.audio_filepath.name for item in heard} <= {"14.wav", "15.wav"}
    assert len(read_hypotheses(Path("runs/second/test/hypotheses.jsonl"))) > 0
    assert checkpoint.load("runs/second").tokenizer.tokens == checkpoint.load(beginning).tokenizer.tokens
    assert len(list(Path("texts").glob("*.srt"))) == 32
    dialogues = [path.read_text().splitlines() for path in Path("dialogues").iterdir()]
    assert len(dialogues) == 16
    assert {line[:3] for lines in dialogues for line in lines} == {"0: ", "1: "}
    corrected = read_manifest(Path("corrected/train.jsonl"))
    learnt = read_manifest(Path("data/both.jsonl"))
    assert [item.id for item in learnt] == [item.id for item in (*train, *corrected, *heard)]
    assert {item.id.split("-")[0].split("#")[1] for item in corrected} == {"0", "1"}
    assert all(item.id.startswith(f"{item.audio_filepath.stem}#{item.channel}-") for item in corrected)
    assert {line.split()[1] for line in Path("calls.ctm").read_text().splitlines()} == {"1", "2"}


def test_the_table_of_the_page_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "calls.csv").write_text(BLOCKS[0][1])
    (tmp_path / "calls").mkdir()
    for name in ("monday", "tuesday"):
        soundfile.write(tmp_path / "calls" / f"{name}.wav", np.zeros((5 * RATE_HZ, 2)), RATE_HZ)
    monkeypatch.chdir(tmp_path)
    run(BLOCKS[1][1].strip())
    found = [item for name in ("train", "dev", "test") for item in read_manifest(Path("data") / f"{name}.jsonl")]
    assert sorted((item.text, item.speaker, item.channel, item.offset) for item in found) == [
        ("january nineteen", "cleo", 0, 0.5),
        ("one two five", "ann", 0, 0.4),
        ("stop", "dan", 1, 4.1),
        ("yes", "bob", 1, 3.0),
    ]
