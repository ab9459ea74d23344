"""Where transcripts are written, and what is there already."""

import os
from pathlib import Path

import pytest

from asr.decode import Word
from asr.destinations import destinations
from asr.errors import ConfigError
from asr.files import exists_already
from asr.sources import Recording
from asr.writers import FORMATS, SUFFIXES, Format, render, write_transcript
from recognised import transcript


def named(*paths: Path | str) -> list[Recording]:
    return [Recording(str(path), Path(path)) for path in paths]


def test_the_suffix_is_that_of_the_format() -> None:
    recordings = named("calls/2024/talk.v2.WAV")
    assert destinations(recordings, "srt") == [Path("calls/2024/talk.v2.srt")]
    assert destinations(recordings, "textgrid", out=Path("out")) == [Path("out/talk.v2.TextGrid")]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders with recordings of equal names, from inside one of them."""
    for name in ("a/one.wav", "a/sub/one.wav", "b/one.wav", "b/two.wav", "b/two.flac"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folders_below_what_was_given_are_kept(tree: Path) -> None:
    sources = named("a/one.wav", "a/sub/one.wav", "b/two.wav")
    wanted = [Path("out/one.txt"), Path("out/sub/one.txt"), Path("out/two.txt")]
    out = Path("out")
    assert destinations(sources, "txt", out=out, given=["a", "b/two.wav"]) == wanted
    # The outermost folder counts, also when a file or an inner one is named as well, or the way to it is another.
    assert destinations(sources, "txt", out=out, given=["a/sub", "a/one.wav", "a", "b/two.wav"]) == wanted
    assert destinations(sources, "txt", out=out, given=["b/../a", str(tree / "a")]) == wanted
    assert destinations(sources[:2], "txt", out=out, given=["."]) == [Path("out/a/one.txt"), Path("out/a/sub/one.txt")]


def test_nothing_is_written_outside_out(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "a")
    sources = named("one.wav", "../b/two.wav")
    assert destinations(sources, "txt", out=Path("out"), given=[".", "../b"]) == [
        Path("out/one.txt"),
        Path("out/two.txt"),
    ]


def test_two_sources_with_one_destination_are_an_error_that_names_both(tree: Path) -> None:
    with pytest.raises(ConfigError, match=r"^a/one\.wav and b/one\.wav would both be written to out/one\.srt: "):
        destinations(named("a/one.wav", "b/one.wav"), "srt", out=Path("out"), given=["a", "b"])
    with pytest.raises(ConfigError, match=r"^b/two\.wav and b/two\.flac would both be written to b/two\.srt: "):
        destinations(named("b/two.wav", "b/two.flac"), "srt", given=["b"])
    # The same file twice is no collision.
    assert len(destinations(named("b/two.wav", tree / "b/two.wav"), "srt", out=Path("out"), given=["b"])) == 2


def test_a_recording_is_never_overwritten(tree: Path) -> None:
    sources = named("b/two.wav", "b/two.txt")  # audio by content, perhaps
    with pytest.raises(
        ConfigError, match=r"^b/two\.wav: its transcript b/two\.txt would overwrite the recording b/two\.txt$"
    ):
        destinations(sources, "txt")


@pytest.mark.parametrize("format", FORMATS)
def test_files_are_written_whole_as_utf8(tmp_path: Path, format: Format) -> None:
    made = transcript([Word("größer", 0.0, 0.5, 1.0), Word("小", 0.5, 0.9, 1.0)], 1.0)
    path = tmp_path / "new" / f"talk{SUFFIXES[format]}"
    assert not exists_already(path)
    write_transcript(made, path, format)
    assert exists_already(path)
    assert path.read_bytes() == render(made, format, path.parent).encode("utf-8")
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_is_no_file_that_exists(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not a file, but one would be written there$"):
        exists_already(tmp_path)
    with pytest.raises(OSError, match="not a regular file"):
        write_transcript(transcript([], 1.0), tmp_path, "txt")
