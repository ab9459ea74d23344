"""Packing: what comes out of a shard is what went in, again and again, and after a crash."""

import json
import os
import signal
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import asr.shards.pack
from asr.audio import load_utterance
from asr.cli import parse
from asr.commands.pack import add_pack
from asr.config import AudioConfig
from asr.errors import AsrError, AudioError, ConfigError, CorpusError
from asr.manifest import Utterance, read_manifest
from asr.shards.index import read_index, read_shard
from asr.shards.pack import Packed, encode, pack
from shard_corpus import RATE_HZ, make_manifest

CONFIG = AudioConfig(sample_rate_hz=RATE_HZ, channels="mean")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def write(path: Path, samples: np.ndarray, rate_hz: int = RATE_HZ, **how: str) -> Path:
    soundfile.write(path, samples, rate_hz, **how)
    return path


def noise(samples: int = 4000, channels: int = 1, peak: float = 0.5) -> np.ndarray:
    return np.random.default_rng(0).uniform(-peak, peak, (samples, channels))


# --- one utterance ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "how", "suffix", "subtype"),
    [
        ("a.wav", {"subtype": "PCM_16"}, "flac", "PCM_16"),
        ("a.wav", {"subtype": "PCM_U8"}, "flac", "PCM_16"),
        ("a.wav", {"subtype": "ULAW"}, "flac", "PCM_16"),
        ("a.sph", {"format": "NIST"}, "flac", "PCM_16"),
        ("a.wav", {"subtype": "PCM_24"}, "flac", "PCM_24"),
        ("a.flac", {"subtype": "PCM_16"}, "flac", "PCM_16"),
        ("a.flac", {"subtype": "PCM_24"}, "flac", "PCM_24"),
        ("a.mp3", {}, "mp3", "MPEG_LAYER_III"),
        ("a.ogg", {"subtype": "VORBIS"}, "ogg", "VORBIS"),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_whole_files_come_back_bit_for_bit(
    tmp_path: Path, name: str, how: dict[str, str], suffix: str, subtype: str, channels: int
) -> None:
    path = write(tmp_path / name, noise(channels=channels), 16000, **how)
    utterance = Utterance("u", path, 0.25, "x")
    found, content = encode(utterance)
    (tmp_path / "packed").write_bytes(content)
    info = soundfile.info(tmp_path / "packed")
    assert (found, info.subtype, info.samplerate, info.channels) == (suffix, subtype, 16000, channels)
    assert torch.equal(load_utterance(utterance, CONFIG, content), load_utterance(utterance, CONFIG))


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_segments_come_back_bit_for_bit(tmp_path: Path, name: str, subtype: str) -> None:
    path = write(tmp_path / name, noise(channels=2), subtype=subtype)
    utterance = Utterance("u", path, 0.123456, "x", offset=0.2)
    _, content = encode(utterance)
    (tmp_path / "packed").write_bytes(content)
    assert soundfile.info(tmp_path / "packed").frames == 988
    assert torch.equal(load_utterance(utterance, CONFIG, content), load_utterance(utterance, CONFIG))


def test_durations_are_rounded(tmp_path: Path) -> None:
    utterance = Utterance("u", write(tmp_path / "a.wav", noise(4001)), 0.55, "x")  # 0.500125 s
    assert torch.equal(load_utterance(utterance, CONFIG, encode(utterance)[1]), load_utterance(utterance, CONFIG))


@pytest.mark.parametrize(
    ("name", "how", "peak", "offset", "suffix", "error"),
    [
        ("a.wav", {"subtype": "FLOAT"}, 0.9, 0.0, "flac", 2**-24),  # rounded to 24 bits
        ("a.wav", {"subtype": "PCM_32"}, 0.9, 0.0, "flac", 2**-24),
        ("a.mp3", {}, 0.5, 0.1, "flac", 2**-24),
        ("a.wav", {"subtype": "FLOAT"}, 1.5, 0.0, "au", 0.0),  # beyond full scale
    ],
)
def test_what_24_bits_do_not_hold(
    tmp_path: Path, name: str, how: dict[str, str], peak: float, offset: float, suffix: str, error: float
) -> None:
    utterance = Utterance("u", write(tmp_path / name, noise(peak=peak), **how), 0.4, "x", offset=offset)
    found, content = encode(utterance)
    assert found == suffix
    difference = load_utterance(utterance, CONFIG, content) - load_utterance(utterance, CONFIG)
    assert difference.abs().max() <= error


def test_what_flac_does_not_hold(tmp_path: Path) -> None:
    for samples, rate_hz in ((noise(channels=9), 8000), (noise(), 768000)):
        utterance = Utterance("u", write(tmp_path / "a.wav", samples, rate_hz), 0.005, "x")
        suffix, content = encode(utterance)
        assert suffix == "au"
        assert torch.equal(load_utterance(utterance, CONFIG, content), load_utterance(utterance, CONFIG))


# --- a folder ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, None])
def test_round_trip(tmp_path: Path, seed: int | None) -> None:
    manifest = make_manifest(tmp_path / "audio")
    packed = pack(manifest, tmp_path / "shards", shard_mb=0.02, seed=seed, threads=2)
    wanted = {utterance.id: utterance for utterance in read_manifest(manifest)}
    index = read_index(str(tmp_path / "shards" / "index.jsonl"))
    ids = [utterance.id for utterance in index.utterances]
    assert sorted(ids) == list(wanted)
    assert (ids == list(wanted)) == (seed is None)
    assert packed == Packed(
        tmp_path / "shards", len(index.shards), 24, packed.hours, sum(shard.size_bytes for shard in index.shards)
    )
    assert len(index.shards) > 3
    for shard in index.shards:
        assert shard.size_bytes < 40_000
        for place, content in read_shard(shard):
            utterance = shard.utterances[place]
            before = wanted[utterance.id]
            assert replace(utterance, audio_filepath=before.audio_filepath) == before
            assert torch.equal(load_utterance(utterance, CONFIG, content), load_utterance(before, CONFIG))
    assert sorted(contents(tmp_path / "shards")) == [*(f"{n:06d}.tar" for n in range(len(index.shards))), "index.jsonl"]


def test_members_are_as_webdataset_expects(tmp_path: Path) -> None:
    pack(make_manifest(tmp_path / "audio", 2), tmp_path / "shards", seed=None)
    with tarfile.open(tmp_path / "shards" / "000000.tar") as tar:
        names = tar.getnames()
        assert names == ["00000000.flac", "00000000.json", "00000001.flac", "00000001.json"]
        assert {(member.mtime, member.uid, member.uname) for member in tar.getmembers()} == {(0, 0, "")}
        file = tar.extractfile("00000001.json")
        assert file is not None
        record = json.load(file)
    second = read_manifest(tmp_path / "audio" / "all.jsonl")[1]
    assert record == {"id": "u01", "duration": second.duration, "text": "text 1", "speaker": "s1"}


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "audio")
    for name, threads in (("a", 1), ("b", 3)):
        pack(manifest, tmp_path / name, shard_mb=0.02, threads=threads)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    pack(manifest, tmp_path / "c", shard_mb=0.02, seed=1)
    assert contents(tmp_path / "c") != contents(tmp_path / "a")


