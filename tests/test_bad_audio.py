"""Whatever is wrong with an audio file, the command says so on one line that names it, and goes on with the others."""

import os
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cli import main
from mpeg import constant_mp3, in_wav, without_length
from tiny_run import FRAME_SAMPLES, RATE_HZ, error_line, read_once, save_run, write_noise

Capture = pytest.CaptureFixture[str]
FORMATS: dict[str, dict[str, str]] = {
    "a.wav": {},
    "rf64.wav": {"format": "RF64"},
    "a.flac": {},
    "a.ogg": {"subtype": "VORBIS"},
    "a.opus": {"format": "OGG", "subtype": "OPUS"},
    "a.mp3": {},
    "a.sph": {"format": "NIST"},
    "a.aiff": {},
    "a.au": {},
    "a.w64": {},
}
NOT_RECOGNISED = (
    "cannot read audio: format not recognised; if it is audio, convert it to WAV or FLAC first, for example: ffmpeg -i "
    "FILE FILE.wav"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run folder that is read once and not by every command."""
    with read_once():
        yield save_run(tmp_path_factory.mktemp("run"))


def transcribe_error(capsys: Capture, run: Path, path: Path) -> str:
    line = error_line(capsys, "transcribe", path, "--model", run)
    assert line.startswith(f"error: {path}: ")
    return line.removeprefix(f"error: {path}: ")


# --- audio files ------------------------------------------------------------------------------------------------------


def as_text(path: Path) -> None:
    path.write_text("This is no audio, whatever the name says.\n" * 50)


def with_value(value: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        samples = np.zeros(RATE_HZ)
        samples[5000] = value
        soundfile.write(path, samples, RATE_HZ, subtype="FLOAT")

    return make


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.wav", lambda path: None, "cannot read audio: No such file or directory"),
        ("a.wav", Path.touch, "file is empty (0 bytes)"),
        ("a.wav", lambda path: write_noise(path, 0), "holds no samples"),
        ("a.sph", lambda path: write_noise(path, 0, format="NIST"), "holds no samples"),
        ("a.ogg", lambda path: write_noise(path, 0), "holds no samples"),
        ("a.wav", as_text, NOT_RECOGNISED),
        ("a.flac", as_text, NOT_RECOGNISED),
        ("a.mp3", as_text, NOT_RECOGNISED),
        ("a.raw", as_text, "raw samples without a header: --stream --sample-rate HZ reads them from a pipe"),
        ("a.wav", with_value(np.nan), "sample 5000 is not finite (nan)"),
        ("a.wav", with_value(-np.inf), "sample 5000 is not finite (-inf)"),
        (
            "a.wav",
            lambda path: write_noise(path, 1),
            f"1 samples of audio are shorter than one frame of {FRAME_SAMPLES}",
        ),
        (
            "a.wav",
            lambda path: soundfile.write(path, np.zeros((RATE_HZ, 8)), RATE_HZ),
            "8 channels; audio.channels=auto accepts one or two; first or mean (--channels) accepts any number",
        ),
    ],
)
def test_audio(
    capsys: Capture, run: Path, tmp_path: Path, name: str, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / name)
    assert transcribe_error(capsys, run, tmp_path / name) == message


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", FORMATS)
def test_truncated(capsys: Capture, run: Path, tmp_path: Path, name: str, share: float) -> None:
    """Half a recording must not pass for a whole one."""
    path = write_noise(tmp_path / name, 3 * RATE_HZ, **FORMATS[name])
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "truncated" in transcribe_error(capsys, run, path)


@pytest.mark.parametrize("name", ["a.ogg", "a.opus"])
def test_ogg_truncated_between_two_pages(capsys: Capture, run: Path, tmp_path: Path, name: str) -> None:
    """Every page that is there is whole, but none is marked as the last."""
    path = write_noise(tmp_path / name, 3 * RATE_HZ, **FORMATS[name])
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"OggS")])
    assert transcribe_error(capsys, run, path) == "truncated: the Ogg stream has no end"


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("a.ogg", b""),
        ("a.opus", b""),
        ("a.mp3", b""),
        ("a.mp3", b"ID3\x04\0\0\0\0\0\x0a" + 10 * b"\0"),
        ("a.mp3", b"TAG" + 125 * b"x"),
        ("a.mp3", bytes(1000)),
    ],
)
def test_joined_files(capsys: Capture, run: Path, tmp_path: Path, name: str, tag: bytes) -> None:
    path = tmp_path / name
    write_noise(path, 2 * RATE_HZ, **FORMATS[name])
    path.write_bytes(path.read_bytes() + tag + path.read_bytes())
    assert "several files joined, of which only the first would be read" in transcribe_error(capsys, run, path)


@pytest.mark.parametrize("name", ["a.mp3", "a.wav"])
@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100])  # MPEG-2.5, MPEG-2 and MPEG-1
def test_mp3_of_a_varying_bit_rate_without_its_length(
    capsys: Capture, run: Path, tmp_path: Path, rate_hz: int, name: str
) -> None:
    path = tmp_path / name
    quiet = np.zeros(4 * rate_hz)
    loud = np.random.default_rng(1).normal(0, 0.2, 4 * rate_hz)
    how = {"format": "MP3", "bitrate_mode": "VARIABLE"}
    soundfile.write(path, np.concatenate([loud, quiet, loud]), rate_hz, **how)
    frames = without_length(path.read_bytes())
    path.write_bytes(frames if name == "a.mp3" else in_wav(frames, rate_hz))
    assert "its bit rate varies and no header states the length" in transcribe_error(capsys, run, path)


@pytest.mark.parametrize("name", ["a.mp3", "a.wav"])
def test_mp3_without_its_length_cut_inside_a_frame(capsys: Capture, run: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    frames = without_length(constant_mp3(path, np.random.default_rng(1).normal(0, 0.2, 3 * RATE_HZ)))[:-100]
    path.write_bytes(frames if name == "a.mp3" else in_wav(frames, RATE_HZ))
    wanted = "truncated: ends inside an MP3 frame or tag, and no header states the length"
    assert transcribe_error(capsys, run, path) == wanted


def test_mp3_with_its_length_cut_between_two_frames_and_tagged(capsys: Capture, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    content = constant_mp3(path, np.random.default_rng(1).normal(0, 0.2, 3 * RATE_HZ))
    path.write_bytes(content[: content.index(content[:3], len(content) // 2)] + b"TAG" + 125 * b"x")
    assert transcribe_error(capsys, run, path).startswith("truncated: header declares 48000 samples, ")


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.opus"])
def test_overwritten_in_the_middle(capsys: Capture, run: Path, tmp_path: Path, name: str) -> None:
    """Formats with checksums; in the others any bytes are samples."""
    path = write_noise(tmp_path / name, **FORMATS[name])
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = bytes(third)
    path.write_bytes(content)
    assert transcribe_error(capsys, run, path).startswith(
        "cannot read audio: damaged, truncated, or in a codec that libsndfile does not read ("
    )


@pytest.mark.parametrize("name", ["a.ogg", "a.opus"])
def test_ogg_with_a_damaged_page(capsys: Capture, run: Path, tmp_path: Path, name: str) -> None:
    """libsndfile leaves the page out, and of what is read in blocks each would move up by itself."""
    path = write_noise(tmp_path / name, 20 * RATE_HZ, **FORMATS[name])
    content = bytearray(path.read_bytes())
    place = content.index(b"OggS", len(content) // 2)
    content[place + 200] ^= 1
    path.write_bytes(content)
    wanted = f"damaged: the Ogg page at byte {place} does not fit its checksum"
    assert transcribe_error(capsys, run, path) == wanted


def test_wav_in_another_codec(capsys: Capture, run: Path, tmp_path: Path) -> None:
    path = write_noise(tmp_path / "a.wav")
    content = bytearray(path.read_bytes())
    content[20:22] = struct.pack("<H", 0x028F)  # G.722
    path.write_bytes(content)
    wanted = "cannot read audio: damaged, truncated, or in a codec that libsndfile does not read ("
    assert transcribe_error(capsys, run, path).startswith(wanted)


def sphere(path: Path, old: bytes, new: bytes) -> Path:
    """A SPHERE file of one second with a change in its header, which keeps its length."""
    content = write_noise(path, format="NIST").read_bytes()
    assert old in content[:1024]
    path.write_bytes(content[:1024].replace(old, new).ljust(1024)[:1024] + content[1024:])
    return path


def test_sphere_in_shorten(capsys: Capture, run: Path, tmp_path: Path) -> None:
    path = sphere(tmp_path / "a.sph", b"sample_coding -s3 pcm\n", b"sample_coding -s26 pcm,embedded-shorten-v2.00\n")
    wanted = "cannot read audio: sample_coding is pcm,embedded-shorten-v2.00, which libsndfile does not read"
    assert transcribe_error(capsys, run, path).startswith(wanted)


def test_truncated_sphere_that_mentions_shorten(capsys: Capture, run: Path, tmp_path: Path) -> None:
    path = sphere(tmp_path / "a.sph", b"end_head\n", b"database_id -s26 pcm,embedded-shorten-v2.00\nend_head\n")
    path.write_bytes(path.read_bytes()[:20000])
    wanted = "truncated: header declares 32000 bytes of samples, the file holds 18976"
    assert transcribe_error(capsys, run, path) == wanted


def long_sphere(path: Path, header_bytes: int, coding: bytes = b"-s3 pcm") -> Path:
    """A SPHERE file of one second whose header says so, with what counts behind a long comment if there is room."""
    content = write_noise(path, format="NIST").read_bytes()
    first, rest = content[:1024].replace(b"   1024", b"%7d" % header_bytes).split(b"sample_coding -s3 pcm\n")
    header = first + b"note -s1100 " + 1100 * b"x" + b"\nsample_coding " + coding + b"\n" + rest.rstrip(b"\0")
    path.write_bytes(header.ljust(header_bytes, b"\0") + content[1024:])
    return path


def test_sphere_with_a_long_header(capsys: Capture, run: Path, tmp_path: Path) -> None:
    path = long_sphere(tmp_path / "a.sph", 2048, b"-s26 pcm,embedded-shorten-v2.00")
    assert "sample_coding is pcm,embedded-shorten-v2.00" in transcribe_error(capsys, run, path)
    path.write_bytes(long_sphere(path, 3072).read_bytes()[:-1000])
    wanted = "truncated: header declares 32000 bytes of samples, the file holds 31000"
    assert transcribe_error(capsys, run, path) == wanted
    content = path.read_bytes()
    for size in (b"    512", b"9999999", b"    abc"):
        path.write_bytes(content.replace(b"   3072", size))
        wanted = f"cannot read audio: a SPHERE header of {size.decode().strip()} bytes, wanted 1024 to 1048576"
        assert transcribe_error(capsys, run, path) == wanted


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable(capsys: Capture, run: Path, tmp_path: Path) -> None:
    path = write_noise(tmp_path / "a.wav")
    path.chmod(0)
    assert transcribe_error(capsys, run, path) == "cannot read audio: Permission denied"


def test_folder_without_audio(capsys: Capture, run: Path, tmp_path: Path) -> None:
    assert transcribe_error(capsys, run, tmp_path).startswith("no audio file in this folder (looked for .wav, ")


def test_name_with_a_line_break(capsys: Capture, run: Path, tmp_path: Path) -> None:
    """The name is cut so that the line stays one line."""
    line = error_line(capsys, "transcribe", tmp_path / "a\nb.wav", "--model", run)
    assert line == f"error: {tmp_path}/a b.wav: cannot read audio: No such file or directory"


# --- headers that promise too much ------------------------------------------------------------------------------------


@contextmanager
def memory_limit(extra_bytes: int) -> Iterator[None]:
    """No more address space than is taken now and `extra_bytes`: what goes beyond is a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + extra_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def huge_wav(content: bytearray) -> None:
    content[4:8] = content[40:44] = struct.pack("<I", 0xFFFF0000)


def huge_w64(content: bytearray) -> None:
    content[16:24] = struct.pack("<Q", 1 << 42)
    size = content.index(b"data") + 16
    content[size : size + 8] = struct.pack("<Q", 1 << 42)


def huge_rf64(content: bytearray) -> None:
    sizes = content.index(b"ds64") + 8
    content[sizes : sizes + 24] = struct.pack("<QQQ", 1 << 42, 1 << 42, 1 << 41)


def huge_sphere(content: bytearray) -> None:
    header = content[:1024].replace(b"sample_count -i 16000", b"sample_count -i 1099511627776")
    content[:1024] = header[:1024]


def flac_frames(frames: int) -> Callable[[bytearray], None]:
    """STREAMINFO keeps the number of samples in the last 36 bits of bytes 18 to 25."""

    def change(content: bytearray) -> None:
        facts = int.from_bytes(content[18:26], "big")
        content[18:26] = (facts >> 36 << 36 | frames).to_bytes(8, "big")

    return change


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the size of the process from /proc")
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("a.wav", huge_wav, "truncated: header declares 4294901760 bytes, the file holds 32036"),
        ("a.w64", huge_w64, "truncated: header declares 4398046511104 bytes, the file holds 32104"),
        ("rf64.wav", huge_rf64, "truncated: header declares 4398046511104 bytes, the file holds 32096"),
        ("a.sph", huge_sphere, "truncated: header declares 2199023255552 bytes of samples, the file holds 32000"),
        ("a.flac", flac_frames(2**36 - 1), "4294967.3 s of audio, wanted at most 86400 s"),
        (
            "a.flac",
            flac_frames(3600 * RATE_HZ),
            "cannot read audio: damaged, truncated, or in a codec that libsndfile does not read (",
        ),
        ("a.flac", flac_frames(0), "header does not state the length (encoded to a pipe?); encode the file again"),
    ],
)
def test_huge_header(
    capsys: Capture, run: Path, tmp_path: Path, name: str, change: Callable[[bytearray], None], message: str
) -> None:
    path = write_noise(tmp_path / name, **FORMATS[name])
    assert main(["transcribe", str(path), "--model", str(run)]) == 0  # all that is loaded once is loaded now
    capsys.readouterr()
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)
    with memory_limit(200_000_000):
        assert transcribe_error(capsys, run, path).startswith(message)


