"""Files to text with a model of random weights: the text means nothing, but it belongs to the file and to it alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import audio, checkpoint
from asr.errors import AudioError, DecodeError
from asr.recognizer import Recognizer, pad_waves
from asr.transcribe import Failure, Transcript, find_audio, transcribe
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


def texts(recognizer: Recognizer, paths: Sequence[Path], **how: float) -> list[str]:
    results = list(transcribe(recognizer, paths, **how))
    assert [result.path for result in results] == list(paths)
    return [result.text for result in results if isinstance(result, Transcript)]


def alone(recognizer: Recognizer, path: Path) -> str:
    """The text of one file without any of what is tested here."""
    return recognizer.transcribe_waves(*pad_waves([audio.load(path, recognizer.config.audio)]))[0].text


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


def test_windows_keep_the_order(recognizer: Recognizer, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = texts(recognizer, files)
    for window_s in (0.01, 1.0, 3.0):
        monkeypatch.setattr("asr.transcribe.WINDOW_S", window_s)
        assert texts(recognizer, files) == wanted


def test_results_come_before_everything_is_read(
    recognizer: Recognizer, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    load = audio.load
    monkeypatch.setattr("asr.audio.load", lambda path, config: (read.append(path), load(path, config))[1])
    monkeypatch.setattr("asr.transcribe.WINDOW_S", 1.0)
    assert next(transcribe(recognizer, files)).path == files[0]
    assert read == files[:2]  # 0.7 s and 2 s


def test_batches_keep_to_their_budget(
    recognizer: Recognizer, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, float]] = []
    whole = recognizer.forward

    def note(waves, lens):  # type: ignore[no-untyped-def]
        sizes.append((len(waves), waves.numel() / RATE_HZ))
        return whole(waves, lens)

    monkeypatch.setattr(recognizer, "forward", note)
    assert len(texts(recognizer, files, batch_s=3.5)) == 7
    assert sum(size for size, _ in sizes) == 7
    assert all(padded_s <= 3.5 for _, padded_s in sizes)
    assert [size for size, _ in sizes] == [1, 2, 3, 1]  # 2.0 | 1.6 1.1 | 1.1 0.7 0.3 | 0.04: longest first
    sizes.clear()
    texts(recognizer, files, batch_s=0.001)
    assert [size for size, _ in sizes] == [1] * 7  # a longer file is a batch of its own


def test_duration_is_that_of_the_file(recognizer: Recognizer, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 0.5, 1, rate_hz=44100)
    [result] = transcribe(recognizer, [path])
    assert isinstance(result, Transcript)
    assert result.duration == pytest.approx(0.5, abs=1e-3)


def test_no_file(recognizer: Recognizer) -> None:
    assert list(transcribe(recognizer, [])) == []


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_failure_stands_in_its_place(recognizer: Recognizer, files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    paths = [tmp_path / "none.wav", files[0], tmp_path / "empty.wav", files[1], tmp_path]
    results = list(transcribe(recognizer, paths))
    assert [type(result) for result in results] == [Failure, Transcript, Failure, Transcript, Failure]
    assert [result.path for result in results] == paths
    for result in results:
        if isinstance(result, Failure):
            assert isinstance(result.error, AudioError)
            assert str(result.path) in str(result.error)


@pytest.mark.parametrize(("samples", "usable"), [(1, False), (FRAME_SAMPLES - 1, False), (FRAME_SAMPLES, True)])
def test_shorter_than_a_frame(recognizer: Recognizer, tmp_path: Path, samples: int, usable: bool) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(samples), RATE_HZ)
    [result] = transcribe(recognizer, [path])
    assert isinstance(result, Transcript) == usable
    if isinstance(result, Failure):
        wanted = f"{path}: {samples} samples of audio are shorter than one frame of {FRAME_SAMPLES}"
        assert str(result.error) == wanted


def test_what_cannot_be_decoded_is_a_failure_of_its_file_alone(
    recognizer: Recognizer, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = recognizer.decoder._decode

    def refuse(log_probs, lens, n_best):  # type: ignore[no-untyped-def]
        if max(lens.tolist()) > 30:
            place = int(lens.argmax())
            raise DecodeError(f"utterance {place}: no hypothesis may end")
        return decode(log_probs, lens, n_best)

    monkeypatch.setattr(recognizer.decoder, "_decode", refuse)
    results = list(transcribe(recognizer, files))
    failed = {result.path: str(result.error) for result in results if isinstance(result, Failure)}
    assert failed == {path: f"utterance {path}: no hypothesis may end" for path in (files[1], files[6])}  # 2 s, 1.6 s
    monkeypatch.undo()
    wanted = texts(recognizer, files)
    assert [result.text for result in results if isinstance(result, Transcript)] == [*wanted[:1], *wanted[2:6]]


# --- finding files ----------------------------------------------------------------------------------------------------


def test_find_audio(tmp_path: Path) -> None:
    for name in ("b.wav", "a/z.FLAC", "a/b/c.mp3", "a.txt", "a/notes.wav.txt", "ü ñ.ogg", "a.sph"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    named = tmp_path / "in" / "a.txt"  # a file that is named counts, whatever its suffix
    missing = tmp_path / "none.wav"
    found, others = find_audio([missing, str(tmp_path / "in"), named])
    inside = [path.relative_to(tmp_path / "in").as_posix() for path in found[1:-1]]
    assert inside == ["a/b/c.mp3", "a/z.FLAC", "a.sph", "b.wav", "ü ñ.ogg"]
    assert (found[0], found[-1]) == (missing, named)
    assert [path.name for path in others] == ["notes.wav.txt", "a.txt"]


def test_folder_without_audio(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(AudioError, match=rf"{tmp_path}: no audio file in this folder \(looked for .wav, .flac"):
        find_audio([tmp_path])


def test_a_name_that_no_file_can_have_is_left_to_transcribe(recognizer: Recognizer, files: list[Path]) -> None:
    results = list(transcribe(recognizer, find_audio(["x" * 300, files[0]])[0]))
    assert isinstance(results[0], Failure)
    assert "File name too long" in str(results[0].error)
    assert isinstance(results[1], Transcript)
