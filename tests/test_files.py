"""Atomic writes: whole or absent."""

import os
import stat
from pathlib import Path

import pytest

from asr.files import atomic_path, write_text_atomic


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
