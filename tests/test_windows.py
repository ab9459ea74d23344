"""Recordings of any length: every frame once and in its place, cut in pauses, in memory that does not grow."""

import threading
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asr.config import FeatureConfig
from asr.errors import AudioError, ConfigError
from asr.features import FrameStream, LogMel
from asr.pauses import Cutter, Cutting, Stretch
from asr.windows import Chunk, encode, encode_all, segments
from bursts import RATE_HZ, recognizer_of, speech

HOP_S = 0.01


def levels(*bursts: tuple[int, int], frames: int) -> Tensor:
    """(frames, 2) features, loud in these spans."""
    feats = torch.full((frames, 2), -15.0)
    for first, behind in bursts:
        feats[first:behind] = -4.0
    return feats


def cut(cutter: Cutter, pieces: Iterable[Tensor]) -> list[Stretch]:
    found = [stretch for piece in pieces for stretch in cutter.accept(piece)]
    return [*found, *cutter.finish()]


def in_order(chunks: list[Chunk], frames: int) -> None:
    """Every frame once."""
    assert chunks[0].first_frame == 0
    for before, after in pairwise(chunks):
        assert before.first_frame + len(before.log_probs) == after.first_frame
    assert chunks[-1].first_frame + len(chunks[-1].log_probs) == frames


# --- frames -----------------------------------------------------------------------------------------------------------


LOG_MEL = LogMel(FeatureConfig(mel_bins=16), RATE_HZ)


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 9000), max_size=10), samples=st.integers(0, 9000))
def test_frames_are_those_of_the_whole(cuts: list[int], samples: int) -> None:
    log_mel = LOG_MEL
    wave = torch.randn(samples, generator=torch.Generator().manual_seed(0))
    stream = FrameStream(log_mel)
    found = torch.cat([stream.accept(piece) for piece in torch.tensor_split(wave, sorted(cuts))])
    assert stream.samples == samples
    assert stream.frames == len(found) == int(log_mel.lengths(torch.tensor(samples)))
    if len(found):
        torch.testing.assert_close(found, log_mel(wave[None], torch.tensor([samples]))[0][0], rtol=0, atol=1e-5)


# --- where it is cut --------------------------------------------------------------------------------------------------


def test_speech_keeps_its_margin_and_pauses_go() -> None:
    feats = levels((100, 300), (500, 560), (590, 700), frames=1000)  # the second pause is short
    found = cut(Cutter(Cutting(pause_s=0.8, margin_s=0.3), HOP_S, 4), [feats])
    assert [stretch.keep for stretch in found] == [(64, 332), (464, 732)]  # 32 frames, and one of smoothing
    assert all(stretch.first == stretch.keep[0] for stretch in found)


@settings(max_examples=25)
@given(
    bursts=st.lists(st.integers(1, 700), min_size=2, max_size=12),
    cuts=st.lists(st.integers(0, 4000), max_size=10),
    subsampling=st.sampled_from([1, 2, 4, 8]),
)
def test_any_pieces_are_cut_alike(bursts: list[int], cuts: list[int], subsampling: int) -> None:
    edges = np.cumsum(bursts).tolist()
    spans = list(zip(edges[::2], edges[1::2], strict=False))
    feats = levels(*spans, frames=edges[-1] + 50)
    wanted = Cutting(window_s=6.0, overlap_s=1.0)
    found = cut(Cutter(wanted, HOP_S, subsampling), [feats])
    again = cut(Cutter(wanted, HOP_S, subsampling), torch.tensor_split(feats, sorted(cuts)))
    facts = [(stretch.first, stretch.keep) for stretch in found]
    assert facts == [(stretch.first, stretch.keep) for stretch in again]
    for stretch, (first, (begin, behind)) in zip(found, facts, strict=True):
        assert first % subsampling == begin % subsampling == 0
        assert first <= begin < behind <= first + len(stretch.feats) <= len(feats)
        assert len(stretch.feats) <= 600
        torch.testing.assert_close(stretch.feats, feats[first : first + len(stretch.feats)])
    for before, after in pairwise(found):
        assert after.keep[0] >= before.keep[1]
    covered = np.zeros(len(feats), bool)
    for stretch in found:
        covered[slice(*stretch.keep)] = True
    for first, behind in spans:  # what is loud for a third of a second is always given
        if behind - first > 35:
            assert covered[first:behind].all()


