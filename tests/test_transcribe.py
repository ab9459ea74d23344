"""Files to text with a model of random weights: the text means nothing, but it belongs to the file and to it alone."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
from torch import Tensor

from alone import recognise
from asr import audio, checkpoint
from asr.config import DecodeConfig
from asr.errors import AudioError, DecodeError
from asr.recognizer import Recognizer
from asr.sources import Recording
from asr.transcribe import Failure, Joined, Transcriber
from asr.transcript import Transcript
from asr.windows import encode, segments
from tiny_run import FRAME_SAMPLES, RATE_HZ, save_run


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    return checkpoint.load(save_run(tmp_path_factory.mktemp("run")))


def write(path: Path, duration_s: float, seed: int, rate_hz: int = RATE_HZ) -> Path:
    """Noise in bursts, so that the text has some variety."""
    random = np.random.default_rng(seed)
    samples = 0.1 * random.standard_normal(round(duration_s * rate_hz))
    samples *= np.repeat(random.random(len(samples) // 1000 + 1), 1000)[: len(samples)] ** 3
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Seven files of different lengths, in no order."""
    folder = tmp_path_factory.mktemp("audio")
    durations = (0.7, 2.0, 0.3, 1.1, 1.1, 0.04, 1.6)
    return [write(folder / f"{number}.wav", duration, number) for number, duration in enumerate(durations)]


def recordings(paths: Sequence[Path]) -> list[Recording]:
    return [Recording(str(path), path) for path in paths]


def results(recognizer: Recognizer, paths: Sequence[Path], **how: float) -> list[Transcript | Failure]:
    return list(Transcriber(recognizer, **how).transcribe_all(recordings(paths)))


def texts(recognizer: Recognizer, paths: Sequence[Path], **how: float) -> list[str]:
    found = results(recognizer, paths, **how)
    assert [result.source for result in found if isinstance(result, Transcript)] == list(map(str, paths))
    return [result.text for result in found if isinstance(result, Transcript)]


def alone(recognizer: Recognizer, path: Path) -> str:
    """The text of one file without any of what is tested here."""
    return recognise(recognizer, audio.load(path, recognizer.config.audio)).text


# --- the text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_s", [0.001, 1.5, 4.0, 1000.0])
def test_text_depends_on_neither_batch_size_nor_order(
    recognizer: Recognizer, files: list[Path], batch_s: float
) -> None:
    wanted = [alone(recognizer, path) for path in files]
    assert len(set(wanted)) >= 6  # the files can be told apart
    assert texts(recognizer, files, batch_s=batch_s) == wanted
    assert texts(recognizer, files[::-1], batch_s=batch_s) == wanted[::-1]
    assert texts(recognizer, [files[3], files[0], files[3]], batch_s=batch_s) == [wanted[3], wanted[0], wanted[3]]


