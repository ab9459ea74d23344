"""Single digits out of the sentences of another corpus."""

from collections.abc import Sequence
from pathlib import Path

import soundfile

from asr import checkpoint, stages
from asr.corpora.digits import WORDS
from asr.files import atomic_path, made_since
from asr.manifest import Utterance, read_manifest, write_manifest
from asr.recognizer import pick_device
from asr.resampling import resample
from asr.splicing.sentences import cut_all

RATE_HZ = 8000  # of the recordings that they are added to
SHORTEST_S = 0.3  # leaves `three` six frames of 40 ms to be learnt in even when it is made 15 % faster


def cut_digits(manifest: Path, model: Path, out: Path) -> Path:
    """The manifest of pieces between two pauses that are a single digit; made once for these weights of `model`.

    Args:
        manifest: sentences.
        model: run folder that aligns them with their texts.
        out: folder for `clips.jsonl` and the FLAC files, one for each digit.
    """
    made = out / "clips.jsonl"
    if made_since(made, model / checkpoint.WEIGHTS_FILE):
        stages.say(f"clips: complete in {out}, skipped")
        return made
    stages.say(f"clips: {out}")
    sentences = [utterance for utterance in read_manifest(manifest) if set(WORDS) & set(utterance.text.lower().split())]
    recognizer = checkpoint.load(model, pick_device("auto"))
    clips: list[Utterance] = []
    for sentence, pieces in cut_all(sentences, recognizer):
        for number, piece in enumerate(pieces):
            wave = resample(piece.wave, recognizer.config.audio.sample_rate_hz, RATE_HZ)
            if piece.text in WORDS and len(wave) >= SHORTEST_S * RATE_HZ:
                name = f"{sentence.id}-{number}"
                path = out / f"{name}.flac"
                with atomic_path(path) as temporary:
                    soundfile.write(temporary, wave.numpy(), RATE_HZ, format="FLAC", subtype="PCM_16")
                clips.append(Utterance(name, path, len(wave) / RATE_HZ, piece.text, speaker=sentence.speaker))
    write_manifest(made, clips)
    stages.say(f"clips: {_counts(clips)} by {len({clip.speaker for clip in clips})} speakers")
    return made


def _counts(clips: Sequence[Utterance]) -> str:
    return ", ".join(f"{sum(clip.text == word for clip in clips)} {word}" for word in WORDS)
