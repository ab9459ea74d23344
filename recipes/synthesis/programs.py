"""flite and festival, if they are on the PATH: five English speakers.

Their packages in Debian and Ubuntu: `flite festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts`.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import soundfile

from asr.errors import CorpusError
from recipes.synthesis.recording import Line

FLITE = ("awb", "rms", "slt", "kal16")
FESTIVAL = ("ked_diphone", "cmu_us_slt_arctic_hts")


def voices(program: str) -> list[str]:
    """Which of the voices above are installed."""
    if not shutil.which(program):
        return []
    if program == "flite":
        there = _output(["flite", "-lv"]).split()
        return [voice for voice in FLITE if voice in there]
    there = _output(["festival", "-b", "(print (voice.list))"]).strip("() \n").split()
    return [voice for voice in FESTIVAL if voice in there]


def say(program: str, voice: str, line: Line) -> tuple[bytes, int]:
    """16-bit samples and their rate in Hz; of a line's settings only the rate is followed."""
    stretch = f"{170 / line.rate:.3f}"  # of the voice's own durations
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "said.wav"
        if program == "flite":
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
            raise CorpusError(f"{line.id}: {program} gave no sound for {line.text!r} in voice {voice}")
        samples, rate_hz = soundfile.read(wav, dtype="int16")
    return samples.tobytes(), rate_hz


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CorpusError(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
