"""Shards: tar files of many utterances each, laid out as webdataset expects, and the index of what they hold.

A folder of shards is `000000.tar`, `000001.tar`, ... and `index.jsonl`, which is written last. An utterance is two
members of a tar file: `KEY.flac` (or another format that `asr.audio` reads) holds its segment of audio and nothing
else, `KEY.json` its record, for other programs. KEY is its number in the folder, in eight digits.

The index is lines of JSON: one about the folder, then for each shard one about it and one for each of its utterances,
which is a manifest record (its `audio_filepath` is `SHARD/MEMBER`) with the CRC-32 of the audio's bytes. With it an
epoch is planned before any shard is read, and a shard's content is checked against it.
"""

import atexit
import hashlib
import json
import os
import re
import signal
import subprocess
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import AudioError, ManifestError, TrainingError
from asr.files import is_url
from asr.lines import json_object
from asr.manifest import Utterance, parse_line

INDEX_NAME = "index.jsonl"
_FORMAT = "asr shards 1"
_MEMBER = re.compile(r"\d{8,}\.[a-z0-9]+")
_BLOCK_BYTES = 1 << 20
_commands: "set[subprocess.Popen[bytes]]" = set()  # that are being read from


@dataclass(frozen=True)
class Shard:
    """One tar file.

    Attributes:
        url: absolute path, or whatever else webdataset opens.
        size_bytes: of the tar file.
        utterances: in the order of the tar file.
        crc32: of the bytes of each utterance's audio.
    """

    url: str
    size_bytes: int
    utterances: list[Utterance]
    crc32: list[int]


@dataclass(frozen=True)
class ShardIndex:
    """All shards of a folder."""

    shards: list[Shard]

    @property
    def utterances(self) -> list[Utterance]:
        """The utterances of all shards."""
        return [utterance for shard in self.shards for utterance in shard.utterances]

    def digest(self) -> str:
        """A digest of what is in which shard, with audio: the same utterances packed differently train differently."""
        digest = hashlib.blake2b(digest_size=16)
        for shard in self.shards:
            ids = [utterance.id for utterance in shard.utterances]
            digest.update(json.dumps([shard.size_bytes, ids, shard.crc32]).encode())
        return digest.hexdigest()


def is_shards(address: str) -> bool:
    """Whether `address` is an index of shards and not a manifest: a URL, or a file that begins as an index does.

    Raises:
        ManifestError: it is a pipe: what is read here would be missing later.
    """
    if is_url(address):
        return True
    if Path(address).is_fifo():
        raise ManifestError(f"{address}: is a pipe, wanted a file: training reads it more than once")
    try:
        with open(address, "rb") as file:
            return file.read(len(_opening())) == _opening()
    except OSError:
        return False  # reading it as a manifest reports what is wrong with it


def read_index(address: str) -> ShardIndex:
    """Read and validate an index whose shards are to be read too.

    Args:
        address: path of an index, or a URL that webdataset opens (`https://...`, `pipe:COMMAND`). A shard's URL is that
            of the index with its name in place of `index.jsonl`.

    Raises:
        ManifestError: it cannot be read, or is incomplete or malformed; the message names the line.
        TrainingError: webdataset is not installed.
    """
    _library()  # also for a local index: its shards come next
    return parse_index(_read_text(address), address)


