"""LibriSpeech (OpenSLR 12) and Mini LibriSpeech (OpenSLR 31): read English books, 16 kHz FLAC.

Layout: `<part>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt` with lines `<utterance-id> TRANSCRIPT`, and
`<utterance-id>.flac` beside it. Parts are named `train-clean-100`, `test-clean`, ...

Which part goes where:
- with any of the options `train_parts`, `dev_parts`, `test_parts` (part names joined by commas): exactly those;
- else every `train-*` part is for training, `dev-clean` (or `dev-clean-2`) for development and `test-clean` for test,
  and every other part gets a manifest named after the part;
- a source without a training part gives one manifest for each part, named after the part.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from asr.corpora.common import Archive, Contents, Corpus, child_folders, make_utterance, matching, read_lines
from asr.errors import CorpusError
from asr.manifest import Utterance

# Utterances in each part (Panayotov et al., 2015; counted by everyone since; those of Mini LibriSpeech by Lhotse's and
# Kaldi's recipes).
_UTTERANCES = {
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
    "train-clean-5": 1519,
    "dev-clean-2": 1089,
}
_SHA256 = {
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
}
_MINI_MD5 = {
    "train-clean-5": "5df7d4e78065366204ca6845bb08f490",
    "dev-clean-2": "6d7ab67ac6a1d2c993d050e16d61080d",
}
PARTS = (*_SHA256, *_MINI_MD5)
_DEFAULT_SPLIT = {"dev-clean": "dev", "dev-clean-2": "dev", "test-clean": "test"}
_DEFAULT_DOWNLOAD = ("train-clean-100", "dev-clean", "test-clean")


def read(
    roots: Sequence[Path],
    *,
    train_parts: str | None = None,
    dev_parts: str | None = None,
    test_parts: str | None = None,
) -> Contents:
    """The parts found, sorted into splits as the module says.

    Raises:
        CorpusError: no part, an unknown or absent part is asked for, or a transcript and its audio do not match.
    """
    folders = _part_folders(roots)
    wanted = _wanted(train_parts, dev_parts, test_parts)
    missing = [part for parts in wanted.values() for part in parts if part not in folders]
    if missing:
        raise CorpusError(f"{roots[0]}: part {missing[0]!r} is not here; found {', '.join(folders)}")
    splits: dict[str, list[Utterance]] = {}
    counts = {}
    for split, parts in (wanted or _default_splits(folders)).items():
        splits[split] = []
        for part in parts:
            utterances = _read_part(folders[part])
            counts[f"{part} utterances"] = len(utterances)
            splits[split] += utterances
    return Contents(splits, counts)


def archives(
    *, train_parts: str | None = None, dev_parts: str | None = None, test_parts: str | None = None
) -> tuple[Archive, ...]:
    """The archives of the wanted parts; by default train-clean-100, dev-clean and test-clean."""
    wanted = _wanted(train_parts, dev_parts, test_parts)
    parts = [part for parts in wanted.values() for part in parts] or _DEFAULT_DOWNLOAD
    return tuple(
        Archive(
            f"https://www.openslr.org/resources/{31 if part in _MINI_MD5 else 12}/{part}.tar.gz",
            file=f"{part}.tar.gz",
            sha256=_SHA256.get(part),
            md5=_MINI_MD5.get(part),
        )
        for part in parts
    )


def _wanted(train: str | None, dev: str | None, test: str | None) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {}
    split_of: dict[str, str] = {}
    for split, names in (("train", train), ("dev", dev), ("test", test)):
        if names is None:
            continue
        wanted[split] = [name.strip() for name in names.split(",")]
        for part in wanted[split]:
            if part not in PARTS:
                raise CorpusError(f"{split}_parts: there is no part {part!r}; there are {', '.join(PARTS)}")
            if part in split_of:
                raise CorpusError(f"{split}_parts: part {part!r} is already in {split_of[part]}_parts")
            split_of[part] = split
    return wanted


def _default_splits(folders: Mapping[str, Path]) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    has_training = any(part.startswith("train-") for part in folders)
    for part in folders:
        split = "train" if part.startswith("train-") else _DEFAULT_SPLIT.get(part, part)
        splits.setdefault(split if has_training else part, []).append(part)
    return splits


def _part_folders(roots: Sequence[Path]) -> dict[str, Path]:
    """Part folders among the roots, their children (`LibriSpeech/`) and grandchildren, in the order of `PARTS`."""
    found: dict[str, Path] = {}
    level = list(roots)
    for _ in range(3):
        for folder in level:
            # The folder an archive was unpacked into has the part's name too, but the chapters are two levels deeper.
            if folder.name not in PARTS or not matching(folder, "*/*/*.trans.txt"):
                continue
            if folder.name in found:
                raise CorpusError(f"part {folder.name!r} is both in {found[folder.name]} and in {folder}")
            found[folder.name] = folder
        level = [child for folder in level if folder.name not in found for child in child_folders(folder)]
    if not found:
        raise CorpusError(f"{roots[0]}: found no LibriSpeech part such as test-clean with its *.trans.txt files")
    return {part: found[part] for part in PARTS if part in found}


def _read_part(folder: Path) -> list[Utterance]:
    utterances = []
    found = matching(folder, "*/*/*.trans.txt")
    chapters = {audio.parent for audio in matching(folder, "*/*/*.flac")}
    missing = chapters - {transcripts.parent for transcripts in found}
    if missing:
        raise CorpusError(f"{min(missing)}: has recordings and no *.trans.txt")
    for transcripts in found:
        without_transcript = {audio.stem for audio in matching(transcripts.parent, "*.flac")}
        for number, line in read_lines(transcripts):
            name, _, text = line.partition(" ")
            where = f"{transcripts}:{number}: {name}"
            audio = transcripts.parent / f"{name}.flac"
            utterances.append(make_utterance(name, audio, text, where=where, speaker=transcripts.parent.parent.name))
            without_transcript.discard(name)
        if without_transcript:
            raise CorpusError(f"{transcripts}: no transcript for {min(without_transcript)}.flac")
    return utterances


LIBRISPEECH = Corpus(
    name="librispeech",
    read=read,
    archives=archives,
    expected={f"{part} utterances": count for part, count in _UTTERANCES.items()},
    options=("train_parts", "dev_parts", "test_parts"),
)
