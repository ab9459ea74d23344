"""`asr transcribe`: lines or JSON, and the decoder that flags or the run folder ask for."""

import json
import os
from pathlib import Path

import pytest

from asr.cli import main
from tiny_run import save_run, succeed, write_audio

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


def test_transcribe_txt_and_json(capsys: Capture, run: Path, tmp_path: Path) -> None:
    first = write_audio(tmp_path / "b ü 音.wav", 0.75)
    second = write_audio(tmp_path / "a.flac", 1.5)
    out, err = succeed(capsys, "transcribe", first, second, "--model", run)
    assert err == ""
    pairs = [line.split("\t") for line in out.splitlines()]
    assert [path for path, _ in pairs] == [str(first), str(second)]
    assert all(text and set(text) <= set(" abcdefgh") for _, text in pairs)

    out, err = succeed(capsys, "transcribe", tmp_path, "--model", run, "--format", "json", "--batch-s", "1")
    assert err == ""
    records = [json.loads(line) for line in out.splitlines()]
    assert [(record["audio_filepath"], record["duration"], record["text"]) for record in records] == [
        (str(second), 1.5, pairs[1][1]),
        (str(first), 0.75, pairs[0][1]),
    ]
    assert "b ü 音.wav" in out  # readable, not escaped
    for record in records:
        words = [word for segment in record["segments"] for word in segment["words"]]
        assert [word["word"] for word in words] == record["text"].split()
        times = [time_s for word in words for time_s in (word["start"], word["end"])]
        assert times == sorted(times)
        assert times[-1] <= record["duration"]
        assert all(0 <= word["probability"] <= 1 for word in words)
        assert all(0 <= part["confidence"] <= 1 for part in (record, *record["segments"]))
        assert [segment["id"] for segment in record["segments"]] == list(range(len(record["segments"])))
        [only] = record["alternatives"]
        assert only["text"] == record["text"]
        assert only["score"] < 0


def test_transcribe_a_name_that_is_not_text(capsys: Capture, run: Path, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    try:
        path.touch()
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    path.write_bytes(write_audio(tmp_path / "a.wav").read_bytes())
    assert succeed(capsys, "transcribe", path, "--model", run)[0].startswith(f"{tmp_path}/caf\\udce9.wav\t")
    out, _ = succeed(capsys, "transcribe", path, "--model", run, "--format", "json")
    assert json.loads(out)["audio_filepath"] == str(path)


ARPA = """\\data\\
ngram 1=5

\\1-grams:
-1\t<unk>
-99\t<s>
-0.5\t</s>
-0.3\tab
-0.9\tcab

\\end\\
"""


def test_a_flag_of_the_beam_takes_the_beam(capsys: Capture, run: Path, tmp_path: Path) -> None:
    audio, lm = write_audio(tmp_path / "a.wav"), tmp_path / "lm.arpa"
    lm.write_text(ARPA)
    out, err = succeed(capsys, "transcribe", audio, "--model", run, "--lm", lm, "--alpha", "1", "--beta", "0")
    assert err == f"decoder: beam of 100, language model {lm} (alpha 1, beta 0)\n"
    (tmp_path / "words.txt").write_text("ab\ncab\n")
    out, err = succeed(capsys, "transcribe", audio, "--model", run, "--lexicon", tmp_path / "words.txt")
    assert set(out.rstrip("\n").split("\t")[1].split()) <= {"ab", "cab"}
    command = ("transcribe", audio, "--model", run, "--n-best", "3", "--format", "json")
    out, err = succeed(capsys, *command)
    assert err == "decoder: beam of 100\n"
    record = json.loads(out)
    scores = [item["score"] for item in record["alternatives"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert record["alternatives"][0]["text"] == record["text"]


def test_a_run_folder_that_names_its_decoder(capsys: Capture, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", "decode.decoder=beam", "decode.lm=lm.arpa", "decode.alpha=0.7")
    (run / "lm.arpa").write_text(ARPA)
    audio = write_audio(tmp_path / "a.wav")
    own = run / "lm.arpa"
    _, err = succeed(capsys, "transcribe", audio, "--model", run, "--beta", "2")
    assert err == f"decoder: beam of 100, language model {own} (alpha 0.7, beta 2)\n"
    assert succeed(capsys, "transcribe", audio, "--model", run, "--decoder", "greedy")[1] == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--alpha", "1"], "--alpha does nothing without a language model: give --lm FILE"),
        (["--decoder", "greedy", "--beam-size", "3"], "--beam-size needs --decoder beam, found --decoder greedy"),
        (
            ["--decoder", "greedy", "--n-best", "3", "--format", "json"],
            "--n-best needs --decoder beam, found --decoder",
        ),
        (["--n-best", "2"], "--n-best above 1 needs --format json"),
        (["--n-best", "0"], "--n-best must be at least 1, found 0"),
        (["--beam-size", "0"], "decode.beam_size must be in 1..100000, found 0"),
        (["--lm", "none.arpa"], "none.arpa: cannot be read: No such file or directory"),
        (["--lexicon", "none.txt"], "none.txt: cannot read lexicon: No such file or directory"),
    ],
)
def test_decoder_flags_that_cannot_be(capsys: Capture, run: Path, flags: list[str], message: str) -> None:
    assert main(["transcribe", "a.wav", "--model", str(run), *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1


def test_weights_of_another_language_model_are_said_to_be(capsys: Capture, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", "decode.decoder=beam", "decode.lm=lm.arpa", "decode.alpha=0.7")
    own, other = run / "lm.arpa", tmp_path / "other.arpa"
    for path in (own, other):
        path.write_text(ARPA)
    command = ("transcribe", write_audio(tmp_path / "a.wav"), "--model", run, "--lm")
    _, err = succeed(capsys, *command, other)
    first, note = err.splitlines()
    assert first == f"decoder: beam of 100, language model {other} (alpha 0.7, beta 1.5)"
    assert note == (
        f"note: alpha 0.7 and beta 1.5 are what {run} has for {own}; another language model may need other weights: "
        "give --alpha and --beta, or run asr tune"
    )
    assert f"note: beta 1.5 is what {run} has" in succeed(capsys, *command, other, "--alpha", "1")[1]
    for flags in ((own,), (other, "--alpha", "1", "--beta", "2")):
        assert "note" not in succeed(capsys, *command, *flags)[1]
