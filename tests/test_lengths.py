"""Length arithmetic against counting one by one; an int and a tensor give the same numbers and their own kind."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from asr.lengths import ctc_frames_needed, frames_in, ms_to_samples, s_to_samples, strided


@given(samples=st.integers(0, 400), fft=st.integers(1, 64), hop=st.integers(1, 40))
def test_frames_are_the_windows_that_fit(samples: int, fft: int, hop: int) -> None:
    assert frames_in(samples, fft, hop) == sum(start + fft <= samples for start in range(0, samples + 1, hop))


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (511, 0), (512, 1), (671, 1), (672, 2), (16000, 97)])
def test_frames_of_16_khz_audio(samples: int, frames: int) -> None:
    found = frames_in(samples, 512, 160)
    assert found == frames
    assert type(found) is int


def test_frames_keep_their_kind() -> None:
    frames = frames_in(torch.tensor([0, 511, 512, 16000]), 512, 160)
    assert frames.tolist() == [0, 0, 1, 97]
    assert frames.dtype == torch.int64


def test_frames_are_exact_where_a_float_share_is_not() -> None:
    # A length stored as a share of the longest, as other toolkits do, comes back one too small for some of these.
    lens = torch.arange(1, 5000)
    assert torch.equal(frames_in(lens * 160 + 352, 512, 160), lens)


@given(frames=st.integers(1, 60), stride=st.sampled_from([1, 2]))
def test_strided_is_the_length_of_a_convolution(frames: int, stride: int) -> None:
    output = functional.conv1d(torch.zeros(1, 1, frames), torch.zeros(1, 1, 3), stride=stride, padding=1)
    assert strided(frames, stride) == output.shape[2]
    assert strided(torch.tensor([frames]), stride).tolist() == [output.shape[2]]


def test_time_to_samples() -> None:
    assert ms_to_samples(25, 16000) == 400
    assert ms_to_samples(12.5, 22000) == 275
    assert s_to_samples(1.00003, 16000) == 16000
    assert s_to_samples(1.00004, 16000) == 16001
    with pytest.raises(ValueError, match=r"12\.5 ms at 22050 Hz is 275\.625 samples"):
        ms_to_samples(12.5, 22050)


@pytest.mark.parametrize(
    ("labels", "frames"),
    [([], 0), ([5], 1), ([5, 6], 2), ([5, 5], 3), ([5, 5, 5], 5), ([5, 6, 5], 3), ([1, 1, 2, 2], 6)],
)
def test_frames_that_labels_need(labels: list[int], frames: int) -> None:
    assert ctc_frames_needed(labels) == frames
    assert ctc_frames_needed(tuple(labels)) == frames
