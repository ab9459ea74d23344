"""Augmentation measured from outside: lengths, frequencies, noise ratios, what a mask hides and what a warp moves."""

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
    FeatureAugment,
    WaveAugment,
    coloured_noise,
    draws_of,
    room_response,
    speed_of,
    utterance_generator,
)
from asr.config import AudioConfig, AugmentConfig
from asr.errors import AudioError

RATE_HZ = 8000
ALMOST_ONE = 1 - 2**-24  # the largest float32 that torch.rand gives
OFF: dict[str, Any] = {
    "noise_probability": 0.0,
    "warp": 0.0,
    "speeds": (),
    "gain_db": 0.0,
    "freq_masks": 0,
    "time_masks": 0,
}


def wave_augment(**changes: Any) -> WaveAugment:
    return WaveAugment(AugmentConfig(**{**OFF, **changes}), AudioConfig(sample_rate_hz=RATE_HZ))


def feature_augment(bins: int = 80, **changes: Any) -> FeatureAugment:
    return FeatureAugment(AugmentConfig(**{**OFF, **changes}), torch.arange(float(bins)))


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


# --- warp -------------------------------------------------------------------------------------------------------------


def warped_ramp(factor: float, bins: int) -> Tensor:
    """Which bin each bin of the output is read from, found by warping features that hold their own bin number."""
    strength = abs(factor - 1)
    draw = torch.tensor([[1.0 if factor > 1 else 0.0]])
    ramp = torch.arange(bins, dtype=torch.float32).expand(1, 3, bins)
    warped = feature_augment(bins=bins, warp=strength).warp(ramp, draw)
    assert torch.equal(warped[0, 0], warped[0, 2])
    return warped[0, 0]


def test_factor_one_is_identity() -> None:
    feats = torch.randn(2, 5, 80)
    warped = feature_augment(warp=0.3).warp(feats, torch.full((2, 1), 0.5))
    torch.testing.assert_close(warped, feats, atol=1e-4, rtol=0)
    assert feature_augment().warp(feats, torch.rand(2, 1)) is feats


@pytest.mark.parametrize(("draw", "bin_after"), [(1.0, 25), (0.5, 30), (0.0, 37.5)])
def test_warp_moves_a_peak(draw: float, bin_after: float) -> None:
    # A vocal tract that is shorter by the factor has its resonances higher by it; reading at m * factor undoes that.
    bins = torch.arange(80)
    feats = torch.exp(-0.5 * ((bins - 30) / 3) ** 2).expand(1, 4, 80)
    warped = feature_augment(warp=0.2).warp(feats, torch.tensor([[draw]]))[0, 0]
    centre = float((warped * bins).sum() / warped.sum())
    assert centre == pytest.approx(bin_after, abs=0.1)


@given(factor=st.floats(0.5, 1.5), bins=st.integers(8, 120))
def test_warp_is_piecewise_linear_with_fixed_ends(factor: float, bins: int) -> None:
    source = warped_ramp(factor, bins)
    torch.testing.assert_close(source[[0, -1]], torch.tensor([0.0, bins - 1.0]), atol=1e-3, rtol=0)
    assert bool((source.diff() > 0).all())
    straight = int(0.8 * (bins - 1) / max(factor, 1))  # the last bin below the bend
    expected = factor * torch.arange(straight + 1)
    torch.testing.assert_close(source[: straight + 1], expected, atol=2e-3, rtol=0)
    above = source[straight + 1 :].diff()
    if len(above) > 1:
        torch.testing.assert_close(above, above[:1].expand_as(above), atol=2e-3, rtol=0)


def test_each_row_has_its_own_factor_and_padding_stays_zero() -> None:
    feats = torch.randn(3, 6, 40)
    feats[1, 4:] = 0
    draws = torch.tensor([[0.1], [0.9], [0.4]])
    augment = feature_augment(bins=40, warp=0.2)
    together = augment.warp(feats, draws)
    for row in range(3):
        torch.testing.assert_close(together[row : row + 1], augment.warp(feats[row : row + 1], draws[row : row + 1]))
    assert not together[1, 4:].any()
    assert together[1, :4].any()


# --- microphones ------------------------------------------------------------------------------------------------------


def test_microphone_adds_a_response_in_decibels_between_its_points() -> None:
    augment = feature_augment(bins=11, filter_db=10.0)
    feats = torch.randn(2, 4, 11, generator=generator())
    feats[1, 3:] = 0
    lens = torch.tensor([4, 3])
    draws = torch.rand(2, draws_of(augment.config), generator=generator("draws"))
    draws[0, -6:] = torch.tensor([0.0, 0.5, 1.0, 0.5, 0.5, 0.75])
    heard = augment.filter(feats, lens, draws)
    added_db = (heard - feats)[0] * 10 / math.log(10)
    torch.testing.assert_close(added_db[0], torch.tensor([-10.0, -5, 0, 5, 10, 5, 0, 0, 0, 2.5, 5]), atol=1e-4, rtol=0)
    torch.testing.assert_close(added_db, added_db[:1].expand(4, -1), atol=1e-4, rtol=0)  # the same in every frame
    assert not heard[1, 3:].any()  # padding
    torch.testing.assert_close(augment.filter(feats[1:, :3], lens[1:], draws[1:]), heard[1:, :3])


