"""What `prepare` made: counts for each split, as JSON and as a table."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.files import write_text_atomic
from asr.lines import in_columns
from asr.manifest import Utterance, hours

SUMMARY_FILE = "summary.json"
BEGUN_FILE = f".{SUMMARY_FILE}"  # while manifests are being written: which ones are ours


@dataclass(frozen=True)
class SplitSummary:
    """Counts of one split.

    Attributes:
        utterances: number of utterances.
        hours: total duration, rounded to 4 decimals.
        words: words of all transcripts as they are written, separated by white space.
        vocabulary: different words.
        characters: characters of all transcripts, spaces included.
        alphabet: the different characters, sorted.
        speakers: different known speakers.
    """

    utterances: int
    hours: float
    words: int
    vocabulary: int
    characters: int
    alphabet: str
    speakers: int


@dataclass(frozen=True)
class Summary:
    """A prepared corpus.

    Attributes:
        corpus: name in the registry.
        source: where it was read from: the given path, or the official addresses.
        partial: whether counts differ from the published ones, or files are missing (only with `allow_partial`).
        notes: how splits were made, and what is missing.
        splits: counts by split name; `<split>.jsonl` is the manifest.
    """

    corpus: str
    source: str
    partial: bool
    notes: tuple[str, ...]
    splits: dict[str, SplitSummary]

    def render(self) -> str:
        """A table with one row for each split, and the notes below it."""
        header = ("split", "utterances", "hours", "words", "vocabulary", "characters", "alphabet", "speakers")
        rows: list[tuple[str, ...]] = [header]
        for name, split in self.splits.items():
            counts = (split.words, split.vocabulary, split.characters, len(split.alphabet), split.speakers)
            rows.append((name, f"{split.utterances:,}", f"{split.hours:.2f}", *(f"{count:,}" for count in counts)))
        title = f"{self.corpus} from {self.source}" + (" (partial)" if self.partial else "")
        return "\n".join([title, *in_columns(rows), *(f"- {note}" for note in self.notes)])

    def write(self, path: Path) -> None:
        """Write the summary as JSON, atomically."""
        write_text_atomic(path, json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n")


def summarize(utterances: Sequence[Utterance]) -> SplitSummary:
    """Count one split."""
    words = [word for utterance in utterances for word in utterance.text.split()]
    return SplitSummary(
        utterances=len(utterances),
        hours=round(hours(utterances), 4),
        words=len(words),
        vocabulary=len(set(words)),
        characters=sum(len(utterance.text) for utterance in utterances),
        alphabet="".join(sorted({character for utterance in utterances for character in utterance.text})),
        speakers=len({utterance.speaker for utterance in utterances} - {None}),
    )
