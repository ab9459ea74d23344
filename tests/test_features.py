"""Log-mel against librosa, frame counts, streaming, and padding that is never read; normalisation against numpy."""

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from asr.config import FeatureConfig
from asr.errors import AudioError
from asr.features import LogMel, Normalizer
from ragged import DEVICES, RUBBISH, exact_matrix_products, rubbish_batch

LOG_TOLERANCE = 3e-4  # in natural-log units: 0.0013 dB
SAMPLES = [16000, 512, 671, 672, 9000, 12345]  # one of a single frame, one that is one sample short of two


def noise_of(samples: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def tone_of(samples: int, rate_hz: int, frequency_hz: float) -> Tensor:
    return 0.5 * torch.sin(2 * torch.pi * frequency_hz * torch.arange(samples) / rate_hz)


def alone(log_mel: LogMel, wave: Tensor) -> Tensor:
    feats: Tensor = log_mel(wave.unsqueeze(0), torch.tensor([len(wave)]))[0]
    return feats[0]


def feature_rows(lens: tuple[int, ...], bins: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, bins, generator=generator) * 3 - 8 for length in lens]


# --- log-mel ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mel_bins", [40, 80])
@pytest.mark.parametrize("rate_hz", [8000, 16000])
@pytest.mark.parametrize("sound", ["noise", "tone"])
def test_log_mel_is_librosas(rate_hz: int, mel_bins: int, sound: str) -> None:
    wave = noise_of(rate_hz) if sound == "noise" else tone_of(rate_hz, rate_hz, 440.0)
    log_mel = LogMel(FeatureConfig(mel_bins=mel_bins), rate_hz)
    feats = alone(log_mel, wave)
    power = librosa.feature.melspectrogram(
        y=wave.double().numpy(),
        sr=rate_hz,
        n_fft=rate_hz * 32 // 1000,
        win_length=rate_hz * 25 // 1000,
        hop_length=rate_hz * 10 // 1000,
        center=False,
        n_mels=mel_bins,
        fmin=20.0,
    ).T
    assert feats.shape == power.shape
    # The tone leaves bins 150 dB below its own, where float32 rounding noise takes over: compare the upper 70 dB.
    heard = power > 1e-7 * power.max()
    assert heard.mean() > (0.999 if sound == "noise" else 0.2)
    np.testing.assert_allclose(feats.numpy()[heard], np.log(np.maximum(power, 1e-10))[heard], atol=LOG_TOLERANCE)


def test_silence_is_the_floor_and_not_minus_infinity() -> None:
    feats = alone(LogMel(FeatureConfig(), 16000), torch.zeros(1600))
    np.testing.assert_allclose(feats.numpy(), np.log(1e-10), rtol=1e-6)


def test_high_hz_ends_the_filters() -> None:
    log_mel = LogMel(FeatureConfig(mel_bins=40, low_hz=300, high_hz=3400), 16000)
    outside = [tone_of(16000, 16000, frequency) for frequency in (100.0, 5000.0)]
    inside = tone_of(16000, 16000, 1000.0)
    assert alone(log_mel, inside).max() > max(float(alone(log_mel, wave).max()) for wave in outside) + 10


@pytest.mark.parametrize("samples", SAMPLES)
def test_lengths_are_the_frames_computed(samples: int) -> None:
    log_mel = LogMel(FeatureConfig(), 16000)
    feats, lens = log_mel(torch.zeros(1, samples), torch.tensor([samples]))
    assert feats.shape == (1, 1 + (samples - 512) // 160, 80)
    assert lens.tolist() == log_mel.lengths(torch.tensor([samples])).tolist() == [feats.shape[1]]
    assert lens.dtype == torch.int64


@pytest.mark.parametrize("samples", [512, 3000, 15999])
def test_features_of_the_beginning_are_the_beginning_of_the_features(samples: int) -> None:
    log_mel, wave = LogMel(FeatureConfig(), 16000), noise_of(16000)
    beginning = alone(log_mel, wave[:samples])
    torch.testing.assert_close(beginning, alone(log_mel, wave)[: len(beginning)], atol=1e-5, rtol=0)


def test_waveform_shorter_than_a_frame_is_refused() -> None:
    with pytest.raises(AudioError, match=r"^row 1: 511 samples of audio are shorter than one frame of 512$"):
        LogMel(FeatureConfig(), 16000)(torch.zeros(3, 600), torch.tensor([600, 511, 512]))
    with pytest.raises(AudioError, match="row 0: 3 samples"):
        LogMel(FeatureConfig(), 16000)(torch.zeros(1, 3), torch.tensor([3]))


def test_autocast_leaves_the_features_alone() -> None:
    log_mel, wave = LogMel(FeatureConfig(), 16000), noise_of(4000)
    plain = alone(log_mel, wave)
    with torch.autocast("cpu", torch.bfloat16):
        inside = alone(log_mel, wave)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, plain)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", RUBBISH)
