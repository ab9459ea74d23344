"""`asr inspect`: the folder it writes, what the pages say, and what it refuses."""

import base64
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from PIL import Image

from asr import checkpoint
from asr.decode import Word
from asr.errors import ConfigError
from asr.gates import Trace
from asr.inspection import Inspection, compare, inspect_recording, part_of
from asr.pictures import recording
from tiny_run import RATE_HZ, error_line, save_run, succeed, write_audio, write_texts

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One direction: half of the pictures, and half of the time."""
    return save_run(tmp_path_factory.mktemp("run"), "encoder.bidirectional=false")


@pytest.fixture(scope="module")
def shown(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    audio = write_audio(tmp_path_factory.mktemp("audio") / "a.wav", 1.5)
    return inspect_recording(checkpoint.load(run), audio, start_s=0.25, end_s=1.25, reference="ab cab")


class Page(HTMLParser):
    """What a test asks of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data + " "

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def check_page(page: Page) -> None:
    """It stands alone, and is there for everyone."""
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert any(found.get("name") == "viewport" for found in page.all("meta"))
    for image in page.all("img"):
        assert len(image["alt"] or "") > 40
        content = base64.b64decode((image["src"] or "").partition(",")[2])
        assert content.startswith(b"\x89PNG")


# --- one recording ----------------------------------------------------------------------------------------------------


def test_a_recording(tmp_path: Path, run: Path, capsys: Capture) -> None:
    audio = write_audio(tmp_path / "a$1$ <i>.wav")
    out, err = succeed(capsys, "inspect", audio, "--model", run, "--text", "ab cab", "--out", tmp_path / "out")
    assert err == ""
    assert "all 1.00 s" in out
    assert re.search(r"\d+ errors in 2 words", out)
    names = ("overview", "layer1-forward")
    expected = {"index.html", *(name + suffix for name in names for suffix in (".png", ".svg"))}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected
    for name in names:
        ElementTree.parse(tmp_path / "out" / f"{name}.svg")
        with Image.open(tmp_path / "out" / f"{name}.png") as image:
            assert image.width > 500
    page = Page(tmp_path / "out" / "index.html")
    check_page(page)
    assert len(page.all("img")) == 2
    assert "a$1$ <i>.wav" in page.text
    assert "forget 0." in (page.all("img")[1]["alt"] or "")
    assert {"said", "heard", "verdict"} <= set(page.text.split())


@pytest.mark.slow
def test_both_directions_are_drawn_and_the_same_each_time(tmp_path: Path, capsys: Capture) -> None:
    audio, run = write_audio(tmp_path / "a.wav"), save_run(tmp_path / "run")
    for out in ("one", "two"):
        succeed(capsys, "inspect", audio, "--model", run, "--out", tmp_path / out)
    assert (tmp_path / "one" / "layer1-backward.png").exists()
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "panels"), [("gru", 3), ("rnn", 1)])
def test_other_cells_show_what_they_have(tmp_path: Path, capsys: Capture, cell: str, panels: int) -> None:
    run = save_run(tmp_path / "run", f"encoder.cell={cell}", "encoder.bidirectional=false")
    audio = write_audio(tmp_path / "a.wav")
    succeed(capsys, "inspect", audio, "--model", run, "--out", tmp_path / "out")
    page = Page(tmp_path / "out" / "index.html")
    alt = page.all("img")[1]["alt"] or ""
    assert len(re.findall(r"\w+ -?\d\.\d\d", alt.partition("Means")[2])) == panels
    assert "hidden" in alt
    line = error_line(capsys, "inspect", audio, "--model", run, "--out", tmp_path / "none", "--gates", "forget")
    assert "this model's cells have no 'forget'; they have " in line
    assert line.endswith("hidden")
    assert not (tmp_path / "none").exists()


def test_a_long_recording_is_shown_in_part(tmp_path: Path, run: Path, capsys: Capture) -> None:
    audio = write_audio(tmp_path / "long.wav", 32.0)
    out, err = succeed(
        capsys, "inspect", audio, "--model", run, "--out", tmp_path / "out", "--from", 1, "--gates", "forget"
    )
    assert "1.00 to 31.00 s of 32.00 s" in out
    assert err.startswith("note: no more than this is shown at once")
    assert "1.00 to 31.00 s of 32.00 s" in Page(tmp_path / "out" / "index.html").text


