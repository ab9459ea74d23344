"""`asr report`: the page as a whole, every number in it, and what it says of what is missing or damaged."""

import base64
import io
import math
import re
from pathlib import Path

import pytest
import soundfile

from asr.cli import main
from asr.config import Config
from asr.hypotheses import Result
from asr.manifest import Utterance
from asr.overrides import flatten
from asr.pages import recordings, scored
from asr.pages.charts import Series, line_chart
from asr.pages.metrics import read_metrics
from asr.pages.run import run_page
from asr.report import counts_text, interval_text
from asr.wer import score
from page_parser import Node, read_page
from scored_run import RESULTS, epoch, scored_run, write_log, write_set
from tiny_run import RATE_HZ, error_line, save_run, succeed, write_audio

Capture = pytest.CaptureFixture[str]
EVIL = "<script>alert('1')</script>&\""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored_run(tmp_path_factory.mktemp("runs") / "mine")


@pytest.fixture(scope="module")
def root(run: Path) -> Node:
    return read_page(run_page(run).html)


def outline(root: Node) -> list[str]:
    return [f"{'  ' * (int(node.tag[1]) - 1)}{node.text}" for node in root.all("h1", "h2", "h3", "h4")]


OF_A_SET = ["Speakers", "Lengths", "Most frequent errors", "Confidence", "Utterances with most errors"]


def test_every_part_is_there(root: Node) -> None:
    below = [f"    {title}" for title in OF_A_SET]
    assert outline(root) == [
        "Run mine",
        "  Summary",
        "  What is missing",
        "  Training",
        "  Results on dev",
        *[*below, "      u1", "      u2"],
        "  Results on test",
        *[*below, "      u1", "      u4", "      u2", "      u5"],
        "  Configuration",
    ]
    assert [link.text for link in root.all("a")] == [node.text for node in root.all("h2")]


def test_summary(root: Node, run: Path) -> None:
    summary = root.one("summary")
    facts = summary.facts()
    assert facts["Folder"] == str(run)
    assert facts["Training"] == "finished, 4 of 4 epochs in the log"
    assert facts["Encoder"] == "1 x 8 lstm in both directions, 4 frames to one"
    assert facts["Trained with"].startswith("asr ")
    test, dev = score(RESULTS), score(RESULTS[:3])
    assert summary.table("Results")[1:] == [
        ["dev", "beam of 7", "33.33%", interval_text(dev), "3", "9", "25.00%", "66.67% [2 / 3]", "3"],
        [
            *("test", "greedy", f"{test.words.percent:.2f}%", interval_text(test), "5", "18"),
            *(f"{test.characters.percent:.2f}%", "80.00% [4 / 5]", "5"),
        ],
    ]


def test_results_of_a_set(root: Node, run: Path) -> None:
    part = root.one("set-2")
    expected = score(RESULTS)
    assert part.facts() == {
        "Word error rate": counts_text(expected.words),
        "95% interval": interval_text(expected),
        "Character error rate": counts_text(expected.characters),
        "Sentence error rate": "80.00% [4 / 5]",
        "Size": "5 utterances, 0.8 minutes",
        "Decoder": "greedy",
        "Manifest": str(run / "test.jsonl"),
    }
    assert part.table("Speakers, highest WER first") == [
        ["speaker", "WER", "errors", "words", "ins", "del", "sub", "utterances"],
        ["bob", "50.00%", "1", "2", "0", "1", "0", "2"],
        ["ann", "37.50%", "3", "8", "1", "1", "1", "2"],
        ["(unknown)", "12.50%", "1", "8", "0", "0", "1", "1"],
    ]
    assert [row[:3] + row[-1:] for row in part.table("By words of the reference")] == [
        ["words", "WER", "errors", "utterances"],
        ["1", "50.00%", "1", "2"],
        ["2-3", "50.00%", "1", "1"],
        ["4-7", "33.33%", "2", "1"],
        ["8-15", "12.50%", "1", "1"],
    ]
    assert [row[:3] + row[-1:] for row in part.table("By seconds of audio")] == [
        ["seconds", "WER", "errors", "utterances"],
        ["0-1", "21.43%", "3", "2"],
        ["1-2", "50.00%", "1", "1"],
        ["2-4", "0.00%", "0", "1"],
        ["32-64", "100.00%", "1", "1"],
    ]
    assert part.table("Substitutions: 2") == [["said -> heard", "times"], ["h -> x", "1"], ["sat -> sit", "1"]]
    assert part.table("Deletions: 2") == [["word", "times"], ["no", "1"], ["the", "1"]]
    assert part.table("Insertions: 1") == [["word", "times"], ["big", "1"]]


