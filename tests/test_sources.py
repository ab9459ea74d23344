"""What the arguments of `asr transcribe` name: files, folders, patterns, manifests, lists and standard input."""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
import pytest
import soundfile

from asr.errors import AudioError, ManifestError
from asr.sources import Recording, find_audio, find_recordings, searched
from tiny_run import RATE_HZ, write_noise


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of empty files, in which the command is started."""
    for name in ("b.wav", "a/z.FLAC", "a/b/c.mp3", "a.txt", "a/notes.wav.txt", "ü ñ.ogg", "a.sph"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path / "in")
    return tmp_path / "in"


def found(*arguments: str, stdin: bytes = b"") -> list[str]:
    recordings, _ = find_recordings(arguments, io.BytesIO(stdin))
    return [recording.name for recording in recordings]


# --- files, folders and patterns --------------------------------------------------------------------------------------


def test_files_and_folders(tree: Path) -> None:
    """A file that is named counts, whatever its suffix, and one that is missing is found out later."""
    recordings, others = find_recordings(["none.wav", str(tree), "a.txt"], io.BytesIO())
    names = [recording.name for recording in recordings]
    inside = [os.path.relpath(name, tree) for name in names[1:-1]]
    assert inside == ["a/b/c.mp3", "a/z.FLAC", "a.sph", "b.wav", "ü ñ.ogg"]
    assert (names[0], names[-1]) == ("none.wav", "a.txt")
    assert recordings[0] == Recording("none.wav", Path("none.wav"))
    assert not recordings[0].is_segment
    assert [path.name for path in others] == ["notes.wav.txt", "a.txt"]


def test_find_audio_takes_paths(tree: Path) -> None:
    assert find_audio([tree / "a", "b.wav"])[0] == [tree / "a/b/c.mp3", tree / "a/z.FLAC", Path("b.wav")]


def test_links_to_folders_are_followed_and_each_folder_once(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "d.wav").touch()
    (tmp_path / "far" / "back").symlink_to(tree)
    (tree / "a" / "_up").symlink_to(tree)
    (tree / "_linked").symlink_to(tmp_path / "far")
    (tree / "_same").symlink_to(tree / "a")
    assert found(".") == ["_linked/d.wav", "a/b/c.mp3", "a/z.FLAC", "a.sph", "b.wav", "ü ñ.ogg"]


def test_notes_of_macos_are_no_audio(tree: Path) -> None:
    (tree / "a" / "._z.FLAC").touch()
    recordings, others = find_recordings(["a"], None)
    assert [recording.name for recording in recordings] == ["a/b/c.mp3", "a/z.FLAC"]
    assert Path("a/._z.FLAC") in others


def test_folder_without_audio(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(AudioError, match=rf"{tmp_path}: no audio file in this folder \(looked for .wav, .flac"):
        found(str(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_folder_that_cannot_be_read(tree: Path) -> None:
    (tree / "a/b").chmod(0)
    try:
        with pytest.raises(AudioError, match=r"a/b: cannot read folder: Permission denied"):
            found("a")
    finally:
        (tree / "a/b").chmod(0o755)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.wav", ["b.wav"]),
        ("a/*", ["a/b/c.mp3", "a/notes.wav.txt", "a/z.FLAC"]),  # a folder in the middle is searched
        ("**/*.[mF]*", ["a/b/c.mp3", "a/z.FLAC"]),
        ("a/**", ["a/b/c.mp3", "a/z.FLAC", "a/notes.wav.txt"]),  # folders and their files, each file once
        ("? ?.ogg", ["ü ñ.ogg"]),
    ],
)
def test_patterns(tree: Path, pattern: str, names: list[str]) -> None:
    assert found(pattern) == names


def test_many_files_that_a_pattern_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work grows with their number, not with its square."""
    for name in (f"{number}.{suffix}" for number in range(200) for suffix in ("wav", "txt")):
        (tmp_path / name).touch()
    compared = []
    plain = PurePath.__hash__
    monkeypatch.setattr(PurePath, "__hash__", lambda path: compared.append(path) or plain(path))
    assert len(found(f"{tmp_path}/**")) == 400
    assert 400 < len(compared) < 4000


def test_pattern_that_matches_nothing(tree: Path) -> None:
    with pytest.raises(AudioError, match=r"^\*\.aiff: no file matches this pattern$"):
        found("*.aiff")


def test_a_file_whose_name_looks_like_a_pattern(tree: Path) -> None:
    (tree / "[b].wav").touch()
    assert found("[b].wav") == ["[b].wav"]
    assert found("[a-b].wav") == ["b.wav"]


def test_a_file_that_is_named_twice_is_meant_twice(tree: Path) -> None:
    assert found("b.wav", "b.wav") == ["b.wav", "b.wav"]


@pytest.mark.parametrize(
    ("argument", "folder"),
    [("calls", "calls"), ("calls/*.wav", "calls"), ("calls/**/x/*.wav", "calls"), ("*.wav", "."), ("/x/?/y", "/x")],
)
def test_searched_folder(argument: str, folder: str) -> None:
    assert searched(argument) == Path(folder)


# --- manifests --------------------------------------------------------------------------------------------------------


