"""Several files of log-probabilities as one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asr.cli import main
from asr.emissions import Emissions, Vocabulary, read_emissions, write_emissions
from asr.ensemble import read_ensemble, read_models
from asr.errors import DecodeError
from peaky import spelled, write_arpa, write_spelled
from tiny_run import error_line, save_run

Capture = pytest.CaptureFixture[str]
VOCABULARY = Vocabulary(("_", "a", "b"), frame_s=0.04)
REFS = {"u0": "ab", "u1": "b"}


def drawn(seed: int) -> Emissions:
    """Log-probabilities of two utterances."""
    generator = np.random.default_rng(seed)
    logits = {name: generator.normal(size=(frames, 3)) * 2 for name, frames in (("u0", 5), ("u1", 3))}
    rows = {name: (one - np.logaddexp.reduce(one, axis=1, keepdims=True)) for name, one in logits.items()}
    return Emissions(VOCABULARY, rows, REFS)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{seed}.npz" for seed in range(3)]
    for seed, path in enumerate(paths):
        write_emissions(path, drawn(seed))
    return paths


def test_the_mean_is_normalised_anew(files: list[Path]) -> None:
    found = read_ensemble(files)
    assert found.vocabulary == VOCABULARY
    assert found.refs == REFS
    for name, rows in found.log_probs.items():
        product = np.prod([np.exp(drawn(seed).log_probs[name]) for seed in range(3)], axis=0) ** (1 / 3)
        np.testing.assert_allclose(np.exp(rows), product / product.sum(axis=1, keepdims=True), rtol=1e-5)


def test_one_file_is_itself_and_copies_change_nothing(files: list[Path]) -> None:
    alone = read_ensemble(files[:1])
    twice = read_ensemble([files[0], files[0]])
    for name, rows in read_emissions(files[0]).log_probs.items():
        np.testing.assert_array_equal(alone.log_probs[name], rows)
        np.testing.assert_allclose(twice.log_probs[name], rows, atol=1e-6)


def test_references_of_any_file_count(files: list[Path]) -> None:
    write_emissions(files[0], Emissions(VOCABULARY, drawn(0).log_probs, {}))
    assert read_ensemble(files).refs == REFS


def test_who_has_the_reference_is_named(files: list[Path]) -> None:
    write_emissions(files[0], Emissions(VOCABULARY, drawn(0).log_probs, {}))
    write_emissions(files[2], Emissions(VOCABULARY, drawn(2).log_probs, REFS | {"u1": "a"}))
    for read in (read_ensemble, read_models):
        with pytest.raises(DecodeError, match=r"2\.npz: utterance u1: its reference is not that of .*1\.npz"):
            read(files)


def other(**changes: object) -> Callable[[Path], None]:
    """Writes the second file anew with other facts."""

    def write(path: Path) -> None:
        facts = {"vocabulary": VOCABULARY, "log_probs": drawn(1).log_probs, "refs": REFS} | changes
        write_emissions(path, Emissions(**facts))  # type: ignore[arg-type]

    return write


def impossible(path: Path) -> None:
    """The second file rules out in a frame what the first allows."""
    for name, label in (("0.npz", 0), ("1.npz", 1)):
        rows = drawn(0).log_probs | {"u1": np.full((3, 3), -np.inf)}
        rows["u1"][:, label] = 0
        write_emissions(path.with_name(name), Emissions(VOCABULARY, rows, REFS))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (other(vocabulary=Vocabulary(("_", "b", "a"), frame_s=0.04)), r"1\.npz and .*0\.npz differ in labels"),
        (other(vocabulary=Vocabulary(("_", "a", "b"), frame_s=0.02)), r"1\.npz and .*0\.npz differ in frame_s"),
        (
            other(log_probs={"u0": drawn(1).log_probs["u0"]}, refs={}),
            r"1\.npz: utterance u1 is in only one of this file and",
        ),
        (
            other(log_probs=drawn(1).log_probs | {"u2": np.log(np.full((1, 3), 1 / 3))}, refs={}),
            r"1\.npz: utterance u2 is in only one",
        ),
        (
            other(log_probs={name: rows[:3] for name, rows in drawn(1).log_probs.items()}),
            r"1\.npz: utterance u0: has 3 frames, but 5 in .*0\.npz",
        ),
        (other(refs=REFS | {"u1": "a"}), r"1\.npz: utterance u1: its reference is not that of .*0\.npz"),
        (impossible, "utterance u1: no label of frame 0 is possible for all models"),
    ],
)
def test_what_does_not_go_together_is_named(files: list[Path], edit: Callable[[Path], None], message: str) -> None:
    edit(files[1])
    with pytest.raises(DecodeError, match=message):
        read_ensemble(files)


def test_commands_take_several_files(capsys: Capture, tmp_path: Path) -> None:
    refs = {"u": "cb"}
    sure = write_spelled(tmp_path / "sure.npz", {"u": spelled("cb")}, refs)
    unsure = write_spelled(tmp_path / "unsure.npz", {"u": spelled("ab", instead={0: "c"})}, refs)
    assert main(["decode", str(unsure)]) == 0
    assert capsys.readouterr().out == "u\tab\n"
    assert main(["decode", str(unsure), str(sure)]) == 0
    out, err = capsys.readouterr()
    assert out == "u\tcb\n"
    assert err.startswith("WER 0.00% [0 / 1, ")
    run = save_run(tmp_path / "run")
    lm = write_arpa(tmp_path / "lm.arpa", [(-1.0, "ab"), (-1.5, "cb")])
    assert main(["tune", str(run), "--lm", str(lm), "--emissions", str(unsure), str(sure), "--alpha", "0", "1"]) == 0
    assert capsys.readouterr().err.startswith(f"tuning on {unsure}, {sure}\n")
    sure.with_suffix(".json").unlink()
    line = error_line(capsys, "decode", unsure, sure)
    assert f"{sure.with_suffix('.json')}: is missing" in line
