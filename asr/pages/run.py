"""The page of a run: its configuration, how training went, and each set that it was scored on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from asr import __version__, checkpoint
from asr.config import Config
from asr.errors import AsrError, CheckpointError
from asr.html import Html, details, element, facts, page, table
from asr.hypotheses import HYPOTHESES_FILE
from asr.overrides import flatten
from asr.pages import alignment, charts, scored
from asr.pages.metrics import Metrics, read_metrics
from asr.pages.recordings import Recordings
from asr.pages.scored import ScoredSet, scored_section
from asr.pages.training import training_section
from asr.report import sentence_text
from asr.training.runlog import METRICS_FILE

STYLE = charts.STYLE + alignment.STYLE + scored.STYLE
Content = TypeVar("Content")


@dataclass
class RunPage:
    """A page and what it could not show.

    Attributes:
        html: the whole page.
        notes: what is missing, a line each.
        faults: what is damaged, a line each.
    """

    html: str = ""
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def read(self, path: Path, read: Callable[[Path], Content]) -> Content | None:
        """What `read` makes of a file; None where it is missing or damaged, which is noted."""
        if not path.is_file():
            self.notes.append(f"{path}: is missing")
            return None
        try:
            return read(path)
        except AsrError as error:
            self.faults.append(str(error))
            return None


def run_page(folder: Path, *, worst: int = 30) -> RunPage:
    """The page of a run folder, or of a folder with results; what is missing or damaged is named in it.

    Args:
        folder: a run, finished, interrupted or under way, or a folder that `asr evaluate` wrote.
        worst: how many utterances of each set at most are shown in full.

    Raises:
        CheckpointError: the folder is missing, or holds neither a configuration, a log nor results.
    """
    files = result_files(folder)
    is_run = any((folder / name).is_file() for name in (checkpoint.CONFIG_FILE, METRICS_FILE))
    if not files and not is_run:
        checkpoint.require_there(folder)
        wanted = f"{checkpoint.CONFIG_FILE}, {METRICS_FILE} or {HYPOTHESES_FILE}"
        raise CheckpointError(f"{folder}: not a run folder: holds no {wanted}")
    found = RunPage()
    settings = weights = metrics = None
    if is_run:
        settings = found.read(folder / checkpoint.CONFIG_FILE, lambda path: checkpoint.load_config(path.parent))
        weights = found.read(folder / checkpoint.WEIGHTS_FILE, checkpoint.load_facts)
        metrics = found.read(folder / METRICS_FILE, read_metrics)
    if metrics is not None:
        found.faults += metrics.faults
        if metrics.cut:
            found.notes.append(f"{folder / METRICS_FILE}: the last line is not finished, and left out")
    if not files:
        found.notes.append(f"{folder}: not evaluated yet; asr evaluate MANIFEST --model {folder} does it")
    sets = [each for path in files if (each := found.read(path, ScoredSet.read)) is not None]
    recordings = Recordings()
    results = []
    for number, each in enumerate(sets, start=1):
        found.notes += each.notes
        anchor = f"set-{number}"
        results.append((anchor, f"Results on {each.name}", scored_section(each, anchor, recordings, worst)))
    if recordings.unread:
        others = f", and {len(recordings.unread) - 1} more" if len(recordings.unread) > 1 else ""
        found.notes.append(f"no audio of {recordings.unread[0]}{others}")
    parts = [("summary", "Summary", _summary(folder, settings, metrics, weights, sets))]
    if found.notes or found.faults:
        parts.append(("missing", "What is missing", _missing(found)))
    if metrics is not None:
        parts.append(("training", "Training", training_section(metrics)))
    parts += results
    if settings is not None:
        parts.append(("configuration", "Configuration", _configuration(settings)))
    found.html = page(f"Run {folder.resolve().name}", parts, style=STYLE)
    return found


def result_files(folder: Path) -> list[Path]:
    """The files of hypotheses in a folder and directly below it."""
    own = folder / HYPOTHESES_FILE
    return [*([own] if own.is_file() else []), *sorted(folder.glob(f"*/{HYPOTHESES_FILE}"))]


def _summary(
    folder: Path,
    settings: Config | None,
    metrics: Metrics | None,
    weights: dict[str, Any] | None,
    sets: list[ScoredSet],
) -> Html:
    pairs = [("Folder", str(folder))]
    if settings is not None and metrics is not None:
        done, whole = metrics.epochs[-1].epoch if metrics.epochs else 0, settings.train.epochs
        state = "finished" if done >= whole else "under way or interrupted"
        pairs.append(("Training", f"{state}, {done} of {whole} epochs in the log"))
    if settings is not None:
        pairs.append(("Encoder", _encoder(settings)))
    if weights is not None:
        if "epoch" in weights:
            pairs.append(("Weights", f"of epoch {weights['epoch']}, step {weights.get('step')}"))
        versions = weights.get("versions")
        if isinstance(versions, dict):
            pairs.append(("Trained with", ", ".join(f"{name} {version}" for name, version in versions.items())))
    pairs.append(("Page made by", f"asr {__version__}"))
    if not sets:
        return element("div", facts(pairs), element("p", "No results yet."))
    heads = ["set", "decoder", "WER", "95% interval", "errors", "words", "CER", "sentence errors", "utterances"]
    rows = [
        [
            each.name,
            each.decoder(),
            f"{each.scored.words.percent:.2f}%",
            each.interval,
            str(each.scored.words.errors),
            str(each.scored.words.reference),
            f"{each.scored.characters.percent:.2f}%",
            sentence_text(each.scored.utterances),
            str(len(each.scored.utterances)),
        ]
        for each in sets
    ]
    return element("div", facts(pairs), table("Results", heads, rows, text_columns=2))


def _encoder(settings: Config) -> str:
    encoder = settings.encoder
    ways = "in both directions" if encoder.bidirectional else "in one direction"
    return f"{encoder.layers} x {encoder.width} {encoder.cell} {ways}, {encoder.subsampling} frames to one"


def _missing(found: RunPage) -> Html:
    items = [element("li", element("b", "Damaged: "), line) for line in found.faults]
    items += [element("li", line) for line in found.notes]
    return element("ul", *items, class_="paths")


def _configuration(settings: Config) -> Html:
    own, built_in = flatten(settings), flatten(Config())
    changed = [[key, str(own[key]), str(built_in[key])] for key in own if own[key] != built_in[key]]
    rest = [[key, str(own[key])] for key in own if own[key] == built_in[key]]
    return element(
        "div",
        table("What this run sets", ["key", "value", "built in"], changed, text_columns=3)
        if changed
        else element("p", "Everything is as built in."),
        details(
            f"The {len(rest)} keys that are as built in",
            table("Keys that are as built in", ["key", "value"], rest, text_columns=2),
        ),
    )
