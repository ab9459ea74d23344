"""Augmentation of features measured from outside: what a warp moves, a microphone changes and a mask hides."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from asr.augment import (
    FeatureAugment,
    draws_of,
    utterance_generator,
)
from asr.config import AugmentConfig

ALMOST_ONE = 1 - 2**-24  # the largest float32 that torch.rand gives
OFF: dict[str, Any] = {
    "warp": 0.0,
    "freq_masks": 0,
    "time_masks": 0,
}


def feature_augment(bins: int = 80, **changes: Any) -> FeatureAugment:
    return FeatureAugment(AugmentConfig(**{**OFF, **changes}), torch.arange(float(bins)))


def generator(name: str = "u1") -> torch.Generator:
    return utterance_generator(0, 0, name)


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
