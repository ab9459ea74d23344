"""Make recipes/an4/model from a trained and scored model: a run folder in float16 and a card with what was measured.

    python recipes/an4/ship.py [--model exp/an4/model] [--data exp/an4/data] [--out recipes/an4/model] [--note TEXT]

Run recipes/an4/run.py first. The card's figures are those of the folder itself: it is scored on dev and test again, and
compared with the model that it was made from. A note says how that was trained, if it took more than one run.
"""

import argparse
import shutil
import sys
from pathlib import Path

from asr import config, stages
from asr.cli import run_command
from asr.errors import CheckpointError
from asr.files import write_text_atomic
from asr.overrides import flatten

HERE = Path(__file__).resolve().parent
CONF = HERE.parents[1] / "conf" / "an4.yaml"
MAX_MB = 12.0  # a repository keeps every version of it for ever

CARD = """# A model of AN4

What `recipes/an4/run.py` trains, as a run folder in float16: {parameters:.1f} M parameters, {size_mb:.1f} MB.

```sh
asr transcribe --model recipes/an4/model recording.wav
```

| scored on | word error rate |
|---|---|
| dev: {dev_utterances} utterances by {dev_speakers} training speakers held out, who chose the epoch | {dev} |
| test: the official {test_utterances} utterances by {test_speakers} other speakers, who chose nothing | {test} |

Decoding: {decoder}. In float32 {full_errors} words of the test are wrong, here {test_errors}; {changed} of its
{test_utterances} transcripts differ.

- **Domain**: American English, recorded at Carnegie Mellon University about 1991 through a close-talking microphone,
  16 kHz: names, addresses, telephone numbers, dates and spelled words, {words} different words in training.
- **Limits**: trained on {train_hours:.2f} h by {train_speakers} people. Other words come out as letters and scraps of
  those it knows; noise, distance, telephones, children and other accents were not tried. Most errors are single letters
  that sound alike. It does not tell speech from other sounds.
- **Data**: [AN4](http://www.speech.cs.cmu.edu/databases/an4/), {train_utterances} training utterances; the manifest of
  the last training has {records} records of {record_hours:.2f} h.
- **Made by**: `python recipes/an4/run.py` with the settings{overrides}; epoch {epoch} of {epochs}, the best on dev;
  then `python recipes/an4/ship.py`. asr {asr}, torch {torch}.{note}
- **Licence**: the recordings are free for any purpose under the terms in [LICENSE-AN4](LICENSE-AN4), which go with this
  model. What the project itself adds is under the licence of the project.
"""


def run() -> int:
    """Write the folder and its card; returns the exit code."""
    parser = argparse.ArgumentParser(prog="recipes/an4/ship.py", description=(__doc__ or "").partition("\n")[0])
    made = Path("exp/an4")
    parser.add_argument("--model", type=Path, default=made / "model", help="run folder to ship (%(default)s)")
    parser.add_argument("--data", type=Path, default=made / "data", help="folder with its manifests (%(default)s)")
    parser.add_argument("--note", default="", help="more on how it was trained, for the model card")
    parser.add_argument("--out", type=Path, default=HERE / "model", help="folder to write (recipes/an4/model)")
    arguments = parser.parse_args()
    ship(arguments.model, arguments.data, arguments.out, arguments.note)
    return 0


def ship(model: Path, data: Path, out: Path, note: str = "") -> None:
    """Write a trained model to `out`, with its card.

    Args:
        model: run folder.
        data: folder with its train.jsonl, dev.jsonl and test.jsonl.
        out: folder to write.
        note: a sentence for the card.

    Raises:
        CheckpointError: there is no trained model, or it is larger than the repository takes.
    """
    from asr import checkpoint
    from asr.decoding import describe
    from asr.hypotheses import HYPOTHESES_FILE, read_hypotheses
    from asr.manifest import hours, read_manifest
    from asr.recognizer import parameters_of
    from asr.report import summary_line
    from asr.training.shrink import shrink
    from asr.wer import score

    weights = out / checkpoint.WEIGHTS_FILE
    shrink(model, out)
    size_mb = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    if size_mb > MAX_MB:
        weights.unlink()
        raise CheckpointError(f"{out}: {size_mb:.1f} MB, wanted at most {MAX_MB:g} MB; a smaller encoder.width helps")
    splits = {split: read_manifest(data / f"{split}.jsonl") for split in ("train", "dev", "test")}
    results = {}
    for name, scored, split in (("dev", out, "dev"), ("test", out, "test"), ("full", model, "test")):
        folder = model / (split if scored is model else f"{split}-float16")
        stages.score_stage(scored, data / f"{split}.jsonl", folder)
        results[name] = read_hypotheses(folder / HYPOTHESES_FILE)
    scores = {name: score(found) for name, found in results.items()}
    facts = checkpoint.load_facts(weights)
    recognizer = checkpoint.load(out)
    trained = checkpoint.load_config(model)
    records = read_manifest(trained.data.train or data / "train.jsonl")
    pairs = zip(results["test"], results["full"], strict=True)
    card = CARD.format(
        size_mb=size_mb,
        parameters=parameters_of(recognizer) / 1e6,
        dev=summary_line(scores["dev"]),
        test=summary_line(scores["test"]),
        test_errors=scores["test"].words.errors,
        full_errors=scores["full"].words.errors,
        **{f"{split}_utterances": len(found) for split, found in splits.items()},
        **{f"{split}_speakers": len({item.speaker for item in found}) for split, found in splits.items()},
        changed=sum(one.hypothesis != two.hypothesis for one, two in pairs),
        decoder=describe(checkpoint.load_config(out).decode),
        words=len({word for item in splits["train"] for word in item.text.split()}),
        train_hours=hours(splits["train"]),
        records=len(records),
        record_hours=hours(records),
        epoch=facts["epoch"],
        epochs=recognizer.config.train.epochs,
        overrides=_overrides(trained),
        asr=facts["versions"]["asr"],
        torch=facts["versions"]["torch"],
        note=f" {note}" if note else "",
    )
    shutil.copyfile(HERE / "LICENSE-AN4", out / "LICENSE-AN4")
    write_text_atomic(out / "README.md", card)
    print(f"{out}: {size_mb:.1f} MB")


def _overrides(settings: config.Config) -> str:
    """The settings that differ from conf/an4.yaml, as they are typed; of the path of an earlier run only its name."""
    usual = flatten(config.load(CONF))
    found = flatten(settings) | {"train.init_from": Path(settings.train.init_from).name}
    changed = [f"{key}={found[key]}" for key in found if found[key] != usual[key] and not key.startswith("data.")]
    return "".join(f" `{item}`" for item in changed) or " of conf/an4.yaml"


if __name__ == "__main__":
    sys.exit(run_command(run))
