"""Log-probabilities on disk: what is written is read, and whatever is wrong with a file is named."""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr.emissions import Emissions, Vocabulary, read_emissions, read_labels, write_emissions
from asr.errors import DecodeError
from peaky import LABELS, VOCABULARY, spelled, write_spelled

# Ids that numpy.savez would trip over stand among them.
TEXTS = {"file": "ab cab", "a/b": "dad", "../ü": "h"}


def test_round_trip(tmp_path: Path) -> None:
    made = Emissions(VOCABULARY, {name: spelled(text) for name, text in TEXTS.items()}, TEXTS)
    write_emissions(tmp_path / "new" / "e.npz", made)
    found = read_emissions(tmp_path / "new" / "e.npz")
    assert (found.vocabulary, found.refs) == (VOCABULARY, TEXTS)
    assert list(found.log_probs) == list(TEXTS)
    for name, rows in made.log_probs.items():
        np.testing.assert_array_equal(found.log_probs[name], rows)
        assert found.log_probs[name].dtype == np.float32
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["e.json", "e.npz"]


@pytest.mark.parametrize(
    ("vocabulary", "written"),
    [
        (VOCABULARY, 1),
        (Vocabulary(("|", "<pad>", "a"), 1, "|"), 0),
        (Vocabulary(("<b>", "\u2581a", "b"), 0, "\u2581"), "\u2581"),  # begins pieces and is none itself
        (Vocabulary(("<b>", "a", "b"), 0, " "), None),
    ],
)
def test_separators(tmp_path: Path, vocabulary: Vocabulary, written: object) -> None:
    rows = np.log(np.full((2, len(vocabulary.labels)), 1 / len(vocabulary.labels)))
    write_emissions(tmp_path / "e.npz", Emissions(vocabulary, {"u": rows}, {}))
    facts = json.loads((tmp_path / "e.json").read_text())
    assert list(facts) == ["labels", "blank", "space", "frame_s", "refs"]
    assert facts["space"] == written
    assert read_emissions(tmp_path / "e.npz").vocabulary == vocabulary


def test_what_numpy_wrote_with_labels_from_elsewhere(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "e.npz", u=spelled("ab").astype(np.float16), v=spelled("h").astype(np.float64))
    found = read_emissions(tmp_path / "e.npz", VOCABULARY)
    assert [rows.dtype for rows in found.log_probs.values()] == [np.float16, np.float64]
    assert found.refs == {}


def test_ids_that_end_like_a_file_of_numpy(tmp_path: Path) -> None:
    rows = {"a": spelled("ab"), "a.npy": spelled("cab")}
    write_emissions(tmp_path / "e.npz", Emissions(VOCABULARY, rows, {}))
    found = read_emissions(tmp_path / "e.npz").log_probs
    assert {name: len(matrix) for name, matrix in found.items()} == {name: len(matrix) for name, matrix in rows.items()}


def test_references_without_an_utterance_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_emissions(tmp_path / "e.npz", Emissions(VOCABULARY, {"u": spelled("ab")}, {"u": "ab", "v": "b", "w": "b"}))
    assert dict(read_emissions(tmp_path / "e.npz").refs) == {"u": "ab"}
    assert "e.json: 2 of 3 refs have no utterance in" in caplog.text
    assert caplog.text.rstrip().endswith("e.npz, e.g. v")


def test_labels_a_line(tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_text("<blank>\r\n<space>\r\na\r\n'\r\n", encoding="utf-8", newline="")
    assert read_labels(tmp_path / "tokens.txt") == Vocabulary(("<blank>", " ", "a", "'"))


def change(**facts: Any) -> Callable[[Path], object]:
    def edit(path: Path) -> None:
        description = path.with_suffix(".json")
        description.write_text(json.dumps({**json.loads(description.read_text()), **facts}))

    return edit


def member(name: str, content: bytes) -> Callable[[Path], object]:
    def add(path: Path) -> None:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, content)

    return add


