"""Where transcripts are written, and what is there already."""

import os
from pathlib import Path

import pytest

from asr.decode import Word
from asr.errors import ConfigError
from asr.writers import (
    FORMATS,
    SUFFIXES,
    Format,
    destination,
    destinations,
    exists_already,
    render,
    write_transcript,
)
from recognised import transcript


def test_destination() -> None:
    source = Path("calls/2024/talk.v2.WAV")
    assert destination(source, "srt") == Path("calls/2024/talk.v2.srt")
    assert destination(source, "textgrid", out=Path("out")) == Path("out/talk.v2.TextGrid")
    assert destination(source, "srt", out=Path("out"), root=Path("calls")) == Path("out/2024/talk.v2.srt")
    assert destination(source, "srt", out=Path("out"), root=Path(".")) == Path("out/calls/2024/talk.v2.srt")


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
    sources = [Path("a/one.wav"), Path("a/sub/one.wav"), Path("b/two.wav")]
    wanted = [Path("out/one.txt"), Path("out/sub/one.txt"), Path("out/two.txt")]
    out = Path("out")
    assert destinations(sources, "txt", out=out, given=["a", "b/two.wav"]) == wanted
    # The outermost folder counts, also when a file or an inner one is named as well, or the way to it is another.
    assert destinations(sources, "txt", out=out, given=["a/sub", "a/one.wav", "a", "b/two.wav"]) == wanted
    assert destinations(sources, "txt", out=out, given=["b/../a", tree / "a"]) == wanted
    assert destinations(sources[:2], "txt", out=out, given=["."]) == [Path("out/a/one.txt"), Path("out/a/sub/one.txt")]


def test_nothing_is_written_outside_out(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "a")
    sources = [Path("one.wav"), Path("../b/two.wav")]
    assert destinations(sources, "txt", out=Path("out"), given=[".", "../b"]) == [
        Path("out/one.txt"),
        Path("out/two.txt"),
    ]


def test_two_sources_with_one_destination_are_an_error_that_names_both(tree: Path) -> None:
    with pytest.raises(ConfigError, match=r"^a/one\.wav and b/one\.wav would both be written to out/one\.srt: "):
        destinations([Path("a/one.wav"), Path("b/one.wav")], "srt", out=Path("out"), given=["a", "b"])
    with pytest.raises(ConfigError, match=r"^b/two\.wav and b/two\.flac would both be written to b/two\.srt: "):
        destinations([Path("b/two.wav"), Path("b/two.flac")], "srt", given=["b"])
    # The same file twice is no collision.
    assert len(destinations([Path("b/two.wav"), tree / "b/two.wav"], "srt", out=Path("out"), given=["b"])) == 2


def test_a_recording_is_never_overwritten(tree: Path) -> None:
    sources = [Path("b/two.wav"), Path("b/two.txt")]  # audio by content, perhaps
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
    assert path.read_bytes() == render(made, format).encode("utf-8")
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_is_no_transcript_that_exists(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not a file, but a transcript would be written there$"):
        exists_already(tmp_path)
    with pytest.raises(OSError, match="not a regular file"):
        write_transcript(transcript([], 1.0), tmp_path, "txt")
