"""A run folder as training and `asr evaluate` leave it, with results that are known."""

import json
from pathlib import Path
from typing import Any

from asr.config import DecodeConfig
from asr.decode import Word
from asr.evaluate import Provenance, write_results
from asr.hypotheses import Result
from tiny_run import save_run, write_audio

RESULTS = [
    Result("u1", "ann", "the cat sat on the mat", "the cat sit on mat", 0.5),
    Result("u2", "ann", "hello world", "hello big world", 1.5),
    Result("u3", "bob", "yes", "yes", 2.5),
    Result("u4", "bob", "no", "", 40.0),
    Result("u5", None, "a b c d e f g h", "a b c d e f g x", 0.5),
]


def write_set(folder: Path, results: list[Result], *, decode: DecodeConfig | None = None, words: bool = True) -> Path:
    """Results in `folder`, of a manifest beside it; the audio of u4 is missing. Every word has confidence 0.75."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    manifest = folder.parent / f"{folder.name}.jsonl"
    records = []
    for result in results:
        audio = folder.parent / f"{result.id}.wav"
        if result.duration <= 3:
            write_audio(audio, result.duration)
        records.append(
            {
                "id": result.id,
                "audio_filepath": audio.name,
                "duration": result.duration,
                "text": result.reference or "x",
            }
        )
    manifest.write_text("".join(json.dumps(record) + "\n" for record in records))
    kept = {
        result.id: [Word(word, float(place), place + 1.0, 0.75) for place, word in enumerate(result.hypothesis.split())]
        for result in results
    }
    write_results(folder, results, Provenance.of(manifest, decode or DecodeConfig()), kept if words else None)
    return folder


def epoch(number: int, **facts: Any) -> dict[str, Any]:
    """The log's line of an epoch."""
    return {
        "event": "epoch",
        "epoch": number,
        "step": 10 * number,
        "train_loss": 8.0 / number,
        "learning_rate": 0.001 / number,
        "audio_hours_per_hour": 100.0 + number,
        "padding_percent": 5.0,
        "skipped_steps": 0,
        "dev_loss": 6.0 / number,
        "dev_wer_percent": 60.0 / number,
        "dev_expected_wer_percent": 66.0 / number,
        "dev_cer_percent": 30.0 / number,
        "best": number < 4,
        "elapsed_s": 60.0 * number,
        **facts,
    }


def write_log(run: Path, *lines: dict[str, Any] | str) -> None:
    """metrics.jsonl; a string is written as it is."""
    texts = [line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines]
    (run / "metrics.jsonl").write_text("".join(texts))


def scored_run(folder: Path) -> Path:
    """A finished run of four epochs with results on dev and test."""
    save_run(folder, "train.epochs=4")
    skipped = {"event": "skipped", "step": 15, "loss": "nan", "gradient_norm": 1.5, "ids": ["u8", "u9"]}
    write_log(folder, epoch(1), skipped, *[epoch(number) for number in (2, 3, 4)])
    write_set(folder / "test", RESULTS)
    write_set(folder / "dev", RESULTS[:3], decode=DecodeConfig(decoder="beam", beam_size=7), words=False)
    return folder
