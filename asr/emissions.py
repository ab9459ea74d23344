"""Log-probabilities on disk, to decode and tune without the model that made them, on any machine.

`NAME.npz` holds a float32 (float16 and float64 are read too) matrix (T, V) of natural-log probabilities for each
utterance id; `NAME.npy` holds that of one utterance. `NAME.json` beside it says what they mean:

    labels   V symbols
    blank    index of the CTC blank; -1 is the last label
    space    index of the word separator among the labels, or the separator itself; null where there is none
    frame_s  seconds from one frame to the next
    lexicon  if labels are phones, word -> pronunciations, each its labels separated by spaces; may be left out
    refs     utterance id -> reference text; may be left out
    source   what the log-probabilities were computed from, to tell whether that has changed; may be left out
"""

import contextlib
import json
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.decode.hypothesis import Reading
from asr.decode.inputs import check_labels, check_shape, probabilities, warn_once
from asr.errors import DecodeError
from asr.files import atomic_path, write_text_atomic
from asr.lexicon import Lexicon, as_json
from asr.lines import json_object, read_label, read_text

_SAVE = "numpy.savez(FILE, **{id: log_probs, ...})"  # what errors advise
_WRITTEN = {"labels", "blank", "space", "frame_s", "refs"}  # what `write_emissions` always writes


@dataclass(frozen=True)
class Vocabulary:
    """What the columns of log-probabilities mean.

    Attributes:
        labels: V symbols.
        blank: index of the CTC blank.
        space: word separator, as decoders take it.
        frame_s: seconds from one frame to the next.
        lexicon: the words that labels are read as, if these are phones.
    """

    labels: tuple[str, ...]
    blank: int = 0
    space: str = " "
    frame_s: float = 1.0
    lexicon: Lexicon | None = None

    @cached_property
    def reading(self) -> Reading:
        """How the labels are read as words; DecodeError where a pronunciation has something that is no label."""
        return Reading.of(self.labels, self.blank, self.space, self.frame_s, self.lexicon)


@dataclass(frozen=True)
class Emissions:
    """Log-probabilities of utterances by id, in order.

    Attributes:
        vocabulary: what their columns mean.
        log_probs: (T, V) floating-point natural-log probabilities by id.
        refs: reference text by id: of every utterance, or of none.
        source: what they were computed from, in any form; "" if that is not known.
    """

    vocabulary: Vocabulary
    log_probs: Mapping[str, NDArray[Any]]
    refs: Mapping[str, str]
    source: str = ""


def require_npz(path: Path) -> None:
    """Raise DecodeError unless the name ends in .npz: the name of the JSON beside it is made from it."""
    if path.suffix != ".npz":
        raise DecodeError(f"{path}: the name of a file of log-probabilities must end in .npz")


def require_own_place(path: Path) -> None:
    """Refuse, before hours of recognition, a place where log-probabilities would replace something else.

    Raises:
        DecodeError: the name does not end in .npz, or there is a file of that name or a JSON file beside it, and the
            latter is not as `write_emissions` writes it.
    """
    require_npz(path)
    beside = path.with_suffix(".json")
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
        found = json.loads(beside.read_bytes())
        if isinstance(found, dict) and found.keys() >= _WRITTEN:
            return
    for there in (beside, path):
        if there.exists():
            raise DecodeError(f"{path}: would replace {there}, which asr evaluate has not written")


def write_emissions(path: Path, emissions: Emissions) -> None:
    """Write `path` (.npz) and the JSON beside it; complete once `path` exists.

    Raises:
        DecodeError: the name of `path` does not end in .npz.
    """
    require_npz(path)
    vocabulary = emissions.vocabulary
    facts: dict[str, Any] = {
        "labels": vocabulary.labels,
        "blank": vocabulary.blank,
        "space": _written_space(vocabulary),
        "frame_s": vocabulary.frame_s,
        "refs": dict(emissions.refs),
    }
    if emissions.source:
        facts["source"] = emissions.source
    if vocabulary.lexicon is not None:
        facts["lexicon"] = as_json(vocabulary.lexicon)
    write_text_atomic(path.with_suffix(".json"), json.dumps(facts, ensure_ascii=False, indent=1) + "\n")
    # numpy.savez takes ids as keyword arguments, and "file" is one of its own.
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, rows in emissions.log_probs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(rows, np.float32))


