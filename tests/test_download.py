"""Downloads against a server on the loopback address that misbehaves on demand."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from asr.corpora.download import download
from asr.errors import CorpusError

CONTENT = bytes(range(256)) * 4096  # 1 MiB: several chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves one file; the attributes say how well."""

    content = CONTENT
    etag: str | None = '"one"'
    status = 200
    knows_range = True
    chunked = False
    stop_after: int | None = None  # bytes of the body after which the connection breaks

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []  # Range header of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/corpus.tar.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.ranges.append(wanted)
        self.close_connection = True
        if server.status != 200:
            self.send_error(server.status)
            return
        body, total = server.content, len(server.content)
        if wanted is not None and server.knows_range:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= total:
                self.send_error(416)
                return
            body = body[start:]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        if server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        if server.etag is not None:
            self.send_header("ETag", server.etag)
        self.end_headers()
        sent = body[: server.stop_after]
        if server.chunked:
            self.wfile.write(f"{len(body):x}\r\n".encode() + sent)
            if server.stop_after is None:
                self.wfile.write(b"\r\n0\r\n\r\n")
        else:
            self.wfile.write(sent)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def interrupt(server: Server, path: Path, after: int) -> None:
    server.stop_after = after
    with pytest.raises(CorpusError, match=r"--source PATH"):
        download(server.url, path)
    server.stop_after = None
    assert not path.exists()


def test_download_leaves_only_the_whole_file(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "sub" / "corpus.tar.gz"
    assert download(server.url, path, sha256=SHA256, md5=hashlib.md5(CONTENT).hexdigest()) == path
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["corpus.tar.gz"]


def test_a_file_that_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    path.write_bytes(CONTENT)
    download(server.url, path, sha256=SHA256)
    assert server.ranges == []
    with pytest.raises(CorpusError, match="sha256"):
        download(server.url, path, sha256="0" * 64)
    assert path.exists()  # the user's file is never removed


def test_interrupted_download_says_so_and_resumes(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    server.stop_after = 300_000
    with pytest.raises(CorpusError, match=r"300000 of 1048576 bytes|IncompleteRead") as caught:
        download(server.url, path)
    assert str(caught.value).startswith(server.url)
    assert "\n" not in str(caught.value)
    server.stop_after = None
    download(server.url, path)
    assert server.ranges == [None, "bytes=300000-"]
    assert path.read_bytes() == CONTENT


def test_two_interruptions(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    interrupt(server, path, 1000)
    interrupt(server, path, 500_000)
    download(server.url, path, sha256=SHA256)
    assert server.ranges == [None, "bytes=1000-", "bytes=501000-"]


def test_everything_arrived_before_the_process_died(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    interrupt(server, path, 1000)
    (tmp_path / "corpus.part").write_bytes(CONTENT)
    download(server.url, path)
    assert server.ranges == [None]
    assert path.read_bytes() == CONTENT


def test_server_that_ignores_range_starts_again(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    interrupt(server, path, 1000)
    server.knows_range = False
    download(server.url, path, sha256=SHA256)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("change", ["etag", "size"])
def test_changed_file_starts_again(server: Server, tmp_path: Path, change: str) -> None:
    path = tmp_path / "corpus"
    interrupt(server, path, 1000)
    server.content = bytes(reversed(CONTENT))
    if change == "etag":
        server.etag = '"two"'
    else:
        server.content = server.content[:5000]
    download(server.url, path)
    assert server.ranges[1:] == ["bytes=1000-", None]
    assert path.read_bytes() == server.content


def test_file_that_shrank_below_what_is_present_starts_again(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    interrupt(server, path, 1000)
    server.content = CONTENT[:500]  # the server answers 416
    download(server.url, path)
    assert path.read_bytes() == CONTENT[:500]


def test_without_etag_and_date_nothing_tells_versions_apart(server: Server, tmp_path: Path) -> None:
    server.etag = None
    path = tmp_path / "corpus"
    interrupt(server, path, 1000)
    download(server.url, path)
    assert server.ranges == [None, None]
    assert path.read_bytes() == CONTENT


def test_partial_file_of_another_address_is_not_continued(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    interrupt(server, path, 1000)
    download(server.url + "?mirror", path)
    assert server.ranges == [None, None]


@pytest.mark.parametrize("state", ["{", '{"unknown": 1}'])
def test_unreadable_state_starts_again(server: Server, tmp_path: Path, state: str) -> None:
    path = tmp_path / "corpus"
    interrupt(server, path, 1000)
    (tmp_path / "corpus.part.json").write_text(state)
    download(server.url, path)
    assert server.ranges == [None, None]


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_wrong_checksum(server: Server, tmp_path: Path, kind: str) -> None:
    wanted = {"sha256": "0" * 64, "md5": "0" * 32}[kind]
    with pytest.raises(CorpusError, match=f"{kind} .* wanted {wanted}") as caught:
        download(server.url, tmp_path / "corpus", **{kind: wanted})
    assert server.url in str(caught.value)
    assert not (tmp_path / "corpus").exists()
    assert not (tmp_path / "corpus.part").exists()  # else the next run would take it for nearly done


def test_missing_file_on_the_server(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(CorpusError, match=r"answered 404 Not Found; .*--source PATH") as caught:
        download(server.url, tmp_path / "corpus")
    assert server.url in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_nobody_listens(tmp_path: Path) -> None:
    with Server() as closed:
        url = closed.url
    with pytest.raises(CorpusError, match=r"download failed: .*--source PATH"):
        download(url, tmp_path / "corpus")


def test_only_the_web(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="http or https"):
        download(f"file://{__file__}", tmp_path / "corpus")


def test_chunked_body_needs_no_stated_size(server: Server, tmp_path: Path) -> None:
    server.chunked = True
    path = tmp_path / "corpus"
    interrupt(server, path, 1000)
    download(server.url, path)
    assert server.ranges == [None, None]
    assert path.read_bytes() == CONTENT
