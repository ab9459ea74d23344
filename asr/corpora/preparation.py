"""From a published corpus to manifests.

`prepare` writes `<split>.jsonl` for each split and then `summary.json`: a folder with that file is complete.
A source folder is read in place, audio included. An archive, given or downloaded, is unpacked below `<out>/source/`.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from asr.corpora.common import SPLITS, Contents, Corpus
from asr.corpora.download import download
from asr.corpora.registry import CORPORA
from asr.corpora.split import hold_out
from asr.corpora.summary import BEGUN_FILE, SUMMARY_FILE, Summary, summarize
from asr.corpora.unpack import is_unpacked, is_unpacked_from, unpack
from asr.errors import CorpusError, ManifestError
from asr.manifest import Utterance, line_of, parse_line, write_manifest

_ARCHIVE_SUFFIXES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tbz2", ".txz", ".tar", ".zip")


def prepare(
    corpus: str,
    *,
    source: Path | None,
    out: Path,
    dev_share: float = 0.1,
    test_share: float = 0.0,
    seed: int = 0,
    allow_partial: bool = False,
    **options: str | None,
) -> Summary:
    """Write the manifests of a corpus.

    A corpus without its own development split gets one from its training split, see `asr.corpora.split.hold_out`.

    Args:
        corpus: a name in `CORPORA`.
        source: a folder or archive (or for "csv" a file) that holds the corpus; None downloads the official archives.
        out: folder for the manifests.
        dev_share: share of the training speakers, or of the recordings where those are unknown, for a development split
            where the corpus has none; 0 for no such split.
        test_share: the same for a test split, taken out before the development split.
        seed: chooses who is held out.
        allow_partial: go on when counts differ from the published ones or files are missing; the summary then says so.
        options: what the corpus takes (`Corpus.options`); None counts as absent.

    Raises:
        CorpusError: an unknown corpus or option, a source that is missing, incomplete or unsafe, a malformed record, or
            a manifest in `out` that was not prepared there.
    """
    entry = _entry(corpus)
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in entry.options:
            known = f"it takes {', '.join(entry.options)}" if entry.options else "it takes no options"
            raise CorpusError(f"corpus {corpus} has no option {name!r}; {known}")
    for name, share in (("dev_share", dev_share), ("test_share", test_share)):
        if not 0 <= share < 1:
            raise CorpusError(f"{name} must be at least 0 and below 1, found {share}")

    roots, described = _locate(entry, source, out, given)
    contents = entry.read(roots, **given)
    _check_ids(contents.splits, described)
    mismatches = _check_counts(entry, contents, described, allow_partial)
    splits, split_notes = _complete_splits(contents, dev_share, test_share, seed)
    previous = _previous_splits(out)
    gone = [f"the {name} split that {out} had before is removed" for name in previous if name not in splits]
    notes = (*contents.notes, *_about_speakers(contents.splits), *split_notes, *mismatches, *gone)
    summary = Summary(
        corpus, described, bool(mismatches), notes, {name: summarize(records) for name, records in splits.items()}
    )
    for name, records in splits.items():
        _require_valid(records, out / f"{name}.jsonl")
        if name not in previous:
            _require_own(records, out / f"{name}.jsonl")
    # What an earlier run wrote, so that no stale manifest outlives it; first what says that the folder is complete.
    _begin(out)
    if not (out / BEGUN_FILE).exists():
        summary.write(out / BEGUN_FILE)
    for name in previous:
        (out / f"{name}.jsonl").unlink(missing_ok=True)
    for name, records in splits.items():
        write_manifest(out / f"{name}.jsonl", records)
    summary.write(out / SUMMARY_FILE)  # last: it marks the folder as complete
    (out / BEGUN_FILE).unlink()
    return summary


def is_prepared(out: Path, source: Path | None) -> bool:
    """Whether `prepare` completed `out`; from an archive that still is the same, if `source` is one."""
    if not (out / SUMMARY_FILE).is_file():
        return False
    if source is None or not source.is_file():
        return True
    unpacked = _unpack_folder(out, source.name)
    return not unpacked.exists() or is_unpacked_from(source, unpacked)  # a table is read in place


def _entry(corpus: str) -> Corpus:
    if corpus not in CORPORA:
        close = difflib.get_close_matches(corpus, CORPORA, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(CORPORA)}"
        raise CorpusError(f"there is no corpus {corpus!r}; {hint}")
    return CORPORA[corpus]


def _locate(entry: Corpus, source: Path | None, out: Path, options: Mapping[str, str]) -> tuple[list[Path], str]:
    """The folders to read, and a line that says where they came from."""
    if source is None:
        archives = entry.archives(**options)
        if not archives:
            kind = ", ".join([*(f"{suffix} file" for suffix in entry.file_suffixes), "folder or archive"])
            raise CorpusError(f"corpus {entry.name} has no official address; give --source PATH (a {kind})")
        roots = []
        for archive in archives:
            folder = _unpack_folder(out, archive.file)
            if not is_unpacked(folder):
                path = out / "download" / archive.file
                download(archive.url, path, sha256=archive.sha256, md5=archive.md5)
                unpack(path, folder)
            roots.append(folder)
        return roots, ", ".join(archive.url for archive in archives)
    if not source.exists():
        raise CorpusError(f"{source}: the source does not exist")
    if source.name in ("", ".."):  # the name of a folder may say which split it is
        return [source.resolve()], str(source)
    if source.is_dir() or source.suffix.lower() in entry.file_suffixes:
        return [source], str(source)
    if entry.file_suffixes and not source.name.lower().endswith(_ARCHIVE_SUFFIXES):
        kinds = " or ".join(f"*{suffix}" for suffix in entry.file_suffixes)
        raise CorpusError(f"{source}: wanted a file {kinds}, a folder or an archive")
    folder = unpack(source, _unpack_folder(out, source.name), replacing=lambda: _begin(out))
    return [folder], str(source)


def _begin(out: Path) -> None:
    """Take from `out` what says that it is complete."""
    if (out / SUMMARY_FILE).exists():
        (out / SUMMARY_FILE).replace(out / BEGUN_FILE)


def _unpack_folder(out: Path, archive_name: str) -> Path:
    for suffix in _ARCHIVE_SUFFIXES:
        if archive_name.lower().endswith(suffix):
            archive_name = archive_name[: -len(suffix)]
            break
    return out / "source" / archive_name


def _require_valid(records: Sequence[Utterance], manifest: Path) -> None:
    """CorpusError for a record that training would refuse, before an earlier manifest is removed."""
    for record in records:
        try:
            parse_line(line_of(record, manifest), where=f"utterance {record.id}", folder=manifest.parent)
        except ManifestError as error:
            raise CorpusError(str(error)) from error


def _require_own(records: Sequence[Utterance], manifest: Path) -> None:
    """CorpusError for a file that no earlier run has written, unless its content is what will be written."""
    if not manifest.exists():
        return
    wanted = "".join(line_of(record, manifest) + "\n" for record in records)
    if manifest.is_dir() or manifest.read_bytes() != wanted.encode():
        raise CorpusError(f"{manifest}: would be overwritten, and was not prepared here; choose another folder")


def _check_ids(splits: Mapping[str, Sequence[Utterance]], described: str) -> None:
    first: dict[str, Path] = {}
    for name, utterances in splits.items():
        if not utterances:
            raise CorpusError(f"{described}: split {name} holds no utterance")
        for utterance in utterances:
            audio = utterance.audio_filepath
            if utterance.id in first:
                twice = (
                    f"twice for {audio}" if audio == first[utterance.id] else f"for {first[utterance.id]} and {audio}"
                )
                raise CorpusError(f"utterance id {utterance.id!r} stands {twice}")
            first[utterance.id] = audio


def _about_speakers(splits: Mapping[str, Sequence[Utterance]]) -> list[str]:
    """Notes on speakers whose names differ only in case, and on those who are trained on and held out."""
    speakers = {
        split: {utterance.speaker for utterance in utterances if utterance.speaker}
        for split, utterances in splits.items()
    }
    names: dict[str, list[str]] = {}
    for speaker in sorted(set().union(*speakers.values())):
        names.setdefault(speaker.casefold(), []).append(speaker)
    alike = [" and ".join(map(repr, group)) for group in names.values() if len(group) > 1]
    notes = [f"names that differ only in case count as different speakers: {', '.join(alike)}"] if alike else []
    for split in sorted(speakers.keys() - {"train"}):
        if heard := speakers[split] & speakers.get("train", set()):
            notes.append(
                f"{len(heard)} of {len(speakers[split])} {split} speakers are in train too: errors on {split} "
                "are not those on unheard speakers"
            )
    return notes


def _check_counts(entry: Corpus, contents: Contents, described: str, allow_partial: bool) -> list[str]:
    mismatches = [
        f"found {found} {name}, wanted {entry.expected[name]}"
        for name, found in contents.counts.items()
        if name in entry.expected and found != entry.expected[name]
    ]
    mismatches += contents.missing
    if mismatches and not allow_partial:
        raise CorpusError(f"{entry.name} from {described}: {'; '.join(mismatches)} (a partial corpus: --allow-partial)")
    return mismatches


def _complete_splits(
    contents: Contents, dev_share: float, test_share: float, seed: int
) -> tuple[dict[str, list[Utterance]], list[str]]:
    """The reader's splits, with those that it lacks held out of the training split."""
    splits = dict(contents.splits)
    notes = []
    if test_share and ("test" in splits or "train" not in splits):
        raise CorpusError(
            f"test_share is {test_share}, but only a corpus without a test split of its own can be divided"
        )
    if "train" in splits:
        for split, share in (("test", test_share), ("dev", dev_share)):
            if split not in splits and share:
                splits["train"], splits[split], note = hold_out(splits["train"], split=split, share=share, seed=seed)
                notes.append(note)
    names = [name for name in SPLITS if name in splits] + [name for name in splits if name not in SPLITS]
    return {name: splits[name] for name in names}, notes


def _previous_splits(out: Path) -> list[str]:
    """The splits that an earlier run wrote into `out`, or was writing when it was stopped."""
    path = next((path for name in (SUMMARY_FILE, BEGUN_FILE) if (path := out / name).is_file()), None)
    if path is None:
        return []
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["splits"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{path}: not a summary of a prepared corpus; remove it or choose another folder") from error
