"""Recognition while audio comes in: equal to offline where that can be, and the same however audio is cut."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from alone import recognise
from asr.audio import resample
from asr.config import EncoderConfig
from asr.decode import Word
from asr.encoder import Encoder
from asr.encoder_stream import EncoderStream
from asr.errors import AudioError, ConfigError
from asr.online import OnlineRecognizer, Update, _RunningNormalizer
from asr.pauses import Cutting
from asr.recognizer import Recognizer
from bursts import RATE_HZ, recognizer_of, speech

MEL_BINS, VOCABULARY = 11, 7


def encoder_of(**changes: Any) -> Encoder:
    torch.manual_seed(4)
    settings = EncoderConfig(**{"conv_channels": 3, "layers": 2, "width": 6, "bidirectional": False, **changes})
    encoder = Encoder(settings, MEL_BINS, VOCABULARY).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():  # weights that matter, biases too
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return encoder


def offline(encoder: Encoder, feats: Tensor) -> Tensor:
    with torch.inference_mode():
        return encoder(feats.unsqueeze(0), torch.tensor([len(feats)]))[0][0]


def frames(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, MEL_BINS, generator=torch.Generator().manual_seed(seed))


def streamed(stream: EncoderStream, feats: Tensor, cuts: list[int]) -> Tensor:
    pieces = [stream.accept(piece) for piece in torch.tensor_split(feats, sorted(cuts))]
    return torch.cat([*pieces, stream.finish()])


@settings(max_examples=60)
@given(
    cell=st.sampled_from(["lstm", "gru", "rnn"]),
    subsampling=st.sampled_from([1, 2, 4, 8]),
    layer_norm=st.booleans(),
    projection=st.sampled_from([0, 5]),
    count=st.integers(1, 90),
    cuts=st.lists(st.integers(0, 90), max_size=12),
)
def test_one_direction_is_as_offline_in_any_pieces(
    cell: str, subsampling: int, layer_norm: bool, projection: int, count: int, cuts: list[int]
) -> None:
    encoder = encoder_of(cell=cell, subsampling=subsampling, layer_norm=layer_norm, projection=projection)
    feats = frames(count)
    found = streamed(EncoderStream(encoder), feats, cuts)
    torch.testing.assert_close(found, offline(encoder, feats), rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("subsampling", [1, 2, 4, 8])
def test_one_direction_frame_by_frame(cell: str, subsampling: int) -> None:
    """What came out before more was heard stays, and comes as soon as the convolutions can have heard it."""
    encoder, feats = encoder_of(cell=cell, subsampling=subsampling), frames(60)
    stream = EncoderStream(encoder)
    found = [stream.accept(feats[at : at + 1]) for at in range(len(feats))]
    ahead = {1: 2, 2: 3, 4: 3, 8: 7}[subsampling]
    assert sum(map(len, found)) == (len(feats) - 1 - ahead) // subsampling + 1
    torch.testing.assert_close(torch.cat([*found, stream.finish()]), offline(encoder, feats), rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@settings(max_examples=10)
@given(count=st.integers(1, 90), cuts=st.lists(st.integers(0, 90), max_size=8), chunk=st.integers(1, 9))
def test_both_directions_with_all_ahead_are_as_offline(cell: str, count: int, cuts: list[int], chunk: int) -> None:
    encoder, feats = encoder_of(cell=cell, bidirectional=True), frames(count)
    found = streamed(EncoderStream(encoder, chunk=chunk, look_ahead=90), feats, cuts)
    torch.testing.assert_close(found, offline(encoder, feats), rtol=0, atol=1e-5)


def test_both_directions_hear_the_chunk_and_what_is_ahead_and_no_more() -> None:
    """What is told to a frame by the future ends with the look-ahead behind its chunk; the past is all there."""
    encoder, feats = encoder_of(bidirectional=True, subsampling=1, cell="gru"), frames(60)
    chunk, look_ahead = 10, 5
    before = streamed(EncoderStream(encoder, chunk=chunk, look_ahead=look_ahead), feats, [])
    later = feats.clone()
    later[27:] += 1.0  # the convolutions look two frames ahead, and chunk 1 with its look-ahead ends before frame 25
    after = streamed(EncoderStream(encoder, chunk=chunk, look_ahead=look_ahead), later, [])
    torch.testing.assert_close(before[:20], after[:20], rtol=0, atol=1e-6)
    assert (before[20:25] - after[20:25]).abs().amax() > 1e-3
    earlier = feats.clone()
    earlier[:3] += 1.0
    after = streamed(EncoderStream(encoder, chunk=chunk, look_ahead=look_ahead), earlier, [])
    assert (before[10:] - after[10:]).abs().amax(1)[:5].min() > 0


def test_memory_of_the_encoder_stays() -> None:
    stream = EncoderStream(encoder_of(bidirectional=True), chunk=4, look_ahead=4)
    for seed in range(20):
        stream.accept(frames(50, seed))
        assert len(stream._waiting) < 8


# --- the recogniser ---------------------------------------------------------------------------------------------------


two_layers = partial(recognizer_of, "encoder.layers=2")


def listen(online: OnlineRecognizer, wave: Tensor, samples: int) -> Iterator[Update]:
    for piece in wave.split(samples):
        yield online.accept(piece)
    yield online.finish()


ONE_WAY = "encoder.bidirectional=false"
FIXED_MEAN = "features.normalization=global"  # one that what is heard later does not change


@pytest.mark.parametrize(
    "overrides",
    [
        (ONE_WAY, FIXED_MEAN),
        (ONE_WAY, "features.normalization=none", "augment.freq_masks=0", "augment.time_masks=0"),
        (ONE_WAY, FIXED_MEAN, "decode.decoder=beam"),
    ],
)
def test_one_direction_without_pauses_is_as_offline(overrides: tuple[str, ...]) -> None:
    recognizer, wave = two_layers(*overrides), speech((0.0, 2.9), duration_s=2.9)
    expected = recognise(recognizer, wave)
    updates = list(listen(OnlineRecognizer(recognizer, pauses=None), wave, 777))
    [segment] = updates[-1].segments
    assert 0 < segment.words[-1].end_s <= segment.offset_s + segment.duration_s
    assert segment.text == expected.text
    assert segment.hypotheses[0].token_frames == expected.token_frames
    assert [update.segments for update in updates[:-1]] == [[]] * (len(updates) - 1)
    assert len({update.partial for update in updates}) > 2


@pytest.mark.parametrize(
    "overrides",
    [
        (ONE_WAY,),
        (),
        (FIXED_MEAN,),
        ("features.normalization=utterance",),
        (ONE_WAY, "decode.decoder=beam"),
    ],
)
def test_cuts_change_nothing(overrides: tuple[str, ...]) -> None:
    recognizer = two_layers(*overrides)
    wave = speech((0.5, 1.5), (2.9, 4.0), (6.0, 6.4), duration_s=7.0)
    found = []
    for samples in (333, 16000, 10**6):
        online = OnlineRecognizer(recognizer, chunk_s=0.2, look_ahead_s=0.4)
        found.append([segment for update in listen(online, wave, samples) for segment in update.segments])
    assert len(found[0]) >= 2  # a random model hears no word in some
    for other in found[1:]:
        assert [segment.offset_s for segment in other] == [segment.offset_s for segment in found[0]]
        for segment, wanted in zip(other, found[0], strict=True):
            assert_alike(segment.words, wanted.words)


def test_segments_know_how_loud_they_are() -> None:
    """Their words begin and end by it (`asr.boundaries`)."""
    online = OnlineRecognizer(two_layers())
    updates = listen(online, speech((0.5, 1.5), (2.9, 4.0), duration_s=6.0), 3000)
    found = [segment for update in updates for segment in update.segments]
    assert len(found) == 2
    for segment, (first_s, end_s) in zip(found, [(0.5, 1.5), (2.9, 4.0)], strict=True):
        values, frame_s = segment.levels.values, segment.levels.frame_s
        assert len(values) * frame_s == pytest.approx(segment.duration_s, abs=0.04)
        loud = segment.offset_s + frame_s * np.flatnonzero(values > values.mean())
        assert (loud[0], loud[-1]) == pytest.approx((first_s, end_s), abs=0.04)


def assert_alike(found: Sequence[Word], wanted: Sequence[Word]) -> None:
    """On some CPUs the last bits of features depend on how many frames are computed at once; the weights are large."""
    assert [replace(word, confidence=0) for word in found] == [replace(word, confidence=0) for word in wanted]
    assert [word.confidence for word in found] == pytest.approx([word.confidence for word in wanted], abs=1e-4)


def normalized(recognizer: Recognizer, feats: Tensor) -> Tensor:
    whole: Tensor = recognizer.normalizer(feats.unsqueeze(0), torch.tensor([len(feats)]))[0]
    return whole


@pytest.mark.parametrize("normalization", ["map", "utterance"])
def test_frames_are_normalised_by_all_that_was_heard_when_they_are_given(normalization: str) -> None:
    recognizer = two_layers(f"features.normalization={normalization}", f"features.mel_bins={MEL_BINS}")
    heard = frames(250, 6) + 3
    running = _RunningNormalizer(recognizer, primed=100, remembered=1000)
    first = running.accept(heard[:60])
    if normalization == "map":  # has the training set's mean to begin with
        torch.testing.assert_close(first, normalized(recognizer, heard[:60]), atol=1e-4, rtol=0)
    assert len(first) == (60 if normalization == "map" else 0)
    for begin, end in ((len(first), 150), (150, 250)):
        found = running.accept(heard[max(begin, 60) : end])
        torch.testing.assert_close(found, normalized(recognizer, heard[:end])[begin:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("normalization", ["map", "utterance"])
def test_a_stream_follows_another_level(normalization: str) -> None:
    """After a long time at one level, as if the stream had begun a little before the other one."""
    recognizer = two_layers(f"features.normalization={normalization}", f"features.mel_bins={MEL_BINS}")
    running = _RunningNormalizer(recognizer, primed=10, remembered=200)
    for seed in range(20):
        running.accept(frames(100, seed) + 5)
    for seed in range(20, 30):
        last = running.accept(frames(100, seed))
    assert abs(float(last.mean())) < 0.2


def test_pauses_make_results_final_at_their_time() -> None:
    recognizer = two_layers(ONE_WAY)
    wave = speech((0.5, 1.5), (3.5, 4.5), duration_s=6.5)
    pauses = Cutting(pause_s=0.8, margin_s=0.3)
    online = OnlineRecognizer(recognizer, chunk_s=0.1, pauses=pauses)
    times = []
    for update in listen(online, wave, RATE_HZ // 100):
        times += [(segment.offset_s, online.audio_s, segment.words[-1].end_s) for segment in update.segments]
    (first_s, heard_s, _), (second_s, heard_again_s, last_s) = times
    assert first_s == 0.0  # what is quiet is known when something louder has been heard
    assert 3.1 <= second_s <= 3.5
    assert online.final_latency_s == pytest.approx(0.8 + 0.032 + 0.05 + 0.08)
    assert 1.5 + pauses.pause_s <= heard_s <= 1.5 + online.final_latency_s
    assert 4.5 + pauses.pause_s <= heard_again_s <= 4.5 + online.final_latency_s
    assert 3.5 < last_s < 5.0


@pytest.mark.parametrize("silent_s", [1, 5, 40])
def test_digital_silence_at_the_beginning_hides_no_pause(silent_s: int) -> None:
    wave = speech((0.5, 1.5), (3.5, 4.5), duration_s=6.5)
    wave += 0.02 * wave.abs().max() * torch.randn(len(wave), generator=torch.Generator().manual_seed(3))  # a room
    found = []
    for lead in (torch.zeros(0), torch.zeros(silent_s * RATE_HZ)):
        online = OnlineRecognizer(two_layers(ONE_WAY), chunk_s=0.1)
        heard = []
        for update in listen(online, torch.cat([lead, wave]), RATE_HZ // 20):
            heard += [online.audio_s - len(lead) / RATE_HZ for _ in update.segments]
        found.append(heard)
    assert len(found[0]) == 2
    assert found[1] == pytest.approx(found[0], abs=0.25)


def test_another_sample_rate() -> None:
    recognizer = two_layers(ONE_WAY, FIXED_MEAN)
    wave = speech((0.0, 2.0), duration_s=2.0)[::2].contiguous()
    found = []
    for samples in (99, 10**6):
        online = OnlineRecognizer(recognizer, sample_rate_hz=8000, pauses=None)
        found.append(list(listen(online, wave, samples))[-1].segments[0].words)
        assert online.audio_s == 2.0
    assert_alike(found[0], found[1])
    expected = recognise(recognizer, resample(wave, 8000, RATE_HZ))
    assert " ".join(word.text for word in found[0]) == expected.text


def test_latency_is_stated() -> None:
    recognizer = two_layers()
    online = OnlineRecognizer(recognizer, chunk_s=0.2, look_ahead_s=0.4)
    assert online.latency_s == pytest.approx(0.032 + 0.03 + 2 * 0.2 + 0.4)
    online = OnlineRecognizer(two_layers(ONE_WAY), chunk_s=0.2, look_ahead_s=0.4)
    assert online.latency_s == pytest.approx(0.032 + 0.03 + 0.2)
    assert OnlineRecognizer(recognizer, pauses=None).final_latency_s == math.inf


@pytest.mark.parametrize("normalization", ["global", "map", "utterance"])
def test_the_first_partial_result_comes_within_the_latency(normalization: str) -> None:
    recognizer = two_layers(ONE_WAY, f"features.normalization={normalization}")
    online = OnlineRecognizer(recognizer, chunk_s=0.2, pauses=None)
    first = next(update for update in listen(online, speech((0, 3), duration_s=3), RATE_HZ // 100) if update.partial)
    assert first.partial
    assert online.audio_s <= online.latency_s + 0.01 + (1 if normalization == "utterance" else 0)
    assert (online.audio_s > 1) == (normalization == "utterance")


def test_silence_has_no_result() -> None:
    for wave in (torch.zeros(3 * RATE_HZ), torch.zeros(0), torch.zeros(100)):
        updates = listen(OnlineRecognizer(two_layers()), wave, 4000)
        assert all(not update.segments and not update.partial for update in updates)


def test_what_is_refused() -> None:
    recognizer = two_layers(ONE_WAY)
    online = OnlineRecognizer(recognizer)
    online.accept(torch.zeros(100))
    bad = torch.zeros(50)
    bad[7] = torch.nan
    with pytest.raises(AudioError, match=r"stream: sample 107 is not finite \(nan\)"):
        online.accept(bad)
    online.finish()
    with pytest.raises(AudioError, match="stream: was finished"):
        online.accept(torch.zeros(100))
    with pytest.raises(ConfigError, match="chunks of 0 s with a look-ahead of 1 s"):
        OnlineRecognizer(recognizer, chunk_s=0)
    with pytest.raises(ConfigError, match="look-ahead of 31 s"):
        OnlineRecognizer(recognizer, look_ahead_s=31)
    with pytest.raises(ConfigError, match="margins"):
        replace(Cutting(), margin_s=0.5)
