"""Names and ages of files, and atomic writes: a file is either whole or absent, even after a crash."""

import errno
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asr.errors import AsrError, ConfigError

# How names of audio files end. libsndfile looks at the content; folders are searched by name.
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".sph", ".nist", ".aiff", ".aif", ".au", ".w64")
_URL = re.compile(r"pipe:|[a-z][a-z0-9+.-]+://")
_OF_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # errors of a failed write that name no file


def is_url(address: str) -> bool:
    """Whether `address` is a URL that webdataset opens (`https://...`, `pipe:COMMAND`), and not a path."""
    return _URL.match(address) is not None


def is_called_audio(path: Path) -> bool:
    """Whether the name is that of an audio file; macOS keeps facts about one in a file of its name after `._`."""
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("._")


def is_called_manifest(path: Path) -> bool:
    """Whether the name is that of a manifest."""
    return path.suffix == ".jsonl"


def files_below(folder: Path, error: type[AsrError]) -> list[Path]:
    """The files in a folder and those below it, sorted; links to folders are followed, each folder once.

    Raises:
        AsrError: as `error`: a folder cannot be read.
    """

    def unreadable(fault: OSError) -> None:
        raise error(f"{fault.filename}: cannot read folder: {fault.strerror}") from fault

    found: list[Path] = []
    seen: set[str] = set()
    starts = [folder]
    for start in starts:  # grows: links go last, so that files are named by the folders that hold them
        for place, below, names in os.walk(start, onerror=unreadable):
            real = os.path.realpath(place)
            if real in seen:
                below.clear()
                continue
            seen.add(real)
            found += (Path(place, name) for name in names)
            starts += sorted(Path(place, name) for name in below if os.path.islink(os.path.join(place, name)))
    return sorted(found)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success fsync it and rename it onto `path`.

    Missing parent folders are made. On an exception the temporary file is removed and `path` is untouched.

    Raises:
        OSError: `path` exists and is not a regular file, or writing failed; it names `path`, never the temporary file.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a device or a folder; a rename would replace a device
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with errors_name(path):
        handle, name = tempfile.mkstemp(prefix=_temporary_prefix(path), suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            with temporary.open("rb+") as written:  # Windows flushes only what is open for writing
                os.fsync(written.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    _fsync_folder(path.parent)


@contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """Make an OSError from writing `path` name it: a full disk names no file, or a temporary one that tells nobody."""
    try:
        yield
    except OSError as error:
        named = None if error.filename is None else Path(os.fsdecode(error.filename)).name
        temporary = named is not None and named.startswith(_temporary_prefix(path)) and named.endswith(".tmp")
        if temporary or (named is None and error.errno in _OF_WRITING):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill, which becomes `path` (missing or empty before) once complete, never half-filled."""
    path = path.resolve()  # the current folder has no name otherwise, and a link is no folder to replace
    unfinished = path.with_name(f".{path.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        unfinished.rename(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def remove_temporary(folder: Path) -> None:
    """Remove temporary files that `atomic_path`, or safetensors inside it, left in a process that was killed.

    The folder may be missing.
    """
    for path in (*folder.glob(".*.tmp"), *folder.glob(".tmp??????")):  # safetensors 0.8 renames a file of its own
        path.unlink()


def digest_of(path: Path, algorithm: str) -> str:
    """The hexadecimal digest of a file's content, which is read in parts."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def made_since(made: Path, *sources: Path) -> bool:
    """Whether a file exists and is no older than any of those that it was made from."""
    return made.is_file() and made.stat().st_mtime >= max(path.stat().st_mtime for path in sources)


def file_name_of(name: str) -> str:
    """An utterance's id as a file name, without a suffix.

    Characters that no file name can hold are percent-encoded, as in URLs, and so is a dot that would hide the file.
    """
    name = name.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def require_folder(path: Path) -> None:
    """Raise ConfigError if `path` is not a folder and cannot be made one, because something else is in its place."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists() or place.is_symlink())
    if not there.is_dir():
        kind = "a file" if there.exists() else "a link to nothing"
        raise ConfigError(f"{there}: is {kind}, wanted a folder{'' if there == path else f' for {path}'}")


def exists_already(path: Path) -> bool:
    """Whether a file exists; if `atomic_path` made it, it is then complete.

    Raises:
        ConfigError: something that is not a file is there.
        OSError: no file can have this name.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not stat.S_ISREG(mode):
        raise ConfigError(f"{path}: is not a file, but one would be written there")
    return True


def require_writable(folder: Path) -> None:
    """Make a folder; OSError, before hours of work, if no file can be written into it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:  # it names the temporary file
        raise OSError(error.errno, error.strerror, str(folder)) from error


def write_text_atomic(path: Path, text: str) -> None:
    """Write UTF-8 text so that `path` is never half-written."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _temporary_prefix(path: Path) -> str:
    """How the name of the temporary file begins: cut, so that it is no longer than a file system allows."""
    return f".{path.name[:32]}."


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _fsync_folder(folder: Path) -> None:
    # The rename itself is durable only once the folder is on disk (POSIX; Windows opens no folders).
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
