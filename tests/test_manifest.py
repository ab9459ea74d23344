"""Manifests: what is read, what is refused and by which words."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import ManifestError
from asr.lengths import s_to_samples
from asr.manifest import Utterance, hours, read_manifest, write_manifest

RECORD = {"audio_filepath": "a.wav", "duration": 1.5, "text": "yes"}


def written(folder: Path, *lines: str) -> Path:
    path = folder / "m.jsonl"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def line(**changes: object) -> str:
    return json.dumps({**RECORD, **changes})


def test_a_full_record(tmp_path: Path) -> None:
    path = written(
        tmp_path, line(id="u1", offset=2.25, speaker="ann", text="Ja, ß\u2028!", audio_filepath="sub/a.flac")
    )
    assert read_manifest(path) == [
        Utterance("u1", tmp_path / "sub" / "a.flac", 1.5, "Ja, ß\u2028!", offset=2.25, speaker="ann")
    ]


def test_a_record_as_other_toolkits_write_it(tmp_path: Path) -> None:
    path = written(tmp_path, line(duration=2, offset=None, speaker=None, id=None, lang="de", pred_text="no"))
    assert read_manifest(path) == [Utterance("a", tmp_path / "a.wav", 2.0, "yes", offset=0.0, speaker=None)]


def test_default_id_tells_segments_of_one_file_apart(tmp_path: Path) -> None:
    path = written(tmp_path, line(), line(offset=0.5), line(offset=12))
    assert [utterance.id for utterance in read_manifest(path)] == ["a", "a@0.5", "a@12"]


def test_absolute_paths_stay(tmp_path: Path) -> None:
    path = written(tmp_path, line(audio_filepath="/data/b.wav"))
    assert read_manifest(path)[0].audio_filepath == Path("/data/b.wav")
    assert read_manifest(path)[0].id == "b"


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0c"])
def test_only_a_line_feed_ends_a_record(tmp_path: Path, separator: str) -> None:
    text = f"one{separator}two"
    record = json.dumps({**RECORD, "text": text}, ensure_ascii=separator == "\x0c")
    assert read_manifest(written(tmp_path, record, line(id="b")))[0].text == text


def test_empty_lines_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(f"\r\n{line()}\r\n  \r\n{line(id='b')}".encode())
    assert [utterance.id for utterance in read_manifest(path)] == ["a", "b"]


def without(key: str) -> str:
    return json.dumps({name: value for name, value in RECORD.items() if name != key})


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "not a JSON record: Expecting property name.* enclosed"),
        (line()[:-5], "not a JSON record: "),
        ("nonsense", "not a JSON record: Expecting value: line 1 column 1"),
        ("[1]", "expected a JSON object, found list"),
        ("3", "expected a JSON object, found int"),
        (without("audio_filepath"), "key 'audio_filepath' is missing"),
        (without("duration"), "key 'duration' is missing"),
        (without("text"), "key 'text' is missing"),
        (
            json.dumps({**RECORD, "audio_file_path": "b.wav"}),
            "unknown key 'audio_file_path'; did you mean 'audio_filepath'",
        ),
        (line(speakr="ann"), "unknown key 'speakr'; did you mean 'speaker'"),
        (line(Duration=1), "unknown key 'Duration'; did you mean 'duration'"),
        (line(audio_filepath=5), "audio_filepath must be a string, found 5"),
        (line(audio_filepath=""), "audio_filepath is empty"),
        (line(audio_filepath=None), "audio_filepath must be a string, found None"),
        (line(text=["yes"]), "text must be a string, found "),
        (line(text=None), "text must be a string, found None"),
        (line(text=" \t"), "text is empty"),
        (line(text="half a \ud83d"), "text holds half of a surrogate pair"),
        (line(duration=0), "duration must be positive, found 0.0"),
        (line(duration=-1.5), "duration must be positive, found -1.5"),
        (line(duration="1.5"), "duration must be a number of seconds, found '1.5'"),
        (line(duration=True), "duration must be a number of seconds, found True"),
        (line(duration=None), "duration must be a number of seconds, found None"),
        (line(duration=float("nan")), "duration must be a number of seconds, found nan"),
        (line(duration=float("inf")), "duration must be a number of seconds, found inf"),
        (line(duration=10**400), "duration must be a number of seconds, found 1000"),
        (line(offset=-0.5), "offset must not be negative, found -0.5"),
        (line(offset="0"), "offset must be a number of seconds, found '0'"),
        (line(offset=False), "offset must be a number of seconds, found False"),
        (line(speaker=7), "speaker must be a string, found 7"),
        (line(speaker=""), "speaker is empty"),
        (line(id=7), "id must be a string, found 7"),
        (line(id=" "), "id is empty"),
        (line(id="a\0"), "id has a null character, or more than 1000 characters: 'a"),
        (line(id="a" * 1001), "id has a null character, or more than 1000 characters: 'aaaa"),
        (line(id="good"), "id 'good' was already used on line 1"),
    ],
)
def test_malformed_records_are_refused_with_file_and_line(tmp_path: Path, bad: str, message: str) -> None:
    path = written(tmp_path, line(id="good"), "", bad, line(id="other"))
    with pytest.raises(ManifestError, match=rf"m\.jsonl:3: {message}") as raised:
        read_manifest(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "manifest holds no utterance"),
        (b"\n \n", "manifest holds no utterance"),
        (b'{"text": "\xe9"}', r"not UTF-8 text \(byte 10\): save it as UTF-8"),
    ],
)
def test_files_that_are_no_manifest(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=rf"m\.jsonl: {message}$"):
        read_manifest(path)


def test_a_byte_order_mark_and_other_line_ends_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + f"{line(id='a')}\r\n{line(id='b')}\r\n".encode())
    assert [utterance.id for utterance in read_manifest(path)] == ["a", "b"]


@pytest.mark.parametrize(("name", "hint"), [("m.csv", True), ("m.txt", True), ("m.jsonl", False)])
def test_a_table_is_told_from_a_damaged_manifest(tmp_path: Path, name: str, hint: bool) -> None:
    path = tmp_path / name
    path.write_text("path,text\na.wav,yes\n" if name == "m.csv" else "audio, text\n" if hint else "{audio, text\n")
    with pytest.raises(ManifestError, match=rf"{name}:1: not a JSON record") as raised:
        read_manifest(path)
    wanted = f"; a table becomes manifests with: asr prepare csv --source {path} --out DIR"
    assert str(raised.value).endswith(wanted) == hint


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.jsonl: cannot read manifest: No such file"):
        read_manifest(tmp_path / "none.jsonl")
    with pytest.raises(ManifestError, match="cannot read manifest: Is a directory"):
        read_manifest(tmp_path)


def test_written_paths_are_relative_so_that_a_corpus_can_move(tmp_path: Path) -> None:
    audio = tmp_path / "corpus" / "audio" / "a.wav"
    manifest = tmp_path / "corpus" / "lists" / "m.jsonl"
    write_manifest(manifest, [Utterance("a", audio, 1.0, "yes")])
    assert json.loads(manifest.read_text())["audio_filepath"] == os.path.join("..", "audio", "a.wav")
    (tmp_path / "corpus").rename(tmp_path / "moved")
    moved = read_manifest(tmp_path / "moved" / "lists" / "m.jsonl")[0].audio_filepath
    assert moved.resolve() == (tmp_path / "moved" / "audio" / "a.wav").resolve()


def test_a_linked_file_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "77.wav").touch()
    (tmp_path / "story.wav").symlink_to(tmp_path / "store" / "77.wav")
    write_manifest(tmp_path / "m.jsonl", [Utterance("a", tmp_path / "story.wav", 1.0, "yes")])
    assert read_manifest(tmp_path / "m.jsonl")[0].audio_filepath == tmp_path / "story.wav"


def test_a_manifest_in_a_linked_folder(tmp_path: Path) -> None:
    (tmp_path / "real" / "lists").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "lists")
    audio = tmp_path / "real" / "a.wav"
    audio.touch()
    write_manifest(tmp_path / "link" / "m.jsonl", [Utterance("a", audio, 1.0, "yes")])
    assert read_manifest(tmp_path / "link" / "m.jsonl")[0].audio_filepath.samefile(audio)


def test_plain_records_hold_no_needless_keys(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.jsonl", [Utterance("a", tmp_path / "a.wav", 1.25, "ñu 小")])
    written_line = (tmp_path / "m.jsonl").read_text(encoding="utf-8")
    assert written_line == '{"id": "a", "audio_filepath": "a.wav", "duration": 1.25, "text": "ñu 小"}\n'


def test_hours() -> None:
    assert hours([Utterance("a", Path("a"), 1800.0, "x"), Utterance("b", Path("b"), 5400.0, "x")]) == 2.0
    assert hours([]) == 0


WORDS = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: text.strip() != "")
IDS = WORDS.filter(lambda text: "\0" not in text)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda text: text.strip() not in ("", ".", "..")
)
RATES_HZ = st.sampled_from([8000, 11025, 16000, 44100, 48000, 96000, 192000])


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(IDS, NAMES, WORDS, st.none() | WORDS, RATES_HZ, st.integers(1, 2 * 10**9), st.integers(0, 2 * 10**9)),
        min_size=1,
        max_size=4,
        unique_by=lambda row: row[0],
    )
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str, str | None, int, int, int]]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    made = [
        Utterance(name, folder / file, samples / rate_hz, text, offset=first / rate_hz, speaker=speaker)
        for name, file, text, speaker, rate_hz, samples, first in rows
    ]
    write_manifest(folder / "m.jsonl", made)
    found = read_manifest(folder / "m.jsonl")
    # Seconds are stored to a microsecond: enough to name every sample.
    exact = [
        replace(utterance, duration=before.duration, offset=before.offset)
        for utterance, before in zip(found, made, strict=True)
    ]
    assert exact == made
    for utterance, (_, _, _, _, rate_hz, samples, first) in zip(found, rows, strict=True):
        assert s_to_samples(utterance.duration, rate_hz) == samples
        assert s_to_samples(utterance.offset, rate_hz) == first


def test_an_id_that_occurs_twice_is_not_written(tmp_path: Path) -> None:
    made = [Utterance(name, tmp_path / f"{name}.wav", 1.0, "yes") for name in "aba"]
    with pytest.raises(ManifestError, match=r"m\.jsonl: id 'a' stands more than once among the utterances"):
        write_manifest(tmp_path / "m.jsonl", made)
    assert not (tmp_path / "m.jsonl").exists()


@given(st.lists(st.text() | st.from_regex(r'\{"(text|duration|id)": [-0-9a-z"\[\{]{1,6}\}?'), max_size=3))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes("\n".join(lines).encode("utf-8", errors="surrogatepass"))
    with pytest.raises(ManifestError, match=r"any\.jsonl"):
        read_manifest(path)