def test_times_are_of_the_recording(shown: Inspection) -> None:
    assert (shown.start_s, shown.end_s, shown.total_s) == (0.25, 1.25, 1.5)
    assert shown.part == "0.25 to 1.25 s of 1.50 s"
    assert shown.wave.shape == (RATE_HZ,)
    assert len(shown.log_probs) == 25
    assert {len(value) for part in shown.traces for value in part.values.values()} == {25}
    assert shown.compared is not None
    words = [*shown.heard, *(column.said for column in shown.compared if column.said is not None)]
    assert words
    assert all(0.25 <= word.start_s < word.end_s <= 1.25 for word in words)


def test_the_part_is_what_the_model_hears_alone(shown: Inspection, run: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "part.wav", shown.wave, RATE_HZ, subtype="FLOAT")
    alone = inspect_recording(checkpoint.load(run), tmp_path / "part.wav")
    assert alone.part == "all 1.00 s"
    np.testing.assert_allclose(alone.log_probs, shown.log_probs, atol=1e-4)


def test_all_panels_share_the_axis_of_time(shown: Inspection) -> None:
    gates = recording.gates(shown, shown.traces[0], shown.traces[0].only(["forget", "cell"]))
    for figure, panels in ((recording.overview(shown), 4), (gates, 4)):
        timed = [axes for axes in figure.axes if axes.get_xlim() == (0.25, 1.25)]
        assert len(timed) == panels
        assert len({(axes.get_position().x0, axes.get_position().x1) for axes in timed}) == 1
        assert timed[-1].get_xlabel() == "time in the recording, s"
        assert timed[-1].xaxis.get_ticklocs().size > 2


def test_similar_units_become_neighbours() -> None:
    rng = np.random.default_rng(2)
    time = np.linspace(0, 20, 80)
    kinds = rng.integers(0, 3, 24)
    states = np.stack([np.sin(time * (1 + kind)) * rng.uniform(0.1, 4) for kind in kinds], axis=1)
    states += 0.01 * rng.standard_normal(states.shape)
    ordered = kinds[recording.order_of(Trace(1, "forward", {"cell": states, "hidden": 0 * states}))]
    assert sorted(ordered) == sorted(kinds)
    assert np.count_nonzero(np.diff(ordered)) == 2


def test_labels_that_are_never_likely_are_left_out(shown: Inspection) -> None:
    rows = recording.shown_labels(shown)
    peaks = np.exp(shown.log_probs.max(axis=0))
    assert rows == sorted(rows)
    assert set(rows) == {label for label, peak in enumerate(peaks) if peak >= 0.1} | set(shown.hypothesis.tokens)


# --- with a reference -------------------------------------------------------------------------------------------------


def dated(text: str) -> list[Word]:
    return [Word(word, float(place), place + 0.5, 1.0) for place, word in enumerate(text.split())]


def test_where_reference_and_hypothesis_part() -> None:
    said, heard = dated("zero one two and three four"), dated("nil one two three four five")
    columns, counts = compare(said, heard)
    verdicts = [column.verdict for column in columns]
    assert verdicts == ["substituted", "right", "right", "deleted", "right", "right", "inserted"]
    assert [column.said for column in columns if column.said] == said
    assert [column.heard for column in columns if column.heard] == heard
    assert (counts.errors, counts.reference) == (3, 6)


def test_nothing_heard_is_all_deleted() -> None:
    columns, counts = compare(dated("one two"), [])
    assert [column.verdict for column in columns] == ["deleted", "deleted"]
    assert counts.deletions == 2


# --- a manifest -------------------------------------------------------------------------------------------------------


def test_memory_of_a_run(tmp_path: Path, run: Path, capsys: Capture) -> None:
    manifest = write_texts(tmp_path / "m.jsonl", "ab", "ba", "cab")
    out, err = succeed(capsys, "inspect", manifest, "--model", run, "--out", tmp_path / "out", "--utterances", 2)
    assert err == ""
    lines = out.splitlines()
    assert "2 utterances" in lines[0]
    assert lines[1].split()[:2] == ["layer", "units"]
    assert [line.split()[:4] for line in lines[2:3]] == [["layer", "1,", "forward", "8"]]
    assert re.match(r"90% of the reach lies between [+-]\d+ and [+-]\d+ ms of a frame \(seen: ", lines[3])
    figures = json.loads((tmp_path / "out" / "memory.json").read_text())
    assert [len(part["ms"]) for part in figures["half_lives"]] == [8]
    assert len(figures["reach"]["lags_ms"]) == len(figures["reach"]["gradient"])
    page = Page(tmp_path / "out" / "index.html")
    check_page(page)
    assert len(page.all("img")) == 2
    assert lines[3] in page.text
    succeed(capsys, "inspect", manifest, "--model", run, "--out", tmp_path / "out", "--utterances", 2)  # made anew


