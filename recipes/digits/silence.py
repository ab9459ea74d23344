"""Recordings that are cut to the word, with quiet before and after.

A model of letters needs a frame for each of them, and one more between two that are equal: at 40 ms a frame 0.24 s for
`three`, which some of these recordings say in 0.15 s. And a model that learnt from sentences has never heard a word
begin at full loudness in the first sample.
"""

import shutil
import zlib
from pathlib import Path

import numpy as np
import soundfile

from asr import recipe

SECONDS = 0.3  # on either side
QUIET_DB = -35.0  # of the noise in it and under the word, against the recording's mean power


def surround(recordings: Path, out: Path) -> None:
    """Write each recording with `SECONDS` of quiet on either side, under its name, to `out`/recordings; once.

    Args:
        recordings: folder of WAV files.
        out: folder for `recordings`; it is there when all of them are.
    """
    if out.is_dir():
        recipe.say(f"silence: complete in {out}, skipped")
        return
    recipe.say(f"silence: {out}")
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / recordings.name).mkdir(parents=True)
    for path in sorted(recordings.glob("*.wav")):
        wave, rate_hz = soundfile.read(path, dtype="float64")
        noise = np.random.default_rng(zlib.crc32(path.name.encode())).standard_normal(
            len(wave) + 2 * round(SECONDS * rate_hz)
        )
        noise *= np.sqrt(np.mean(wave**2)) * 10 ** (QUIET_DB / 20)
        noise[round(SECONDS * rate_hz) :][: len(wave)] += wave
        soundfile.write(unfinished / recordings.name / path.name, noise.clip(-1, 1), rate_hz, subtype="PCM_16")
    unfinished.rename(out)