def test_features_do_not_depend_on_the_batch(kind: str, device: str) -> None:
    log_mel = LogMel(FeatureConfig(), 16000).to(device)
    waves = [noise_of(samples, seed).to(device) for seed, samples in enumerate(SAMPLES)]
    batch, wave_lens = rubbish_batch([wave.cpu() for wave in waves], kind, extra=1000)
    feats, feat_lens = log_mel(batch.to(device), wave_lens)
    for row, wave in enumerate(waves):
        length = int(feat_lens[row])
        torch.testing.assert_close(feats[row, :length], alone(log_mel, wave), atol=1e-5, rtol=0)
        assert not feats[row, length:].any()


@pytest.mark.parametrize("kind", RUBBISH)
@pytest.mark.parametrize("mel_bins", [40, 80])
def test_cuda_path_and_cpu_path_are_equal(mel_bins: int, kind: str) -> None:
    """Both on the CPU, so that a computer without CUDA tests them; blocks of frames must meet without a seam."""
    log_mel = LogMel(FeatureConfig(mel_bins=mel_bins), 16000)
    waves, wave_lens = rubbish_batch([noise_of(100_000), noise_of(512, 1), noise_of(40_000, 2)], kind, extra=999)
    in_blocks, feat_lens = log_mel(waves, wave_lens)
    whole = log_mel._whole(waves.unfold(1, 512, 160), feat_lens)
    torch.testing.assert_close(whole, in_blocks, atol=1e-4, rtol=0)


# --- normalisation ----------------------------------------------------------------------------------------------------


def test_an_utterance_is_normalised_by_its_own_valid_frames() -> None:
    rows = feature_rows((30, 50, 7))
    batch, lens = rubbish_batch(rows, "noise")
    normalized = Normalizer(FeatureConfig(mel_bins=8, normalization="utterance"))(batch, lens)
    for row, feats in enumerate(rows):
        values = feats.double().numpy()
        expected = (values - values.mean(0)) / np.sqrt(values.var(0) + 1e-4)
        np.testing.assert_allclose(normalized[row, : len(feats)].numpy(), expected, atol=1e-5)
        assert not normalized[row, len(feats) :].any()


def test_constant_bins_become_zero() -> None:
    feats = feature_rows((777,))[0]
    feats[:, 2] = np.log(1e-10)  # what band-limited audio leaves in its upper bins
    normalized = Normalizer(FeatureConfig(mel_bins=8, normalization="utterance"))(
        feats.unsqueeze(0), torch.tensor([777])
    )[0]
    assert normalized[:, 2].abs().max() < 1e-6
    assert normalized[:, 3].abs().max() > 1


def test_a_single_frame_becomes_zero() -> None:
    feats = feature_rows((1,))[0]
    normalized = Normalizer(FeatureConfig(mel_bins=8, normalization="utterance"))(feats.unsqueeze(0), torch.tensor([1]))
    assert normalized.abs().max() < 1e-6


