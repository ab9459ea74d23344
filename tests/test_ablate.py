"""Ablations on models of 5,000 weights: what is trained, skipped and compared; and that the settings files load."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from asr import checkpoint
from asr.cli import run_command
from asr.config import DataConfig
from asr.errors import ConfigError
from asr.hypotheses import Result, write_hypotheses
from asr.manifest import Utterance, read_manifest, write_manifest
from tones import RATE_HZ, TINY, wave

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import ablate

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "benchmarks" / "ablations").glob("*.yaml"))


def write_settings(folder: Path, text: str = "- name: first\n- name: wide\n  overrides: [encoder.width=20]\n") -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def write_data(folder: Path) -> Path:
    """Six utterances to train on and four for dev, by five speakers in all."""
    for split, words in (("train", ["ab", "ba", "abba", "ab", "ba", "abba"]), ("dev", ["ab", "ba", "ab", "ba"])):
        utterances = []
        for number, word in enumerate(words):
            path = folder / "audio" / f"{split}{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            samples = wave(word)
            soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
            speaker = f"{split}-{number % (3 if split == 'train' else 2)}"
            utterances.append(Utterance(path.stem, path, len(samples) / RATE_HZ, word, speaker=speaker))
        write_manifest(folder / f"{split}.jsonl", utterances)
    return folder


def command(monkeypatch: pytest.MonkeyPatch, folder: Path, *more: str) -> int:
    conf = folder / "conf.yaml"
    conf.write_text("train: {epochs: 1}\n", encoding="utf-8")
    where = ["--conf", str(conf), "--data", str(folder / "data"), "--out", str(folder / "out")]
    monkeypatch.setattr(sys, "argv", ["ablate.py", str(folder / "settings.yaml"), *where, *more])
    return run_command(ablate.run_all)


@pytest.mark.slow
def test_runs_are_trained_once_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_settings(tmp_path)
    write_data(tmp_path / "data")
    assert command(monkeypatch, tmp_path, "--seeds", "1", "--json", str(tmp_path / "a.json"), *TINY) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("| setting | seeds | mean WER % |")
    assert lines[2].startswith("| first | 1 | ")
    assert lines[2].endswith(" | 1.00 | - |")
    assert lines[3].startswith("| wide | 1 | ")
    assert "[run 2 of 2: " in err
    assert not (tmp_path / "out" / "wide" / "seed-1" / "states").exists()
    facts = json.loads((tmp_path / "a.json").read_text())
    assert [row["setting"] for row in facts["rows"]] == ["first", "wide"]
    assert facts["rows"][0]["counts"]["hits"] + facts["rows"][0]["counts"]["deletions"] <= 4
    weights = tmp_path / "out" / "first" / "seed-1" / "weights.safetensors"
    before = weights.stat().st_mtime_ns

    assert command(monkeypatch, tmp_path, "--seeds", "1,2", *TINY) == 0  # another seed: what is there is kept
    out, err = capsys.readouterr()
    assert "| first | 2 | " in out
    assert "[train: " in err
    assert weights.stat().st_mtime_ns == before

    write_settings(tmp_path, "- name: first\n- name: wide\n  overrides: [encoder.width=24]\n")
    for more in ((), ("--table",)):
        assert command(monkeypatch, tmp_path, "--seeds", "1,2", *more, *TINY) == 2
        assert "holds a run with encoder.width=20, which cannot go on with 24" in capsys.readouterr().err
    write_settings(tmp_path)
    dev = tmp_path / "data" / "dev.jsonl"
    write_manifest(dev, read_manifest(dev)[1:])
    for more in ((), ("--table",)):
        assert command(monkeypatch, tmp_path, "--seeds", "1,2", *more, *TINY) == 2
        assert "was trained on other data than now; --out chooses another folder" in capsys.readouterr().err


@pytest.mark.slow
def test_folds_are_trained_and_pooled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_settings(tmp_path, "- name: only\n")
    write_data(tmp_path / "data")
    assert command(monkeypatch, tmp_path, "--seeds", "1", "--folds", "2", *TINY) == 0
    assert " / 10 | 1.00 | - |" in capsys.readouterr().out  # every utterance was in the dev set of one fold
    assert command(monkeypatch, tmp_path, "--seeds", "1", "--folds", "2", "--table", *TINY) == 0
    assert " / 10 | 1.00 | - |" in capsys.readouterr().out


def test_folds_are_whole_speakers_of_about_equal_length(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    folders = ablate.write_folds(data, tmp_path / "out", 3)
    everyone = {item.id for split in ("train", "dev") for item in read_manifest(data / f"{split}.jsonl")}
    seen: list[str] = []
    for folder in folders:
        rest, held = read_manifest(folder / "train.jsonl"), read_manifest(folder / "dev.jsonl")
        assert {item.speaker for item in rest}.isdisjoint({item.speaker for item in held})
        assert {item.id for item in [*rest, *held]} == everyone
        assert all(item.audio_filepath.is_file() for item in held)
        seen += [item.id for item in held]
    assert sorted(seen) == sorted(everyone)


def test_the_longest_speakers_are_spread() -> None:
    def item(speaker: str | None, seconds: float) -> Utterance:
        return Utterance(f"{speaker}{seconds}", Path("a.wav"), seconds, "a", speaker=speaker)

    groups = ablate.divide([item("a", 9.0), item("b", 5.0), item("c", 5.0), item("d", 1.0)], 2)
    assert [{part.speaker for part in group} for group in groups] == [{"a", "d"}, {"b", "c"}]
    with pytest.raises(ConfigError, match=r"--folds must be 2\.\.2 \(there are 2 speakers\), found 3"):
        ablate.divide([item("a", 1.0), item("b", 1.0)], 3)
    with pytest.raises(ConfigError, match=r"--folds 2: utterance None1\.0 has no speaker"):
        ablate.divide([item("a", 1.0), item(None, 1.0)], 2)


def fake_run(folder: Path, setting: str, seed: int, seconds: float, *hypotheses: str) -> ablate.Run:
    """A complete run whose dev set is `go on` by each of six speakers."""
    data = folder / "data.jsonl"
    data.touch()
    settings = replace(ablate.config.Config(), data=DataConfig(train=str(data), dev=str(data)))
    run = ablate.Run(setting, seed, folder / setting / str(seed), settings)
    results = [Result(f"u{n}", f"s{n}", "go on", text, 1.0) for n, text in enumerate(hypotheses)]
    (run.folder / "dev").mkdir(parents=True)
    write_hypotheses(run.folder / "dev" / "hypotheses.jsonl", results)
    (run.folder / checkpoint.CONFIG_FILE).write_text(ablate.config.to_yaml(settings))
    (run.folder / ablate.DATA_FILE).write_text(json.dumps(ablate._digests(run)))
    lines = [{"epoch": 1, "elapsed_s": 1.0}, {"epoch": 2, "elapsed_s": seconds}, {"event": "skipped"}]
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def test_the_table(tmp_path: Path) -> None:
    right, wrong = ("go on",) * 6, ("no",) * 6
    runs = [
        fake_run(tmp_path, "first", 1, 100.0, *right[:3], *wrong[:3]),
        fake_run(tmp_path, "better", 1, 150.0, *right),
        fake_run(tmp_path, "first", 2, 100.0, *right[:2], *wrong[:4]),
        fake_run(tmp_path, "better", 2, 170.0, *right[:4], *wrong[:2]),
        fake_run(tmp_path, "first", 3, 1.0, *wrong),
        ablate.Run("better", 3, tmp_path / "not-yet", ablate.config.Config()),
    ]
    rows = ablate.summarize(runs)
    assert rows[0].percents == {1: 50.0, 2: pytest.approx(66.667, abs=0.01), 3: 100.0}
    lines = ablate.table(rows, "first").splitlines()
    assert lines[2] == "| first | 3 | 72.22 | 25.46 | 50.00-100.00 | 26 / 36 | 1.00 | - |"
    # Only the seeds that both have: 14 errors against 4 in 24 words, 200 s against 320 s.
    assert lines[3].startswith("| better | 2 | 16.67 | 23.57 | 0.00-33.33 | 4 / 24 | 1.60 | -41.67 (")
    comparison = rows[1].comparison
    assert comparison is not None
    assert comparison.interval is not None
    assert comparison.interval.unit == "speaker"
    facts = json.loads(json.dumps(ablate.as_json(rows[1])))
    assert facts["difference_points"] == pytest.approx(-41.667, abs=0.01)
    assert facts["comparison"]["b"] == {"hits": 20, "substitutions": 2, "deletions": 2, "insertions": 0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "wanted a list of settings, found dict"),
        ("- name: [", "not valid YAML"),
        ("- overrides: []", "setting 1: wanted a name and overrides"),
        ("- name: a\n  override: [x=1]", "setting 1: wanted a name and overrides"),
        ("- name: a\n- name: a", "setting 2: wanted a name of its own that a folder can have, found 'a'"),
        ("- name: ../a", "setting 1: wanted a name of its own that a folder can have"),
        ("- name: a\n  overrides: x=1", r"setting 1 \(a\): wanted overrides as \[key=value, ...\], found 'x=1'"),
        ("- name: a\n  overrides: [train.seed=3]", r"\(a\): train\.seed cannot be in a setting; --seeds decides it"),
    ],
)
def test_settings_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ablate.read_settings(write_settings(tmp_path, text))


def test_a_wrong_key_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_data(tmp_path / "data")
    write_settings(tmp_path, "- name: first\n- name: odd\n  overrides: [encoder.wdth=3]\n")
    assert command(monkeypatch, tmp_path) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: setting odd: override 'encoder.wdth=3': unknown key")
    assert not (tmp_path / "out").exists()
    write_settings(tmp_path)
    assert command(monkeypatch, tmp_path, "--table") == 2
    assert "no seed of any setting is complete yet" in capsys.readouterr().err
    assert command(monkeypatch, tmp_path, "--seeds", "one") == 2
    assert capsys.readouterr().err == "error: --seeds must be integers joined by commas, found 'one'\n"
    assert command(monkeypatch, tmp_path, "train.seed=9") == 2
    assert capsys.readouterr().err == "error: train.seed=9: --seeds decides train.seed\n"
    assert command(monkeypatch, tmp_path, "--folds", "2", "data.train=/x.jsonl") == 2
    assert "data.train=/x.jsonl cannot be had in folds" in capsys.readouterr().err


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_settings_files_load(path: Path) -> None:
    settings = ablate.read_settings(path)
    assert not settings[0].overrides  # the configuration as it is
    conf = ROOT / "conf" / f"{path.stem.partition('-')[0]}.yaml"
    runs = ablate.plan(settings, conf, [], [1], Path("out"), [Path("data")])
    assert len({str(run.settings) for run in runs}) == len(runs)  # each differs from all others