def test_confidence(root: Node) -> None:
    part = root.one("set-2-confidence")  # 17 words, 14 of them right, each with a confidence of 0.75
    rows = part.table("Words in bins of equal size, lowest confidence first")
    assert rows[:2] == [["bin", "words", "confidence", "right", "difference"], ["1", "2", "0.750", "1.000", "-0.250"]]
    assert [sum(int(row[1]) for row in rows[1:]), len(rows)] == [17, 11]
    assert "Expected calibration error 0.279: 17 words, 82.4% right, mean confidence 0.750." in part.text
    assert len(part.all("circle")) == 10
    assert root.one("set-1-confidence").text == "ConfidenceThe confidences were not kept."


def test_alignments_have_a_letter_for_each_error(root: Node) -> None:
    part = root.one("set-2-worst")
    shown = {}
    for article in part.all("article"):
        columns = [[span.text for span in item.all("span")] for item in article.all("li")]
        shown[article.all("h4")[0].text] = [" ".join(row) for row in zip(*columns, strict=True)]
    assert shown == {
        "u1": ["the cat sat on the mat", "the cat sit S on *** D mat"],
        "u2": ["hello *** world", "hello big I world"],
        "u4": ["no", "*** D"],
        "u5": ["a b c d e f g h", "a b c d e f g x S"],
    }
    titles = {mark.text: mark.attributes["title"] for mark in part.all("abbr")}
    assert titles == {"S": "substituted", "D": "deleted", "I": "inserted"}
    assert [node.attributes["class"] for node in part.all("span") if node.all("abbr")][:2] == ["word S", "word D"]


def test_recordings_are_inside_the_page(root: Node) -> None:
    players = {node.attributes["aria-label"]: node for node in root.one("set-2-worst").all("audio")}
    assert list(players) == ["audio of u1", "audio of u2", "audio of u5"]
    data = base64.b64decode((players["audio of u2"].attributes["src"] or "").split(",")[1])
    samples, rate_hz = soundfile.read(io.BytesIO(data), dtype="int16")
    assert (len(samples), rate_hz) == (1.5 * RATE_HZ, RATE_HZ)
    assert 1000 < abs(samples).mean() < 5000
    assert "40.0 s, too long for this page: " in root.one("set-2-worst").text


def test_curves_and_the_numbers_behind_them(root: Node) -> None:
    part = root.one("training")
    assert "4 epochs in the log, 40 steps, 4:00 of training. Best on dev: epoch 3, WER 20.00%." in part.text
    assert [figure.all("b")[0].text for figure in part.all("figure")] == [
        "CTC loss of an utterance in nats",
        "Error rate on dev in percent",
        "Learning rate",
        "Speed in hours of audio for an hour",
    ]
    labels = [svg.attributes["aria-label"] or "" for svg in part.all("svg")]
    assert labels[0].endswith(
        "train: first 8, lowest 2 (epoch 4), last 2; dev: first 6, lowest 1.5 (epoch 4), last 1.5."
    )
    assert labels[2] == "Learning rate. learning rate: first 0.001, highest 0.001 (epoch 1), last 0.00025."
    assert part.table("Epochs")[0::4] == [
        ["epoch", "step", "train loss", "dev loss", "dev WER", "expected", "dev CER", "learning rate", "h/h"],
        ["4", "40", "2.0000", "1.5000", "15.00%", "16.50%", "7.50%", "0.00025", "104.0"],
    ]
    assert part.table("Epochs")[1][0] == "1 (best so far)"
    assert part.table("Events: 1")[1] == ["skipped", "15", "loss nan; gradient_norm 1.5; ids u8, u9"]