def test_no_microphone_needs_no_numbers() -> None:
    augment = feature_augment(bins=11)
    feats = torch.randn(2, 4, 11, generator=generator())
    assert augment.filter(feats, torch.tensor([4, 3]), torch.rand(2, draws_of(augment.config))) is feats
    assert draws_of(AugmentConfig(filter_db=1.0)) == draws_of(AugmentConfig()) + 6


# --- masks ------------------------------------------------------------------------------------------------------------


@given(data=st.data())
def test_masks_keep_within_their_limits(data: st.DataObject) -> None:
    bins = data.draw(st.integers(1, 30))
    lens = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=4))
    augment = feature_augment(
        freq_masks=data.draw(st.integers(0, 3)),
        freq_mask_bins=data.draw(st.integers(0, 40)),
        time_masks=data.draw(st.integers(0, 3)),
        time_mask_frames=data.draw(st.integers(0, 80)),
        time_mask_share=data.draw(st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0])),
    )
    limits = augment.config
    draw = st.one_of(st.just(0.0), st.just(ALMOST_ONE), st.floats(0, ALMOST_ONE, width=32))
    draws = torch.tensor(
        [data.draw(st.lists(draw, min_size=draws_of(limits), max_size=draws_of(limits))) for _ in lens],
        dtype=torch.float32,
    )
    assert draws_of(limits) == 1 + 2 * (limits.freq_masks + limits.time_masks)
    shape = (len(lens), max(lens) + 2, bins)
    feats = torch.rand(shape) + 1  # in the padding too, to see whether a mask reaches there
    masked = augment.mask(feats, torch.tensor(lens), draws)
    kept = masked != 0
    assert torch.equal(masked[kept], feats[kept])
    for row, length in enumerate(lens):
        hidden_bins = ~kept[row].any(0)
        hidden_frames = ~kept[row].any(1)
        if hidden_bins.all():  # then no frame can be told from another
            assert limits.freq_masks * limits.freq_mask_bins >= bins
            continue
        assert torch.equal(~kept[row], hidden_bins[None] | hidden_frames[:, None])  # bands and nothing else
        assert int(hidden_bins.sum()) <= limits.freq_masks * min(limits.freq_mask_bins, bins)
        widest = min(limits.time_mask_frames, int(limits.time_mask_share * length))
        assert int(hidden_frames.sum()) <= limits.time_masks * widest
        assert not hidden_frames[length:].any()


def hidden_by_one_mask(kind: str, width: float, place: float) -> list[int]:
    """What a single mask hides of 10 bins or of 20 frames (then 5 of padding), at most 4 bins or 6 frames wide."""
    augment = feature_augment(
        freq_masks=int(kind == "bins"),
        freq_mask_bins=4,
        time_masks=int(kind == "frames"),
        time_mask_frames=6,
        time_mask_share=1.0,
    )
    masked = augment.mask(torch.ones(1, 25, 10), torch.tensor([20]), torch.tensor([[0.5, width, place]]))
    return (masked[0].sum(0 if kind == "bins" else 1) == 0).nonzero().flatten().tolist()


@pytest.mark.parametrize(("kind", "widest", "size"), [("bins", 4, 10), ("frames", 6, 20)])
def test_every_width_and_place_is_reached(kind: str, widest: int, size: int) -> None:
    assert hidden_by_one_mask(kind, 0.0, 0.5) == []
    for width in range(1, widest + 1):
        drawn = (width + 0.5) / (widest + 1)
        assert hidden_by_one_mask(kind, drawn, 0.0) == list(range(width))
        assert hidden_by_one_mask(kind, drawn, ALMOST_ONE) == list(range(size - width, size))
    assert len(hidden_by_one_mask(kind, ALMOST_ONE, 0.3)) == widest


def test_masks_off_need_no_numbers() -> None:
    augment, feats = feature_augment(), torch.randn(2, 5, 8)
    assert draws_of(augment.config) == 1
    assert torch.equal(augment.mask(feats, torch.tensor([5, 3]), torch.rand(2, 1)), feats)


def test_rows_are_masked_each_by_its_own_numbers() -> None:
    augment = feature_augment(freq_masks=2, time_masks=2)
    feats, lens = torch.ones(4, 100, 80), torch.tensor([100, 60, 100, 9])
    draws = torch.rand(4, draws_of(augment.config), generator=generator())
    together = augment.mask(feats, lens, draws)
    for row in range(4):
        alone = augment.mask(feats[row : row + 1], lens[row : row + 1], draws[row : row + 1])
        assert torch.equal(together[row : row + 1], alone)
    assert len({tuple(row.flatten().tolist()) for row in together}) == 4
