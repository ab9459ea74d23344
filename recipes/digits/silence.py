"""Quiet before and after recordings that are cut closely around a word.

A model of letters needs a frame for each of them, and one more between two equal ones: at 40 ms a frame, 0.24 s for
`three`, which some of these recordings say in 0.15 s. And a model that learnt from sentences has never heard a word
begin at full loudness in the first sample.

If the added quiet is softer than the noise in the recording, the word seems to begin and end with a stop consonant. So
each recording is surrounded by noise as loud as its own. Another level (`STILL_DB`) keeps a model from relying on that.
"""

import zlib
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr import audio, stages
from asr.config import AudioConfig
from asr.corpora.common import matching
from asr.errors import AudioError
from asr.files import whole_folder

RECORDINGS = "recordings"  # the folder of the corpus, whatever that which it may link to is called
SECONDS = 0.3  # on either side
STILL_DB = -35.0  # the other kind of quiet, relative to the recording's mean power
# A recording's noise is measured in its quietest moment of this length, between these frequencies.
_MOMENT_S = 0.025
_NOISE_HZ = (1000, 3500)
_NOISE_DB = (-50.0, -10.0)  # limits of the level found, relative to the recording's mean power


def surround(recordings: Path, out: Path, level_db: float | None = None) -> None:
    """Write each recording with `SECONDS` of noise on either side to `out`/`RECORDINGS`, unless that was done before.

    Args:
        recordings: folder of WAV files.
        out: folder for `RECORDINGS`; it appears when all of them are written.
        level_db: of the noise, relative to the recording's mean power; None: as loud as its own noise.

    Raises:
        AudioError: a recording cannot be read, or is too short for its noise to be measured.
    """
    if out.is_dir():
        stages.say(f"silence: complete in {out}, skipped")
        return
    stages.say(f"silence: {out}")
    with whole_folder(out) as folder:
        (folder / RECORDINGS).mkdir()
        for path in matching(recordings, "*.wav"):
            with audio.opened(path) as file:
                rate_hz = file.file.samplerate
                wave = file.mono(0, file.frames, AudioConfig(sample_rate_hz=rate_hz)).double().numpy()
            try:
                found_db = noise_db(wave, rate_hz) if level_db is None else level_db
            except AudioError as error:
                raise AudioError(f"{path}: {error}") from error
            level = np.sqrt(np.mean(wave**2)) * 10 ** (found_db / 20)
            noise = np.random.default_rng(zlib.crc32(path.name.encode())).standard_normal((2, round(SECONDS * rate_hz)))
            before, after = level * noise
            padded = np.concatenate([before, wave, after]).clip(-1, 1)
            soundfile.write(folder / RECORDINGS / path.name, padded, rate_hz, subtype="PCM_16")


def noise_db(wave: NDArray[np.float64], rate_hz: int) -> float:
    """Power of the noise in (S,) samples, if it is white, relative to their mean power, from their quietest moment.

    Where there is digital silence, that is the quietest moment, and the result is the lower limit.

    Raises:
        AudioError: the samples are shorter than such a moment.
    """
    samples = round(_MOMENT_S * rate_hz)
    if len(wave) < samples:
        raise AudioError(f"{len(wave)} samples are shorter than the {samples} that its noise is taken from")
    window = np.hanning(samples)
    moments = np.lib.stride_tricks.sliding_window_view(wave, samples)[:: samples // 3] * window
    hz = np.fft.rfftfreq(samples, 1 / rate_hz)
    power = np.abs(np.fft.rfft(moments)[:, (hz >= _NOISE_HZ[0]) & (hz < _NOISE_HZ[1])]) ** 2
    quietest = power.mean(1).min() / np.sum(window**2)  # a variance: noise of variance 1 has that sum in each bin
    found = 10 * np.log10(max(float(quietest), 1e-20) / max(float(np.mean(wave**2)), 1e-20))
    return float(np.clip(found, *_NOISE_DB))
