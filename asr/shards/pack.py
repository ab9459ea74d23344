"""From a manifest to shards: many small files become few large ones, which are read from beginning to end."""

import hashlib
import io
import json
import random
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import soundfile

from asr.audio import END_TOLERANCE_S, OpenAudio, opened
from asr.errors import AudioError, CorpusError, ManifestError
from asr.files import atomic_path, remove_temporary, write_text_atomic
from asr.manifest import Utterance, hours, read_manifest, require_audio
from asr.process.ahead import map_ahead
from asr.process.lock import locked
from asr.progress import Progress
from asr.shards.index import INDEX_NAME, header_line, parse_index, record_of, require_shards, shard_lines

_PLAN_NAME = "packing.json"  # while shards are written: what they are made from
# Formats that corpora come in: a file that holds one utterance alone is copied as it is.
_COPIED = {"FLAC": "flac", "OGG": "ogg", "MP3": "mp3"}
# Encodings that libsndfile decodes to 16 bits.
_OF_16_BITS = {"PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW"}
# The most that a FLAC stream can hold.
_FLAC_CHANNELS = 8
_FLAC_RATE_HZ = 655350


@dataclass(frozen=True)
class Packed:
    """What `pack` leaves in its folder."""

    folder: Path
    shards: int
    utterances: int
    hours: float
    size_bytes: int

    def render(self) -> str:
        """One line for people."""
        return (
            f"{self.shards} shards with {self.utterances} utterances, {self.hours:.2f} h, {self.size_bytes / 1e6:.1f} "
            f"MB; train on them with: data.train={self.folder / INDEX_NAME}"
        )


def pack(manifest: Path, out: Path, *, shard_mb: float = 256.0, seed: int | None = 0, threads: int = 1) -> Packed:
    """Write the utterances of a manifest as shards.

    Packing the same manifest again gives the same bytes, with the same versions of libsndfile and its codecs. Stopped
    and started again, it keeps the shards that are complete.

    Args:
        manifest: what to pack.
        out: folder for the shards.
        shard_mb: a shard is complete once it has this many million bytes.
        seed: utterances are shuffled first, so that each shard is a sample of the corpus: batches are made of a few
            shards at a time. None leaves them in order.
        threads: how many that encode.

    Raises:
        ManifestError: the manifest cannot be read.
        AudioError: an utterance cannot be read; the shards before it are kept.
        CorpusError: the folder holds shards that were made from something else or are not whole, or is being packed by
            another process.
    """
    utterances = read_manifest(manifest)
    if seed is not None:
        random.Random(seed).shuffle(utterances)
    made_from = _fingerprint(utterances, shard_mb)
    with locked(out) as alone:
        if not alone:
            raise CorpusError(f"{out}: another asr pack is at work in this folder")
        if (out / INDEX_NAME).exists():
            _require_complete(out)
        else:
            _start(out, made_from)
            names = _write_shards(utterances, out, shard_mb * 1e6, threads)
            blocks = "".join(_block_path(out, name).read_text(encoding="utf-8") for name in names)
            write_text_atomic(out / INDEX_NAME, header_line(made_from, len(names), len(utterances)) + blocks)
        _require_same(out / INDEX_NAME, made_from)
        for path in [*out.glob("*.tar.jsonl"), *out.glob(_PLAN_NAME)]:
            path.unlink()
        shards = sorted(out.glob("*.tar"))
    size = sum(path.stat().st_size for path in shards)
    return Packed(out, len(shards), len(utterances), hours(utterances), size)


def _start(out: Path, made_from: str) -> None:
    """Make sure that the shards in the folder, if there are any, are the first of those that are to be written."""
    plan = out / _PLAN_NAME
    if plan.exists():
        _require_same(plan, made_from)
    elif any(out.glob("*.tar")):
        raise CorpusError(f"{out}: holds tar files that asr pack did not write; --out chooses another folder")
    else:
        write_text_atomic(plan, json.dumps({"made_from": made_from}) + "\n")
    remove_temporary(out)


def _require_complete(out: Path) -> None:
    """CorpusError unless the shards that the index in a folder names are there, each as long as it says."""
    path = out / INDEX_NAME
    try:
        require_shards(parse_index(path.read_text(encoding="utf-8"), str(path)))
    except (ManifestError, AudioError, UnicodeDecodeError) as error:
        raise CorpusError(
            f"{out}: is no longer what asr pack left there: {error}; pack again into another folder, or remove this one"
        ) from error


def _require_same(path: Path, made_from: str) -> None:
    with path.open(encoding="utf-8") as file:
        found = json.loads(file.readline()).get("made_from")
    if found != made_from:
        raise CorpusError(
            f"{path.parent}: holds shards of another manifest, or made with other options (--shard-mb, --seed, "
            "--keep-order); --out chooses another folder"
        )


