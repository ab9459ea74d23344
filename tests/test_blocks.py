"""A recording in blocks is the recording as a whole, in memory that does not grow."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio import blocks, load
from asr.config import AudioConfig
from asr.errors import AudioError
from asr.resampling import StreamResampler, resample

RATE_HZ = 16000
CONFIG = AudioConfig(sample_rate_hz=RATE_HZ)


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.2 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def write(path: Path, samples: torch.Tensor, rate_hz: int = RATE_HZ, **how: str) -> Path:
    soundfile.write(path, samples.numpy(), rate_hz, **how)
    return path


@pytest.mark.parametrize(
    ("source_hz", "target_hz"), [(8000, 16000), (44100, 16000), (48000, 16000), (16000, 8000), (11025, 16000)]
)
@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 9000), max_size=8), samples=st.integers(0, 9000), seed=st.integers(0, 9))
def test_resampling_in_pieces_is_that_of_the_whole(
    source_hz: int, target_hz: int, cuts: list[int], samples: int, seed: int
) -> None:
    wave = noise(samples, seed)
    resampler = StreamResampler(source_hz, target_hz)
    pieces = [resampler.accept(piece) for piece in torch.tensor_split(wave, sorted(cuts))]
    found = torch.cat([*pieces, resampler.finish()])
    expected = resample(wave, source_hz, target_hz) if samples else wave
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_resampling_comes_out_as_soon_as_it_can() -> None:
    resampler = StreamResampler(8000, 16000)
    found = sum(len(resampler.accept(piece)) for piece in noise(8000).split(80))
    assert 16000 - found <= 2 * 8


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100])
@pytest.mark.parametrize("block_s", [0.013, 0.5, 1.7, 100.0])
def test_blocks_are_the_whole(tmp_path: Path, rate_hz: int, block_s: float) -> None:
    path = write(tmp_path / "a.wav", noise(3 * rate_hz + 17), rate_hz, subtype="FLOAT")
    found = list(blocks(path, CONFIG, block_s=block_s))
    assert all(len(block) for block in found)
    assert all(block.dtype == torch.float32 for block in found)
    torch.testing.assert_close(torch.cat(found), load(path, CONFIG), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "how", "tolerance"),
    [
        ("a.flac", {}, 1e-6),
        ("a.sph", {"format": "NIST"}, 1e-6),
        ("a.ogg", {"format": "OGG", "subtype": "VORBIS"}, 1e-5),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}, 0.02),
        ("a.mp3", {"format": "MP3"}, 1e-4),
    ],
)
def test_blocks_of_other_formats(tmp_path: Path, name: str, how: dict[str, str], tolerance: float) -> None:
    time_s = torch.arange(8 * RATE_HZ) / RATE_HZ
    wave = 0.3 * torch.sin(2 * torch.pi * 300 * time_s) * (1 + torch.sin(2 * torch.pi * 3 * time_s))
    path = write(tmp_path / name, wave, **how)
    found = torch.cat(list(blocks(path, CONFIG, block_s=1.1)))
    torch.testing.assert_close(found, load(path, CONFIG), rtol=0, atol=tolerance)


def test_content_in_place_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(RATE_HZ), subtype="FLOAT")
    assert torch.equal(torch.cat(list(blocks(path.read_bytes(), CONFIG, block_s=0.3))), load(path, CONFIG))


@pytest.mark.parametrize(("channels", "policy"), [(2, "auto"), (3, "first"), (3, "mean")])
def test_channels_as_in_load(tmp_path: Path, channels: int, policy: str) -> None:
    path = write(tmp_path / "a.wav", noise(channels * RATE_HZ).view(-1, channels), subtype="FLOAT")
    config = AudioConfig(sample_rate_hz=RATE_HZ, channels=policy)  # type: ignore[arg-type]
    torch.testing.assert_close(torch.cat(list(blocks(path, config, block_s=0.3))), load(path, config))


def test_what_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", torch.zeros(RATE_HZ, 8))
    with pytest.raises(AudioError, match=r"a.wav: 8 channels; audio.channels=auto accepts one or two"):
        next(blocks(path, CONFIG))
    path = write(tmp_path / "b.wav", torch.zeros(3 * RATE_HZ))
    with pytest.raises(AudioError, match=r"b.wav: 3.0 s of audio, wanted at most 2 s"):
        next(blocks(path, CONFIG, max_duration_s=2))
    wave = noise(3 * RATE_HZ)
    wave[40000] = np.nan
    path = write(tmp_path / "c.wav", wave, subtype="FLOAT")
    reading = blocks(path, CONFIG, block_s=0.5)
    for _ in range(4):
        assert len(next(reading)) == RATE_HZ // 2
    with pytest.raises(AudioError, match=r"c.wav: sample 40000 is not finite \(nan\)"):
        list(reading)
    path = write(tmp_path / "d.wav", noise(RATE_HZ), rate_hz=15999)
    with pytest.raises(AudioError, match=r"d.wav: cannot resample from 15999 Hz to 16000 Hz"):
        next(blocks(path, CONFIG))


def test_the_limit_of_what_is_read_as_a_whole_is_none_for_blocks(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(3 * RATE_HZ))
    config = AudioConfig(sample_rate_hz=RATE_HZ, max_duration_s=1.0)
    assert sum(map(len, blocks(path, config))) == 3 * RATE_HZ


@pytest.mark.parametrize("declared", [1.05, 1.2])
def test_a_header_that_declares_a_little_more(tmp_path: Path, declared: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the tolerance of `load` in the last block, and an error beyond it, wherever the blocks end."""
    path = write(tmp_path / "a.wav", noise(RATE_HZ))
    monkeypatch.setattr(soundfile.SoundFile, "frames", property(lambda file: round(declared * RATE_HZ)))
    for block_s in (0.2, 0.3, 0.7, 30.0):
        reading = blocks(path, CONFIG, block_s=block_s)
        if declared < 1.1:
            assert sum(map(len, reading)) == RATE_HZ
        else:
            with pytest.raises(AudioError, match=r"a.wav: (truncated|cannot read audio: damaged, truncated)"):
                list(reading)


def test_a_truncated_recording_is_counted_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", noise(2 * RATE_HZ))
    monkeypatch.setattr(soundfile.SoundFile, "frames", property(lambda file: 4 * RATE_HZ))
    monkeypatch.setattr(soundfile.SoundFile, "seek", lambda *_: 0)  # the last block would be beyond the end
    with pytest.raises(AudioError, match=r"a.wav: truncated: header declares 64000 samples, 32000 could be read$"):
        list(blocks(path, CONFIG, block_s=0.75))


@pytest.mark.slow
def test_memory_stays(tmp_path: Path) -> None:
    """Ten minutes of silence at 44.1 kHz, a small file, in blocks of five seconds."""
    path = write(tmp_path / "a.flac", torch.zeros(600 * 44100), 44100)
    total = 0
    tracemalloc.start()  # numpy's memory is counted; torch's comes from there
    try:
        for block in blocks(path, CONFIG, block_s=5.0):
            total += len(block)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 600 * RATE_HZ
    assert peak < 10_000_000