def parse_index(text: str, address: str) -> ShardIndex:
    """Parse the text of an index; ManifestError as for `read_index`."""
    lines = text.split("\n")  # splitlines would cut at U+2028 inside a text
    if not lines[0].startswith(_opening().decode()):
        raise ManifestError(f"{address}:1: is no index of shards (asr pack makes them)")
    header = _fields(lines[0], f"{address}:1", made_from=str, shards=int, utterances=int)
    shards: list[Shard] = []
    line_of_id: dict[str, int] = {}
    number = 1
    while number < len(lines) and lines[number]:
        facts = _fields(lines[number], f"{address}:{number + 1}", shard=str, bytes=int, utterances=int)
        block = range(number + 1, number + 1 + facts["utterances"])
        shard = Shard(_url_of(address, facts["shard"]), facts["bytes"], [], [])
        for number in block:
            where = f"{address}:{number + 1}"
            if number >= len(lines) or not lines[number]:
                raise ManifestError(f"{where}: ends inside {facts['shard']}, which has {len(block)} utterances")
            utterance = parse_line(lines[number], where=where, folder=Path(address).parent)
            path = utterance.audio_filepath
            if path.parent.name != facts["shard"] or not _MEMBER.fullmatch(path.name):
                raise ManifestError(f"{where}: audio_filepath must name a member of {facts['shard']}, found {path}")
            if utterance.id in line_of_id:
                raise ManifestError(f"{where}: id {utterance.id!r} was already used on line {line_of_id[utterance.id]}")
            line_of_id[utterance.id] = number + 1
            shard.utterances.append(utterance)
            shard.crc32.append(_fields(lines[number], where, crc32=int)["crc32"])
        shards.append(shard)
        number = block.stop
    found = len(shards), len(line_of_id)
    if found != (header["shards"], header["utterances"]):
        raise ManifestError(
            f"{address}: holds {found[0]} shards and {found[1]} utterances, but its first line says {header['shards']} "
            f"and {header['utterances']}"
        )
    return ShardIndex(shards)


def header_line(made_from: str, shards: int, utterances: int) -> str:
    """First line of an index."""
    return _line({"format": _FORMAT, "made_from": made_from, "shards": shards, "utterances": utterances})


def shard_lines(name: str, size_bytes: int, members: Sequence[tuple[str, int, Utterance]]) -> str:
    """The lines of one shard in an index; `members` are name and CRC-32 of the audio, and the utterance."""
    lines = [_line({"shard": name, "bytes": size_bytes, "utterances": len(members)})]
    for member, crc32, utterance in members:
        record = {"id": utterance.id, "audio_filepath": f"{name}/{member}", **record_of(utterance), "crc32": crc32}
        lines.append(_line(record))
    return "".join(lines)


def record_of(utterance: Utterance) -> dict[str, Any]:
    """Duration, text and speaker, when there is one, under the keys of a manifest."""
    record: dict[str, Any] = {"duration": utterance.duration, "text": utterance.text}
    if utterance.speaker is not None:
        record["speaker"] = utterance.speaker
    return record


def require_shards(index: ShardIndex) -> None:
    """AudioError when a shard on this computer is missing or has another size than the index says."""
    for shard in index.shards:
        if is_url(shard.url):
            continue
        try:
            size = Path(shard.url).stat().st_size
        except OSError as error:
            raise AudioError(f"{shard.url}: cannot read shard: {error.strerror}") from error
        if size != shard.size_bytes:
            raise AudioError(f"{shard.url}: shard has {size} bytes, the index says {shard.size_bytes}")


def read_shard(shard: Shard) -> Iterator[tuple[int, bytes]]:
    """Stream a shard: (place in `shard.utterances`, content of an audio file) for all of them, as they come.

    Raises:
        AudioError: the shard cannot be read, ends early, lacks an utterance, holds one that the index does not know, or
            one whose checksum is another. The message names shard and member.
    """
    places = {utterance.audio_filepath.name: place for place, utterance in enumerate(shard.utterances)}
    try:
        # Opened here and not by webdataset's own pipeline, which leaves the closing to the garbage collector.
        with _opened(shard.url) as stream:
            source = {"url": shard.url, "stream": stream}
            for member in _library().tariterators.tar_file_expander([source], select_files=_is_audio, eof_value=None):
                name, content = member["fname"], member["data"]
                if name not in places:
                    raise AudioError(f"{shard.url}: member {name} is not in the index, or occurs twice")
                place = places.pop(name)
                found, wanted = zlib.crc32(content), shard.crc32[place]
                if found != wanted:
                    raise AudioError(
                        f"{shard.url}: member {name} (utterance {shard.utterances[place].id}) is damaged: its CRC-32 "
                        f"is {found}, the index says {wanted}"
                    )
                yield place, content
            while stream.read(_BLOCK_BYTES):  # a command that is cut off counts as failed
                pass
    except (OSError, EOFError, tarfile.TarError) as error:
        raise AudioError(f"{shard.url}: cannot read shard: {_reason(error)}") from error
    if places:
        name, place = next(iter(places.items()))
        raise AudioError(
            f"{shard.url}: damaged or cut off: {len(places)} of {len(shard.utterances)} utterances are missing, the "
            f"first is member {name} (utterance {shard.utterances[place].id})"
        )


