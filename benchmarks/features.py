"""Log-mel throughput against librosa: the same output, one thread, the two taking turns.

python benchmarks/features.py [--rounds 15] [--json FILE]
"""

import argparse
import os
import statistics
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import librosa
import numpy as np
import torch
from timing import alternate, ratio, report

from asr.config import FeatureConfig
from asr.features import POWER_FLOOR, LogMel

RATE_HZ = 16000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = FeatureConfig()
    log_mel = LogMel(config, RATE_HZ)
    generator = torch.Generator().manual_seed(0)

    def with_librosa(wave: torch.Tensor) -> np.ndarray:
        power = librosa.feature.melspectrogram(
            y=wave.numpy(),
            sr=RATE_HZ,
            n_fft=log_mel.fft_samples,
            win_length=round(config.window_ms * RATE_HZ / 1000),
            hop_length=log_mel.hop_samples,
            fmin=config.low_hz,
            fmax=RATE_HZ / 2,
            n_mels=config.mel_bins,
            center=False,
        )
        return np.log(np.maximum(power, POWER_FLOOR)).T

    def ours(waves: torch.Tensor) -> torch.Tensor:
        return log_mel(waves, torch.full((len(waves),), waves.shape[1]))[0]

    print(
        "seconds of audio | librosa, x real time | ours, one at a time | ratio | ours, batch of 16 | ratio | "
        "largest difference"
    )
    rows = []
    for duration_s in (1.0, 2.5, 5.0, 10.0, 20.0):
        batch = 0.1 * torch.randn(16, round(duration_s * RATE_HZ), generator=generator)
        difference = float(np.abs(ours(batch)[0].numpy() - with_librosa(batch[0])).max())
        seconds = alternate(
            {
                "librosa": lambda batch=batch: [with_librosa(wave) for wave in batch],
                "one": lambda batch=batch: [ours(wave[None]) for wave in batch],
                "batch": lambda batch=batch: ours(batch),
            },
            arguments.rounds,
        )
        speed = {name: 16 * duration_s / statistics.median(times) for name, times in seconds.items()}
        one, whole = (ratio(seconds["librosa"], seconds[name]) for name in ("one", "batch"))
        rows.append(
            {
                "duration_s": duration_s,
                "x_real_time": speed,
                "ratio_one": one,
                "ratio_batch": whole,
                "difference": difference,
            }
        )
        print(
            f"{duration_s:5.1f} | {speed['librosa']:6.0f} | {speed['one']:6.0f} | "
            f"{one[1]:4.1f} ({one[0]:.1f}-{one[2]:.1f}) | "
            f"{speed['batch']:6.0f} | {whole[1]:4.1f} ({whole[0]:.1f}-{whole[2]:.1f}) | {difference:.1e}"
        )
    report({"rows": rows}, arguments.json)


if __name__ == "__main__":
    main()
