"""Frozen dataclasses of settings: filled from YAML and `key=value` overrides, and read by dotted key."""

import copy
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar, cast

from asr.errors import ConfigError

_Kind = TypeVar("_Kind")


def filled(kind: type[_Kind], path: Path | str | None, overrides: Sequence[str] = ()) -> _Kind:
    """A frozen dataclass: its defaults, overridden by a YAML file and then by `key=value` overrides.

    Raises:
        ConfigError: the file cannot be read, a key is unknown (the message suggests the right one), a value has the
            wrong type or is out of range.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    merged = copy.deepcopy(_defaults(kind))  # type: ignore[arg-type]  # classes can be hashed
    where, given = "configuration", None
    try:
        if path is not None:
            where = str(path)
            given = OmegaConf.load(path)
            merged = OmegaConf.unsafe_merge(merged, given)
        for override in overrides:
            where = f"override {override!r}"
            if "=" not in override:
                raise ConfigError(f"{where} is not of the form key=value")
            given = _override(override, kind)
            merged = OmegaConf.unsafe_merge(merged, given)
        where = "configuration"
        # Not `to_object`, which would take `${...}` in a path for a reference, to an environment variable even.
        config = _made(kind, cast(dict[str, Any], OmegaConf.to_container(merged, resolve=False)))
    except OSError as error:
        inside = Path(path, "config.yaml") if path is not None else None  # of a run folder
        hint = f"; did you mean {inside}?" if inside and inside.is_file() else ""
        raise ConfigError(f"{where}: cannot read configuration: {error.strerror or error}{hint}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {_explain(error, kind, given)}") from error
    return config


def _made(kind: type[_Kind], values: Mapping[str, Any]) -> _Kind:
    """The dataclass with these values, which are plain and of the right types; ConfigError as its own checks."""
    given: dict[str, Any] = {}
    for item in fields(kind):  # type: ignore[arg-type]  # it is a dataclass
        value = values[item.name]
        if isinstance(item.type, type) and is_dataclass(item.type):
            value = _made(item.type, value)
        elif isinstance(value, str) and item.type is not str and "${" in value:
            raise ConfigError(f"{item.name}: wanted a value, found {value!r}: references are not read")
        given[item.name] = tuple(value) if isinstance(value, list) else value
    return kind(**given)


@cache
def _defaults(kind: type) -> Any:
    """A dataclass with its defaults as OmegaConf has it: making that takes half the time of reading a configuration."""
    from omegaconf import OmegaConf

    return OmegaConf.structured(kind)


def _override(override: str, kind: type) -> Any:
    """`key=value` as OmegaConf has it: a value is YAML, but where any text is wanted it is that text, unless quoted."""
    from omegaconf import OmegaConf

    key, _, value = override.partition("=")
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    if key in _texts(kind) and not quoted:  # a path may hold what YAML takes for a comment or a list
        made: Any = value
        for name in reversed(key.split(".")):
            made = {name: made}
        return OmegaConf.create(made)
    # A shell turns key='' into key=, which YAML reads as null.
    return OmegaConf.from_dotlist([override if value else override + "''"])


def _texts(kind: type, prefix: str = "") -> set[str]:
    """The dotted keys of fields that hold any text."""
    keys: set[str] = set()
    for item in fields(kind):
        key = prefix + item.name
        if isinstance(item.type, type) and is_dataclass(item.type):
            keys |= _texts(item.type, key + ".")
        elif item.type is str:
            keys.add(key)
    return keys


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every value of the configuration by its dotted key, in order."""
    values: dict[str, Any] = {}
    for item in fields(config):
        value = getattr(config, item.name)
        key = prefix + item.name
        values |= flatten(value, key + ".") if is_dataclass(value) else {key: value}
    return values


def require_keys(values: Mapping[str, Any], kind: type) -> None:
    """Raise ConfigError if a key is not a field of `kind` (the message suggests the right one), or wants a number."""
    defaults = vars(kind())
    for key, value in values.items():
        if key not in defaults:
            raise ConfigError(_unknown_key(key, difflib.get_close_matches(key, list(defaults), n=1, cutoff=0.6)))
        if isinstance(defaults[key], int | float) and not isinstance(value, Real):
            raise ConfigError(f"{key} must be a number, found {value!r}")


def _key_of_list(kind: type, given: Any) -> str:
    """The key of an unusable list, which OmegaConf does not name; empty if there is none."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    plain = None if given is None else OmegaConf.to_container(given)
    for key in (key for key, default in flatten(kind()).items() if isinstance(default, tuple)):
        parts, value = key.split("."), plain
        for part in parts:
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            continue
        for part in reversed(parts):
            value = {part: value}
        try:
            OmegaConf.unsafe_merge(OmegaConf.structured(kind), value)
        except (OmegaConfBaseException, ValueError, TypeError):
            return key
    return ""


def _explain(error: Exception, kind: type, given: Any) -> str:
    """An OmegaConf error about `given` as one line, with the nearest known key if one was misspelled."""
    full_key = getattr(error, "full_key", None) or _key_of_list(kind, given)
    reason = re.sub(r"\s+", " ", str(error).split("full_key:")[0]).strip()
    reason = reason.replace("Value '$VALUE' of type '$VALUE_TYPE'", "an element of the list")  # its unfilled template
    if "is not a TupleConfig" in reason or "incompatible container" in reason:
        reason = "wanted a list, as [1, 2]" if full_key else "wanted keys with values, found a list"
    if "does not match type hint length" in reason:
        reason = "wanted {1} elements, found {0}".format(*re.findall(r"\d+", reason))
    if not full_key or "not in" not in reason:
        return f"{full_key}: {reason}" if full_key else reason
    known = list(flatten(kind()))
    rooms = sorted({key.split(".")[0] for key in known})
    room_of = {key.rsplit(".", 1)[-1]: key for key in known}
    leaf = full_key.rsplit(".", 1)[-1]
    if leaf in room_of:  # right name, wrong section
        return _unknown_key(full_key, [room_of[leaf]])
    close = difflib.get_close_matches(full_key, known + rooms, n=1, cutoff=0.6)
    close = close or [room_of[name] for name in difflib.get_close_matches(leaf, room_of, n=1)]
    return _unknown_key(full_key, close)


def _unknown_key(key: str, close: Sequence[str]) -> str:
    return f"unknown key {key!r}" + (f"; did you mean {close[0]!r}?" if close else "")
