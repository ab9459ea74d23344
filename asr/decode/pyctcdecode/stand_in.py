"""Letting other libraries find this package where they look for pyctcdecode."""

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from asr.errors import DecodeError

_NAME, _VERSION = "pyctcdecode", "0.5.0"  # the version whose interface this is
_ANY = DistributionFinder.Context()
_MODULES = ("", ".alphabet", ".constants", ".decoder", ".language_model")


def install() -> None:
    """Make `import pyctcdecode` mean this package in this process; call it before transformers is imported.

        from asr.decode import pyctcdecode
        pyctcdecode.install()
        from transformers import Wav2Vec2ProcessorWithLM    # and its pipelines

    transformers looks for the module, for the version that its package declares, and for a module `kenlm`, which it
    never calls. Afterwards all three exist; if kenlm is not installed, an empty module says so when it is used. An
    installed pyctcdecode is not touched, but is hidden from this process.

    `Wav2Vec2ProcessorWithLM.batch_decode` forks a pool of processes that nothing uses, unless it is given one;
    `batch_decode(logits, pool=False)` forks none.

    Raises:
        DecodeError: the real package was imported before, or transformers looked for it and found nothing.
    """
    present = sys.modules.get(_NAME)
    ours = {_NAME + part: sys.modules[f"{__package__}{part}"] for part in _MODULES}
    if present is ours[_NAME]:
        return
    if present is not None:
        raise DecodeError(f"pyctcdecode was imported before, from {present.__file__}: call install() first")
    finder = _Metadata()
    if find_spec("kenlm") is None:
        ours["kenlm"] = _placeholder()
    sys.modules.update(ours)
    sys.meta_path.append(finder)
    transformers: Any = sys.modules.get("transformers.utils.import_utils")
    if transformers is not None and not transformers.is_pyctcdecode_available():  # it remembers its first answer
        sys.meta_path.remove(finder)
        for name in ours:
            del sys.modules[name]
        raise DecodeError("transformers was imported before and found no pyctcdecode: call install() first")


def _placeholder() -> ModuleType:
    module = ModuleType("kenlm", "Stands where kenlm is not installed.")
    module.__spec__ = ModuleSpec("kenlm", None)

    def missing(name: str) -> object:
        raise AttributeError(f"kenlm.{name}: kenlm is not installed, {__package__}.install() put an empty module here")

    module.__dict__["__getattr__"] = missing
    return module


class _Metadata(DistributionFinder):
    """Answers `importlib.metadata.version("pyctcdecode")` where no installed package does."""

    def find_spec(self, *_: object) -> None:
        """Nothing is imported through this finder."""

    def find_distributions(self, context: DistributionFinder.Context = _ANY) -> Iterator[Distribution]:
        """The one package, when it is asked for by its name."""
        if context.name == _NAME:
            yield _Package()


class _Package(Distribution):
    def read_text(self, filename: str) -> str | None:
        return f"Metadata-Version: 2.1\nName: {_NAME}\nVersion: {_VERSION}\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Path:
        return Path(__file__).with_name(str(path))
