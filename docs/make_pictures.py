"""Makes every picture and every measured figure of docs/lstm.md anew, from trained models.

    python docs/make_pictures.py            # all models that are there
    python docs/make_pictures.py an4        # one of them

What stands between the marks of a model in docs/lstm.md is replaced. A model that is not there keeps what it has.
"""

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from asr import checkpoint
from asr.cli import main
from asr.inspection import inspect_recording
from asr.manifest import read_manifest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "lstm.md"
PICTURES = ROOT / "docs" / "pictures"
SEEN, MEMORY = "exp/lstm-page/recording", "exp/lstm-page/memory"  # what the commands write, all of it
MOST_BYTES = 200_000  # of a picture in docs
UTTERANCES = 50


@dataclass(frozen=True)
class Subject:
    """A model and what it is shown on, all of it of development speakers or recordings; paths are from the root."""

    name: str
    model: str
    manifest: str
    utterance: str | None  # None: its memory alone


SUBJECTS = (
    Subject("digits", "exp/digits/model", "exp/digits/data/dev.jsonl", "6_jackson_5"),
    Subject("an4", "recipes/digits/start", "exp/an4/data/dev.jsonl", "cen8-fplp-b"),
    Subject("an4-rnn", "exp/an4/rnn", "exp/an4/data/dev.jsonl", None),
)


def block_of(subject: Subject) -> str:
    """The Markdown of one model: commands, what they printed, pictures and figures."""
    recognizer = checkpoint.load(subject.model)
    facts = checkpoint.load_facts(Path(subject.model) / checkpoint.WEIGHTS_FILE)
    trained = f"The model: `{subject.model}`, epoch {facts['epoch']}, WER {facts['dev_wer_percent']:.2f} % on dev."
    to_memory = ["--model", subject.model, "--out", MEMORY, "--utterances", str(UTTERANCES)]
    commands = [["inspect", subject.manifest, *to_memory]]
    pictures = [(MEMORY, "reach", "Gradient of an output frame over the lag of the input")]
    measured = []
    if subject.utterance is not None:
        utterances = {utterance.id: utterance for utterance in read_manifest(subject.manifest)}
        utterance = utterances[subject.utterance]
        audio, text = os.path.relpath(utterance.audio_filepath), utterance.text.lower()
        shown = ["--model", subject.model, "--text", text, "--gates", "forget,cell", "--out", SEEN]
        commands.insert(0, ["inspect", audio, *shown])
        trained += f" The recording: `{utterance.id}`, of dev as well."
        said = f"Waveform, log-mel energies and posteriors of {utterance.id}, which says {text}"
        last = f"layer{recognizer.config.encoder.layers}-forward"
        pictures = [
            (SEEN, "overview", said),
            (SEEN, "layer1-forward", f"Forget gates and cells of layer 1, forward, over {utterance.id}"),
            (SEEN, last, f"Forget gates and cells of the last layer, forward, over {utterance.id}"),
            (MEMORY, "half_lives", "Histograms of half-lives for each layer and direction"),
            *pictures,
        ]
        measured = changes(subject, list(utterances))
    lines = ["```"]
    for command in commands:
        lines += ["$ asr " + " ".join(f'"{word}"' if " " in word else word for word in command), *run(command)]
    lines += ["```", "", trained, ""]
    for folder, stem, alt in pictures:
        name = shrink(Path(folder) / f"{stem}.png", f"{subject.name}-{stem}")
        lines += [f"![{alt}](pictures/{name})", ""]
    return "\n".join([*lines, *measured])


def run(command: Sequence[str]) -> list[str]:
    """What a command of `asr` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(command)
    if code:
        raise SystemExit(f"asr {' '.join(command)} ended with {code}")
    return out.getvalue().rstrip("\n").split("\n")


def shrink(source: Path, stem: str) -> str:
    """Copy a picture, with a palette where it is too large otherwise; returns its file name."""
    target = PICTURES / f"{stem}.png"
    PICTURES.mkdir(exist_ok=True)
    with Image.open(source) as image:
        colours = image.convert("RGB")
    colours.save(target, optimize=True)
    if target.stat().st_size > MOST_BYTES:
        colours.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
    if target.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{target}: {target.stat().st_size} bytes, more than {MOST_BYTES}: choose a shorter recording")
    return target.name


def changes(subject: Subject, names: Sequence[str]) -> list[str]:
    """Whether gates move where the sound does: correlation of how much both change from frame to frame.

    Sound: mean over mel bins of the absolute difference between the middle feature frames of two output frames, in
    nats. Gates: mean over units of the absolute difference of the forget gates.
    """
    recognizer = checkpoint.load(subject.model)
    by_id = {utterance.id: utterance for utterance in read_manifest(subject.manifest)}
    chosen = [by_id[names[place * len(names) // UTTERANCES]] for place in range(min(UTTERANCES, len(names)))]
    sound: list[np.ndarray] = []
    gates: dict[str, list[np.ndarray]] = {}
    for utterance in chosen:
        shown = inspect_recording(recognizer, utterance.audio_filepath)
        stride = recognizer.config.encoder.subsampling
        sound.append(np.abs(np.diff(shown.log_mel[::stride], axis=0)).mean(axis=1))
        for trace in shown.traces:
            gates.setdefault(trace.name, []).append(np.abs(np.diff(trace.keeping, axis=0)).mean(axis=1))
    frames = sum(map(len, sound))
    lines = [f"Change of the forget gates against change of the sound, {len(chosen)} utterances, {frames} steps:", ""]
    lines += ["| layer | correlation |", "|---|---|"]
    for name, parts in gates.items():
        lines.append(f"| {name} | {np.corrcoef(np.concatenate(sound), np.concatenate(parts))[0, 1]:+.2f} |")
    return lines


def replace_block(page: str, name: str, block: str) -> str:
    """The page with another block between the marks of a model."""
    start, end = f"<!-- measured: {name} -->", f"<!-- end: {name} -->"
    before, _, rest = page.partition(start)
    _, _, after = rest.partition(end)
    if not after:
        raise SystemExit(f"{PAGE}: the marks of {name} are missing")
    return f"{before}{start}\n{block}\n{end}{after}"


def make(names: Sequence[str]) -> None:
    """Replace the blocks of the named models; all where none is named."""
    os.chdir(ROOT)
    unknown = set(names) - {subject.name for subject in SUBJECTS}
    if unknown:
        raise SystemExit(f"{', '.join(unknown)}: not known; there are {', '.join(s.name for s in SUBJECTS)}")
    for subject in SUBJECTS:
        if names and subject.name not in names:
            continue
        if not (Path(subject.model) / checkpoint.WEIGHTS_FILE).is_file():
            print(f"{subject.name}: {subject.model} is not there: not measured")
            continue
        page = replace_block(PAGE.read_text(encoding="utf-8"), subject.name, block_of(subject))
        PAGE.write_text(page, encoding="utf-8")
        print(f"{subject.name}: done")


if __name__ == "__main__":
    make(sys.argv[1:])
