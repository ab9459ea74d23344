"""`asr.load(RUN).transcribe(...)`: one recording, as a file or as samples of any kind, is the same text."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

import asr
from asr.errors import AudioError, CheckpointError, ConfigError, DecodeError
from asr.transcribe import WHOLE_S
from tiny_run import FRAME_SAMPLES, RATE_HZ, save_run

Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def model(run: Path) -> asr.Transcriber:
    return asr.load(run)


def speech(seconds: float, seed: int = 1, rate_hz: int = RATE_HZ) -> Samples:
    """Bursts of noise, on the grid of 16 bits so that every type holds the same."""
    random = np.random.default_rng(seed)
    samples = 0.1 * random.standard_normal(round(seconds * rate_hz))
    samples *= np.repeat(random.random(len(samples) // 1000 + 1), 1000)[: len(samples)] ** 3
    return (np.round(samples * 32768) / 32768).astype(np.float32)


@pytest.fixture(scope="module")
def samples() -> Samples:
    return speech(2.0)


@pytest.fixture(scope="module")
def wanted(model: asr.Transcriber, samples: Samples) -> tuple[str, float]:
    text, score = said(model.transcribe(samples, sample_rate_hz=RATE_HZ))
    assert len(text) >= 3
    return text, score


def said(transcript: asr.Transcript) -> tuple[str, float]:
    """The text, and its score, which other samples would change in some digit."""
    return transcript.text, transcript.alternatives[0].score


# --- files ------------------------------------------------------------------------------------------------------------


def test_path_string_and_content(
    model: asr.Transcriber, samples: Samples, wanted: tuple[str, float], tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
    found = [model.transcribe(source) for source in (path, str(path), path.read_bytes())]
    assert [said(transcript) for transcript in found] == [wanted] * 3
    size = path.stat().st_size
    assert [transcript.source for transcript in found] == [str(path), str(path), f"{size} bytes"]
    assert model.transcribe(path, name="call 7").source == "call 7"
    transcript = found[0]
    assert isinstance(transcript, asr.Transcript)
    assert transcript.duration_s == 2
    assert [word.text for word in transcript.words] == wanted[0].split()
    assert 0 <= transcript.confidence <= 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Path("none.wav"), "none.wav: cannot read audio: No such file or directory"),
        ("none.wav", "none.wav: cannot read audio: No such file or directory"),
        ("", ".: is a folder, not an audio file"),
        (b"", "0 bytes: file is empty (0 bytes)"),
        (b"no audio at all" * 9, "135 bytes: cannot read audio: format not recognised"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt ", "16 bytes: cannot read audio: "),
    ],
)
def test_what_is_no_audio(model: asr.Transcriber, source: Path | str | bytes, message: str) -> None:
    with pytest.raises(AudioError) as caught:
        model.transcribe(source)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_file_says_its_own_rate(model: asr.Transcriber) -> None:
    with pytest.raises(AudioError, match="sample_rate_hz goes with samples; a file states its own rate"):
        model.transcribe("a.wav", sample_rate_hz=RATE_HZ)


# --- samples ----------------------------------------------------------------------------------------------------------


def backwards(samples: Samples) -> Samples:
    """The same samples, each behind the one that follows it in memory."""
    return samples[::-1].copy()[::-1]


def read_only(samples: Samples) -> Samples:
    samples = samples.copy()
    samples.flags.writeable = False
    return samples


KINDS: dict[str, Callable[[Samples], Any]] = {
    "float32": lambda samples: samples,
    "float64": lambda samples: samples.astype(np.float64),
    "int16": lambda samples: (samples * 2**15).astype(np.int16),
    "int32": lambda samples: (samples.astype(np.float64) * 2**31).astype(np.int32),
    "big endian": lambda samples: samples.astype(">f4"),
    "one column": lambda samples: samples[:, None],
    "two equal columns": lambda samples: np.stack([samples, samples], axis=1),
    "columns of int16": lambda samples: np.stack([(samples * 2**15).astype(np.int16)] * 2, axis=1),
    "columns first in memory": lambda samples: np.asfortranarray(np.stack([samples, samples], axis=1)),
    "negative strides": backwards,
    "every second": lambda samples: np.repeat(samples, 2)[::2],
    "read only": read_only,
    "list": lambda samples: samples.tolist(),
    "tensor": torch.tensor,
    "tensor of int16": lambda samples: torch.tensor((samples * 2**15).astype(np.int16)),
    "tensor of float64": lambda samples: torch.tensor(samples).double(),
    "tensor with a gradient": lambda samples: torch.tensor(samples).requires_grad_(),
    "tensor, two columns": lambda samples: torch.tensor(samples).expand(2, -1).T,
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_samples(model: asr.Transcriber, samples: Samples, wanted: tuple[str, float], kind: str) -> None:
    before = samples.copy()
    transcript = model.transcribe(KINDS[kind](samples), sample_rate_hz=RATE_HZ)
    assert said(transcript) == wanted
    assert (transcript.source, transcript.duration_s) == ("samples", 2.0)
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("type", [torch.float16, torch.bfloat16])
def test_tensors_of_half_precision(model: asr.Transcriber, samples: Samples, type: torch.dtype) -> None:
    halved = torch.tensor(samples).to(type)
    as_float = model.transcribe(halved.float().numpy(), sample_rate_hz=RATE_HZ)
    assert said(model.transcribe(halved, sample_rate_hz=RATE_HZ)) == said(as_float)


@pytest.mark.parametrize("rate_hz", [8000, 22050, 44100])
@pytest.mark.parametrize("channels", [1, 2])
def test_other_rates_are_as_in_a_file(model: asr.Transcriber, tmp_path: Path, rate_hz: int, channels: int) -> None:
    table = np.stack([speech(1.5, seed, rate_hz) for seed in range(channels)], axis=1)
    soundfile.write(tmp_path / "a.wav", table, rate_hz, subtype="FLOAT")
    from_file = model.transcribe(tmp_path / "a.wav")
    from_samples = model.transcribe(table, sample_rate_hz=rate_hz)
    assert said(from_samples) == said(from_file)
    assert from_samples.duration_s == from_file.duration_s == pytest.approx(1.5, abs=1e-3)


@pytest.mark.parametrize(
    "rate_hz", [None, 0, -16000, "16000", "x", math.nan, math.inf, 16000.5, True, 999, 10**9, [16000]]
)
def test_rates_that_cannot_be(model: asr.Transcriber, samples: Samples, rate_hz: Any) -> None:
    with pytest.raises(AudioError, match=r"^samples: sample_rate_hz must be a whole number in 1000\.\.768000, found "):
        model.transcribe(samples, sample_rate_hz=rate_hz)


def with_value(value: float) -> Samples:
    samples = speech(1.0)
    samples[5000] = value
    return samples


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            np.zeros(16000, np.int64),
            "wanted (S,) or (S, channels) samples, floats or integers of 16 or 32 bits, found ",
        ),
        (np.zeros(16000, np.uint8), "wanted (S,) or (S, channels) samples, "),
        (np.zeros(16000, np.complex64), "wanted (S,) or (S, channels) samples, "),
        (np.zeros(16000, np.bool_), "wanted (S,) or (S, channels) samples, "),
        (np.zeros((1, 16000, 2), np.float32), "found shape (1, 16000, 2) of float32"),
        (np.float32(0.5), "found shape () of float32"),
        (None, "found shape () of object"),
        (["a", "b"], "wanted (S,) or (S, channels) samples, "),
        (torch.zeros(16000, dtype=torch.int64), "found shape (16000,) of int64"),
        (np.zeros(0, np.float32), "holds no samples"),
        (np.zeros((0, 2), np.int16), "holds no samples"),
        (np.zeros((100, 0), np.float32), "holds no samples"),
        ([], "holds no samples"),
        (torch.zeros(0), "holds no samples"),
        (with_value(math.nan), "sample 5000 is not finite (nan)"),
        (with_value(-math.inf), "sample 5000 is not finite (-inf)"),
        (with_value(1e12), "a sample of 1e+12, where full scale is 1: not audio, or wrongly encoded"),
        (np.zeros((16000, 3), np.float32), "3 channels; audio.channels=auto accepts one or two"),
        (np.zeros((2, 16000), np.float32), "16000 channels; audio.channels=auto accepts one or two"),
        (np.zeros(FRAME_SAMPLES - 1, np.float32), f"{FRAME_SAMPLES - 1} samples of audio are shorter than one frame"),
    ],
)
def test_samples_that_cannot_be(model: asr.Transcriber, source: Any, message: str) -> None:
    with pytest.raises(AudioError) as caught:
        model.transcribe(source, sample_rate_hz=RATE_HZ, name="call 7")
    assert str(caught.value).startswith("call 7: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# --- what is in them --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.032, 1.0, WHOLE_S, WHOLE_S + 20])
@pytest.mark.parametrize("value", [0.0, 0.5, 1e-30, 1e5])
def test_constant_signal(model: asr.Transcriber, seconds: float, value: float) -> None:
    transcript = model.transcribe(np.full(round(seconds * RATE_HZ), value, np.float32), sample_rate_hz=RATE_HZ)
    assert transcript.duration_s == seconds
    assert 0 <= transcript.confidence <= 1
    assert transcript.as_json()["duration"] == seconds


def test_long_silence_is_no_text(model: asr.Transcriber) -> None:
    transcript = model.transcribe(np.zeros(60 * RATE_HZ, np.int16), sample_rate_hz=RATE_HZ)
    assert (transcript.text, transcript.words, transcript.segments) == ("", (), ())
    assert transcript.duration_s == 60


@pytest.mark.parametrize("seconds", [3.0, 45.0])
def test_noise(model: asr.Transcriber, seconds: float) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, round(seconds * RATE_HZ)).astype(np.float32)
    transcript = model.transcribe(noise, sample_rate_hz=RATE_HZ)
    assert " ".join(word.text for word in transcript.words) == transcript.text


def test_more_than_a_window_is_as_its_file(model: asr.Transcriber, tmp_path: Path) -> None:
    parts = [speech(4.0, seed) for seed in range(9)]
    pause = np.zeros(2 * RATE_HZ, np.float32)
    samples = np.concatenate([piece for part in parts for piece in (part, pause)])
    soundfile.write(tmp_path / "a.wav", samples, RATE_HZ, subtype="PCM_16")
    transcript = model.transcribe(samples, sample_rate_hz=RATE_HZ)
    assert len(samples) > WHOLE_S * RATE_HZ
    assert transcript.duration_s == 54
    assert transcript.text == model.transcribe(tmp_path / "a.wav").text
    assert transcript.text == model.transcribe((tmp_path / "a.wav").read_bytes()).text
    assert len(transcript.segments) >= 9
    times = [time_s for word in transcript.words for time_s in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert times[-1] > 48


def test_a_misspelled_value_of_the_decoder(run: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'decodr'; did you mean 'decoder'"):
        asr.load(run, decodr="beam")
    with pytest.raises(ConfigError, match=r"decode\.decoder must be greedy or beam, found 'Beam'"):
        asr.load(run, decoder="Beam")
    with pytest.raises(ConfigError, match="beam_size must be a number, found '3'"):
        asr.load(run, decoder="beam", beam_size="3")
    asr.load(run, decoder="beam", beam_size=np.int64(3), beta=np.float32(0.5))


# --- several threads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_threads_take_turns(run: Path, tmp_path: Path, decoder: str) -> None:
    model = asr.load(run, "cpu", decoder=decoder)
    sources = [speech(0.3 + 0.1 * number, number) for number in range(12)]
    sources += [speech(32.0, 99)]
    alone = [model.transcribe(source, sample_rate_hz=RATE_HZ) for source in sources]
    assert len({said(transcript) for transcript in alone}) == len(sources)  # so that they can be told apart
    barrier = threading.Barrier(6)

    def all_of_them(start: int) -> list[asr.Transcript]:
        barrier.wait()
        places = [(start + number) % len(sources) for number in range(len(sources))]
        found = {place: model.transcribe(sources[place], sample_rate_hz=RATE_HZ) for place in places}
        return [found[place] for place in range(len(sources))]

    with ThreadPoolExecutor(6) as threads:
        for found in threads.map(all_of_them, range(0, 12, 2)):
            assert found == alone


# --- loading ----------------------------------------------------------------------------------------------------------


def test_load_with_another_decoder(run: Path, samples: Samples) -> None:
    model = asr.load(run, decoder="beam", beam_size=10)
    transcript = model.transcribe(samples, sample_rate_hz=RATE_HZ, n_best=3)
    assert len(transcript.alternatives) == 3
    scores = [found.score for found in transcript.alternatives]
    assert scores == sorted(scores, reverse=True)
    assert model.recognizer.config.decode.beam_size == 10


def test_files_of_the_decoder_are_where_they_are_on_the_command_line(
    run: Path, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hot.txt").write_text("ab\n", encoding="utf-8")
    model = asr.load(run, hotwords="hot.txt")  # a value of the beam asks for the beam
    assert model.recognizer.config.decode.decoder == "beam"
    assert model.recognizer.config.decode.hotwords == str(tmp_path / "hot.txt")
    with pytest.raises(DecodeError, match=r"none\.txt: cannot read hotwords"):
        asr.load(run, hotwords="none.txt")
    with pytest.raises(ConfigError, match=r"^hotwords needs decoder beam, found decoder greedy$"):
        asr.load(run, decoder="greedy", hotwords="hot.txt")
    with pytest.raises(DecodeError, match=r"^n_best=2: greedy decoding has one hypothesis"):
        asr.load(run).transcribe(samples, sample_rate_hz=RATE_HZ, n_best=2)


def test_load_what_is_not_there(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="run folder is missing"):
        asr.load(tmp_path / "none")
    with pytest.raises(DecodeError, match=r"none\.arpa: cannot be read"):
        asr.load(run, decoder="beam", lm=str(tmp_path / "none.arpa"))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device is available"):
            asr.load(run, "cuda")
