"""Shards and their index: read as they were written, and every damage named."""

import io
import os
import select
import shutil
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from asr.errors import AudioError, ManifestError, TrainingError
from asr.manifest import read_manifest
from asr.shards.index import Shard, is_shards, read_index, read_shard, require_shards
from shard_corpus import make_shards

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("corpus"), 12).parent.parent


@pytest.fixture
def shards(packed: Path, tmp_path: Path) -> Path:
    """An index of twelve utterances in several shards; a copy, to be damaged."""
    shutil.copytree(packed, tmp_path, dirs_exist_ok=True)
    return tmp_path / "shards" / "index.jsonl"


def read_all(index: Path | str) -> list[list[tuple[int, bytes]]]:
    return [list(read_shard(shard)) for shard in read_index(str(index)).shards]


# --- the index --------------------------------------------------------------------------------------------------------


def test_an_index_is_told_from_a_manifest(shards: Path, tmp_path: Path) -> None:
    assert is_shards(str(shards))
    assert is_shards("pipe:cat index.jsonl")
    assert is_shards("https://example.org/index.jsonl")
    assert not is_shards(str(tmp_path / "audio" / "all.jsonl"))
    assert not is_shards(str(tmp_path / "none.jsonl"))
    assert not is_shards(str(tmp_path))


def test_names_of_shards_are_absolute_and_taken_as_they_are(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a:b #1 {x,y}?"
    shards.parent.rename(folder)
    monkeypatch.chdir(tmp_path)
    index = read_index(f"{folder.name}/index.jsonl")
    assert index.shards[0].url == str(folder / "000000.tar")
    assert [len(list(read_shard(shard))) for shard in index.shards] == [len(s.utterances) for s in index.shards]
    first = index.shards[0].utterances[0]
    assert first.audio_filepath == Path(folder.name, "000000.tar", "00000000.flac")


@pytest.mark.parametrize("tail", ["", " | cat"])
def test_pipes(shards: Path, tail: str) -> None:
    piped = read_index(f"pipe:cat {shards}{tail}")
    assert piped.shards[0].url == f"pipe:cat {shards.parent}/000000.tar{tail}"
    require_shards(piped)  # nothing to look at
    assert [list(read_shard(shard)) for shard in piped.shards] == read_all(shards)


def test_pipes_that_fail(shards: Path) -> None:
    with pytest.raises(ManifestError, match=r"^pipe:cat /none/index.jsonl 2>&-: cannot read index of shards: .*exit 1"):
        read_index("pipe:cat /none/index.jsonl 2>&-")
    index = read_index(f"pipe:test {shards} = {shards} && cat {shards}")
    assert index.shards[0].url == f"pipe:test {shards} = {shards} && cat {shards.parent}/000000.tar"
    good = index.shards[0]
    failing = Shard(good.url + "; exit 3", good.size_bytes, good.utterances, good.crc32)
    with pytest.raises(AudioError, match=r"000000.tar; exit 3: cannot read shard: .*exit 3"):
        list(read_shard(failing))


def test_all_of_a_command_ends_with_the_reading(shards: Path, tmp_path: Path) -> None:
    """Also what its shell has started."""
    shard, running = read_index(str(shards)).shards[0], tmp_path / "running"
    os.mkfifo(running)
    reading = read_shard(replace(shard, url=f"pipe:sleep 60 > {running} & cat {shard.url}; wait"))
    next(reading)
    with running.open("rb") as other_end:
        assert not select.select([other_end], [], [], 0)[0]
        reading.close()
        assert select.select([other_end], [], [], 10)[0]  # at its end: nobody holds it open for writing


def test_commands_may_be_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webdataset.utils.enforce_security", True)
    with pytest.raises(ManifestError, match="cannot read index of shards: commands are forbidden by webdataset's sett"):
        read_index("pipe:cat index.jsonl")


def test_urls_that_cannot_be_read() -> None:
    with pytest.raises(
        ManifestError, match=r"^odd://host/index.jsonl: cannot read index of shards: .*no gopen handler"
    ):
        read_index("odd://host/index.jsonl")


def test_url_without_the_name_of_the_index(shards: Path) -> None:
    (shards.parent / "list.jsonl").write_bytes(shards.read_bytes())
    assert len(read_all(shards.parent / "list.jsonl")) > 1  # a file may have any name
    with pytest.raises(
        ManifestError, match=r"list.jsonl: must contain index.jsonl, which is replaced by the names of shards"
    ):
        read_index(f"pipe:cat {shards.parent}/list.jsonl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text[: text.rindex('{"shard"')],
            r": holds \d shards and \d+ utterances, but its first line says",
        ),
        (lambda text: text[: text.rindex('{"id"')], r":\d+: ends inside 00000\d.tar, which has \d utterances"),
        (lambda text: text[:-20], r":\d+: not a JSON record"),
        (
            lambda text: text.replace('{"shard": "000000.tar"', '["shard"]\n{"', 1),
            r":2: expected a JSON object, found list",
        ),
        (
            lambda text: text.replace('"shard": "000000.tar"', '"shard": "../000000.tar"'),
            r": shard '../000000.tar' is not named like",
        ),
        (lambda text: text.replace("000000.tar/00000000.flac", "000001.tar/00000000.flac"), r":3: audio_filepath must"),
        (lambda text: text.replace("000000.tar/00000000.flac", "000000.tar/etc"), r":3: audio_filepath must name a m"),
        (lambda text: text.replace('"crc32": ', '"crc32": -', 1), r":3: crc32 must be a count, found -\d+"),
        (lambda text: text.replace('"shards": ', '"shards": "x", "_": ', 1), r":1: shards must be a count, found 'x'"),
        (lambda text: text.replace('"id": "u01"', '"id": "u02"'), r":\d+: id 'u02' was already used on line \d"),
        (lambda text: text.replace("asr shards 1", "asr shards 9"), r":1: is no index of shards"),
        (lambda text: "", r":1: is no index of shards"),
    ],
)
def test_index_that_is_wrong(shards: Path, change: Callable[[str], str], message: str) -> None:
    shards.write_text(change(shards.read_text()))
    with pytest.raises(ManifestError, match=r"index.jsonl" + message):
        read_index(str(shards))