def test_without_a_pause_windows_overlap() -> None:
    feats = levels((0, 5000), frames=5000)
    found = cut(Cutter(Cutting(window_s=20.0, overlap_s=4.0), HOP_S, 4), [feats])
    assert [(stretch.first, len(stretch.feats)) for stretch in found] == [(0, 2000), (1600, 2000), (3200, 1800)]
    assert [stretch.keep for stretch in found] == [(0, 1800), (1800, 3400), (3400, 5000)]


def test_digital_silence_is_no_speech_and_steady_noise_may_be() -> None:
    assert cut(Cutter(Cutting(), HOP_S, 4), [torch.full((9000, 2), float(np.log(1e-10)))]) == []
    noise = torch.full((9000, 2), -6.0)
    assert sum(stretch.keep[1] - stretch.keep[0] for stretch in cut(Cutter(Cutting(), HOP_S, 4), [noise])) == 9000


@pytest.mark.parametrize("frames", [60, 6000])
@pytest.mark.parametrize("spoken", [3, 12, 40])
def test_one_word_in_digital_silence_is_found(frames: int, spoken: int) -> None:
    feats = torch.full((frames, 2), float(np.log(1e-10)))
    first, behind = frames // 3, frames // 3 + spoken
    feats[first:behind] = -4.0
    [found] = cut(Cutter(Cutting(), HOP_S, 4), [feats])
    assert found.keep[0] < first
    assert found.keep[1] >= min(frames, behind + 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_s": 5.0, "overlap_s": 3.0}, "windows of 5 s that overlap by 3 s"),
        ({"window_s": 700.0}, "windows of 700 s"),
        ({"pause_s": 0.5, "margin_s": 0.3}, "pauses of 0.5 s with margins of 0.3 s"),
        ({"pause_s": 31.0}, "pauses of 31 s"),
    ],
)
def test_cutting_that_cannot_be(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Cutting(**changes)


# --- log-probabilities ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subsampling", [1, 4, 8])
@pytest.mark.parametrize("normalization", ["global", "map", "utterance"])
def test_a_stretch_is_encoded_as_an_utterance(subsampling: int, normalization: str) -> None:
    recognizer = recognizer_of(f"encoder.subsampling={subsampling}", f"features.normalization={normalization}")
    wave = speech((0.5, 2.0), (4.0, 5.5), (8.0, 8.6), duration_s=10.0)
    chunks = list(encode(recognizer, wave.split(7000)))
    in_order(chunks, int(recognizer.output_lengths(torch.tensor(len(wave)))))
    assert [chunk.speech for chunk in chunks] == [False, True] * 3 + [False]
    for chunk in chunks[1::2]:
        hop, fft = recognizer.log_mel.hop_samples, recognizer.log_mel.fft_samples
        first, frames = chunk.first_frame * subsampling, len(chunk.log_probs) * subsampling
        utterance = wave[first * hop : (first + frames - 1) * hop + fft]
        with torch.inference_mode():
            expected = recognizer(utterance[None], torch.tensor([len(utterance)]))[0][0]
        np.testing.assert_allclose(chunk.log_probs, expected.numpy(), rtol=0, atol=1e-3)  # weights times 100


def test_a_window_without_pauses_is_the_whole_inside() -> None:
    """A recurrent layer that forgets: far from the ends of its window a frame is that of the recording as a whole."""
    recognizer = recognizer_of("encoder.cell=rnn", "features.normalization=global")
    with torch.no_grad():
        for name, parameter in recognizer.encoder.layers.named_parameters():
            if "weight_hh" in name:
                parameter.mul_(0.3)
    wave = speech((0.0, 20.0), duration_s=20.0)
    chunks = list(encode(recognizer, wave.split(50000), Cutting(window_s=6.0, overlap_s=2.0)))
    with torch.inference_mode():
        expected = recognizer(wave[None], torch.tensor([len(wave)]))[0][0]
    in_order(chunks, len(expected))
    assert len(chunks) > 4
    found = np.concatenate([chunk.log_probs for chunk in chunks])
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_one_stream_and_segments_hear_the_same_words(decoder: str) -> None:
    recognizer = recognizer_of(f"decode.decoder={decoder}")
    wave = speech((0.5, 2.0), (4.0, 5.5), (8.0, 8.6), duration_s=10.0)
    chunks = list(encode(recognizer, [wave]))
    found = list(segments(recognizer, chunks))
    stream = recognizer.decoder.stream()
    for chunk in chunks:
        stream.take(chunk.log_probs)
    [together] = stream.finish()
    labelled = [
        (word.text, segment.offset_s + word.start_s) for segment in found for word in segment.hypotheses[0].words
    ]
    assert len(found) > 1  # random weights may hear nothing in one
    assert [word.text for word in together.words] == [text for text, _ in labelled]
    assert [word.start_s for word in together.words] == pytest.approx([start_s for _, start_s in labelled])
    for segment in found:
        spans = [(0.5, 2.0), (4.0, 5.5), (8.0, 8.6)]
        heard_s = segment.words[0].start_s, segment.words[-1].end_s
        assert any(first_s - 0.5 < heard_s[0] < heard_s[1] < end_s + 0.5 for first_s, end_s in spans)


def test_batches_change_nothing() -> None:
    recognizer = recognizer_of()
    spans = [(second, second + 0.3 + second % 3 / 2) for second in range(0, 60, 4)]
    wave = speech(*spans, duration_s=62.0)
    one, many = (list(encode(recognizer, wave.split(160000), batch_s=batch_s)) for batch_s in (0.1, 600.0))
    assert [chunk.first_frame for chunk in one] == [chunk.first_frame for chunk in many]
    for before, after in zip(one, many, strict=True):
        np.testing.assert_allclose(before.log_probs, after.log_probs, rtol=0, atol=1e-3)


def test_recordings_encoded_together_are_as_alone() -> None:
    recognizer = recognizer_of()
    waves = [
        speech((0.5, 1.5), (4.0, 4.6), duration_s=6.0),
        speech((0.0, 2.0), duration_s=2.0),
        torch.zeros(RATE_HZ),
        speech((3.0, 3.3), (6.0, 6.2), (9.0, 11.0), duration_s=12.0),
    ]
    for batch_s in (0.1, 600.0):
        found = {
            place: each
            for batch, encoded in encode_all(recognizer, waves, batch_s=batch_s)
            for place, each in zip(batch, encoded, strict=True)
        }
        assert sorted(found) == list(range(len(waves)))
        for place, wave in enumerate(waves):
            encoded = found[place]
            chunks = list(encode(recognizer, [wave]))
            expected = np.concatenate([chunk.log_probs for chunk in chunks])
            np.testing.assert_allclose(encoded.log_probs, expected, rtol=0, atol=1e-3)
            levels = np.concatenate([chunk.levels for chunk in chunks])
            np.testing.assert_allclose(encoded.levels.values, levels, rtol=0, atol=1e-5)
    assert list(encode_all(recognizer, [])) == []


def test_batches_of_batches_leave_the_number_of_threads() -> None:
    """Recordings of one batch may be cut into stretches of several, encoded in a thread that has its own number."""
    recognizer, before, found = recognizer_of(), torch.get_num_threads(), []
    waves = [speech((0.5, 8.0), (9.5, 9.8), (11.5, 11.8), (13.5, 13.8), duration_s=15.0)] * 4
    torch.set_num_threads(4)
    try:
        assert [len(batch) for batch, _ in encode_all(recognizer, waves, batch_s=31.0)] == [2, 2]
        later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        later.start()
        later.join()
    finally:
        torch.set_num_threads(before)
    assert found == [4]


def test_too_short() -> None:
    with pytest.raises(AudioError, match="100 samples of audio are shorter than one frame of 512"):
        list(encode(recognizer_of(), [torch.zeros(60), torch.zeros(40)]))


@pytest.mark.slow
def test_times_do_not_drift_in_three_hours() -> None:
    """A burst each minute is where it is, to the frame, and only a window is in memory."""
    recognizer = recognizer_of()
    minute = speech((10.0, 10.5), (40.0, 41.0), duration_s=60.0)
    cutter = Cutter(Cutting(), HOP_S, 4)
    stream = FrameStream(recognizer.log_mel)
    found: list[tuple[int, int]] = []
    for _ in range(180):
        for stretch in cutter.accept(stream.accept(minute)):
            found.append(stretch.keep)
        assert len(cutter._waiting) < 3000
    found += [stretch.keep for stretch in cutter.finish()]
    assert stream.frames == int(recognizer.log_mel.lengths(torch.tensor(180 * len(minute))))
    assert len(found) == 360
    for place, (first, behind) in enumerate(found):
        # A minute is 6,000 frames; the first half of each pair begins 10 s into it.
        expected = 6000 * (place // 2) + (1000 if place % 2 == 0 else 4000)
        assert 0 <= expected - first <= 40
        assert 0 <= behind - expected - (50 if place % 2 == 0 else 100) <= 40