@contextmanager
def _opened(url: str) -> Iterator[Any]:
    stream = _started(url) if url.startswith("pipe:") else _library().gopen(url)
    command = getattr(stream, "proc", None)  # None: a file
    if command is None:
        with closing(stream):
            yield stream
        return
    _commands.add(command)
    try:
        yield stream
    except BaseException:  # closing waits for the command to end, which a stalled one may never do
        _kill(command)
        stream.ignore_errors = True
        raise
    finally:
        stream.close()
        _commands.discard(command)


def _started(url: str) -> Any:
    """What webdataset opens for `pipe:COMMAND`, in a session of its own: so the whole command can be killed."""
    if _library().utils.enforce_security:
        raise ValueError("commands are forbidden by webdataset's settings (WDS_SECURE)")
    from webdataset.gopen import Pipe

    return Pipe(url.removeprefix("pipe:"), mode="rb", shell=True, ignore_status=[141], start_new_session=True)


def _kill(command: "subprocess.Popen[bytes]") -> None:
    if command.poll() is None:  # otherwise the number may be another process's by now
        with suppress(ProcessLookupError):  # it leads no session: it is not of `_started`
            os.killpg(command.pid, signal.SIGKILL)
        command.kill()


@atexit.register
def _end_commands() -> None:
    """Kill what still runs: a thread may wait for a stalled command, and so may a reader of its standard error."""
    for command in list(_commands):
        _kill(command)


def _is_audio(member: str) -> bool:
    return not member.endswith(".json")


def _library() -> Any:
    try:
        import webdataset
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"shards are read with webdataset ({error}); install it with: pip install 'asr-blstm-ctc[shards]'"
        ) from error
    return webdataset


def _read_text(address: str) -> str:
    try:
        with _opened(address if is_url(address) else str(Path(address).absolute())) as stream:
            content: bytes = stream.read()
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{address}: index is not UTF-8 text (byte {error.start})") from error
    except (OSError, ValueError) as error:  # ValueError: a URL that webdataset knows no program for
        raise ManifestError(f"{address}: cannot read index of shards: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    # webdataset appends what it was reading to the error's arguments.
    return getattr(error, "strerror", None) or str(error.args[0] if error.args else error).split(" @ ")[0]


def _url_of(address: str, name: str) -> str:
    if not re.fullmatch(r"\d{6,}\.tar", name):  # an index may come from anybody: no other files, no commands
        raise ManifestError(f"{address}: shard {name!r} is not named like 000000.tar")
    if not is_url(address):
        return str(Path(address).absolute().parent / name)
    before, found, behind = address.rpartition(INDEX_NAME)
    if not found:
        raise ManifestError(f"{address}: must contain {INDEX_NAME}, which is replaced by the names of shards")
    return before + name + behind


def _opening() -> bytes:
    return json.dumps({"format": _FORMAT}).encode()[:-1]


def _fields(line: str, where: str, **types: type) -> dict[str, Any]:
    """The values of a JSON record under these keys, of these types."""
    record = json_object(line, where, ManifestError)
    for key, kind in types.items():
        value = record.get(key)
        if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, int) and value < 0):
            raise ManifestError(f"{where}: {key} must be {'a string' if kind is str else 'a count'}, found {value!r}")
    return {key: record[key] for key in types}


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
