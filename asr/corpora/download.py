"""Downloads that can be interrupted: resumed, checked, and renamed into place only when whole."""

import http.client
import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.errors import CorpusError
from asr.files import digest_of, write_text_atomic

_CHUNK_BYTES = 2**18
_TIMEOUT_S = 60.0
_ADVICE = "download it elsewhere and give it with --source PATH"


@dataclass(frozen=True)
class _Version:
    """What tells one version of a file on a server from another."""

    url: str
    size: int | None
    etag: str | None
    last_modified: str | None


def download(url: str, path: Path, *, sha256: str | None = None, md5: str | None = None) -> Path:
    """Download a file; an interrupted download goes on where it stopped.

    Until the file is whole it is `<path>.part`, with `<path>.part.json` naming the server's version of it. If the
    server ignores the request for the rest, or its file has changed, the download starts again.

    Args:
        url: http or https address.
        path: where to put it. A file that is already there is checked if there is a checksum, and kept.
        sha256: wanted checksum in hexadecimal digits; without any checksum the size that the server states is checked.
        md5: the same for MD5.

    Returns:
        The path.

    Raises:
        CorpusError: the server refuses, the connection breaks, or the checksum or size is wrong; the message names
            the address and says what to do.
    """
    if path.exists():
        _check_sum(url, path, sha256, md5)
        return path
    part = path.with_name(path.name + ".part")
    version_file = path.with_name(path.name + ".part.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _errors_of(url):
        resumable = _read_version(version_file, url) if part.exists() else None
        if resumable is None or not _resume(resumable, part):
            _start(url, part, version_file, has_checksum=bool(sha256 or md5))
    try:
        _check_sum(url, part, sha256, md5)
    except CorpusError:
        part.unlink()  # resuming it would give the same wrong file
        raise
    part.replace(path)
    version_file.unlink(missing_ok=True)
    return path


def _start(url: str, part: Path, version_file: Path, *, has_checksum: bool) -> None:
    """Fetch the whole file."""
    part.unlink(missing_ok=True)
    with _request(url) as response:
        length = response.headers.get("Content-Length")
        chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"  # such a body marks its own end
        if length is None and not chunked and not has_checksum:
            raise CorpusError(f"{url}: the server states no size, so a broken download would go unseen; {_ADVICE}")
        version = _version(url, response.headers, None if length is None else int(length))
        write_text_atomic(version_file, json.dumps(asdict(version)))
        _receive(response, part, version)


def _resume(version: _Version, part: Path) -> bool:
    """Fetch the rest of the file; False when it has to start again."""
    present = part.stat().st_size
    if version.size is None or (version.etag is None and version.last_modified is None) or present > version.size:
        return False
    if present == version.size:
        return True
    try:
        response = _request(version.url, {"Range": f"bytes={present}-"})
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            error.close()
            return False
        raise
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            return False
        stated = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if stated is None or int(stated[1]) != present:
            return False
        if _version(version.url, response.headers, int(stated[2])) != version:
            return False
        _receive(response, part, version)
    return True


def _receive(response: http.client.HTTPResponse, part: Path, version: _Version) -> None:
    """Append the body to the partial file and check the size."""
    from tqdm import tqdm

    present = part.stat().st_size if part.exists() else 0
    with (
        part.open("ab") as written,
        tqdm(
            total=version.size,
            initial=present,
            unit="B",
            unit_scale=True,
            desc=part.stem,
            disable=not sys.stderr.isatty(),
        ) as progress,
    ):
        while chunk := response.read(_CHUNK_BYTES):
            written.write(chunk)
            progress.update(len(chunk))
        written.flush()
        os.fsync(written.fileno())
    size = part.stat().st_size
    if version.size is not None and size != version.size:
        raise CorpusError(
            f"{version.url}: the connection ended after {size} of {version.size} bytes; "
            f"run the command again to resume, or {_ADVICE}"
        )


def _request(url: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    if not url.startswith(("http://", "https://")):
        raise CorpusError(f"{url}: wanted an http or https address")
    # A compressed body would have another length than the file.
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", **(headers or {})})
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    return response


def _version(url: str, headers: http.client.HTTPMessage, size: int | None) -> _Version:
    return _Version(url, size, headers.get("ETag"), headers.get("Last-Modified"))


def _read_version(path: Path, url: str) -> _Version | None:
    """The version that a partial download belongs to, or None when that is unknown or another address."""
    if not path.exists():
        return None
    try:
        version = _Version(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):  # not written by this version of the program: start again
        return None
    return version if version.url == url else None


def _check_sum(url: str, path: Path, sha256: str | None, md5: str | None) -> None:
    for name, wanted in (("sha256", sha256), ("md5", md5)):
        if wanted is None:
            continue
        digest = digest_of(path, name)
        if digest != wanted.lower():
            found = f"{path} has {name} {digest}, wanted {wanted}"
            raise CorpusError(f"{url}: {found}; remove any copy and run again, or {_ADVICE}")


@contextmanager
def _errors_of(url: str) -> Iterator[None]:
    """Turn what a download raises into a CorpusError that names the address."""
    try:
        yield
    except urllib.error.HTTPError as error:
        with error:
            raise CorpusError(f"{url}: the server answered {error.code} {error.reason}; {_ADVICE}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise CorpusError(f"{url}: download failed: {reason}; run the command again to resume, or {_ADVICE}") from error