def test_global_moments_are_numpys_over_all_valid_frames() -> None:
    rows = feature_rows((30, 50, 7, 1))
    for row in rows:
        row[:, 5] = 3.0
    normalizer = Normalizer(FeatureConfig(mel_bins=8, normalization="global"))
    normalizer.fit([rubbish_batch(rows[:2], "large"), rubbish_batch(rows[2:], "nan")])
    frames = torch.cat(rows).double().numpy()
    expected_std = np.sqrt(np.maximum(frames.var(0), 1e-4))
    np.testing.assert_allclose(normalizer.mean.numpy(), frames.mean(0), rtol=1e-6)
    np.testing.assert_allclose(normalizer.std.numpy(), expected_std, rtol=1e-6)
    batch, lens = rubbish_batch(rows, "noise")
    normalized = normalizer(batch, lens)
    np.testing.assert_allclose(normalized[0, :30].numpy(), (rows[0].numpy() - frames.mean(0)) / expected_std, atol=1e-5)
    assert normalized[:, :, 5].abs().max() < 1e-6
    assert set(normalizer.state_dict()) == {"mean", "std"}


@pytest.mark.parametrize("hop_ms", [10.0, 20.0])
def test_map_is_the_training_sets_mean_counted_with_the_utterances_frames(hop_ms: float) -> None:
    rows = feature_rows((30, 50, 7, 1))
    normalizer = Normalizer(FeatureConfig(mel_bins=8, hop_ms=hop_ms, normalization="map", prior_s=0.4))
    prior = 400 / hop_ms  # frames
    normalizer.fit([rubbish_batch(rows, "large")])
    frames = torch.cat(rows).double().numpy()
    mean, std = frames.mean(0), np.sqrt(np.maximum(frames.var(0), 1e-4))
    batch, lens = rubbish_batch(rows, "nan")
    normalized = normalizer(batch, lens)
    for row, feats in enumerate(rows):
        values = feats.double().numpy()
        own = (prior * mean + values.sum(0)) / (prior + len(values))
        np.testing.assert_allclose(normalized[row, : len(values)].numpy(), (values - own) / std, atol=1e-5)
    assert set(normalizer.state_dict()) == {"mean", "std"}


def test_map_follows_a_level_the_further_the_longer_it_is_heard() -> None:
    """A recording 20 dB louder is, once normalised, louder by the prior's share of its frames."""
    normalizer = Normalizer(FeatureConfig(mel_bins=8, normalization="map", prior_s=1.0))
    for frames, share in ((25, 0.8), (100, 0.5), (900, 0.1)):
        feats, lens = feature_rows((frames,))[0].unsqueeze(0), torch.tensor([frames])
        louder = normalizer(feats + 4.6, lens) - normalizer(feats, lens)
        torch.testing.assert_close(louder, torch.full_like(louder, 4.6 * share), atol=1e-4, rtol=0)


def test_no_normalisation_changes_nothing() -> None:
    batch, lens = rubbish_batch(feature_rows((3, 5)), "noise")
    normalizer = Normalizer(FeatureConfig(mel_bins=8, normalization="none"))
    assert torch.equal(normalizer(batch, lens), batch)
    assert not normalizer.state_dict()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", RUBBISH)
@pytest.mark.parametrize("normalization", ["utterance", "map", "global"])
def test_normalisation_does_not_depend_on_the_batch(
    normalization: str, kind: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact_matrix_products(monkeypatch)
    rows = feature_rows((333, 1, 50, 600))
    for feats in rows:
        feats[:, 2] = np.log(1e-10)
    normalizer = Normalizer(FeatureConfig(mel_bins=8, normalization=normalization))  # type: ignore[arg-type]
    if normalization != "utterance":
        normalizer.fit([rubbish_batch(rows, kind)])
    normalizer.to(device)
    batch, lens = rubbish_batch(rows, kind, extra=500)
    normalized = normalizer(batch.to(device), lens)
    for row, feats in enumerate(rows):
        expected = normalizer(feats.unsqueeze(0).to(device), torch.tensor([len(feats)]))[0]
        torch.testing.assert_close(normalized[row, : len(feats)], expected, atol=1e-5, rtol=0)
        assert not normalized[row, len(feats) :].any()


@given(lens=st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_normalised_frames_have_mean_zero(lens: list[int]) -> None:
    rows = feature_rows(tuple(lens))
    batch, counts = rubbish_batch(rows, "large")
    normalized = Normalizer(FeatureConfig(mel_bins=8, normalization="utterance"))(batch, counts)
    assert normalized.sum(1).abs().max() < 1e-3
