"""Every block of docs/decoder.md runs as it stands."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr import checkpoint
from asr.cli import main
from asr.config import Config, load
from asr.decode import NGram
from asr.decoder_files import read_hotwords, read_lexicon
from asr.emissions import Vocabulary
from asr.recognizer import Recognizer
from asr.text import build_tokenizer
from peaky import write_arpa
from random_ctc import random_log_probs

PAGE = Path(__file__).resolve().parent.parent / "docs" / "decoder.md"
SECTIONS = re.findall(
    r"^## ([^\n]+)\n(?:(?!^## ).)*?```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE
)

FILES = re.findall(r"```text\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def names_for(section: str, tmp_path: Path) -> dict[str, Any]:
    """What a block takes from its reader."""
    rng = np.random.default_rng(0)
    if section == "Logits of a HuggingFace model":
        return {"logits": rng.normal(size=(2, 9, 4)), "lengths": [9, 5]}
    if section == "Log-probabilities of a NeMo model":
        return {
            "log_probs": torch.from_numpy(np.stack([random_log_probs(rng, 9, 5)] * 2)),
            "lengths": torch.tensor([9, 4]),
        }
    if section == "A model of this project":
        return {"run": a_run(tmp_path), "waves": torch.randn(2, 16000), "wave_lens": torch.tensor([16000, 12000])}
    if section == "A language model":
        return {"folder": tmp_path}
    if section == "Files of log-probabilities":
        return {"folder": tmp_path, "log_probs": np.stack([random_log_probs(rng, 12, 4)] * 2), "lengths": [12, 9]}
    if section in ("A grammar", "Hotwords"):
        return {"log_probs": random_log_probs(rng, 20, 28)}
    if section == "Streaming":
        return {"chunks": np.split(random_log_probs(rng, 60, 4), [10, 25])}
    return {"log_probs": random_log_probs(rng, 12, 4)}


def a_run(folder: Path) -> Path:
    config: Config = load(None, ["encoder.width=8", "encoder.layers=1", "encoder.conv_channels=2"])
    tokenizer = build_tokenizer(["ab"], config.text)
    checkpoint.start_run(folder, config, tokenizer)
    checkpoint.save_weights(folder, Recognizer(config, tokenizer).state_dict(), {})
    return folder


def test_every_use_is_there() -> None:
    assert len(SECTIONS) == 12


@pytest.mark.parametrize(("section", "code"), SECTIONS, ids=[section for section, _ in SECTIONS])
def test_block_runs(section: str, code: str, tmp_path: Path) -> None:
    assert len(code.strip().splitlines()) <= 10
    exec(compile(code, str(PAGE), "exec"), names_for(section, tmp_path))


def test_the_files_of_log_probabilities_are_decoded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    section = "Files of log-probabilities"
    exec(compile(dict(SECTIONS)[section], str(PAGE), "exec"), names_for(section, tmp_path))
    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "|": 1, "A": 2, "B": 3}))
    for flags in (["--n-best", "3"], ["--labels", str(tmp_path / "vocab.json"), "--frame-s", "0.02"]):
        assert main(["decode", str(tmp_path / "mine.npz"), "--format", "json", *flags]) == 0
        out, err = capsys.readouterr()
        assert [json.loads(line)["id"] for line in out.splitlines()] == ["u1", "u2"]
        assert ("WER" in err) == ("--labels" not in flags)
    monkeypatch.chdir(tmp_path)
    np.save("talk.npy", random_log_probs(np.random.default_rng(0), 12, 4))
    commands = re.findall(r"^asr (decode .* --format (?!json).*)$", PAGE.read_text(), flags=re.MULTILINE)
    made = []
    for command in commands:
        assert main(command.split(" > ")[0].split()) == 0
        made.append(capsys.readouterr().out)
    assert made[0].startswith("1\n00:00:00,000 --> ")
    assert made[1].startswith("u1 1 ")
    assert made[2] == ""
    assert sorted(path.name for path in (tmp_path / "grids").iterdir()) == ["u1.TextGrid", "u2.TextGrid"]


def test_weights_are_tuned_on_files_of_log_probabilities(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    section = "Files of log-probabilities"
    exec(compile(dict(SECTIONS)[section], str(PAGE), "exec"), names_for(section, tmp_path))
    write_arpa(tmp_path / "lm.arpa", [(-1.0, "A"), (-1.5, "B")])
    monkeypatch.chdir(tmp_path)
    tune, decode = re.findall(r"^asr (tune --emissions .*)\n^asr (decode .*)$", PAGE.read_text(), flags=re.MULTILINE)[0]
    before = sorted(tmp_path.iterdir())
    assert main(tune.split()) == 0
    flags = capsys.readouterr().out.splitlines()[-1].split()
    assert flags[::2] == ["--alpha", "--beta"]
    assert sorted(tmp_path.iterdir()) == before
    assert main(decode.split()) == 0
    assert main([*decode.split()[:4], *flags]) == 0


def test_files_are_written_as_they_are_read(tmp_path: Path) -> None:
    lexicon, grammar, hotwords = FILES
    (tmp_path / "lexicon").write_text(lexicon)
    (tmp_path / "hotwords").write_text(hotwords)
    (tmp_path / "lights.txt").write_text(grammar)
    phonemes = Vocabulary(("_", "|", "T", "UW", "AH"), space="|")
    assert read_lexicon(tmp_path / "lexicon", phonemes) == {"two": [["T", "UW"]], "to": [["T", "UW"], ["T", "AH"]]}
    letters = Vocabulary(("_", " ", *"abcdefghijklmnopqrstuvwxyz"))
    assert read_hotwords(tmp_path / "hotwords", letters) == {"new york": 8.0, "york city": 4.5, "san francisco": 5.0}
    [command] = re.findall(r"^asr (lm grammar .*)$", PAGE.read_text(), flags=re.MULTILINE)
    assert main(command.replace("lights", str(tmp_path / "lights")).split()) == 0
    model = NGram.load(tmp_path / "lights.bin")
    assert model.score("turn off the light in the living room".split()) > model.score("turn up the light".split())
