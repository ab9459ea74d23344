"""Unpacking archives that came from elsewhere: tar (plain, gz, bz2, xz) and zip.

Only regular files and folders are made, and only inside the target folder: a link, a device, an absolute name or a
`..` is an error that names the member. Owners and modes of the archive are ignored: files get the user's default mode.
The sizes are limited, so that a small archive cannot fill the disk.
"""

import bz2
import gzip
import json
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from asr.errors import CorpusError
from asr.files import digest_of
from asr.process.lock import locked

MAX_MEMBERS = 1_000_000  # the largest known archive, LibriSpeech train-other-500, holds about 160,000
MAX_BYTES = 200 * 2**30  # and its files come to about 30 GiB
MARKER = ".unpacked.json"  # written last; names the archive that the folder was made from
_CHUNK_BYTES = 2**20
_SAYS_UTF8 = 0x800  # bit 11 of a zip member's flags
_NO_ZIP = (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError)  # what zipfile raises for a damaged one


def is_unpacked(folder: Path) -> bool:
    """Whether `unpack` completed this folder."""
    return (folder / MARKER).is_file()


def unpack(archive: Path, folder: Path, *, replacing: Callable[[], None] = lambda: None) -> Path:
    """Unpack an archive into a new folder, which appears only when it is whole.

    Until then the files are in a hidden folder beside it, which the next call removes if this one is killed. Nothing is
    done when the folder was already unpacked from an archive of this name and content; from another one, it is
    replaced.

    Args:
        archive: tar or zip file; the kind is told from its content, not its name.
        folder: created here, with its parents.
        replacing: called before the folder is replaced.

    Returns:
        The folder.

    Raises:
        CorpusError: the archive is missing, truncated, damaged, too large or holds an unsafe member, or the folder
            exists and is something else, or another process is unpacking beside it.
    """
    if not archive.is_file():
        raise CorpusError(f"{archive}: the archive does not exist")
    if is_unpacked_from(archive, folder):
        return folder
    if folder.exists() and not is_unpacked(folder):
        raise CorpusError(f"{folder}: exists, but was not unpacked from an archive; remove it")
    with locked(folder.parent) as alone:
        if not alone:
            raise CorpusError(f"{folder}: another process is unpacking an archive beside it")
        temporary = folder.with_name(f".{folder.name}.unfinished")
        if temporary.exists():
            shutil.rmtree(temporary)
        try:
            with _errors_of(archive):
                target = temporary / "content"
                target.mkdir(parents=True)
                _fill(archive, _Writer(archive, target))
                origin = _origin(archive) | {"digest": digest_of(archive, "sha256")}
                (target / MARKER).write_text(json.dumps(origin), encoding="utf-8")
                if folder.exists():
                    replacing()
                    folder.rename(temporary / "old")
                target.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # an error here would hide the one that it comes after
    return folder


def is_unpacked_from(archive: Path, folder: Path) -> bool:
    """Whether `unpack` completed this folder from this archive; one that was only touched or copied is the same."""
    if not is_unpacked(folder):
        return False
    origin, found = _origin(archive), json.loads((folder / MARKER).read_text(encoding="utf-8"))
    if any(found.get(key) != origin[key] for key in ("archive", "bytes")):
        return False
    return bool(found.get("changed_ns") == origin["changed_ns"] or found.get("digest") == digest_of(archive, "sha256"))


def _origin(archive: Path) -> dict[str, object]:
    status = archive.stat()
    return {"archive": archive.name, "bytes": status.st_size, "changed_ns": status.st_mtime_ns}