def test_index_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"index.jsonl: cannot read index of shards: No such file"):
        read_index(str(tmp_path / "index.jsonl"))


def test_without_webdataset(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(TrainingError, match=r"install it with: pip install 'asr-blstm-ctc\[shards\]'$"):
        read_index(str(shards))


# --- shards -----------------------------------------------------------------------------------------------------------


def test_shards_of_another_size_are_found_before_they_are_read(shards: Path) -> None:
    index = read_index(str(shards))
    require_shards(index)
    shard = shards.parent / "000001.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(AudioError, match=r"000001.tar: shard has \d+ bytes, the index says \d+"):
        require_shards(index)
    shard.unlink()
    with pytest.raises(AudioError, match=r"000001.tar: cannot read shard: No such file"):
        require_shards(index)


def member(shard: Path, number: int) -> tarfile.TarInfo:
    """The number-th member of a shard: audio and record take turns."""
    with tarfile.open(shard) as tar:
        return tar.getmembers()[number]


def cut(shard: Path, length: int) -> None:
    shard.write_bytes(shard.read_bytes()[:length])


def flip(shard: Path, place: int) -> None:
    content = bytearray(shard.read_bytes())
    content[place] ^= 1
    shard.write_bytes(content)


def repeat(shard: Path) -> None:
    with tarfile.open(shard) as tar:
        members = [(item, tar.extractfile(item).read()) for item in tar.getmembers()]  # type: ignore[union-attr]
    with tarfile.open(shard, "w") as tar:
        for item, content in [*members, members[0]]:
            tar.addfile(item, io.BytesIO(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "cannot read shard: No such file or directory"),
        (lambda path: path.write_bytes(b""), "cannot read shard: empty file"),
        (lambda path: path.write_bytes(b"no tar file" * 100), "cannot read shard: "),
        (lambda path: cut(path, member(path, 2).offset_data + 100), "cannot read shard: unexpected end of data"),
        (
            lambda path: cut(path, member(path, 2).offset),
            r"damaged or cut off: \d of \d utterances are missing, the first is member 00000001.flac \(utterance u",
        ),
        (
            lambda path: flip(path, member(path, 2).offset_data + 500),
            r"member 00000001.flac \(utterance u\d\d\) is damaged: its CRC-32 is \d+, the index says \d+",
        ),
        (lambda path: flip(path, member(path, 2).offset + 3), r"damaged or cut off: \d of \d utterances are missing"),
        (
            lambda path: path.write_bytes(path.with_name("000001.tar").read_bytes()),
            r"member 0000000\d.flac is not in the index, or occurs twice",
        ),
        (repeat, "member 00000000.flac is not in the index, or occurs twice"),
    ],
)
def test_damaged_shards(shards: Path, damage: Damage, message: str) -> None:
    damage(shards.parent / "000000.tar")
    with pytest.raises(AudioError, match=rf"^{shards.parent}/000000.tar: {message}[^\n]*$"):
        read_all(shards)


def test_records_are_for_other_programs(shards: Path, tmp_path: Path) -> None:
    """webdataset reads the folder by itself."""
    import webdataset

    found = {}
    for path in sorted(shards.parent.glob("*.tar")):
        with path.open("rb") as stream:
            members = webdataset.tariterators.tar_file_expander([{"url": str(path), "stream": stream}])
            for sample in webdataset.tariterators.group_by_keys(members):
                found[sample["__key__"]] = sample
    assert sorted(found) == [f"{number:08d}" for number in range(12)]
    wanted = {item.id for item in read_manifest(tmp_path / "audio" / "all.jsonl")}
    assert {utterance.id for utterance in read_index(str(shards)).utterances} == wanted
    assert all({"flac", "json"} < set(sample) for sample in found.values())