def test_a_plain_network_has_a_reach_alone(tmp_path: Path, capsys: Capture) -> None:
    run = save_run(tmp_path / "run", "encoder.cell=rnn")
    manifest = write_texts(tmp_path / "m.jsonl", "ab")
    out, _ = succeed(capsys, "inspect", manifest, "--model", run, "--out", tmp_path / "out")
    assert "no half-lives: encoder.cell=rnn has no gate that forgets" in out
    assert not (tmp_path / "out" / "half_lives.png").exists()
    assert json.loads((tmp_path / "out" / "memory.json").read_text())["half_lives"] == []


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.wav"], "nowhere.wav: cannot read audio: No such file or directory"),
        (["empty.wav"], "empty.wav: file is empty (0 bytes)"),
        (["short.wav"], "short.wav: 160 samples of audio are shorter than one frame of 512"),
        (["a.wav", "--model", "nowhere"], "nowhere: run folder is missing"),
        (["a.wav", "--gates", "forget,reset"], "no 'reset'; they have input, forget, candidate, output, cell, hidden"),
        (["a.wav", "--from", "2"], "a.wav: a part from 2 s begins outside the recording of 1.00 s"),
        (["a.wav", "--from", "0.5", "--to", "0.5"], "a part from 0.5 to 0.5 s is not inside the recording of 1.00 s"),
        (["a.wav", "--to", "nan"], "--to must be a number of seconds from 0 on, found nan"),
        (["a.wav", "--from", "-1"], "--from must be a number of seconds from 0 on, found -1"),
        (["long.wav", "--to", "31"], "long.wav: 31 s from 0 to 31 are more than the 30 s that a picture shows"),
        (["a.wav", "--text", " "], "--text: wanted a transcript with a word in it"),
        (["a.wav", "--text", "ab " * 50], "--text: the transcript needs"),
        (["a.wav", "--utterances", "3"], "a.wav: --utterances does nothing for a recording"),
        (["m.jsonl", "--text", "ab"], "m.jsonl: --text does nothing for a manifest"),
        (["m.jsonl", "--from", "1"], "m.jsonl: --from does nothing for a manifest"),
        (["m.jsonl", "--utterances", "0"], "--utterances must be at least 1, found 0"),
        (["nowhere.jsonl"], "nowhere.jsonl: cannot read manifest"),
        (["moved/m.jsonl"], "1 of 1 audio files are missing: utterance u0: moved/a.wav; paths in a manifest are relat"),
        (["a.wav", "--out", "a.wav"], "a.wav: is a file, wanted a folder"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, run: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_texts(Path("m.jsonl"), "ab")
    Path("moved").mkdir()
    shutil.copy("m.jsonl", "moved")
    Path("empty.wav").touch()
    write_audio(Path("short.wav"), 0.01)
    if "long.wav" in arguments:
        write_audio(Path("long.wav"), 31.0)
    defaults = {"--model": str(run), "--out": "out"}
    added = [word for flag, value in defaults.items() if flag not in arguments for word in (flag, value)]
    assert message in error_line(capsys, "inspect", *arguments, *added)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("source", "name"), [("m.jsonl", "memory.json"), ("a.wav", "overview.png"), ("a.wav", "layer1-forward.svg")]
)
def test_files_of_others_stay_as_they_are(tmp_path: Path, run: Path, capsys: Capture, source: str, name: str) -> None:
    write_texts(tmp_path / "m.jsonl", "ab")
    foreign = tmp_path / "out" / name
    foreign.parent.mkdir()
    foreign.write_text("mine")
    line = error_line(capsys, "inspect", tmp_path / source, "--model", run, "--out", foreign.parent)
    assert line == (f"error: {foreign}: exists already, without a page of asr beside it; --out chooses another folder")
    assert [(path, path.read_text()) for path in foreign.parent.iterdir()] == [(foreign, "mine")]


def test_without_the_libraries_it_says_what_to_install(
    tmp_path: Path, run: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("asr.pictures")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    line = error_line(capsys, "inspect", write_audio(tmp_path / "a.wav"), "--model", run, "--out", tmp_path / "out")
    assert "asr inspect draws with matplotlib, which is not installed" in line


def test_the_part_to_show() -> None:
    assert part_of("a", 600.0, 0.0, None) == (0.0, 30.0)
    assert part_of("a", 600.0, 590.0, None) == (590.0, 600.0)
    assert part_of("a", 10.0, 2.0, 10.05) == (2.0, 10.0)  # a header's rounding is no error
    with pytest.raises(ConfigError, match="more than the 30 s that a picture shows"):
        part_of("a", 600.0, 10.0, 41.0)
