"""Names that the user gives to hubs, in a small TOML file."""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from matmosaic import plugins
from matmosaic.exceptions import InvalidParameterError, StoreError, UnknownNameError, suggest
from matmosaic.modules.opening import carries_credentials
from matmosaic_hub.remote import write_atomically
from matmosaic_hub.urls import is_secret, normalised

#: Environment variable that names another file.
VARIABLE = "MATMOSAIC_HUBS"

_NAME = re.compile(r"[A-Za-z][\w.-]+", re.ASCII)
_OPTION = re.compile(r"[\w-]+", re.ASCII)

_KEYS: dict[str, type] = {"url": str, "options": dict}
_TYPES: dict[type, str] = {str: "text", dict: "table"}


def config_file() -> Path:
    """Return the path of the user's file, which need not exist."""
    chosen = os.environ.get(VARIABLE)
    folder = platformdirs.user_config_path("matmosaic", appauthor=False)
    return Path(chosen).expanduser() if chosen else folder / "hubs.toml"


def read_hubs() -> dict[str, dict[str, Any]]:
    """Return ``url`` and ``options`` of each hub by its name, sorted.

    Raises
    ------
    StoreError
        If the file cannot be read or says something else.
    """
    path = config_file()
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error}); check its permissions.") from error
    try:
        return _parsed(content)
    except ValueError as error:  # also of what is no TOML or no UTF-8
        reason = str(error).rstrip(".")
        raise StoreError(f"{path} cannot be used: {reason}. Correct or delete it.") from error


def add_hub(name: str, url: str, options: Mapping[str, Any]) -> Path:
    """Keep the URL of a hub under a name, in place of an earlier one.

    Parameters
    ----------
    name : str
        Name for references such as ``lab:emt-eform``.
    url : str
        Address of the hub, without credentials.
    options : mapping
        Options of the fsspec file system; numbers, texts and truth values, but no credentials.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    InvalidParameterError
        If the name cannot name a store or is that of a plugin, or if there are credentials.
    """
    if name in plugins.names("stores"):
        raise InvalidParameterError(f"{name!r} is the name of an installed store; choose another name.")
    hub = _checked(name, url=url, options=dict(options))
    return _rewrite(lambda hubs: {**hubs, name: hub})


def remove_hub(name: str) -> Path:
    """Forget a name.

    Parameters
    ----------
    name : str
        Name of a hub.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    UnknownNameError
        If no hub has it.
    """
    if name not in read_hubs():
        raise UnknownNameError(suggest(name, read_hubs(), what="hub"))
    return _rewrite(lambda hubs: {other: hub for other, hub in hubs.items() if other != name})


def _checked(name: str, *, url: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    if not _NAME.fullmatch(name):
        raise InvalidParameterError(
            f"{name!r} cannot name a hub: a letter is expected, then letters, digits, '.', '_' and '-', two "
            "characters at least."
        )
    for option, value in (options or {}).items():
        _check_option(name, option, value)
    return {"url": normalised(url), "options": dict(options or {})}


def _check_option(name: str, option: str, value: Any) -> None:
    if is_secret(option) or (isinstance(value, str) and carries_credentials(value)):
        raise InvalidParameterError(
            f"The option {option!r} of the hub {name!r} looks like a credential, and those are not kept; "
            "give it by the environment or configuration of the storage."
        )
    is_value = isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
    if not (_OPTION.fullmatch(option) and is_value):
        raise InvalidParameterError(
            f"The option {option!r} of hub {name!r} must be a text, finite number, true or false. "
            f"Got {value!r}."
        )


def _parsed(content: bytes) -> dict[str, dict[str, Any]]:
    """Return the hubs that a file names; raise ValueError if it says anything else."""
    document = tomllib.loads(content.decode("utf-8"))
    hubs = _table(document, "the file", {"hubs": dict}).get("hubs", {})
    tables = {name: _table(hubs[name], f"[hubs.{name}]", _KEYS, required="url") for name in sorted(hubs)}
    return {name: _checked(name, **table) for name, table in tables.items()}


def _table(found: Any, where: str, keys: Mapping[str, type], *, required: str = "") -> dict[str, Any]:
    expected = " and ".join(f"{key!r}, a {_TYPES[kind]}" for key, kind in keys.items())
    if not isinstance(found, dict):
        raise InvalidParameterError(
            f"{where} must be a table with {expected}. Got a value of type {type(found).__name__}"
        )
    wrong = [key for key, value in found.items() if not isinstance(value, keys.get(key, ()))]
    missing = [required] if required and required not in found else []
    if wrong or missing:
        raise InvalidParameterError(
            f"{where} must have {expected}; {', '.join(map(repr, wrong + missing))} is unknown, missing or "
            "of another type"
        )
    return found


def _rewrite(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    path = config_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            write_atomically(path, _content(change(read_hubs())))
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error}); check its permissions.") from error
    return path


def _content(hubs: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return the content of the file, after reading it: once it is written, all commands depend on it."""
    try:
        content = _text(hubs).encode()
        _parsed(content)
    except ValueError as error:
        raise InvalidParameterError(f"The hub cannot be written as TOML ({error}); correct it.") from error
    return content


def _text(hubs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return hubs as TOML, whose texts, numbers and truth values are written as JSON's."""
    lines = ["# Hubs of matmosaic: written by `matmosaic hubs add`, never with credentials."]
    for name, hub in hubs.items():
        options = "".join(f"{key} = {_value(value)}\n" for key, value in hub["options"].items())
        lines.append(f"\n[hubs.{_value(name)}]\nurl = {_value(hub['url'])}")
        lines += [f"[hubs.{_value(name)}.options]\n{options.rstrip()}"] if options else []
    return "\n".join(lines) + "\n"


def _value(value: str | float | bool) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
