"""Archives, good ones and ones made to misbehave."""

import errno
import gzip
import io
import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.corpora.unpack import is_unpacked, unpack
from asr.errors import CorpusError
from asr.process.lock import locked

FILES = {"top/a.txt": b"first", "top/sub/b.bin": os.urandom(3000), "top/empty": b""}


def tar_member(name: str, content: bytes = b"", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for attribute, value in attributes.items():
        setattr(member, attribute, value)
    return member, content


def make_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return path


def make_zip(path: Path, files: dict[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as package:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            package.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


def good_tar(path: Path, mode: str = "w") -> Path:
    members = [tar_member("top", type=tarfile.DIRTYPE)]
    return make_tar(path, members + [tar_member(name, content) for name, content in FILES.items()], mode)


def refused(archive: Path, folder: Path, message: str) -> None:
    """Unpacking fails with this message and leaves nothing behind but its lock."""
    before = set(archive.parent.rglob("*"))
    with pytest.raises(CorpusError, match=message) as caught:
        unpack(archive, folder)
    assert archive.name in str(caught.value)
    assert set(archive.parent.rglob("*")) - before <= {folder.parent, folder.parent / ".lock"}


@pytest.mark.parametrize(
    "make",
    [
        lambda path: good_tar(path),
        lambda path: good_tar(path, "w:gz"),
        lambda path: good_tar(path, "w:bz2"),
        lambda path: good_tar(path, "w:xz"),
        lambda path: make_zip(path, FILES),
    ],
    ids=["tar", "gz", "bz2", "xz", "zip"],
)
def test_unpack(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    archive = make(tmp_path / "no-suffix")  # the content tells the kind
    folder = unpack(archive, tmp_path / "out" / "corpus")
    for name, content in FILES.items():
        assert (folder / name).read_bytes() == content
    assert is_unpacked(folder)
    assert {path.name for path in folder.parent.iterdir()} == {"corpus", ".lock"}


def test_modes_of_the_archive_are_not_kept(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", [tar_member("run", b"#!/bin/sh", mode=0o4777)])
    unpack(archive, tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out" / "run").stat().st_mode) & 0o6111 == 0


def test_unpack_skips_what_is_complete(tmp_path: Path) -> None:
    archive = good_tar(tmp_path / "a.tar")
    folder = unpack(archive, tmp_path / "out")
    (folder / "top" / "a.txt").write_bytes(b"mark")
    unpack(archive, folder)
    assert (folder / "top" / "a.txt").read_bytes() == b"mark"


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    archive = good_tar(tmp_path / "a.tar")
    script = (
        "import os, pathlib, sys\n"
        "from asr.corpora import unpack\n"
        "unpack._Writer.add = lambda *_: os._exit(9)\n"
        "unpack.unpack(*map(pathlib.Path, sys.argv[1:]))\n"
    )
    folder = tmp_path / "out" / "corpus"
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", script, archive, folder], check=False).returncode == 9
    assert {path.name for path in folder.parent.iterdir()} == {".corpus.unfinished", ".lock"}
    unpack(archive, folder)
    assert {path.name for path in folder.parent.iterdir()} == {"corpus", ".lock"}


def test_a_full_disk_is_what_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Path.mkdir

    def full(path: Path, **how: bool) -> None:
        if path.name == "content":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(path, **how)

    archive = good_tar(tmp_path / "a.tar")
    monkeypatch.setattr(Path, "mkdir", full)
    refused(archive, tmp_path / "out" / "corpus", "cannot unpack: .*No space left on device")


def test_two_at_once(tmp_path: Path) -> None:
    archive = good_tar(tmp_path / "a.tar")
    with (
        locked(tmp_path / "out"),
        pytest.raises(CorpusError, match="another process is unpacking an archive beside it"),
    ):
        unpack(archive, tmp_path / "out" / "corpus")
    assert is_unpacked(unpack(archive, tmp_path / "out" / "corpus"))


def test_unpack_does_not_touch_a_folder_that_is_something_else(tmp_path: Path) -> None:
    archive = good_tar(tmp_path / "a.tar")
    mine = tmp_path / "mine"
    mine.mkdir()
    with pytest.raises(CorpusError, match="was not unpacked from"):
        unpack(archive, mine)
    assert list(mine.iterdir()) == []


def test_an_archive_that_has_changed_is_unpacked_anew(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", [tar_member("old", b"x"), tar_member("text", b"first")])
    folder = unpack(archive, tmp_path / "out")
    size = archive.stat().st_size
    make_tar(archive, [tar_member("new", b"x"), tar_member("text", b"other")])
    os.utime(archive, ns=(1, 1))  # whatever the clock's resolution
    assert archive.stat().st_size == size
    unpack(archive, folder)
    assert (folder / "text").read_bytes() == b"other"
    (folder / "mine").touch()
    os.utime(archive, ns=(2, 2))  # touched, or copied: the same archive
    unpack(archive, folder)
    assert (folder / "mine").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar", "out", ".lock"}
    assert not (folder / "old").exists()
    archive.write_bytes(b"damaged")
    with pytest.raises(CorpusError, match="no tar or zip archive"):
        unpack(archive, folder)
    assert (folder / "text").read_bytes() == b"other"


@pytest.mark.parametrize("name", ["../escape", "top/../../escape", "/tmp/escape", "C:\\escape", "..\\escape"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_paths_that_escape(tmp_path: Path, kind: str, name: str) -> None:
    archive = tmp_path / f"bad.{kind}"
    if kind == "tar":
        make_tar(archive, [tar_member("good", b"x"), tar_member(name, b"x")])
    else:
        make_zip(archive, {"good": b"x", name: b"x"})
    refused(archive, tmp_path / "out" / "corpus", "escape' is not a path inside")
    assert not (tmp_path / "escape").exists()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (tarfile.SYMTYPE, "member 'door' is a link to '/etc'"),
        (tarfile.LNKTYPE, "member 'door' is a link to '/etc'"),
        (tarfile.FIFOTYPE, "member 'door' is a special file"),
        (tarfile.CHRTYPE, "member 'door' is a special file"),
    ],
)
def test_links_and_devices(tmp_path: Path, kind: bytes, message: str) -> None:
    door = tar_member("door", type=kind, linkname="/etc")
    archive = make_tar(tmp_path / "bad.tar", [door, tar_member("door/passwd", b"x")])
    refused(archive, tmp_path / "out" / "corpus", message)


def test_link_in_a_zip(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "bad.zip", {"door": b"/etc"}, stat.S_IFLNK | 0o777)
    refused(archive, tmp_path / "out" / "corpus", "member 'door' is a link")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_truncated_tar(tmp_path: Path, mode: str, share: float) -> None:
    content = os.urandom(20_000)
    archive = make_tar(tmp_path / "cut", [tar_member(f"file{index}", content) for index in range(5)], mode)
    whole = archive.read_bytes().rstrip(b"\0")  # the zero blocks of a plain tar are padding
    archive.write_bytes(whole[: int(len(whole) * share)])
    refused(archive, tmp_path / "out" / "corpus", "truncated")


def test_tar_cut_between_two_members(tmp_path: Path) -> None:
    # tarfile alone takes this for a complete archive of one file.
    archive = make_tar(tmp_path / "cut", [tar_member("first", b"x" * 512), tar_member("second", b"y" * 512)])
    archive.write_bytes(archive.read_bytes()[:1024])
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["first"]
    refused(archive, tmp_path / "out" / "corpus", "truncated")


def test_tar_with_a_damaged_header_in_the_middle(tmp_path: Path) -> None:
    # tarfile alone stops without a word before the second file.
    archive = make_tar(tmp_path / "damaged", [tar_member(name, b"x" * 512) for name in ("first", "second", "third")])
    data = bytearray(archive.read_bytes())
    data[1024] ^= 1
    archive.write_bytes(data)
    refused(archive, tmp_path / "out" / "corpus", "damaged")


def test_gzip_checksum_is_compared(tmp_path: Path) -> None:
    archive = good_tar(tmp_path / "damaged", "w:gz")
    data = bytearray(archive.read_bytes())
    data[-8] ^= 1  # the CRC-32 stands in the trailer, after everything that tarfile reads
    archive.write_bytes(data)
    refused(archive, tmp_path / "out" / "corpus", "CRC check failed")


def test_zip_with_a_damaged_name(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "bad.zip", {"\u00e9.txt": b"x"})
    archive.write_bytes(archive.read_bytes().replace("\u00e9".encode(), b"\xff\xff", 1))
    refused(archive, tmp_path / "out" / "corpus", "truncated, damaged or no tar or zip archive")


@pytest.mark.parametrize(
    ("raw", "name"), [("\u00e9".encode(), "\u00e9"), ("e\u0301".encode(), "e\u0301"), (b"\x82!", "\u00e9!")]
)
def test_zip_that_does_not_say_how_names_are_written(tmp_path: Path, raw: bytes, name: str) -> None:
    stand_in = "?" * len(raw)
    archive = make_zip(tmp_path / "mac.zip", {f"{stand_in}/{stand_in}.txt": b"first"})
    archive.write_bytes(archive.read_bytes().replace(stand_in.encode(), raw))
    assert (unpack(archive, tmp_path / "out") / name / f"{name}.txt").read_bytes() == b"first"


def test_truncated_zip(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "cut.zip", FILES)
    archive.write_bytes(archive.read_bytes()[:-30])
    refused(archive, tmp_path / "out" / "corpus", "truncated")


@pytest.mark.parametrize(
    "content",
    [b"", b"not an archive at all", gzip.compress(b"nor is this", mtime=0)],
    ids=["empty", "text", "packed text"],
)
def test_no_archive(tmp_path: Path, content: bytes) -> None:
    archive = tmp_path / "notes.txt"
    archive.write_bytes(content)
    refused(archive, tmp_path / "out" / "corpus", "no tar or zip archive")


def test_archive_without_files(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", [tar_member("top", type=tarfile.DIRTYPE)])
    refused(archive, tmp_path / "out" / "corpus", "holds no file")


def test_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="does not exist"):
        unpack(tmp_path / "none.tar", tmp_path / "out")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_limits(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / f"bomb.{kind}"
    zeros = {"small": b"x", "big": bytes(5_000_000)}
    if kind == "tar":
        make_tar(archive, [tar_member(name, content) for name, content in zeros.items()], "w:gz")
    else:
        make_zip(archive, zeros)
    assert archive.stat().st_size < 10_000
    monkeypatch.setattr("asr.corpora.unpack.MAX_BYTES", 5_000_000)
    refused(archive, tmp_path / "out" / "corpus", "more than 5000000 bytes, at 'big'")
    monkeypatch.setattr("asr.corpora.unpack.MAX_BYTES", 5_000_001)
    monkeypatch.setattr("asr.corpora.unpack.MAX_MEMBERS", 1)
    refused(archive, tmp_path / "out" / "corpus", "more than 1 members, at 'big'")
    monkeypatch.setattr("asr.corpora.unpack.MAX_MEMBERS", 2)
    unpack(archive, tmp_path / "out" / "corpus")
