"""Sentences of AN4's kind, spoken by synthesisers: for `run.py --outside`.

    python recipes/an4/spoken.py [--texts exp/an4/data/train.jsonl] [--out exp/an4/spoken] [--sentences 10000]

The sentences are drawn from a word 3-gram of the transcripts, and one in eight is a date or a number made up, for the
words of which the transcripts have few. Voices are those of espeak-ng (`pip install espeakng-loader`), flite and
festival, as far as they are installed; Debian and Ubuntu call the latter `flite festival festvox-kallpc16k
festvox-kdlpc16k festvox-us-slt-hts`. Formants and five speakers are no substitute for people: what it is worth on
recorded speech is in RESULTS.md.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path

# Started as a script, this finds its own folder only; the speaking processes import it by name.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import soundfile

from asr.cli import parse, run_command
from asr.errors import CorpusError
from asr.manifest import Utterance, hours, read_manifest, write_manifest
from recipes.demo.speech import ACCENTS, VARIANTS, Line, record, say_espeak

ORDER = 3
LONGEST = 14  # words
FLITE = ("awb", "rms", "slt", "kal16")
FESTIVAL = ("ked_diphone", "cmu_us_slt_arctic_hts")
# How letters and words are written so that synthesisers say them as people do.
SPELLED = {"a": "ay", "z": "zee", "rubout": "rub out", "o": "oh"}
MONTHS = "january february march april may june july august september october november december".split()
ONES = "one two three four five six seven eight nine".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
FIRSTS = "first second third fourth fifth sixth seventh eighth ninth".split()
ORDINALS = [
    *FIRSTS,
    *"tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth".split(),
    "twentieth",
    *(f"twenty {word}" for word in FIRSTS),
    "thirtieth",
    "thirty first",
]


def run() -> int:
    """Draws the sentences and speaks them; returns the exit code."""
    made = Path("exp/an4")
    parser = argparse.ArgumentParser(prog="recipes/an4/spoken.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--texts", type=Path, default=made / "data" / "train.jsonl", help="transcripts (%(default)s)")
    parser.add_argument("--out", type=Path, default=made / "spoken", help="train.jsonl and audio/ (%(default)s)")
    parser.add_argument("--sentences", type=int, default=10_000, metavar="N", help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn (%(default)s)")
    arguments = parse(parser)
    texts = [utterance.text.lower() for utterance in read_manifest(arguments.texts)]
    drawn = sentences(texts, arguments.sentences, arguments.seed)
    spoken = speak(drawn, installed(), arguments.out, arguments.seed)
    print(f"{len(spoken)} sentences, {hours(spoken):.2f} h, by {len({item.speaker for item in spoken})} voices")
    return 0


def sentences(texts: Sequence[str], count: int, seed: int) -> list[str]:
    """New sentences: as an n-gram model of `texts` has them, and dates and numbers among them."""
    import numpy as np

    from asr.lm.text import END, UNKNOWN
    from asr.succession import Succession

    succession = Succession(texts, ORDER)
    words = {number: word for word, number in succession.id_of.items()}
    rng = np.random.default_rng(seed)
    of_dates = random.Random(seed)
    found: list[str] = []
    while len(found) < count:
        if len(found) % 8 == 0:
            found.append(_date(of_dates))
            continue
        said: list[str] = []
        while len(said) < LONGEST:
            probabilities = succession.after(said)
            probabilities[succession.id_of[UNKNOWN]] = 0
            word = words[int(rng.choice(len(probabilities), p=probabilities / probabilities.sum()))]
            if word == END:
                break
            said.append(word)
        if said:
            found.append(" ".join(said))
    return found


def _date(rng: random.Random) -> str:
    year = " ".join(["nineteen", rng.choice(TENS), *([] if rng.random() < 0.15 else [rng.choice(ONES)])])
    if rng.random() < 0.85:
        return f"{rng.choice(MONTHS)} {rng.choice(ORDINALS)} {year}"
    return (
        f"{rng.choice(ONES)} {rng.choice(['hundred', 'thousand', 'hundred and'])} {rng.choice(TENS)} {rng.choice(ONES)}"
    )


def installed() -> dict[str, list[str]]:
    """The voices that are there, by synthesiser; CorpusError where there is none."""
    from importlib.util import find_spec

    found: dict[str, list[str]] = {}
    if find_spec("espeakng_loader"):
        variants = [variant for split in ("train", "dev", "test") for variant in VARIANTS[split]]
        found["espeak"] = [f"{accent}+{variant}" for variant in variants for accent in ACCENTS]
    if shutil.which("flite"):
        there = _output(["flite", "-lv"]).split()
        found["flite"] = [f"flite:{voice}" for voice in FLITE if voice in there]
    if shutil.which("festival"):
        there = _output(["festival", "-b", "(print (voice.list))"]).strip("() \n").split()
        found["festival"] = [f"festival:{voice}" for voice in FESTIVAL if voice in there]
    found = {name: voices for name, voices in found.items() if voices}
    if not found:
        raise CorpusError("no synthesiser is installed: pip install espeakng-loader, or flite or festival")
    return found


def speak(texts: Sequence[str], voices: dict[str, list[str]], out: Path, seed: int) -> list[Utterance]:
    """Speak sentences with the synthesisers in turn, each with all its voices; writes `train.jsonl` at last."""
    rng = random.Random(seed)
    voices = {name: list(some) for name, some in voices.items()}
    for some in voices.values():
        rng.shuffle(some)
    turns = cycle([cycle(voices[name]) for name in sorted(voices)])
    lines = [
        Line(
            id=f"spoken-{number:06d}",
            text=" ".join(SPELLED.get(word, word.upper() if len(word) == 1 else word) for word in text.split()),
            voice=next(next(turns)),
            rate=rng.randint(130, 210),
            pitch=rng.randint(30, 70),
            pitch_range=rng.randint(30, 70),
            word_gap=rng.randint(0, 6),
        )
        for number, text in enumerate(texts)
    ]
    (out / "train.jsonl").unlink(missing_ok=True)  # an old one must never stand beside new audio
    spoken = record(lines, out / "audio", seed, say)
    spoken = [replace(utterance, text=text) for utterance, text in zip(spoken, texts, strict=True)]
    write_manifest(out / "train.jsonl", spoken)
    return spoken


def say(line: Line) -> tuple[bytes, int]:
    """16-bit samples and their rate in Hz."""
    name, _, voice = line.voice.rpartition(":")
    if not name:
        return say_espeak(line)
    stretch = f"{170 / line.rate:.3f}"  # of the voice's own durations
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "said.wav"
        if name == "flite":
            _output(
                ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch}", "-t", line.text, "-o", str(wav)]
            )
        else:
            script = Path(folder) / "say.scm"
            script.write_text(
                f"(voice_{voice})\n(Parameter.set 'Duration_Stretch {stretch})\n"
                f'(utt.save.wave (utt.synth (Utterance Text "{line.text}")) "{wav}" \'riff)\n'
            )
            _output(["festival", "-b", str(script)])
        if not wav.is_file():
            raise CorpusError(f"{line.id}: {name} gave no sound for {line.text!r} in voice {voice}")
        samples, rate_hz = soundfile.read(wav, dtype="int16")
    return samples.tobytes(), rate_hz


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CorpusError(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(run_command(run))
