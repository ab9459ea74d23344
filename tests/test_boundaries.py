"""Words from the frames of their labels to where their sounds begin and end."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asr.boundaries import Levels, bounded
from asr.decode import Word
from asr.features import POWER_FLOOR
from asr.pauses import levels_of, runs_of
from asr.transcribe import Transcriber
from asr.transcript import Transcript
from asr.windows import Segment
from asr.writers import render
from bursts import RATE_HZ, recognizer_of, speech
from recognised import recognised

FRAME_S = 0.01
WITHIN_S = 0.035  # a frame's window is 32 ms long, and levels are averaged over five frames
SILENT = math.log(POWER_FLOOR)


def heard(*bursts_s: tuple[float, float], duration_s: float, quiet: float = 1e-3) -> Levels:
    """The levels of noise that is loud in these spans."""
    recognizer, wave = recognizer_of(), speech(*bursts_s, duration_s=duration_s, quiet=quiet)
    feats, _ = recognizer.log_mel(wave[None], torch.tensor([len(wave)]))
    return recognizer.levels(levels_of(feats[0]))


def at(*starts_s: float, lasting_s: float = 0.04) -> list[Word]:
    """Words whose labels are emitted there."""
    return [Word(f"w{place}", start_s, start_s + lasting_s, 0.9) for place, start_s in enumerate(starts_s)]


def times(words: tuple[Word, ...]) -> list[float]:
    return [time_s for word in words for time_s in (word.start_s, word.end_s)]


@pytest.mark.parametrize("quiet", [0.0, 1e-4, 1e-2])
@pytest.mark.parametrize("labels_s", [(0.6, 1.6, 2.4), (0.8, 1.72, 2.72)])
def test_words_between_pauses_last_as_long_as_their_sounds(quiet: float, labels_s: tuple[float, ...]) -> None:
    levels = heard((0.5, 0.9), (1.4, 1.8), (2.3, 2.8), duration_s=3.2, quiet=quiet)
    found = bounded(at(*labels_s), levels)
    assert times(found) == pytest.approx([0.5, 0.9, 1.4, 1.8, 2.3, 2.8], abs=WITHIN_S)
    assert [(word.text, word.confidence) for word in found] == [("w0", 0.9), ("w1", 0.9), ("w2", 0.9)]


SOUNDS_S = ((0.6, 1.0), (1.4, 1.8), (2.3, 2.8))


@pytest.mark.parametrize("quiet", [0.0, 1e-3])
@pytest.mark.parametrize(
    "labels_s",
    [
        (1.1, 1.9, 2.95),  # of a model that says words after they were heard: each in the pause behind its sound
        (0.8, 1.6, 3.0),  # the last one alone
        (0.45, 1.25, 2.15),  # before
        (0.4, 1.3, 2.5),
    ],
)
def test_labels_in_pauses_belong_to_the_sounds_beside_them(quiet: float, labels_s: tuple[float, ...]) -> None:
    found = bounded(at(*labels_s), heard(*SOUNDS_S, duration_s=3.4, quiet=quiet))
    assert times(found) == pytest.approx([time_s for span in SOUNDS_S for time_s in span], abs=WITHIN_S)
    assert [word.text for word in found] == ["w0", "w1", "w2"]


def test_of_several_labels_those_in_pauses_do_not_lengthen_a_word() -> None:
    words = [Word("a", 0.5, 1.15, 0.9), Word("b", 1.5, 1.95, 0.9), Word("c", 2.2, 3.0, 0.9)]
    found = bounded(words, heard(*SOUNDS_S, duration_s=3.4))
    assert times(found) == pytest.approx([time_s for span in SOUNDS_S for time_s in span], abs=WITHIN_S)


def test_a_label_in_the_silence_before_a_stop_stays_there() -> None:
    levels = heard((0.5, 0.7), (0.8, 1.1), duration_s=1.6)
    [word] = bounded(at(0.73), levels)
    assert word.start_s <= 0.73
    assert word.end_s == pytest.approx(1.1, abs=WITHIN_S)


def test_two_words_of_one_sound_said_after_it() -> None:
    """Nothing is left of the sound for the second, which keeps its time."""
    levels = heard((0.5, 1.0), duration_s=2.0)
    first, second = bounded(at(1.1, 1.2), levels)
    assert times((first,)) == pytest.approx([0.5, 1.0], abs=WITHIN_S)
    assert second.start_s >= first.end_s


def test_a_short_pause_is_one_and_a_shorter_dip_is_not() -> None:
    levels = heard((0.5, 0.9), (1.0, 1.5), (1.51, 1.8), duration_s=2.2)
    found = bounded(at(0.7, 1.3, 1.6), levels)
    assert times(found)[1:3] == pytest.approx([0.9, 1.0], abs=WITHIN_S)
    assert found[1].end_s == found[2].start_s == pytest.approx(1.505, abs=WITHIN_S)  # no pause: they meet in the dip


def test_a_stop_inside_a_word_is_no_pause() -> None:
    """The label of the first word comes early in it, and the stop is far from that of the second."""
    levels = heard((0.5, 0.7), (0.75, 1.1), (1.11, 1.5), duration_s=2.0)
    first, second = bounded(at(0.55, 1.2), levels)
    assert first.end_s == second.start_s == pytest.approx(1.105, abs=WITHIN_S)


@pytest.mark.parametrize("noise", [1e-3, 1e-2])
def test_digital_silence_does_not_make_noise_loud(noise: float) -> None:
    """Padding, or a muted microphone, is no measure of how quiet a room is."""
    recognizer, bursts = recognizer_of(), ((0.5, 0.9), (1.4, 1.8), (2.3, 2.8))
    wave = torch.cat([torch.zeros(RATE_HZ), speech(*bursts, duration_s=3.2, quiet=noise), torch.zeros(RATE_HZ)])
    feats, _ = recognizer.log_mel(wave[None], torch.tensor([len(wave)]))
    found = bounded(at(1.6, 2.6, 3.4), recognizer.levels(levels_of(feats[0])))
    assert times(found) == pytest.approx([1.5, 1.9, 2.4, 2.8, 3.3, 3.8], abs=WITHIN_S)


def test_of_two_pauses_the_longer_one_is_between_the_words() -> None:
    """Before a stop there is silence inside a word too."""
    levels = heard((0.5, 0.7), (0.75, 0.9), (1.1, 1.4), duration_s=1.8)
    assert times(bounded(at(0.6, 1.2), levels)) == pytest.approx([0.5, 0.9, 1.1, 1.4], abs=WITHIN_S)


def test_what_is_far_from_a_label_is_no_part_of_its_word() -> None:
    levels = heard((1.0, 1.4), (2.6, 2.9), (4.5, 4.9), duration_s=6.0)  # something else is heard amid the pause
    assert times(bounded(at(1.2, 4.6), levels)) == pytest.approx([1.0, 1.4, 4.5, 4.9], abs=WITHIN_S)
    endless = heard((0.0, 10.0), duration_s=10.0)
    [word] = bounded(at(5.0), endless)
    assert 4.5 - WITHIN_S <= word.start_s <= 5.0
    assert 5.04 <= word.end_s <= 5.54 + WITHIN_S


def test_audio_that_begins_and_ends_in_speech() -> None:
    levels = heard((0.0, 0.7), duration_s=0.7)
    first, last = bounded(at(0.2, 0.5), levels)
    assert first.start_s == 0
    assert last.end_s == pytest.approx(0.7, abs=WITHIN_S)
    assert first.end_s == last.start_s


def test_labels_without_sound_keep_their_times() -> None:
    words = at(0.6, 1.6)
    for values in (np.full(300, SILENT), np.zeros(0)):
        found = bounded(words, Levels(values, FRAME_S, 0.025))
        assert times(found) == pytest.approx(times(tuple(words)), abs=FRAME_S)
    assert bounded([], heard((0.5, 1.0), duration_s=2.0)) == ()


def test_a_voice_is_judged_by_what_is_around_it() -> None:
    """A second speaker, 25 dB softer, is not silence."""
    wave = speech((1.0, 1.4), (21.0, 21.4), duration_s=24.0, quiet=1e-4)
    wave[RATE_HZ * 20 :] *= 10 ** (-25 / 20)
    recognizer = recognizer_of()
    feats, _ = recognizer.log_mel(wave[None], torch.tensor([len(wave)]))
    found = bounded(at(1.2, 21.2), recognizer.levels(levels_of(feats[0])))
    assert times(found) == pytest.approx([1.0, 1.4, 21.0, 21.4], abs=WITHIN_S)


@settings(max_examples=200)
@given(
    values=st.lists(st.floats(SILENT, 5), max_size=400),
    gaps=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 5)), max_size=12),
    label_frames=st.sampled_from([1, 2, 4, 8]),
)
def test_any_words_stay_in_order(values: list[float], gaps: list[tuple[int, int]], label_frames: int) -> None:
    words, frame, label_s = [], 0, label_frames * FRAME_S
    for gap, length in gaps:
        words.append(Word("a", (frame + gap) * label_s, (frame + gap + length) * label_s, 0.5))
        frame += gap + length
    levels = Levels(np.array(values), FRAME_S, 0.025)
    found = bounded(words, levels)
    assert len(found) == len(words)
    for word in found:
        assert 0 <= word.start_s <= word.end_s <= max(words[-1].end_s, len(values) * FRAME_S + levels.window_s)
    for before, after in pairwise(found):
        assert before.end_s <= after.start_s


# --- in transcripts ---------------------------------------------------------------------------------------------------


class Spikes:
    """An encoder that emits one label amid each sound and a space amid each pause, as CTC models do."""

    name = "spikes"

    def encode(self, feats: Tensor, feat_lens: Tensor) -> tuple[Tensor, Tensor]:
        loud = feats.mean(dim=2)[:, ::4] > -8
        log_probs = torch.full((*loud.shape, 10), -20.0)
        log_probs[..., 0] = 0.0
        for row, mask in zip(log_probs, loud, strict=True):
            places = [(first + behind) // 2 for first, behind in runs_of(mask.numpy())]
            for label, frames in ((2, places), (1, [(a + b) // 2 for a, b in pairwise(places)])):
                row[frames, 0], row[frames, label] = -20.0, 0.0
        return log_probs.log_softmax(2), -(-feat_lens // 4)


SPANS = [(0.4, 1.0), (1.5, 1.9), (3.5, 4.0)]


@pytest.mark.parametrize("before_s", [0.0, 40.0])
def test_transcripts_have_the_times_of_the_sounds(before_s: float) -> None:
    """Short recordings are encoded as a whole, long ones in parts."""
    spans = [(first_s + before_s, end_s + before_s) for first_s, end_s in SPANS]
    transcriber = Transcriber(recognizer_of("features.normalization=global"))
    transcriber.backend = Spikes()  # to which a level is loud or not, whatever is around it
    made = transcriber.transcribe(speech(*spans, duration_s=before_s + 5), sample_rate_hz=RATE_HZ)
    assert made.text == "a a a"
    assert times(made.words) == pytest.approx([time_s for span in spans for time_s in span], abs=WITHIN_S)
    assert [len(segment.words) for segment in made.segments] == [2, 1]
    assert made.segments[0].end_s == made.words[1].end_s


def test_a_segment_ends_before_the_next_begins() -> None:
    """The window of its last frame of features reaches beyond it."""
    levels = heard((0.0, 0.4), duration_s=0.4)
    heard_s = 0.36
    segment = Segment(10.0, heard_s, [recognised(at(0.1))], levels)  # type: ignore[list-item]
    assert segment.words[0].end_s == pytest.approx(10.0 + heard_s)
    assert Segment(0.0, 0.12, [recognised(at(0.1))], levels).words[0].end_s == pytest.approx(0.14)  # type: ignore[list-item]


def test_a_subtitle_stands_until_its_last_word_was_heard() -> None:
    levels = heard((0.0, 0.6), (1.4, 2.0), duration_s=3.0)
    words = at(0.1, 1.5)
    made = Transcript.of([recognised(words)], 4.0, "talk.wav", words=bounded(words, levels))
    first, second = made.segments
    assert second.start_s == pytest.approx(1.4, abs=WITHIN_S)
    cues = [cue for cue in render(made, "srt").split("\n") if "-->" in cue]
    assert first.end_s == pytest.approx(0.6, abs=WITHIN_S)
    assert cues[0].endswith(f"{first.end_s + 0.3:.3f}".replace(".", ","))


def test_recordings_without_speech() -> None:
    made = Transcriber(recognizer_of()).transcribe(torch.zeros(RATE_HZ), sample_rate_hz=RATE_HZ)
    assert made.words == ()