def read_emissions(path: Path, meaning: Vocabulary | Path | None = None) -> Emissions:
    """Read and check what `write_emissions`, or anyone's `numpy.savez`, wrote; or `numpy.save`.

    Args:
        path: the .npz file, or a .npy file of one utterance, whose id is the file's name without the suffix.
        meaning: what the columns mean, without references, or the JSON file that says it; None: the one beside `path`.

    Raises:
        DecodeError: a file is missing or damaged, a matrix is not of log-probabilities of V labels, or an utterance
            has no reference while others have. The message names file and utterance. The logger `asr.decode` warns of
            references without an utterance.
    """
    if path.suffix not in (".npz", ".npy"):
        raise DecodeError(f"{path}: wanted a .npy file with a matrix (T, V), or .npz for several utterances: {_SAVE}")
    if not path.exists():  # otherwise the file beside it would be reported first
        raise DecodeError(f"{path}: cannot be read: No such file or directory")
    refs: Mapping[str, str] = {}
    source = ""
    if not isinstance(meaning, Vocabulary):
        meaning = path.with_suffix(".json") if meaning is None else meaning
        vocabulary, refs, source = _read_description(meaning)
    else:
        vocabulary = meaning
    log_probs = _read_matrices(path)
    for name, rows in log_probs.items():
        if rows.ndim == 3:
            raise DecodeError(
                f"{path}: utterance {name}: is a batch of shape {rows.shape}, wanted a matrix (T, V) per utterance: "
                "numpy.savez(FILE, **{id: log_probs[b, :length], ...})"
            )
        check_shape(rows, f"{path}: utterance {name}", len(vocabulary.labels))
        probabilities(rows, f"{path}: utterance {name}")
        if refs and name not in refs:
            raise DecodeError(f"{meaning}: refs has no text for utterance {name}, which is in {path}")
    alone = [name for name in refs if name not in log_probs]
    if alone:
        warn_once(f"{meaning}: {len(alone)} of {len(refs)} refs have no utterance in {path}, e.g. {alone[0]}")
    return Emissions(vocabulary, log_probs, {name: refs[name] for name in log_probs} if refs else {}, source)


def _read_description(path: Path) -> tuple[Vocabulary, dict[str, str], str]:
    """Vocabulary, references and source of a JSON file; keys that the module does not name are ignored."""
    facts = _read_object(path)
    labels = facts.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DecodeError(f"{path}: labels must be a list of strings, found {_shown(labels)}")
    blank, frame_s = facts.get("blank", 0), facts.get("frame_s", 1.0)
    if not _is_index(blank):
        raise DecodeError(f"{path}: blank must be the index of a label, found {_shown(blank)}")
    if isinstance(frame_s, bool) or not isinstance(frame_s, int | float) or abs(frame_s) > 1e9:
        raise DecodeError(f"{path}: frame_s must be a number of seconds, found {_shown(frame_s)}")
    refs = facts.get("refs") or {}
    if not isinstance(refs, dict) or not all(isinstance(text, str) for text in refs.values()):
        raise DecodeError(f"{path}: refs must give a text for each utterance id, found {_shown(refs)}")
    refs = {name: " ".join(text.split()) for name, text in refs.items()}  # as hypotheses are: lines of files have ends
    space, lexicon = _read_space(facts.get("space"), labels, path), _read_lexicon(facts.get("lexicon"), labels, path)
    vocabulary = Vocabulary(tuple(labels), blank, space, float(frame_s), lexicon)
    return checked(vocabulary, path), refs, str(facts.get("source") or "")


def _read_object(path: Path) -> dict[str, Any]:
    return json_object(read_text(path, "description", DecodeError), str(path), DecodeError)


def is_description(path: Path) -> bool:
    """Whether a file is JSON as `write_emissions` writes it, not labels for `read_labels`; DecodeError as that."""
    return path.suffix == ".json" and "labels" in _read_object(path)


def read_labels(path: Path, **settings: Any) -> Vocabulary:
    """The vocabulary of a text file with one label a line, in order; `<space>` stands for " ".

    A JSON file gives the column of each label, as HuggingFace's vocab.json: `<pad>` or `[PAD]` is the blank there, and
    `|` the separator if it is a label.

    Args:
        path: the file.
        settings: what the vocabulary has instead of what the file says, or of what `Vocabulary` says; `blank` may be
            the label itself.

    Raises:
        DecodeError: the file cannot be read, a label occurs twice, the columns are not 0 to V - 1, a setting does not
            fit the labels, or nothing says which label is the blank.
    """
    if path.suffix == ".json":
        columns = _read_object(path)
        if not all(map(_is_index, columns.values())) or {*columns.values()} != {*range(len(columns))}:
            raise DecodeError(f"{path}: wanted labels, or the column of each label, from 0 to {len(columns) - 1}")
        labels = sorted(columns, key=columns.__getitem__)
        blanks = [columns[name] for name in ("<pad>", "[PAD]") if name in columns]
        if len(blanks) != 1 and "blank" not in settings:
            raise DecodeError(f"{path}: which label is the blank? --blank says so where <pad> or [PAD] does not")
        said = {"blank": blanks[0] if blanks else 0, "space": "|" if "|" in columns else " "}
    else:
        lines = read_text(path, "labels", DecodeError).split("\n")
        labels = [read_label(line.removesuffix("\r")) for line in (lines if lines[-1] else lines[:-1])]
        said = {}
    if isinstance(settings.get("blank"), str):
        if settings["blank"] not in labels:
            raise DecodeError(f"{path}: blank {settings['blank']!r} is none of the {len(labels)} labels")
        settings["blank"] = labels.index(settings["blank"])
    return checked(Vocabulary(tuple(labels), **{**said, **settings}), path)