def test_groups_keep_the_order(recognizer: Recognizer, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = texts(recognizer, files)
    for group_s in (0.01, 1.0, 3.0):
        monkeypatch.setattr("asr.transcribe.GROUP_S", group_s)
        assert texts(recognizer, files) == wanted


def test_results_come_before_everything_is_named(
    recognizer: Recognizer, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[Path] = []

    def one_by_one() -> Iterator[Recording]:
        for recording, path in zip(recordings(files), files, strict=True):
            named.append(path)
            yield recording

    monkeypatch.setattr("asr.transcribe.GROUP_S", 1.0)
    monkeypatch.setattr("asr.transcribe._READ_AHEAD", 1)
    found = Transcriber(recognizer).transcribe_all(one_by_one())
    first = next(found)
    assert isinstance(first, Transcript)
    assert first.source == str(files[0])
    assert named == files[:3]  # 0.7 s and 2 s are more than a group, and one is read ahead
    assert len(list(found)) == 6


def test_batches_keep_to_their_budget(
    recognizer: Recognizer, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, float]] = []
    encode = recognizer.encoder.forward

    def note(feats, lens):  # type: ignore[no-untyped-def]
        sizes.append((len(feats), feats.shape[0] * feats.shape[1] * recognizer.log_mel.hop_samples / RATE_HZ))
        return encode(feats, lens)

    monkeypatch.setattr(recognizer.encoder, "forward", note)
    assert len(texts(recognizer, files, batch_s=3.5)) == 7
    assert sum(size for size, _ in sizes) == 7
    assert all(padded_s <= 3.5 for _, padded_s in sizes)
    assert [size for size, _ in sizes] == [3, 2, 1, 1]  # 0.04 0.3 0.7 | 1.1 1.1 | 1.6 | 2.0
    sizes.clear()
    texts(recognizer, files, batch_s=0.001)
    assert [size for size, _ in sizes] == [1] * 7  # a longer file is a batch of its own


def test_a_short_recording_is_cut_in_its_pauses(recognizer: Recognizer, files: list[Path], tmp_path: Path) -> None:
    """A model that never heard a long pause finds words in it: it is given the speech around it alone."""
    parts = [soundfile.read(path)[0] for path in (files[1], files[6])]
    joined = np.concatenate([parts[0], np.zeros(2 * RATE_HZ), parts[1]])
    soundfile.write(tmp_path / "joined.wav", joined, RATE_HZ, subtype="DOUBLE")
    [result] = results(recognizer, [tmp_path / "joined.wav"])
    assert isinstance(result, Transcript)
    chunks = list(encode(recognizer, [Tensor(joined)]))
    assert sum(chunk.speech for chunk in chunks) >= 2
    assert result.text == recognizer.decoder([np.concatenate([chunk.log_probs for chunk in chunks])])[0][0].text
    assert result.text != alone(recognizer, tmp_path / "joined.wav")


def test_duration_is_that_of_the_file(recognizer: Recognizer, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 0.5, 1, rate_hz=44100)
    [result] = results(recognizer, [path])
    assert isinstance(result, Transcript)
    assert result.duration_s == pytest.approx(0.5, abs=1e-3)


def test_no_file(recognizer: Recognizer) -> None:
    assert results(recognizer, []) == []


# --- long recordings and segments -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty seconds: longer than what is encoded as a whole."""
    return write(tmp_path_factory.mktemp("long") / "long.wav", 40.0, 9)


def by_hand(recognizer: Recognizer, wave: Tensor) -> str:
    return Joined(list(segments(recognizer, encode(recognizer, [wave])))).text


def test_a_long_recording_goes_through_windows_among_short_ones(
    recognizer: Recognizer, files: list[Path], long_file: Path
) -> None:
    found = results(recognizer, [files[0], long_file, files[1]])
    assert [type(result) for result in found] == [Transcript] * 3
    wave = audio.load(long_file, recognizer.config.audio)
    wanted = [alone(recognizer, files[0]), by_hand(recognizer, wave), alone(recognizer, files[1])]
    assert [result.text for result in found if isinstance(result, Transcript)] == wanted
    long = found[1]
    assert isinstance(long, Transcript)
    assert long.duration_s == 40
    assert long.words[-1].end_s > 30
    assert len(long.alternatives) == 1
    assert long.alternatives[0].score < 0
    assert 0 < long.confidence <= 1


def test_alternatives_of_a_long_recording(recognizer: Recognizer, long_file: Path, tmp_path: Path) -> None:
    """Each is a choice of one hypothesis for each part; the best sums of all choices come first."""
    samples = np.concatenate([np.pad(soundfile.read(long_file)[0][:RATE_HZ], (0, 13 * RATE_HZ)) for _ in range(3)])
    soundfile.write(tmp_path / "a.wav", samples, RATE_HZ)
    beam = Recognizer(replace(recognizer.config, decode=DecodeConfig(decoder="beam")), recognizer.tokenizer)
    beam.load_state_dict(recognizer.state_dict())
    beam.eval()
    found = Transcriber(beam).transcribe(tmp_path / "a.wav", n_best=7)
    parts = list(segments(beam, encode(beam, [audio.load(tmp_path / "a.wav", beam.config.audio)]), n_best=7))
    assert len(parts) == 3
    choices = list(product(*(part.hypotheses for part in parts)))
    choices.sort(key=lambda choice: -sum(part.score for part in choice))
    assert [item.text for item in found.alternatives] == [
        " ".join(part.text for part in choice if part.text) for choice in choices[:7]
    ]
    scores = [item.score for item in found.alternatives]
    assert scores == pytest.approx([sum(part.score for part in choice) for choice in choices[:7]])
    assert scores == sorted(scores, reverse=True)
    assert found.text == found.alternatives[0].text


def test_a_segment_of_a_file(recognizer: Recognizer, long_file: Path) -> None:
    whole = audio.load(long_file, recognizer.config.audio)
    parts = [(3.0, 2.0), (38.0, 2.0), (0.0, 2.0), (39.0, 2.0)]
    found = list(
        Transcriber(recognizer).transcribe_all(
            [Recording(f"from {first:g}", long_file, first, seconds) for first, seconds in parts]
        )
    )
    for (first, seconds), result in zip(parts[:3], found[:3], strict=True):
        assert isinstance(result, Transcript)
        wave = whole[round(first * RATE_HZ) : round((first + seconds) * RATE_HZ)]
        assert result.text == recognise(recognizer, wave).text
        assert (result.source, result.duration_s) == (f"from {first:g}", seconds)
    assert isinstance(found[3], Failure)
    assert str(found[3].error) == "from 39: segment 39..41 s is not inside the audio, which is 40.000 s long"


@pytest.mark.parametrize("sought_s", [600.0, 1.0])  # the file is read from the segment on, or from its beginning
@pytest.mark.parametrize(("offset_s", "duration_s"), [(2.0, 35.0), (0.0, 33.0), (4.0, None), (0.0, 40.0)])
def test_a_long_segment(
    recognizer: Recognizer,
    long_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    offset_s: float,
    duration_s: float | None,
    sought_s: float,
) -> None:
    monkeypatch.setattr("asr.transcribe.SOUGHT_S", sought_s)
    monkeypatch.setattr("asr.audio._MAX_BLOCK_BYTES", 4 * 3 * RATE_HZ)  # blocks of three seconds
    [result] = Transcriber(recognizer).transcribe_all([Recording("part", long_file, offset_s, duration_s)])
    assert isinstance(result, Transcript)
    wave = audio.load(long_file, recognizer.config.audio, offset_s=offset_s, duration_s=duration_s)
    assert result.text == by_hand(recognizer, wave)
    assert result.duration_s == len(wave) / RATE_HZ


def test_the_longest_recording_to_take(recognizer: Recognizer, files: list[Path], long_file: Path) -> None:
    found = list(Transcriber(recognizer, longest_s=1.5).transcribe_all(recordings([files[0], files[1], long_file])))
    assert [type(result) for result in found] == [Transcript, Failure, Failure]
    for result, seconds, path in zip(found[1:], (2.0, 40.0), (files[1], long_file), strict=True):
        assert isinstance(result, Failure)
        assert str(result.error) == f"{path}: {seconds} s of audio, wanted at most 1.5 s"


def test_paths_and_contents_are_recordings(recognizer: Recognizer, files: list[Path]) -> None:
    content = files[4].read_bytes()
    given = [files[0], str(files[1]), Recording("third", files[3]), content]
    found = [result for result in Transcriber(recognizer).transcribe_all(given) if isinstance(result, Transcript)]
    assert [result.source for result in found] == [str(files[0]), str(files[1]), "third", f"{len(content)} bytes"]
    assert [result.text for result in found] == texts(recognizer, [files[0], files[1], files[3], files[4]])


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_failure_stands_in_its_place(recognizer: Recognizer, files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    paths = [tmp_path / "none.wav", files[0], tmp_path / "empty.wav", files[1], tmp_path]
    found = results(recognizer, paths)
    assert [type(result) for result in found] == [Failure, Transcript, Failure, Transcript, Failure]
    for result, path in zip(found, paths, strict=True):
        if isinstance(result, Failure):
            assert result.name == str(path)
            assert isinstance(result.error, AudioError)
            assert str(path) in str(result.error)


@pytest.mark.parametrize(("samples", "usable"), [(1, False), (FRAME_SAMPLES - 1, False), (FRAME_SAMPLES, True)])
def test_shorter_than_a_frame(recognizer: Recognizer, tmp_path: Path, samples: int, usable: bool) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(samples), RATE_HZ)
    [result] = results(recognizer, [path])
    assert isinstance(result, Transcript) == usable
    if isinstance(result, Failure):
        wanted = f"{path}: {samples} samples of audio are shorter than one frame of {FRAME_SAMPLES}"
        assert str(result.error) == wanted


def test_what_cannot_be_decoded_is_a_failure_of_its_file_alone(
    recognizer: Recognizer, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = recognizer.decoder._decode

    def refuse(log_probs, lens, n_best):  # type: ignore[no-untyped-def]
        place = max(range(len(log_probs)), key=lambda place: len(log_probs[place]))
        if len(log_probs[place]) > 30:
            raise DecodeError(f"utterance {place}: no hypothesis may end")
        return decode(log_probs, lens, n_best)

    monkeypatch.setattr(recognizer.decoder, "_decode", refuse)
    found = results(recognizer, files)
    failed = {result.name: str(result.error) for result in found if isinstance(result, Failure)}
    assert failed == {  # 2 s, 1.6 s
        str(path): f"utterance {path}: no hypothesis may end" for path in (files[1], files[6])
    }
    monkeypatch.undo()
    wanted = texts(recognizer, files)
    assert [result.text for result in found if isinstance(result, Transcript)] == [*wanted[:1], *wanted[2:6]]


def test_a_name_that_no_file_can_have(recognizer: Recognizer, files: list[Path]) -> None:
    found = results(recognizer, [Path("x" * 300), files[0]])
    assert isinstance(found[0], Failure)
    assert "File name too long" in str(found[0].error)
    assert isinstance(found[1], Transcript)
