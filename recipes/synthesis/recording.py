"""Lines that a synthesiser is to speak, and their recordings: 16 kHz files at random levels over a little noise."""

import math
import multiprocessing
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from asr.files import atomic_path
from asr.lengths import s_to_samples
from asr.manifest import Utterance
from asr.process.signals import serve

SAMPLE_RATE_HZ = 16000
EDGE_S = 0.15  # most silence kept before the first and after the last sound


@dataclass(frozen=True)
class Line:
    """One utterance to speak; `pitch` and `pitch_range` go from 0 to 100, and 50 is the voice's own."""

    id: str
    text: str
    voice: str  # as its synthesiser names it
    rate: int  # words a minute
    pitch: int
    pitch_range: int
    word_gap: int  # pause between words, in 10 ms at the default rate


Say = Callable[[Line], tuple[bytes, int]]  # 16-bit samples of a line, and their rate in Hz


def record(
    lines: Sequence[Line], folder: Path, seed: int, say: Say, *, workers: int = 1, keep: bool = False
) -> list[Utterance]:
    """Speak the lines and write each as a file; fresh processes speak while this one writes.

    The script that calls this must guard its own start with `if __name__ == "__main__"`: the processes are spawned.

    Args:
        lines: texts as the synthesiser is to read them; they become the transcripts.
        folder: for `<id>.wav`, 16 kHz mono 16-bit.
        seed: of levels, silences and noise.
        say: importable by name in another process.
        workers: how many processes speak; with one the lines are spoken in their order.
        keep: leave existing files, which are of an earlier run with the same lines.

    Raises:
        CorpusError: the synthesiser does not do what is asked of it.
    """
    import soundfile
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{line.id}.wav" for line in lines]
    missing = [(line, file) for line, file in zip(lines, files, strict=True) if not (keep and file.is_file())]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the other cores are for the synthesiser, and sums have the same order everywhere
    try:
        # Spawned, so that a synthesiser's library starts in a fresh state.
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=serve) as pool:
            said = pool.map(say, [line for line, _ in missing], chunksize=16)
            for (line, file), (pcm, rate_hz) in zip(missing, said, strict=True):
                waveform = _finish(pcm, rate_hz, np.random.default_rng([seed, zlib.crc32(line.id.encode())]))
                with atomic_path(file) as temporary:
                    soundfile.write(temporary, waveform, SAMPLE_RATE_HZ, subtype="PCM_16", format="WAV")
    finally:
        torch.set_num_threads(threads)
    return [
        Utterance(line.id, file, soundfile.info(file).frames / SAMPLE_RATE_HZ, line.text, speaker=line.voice)
        for line, file in zip(lines, files, strict=True)
    ]


def _finish(pcm: bytes, rate_hz: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """(S,) float32 at 16 kHz from 16-bit samples at `rate_hz`: trimmed, at a random level, over a little noise."""
    import torch

    from asr.resampling import resample

    waveform = np.frombuffer(pcm, dtype=np.int16) / np.float32(32768)
    speech = resample(torch.from_numpy(waveform), rate_hz, SAMPLE_RATE_HZ).numpy().astype(np.float64)
    loud = np.flatnonzero(np.abs(speech) > 0.01 * np.abs(speech).max())  # within 40 dB of the peak
    speech = speech[loud[0] : loud[-1] + 1]
    level = math.sqrt(float(np.mean(speech**2)))
    # Levels of -30 to -18 dB under full scale, with room left at the peak.
    gain = min(10 ** (rng.uniform(-30, -18) / 20) / level, 0.9 / float(np.abs(speech).max()))
    before, after = (s_to_samples(rng.uniform(0.05, EDGE_S), SAMPLE_RATE_HZ) for _ in range(2))
    speech = np.pad(speech * gain, (before, after))
    noise = _noise(len(speech), rng) * level * gain * 10 ** (-rng.uniform(25, 40) / 20)  # SNR of 25 to 40 dB
    return (speech + noise).astype(np.float32)


def _noise(samples: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Gaussian noise of root mean square 1 whose power falls as 1/f^a, with a from 0 (white) to 1 (pink)."""
    padded = 1 << (samples - 1).bit_length()  # the transform of a power of two is fast
    spectrum = np.fft.rfft(rng.standard_normal(padded))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** (rng.uniform(0, 1) / 2)
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum)[:samples]
    scaled: npt.NDArray[np.float64] = noise / np.sqrt(np.mean(noise**2))
    return scaled
