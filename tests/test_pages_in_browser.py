"""The pages in a real browser: a headless Chromium, where there is one on the path."""

import html
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from asr.hypotheses import Result
from asr.pages.comparison import comparison_page
from asr.pages.run import run_page
from scored_run import RESULTS, epoch, write_log, write_set
from tiny_run import save_run

BROWSER = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium on the path")]

EVIL = "<script>parent.hacked=true</script><img src=x onerror=parent.hacked=true>"
LONG = " ".join(["word" * 30, *["so"] * 80])
# A page around the page looks into it, for that one itself runs no script.
AROUND = """<!DOCTYPE html>
<iframe src="NAME" style="width: WIDTHpx; height: 800px; border: 0"></iframe><p id="found"></p>
<script>
const frame = document.querySelector('iframe');
frame.onload = async () => {
  const page = frame.contentDocument, players = [...page.querySelectorAll('audio')];
  await Promise.all(players.map(player => new Promise(done => {
    if (player.readyState >= 1 || player.error) done();
    player.addEventListener('loadedmetadata', done);
    player.addEventListener('error', done);
  })));
  document.getElementById('found').textContent = JSON.stringify({
    width: page.documentElement.scrollWidth,
    durations: players.map(player => player.duration),
    hacked: window.hacked === true,
    title: page.title,
  });
};
</script>
"""


def look(page: Path, width: int) -> dict[str, Any]:
    """What the browser made of a page that is `width` pixels wide."""
    around = page.with_name("around.html")
    around.write_text(AROUND.replace("NAME", page.name).replace("WIDTH", str(width)))
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += [f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=20000", "--dump-dom"]
    done = subprocess.run([*command, around.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    found: dict[str, Any] = json.loads(html.unescape(done.stdout.split('<p id="found">')[1].split("</p>")[0]))
    return found


def write_pages(folder: Path) -> tuple[Path, Path]:
    """A run and a comparison with everything that could go over an edge."""
    run = save_run(folder / "run")
    write_log(run, *[epoch(number) for number in range(1, 40)])
    results = [*RESULTS, Result("long", "ann", LONG, LONG.replace("so so", "so not so"), 0.5)]
    write_set(run / "test", results)
    write_set(
        run / "other", [Result(r.id, r.speaker, r.reference, f"{r.hypothesis} {EVIL}", r.duration) for r in results]
    )
    (folder / "run.html").write_text(run_page(run).html)
    a, b = (run / name / "hypotheses.jsonl" for name in ("test", "other"))
    (folder / "both.html").write_text(comparison_page(a, b, "first", EVIL)[1])
    return folder / "run.html", folder / "both.html"


def test_pages_fit_play_and_run_nothing(tmp_path: Path) -> None:
    run, both = write_pages(tmp_path)
    for page, players, title in ((run, 9, "Run run"), (both, 5, f"first and {EVIL}")):
        for width in (375, 1280):
            found = look(page, width)
            assert found["title"] == title
            assert found["width"] <= width  # nothing to scroll sideways but the tables, inside themselves
            assert len(found["durations"]) == players
            assert all(duration and 0.4 < duration < 3 for duration in found["durations"])
            assert not found["hacked"]