def test_configuration(root: Node) -> None:
    part = root.one("configuration")
    changed = part.table("What this run sets")
    assert changed[0] == ["key", "value", "built in"]
    assert ["train.epochs", "4", "60"] in changed
    rest = [node for node in part.all("table") if "as built in" in node.all("caption")[0].text]
    assert len(changed) - 1 + len(rest[0].all("tr")) - 1 == len(flatten(Config()))


def test_command(capsys: Capture, run: Path, tmp_path: Path) -> None:
    out, err = succeed(capsys, "report", run, "--worst", 1, "--out", tmp_path / "page.html")
    assert out == f"{tmp_path / 'page.html'}\n"
    assert err == f"note: {run / 'dev'}: no words.jsonl, so no confidences; asr evaluate writes it\n"
    root = read_page((tmp_path / "page.html").read_text())
    assert [node.text for node in root.all("h4")] == ["u1", "u1"]
    assert "1 of the 4 utterances with errors, most errors first. The other 3 are in report.txt." in root.text
    assert error_line(capsys, "report", run, "--worst", -1) == "error: --worst must be at least 0, found -1"


def test_the_page_goes_into_the_run(capsys: Capture, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    out, err = succeed(capsys, "report", run)
    assert out == f"{run / 'report.html'}\n"
    assert err.splitlines() == [
        f"note: {run}/metrics.jsonl: is missing",
        f"note: {run}: not evaluated yet; asr evaluate MANIFEST --model {run} does it",
    ]
    assert outline(read_page((run / "report.html").read_text())) == [
        *("Run run", "  Summary", "  What is missing", "  Configuration")
    ]


def test_a_run_under_way(tmp_path: Path) -> None:
    """Epochs without dev, a last line that is being written, no weights yet."""
    run = save_run(tmp_path / "run")
    (run / "weights.safetensors").unlink()
    plain = {key: value for key, value in epoch(2).items() if not key.startswith("dev") and key != "best"}
    write_log(run, epoch(1, train_loss="inf", dev_loss="nan"), plain, '{"event": "epo')
    found = run_page(run)
    assert found.faults == []
    assert [note.removeprefix(f"{run}/") for note in found.notes][:2] == [
        "weights.safetensors: is missing",
        "metrics.jsonl: the last line is not finished, and left out",
    ]
    root = read_page(found.html)
    assert root.one("summary").facts()["Training"] == "under way or interrupted, 2 of 60 epochs in the log"
    assert root.one("training").table("Epochs")[1:] == [
        ["1 (best so far)", "10", "inf", "nan", "60.00%", "66.00%", "30.00%", "0.001", "101.0"],
        ["2", "20", "4.0000", "", "", "", "", "0.0005", "102.0"],
    ]
    assert "train: first 4, lowest 4 (epoch 2), last 4; 1 not finite." in root.text


def test_a_folder_of_results_alone(tmp_path: Path) -> None:
    found = run_page(write_set(tmp_path / "test", RESULTS))
    assert [node.text for node in read_page(found.html).all("h2")] == ["Summary", "Results on test"]
    assert found.notes == []


def test_damage_is_named_and_the_rest_is_shown(capsys: Capture, tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    write_log(
        run, epoch(1), "[1]\n", '{"event": "epoch", "epoch": "x", "step": 3}\n', epoch(2, dev_loss="many"), epoch(3)
    )
    (run / "dev" / "hypotheses.jsonl").write_text("{\n")
    (run / "config.yaml").write_text("train: {epoch: 3}\n")
    (run / "weights.safetensors").write_bytes(b"x")
    assert main(["report", str(run)]) == 1
    out, err = capsys.readouterr()
    assert out == f"{run / 'report.html'}\n"
    damaged = [line.removeprefix("damaged: ") for line in err.splitlines() if line.startswith("damaged: ")]
    expected = [
        "config.yaml: unknown key 'train.epoch'; did you mean 'train.epochs'?",
        "weights.safetensors: damaged or not a safetensors file",
        "metrics.jsonl:2: not a record of the log: wanted a JSON object, found list",
        "metrics.jsonl:3: not a record of the log: epoch must be a whole number, found 'x'",
        "metrics.jsonl:4: not a record of the log: dev_loss must be a number, found 'many'",
        "dev/hypotheses.jsonl:1: not a JSON record",
    ]
    assert len(damaged) == len(expected)
    for line, wanted in zip(damaged, expected, strict=True):
        assert wanted in line
    root = read_page((run / "report.html").read_text())
    assert [node.text for node in root.one("missing").all("li")][: len(damaged)] == [f"Damaged: {x}" for x in damaged]
    assert "Results on test" in [node.text for node in root.all("h2")]
    assert [row[0] for row in root.one("training").table("Epochs")[1:]] == ["1 (best so far)", "3 (best so far)"]


def test_words_of_other_hypotheses(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    folder = write_set(run / "test", RESULTS)
    kept = (folder / "words.jsonl").read_text()
    (folder / "words.jsonl").write_text(kept.replace('"sit"', '"set"'))
    (fault,) = run_page(run).faults
    assert fault.endswith("utterance 'u1': its words are 'the cat set on mat', its hypothesis is 'the cat sit on mat'")


def test_no_run(capsys: Capture, tmp_path: Path) -> None:
    assert error_line(capsys, "report", tmp_path / "no") == f"error: {tmp_path / 'no'}: run folder is missing"
    assert error_line(capsys, "report", tmp_path) == (
        f"error: {tmp_path}: not a run folder: holds no config.yaml, metrics.jsonl or hypotheses.jsonl"
    )
    (tmp_path / "file").touch()
    assert error_line(capsys, "report", tmp_path / "file").endswith("file: is a file, wanted a run folder")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_audio_that_is_missing(capsys: Capture, tmp_path: Path) -> None:
    """A row says so, and the page and one line on standard error."""
    run = save_run(tmp_path / "run")
    write_set(run / "test", RESULTS)
    (run / "u1.wav").unlink()
    (run / "u5.wav").write_bytes(b"RIFF")
    _, err = succeed(capsys, "report", run)
    line = f"no audio of utterance u1: {run / 'u1.wav'}: cannot read audio: No such file or directory, and 1 more"
    assert err.splitlines()[-1] == f"note: {line}"
    root = read_page((run / "report.html").read_text())
    assert line in [node.text for node in root.one("missing").all("li")]
    says = [node.text for node in root.one("set-1-worst").all("p") if node.text.startswith("no audio: ")]
    assert says == [
        f"no audio: {run / 'u1.wav'}: cannot read audio: No such file or directory",
        f"no audio: {run / 'u5.wav'}: cannot read audio: format not recognised; if it is audio, convert it to WAV or "
        "FLAC first, for example: ffmpeg -i FILE FILE.wav",
    ]
    assert len(root.all("audio")) == 1


def test_a_manifest_that_is_gone_or_changed(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    write_set(run / "test", RESULTS)
    manifest = run / "test.jsonl"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[1:]))
    page = run_page(run).html
    assert "no audio: the manifest no longer holds this utterance" in page
    assert len(read_page(page).all("audio")) == 2
    manifest.unlink()
    found = run_page(run)
    assert (
        found.notes[-1]
        == f"{run / 'test'}: nothing can be played: {manifest}: cannot read manifest: No such file or directory"
    )
    assert read_page(found.html).all("audio") == []


def test_the_page_does_not_grow_past_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = save_run(tmp_path / "run")
    write_set(run / "test", RESULTS)
    monkeypatch.setattr(recordings.Recordings, "__init__", lambda self: vars(self).update(left_bytes=30_000, unread=[]))
    root = read_page(run_page(run).html)
    assert [node.attributes["aria-label"] for node in root.all("audio")] == ["audio of u1"]
    assert root.text.count("no room left in this page: ") == 2


def test_segments_and_channels(tmp_path: Path) -> None:
    """Half a second from the middle of a recording of two channels at 96 kHz."""
    write_audio(tmp_path / "mono.wav", 1.0)
    mono, _ = soundfile.read(tmp_path / "mono.wav")
    soundfile.write(tmp_path / "a.wav", [[value, -value / 2] for value in mono], 96_000)
    utterance = Utterance("u", tmp_path / "a.wav", 0.05, "x", offset=0.1)
    player = recordings.Recordings().player("u", {"u": utterance})
    data = base64.b64decode(re.findall(r"base64,([^\"]+)", player)[0])
    samples, rate_hz = soundfile.read(io.BytesIO(data))
    assert (samples.shape, rate_hz) == ((2400,), 48_000)


def test_text_from_data_is_harmless(tmp_path: Path) -> None:
    """Ids, speakers, words, names of folders, logs and manifests that look like markup."""
    run = tmp_path / "<b>'run\""
    results = [
        Result(EVIL, EVIL, f"a {EVIL}", f"b </style>{EVIL}", 1.0),
        Result("\u202e id", None, "כן לא", "לא", 1.0),
    ]
    run.mkdir()
    write_set(run / "<i>", [Result(r.id.replace("/", "-"), r.speaker, r.reference, r.hypothesis, 1.0) for r in results])
    write_log(run, epoch(1), {"event": EVIL, "step": 1, EVIL: [EVIL]}, f"{EVIL}\n")
    root = read_page(run_page(run).html)
    assert root.all("b", "i", "style")[0].text.count("<script>") == 0
    assert [node.tag for node in root.all("script", "i")] == []
    assert root.all("h1")[0].text == f"Run {run.name}"
    assert root.one("training").table("Events: 1")[1] == [EVIL, "1", f"{EVIL} {EVIL}"]
    assert EVIL in [cell.text for cell in root.one("set-1-speakers").all("th")]
    assert {node.attributes["dir"] for node in root.all("ol")} == {"auto"}


def test_rows_of_long_tables_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scored, "MOST_SPEAKERS", 2)
    monkeypatch.setattr(scored, "MOST_FREQUENT", 1)
    root = read_page(run_page(write_set(tmp_path / "test", RESULTS)).html)
    assert len(root.table("Speakers, highest WER first (1 with lower ones left out)")) == 3
    assert root.table("Deletions: 2")[1:] == [["no", "1"], ["1 others", "1"]]


def test_numbers_that_no_float_can_hold(tmp_path: Path) -> None:
    write_log(tmp_path, f'{{"event": "epoch", "epoch": 1, "step": 1, "dev_loss": 1{"0" * 400}}}\n', '{"step": 1e999}\n')
    found = read_metrics(tmp_path / "metrics.jsonl")
    assert (found.epochs, len(found.faults), found.cut) == ([], 2, False)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "ys",
    [
        [1.0],
        [0.0],
        [5.0, 5.0],
        [0.0, 1e-9],
        [1e-12, 1e12],
        [-3.0, 2.0],
        [math.nan, 2.0, math.inf, 1.0],
        [99.9, 100.0],
        [5e-324, 1.0],
    ],
)
def test_lines_stay_inside_their_chart(ys: list[float], log: bool) -> None:
    chart = line_chart("t", "x", [Series("s", list(enumerate(ys, start=1)))], log=log)
    numbers = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", "".join(re.findall(r'd="([^"]+)" class="line', chart)))
    assert len(numbers) == sum(map(math.isfinite, ys))
    assert all(48 <= float(x) <= 350 and 26 <= float(y) <= 184 for x, y in numbers), numbers
    ticks = [float(text) for text in re.findall(r'text-anchor="end">([^<]+)<', chart)]
    assert len(ticks) >= 2
    assert ticks == sorted(set(ticks))


def test_a_line_with_a_gap_is_cut() -> None:
    chart = line_chart("t", "x", [Series("s", [(1, 1.0), (2, math.nan), (3, 1.0), (4, 2.0)])])
    assert chart.count('class="line line0"') == 2 + 1  # two pieces; the first is a point, which has a mark
    assert "no value is finite" in line_chart("t", "x", [Series("s", [(1, math.nan)])])
