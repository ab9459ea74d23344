"""Atomic writes: whole or absent."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from asr.errors import ConfigError
from asr.files import atomic_path, remove_temporary, require_folder, write_text_atomic
from conftest import ROOT


def test_writes_text_as_utf8_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "a.txt"
    write_text_atomic(path, "zwölf\u2028小\n")
    assert path.read_bytes() == "zwölf\u2028小\n".encode()
    assert os.listdir(path.parent) == ["a.txt"]


def test_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for text in ("long and old", "new"):
        write_text_atomic(path, text)
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.bin"
    path.write_text("old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_the_old_file_stands_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent  # a rename from another file system would be a copy
    assert path.read_text() == "new"


def test_contents_are_on_disk_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    fsync, move = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noted_move(self: Path, target: Path) -> Path:
        steps.append("rename")
        return move(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_move)
    write_text_atomic(tmp_path / "a.txt", "text")
    assert steps == ["file", "rename", "folder"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text_atomic(tmp_path / "a.txt", "text")
        assert os.umask(0o027) == 0o027  # left as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_errors_name_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: like that, it fails a write that names no file."""
    program = (
        "import resource, sys; from pathlib import Path; from asr.files import write_text_atomic\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    write_text_atomic(Path(sys.argv[1]), 2000 * 'x')\n"
        "except OSError as error:\n    print(error)"
    )
    path = tmp_path / "a.txt"
    done = subprocess.run([sys.executable, "-c", program, path], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == (f"[Errno 27] File too large: '{path}'\n", "")
    assert os.listdir(tmp_path) == []
    long = tmp_path / (256 * "n")
    with pytest.raises(OSError, match="File name too long") as raised:
        write_text_atomic(long, "text")
    assert raised.value.filename == str(long)


@pytest.mark.parametrize("name", [255 * "n", 127 * "ü", 63 * "𝄞"])
def test_any_name_that_a_file_can_have(tmp_path: Path, name: str) -> None:
    write_text_atomic(tmp_path / name, "text")
    assert os.listdir(tmp_path) == [name]


def test_temporary_files_that_were_left_are_removed(tmp_path: Path) -> None:
    with atomic_path(tmp_path / (200 * "n")) as temporary:
        left = temporary.with_name(temporary.name.replace(".tmp", "x.tmp"))
        left.touch()
    remove_temporary(tmp_path)
    assert os.listdir(tmp_path) == [200 * "n"]


def test_errors_of_other_files_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, atomic_path(tmp_path / "a.txt"):
        (tmp_path / "source").read_text()
    assert raised.value.filename == str(tmp_path / "source")
    with pytest.raises(ConnectionResetError) as reset, atomic_path(tmp_path / "a.txt"):
        raise ConnectionResetError(104, "Connection reset by peer")
    assert reset.value.filename is None


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    require_folder(tmp_path)
    require_folder(tmp_path / "new" / "newer")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file: is a file, wanted a folder$"):
        require_folder(tmp_path / "file")
    with pytest.raises(ConfigError, match=r"file: is a file, wanted a folder for .*file/new/newer$"):
        require_folder(tmp_path / "file" / "new" / "newer")
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    with pytest.raises(ConfigError, match=r"link: is a link to nothing, wanted a folder$"):
        require_folder(tmp_path / "link")
