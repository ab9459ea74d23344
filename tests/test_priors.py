"""How likely labels are by themselves: estimated, kept, and discounted in the beam."""

import json
from pathlib import Path

import numpy as np
import pytest

from asr import checkpoint, priors
from asr.cli import main
from asr.decode import BeamDecoder
from asr.errors import DecodeError
from peaky import LABELS, VOCABULARY, spelled, write_arpa, write_spelled
from random_ctc import random_log_probs
from tiny_run import error_line, save_run, succeed


def test_the_mean_of_all_frames() -> None:
    """As if each label had been seen in a frame more, so that none is impossible."""
    rows = np.log(np.array([[0.5, 0.5, 1e-30], [1 - 1e-9, 1e-9, 1e-30]]))
    found = priors.estimate([rows[:1], rows[1:]], 3)
    assert np.exp(found) == pytest.approx([2.5 / 5, 1.5 / 5, 1 / 5])


def test_there_and_back(tmp_path: Path) -> None:
    labels = ("<blank>", " ", "a\tb", "")
    values = np.log([0.5, 0.25, 0.125, 0.125])
    priors.write(tmp_path / "priors.txt", labels, values)
    assert (tmp_path / "priors.txt").read_text().startswith("<blank>\t-0.693147\n<space>\t-1.386294\n")
    assert priors.read(tmp_path / "priors.txt", labels) == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\t-1\n", "has 1 lines for 2 labels"),
        ("a\t-1\nb -1\n", ":2: wanted label TAB natural-log probability, found 'b -1'"),
        ("a\t-1\nb\tx\n", ":2: wanted label TAB natural-log probability"),
        ("a\t-1\nb\t0.1\n", ":2: wanted label TAB natural-log probability"),
        ("a\tnan\nb\t-1\n", ":1: wanted label TAB natural-log probability"),
        ("a\t-inf\nb\t-1\n", ":1: wanted label TAB natural-log probability"),
        ("b\t-1\na\t-1\n", ":1: is of label 'b', wanted 'a'"),
        ("a\t-0.5\nb\t-0.5\n", "priors.txt: log_priors: their probabilities sum to 1.213, not 1"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "priors.txt"
    file.write_text(content)
    with pytest.raises(DecodeError, match=message):
        priors.read(file, ["a", "b"])


EVEN = [float(np.log(0.1))] * 10


def discounted(rows: np.ndarray, log_priors: np.ndarray, weight: float) -> np.ndarray:
    found = rows - weight * log_priors
    return np.asarray(found - np.logaddexp.reduce(found, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("frames", [6, 700])  # many in one call of the kernel, and one too long for that
def test_the_beam_decodes_what_is_left(frames: int) -> None:
    rows = [random_log_probs(np.random.default_rng(seed), frames, len(LABELS)) for seed in range(5)]
    log_priors = priors.estimate(rows, len(LABELS)) - np.linspace(3, 0, len(LABELS))
    log_priors -= np.logaddexp.reduce(log_priors)
    plain, fair = BeamDecoder(LABELS), BeamDecoder(LABELS, log_priors=log_priors, prior_weight=0.7)
    wanted = plain([discounted(row, log_priors, 0.7) for row in rows])
    found = fair(rows)
    assert [one.text for (one,) in found] == [one.text for (one,) in wanted]
    assert [one.text for (one,) in found] != [one.text for (one,) in plain(rows)]
    assert [one.score for (one,) in found] == pytest.approx([one.score for (one,) in wanted], rel=1e-4)
    stream = fair.stream()
    for start in range(0, frames, 5):
        stream.accept(rows[0][start : start + 5])
    assert stream.finish() == found[0]  # to the bit
    assert BeamDecoder(LABELS, log_priors=log_priors, prior_weight=0)(rows) == plain(rows)


@pytest.mark.parametrize("log_priors", [[-1.0], [[-1.0] * 10], [0.1] * 10, [float("-inf")] * 10, [float("nan")] * 10])
def test_priors_that_are_none(log_priors: object) -> None:
    with pytest.raises(DecodeError, match="log_priors must be 10 finite numbers at most 0, one for each label"):
        BeamDecoder(LABELS, log_priors=log_priors)
    with pytest.raises(DecodeError, match="log_priors: their probabilities sum to 3"):
        BeamDecoder(LABELS, log_priors=[-1.0] * 10)
    with pytest.raises(DecodeError, match=r"prior_weight must be in 0\.\.1, found 1\.5"):
        BeamDecoder(LABELS, log_priors=EVEN, prior_weight=1.5)


def test_frames_are_checked_as_they_came() -> None:
    rows = spelled("ab")
    rows[2] += 0.1
    with pytest.raises(DecodeError, match=r"utterance 0, frame 2: probabilities sum to 1\.105, not 1"):
        BeamDecoder(LABELS, log_priors=EVEN)([rows])


def test_a_run_is_given_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = save_run(tmp_path / "run")
    lm = write_arpa(tmp_path / "lm.arpa", [(-0.5, "ab"), (-0.5, "ba")])
    texts = {"u": spelled("ab ba"), "v": spelled("ba")}
    dev = write_spelled(tmp_path / "dev.npz", texts, {"u": "ab ba", "v": "ba"})
    tune = ("tune", run, "--lm", lm, "--emissions", dev)
    out, err = succeed(capsys, *tune, "--estimate-priors", "--prior-weight", 0.2)
    assert f"{run}: config.yaml, lm.bin, priors.txt\n" in err
    assert f"priors {run / 'priors.txt'} (weight 0.2)" in err
    kept = priors.read(run / "priors.txt", VOCABULARY.labels)
    assert kept == pytest.approx(priors.estimate(texts.values(), len(LABELS)), abs=1e-6)
    assert checkpoint.load_config(run).decode.priors == "priors.txt"
    assert checkpoint.load(run).decoder.resources.priors == pytest.approx(kept)
    out, _ = succeed(capsys, "decode", dev, "--lm", lm, "--priors", run / "priors.txt")
    assert out == "u\tab ba\nv\tba\n"
    before = (run / "priors.txt").read_bytes()
    assert main(["tune", str(run), "--lm", str(tmp_path / "none"), "--emissions", str(dev), "--estimate-priors"]) == 2
    capsys.readouterr()
    assert (run / "priors.txt").read_bytes() == before  # what fails changes nothing
    description = json.loads(dev.with_suffix(".json").read_text())
    description["labels"][0] = "_"
    dev.with_suffix(".json").write_text(json.dumps(description))
    succeed(capsys, *tune, "--estimate-priors")
    assert checkpoint.load(run).decoder.resources.priors == pytest.approx(kept)
    line = error_line(capsys, "decode", dev, "--prior-weight", 0.3)
    assert line == "error: --prior-weight does nothing without priors: give --priors FILE"
    line = error_line(capsys, *tune, "--estimate-priors", "--priors", run / "priors.txt")
    assert line == "error: give --estimate-priors or --priors FILE, not both"