def killed_after(count: int) -> Callable[[Utterance], tuple[str, bytes]]:
    calls = []

    def die(utterance: Utterance) -> tuple[str, bytes]:
        calls.append(utterance.id)
        if len(calls) > count:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(utterance)

    return die


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12, about forking beside threads
def test_goes_on_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, out = make_manifest(tmp_path / "audio"), tmp_path / "killed"
    pack(manifest, tmp_path / "whole", shard_mb=0.02)
    monkeypatch.setattr(asr.shards.pack, "encode", killed_after(14))
    child = os.fork()
    if child == 0:
        try:
            pack(manifest, out, shard_mb=0.02)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    complete = sorted(path.name for path in out.glob("*.tar"))
    assert 1 < len(complete) < len(list((tmp_path / "whole").glob("*.tar")))
    assert not (out / "index.jsonl").exists()
    (out / f"{complete[-1]}.jsonl").unlink()  # as if it had come between the two
    encoded: list[str] = []
    monkeypatch.setattr(
        asr.shards.pack, "encode", lambda utterance: (encoded.append(utterance.id), encode(utterance))[1]
    )
    pack(manifest, out, shard_mb=0.02)
    assert contents(out) == contents(tmp_path / "whole")
    assert 10 < len(encoded) < 22  # the complete shards were kept
    encoded.clear()
    pack(manifest, out, shard_mb=0.02)
    assert not encoded


def test_other_shards_are_not_mixed_in(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "audio", 8)
    pack(manifest, tmp_path / "shards")
    before = contents(tmp_path / "shards")
    with pytest.raises(CorpusError, match=r"shards: holds shards of another manifest, or made with other options"):
        pack(manifest, tmp_path / "shards", seed=1)
    (tmp_path / "shards" / "index.jsonl").unlink()
    with pytest.raises(CorpusError, match=r"shards: holds tar files that asr pack did not write"):
        pack(manifest, tmp_path / "shards")
    assert contents(tmp_path / "shards") == {name: before[name] for name in ("000000.tar",)}


def test_an_unreadable_utterance_is_named_and_the_shards_before_it_are_kept(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "audio")
    bad = tmp_path / "audio" / "u12.wav"
    good = bad.read_bytes()
    bad.write_bytes(good[:500])
    for _ in range(2):
        with pytest.raises(AudioError, match=r"^utterance u12: .*u12.wav: truncated: [^\n]*$"):
            pack(manifest, tmp_path / "shards", shard_mb=0.02, seed=None)
        complete = [f"{number:06d}.tar" for number in range(3)]
        assert set(contents(tmp_path / "shards")) == {
            "packing.json",
            *complete,
            *(f"{name}.jsonl" for name in complete),
        }
    bad.write_bytes(good)
    pack(manifest, tmp_path / "shards", shard_mb=0.02, seed=None)
    pack(manifest, tmp_path / "whole", shard_mb=0.02, seed=None)
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")


# --- the command ------------------------------------------------------------------------------------------------------


def command(*argv: object) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    add_pack(parser)
    arguments = parse(parser, [str(item) for item in argv])
    code: int = arguments.run(arguments)
    return code


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = make_manifest(tmp_path / "audio", 8)
    assert command(manifest, "--out", tmp_path / "shards", "--keep-order", "--shard-mb", 0.02) == 0
    printed = capsys.readouterr().err
    assert printed.startswith("3 shards with 8 utterances, 0.00 h, ")
    assert printed.endswith(f" MB; train on them with: data.train={tmp_path}/shards/index.jsonl\n")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--shard-mb", 0, "--shard-mb must be positive, found 0.0"),
        ("--shard-mb", "nan", "--shard-mb must be positive, found nan"),
        ("--threads", 0, "--threads must be at least 1, found 0"),
    ],
)
def test_options_out_of_range(tmp_path: Path, option: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        command("a.jsonl", "--out", tmp_path, option, value)


def test_two_at_once(tmp_path: Path) -> None:
    from asr.process.lock import locked

    manifest = make_manifest(tmp_path / "audio", 2)
    with locked(tmp_path / "shards"), pytest.raises(AsrError, match="another asr pack is at work in this folder"):
        pack(manifest, tmp_path / "shards")