def checked(vocabulary: Vocabulary, path: Path) -> Vocabulary:
    """The vocabulary of a file, once checked; DecodeError if a value is out of range, or no label has the separator."""
    try:
        _, blank = check_labels(vocabulary.labels, vocabulary.blank)
    except DecodeError as error:
        raise DecodeError(f"{path}: {error}") from error
    if not 0 < vocabulary.frame_s < math.inf:
        raise DecodeError(f"{path}: frame_s must be positive, found {vocabulary.frame_s:g}")
    separator = vocabulary.space
    if separator != " " and not any(label.startswith(separator) for label in vocabulary.labels):
        raise DecodeError(
            f"{path}: space {separator!r} is none of the {len(vocabulary.labels)} labels and none begins with it"
        )
    return replace(vocabulary, blank=blank)


def _read_matrices(path: Path) -> dict[str, NDArray[Any]]:
    try:
        # Our own handle: numpy leaves the one that it opens to the garbage collector when the file is damaged.
        with path.open("rb") as file:
            archive = np.load(file)
            if path.suffix == ".npy" and isinstance(archive, np.ndarray):
                return {path.stem: archive}
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DecodeError(f"{path}: is one array, wanted one for each utterance: {_SAVE}")
            assert archive.zip is not None
            members = set(archive.zip.namelist())  # numpy would take "a.npy" for that of utterance "a"
            found = {
                name: _matrix(archive, f"{name}.npy" if f"{name}.npy" in members else name, name, path)
                for name in archive.files
            }
    except OSError as error:
        raise DecodeError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        raise DecodeError(f"{path}: damaged or not an .npz file: {error}") from error
    if not found:
        raise DecodeError(f"{path}: holds no utterance")
    return found


# What numpy, zipfile and zlib raise on damaged, encrypted and foreign members; numpy parses headers as Python code.
_UNREADABLE = (
    ArithmeticError,
    EOFError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    TokenError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def _matrix(archive: Any, member: str, name: str, path: Path) -> NDArray[Any]:
    try:
        value = archive[member]
    except _UNREADABLE as error:
        raise DecodeError(f"{path}: utterance {name}: cannot be read: {error}") from error
    if not isinstance(value, np.ndarray):  # a member that is not an array comes as bytes
        raise DecodeError(f"{path}: utterance {name}: is no numpy array")
    return value


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _read_space(value: Any, labels: Sequence[str], path: Path) -> str:
    if value is None:
        return " "
    if isinstance(value, str) and value:
        return value
    if _is_index(value) and 0 <= value < len(labels):
        return str(labels[value])
    raise DecodeError(f"{path}: space must be the index of a label, a text or null, found {_shown(value)}")


def _read_lexicon(value: Any, labels: Sequence[str], path: Path) -> Lexicon | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not value:
        raise DecodeError(f"{path}: lexicon must give pronunciations for each word, found {_shown(value)}")
    known = set(labels)
    for word, spellings in value.items():
        if not isinstance(spellings, list) or not spellings or not all(isinstance(one, str) for one in spellings):
            raise DecodeError(f"{path}: lexicon: word {word!r} must have a list of texts, found {_shown(spellings)}")
        unknown = [label for one in spellings for label in one.split() or [""] if label not in known]
        if unknown:
            raise DecodeError(f"{path}: lexicon: word {word!r} is spelled with {unknown[0]!r}, which is no label")
    return {word: [one.split() for one in spellings] for word, spellings in value.items()}


def _written_space(vocabulary: Vocabulary) -> int | str | None:
    if vocabulary.space in vocabulary.labels:
        return vocabulary.labels.index(vocabulary.space)
    begins = any(label.startswith(vocabulary.space) for label in vocabulary.labels)
    return vocabulary.space if begins else None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