def test_header_that_promises_an_hour_takes_no_hour(capsys: Capture, run: Path, tmp_path: Path) -> None:
    path = write_noise(tmp_path / "a.flac")
    content = bytearray(path.read_bytes())
    flac_frames(3600 * RATE_HZ)(content)
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "truncated" in transcribe_error(capsys, run, path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB; an hour is 230 MB


# --- many files -------------------------------------------------------------------------------------------------------


def test_the_good_files_of_a_batch_are_transcribed(capsys: Capture, run: Path, tmp_path: Path) -> None:
    good = [write_noise(tmp_path / f"{number}.wav", RATE_HZ + 1000 * number) for number in range(3)]
    (tmp_path / "empty.wav").touch()
    as_text(tmp_path / "text.wav")
    paths = [tmp_path / "none.wav", good[2], tmp_path / "empty.wav", good[0], tmp_path / "text.wav", good[1]]
    assert main(["transcribe", *map(str, paths), "--model", str(run)]) == 1
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == [str(path) for path in (good[2], good[0], good[1])]
    assert [line.split(": ")[:2] for line in err.splitlines()] == [
        ["error", str(path)] for path in (paths[0], paths[2], paths[4])
    ]


def test_no_good_file_in_a_batch(capsys: Capture, run: Path, tmp_path: Path) -> None:
    assert main(["transcribe", str(tmp_path / "1.wav"), str(tmp_path / "2.wav"), "--model", str(run)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 2