def header(shape: str, kind: str = "<f4") -> bytes:
    """A numpy file that says more than it holds."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{}], object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda path: path.unlink(), "e.npz: cannot be read: No such file or directory"),
        (lambda path: path.with_suffix(".json").unlink(), "e.json: cannot read description: No such file or directory"),
        (lambda path: path.write_bytes(b""), "e.npz: damaged or not an .npz file: "),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "e.npz: damaged or not an .npz file: "),
        (lambda path: path.write_bytes(header("(1,)") + bytes(4)), "e.npz: is one array, wanted one for each"),
        (lambda path: np.savez(path), "e.npz: holds no utterance"),
        (member("v.npy", header("(3, 10)")), "e.npz: utterance v: cannot be read: "),
        (member("v.npy", header(f"({10**12}, 10)")), "e.npz: utterance v: cannot be read: "),
        (member("v.npy", pickled()), "e.npz: utterance v: cannot be read: Object arrays cannot be loaded"),
        (member("notes.txt", b"no array"), "e.npz: utterance notes.txt: is no numpy array"),
        (lambda path: np.savez(path, u=np.zeros((4, 9))), "e.npz: utterance u: expected log-probabilities of shape (T"),
        (
            lambda path: np.savez(path, u=np.zeros(10)),
            "e.npz: utterance u: expected log-probabilities of shape (T",
        ),
        (lambda path: np.savez(path, u=np.zeros((4, 10), int)), "e.npz: utterance u: expected floating-point log-prob"),
        (lambda path: np.savez(path, u=np.zeros((4, 10))), "e.npz: utterance u, frame 0: probabilities sum to 10, not"),
        (
            lambda path: np.savez(path, u=np.where(np.arange(12)[:, None] == 7, np.nan, spelled("ab cab"))),
            "e.npz: utterance u, frame 7: log-probability is nan",
        ),
        (lambda path: path.with_suffix(".json").write_text("{"), "e.json: not a JSON record: "),
        (lambda path: path.with_suffix(".json").write_bytes(b"\xff"), "e.json: not UTF-8 text (byte 0)"),
        (lambda path: path.with_suffix(".json").write_text("[" * 100_000), "e.json: not a JSON record: "),
        (lambda path: path.with_suffix(".json").write_text("[]"), "e.json: expected a JSON object, found list"),
        (change(labels=None), "e.json: labels must be a list of strings, found None"),
        (change(labels=[*LABELS[:-1], 3]), "e.json: labels must be a list of strings, found ['<blank>', ' ', 'a',"),
        (change(labels=[*LABELS[:-1], "a"]), "e.json: label 'a' stands twice in the vocabulary, at 2 and 9"),
        (change(labels=list(LABELS[:-1])), "e.npz: utterance u: expected log-probabilities of shape (T, 9), found"),
        (change(blank=10), "e.json: blank=10 is outside the vocabulary of 10 labels"),
        (change(blank="a"), "e.json: blank must be the index of a label, found 'a'"),
        (change(space=10), "e.json: space must be the index of a label, a text or null, found 10"),
        (change(space=True), "e.json: space must be the index of a label, a text or null, found True"),
        (change(space="|"), "e.json: space '|' is none of the 10 labels and none begins with it"),
        (change(frame_s=0), "e.json: frame_s must be positive, found 0"),
        (change(frame_s="0.04"), "e.json: frame_s must be a number of seconds, found '0.04'"),
        (change(refs=["ab cab"]), "e.json: refs must give a text for each utterance id, found ['ab cab']"),
        (change(refs={"v": "a"}), "e.json: refs has no text for utterance u, which is in "),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, edit: Callable[[Path], object], message: str) -> None:
    path = write_spelled(tmp_path / "e.npz", {"u": spelled("ab cab")}, {"u": "ab cab"})
    edit(path)
    with pytest.raises(DecodeError) as raised:
        read_emissions(path)
    assert str(raised.value).startswith(f"{tmp_path}/{message}")
    assert "\n" not in str(raised.value)


def test_other_keys_and_references_of_others_are_left_alone(tmp_path: Path) -> None:
    path = write_spelled(tmp_path / "e.npz", {"u": spelled("ab")}, {"u": "ab"})
    change(heldout=["u"], refs={"v": "h", "u": "ab"})(path)
    assert read_emissions(path).refs == {"u": "ab"}


def test_a_blank_from_the_end(tmp_path: Path) -> None:
    path = write_spelled(tmp_path / "e.npz", {"u": spelled("ab")})
    change(blank=-1)(path)
    assert read_emissions(path).vocabulary.blank == len(LABELS) - 1


def test_names(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"one\.txt: wanted a \.npy file with a matrix .* numpy\.savez\(FILE, "):
        read_emissions(tmp_path / "one.txt")
    with pytest.raises(DecodeError, match=r"e\.bin: the name of a file of log-probabilities must end in \.npz"):
        write_emissions(tmp_path / "e.bin", Emissions(replace(VOCABULARY), {}, {}))
