"""Files of every kind to waveforms, against the samples that were written."""

import os
import random
import struct
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
import torchaudio
from hypothesis import given
from hypothesis import strategies as st

from asr.audio import END_TOLERANCE_S, blocks, load, load_utterance
from asr.config import AudioConfig
from asr.errors import AudioError
from asr.manifest import Utterance
from asr.resampling import resample
from mpeg import constant_mp3, in_wav, without_length

RATE_HZ = 16000
CONFIG = AudioConfig(sample_rate_hz=RATE_HZ)
Samples = npt.NDArray[np.float64]


def sweep(duration_s: float = 1.0, rate_hz: int = RATE_HZ) -> Samples:
    """A tone that rises from 100 Hz by 2 kHz a second, so that a shift in time is seen, faded in and out."""
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    return 0.5 * np.sin(2 * np.pi * (100 * time_s + 1000 * time_s**2)) * np.hanning(len(time_s))


def tone(frequency_hz: float, rate_hz: int, duration_s: float = 1.0) -> Samples:
    return 0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(round(duration_s * rate_hz)) / rate_hz)


def write(path: Path, samples: npt.NDArray[np.floating], rate_hz: int = RATE_HZ, **how: str) -> Path:
    soundfile.write(path, samples, rate_hz, **how)
    return path


