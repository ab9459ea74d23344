"""Augmentation of waveforms measured from outside: lengths, frequencies, noise ratios; and what is drawn."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from asr.augment import (
    WaveAugment,
    coloured_noise,
    room_response,
    speed_of,
    utterance_generator,
)
from asr.config import AudioConfig, AugmentConfig
from asr.errors import AudioError

RATE_HZ = 8000
OFF: dict[str, Any] = {
    "noise_probability": 0.0,
    "speeds": (),
    "gain_db": 0.0,
}


def wave_augment(**changes: Any) -> WaveAugment:
    return WaveAugment(AugmentConfig(**{**OFF, **changes}), AudioConfig(sample_rate_hz=RATE_HZ))


def generator(name: str = "u1", epoch: int = 0, seed: int = 0) -> torch.Generator:
    return utterance_generator(seed, epoch, name)


def tone(frequency_hz: float, samples: int = RATE_HZ) -> Tensor:
    return 0.3 * torch.sin(2 * torch.pi * frequency_hz * torch.arange(samples) / RATE_HZ)


def loudest_hz(wave: Tensor) -> float:
    spectrum = torch.fft.rfft(wave * torch.hann_window(len(wave)), n=8 * RATE_HZ)
    return int(spectrum.abs().argmax()) / 8


def snr_db(clean: Tensor, noisy: Tensor) -> float:
    return 10 * math.log10(float(clean.square().mean() / (noisy - clean).square().mean()))


# --- what is drawn ----------------------------------------------------------------------------------------------------


def test_numbers_depend_on_seed_epoch_and_id_alone() -> None:
    def draw(seed: int, epoch: int, name: str) -> tuple[float, ...]:
        return tuple(torch.rand(4, generator=utterance_generator(seed, epoch, name)).tolist())

    cases = [(1, 0, "u1"), (2, 0, "u1"), (1, 1, "u1"), (1, 0, "u2"), (11, 0, "u1"), (1, 10, "u1"), (1, 0, "0/u1")]
    first = [draw(*case) for case in cases]
    torch.manual_seed(99)
    assert [draw(*case) for case in reversed(cases)] == first[::-1]
    assert len(set(first)) == len(cases)


def test_seed_of_an_utterance_is_the_same_in_every_process() -> None:
    # A number that changes here changes what a resumed run draws.
    assert utterance_generator(1, 2, "speaker-1_u1").initial_seed() == 2281462942804891677


def test_waveform_is_perturbed_by_its_generator_alone() -> None:
    augment = wave_augment(crop_share=0.1, gain_db=6.0, noise_probability=0.5, reverb_probability=0.5)
    clean = coloured_noise(2000, 1.0, generator("clean"))
    before = clean.clone()
    perturbed = {name: augment(clean, generator(name)) for name in "abcdefghij"}
    assert torch.equal(clean, before)
    for name in reversed("abcdefghij"):
        assert torch.equal(augment(clean, generator(name)), perturbed[name])
    assert len({len(wave) for wave in perturbed.values()}) > 5


# --- waveforms --------------------------------------------------------------------------------------------------------


def test_everything_off_changes_nothing() -> None:
    wave = tone(440)
    assert torch.equal(wave_augment()(wave, generator()), wave)


def test_cropping_cuts_a_share_off_either_end() -> None:
    wave = torch.arange(1000, dtype=torch.float32)
    cropped = [wave_augment(crop_share=0.3)(wave, generator(str(number))) for number in range(200)]
    firsts, lasts = [int(part[0]) for part in cropped], [999 - int(part[-1]) for part in cropped]
    for cut in (firsts, lasts):
        assert 0 <= min(cut) < 15
        assert 285 < max(cut) < 300
    assert all(
        torch.equal(part, wave[first : 1000 - last]) for part, first, last in zip(cropped, firsts, lasts, strict=True)
    )


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1, 0.5, 2.0, 0.95])
def test_speed_changes_length_and_pitch(speed: float) -> None:
    fast = wave_augment()(tone(500), generator(), speed)
    assert abs(len(fast) - RATE_HZ / speed) < 1
    assert loudest_hz(fast) == pytest.approx(500 * speed, abs=0.25)
    middle = fast[1000:-1000]
    assert float(middle.square().mean().sqrt()) == pytest.approx(0.3 / math.sqrt(2), rel=0.01)  # no louder, no softer


def test_speeds_are_drawn_equally_often() -> None:
    config = AugmentConfig(speeds=(0.5, 1.0, 2.0))
    drawn = [speed_of(config, 1, epoch, f"u{number}") for number in range(60) for epoch in range(10)]
    for speed in config.speeds:
        assert 150 < drawn.count(speed) < 250  # 200 expected, standard deviation 11.5
    assert speed_of(AugmentConfig(speeds=()), 1, 0, "u1") == 1


def test_speed_depends_on_seed_epoch_and_id() -> None:
    config = AugmentConfig(speeds=tuple(0.5 + 0.01 * step for step in range(100)))
    cases = [(1, 0, "u1"), (2, 0, "u1"), (1, 1, "u1"), (1, 0, "u2")]
    assert len({speed_of(config, *case) for case in cases}) == 4
    assert speed_of(config, 1, 0, "u1") == speed_of(config, 1, 0, "u1")


def test_gain_is_uniform_in_decibels() -> None:
    augment, wave = wave_augment(gain_db=6.0), torch.ones(4)
    gains = [20 * math.log10(float(augment(wave, generator(f"u{number}"))[0])) for number in range(400)]
    assert -6 <= min(gains) < -5.8
    assert 5.8 < max(gains) <= 6
    assert abs(sum(gains) / 400) < 0.7  # standard deviation of the mean: 0.17


@given(wanted=st.floats(-5, 40), seed=st.integers(0, 1000), samples=st.integers(600, 3000))
def test_synthetic_noise_has_the_ratio_asked_for(wanted: float, seed: int, samples: int) -> None:
    clean = tone(440, samples)
    augment = wave_augment(noise_probability=1.0, noise_snr_db=(wanted, wanted))
    assert snr_db(clean, augment(clean, generator(seed=seed))) == pytest.approx(wanted, abs=0.1)


def test_noise_comes_as_often_as_asked() -> None:
    augment, clean = wave_augment(noise_probability=0.25), tone(440, 64)
    noisy = sum(not torch.equal(augment(clean, generator(f"u{number}")), clean) for number in range(400))
    assert 60 < noisy < 140  # 100 expected, standard deviation 8.7


def test_noise_ratios_fill_their_range() -> None:
    augment, clean = wave_augment(noise_probability=1.0, noise_snr_db=(10.0, 20.0)), tone(440, 500)
    ratios = [snr_db(clean, augment(clean, generator(f"u{number}"))) for number in range(200)]
    assert 9.9 < min(ratios) < 10.5
    assert 19.5 < max(ratios) < 20.1


def test_noise_recordings_are_cut_anywhere_and_go_round(tmp_path: Path) -> None:
    recording = torch.randn(500, generator=generator("recording")) * 0.1
    (tmp_path / "deep").mkdir()
    soundfile.write(tmp_path / "deep" / "hum.WAV", recording.numpy(), RATE_HZ, format="WAV", subtype="FLOAT")
    (tmp_path / "notes.txt").write_text("not audio")
    augment = wave_augment(noise_probability=1.0, noise_snr_db=(12.0, 12.0), noise_dir=str(tmp_path))
    clean = tone(440, 1200)
    starts = set()
    for number in range(5):
        noisy = augment(clean, generator(f"u{number}"))
        added = noisy - clean
        added = added / added.square().mean().sqrt()
        errors = []
        for start in range(500):
            cut = recording.roll(-start).repeat(3)[:1200]
            errors.append(float((added - cut / cut.square().mean().sqrt()).abs().max()))
        assert min(errors) < 1e-3
        starts.add(errors.index(min(errors)))
        assert snr_db(clean, noisy) == pytest.approx(12, abs=0.1)
    assert len(starts) == 5


def test_of_a_long_noise_recording_a_piece_is_read(tmp_path: Path) -> None:
    recording = torch.randn(20_000, generator=generator("recording")) * 0.1
    soundfile.write(tmp_path / "hum.wav", recording.numpy(), RATE_HZ, subtype="FLOAT")
    augment = wave_augment(noise_probability=1.0, noise_snr_db=(12.0, 12.0), noise_dir=str(tmp_path))
    augment = WaveAugment(augment.config, replace(augment.audio_config, max_duration_s=1300 / RATE_HZ))
    starts = set()
    for number in range(5):
        clean = tone(440, 1200)
        added = augment(clean, generator(f"u{number}")) - clean
        pieces = recording.unfold(0, 1200, 1)
        fits = pieces @ added / pieces.norm(dim=1) / added.norm()
        assert fits.max() == pytest.approx(1, abs=1e-4)
        starts.add(int(fits.argmax()))
    assert len(starts) == 5


def test_noise_recordings_are_brought_to_the_rate(tmp_path: Path) -> None:
    hum = torch.sin(2 * torch.pi * 1000 * torch.arange(2 * RATE_HZ) / (2 * RATE_HZ))
    soundfile.write(tmp_path / "hum.wav", hum.numpy(), 2 * RATE_HZ, subtype="FLOAT")
    augment = wave_augment(noise_probability=1.0, noise_snr_db=(0.0, 0.0), noise_dir=str(tmp_path))
    clean = tone(300)
    assert loudest_hz(augment(clean, generator()) - clean) == pytest.approx(1000, abs=1)


def test_noise_in_linked_folders(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "noise").mkdir()
    soundfile.write(tmp_path / "elsewhere" / "hum.wav", np.ones(100), RATE_HZ)
    (tmp_path / "noise" / "z").mkdir()
    soundfile.write(tmp_path / "noise" / "z" / "own.wav", np.ones(100), RATE_HZ)
    (tmp_path / "noise" / "z" / "._own.wav").write_bytes(b"facts of macOS")
    (tmp_path / "noise" / "again").symlink_to(tmp_path / "noise" / "z")
    (tmp_path / "noise" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "noise" / "round").symlink_to(tmp_path / "noise")
    found = wave_augment(noise_dir=str(tmp_path / "noise")).noise_files
    assert found == [tmp_path / "noise" / "link" / "hum.wav", tmp_path / "noise" / "z" / "own.wav"]


def test_folder_without_noise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"^augment\.noise_dir=.*: no audio file found there$"):
        wave_augment(noise_probability=1.0, noise_dir=str(tmp_path))


@pytest.mark.parametrize("reverb_s", [0.1, 0.5])
def test_echoes_fall_by_sixty_decibels_in_the_reverberation_time(reverb_s: float) -> None:
    responses = torch.stack([room_response(reverb_s, RATE_HZ, generator(str(number))) for number in range(200)])
    assert responses.shape[1] == round(reverb_s * RATE_HZ)
    assert (responses[:, 0] == 1).all()
    direct_db = -10 * torch.log10(responses[:, 1:].square().sum(1))
    assert -0.01 < float(direct_db.min()) < 0.5
    assert 14.5 < float(direct_db.max()) < 15.01
    power_db = 10 * torch.log10(responses.square().mean(0))
    tenth = responses.shape[1] // 10
    fall_db = float(power_db[1 : 1 + tenth].mean() - power_db[-tenth:].mean())
    assert fall_db == pytest.approx(0.9 * 60, abs=1)


def test_room_is_a_convolution_that_ends_with_the_utterance() -> None:
    augment = wave_augment(reverb_probability=1.0, reverb_s=(0.1, 0.1))
    clean = torch.randn(9001, generator=generator("clean"))
    heard = augment(clean, generator())
    response = augment(torch.eye(1, 9001)[0], generator())  # what one click makes
    assert len(heard) == len(clean)
    assert response[800:].abs().max() <= 1e-6  # a tenth of a second
    wanted = np.convolve(clean.double().numpy(), response[:800].double().numpy())[: len(clean)]
    np.testing.assert_allclose(heard.numpy(), wanted, atol=1e-4)


def test_rooms_come_as_often_as_asked_and_differ() -> None:
    augment, clean = wave_augment(reverb_probability=0.25), tone(440, 400)
    heard = [augment(clean, generator(str(number))) for number in range(400)]
    changed = [wave for wave in heard if not torch.equal(wave, clean)]
    assert 70 < len(changed) < 130
    assert len({float(wave[-1]) for wave in changed}) == len(changed)


@pytest.mark.parametrize("rate_hz", [11025, 16000])
def test_a_telephone_carries_what_is_below_4_khz(rate_hz: int) -> None:
    config = AugmentConfig(**{**OFF, "telephone_probability": 1.0})
    augment = WaveAugment(config, AudioConfig(sample_rate_hz=rate_hz))
    seconds = torch.arange(rate_hz + 1) / rate_hz
    low, high = (0.3 * torch.sin(2 * torch.pi * frequency_hz * seconds) for frequency_hz in (1000, 5000))
    heard = augment(low + high, generator())
    assert len(heard) == len(low)
    middle = slice(rate_hz // 10, -rate_hz // 10)
    assert (heard - low)[middle].abs().max() < 0.005


def test_telephones_come_as_often_as_asked() -> None:
    config = AugmentConfig(**{**OFF, "telephone_probability": 0.25})
    augment = WaveAugment(config, AudioConfig(sample_rate_hz=16000))
    clean = torch.randn(400, generator=generator("clean"))
    heard = [augment(clean, generator(str(number))) for number in range(400)]
    assert 70 < sum(not torch.equal(wave, clean) for wave in heard) < 130


def test_silence_stays_silent() -> None:
    silence = torch.zeros(700)
    assert not wave_augment(gain_db=6.0, noise_probability=1.0)(silence, generator()).any()


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0, 2.0])
def test_noise_falls_with_its_slope(slope: float) -> None:
    power = torch.fft.rfft(coloured_noise(1 << 16, slope, generator())).abs().square()
    octaves = torch.tensor([float(power[1 << low : 2 << low].mean()) for low in range(6, 15)]).log2()
    steps = octaves.diff()
    assert float(-steps.mean()) == pytest.approx(slope, abs=0.1)
    assert len(coloured_noise(7, slope, generator())) == 7


def test_noise_is_gaussian_of_power_one() -> None:
    noise = coloured_noise(1 << 18, 1.0, generator())
    assert float(noise.square().mean()) == pytest.approx(1, abs=1e-3)
    assert float(noise.mean()) == pytest.approx(0, abs=1e-3)
    assert float((noise.abs() < 1).float().mean()) == pytest.approx(0.683, abs=0.03)


def test_noise_longer_than_its_loop_goes_on_without_a_jump() -> None:
    noise = coloured_noise(3 * (1 << 18), 2.0, generator())
    assert torch.equal(noise[: 1 << 18], noise[1 << 18 : 2 << 18])
    jumps = noise.diff().abs()
    assert float(jumps.max()) < 8 * float(jumps.square().mean().sqrt())


def test_noise_is_the_callers_own() -> None:
    first = coloured_noise(500, 1.0, generator())
    kept = first.clone()
    first.zero_()
    assert torch.equal(coloured_noise(500, 1.0, generator()), kept)
    assert not torch.equal(coloured_noise(500, 1.0, generator("u2")), kept)