def _fingerprint(utterances: Sequence[Utterance], shard_mb: float) -> str:
    """A digest of what decides the shards' bytes, except the audio itself and the folder that it is in."""
    digest = hashlib.blake2b(f"{shard_mb}\n".encode(), digest_size=16)
    for utterance in utterances:
        record = {"file": utterance.audio_filepath.name, "offset": utterance.offset, **record_of(utterance)}
        if utterance.channel is not None:  # else the digest stays that of shards made before there were any
            record["channel"] = utterance.channel
        digest.update(json.dumps([utterance.id, record]).encode())
    return digest.hexdigest()


def _write_shards(utterances: Sequence[Utterance], out: Path, limit_bytes: float, threads: int) -> list[str]:
    """Write the shards that are missing, each with its lines of the index beside it; returns the names of all."""
    names: list[str] = []
    done = 0
    while (kept := _utterances_in(out, _name(len(names)))) is not None:
        done += kept
        names.append(_name(len(names)))
    require_audio(utterances[done:])
    with Progress(len(utterances), "utterances", done=done) as progress:
        if done:
            progress.line(f"{out}: going on after {len(names)} complete shards with {done} utterances")
        encoded = map_ahead(encode, utterances[done:], threads=threads, ahead=2 * threads)
        while done < len(utterances):
            name = _name(len(names))
            members = _write_shard(out / name, done, encoded, limit_bytes, progress)
            lines = shard_lines(name, (out / name).stat().st_size, members)
            write_text_atomic(_block_path(out, name), lines)
            done += len(members)
            names.append(name)
    return names


def _write_shard(
    path: Path, key: int, encoded: Iterator[tuple[Utterance, tuple[str, bytes]]], limit_bytes: float, progress: Progress
) -> list[tuple[str, int, Utterance]]:
    """Fill one shard; returns its audio members: name, CRC-32, utterance."""
    members: list[tuple[str, int, Utterance]] = []
    # USTAR and TarInfo's defaults: no times, no owners, nothing that differs the next time.
    with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, (utterance, (suffix, content)) in zip(count(key), encoded, strict=False):
            record = {"id": utterance.id, **record_of(utterance)}
            _add(tar, f"{number:08d}.{suffix}", content)
            _add(tar, f"{number:08d}.json", json.dumps(record, ensure_ascii=False).encode())
            members.append((f"{number:08d}.{suffix}", zlib.crc32(content), utterance))
            progress.step({"shard": path.name})
            if tar.offset >= limit_bytes:
                break
    return members


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _name(number: int) -> str:
    return f"{number:06d}.tar"


def _block_path(out: Path, name: str) -> Path:
    return out / f"{name}.jsonl"


def _utterances_in(out: Path, name: str) -> int | None:
    """How many utterances a complete shard has; None when it is missing or was not completed."""
    block = _block_path(out, name)
    if not block.exists() or not (out / name).exists():
        return None
    with block.open(encoding="utf-8") as file:
        facts = json.loads(file.readline())
    return int(facts["utterances"]) if facts["bytes"] == (out / name).stat().st_size else None


def encode(utterance: Utterance) -> tuple[str, bytes]:
    """The utterance's segment as a file of its own, at its own rate, its channel or all of them: suffix and content.

    A FLAC, Ogg or MP3 file that is one whole utterance is copied. Everything else becomes FLAC of 16 or 24 bits:
    integers of up to 24 bits exactly, the rest (floating point, 32 bits, segments out of lossy files) rounded to 24
    bits, an error of -144 dB. What FLAC cannot hold becomes AU: a sample beyond full scale, with unchanged
    32-bit floats, or more than 8 channels or 655350 Hz, with the same integers.

    Raises:
        AudioError: it cannot be read; the message names the utterance and the file.
    """
    try:
        with opened(utterance.audio_filepath) as audio:
            return _encode(audio, utterance)
    except AudioError as error:
        raise AudioError(f"utterance {utterance.id}: {error}") from error


def _encode(audio: OpenAudio, utterance: Utterance) -> tuple[str, bytes]:
    file = audio.file
    first, frames = audio.segment(utterance.offset, utterance.duration)
    if file.subtype in _OF_16_BITS:
        samples = audio.read(first, frames, "int16").numpy()
        subtype = "PCM_16"
    else:
        samples = audio.read(first, frames).numpy()
        subtype = "FLOAT"
    if utterance.channel is not None:
        audio.require_channel(utterance.channel)
        samples = samples[:, [utterance.channel]]
    whole = (
        samples.shape[1] == file.channels and first == 0 and audio.frames - frames <= END_TOLERANCE_S * file.samplerate
    )
    if whole and file.format in _COPIED:
        return _COPIED[file.format], utterance.audio_filepath.read_bytes()
    if subtype == "FLOAT":
        steps = np.rint(samples * np.float32(1 << 23))
        if steps.min() >= -(1 << 23) and steps.max() < 1 << 23:
            samples, subtype = steps.astype(np.int32) << 8, "PCM_24"  # soundfile's integers fill all 32 bits
    flac = subtype != "FLOAT" and samples.shape[1] <= _FLAC_CHANNELS and file.samplerate <= _FLAC_RATE_HZ
    content = io.BytesIO()
    soundfile.write(content, samples, file.samplerate, format="FLAC" if flac else "AU", subtype=subtype)
    return "flac" if flac else "au", content.getvalue()