# --- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_wav_integers(tmp_path: Path, bits: int) -> None:
    """Written by the standard library: 8 bits unsigned around 128, the others signed, little endian."""
    integers = np.round(sweep() * 2 ** (bits - 1)).astype(np.int64)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, bits // 8, RATE_HZ, 0, "NONE", ""))
        stored = integers + 128 if bits == 8 else integers
        file.writeframes(b"".join(int(value).to_bytes(bits // 8, "little", signed=bits > 8) for value in stored))
    loaded = load(tmp_path / "a.wav", CONFIG)
    assert loaded.shape == (RATE_HZ,)
    np.testing.assert_allclose(loaded, integers / 2 ** (bits - 1), rtol=0, atol=2**-24)


@pytest.mark.parametrize(
    ("name", "how", "tolerance"),
    [
        ("a.wav", {"subtype": "FLOAT"}, 2**-25),
        ("a.wav", {"subtype": "DOUBLE"}, 2**-25),
        ("a.wav", {"format": "WAVEX"}, 2**-15),
        ("a.wav", {"format": "RF64"}, 2**-15),
        ("a.wav", {"subtype": "ULAW"}, 0.02),  # steps of a sixteenth of the value
        ("a.wav", {"subtype": "ALAW"}, 0.02),
        ("a.flac", {}, 2**-15),
        ("a.flac", {"subtype": "PCM_24"}, 2**-23),
        ("a.sph", {"format": "NIST"}, 2**-15),
        ("a.nist", {"format": "NIST", "endian": "BIG"}, 2**-15),
        ("a.sph", {"format": "NIST", "subtype": "ULAW"}, 0.02),
        ("a.aiff", {}, 2**-15),
        ("a.w64", {}, 2**-15),
        ("a.au", {}, 2**-15),
        ("a.caf", {}, 2**-15),
    ],
)
def test_lossless_and_companded_formats(tmp_path: Path, name: str, how: dict[str, str], tolerance: float) -> None:
    loaded = load(write(tmp_path / name, sweep(), **how), CONFIG)
    assert loaded.dtype == torch.float32
    assert loaded.is_contiguous()
    np.testing.assert_allclose(loaded, sweep(), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.ogg", {"format": "OGG", "subtype": "VORBIS"}),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}),
        ("a.mp3", {"format": "MP3"}),
    ],
)
class TestLossyFormats:
    def test_close_and_not_shifted(self, tmp_path: Path, name: str, how: dict[str, str]) -> None:
        loaded = load(write(tmp_path / name, sweep(2.0), **how), CONFIG)
        assert len(loaded) == 2 * RATE_HZ
        error = loaded.numpy() - sweep(2.0)
        assert np.sum(error**2) < 0.03 * np.sum(sweep(2.0) ** 2)  # a shift by one sample alone makes 0.1

    def test_segment_is_where_it_is_in_the_whole(self, tmp_path: Path, name: str, how: dict[str, str]) -> None:
        path = write(tmp_path / name, sweep(2.0), **how)
        segment = load(path, CONFIG, offset_s=1.0, duration_s=0.5)
        assert len(segment) == RATE_HZ // 2
        np.testing.assert_allclose(segment, load(path, CONFIG)[RATE_HZ : 3 * RATE_HZ // 2], rtol=0, atol=0.02)


@pytest.mark.parametrize("container", ["MP3", "WAV"])
@pytest.mark.parametrize("offset_s", [0.1, 1.9, 2.1, 5.3])
def test_mp3_segment_does_not_begin_with_the_decoders_silence(tmp_path: Path, offset_s: float, container: str) -> None:
    """At 8 kbit/s a frame takes its bits from up to half a second before it, which a seek leaves out."""
    path = tmp_path / "a.mp3"
    how = {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": 0.99}
    soundfile.write(path, tone(300.0, RATE_HZ, 6.0), RATE_HZ, **how)
    if container == "WAV":
        path.write_bytes(in_wav(path.read_bytes(), RATE_HZ))
    first = round(offset_s * RATE_HZ)
    segment = load(path, CONFIG, offset_s=offset_s, duration_s=0.5)
    np.testing.assert_allclose(segment, load(path, CONFIG)[first : first + 8000], rtol=0, atol=1e-5)


@pytest.mark.parametrize("suffix", ["WAV", "Flac"])
def test_suffix_in_capitals(tmp_path: Path, suffix: str) -> None:
    assert len(load(write(tmp_path / f"a.{suffix}", sweep()), CONFIG)) == RATE_HZ


def test_the_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    assert len(load(write(tmp_path / "a.dat", sweep(), format="FLAC"), CONFIG)) == RATE_HZ


@pytest.mark.parametrize(
    "tail",
    [
        b"TAG" + 125 * b"x",
        b"ID3\4\0\x10\0\0\x4e\x10" + 10000 * b"x" + b"3DI\4\0\x10\0\0\x4e\x10",
        b"APETAGEX\xd0\7\0\0" + struct.pack("<I", 30000) + 30016 * b"x",
        b"LYRICSBEGIN" + 5000 * b"la " + b"015011LYRICS200" + b"TAG" + 125 * b"x",
        8192 * b"\0",
    ],
    ids=["ID3v1", "ID3v2", "APE", "Lyrics3", "zeros"],
)
def test_mp3_without_its_length_ends_where_tags_begin(tmp_path: Path, tail: bytes) -> None:
    """libsndfile guesses the length by the size of the file and the first bit rate, and goes on into the tags."""
    frames = without_length(constant_mp3(tmp_path / "a.mp3", sweep(2.0)))
    whole = load(frames, CONFIG)
    assert len(whole) % 576 == 0
    assert 2 * RATE_HZ < len(whole) < 2.2 * RATE_HZ
    assert torch.equal(load(frames + tail, CONFIG), whole)
    pieces = torch.cat(list(blocks(frames + tail, CONFIG, block_s=0.5)))
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=1e-6)


def test_mp3_without_its_length_does_not_end_where_it_is_damaged(tmp_path: Path) -> None:
    frames = without_length(constant_mp3(tmp_path / "a.mp3", sweep(2.0)))
    header = frames.index(frames[:3], len(frames) // 2)
    damaged = frames[:header] + 100 * b"x" + frames[header + 100 :]
    assert 0 <= len(load(frames, CONFIG)) - len(load(damaged, CONFIG)) <= 2 * 576


# --- headers that are wrong without harm ------------------------------------------------------------------------------


def riff(path: Path, riff_bytes: int, data_bytes: int) -> Path:
    """A WAV file of one second whose header states these sizes."""
    content = bytearray(write(path, sweep(), subtype="PCM_16").read_bytes())
    assert content[36:40] == b"data"
    content[4:8] = struct.pack("<I", riff_bytes)
    content[40:44] = struct.pack("<I", data_bytes)
    path.write_bytes(content)
    return path


def test_riff_size_that_counts_its_own_header(tmp_path: Path) -> None:
    assert len(load(riff(tmp_path / "a.wav", 44 + 2 * RATE_HZ, 2 * RATE_HZ), CONFIG)) == RATE_HZ


def test_wav_that_was_written_to_a_pipe(tmp_path: Path) -> None:
    assert len(load(riff(tmp_path / "a.wav", 0xFFFFFFFF, 0xFFFFFFFF), CONFIG)) == RATE_HZ


def test_wav_whose_recorder_was_stopped(tmp_path: Path) -> None:
    with pytest.raises(
        AudioError, match=r"holds no samples according to its header, but 32044 bytes \(recorder stopped\?\)"
    ):
        load(riff(tmp_path / "a.wav", 36, 0), CONFIG)


# --- sample rate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000])
@pytest.mark.parametrize("target_hz", [8000, 16000])
def test_a_tone_keeps_frequency_level_and_duration(tmp_path: Path, rate_hz: int, target_hz: int) -> None:
    path = write(tmp_path / "a.wav", tone(1000.0, rate_hz), rate_hz, subtype="FLOAT")
    loaded = load(path, replace(CONFIG, sample_rate_hz=target_hz)).double().numpy()
    assert len(loaded) == target_hz
    middle = slice(target_hz // 4, 3 * target_hz // 4)  # away from the filter's edges; a whole number of periods
    np.testing.assert_allclose(loaded[middle], tone(1000.0, target_hz)[middle], rtol=0, atol=5e-3)


def test_no_aliases(tmp_path: Path) -> None:
    """15 kHz has no place at 16 kHz, where it would appear as 1 kHz."""
    loaded = load(write(tmp_path / "a.wav", tone(15000.0, 48000), 48000, subtype="FLOAT"), CONFIG)
    assert loaded[RATE_HZ // 4 : 3 * RATE_HZ // 4].abs().max() < 1e-3


@pytest.mark.parametrize("rate_hz", [44101, 767999])
def test_rates_with_nothing_in_common(tmp_path: Path, rate_hz: int) -> None:
    path = write(tmp_path / "a.wav", sweep(0.1, rate_hz), rate_hz)
    with pytest.raises(AudioError, match=rf"a.wav: cannot resample from {rate_hz} Hz to 16000 Hz"):
        load(path, CONFIG)


@pytest.mark.parametrize("rate_hz", [999, 768001])
def test_rates_outside_the_limits(tmp_path: Path, rate_hz: int) -> None:
    with pytest.raises(AudioError, match=rf"a.wav: sample rate {rate_hz} Hz is not in 1000..768000"):
        load(write(tmp_path / "a.wav", sweep(0.1), rate_hz), CONFIG)


@pytest.mark.parametrize("samples", [1, 2, 31, 1000, 70000])
@pytest.mark.parametrize(
    ("source_hz", "target_hz"),
    [(8000, 16000), (48000, 16000), (44100, 16000), (16000, 8000), (11025, 16000), (17, 20), (23, 20), (1000, 44100)],
)
def test_resampling_is_torchaudios(source_hz: int, target_hz: int, samples: int) -> None:
    wave = 0.2 * torch.randn(samples, generator=torch.Generator().manual_seed(1))
    expected = torchaudio.transforms.Resample(source_hz, target_hz)(wave)
    torch.testing.assert_close(resample(wave, source_hz, target_hz), expected, atol=1e-6, rtol=0)
    assert resample(wave[:0], source_hz, target_hz).shape == (0,)


# --- channels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "policy", "wanted"),
    [
        (1, "auto", 0.1),
        (1, "first", 0.1),
        (1, "mean", 0.1),
        (2, "auto", 0.15),
        (2, "first", 0.1),
        (2, "mean", 0.15),
        (8, "first", 0.1),
        (8, "mean", 0.45),
    ],
)
def test_channels(tmp_path: Path, channels: int, policy: str, wanted: float) -> None:
    """Channel k holds the constant (k + 1) / 10."""
    samples = np.tile(np.arange(1, channels + 1) / 10, (1000, 1))
    config = replace(CONFIG, channels=policy)
    loaded = load(write(tmp_path / "a.wav", samples, subtype="FLOAT"), config)
    np.testing.assert_allclose(loaded, np.full(1000, wanted), rtol=1e-6)


@pytest.mark.parametrize("channels", [3, 8])
def test_auto_does_not_guess_among_many_channels(tmp_path: Path, channels: int) -> None:
    path = write(tmp_path / "a.wav", np.zeros((1000, channels)))
    with pytest.raises(AudioError, match=rf"a.wav: {channels} channels; audio.channels=auto accepts one or two"):
        load(path, CONFIG)


# --- segments ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ramp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second in which sample n is n / 2^15."""
    return write(tmp_path_factory.mktemp("ramp") / "ramp.flac", np.arange(RATE_HZ) / 2**15)


def ramp_samples(loaded: torch.Tensor) -> tuple[int, int]:
    """First sample and number of samples of a segment of the ramp."""
    numbers = loaded * 2**15
    assert torch.equal(numbers, torch.arange(len(loaded)) + numbers[0])
    return int(numbers[0]), len(loaded)


@pytest.mark.parametrize(
    ("offset_s", "duration_s", "wanted"),
    [
        (0.0, None, (0, 16000)),
        (0.25, None, (4000, 12000)),
        (0.25, 0.5, (4000, 8000)),
        (0.0, 1.0, (0, 16000)),
        (0.123456, 0.1, (1975, 1600)),
        (0.5, 0.5 + END_TOLERANCE_S, (8000, 8000)),  # durations are rounded, and lossy codecs pad
        (0.9999, None, (15998, 2)),
    ],
)
def test_segments(ramp: Path, offset_s: float, duration_s: float | None, wanted: tuple[int, int]) -> None:
    assert ramp_samples(load(ramp, CONFIG, offset_s=offset_s, duration_s=duration_s)) == wanted


@given(first=st.integers(0, 15999), length=st.integers(1, 16000))
def test_any_segment(ramp: Path, first: int, length: int) -> None:
    length = min(length, 16000 - first)
    loaded = load(ramp, CONFIG, offset_s=first / RATE_HZ, duration_s=length / RATE_HZ)
    assert ramp_samples(loaded) == (first, length)


def test_offset_is_counted_at_the_files_own_rate(tmp_path: Path) -> None:
    samples = np.concatenate([np.zeros(24000), np.full(24000, 0.5)])
    loaded = load(write(tmp_path / "a.wav", samples, 48000), CONFIG, offset_s=0.6, duration_s=0.2)
    assert len(loaded) == 3200
    np.testing.assert_allclose(loaded[1000:-1000], 0.5, atol=1e-3)


@pytest.mark.parametrize(
    ("offset_s", "duration_s", "named"),
    [
        (1.0, None, "1..1 s"),
        (0.0, 1.2, "0..1.2 s"),
        (0.9, 0.3, "0.9..1.2 s"),
        (5.0, 1.0, "5..6 s"),
        (1e9, 1e9, "1e[+]09..2e[+]09 s"),
        (-0.5, 0.1, "-0.5..-0.4 s"),
        (0.5, 0.0, "0.5..0.5 s"),
        (0.5, -0.2, "0.5..0.3 s"),
    ],
)
def test_segments_that_are_not_inside(ramp: Path, offset_s: float, duration_s: float | None, named: str) -> None:
    with pytest.raises(AudioError, match=rf"ramp.flac: segment {named} is not inside the audio, which is 1.000 s long"):
        load(ramp, CONFIG, offset_s=offset_s, duration_s=duration_s)


def test_long_segments_are_refused_and_segments_of_long_files_are_not(ramp: Path) -> None:
    config = replace(CONFIG, max_duration_s=0.5)
    with pytest.raises(AudioError, match=r"ramp.flac: 1.0 s of audio, more than audio.max_duration_s=0.5"):
        load(ramp, config)
    assert len(load(ramp, config, offset_s=0.4, duration_s=0.5)) == 8000


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a b.wav", "Übung ß.flac", "U\N{COMBINING DIAERESIS}bung.wav", "音声.ogg", "🎤.wav", "a.b=c;d.wav"]
)
def test_names(tmp_path: Path, name: str) -> None:
    assert len(load(write(tmp_path / name, sweep()), CONFIG)) == RATE_HZ


def test_name_that_is_not_text(tmp_path: Path) -> None:
    """As unpacked from an old archive: an e acute in Latin-1."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    try:
        path.touch()
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    path.write_bytes(write(tmp_path / "a.wav", sweep()).read_bytes())
    assert len(load(path, CONFIG)) == RATE_HZ


# --- content instead of a file ----------------------------------------------------------------------------------------

CONTENTS = [
    ("WAV", "PCM_16"),
    ("RF64", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
    ("NIST", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AU", "FLOAT"),
    ("W64", "PCM_24"),
    ("CAF", "PCM_16"),
]


@pytest.mark.parametrize(("container", "subtype"), CONTENTS)
def test_content_is_read_as_the_file_is(tmp_path: Path, container: str, subtype: str) -> None:
    path = write(tmp_path / "a.dat", sweep(), format=container, subtype=subtype)
    content = path.read_bytes()
    assert torch.equal(load(content, CONFIG), load(path, CONFIG))
    segment = load(content, CONFIG, offset_s=0.5, duration_s=0.25)
    assert torch.equal(segment, load(path, CONFIG, offset_s=0.5, duration_s=0.25))
    assert len(segment) == 4000


@pytest.mark.parametrize(("container", "subtype"), CONTENTS)
def test_content_is_refused_as_the_file_is(
    tmp_path: Path, container: str, subtype: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.dat", sweep(0.2), format=container, subtype=subtype)
    whole = path.read_bytes()
    chance = random.Random(0)
    outcomes: list[str | list[float]] = []
    for _ in range(25):
        content = bytearray(whole[: chance.choice([len(whole), chance.randrange(len(whole))])])
        for _ in range(chance.randrange(4) if content else 0):
            content[chance.randrange(min(len(content), 200))] = chance.randrange(256)
        path.write_bytes(content)
        pair: list[str | list[float]] = []
        for source in (path, bytes(content)):
            try:
                pair.append(load(source, replace(CONFIG, max_duration_s=60), name="a").tolist())
            except AudioError as error:
                pair.append(str(error))
        assert pair[0] == pair[1]
        outcomes.append(pair[0])
    assert any(isinstance(outcome, str) for outcome in outcomes)
    assert "Traceback" not in capfd.readouterr().err


def test_messages_about_content() -> None:
    with pytest.raises(AudioError, match=r"^9 bytes of audio: cannot read audio: format not recognised; if it is "):
        load(b"no audio.", CONFIG)
    with pytest.raises(AudioError, match=r"^standard input: file is empty \(0 bytes\)$"):
        load(b"", CONFIG, name="standard input")


# --- manifest records -------------------------------------------------------------------------------------------------


def test_load_utterance(ramp: Path) -> None:
    utterance = Utterance("u1", ramp, duration=0.25, text="x", offset=0.5)
    assert ramp_samples(load_utterance(utterance, CONFIG)) == (8000, 4000)


def test_load_utterance_names_the_record_and_the_file(tmp_path: Path) -> None:
    utterance = Utterance("u1", tmp_path / "none.wav", duration=1.0, text="x")
    with pytest.raises(AudioError, match=r"^utterance u1: .*none.wav: cannot read audio: No such file"):
        load_utterance(utterance, CONFIG)


def test_the_value_that_is_not_finite_is_named(tmp_path: Path) -> None:
    samples = np.zeros((100, 2))
    samples[70, 1] = -np.inf
    with pytest.raises(AudioError, match=r"a.wav: sample 70 is not finite \(-inf\)"):
        load(write(tmp_path / "a.wav", samples, subtype="FLOAT"), CONFIG, offset_s=50 / RATE_HZ)
