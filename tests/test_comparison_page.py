"""`asr compare --html`: both systems side by side, and the verdict that the command prints."""

from dataclasses import replace
from pathlib import Path

import pytest

from asr.cli import main
from asr.html import page
from asr.hypotheses import Result
from asr.pages.alignment import of_one, of_two, picture
from asr.report import difference_text, interval_text, verdict
from asr.wer import compare, score
from page_parser import Node, read_page
from scored_run import RESULTS, write_set
from tiny_run import error_line, succeed

Capture = pytest.CaptureFixture[str]
# u1 gets better by two words, u2 stays, u3 gets worse by two, u4 has another error, and u5 is right.
HEARD = {
    "u1": "the cat sat on the mat",
    "u2": "hello big world",
    "u3": "no oh",
    "u4": "oh",
    "u5": "a b c d e f g h",
}
OTHERS = [replace(result, hypothesis=HEARD[result.id]) for result in RESULTS]


def rows(node: Node) -> list[str]:
    """The rows of an alignment as text."""
    columns = [[span.text for span in item.all("span")] for item in node.all("li")]
    return [" ".join(row) for row in zip(*columns, strict=True)]


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [
        write_set(tmp_path / name, results)
        for name, results in (("a", RESULTS), ("b", [*reversed(OTHERS)]))  # in another order
    ]


def test_the_page_as_a_whole(capsys: Capture, folders: list[Path], tmp_path: Path) -> None:
    printed, _ = succeed(capsys, "compare", *folders, "--html", tmp_path / "page.html")
    assert printed == succeed(capsys, "compare", *folders)[0]
    root = read_page((tmp_path / "page.html").read_text())
    assert [f"{node.tag} {node.text}" for node in root.all("h1", "h2", "h3")] == [
        f"h1 {folders[0]} and {folders[1]}",
        "h2 Summary",
        "h2 Speakers",
        "h2 Where B is worse",
        "h3 u3",
        "h2 Where B is better",
        "h3 u1",
        "h3 u5",
        "h2 Where both have as many errors, but different ones",
        "h3 u4",
    ]
    found, a, b = compare(RESULTS, OTHERS), score(RESULTS), score(OTHERS)
    paragraphs = [node.text for node in root.one("summary").all("p")]
    assert paragraphs[:3] == [
        verdict(found, "A", "B"),
        difference_text(found, "A", "B"),
        "Of 5 utterances B is better on 2, worse on 1, the same on 2.",
    ]
    assert root.table("Both systems") == [
        ["system", "WER", "95% interval", "errors", "words", "ins", "del", "sub", "CER"],
        [
            *(f"A: {folders[0]}", "27.78%", interval_text(a), "5", "18", "1", "2", "2"),
            f"{a.characters.percent:.2f}%",
        ],
        [
            *(f"B: {folders[1]}", "22.22%", interval_text(b), "4", "18", "2", "0", "2"),
            f"{b.characters.percent:.2f}%",
        ],
    ]
    assert root.table("Speakers, those who lose most from A to B first") == [
        ["speaker", "utterances", "words", "WER of A", "WER of B", "change in errors"],
        ["bob", "2", "2", "50.00%", "150.00%", "+2"],
        ["(unknown)", "1", "8", "12.50%", "0.00%", "-1"],
        ["ann", "2", "8", "37.50%", "12.50%", "-2"],
    ]
    assert {article.all("h3")[0].text: rows(article) for article in root.all("article")} == {
        "u3": ["*** yes", "*** yes", "no I oh S"],
        "u1": ["the cat sat on the mat", "the cat sit S on *** D mat", "the cat sat on the mat"],
        "u5": ["a b c d e f g h", "a b c d e f g x S", "a b c d e f g h"],
        "u4": ["no", "*** D", "oh S"],
    }
    assert [node.attributes["aria-label"] for node in root.all("audio")] == [f"audio of u{n}" for n in (3, 1, 5)]


def test_insertions_of_both_stand_side_by_side() -> None:
    pair = [Result("u", None, "x y", heard, 1.0) for heard in ("a x b c y", "x d y e")]
    a, b = (score([result]).utterances[0].alignment for result in pair)
    columns = [(None, ("a", None)), ("x", ("x", "x")), (None, ("b", "d")), (None, ("c", None)), ("y", ("y", "y"))]
    assert of_two(a, b) == [*columns, (None, (None, "e"))]
    assert of_two(a, a) == [(said, (heard, heard)) for said, heard in a]
    root = read_page(page("t", [("both", "Both", picture(of_two(a, b), ["A", "B"]))])).one("both")
    assert rows(root) == ["*** x *** *** y ***", "a I x b I c I y ***", "*** x d I *** y e I"]


def test_joined_alignments_are_those_of_each() -> None:
    for first, second in zip(RESULTS, OTHERS, strict=True):
        alignments = [score([result]).utterances[0].alignment for result in (first, second)]
        joined = of_two(*alignments)
        for place, alignment in enumerate(alignments):
            own = [(said, heard[place]) for said, heard in joined if (said, heard[place]) != (None, None)]
            assert [(said, (heard,)) for said, heard in own] == of_one(alignment)


def test_one_utterance_and_no_speaker(capsys: Capture, tmp_path: Path) -> None:
    only = [Result("u", None, "a b", "a b", 1.0)]
    a, b = write_set(tmp_path / "a", only), write_set(tmp_path / "b", only)
    (a / "evaluation.json").unlink()
    succeed(capsys, "compare", a, b, "--html", tmp_path / "page.html")
    root = read_page((tmp_path / "page.html").read_text())
    assert "No speaker is known." in root.one("speakers").text
    assert [root.one(anchor).all("p")[0].text for anchor in ("worse", "better", "other")] == ["None."] * 3
    assert "does not say which manifest it is of, so that nothing can be played" in root.text


def test_sets_that_do_not_fit_leave_no_page(capsys: Capture, folders: list[Path], tmp_path: Path) -> None:
    write_set(tmp_path / "c", OTHERS[:2])
    line = error_line(capsys, "compare", folders[0], tmp_path / "c", "--html", tmp_path / "page.html")
    assert line == "error: id 'u3' is missing from the second hypotheses"
    assert not (tmp_path / "page.html").exists()
    (tmp_path / "page.html").mkdir()
    assert main(["compare", *map(str, folders), "--html", str(tmp_path / "page.html")]) == 2
    assert "is not a file" in capsys.readouterr().err
