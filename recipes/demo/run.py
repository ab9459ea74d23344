"""demo: make synthetic speech offline, train on it, score voices never heard, and transcribe one file, in minutes."""

import io
import os
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from shutil import which

# A script finds modules in its own folder only; the speaking processes import those of `recipes` by name.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from asr.cli import main as asr
from asr.cli import parse, run_command


def run() -> int:
    """The recipe's stages; returns the exit code."""
    # Inside, because the speaking processes start by importing this file and have no use for torch.
    from asr import config, recipe, stages
    from asr.manifest import hours, read_manifest
    from recipes.demo.speech import make_speech

    arguments = parse(recipe.parser(__file__, __doc__, source=False))
    settings = config.load(arguments.conf, arguments.overrides)
    started = time.perf_counter()
    data, model = arguments.out / "data", arguments.out / "model"

    def speak() -> str:
        splits = make_speech(data)["splits"]
        return "\n".join(
            f"{name}: {facts['utterances']} utterances, {facts['hours']:.2f} h, {facts['voices']} voices"
            for name, facts in splits.items()
        )

    stages.require_corpus(data, "demo")
    stages.prepare_stage(data, speak, {})
    stages.run_experiment(data, model, settings)
    test = read_manifest(data / "test.jsonl")
    example = max(test, key=lambda utterance: utterance.duration)
    print(f"\nSynthetic speech by espeak-ng, {hours(test):.2f} h of voices that training did not hear.")
    command = "asr" if which("asr") else os.path.relpath(Path(sys.executable).with_name("asr"))
    print(f"One of them, with: {command} transcribe --model {model} {example.audio_filepath}", flush=True)
    printed = io.StringIO()  # kept back, so that what the command says on standard error is on lines of its own
    with redirect_stdout(printed):
        status = asr(["transcribe", "--model", str(model), str(example.audio_filepath)])
    print(f"reference:\t{example.text}\nhypothesis:\t{printed.getvalue().rstrip() or '-'}")
    print(f"done in {time.perf_counter() - started:.0f} s")
    return status


if __name__ == "__main__":
    sys.exit(run_command(run))
