"""What was said and what was recognised, utterance by utterance: `hypotheses.jsonl`."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from asr.errors import ScoringError
from asr.files import write_text_atomic
from asr.lines import has_surrogate, json_object, records_of, repeated

HYPOTHESES_FILE = "hypotheses.jsonl"  # in a folder of results


@dataclass(frozen=True)
class Result:
    """What was said in an utterance and what was recognised; one line of `hypotheses.jsonl`.

    Attributes:
        id: unique in its file.
        speaker: speaker name, or None when unknown.
        reference: normalised transcript; may be empty.
        hypothesis: normalised recognised text; may be empty.
        duration: length of the audio in seconds.
    """

    id: str
    speaker: str | None
    reference: str
    hypothesis: str
    duration: float


def write_hypotheses(path: Path | str, results: Iterable[Result]) -> None:
    """Write `hypotheses.jsonl` atomically: one JSON object a line, with the keys of `Result`.

    Raises:
        ScoringError: an id occurs twice.
    """
    results = list(results)
    require_unique(results)
    lines = [json.dumps(asdict(result), ensure_ascii=False, allow_nan=False) for result in results]
    write_text_atomic(Path(path), "".join(line + "\n" for line in lines))


def read_hypotheses(path: Path | str) -> list[Result]:
    """Read what `write_hypotheses` wrote; blank lines are skipped.

    Raises:
        ScoringError: the file is missing or empty, a line is not a JSON object with exactly the keys of `Result`, a
            value is of the wrong type or an id occurs twice; the message names file and line.
    """
    path = Path(path)
    results = records_of(path, "hypotheses", ScoringError, _parse)
    if not results:
        raise ScoringError(f"{path}: file holds no hypothesis")
    return results


def _parse(line: str, where: str) -> Result:
    # Every number here is a duration; as a float an absurdly long integer is just infinite.
    record = json_object(line, where, ScoringError, parse_int=float)
    wanted = [item.name for item in fields(Result)]
    for key in wanted:
        if key not in record:
            raise ScoringError(f"{where}: key {key!r} is missing")
    for key in record:
        if key not in wanted:
            raise ScoringError(f"{where}: unknown key {key!r}; the keys are {', '.join(wanted)}")
    for key in ("id", "reference", "hypothesis"):
        _require_text(record[key], key, where)
    if record["speaker"] is not None:
        _require_text(record["speaker"], "speaker", where)
    for key in ("id", "speaker"):
        if record[key] is not None and not record[key].strip():
            raise ScoringError(f"{where}: {key} is empty")
    duration = record["duration"]
    if not isinstance(duration, float) or not 0 <= duration < math.inf:
        raise ScoringError(f"{where}: duration must be a number of seconds, at least 0, found {duration!r}")
    for key in ("reference", "hypothesis"):
        record[key] = " ".join(record[key].split())
    return Result(**record)


def _require_text(value: Any, key: str, where: str) -> None:
    if not isinstance(value, str):
        raise ScoringError(f"{where}: {key} must be a string, found {value!r}")
    if has_surrogate(value):
        raise ScoringError(f"{where}: {key} must be valid Unicode, found {value!a}")


def require_unique(results: Iterable[Result]) -> None:
    """ScoringError where an id occurs twice."""
    twice = repeated(result.id for result in results)
    if twice is not None:
        raise ScoringError(f"id {twice!r} stands more than once among the hypotheses")
