"""Recordings without transcripts as training data: where they are cut, what is kept, and what is refused."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given

from asr.decode import Word
from asr.errors import ConfigError
from asr.label import Labelled, label, left_of, name_of, write_labelled
from asr.manifest import Utterance, read_manifest
from asr.sources import Recording
from asr.transcribe import WHOLE_S
from asr.transcript import Transcript
from recognised import transcript, transcripts
from tiny_run import error_line, save_run, succeed, write_audio

CALL = Recording("calls/a.wav", Path("calls/a.wav"))


def spans(found: list[Labelled]) -> list[tuple[float, float, str]]:
    return [(round(item.utterance.offset, 3), round(item.utterance.duration, 3), item.utterance.text) for item in found]


# --- where they are cut -----------------------------------------------------------------------------------------------


def test_a_short_recording_is_one_utterance() -> None:
    words = [Word("yes", 1.0, 1.2, 0.9), Word("no", 9.0, 9.2, 0.4)]
    part = Recording("u1", Path("/calls/a.wav"), 5.0, 29.5, "ann")
    (found,) = label(part, transcript(words, 29.5))
    assert found.utterance == Utterance("u1", Path("/calls/a.wav"), 29.5, "yes no", 5.0, "ann")
    assert found.confidence == pytest.approx(0.6)


def test_a_long_one_is_cut_in_its_pauses() -> None:
    """0.3 s of a pause go with the words at either side of it; a pause of 0.5 s is none."""
    words = [
        Word("a", 0.1, 0.4, 1.0),
        Word("b", 0.9, 1.0, 0.25),
        Word("c", 10.0, 11.0, 0.5),
        Word("d", 11.7, 12.0, 0.7),
        Word("e", 39.9, 40.0, 0.8),
    ]
    found = list(label(CALL, transcript(words, 40.1)))
    assert spans(found) == [(0.0, 1.3, "a b"), (9.7, 1.6, "c"), (11.4, 0.9, "d"), (39.6, 0.5, "e")]
    assert [item.confidence for item in found] == pytest.approx([0.5, 0.5, 0.7, 0.8])
    assert [item.utterance.id for item in found] == ["calls_a@0.0", "calls_a@9.7", "calls_a@11.4", "calls_a@39.6"]


def test_offsets_count_from_the_beginning_of_the_file() -> None:
    part = Recording("u1", Path("/calls/a.wav"), 100.0, 40.0, "ann")
    (found,) = label(part, transcript([Word("a", 5.0, 6.0, 1.0)], 40.0))
    assert found.utterance == Utterance("u1@104.7", Path("/calls/a.wav"), pytest.approx(1.6), "a", 104.7, "ann")


def test_what_has_no_pause_is_cut_between_words() -> None:
    words = [Word(f"w{place}", 0.5 * place, 0.5 * place + 0.4, 1.0) for place in range(70)]
    found = spans(list(label(CALL, transcript(words, 35.0))))
    assert len(found) > 4
    assert all(seconds < 8 for _, seconds, _ in found)
    assert all(end == pytest.approx(start, abs=0.002) for end, start in pairwise_edges(found))
    assert " ".join(text for _, _, text in found) == " ".join(word.text for word in words)


def pairwise_edges(found: list[tuple[float, float, str]]) -> list[tuple[float, float]]:
    return [(start + seconds, after) for (start, seconds, _), (after, _, _) in pairwise(found)]


def test_a_long_recording_without_a_word_is_whole() -> None:
    (found,) = label(CALL, transcript([], 100.0))
    assert (found.utterance.duration, found.utterance.text) == (100.0, "")


@given(transcripts())
def test_utterances_hold_their_words_and_no_others(made: Transcript) -> None:
    found = list(label(CALL, made))
    if made.duration_s <= WHOLE_S:
        assert [item.utterance.text for item in found] == [made.text]
        return
    assert len({item.utterance.id for item in found}) == len(found)
    for item in found:
        first, end = item.utterance.offset, item.utterance.offset + item.utterance.duration
        assert 0 <= first < end <= made.duration_s + 1e-6
        inside = [word for word in made.words if first <= word.start_s + 1e-6 and word.end_s <= end + 1e-6]
        assert set(item.utterance.text.split(" ")) <= {piece for word in inside for piece in word.text.split(" ")} | {
            ""
        }
    for before, after in pairwise(found):
        assert before.utterance.offset + before.utterance.duration <= after.utterance.offset + 1e-6


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.wav", "a"),
        ("calls/one/b.x.flac", "calls_one_b.x"),
        ("../calls/a.wav", "calls_a"),
        ("/calls/a.wav", "calls_a"),
    ],
)
def test_a_file_is_called_by_its_path(name: str, wanted: str) -> None:
    assert name_of(Recording(name, Path(name))) == wanted


def test_standard_input_cannot_be_read_again() -> None:
    with pytest.raises(ConfigError, match="standard input: a manifest names files"):
        name_of(Recording("standard input", b"RIFF"))


# --- what is written --------------------------------------------------------------------------------------------------


def test_what_is_less_certain_or_silent_is_kept_apart(tmp_path: Path) -> None:
    def item(name: str, text: str, confidence: float) -> Labelled:
        return Labelled(Utterance(name, tmp_path / f"{name}.wav", 1800.0, text), confidence)

    out = tmp_path / "texts" / "own.jsonl"
    found = [item("a", "one two", 0.9), item("b", "three", 0.89999), item("c", "", 1.0)]
    assert write_labelled(out, found, 0.9) == (
        f"1 of 3 utterances, 0.50 of 1.50 h, 2 words with a confidence of 0.9 or more; the others are in {left_of(out)}"
    )
    assert left_of(out).name == "own.left.jsonl"
    assert [utterance.id for utterance in read_manifest(out)] == ["a"]
    assert [utterance.text for utterance in read_manifest(left_of(out), with_texts=False)] == ["three", ""]
    assert json.loads(out.read_text()) == {
        "id": "a",
        "audio_filepath": "../a.wav",
        "duration": 1800.0,
        "text": "one two",
        "confidence": 0.9,
    }


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run = save_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    for name in ("calls/a.wav", "calls/one/b.flac"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write_audio(tmp_path / name, 0.5)
    out, err = succeed(capsys, "label", "calls", "--model", run, "-o", "own/all.jsonl", "--min-confidence", 0)
    assert out == ""
    texts = dict(line.split("\t") for line in succeed(capsys, "transcribe", "calls", "--model", run)[0].splitlines())
    assert all(texts.values()), "this model hears something in noise, or the test tests nothing"
    found = read_manifest("own/all.jsonl")
    assert [(item.id, item.text) for item in found] == [
        ("calls_a", texts["calls/a.wav"]),
        ("calls_one_b", texts["calls/one/b.flac"]),
    ]
    assert [item.audio_filepath.resolve() for item in found] == [tmp_path / name for name in texts]
    assert "own/all.jsonl: 2 of 2 utterances, 0.00 of 0.00 h" in err
    succeed(capsys, "label", "own/all.jsonl", "--model", run, "-o", "own/sure.jsonl", "--min-confidence", 1)
    assert Path("own/sure.jsonl").read_text() == ""
    assert read_manifest("own/sure.left.jsonl") == found


def test_what_cannot_be_read_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = save_run(tmp_path / "run"), tmp_path / "own.jsonl"
    good = write_audio(tmp_path / "good.wav")
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    from asr.cli import main

    asked = ["--model", str(run), "-o", str(out), "--min-confidence", "0"]
    assert main(["label", str(bad), str(good), *asked]) == 1
    assert capsys.readouterr().err.startswith(f"error: {bad}: ")
    assert [item.audio_filepath for item in read_manifest(out)] == [good]
    out.unlink()
    assert main(["label", str(bad), *asked]) == 2
    assert not out.exists()


def test_what_makes_no_manifest_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, wav = save_run(tmp_path / "run"), write_audio(tmp_path / "a.wav")
    flac = write_audio(tmp_path / "a.flac")
    out = tmp_path / "own.jsonl"

    def refused(*arguments: object) -> str:
        line = error_line(capsys, "label", "--model", run, *arguments)
        assert not out.exists()
        return line

    assert "--min-confidence must be in 0..1, found 1.5" in refused(wav, "-o", out, "--min-confidence", 1.5)
    assert "wanted a name that ends in .jsonl" in refused(wav, "-o", tmp_path / "own.json")
    assert f"{wav} and {flac} would both be called" in refused(wav, flac, "-o", out)
    assert f"{wav} and {wav} would both be called" in refused(wav, wav, "-o", out)
    assert "standard input" in refused("-", "-o", out)
    given = tmp_path / "given.left.jsonl"
    given.write_text(json.dumps({"audio_filepath": "a.wav", "duration": 1.0}) + "\n")
    assert "is to be read, and would be replaced" in refused(given, "-o", given)
    assert "is to be read, and would be replaced" in refused(given, "-o", tmp_path / "given.jsonl")
