"""What holds the package together: light imports, complete pins, no address of a package index."""

import importlib
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import asr

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "asr").rglob("*.py")
)
HEAVY = {"jiwer", "librosa", "matplotlib", "numba", "numpy", "scipy", "tensorboard", "torch", "torchaudio"}
INDEX_ADDRESS = re.compile(
    r"https?://\S*/simple\b|\bpypi\.(org|python\.org)|pythonhosted\.org|download\.pytorch\.org"
    r"|--(extra-)?index[-]url|--find[-]links|--trusted[-]host|PIP_(EXTRA_)?INDEX[_]URL",
    re.IGNORECASE,
)


def heavy_modules_after(code: str) -> set[str]:
    """Names of the heavy libraries that a new interpreter has loaded after running `code`."""
    code += "\nimport sys\nprint('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return HEAVY & set(result.stdout.splitlines()[-1].split())


def test_import_of_the_package_is_light() -> None:
    assert heavy_modules_after("import asr; asr.__version__") == set()


def test_the_probe_sees_a_heavy_import() -> None:
    assert heavy_modules_after("import numpy") == {"numpy"}


def test_help_is_light_and_exits_0() -> None:
    code = """
import runpy, sys
sys.argv = ["asr", "--help"]
try:
    runpy.run_module("asr", run_name="__main__", alter_sys=True)
except SystemExit as stop:
    assert stop.code in (0, None), stop.code
else:
    raise AssertionError("no exit")
"""
    assert heavy_modules_after(code) == set()


def test_python_m_asr_prints_help() -> None:
    command = [sys.executable, "-m", "asr", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: asr")


@pytest.mark.parametrize("name", MODULES)
def test_module_can_be_imported(name: str) -> None:
    importlib.import_module(name)


def test_public_names_are_found() -> None:
    for name in asr.__all__:
        assert getattr(asr, name) is not None
        assert name in dir(asr)
    assert set(asr._PUBLIC) == set(asr.__all__) - {"__version__"}


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'asr' has no attribute 'Confg'"):
        asr.Confg  # noqa: B018


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_constraints_are_exact_versions() -> None:
    for pin in pins():
        assert pin.url is None, pin
        assert not pin.extras, pin
        assert [specifier.operator for specifier in pin.specifier] == ["=="], pin
        assert "*" not in str(pin.specifier), pin


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_every_direct_dependency_has_one_fitting_pin(python: str) -> None:
    environment = {"python_version": python}
    wanted = [*PROJECT["dependencies"], *chain.from_iterable(PROJECT["optional-dependencies"].values())]
    pinned: dict[str, list[str]] = {}
    for pin in pins():
        if pin.marker is None or pin.marker.evaluate(environment):
            pinned.setdefault(pin.name, []).append(next(iter(pin.specifier)).version)
    for requirement in map(Requirement, wanted):
        if requirement.marker is not None and not requirement.marker.evaluate(environment):
            continue
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert len(pinned.get(name, [])) == 1, f"{name}: {pinned.get(name)}"
        assert requirement.specifier.contains(pinned[name][0]), f"{requirement}: {pinned[name][0]}"


def test_no_tracked_file_names_a_package_index() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    # The command-line setting lets git list a checkout that another user owns, as in containers.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listing.split("\0") if name]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in paths
        if path.is_file()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if INDEX_ADDRESS.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "parts", [("https://mirror.example/root/", "simple"), ("see pypi", ".org/project/x"), ("--extra-index", "-url x")]
)
def test_index_addresses_are_recognised(parts: tuple[str, str]) -> None:
    assert INDEX_ADDRESS.search("".join(parts))  # in two parts, because this file is searched as well