def write_records(path: Path, *records: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_manifest(tmp_path: Path) -> None:
    """Texts are not wanted, and paths are relative to the manifest."""
    manifest = write_records(
        tmp_path / "m.jsonl",
        {"audio_filepath": "a.wav", "duration": 1.0, "text": "abc", "id": "u1"},
        {"audio_filepath": "a.wav", "duration": 2.0, "offset": 1.5},
        {"audio_filepath": "/b.wav", "duration": 3.0, "text": ""},
    )
    (tmp_path / "a.wav").touch()  # one that is missing is found out later
    recordings, others = find_recordings([str(manifest)], io.BytesIO())
    assert recordings == [
        Recording("u1", tmp_path / "a.wav", 0.0, 1.0),
        Recording(recordings[1].name, tmp_path / "a.wav", 1.5, 2.0),
        Recording("b", Path("/b.wav"), 0.0, 3.0),
    ]
    assert recordings[1].name.startswith("a")
    assert all(recording.is_segment for recording in recordings)
    assert others == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read manifest: No such file"),
        ("", "manifest holds no utterance"),
        ("{}\n", "m.jsonl:1: key 'audio_filepath' is missing"),
        ('{"audio_filepath": "a.wav"}\n', "m.jsonl:1: key 'duration' is missing"),
    ],
)
def test_manifest_that_cannot_be_used(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "m.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ManifestError, match=message):
        found(str(path))


# --- standard input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.wav", {}),
        ("a.wav", {"format": "RF64"}),
        ("a.flac", {}),
        ("a.ogg", {"subtype": "VORBIS"}),
        ("a.mp3", {}),
        ("a.sph", {"format": "NIST"}),
        ("a.aiff", {}),
        ("a.au", {}),
        ("a.w64", {}),
        ("a.caf", {}),
        ("a.voc", {}),
        ("a.wav", {"endian": "BIG"}),
    ],
)
def test_audio(tmp_path: Path, name: str, how: dict[str, str]) -> None:
    content = write_noise(tmp_path / name, **how).read_bytes()
    assert find_recordings(["-"], io.BytesIO(content))[0] == [Recording("standard input", content)]


@pytest.mark.parametrize("rate_hz", [8000, 11025, 44100])  # MPEG 2 and 2.5 begin in another way
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_of_any_kind(tmp_path: Path, rate_hz: int, channels: int) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, 0.1 * np.random.default_rng(1).standard_normal((rate_hz, channels)), rate_hz)
    content = path.read_bytes()
    assert found("-", stdin=content) == ["standard input"]


def lines(*names: str, end: str = "\n") -> bytes:
    return "".join(f"{name}{end}" for name in names).encode()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_list(tree: Path, end: str) -> None:
    """Files, folders, patterns and manifests, one a line."""
    write_records(tree / "m.jsonl", {"audio_filepath": "b.wav", "duration": 1.0, "id": "u1"})
    listed = lines("b.wav", "", "a", "*.ogg", "m.jsonl", "a b.wav", end=end)
    wanted = ["b.wav", "a/b/c.mp3", "a/z.FLAC", "ü ñ.ogg", "u1", "a b.wav"]
    assert found("-", stdin=listed) == wanted
    assert found("-", stdin=listed.rstrip()) == wanted
    assert found("a.sph", "-", "none.wav", stdin=lines("b.wav")) == ["a.sph", "b.wav", "none.wav"]


def test_list_of_a_file_called_as_audio_begins(tree: Path) -> None:
    (tree / "FORM-1.wav").touch()
    assert found("-", stdin=lines("FORM-1.wav", "b.wav")) == ["FORM-1.wav", "b.wav"]
    assert found("-", stdin=lines("FORM-1.wav", "b.wav", end="\r\n")) == ["FORM-1.wav", "b.wav"]


def test_list_of_names_that_are_no_text(tree: Path) -> None:
    assert found("-", stdin=b"caf\xe9.wav\n") == [os.fsdecode(b"caf\xe9.wav")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "standard input: neither audio nor a list of paths"),
        (b"\n \n", "standard input: neither audio nor a list of paths"),
        (b"a.wav\n-\n", "standard input: the list names standard input itself"),
        (b"a.wav\0b.wav\0", "standard input: byte 5 is null: neither audio in a known container nor a list of paths"),
        (bytes(1000), "standard input: byte 0 is null"),
        (b"*.none\n", r"\*.none: no file matches this pattern"),
    ],
)
def test_standard_input_that_cannot_be_used(tree: Path, content: bytes, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        found("-", stdin=content)


def test_standard_input_that_is_closed() -> None:
    with pytest.raises(AudioError, match="standard input: is closed"):
        find_recordings(["-"], None)
    assert find_recordings(["a.wav"], None)[0] == [Recording("a.wav", Path("a.wav"))]


def test_standard_input_is_read_only_when_it_is_named() -> None:
    stdin = io.BytesIO(b"a.wav")
    find_recordings(["b.wav"], stdin)
    assert stdin.tell() == 0


def test_more_audio_than_can_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.sources._MAX_BYTES", 20)
    with pytest.raises(AudioError, match="standard input: more than 20 bytes of audio"):
        found("-", stdin=b"RIFF" + bytes(RATE_HZ))


def test_audio_that_comes_in_pieces(tmp_path: Path) -> None:
    """A pipe gives what there is; a buffered reader waits for what was asked for."""
    content = write_noise(tmp_path / "a.wav").read_bytes()

    class Pipe(io.RawIOBase):
        """Gives three bytes, then ever more."""

        def __init__(self, parts: Sequence[bytes]) -> None:
            self.parts = [*parts]

        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
            part = self.parts.pop(0) if self.parts else b""
            taken = part[: len(buffer)]
            if part[len(taken) :]:
                self.parts.insert(0, part[len(taken) :])
            buffer[: len(taken)] = taken
            return len(taken)

    [recording] = find_recordings(["-"], io.BufferedReader(Pipe([content[:3], content[3:9], content[9:]])))[0]
    assert recording.audio == content