class _Writer:
    """Writes members below one folder and counts what it writes."""

    def __init__(self, archive: Path, target: Path) -> None:
        self.files = 0
        self._archive = archive
        self._target = target
        self._members = 0
        self._bytes = 0

    def add(self, name: str, content: IO[bytes] | None) -> None:
        """Write one member.

        Args:
            name: the member's name in the archive.
            content: its bytes, or None for a folder.
        """
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise CorpusError(f"{self._archive}: more than {MAX_MEMBERS} members, at {name!r}")
        path = self._target / self._safe(name)
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
            return
        self.files += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as written:
            while chunk := content.read(_CHUNK_BYTES):
                # Counted as it is written: the size that the archive states may be a lie.
                self._bytes += len(chunk)
                if self._bytes > MAX_BYTES:
                    raise CorpusError(f"{self._archive}: unpacks to more than {MAX_BYTES} bytes, at {name!r}")
                written.write(chunk)

    def refuse(self, name: str, kind: str) -> CorpusError:
        """The error for a member that is neither a file nor a folder."""
        return CorpusError(f"{self._archive}: member {name!r} is {kind}; only files and folders are unpacked")

    def _safe(self, name: str) -> PurePosixPath:
        path = PurePosixPath(name)
        drive = len(name) > 1 and name[1] == ":"
        if path.is_absolute() or drive or ".." in path.parts or "\\" in name or "\0" in name:
            raise CorpusError(f"{self._archive}: member {name!r} is not a path inside the folder it is unpacked into")
        return path


def _fill(archive: Path, writer: _Writer) -> None:
    with archive.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"PK\x03\x04"):
        _unpack_zip(archive, writer)
    else:
        _unpack_tar(archive, writer, start)
    if not writer.files:
        raise CorpusError(f"{archive}: the archive holds no file")


def _unpack_tar(archive: Path, writer: _Writer, start: bytes) -> None:
    with _open_tar(archive, start) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        for member in tar:
            if member.isdir():
                writer.add(member.name, None)
            elif member.isreg():
                with cast(IO[bytes], tar.extractfile(member)) as content:
                    writer.add(member.name, content)
            else:
                link = f"a link to {member.linkname!r}" if member.issym() or member.islnk() else "a special file"
                raise writer.refuse(member.name, link)
        _check_end(archive, stream)


def _check_end(archive: Path, stream: IO[bytes]) -> None:
    """Raise when the members did not end with the two zero blocks of the format.

    tarfile stops silently where a header is missing or damaged. Reading on to the end of the stream also makes
    gzip, bz2 and xz compare their checksums.
    """
    # tarfile has read the first zero block.
    block = stream.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise CorpusError(f"{archive}: the archive is truncated: it has no end mark")
    while block:
        if block.strip(b"\0"):
            raise CorpusError(f"{archive}: the archive is damaged: there is data after its last readable member")
        block = stream.read(_CHUNK_BYTES)


def _open_tar(archive: Path, start: bytes) -> IO[bytes]:
    """The tar data of an archive whose first bytes tell how it is compressed."""
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(archive, "rb"))
    if start.startswith(b"BZh"):
        return cast(IO[bytes], bz2.open(archive, "rb"))
    if start.startswith(b"\xfd7zXZ\0"):
        return cast(IO[bytes], lzma.open(archive, "rb"))
    return archive.open("rb")


def _unpack_zip(archive: Path, writer: _Writer) -> None:
    with zipfile.ZipFile(archive) as package:
        for member in package.infolist():
            name = _zip_name(member)
            kind = stat.S_IFMT(member.external_attr >> 16)  # the Unix mode; 0 where the archive was made elsewhere
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise writer.refuse(name, "a link" if kind == stat.S_IFLNK else "a special file")
            if member.flag_bits & 1:
                raise writer.refuse(name, "encrypted")
            if member.is_dir():
                writer.add(name, None)
            else:
                with package.open(member) as content:
                    writer.add(name, content)


def _zip_name(member: zipfile.ZipInfo) -> str:
    """The member's name: UTF-8 where it can be, as macOS writes it without saying so, and zipfile then reads CP437."""
    if member.flag_bits & _SAYS_UTF8:
        return member.filename
    try:
        return member.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.filename


@contextmanager
def _errors_of(archive: Path) -> Iterator[None]:
    """Turn what a damaged archive raises into a CorpusError that names it."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, *_NO_ZIP) as error:
        raise CorpusError(f"{archive}: the archive is truncated, damaged or no tar or zip archive: {error}") from error
    except OSError as error:
        raise CorpusError(f"{archive}: cannot unpack: {error}") from error
