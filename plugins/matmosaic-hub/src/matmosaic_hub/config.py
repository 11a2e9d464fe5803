"""Names that the user gives to hubs, in a small TOML file."""

from __future__ import annotations

import json
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
from matmosaic_hub.remote import write_atomically
from matmosaic_hub.urls import is_secret, normalised

#: Environment variable that names another file.
VARIABLE = "MATMOSAIC_HUBS"

_NAME = re.compile(r"[A-Za-z][\w.-]+", re.ASCII)
_OPTION = re.compile(r"[\w-]+", re.ASCII)


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
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error}); check its permissions.") from error
    try:
        hubs = tomllib.loads(text).get("hubs", {})
        return {name: _checked(name, **hubs[name]) for name in sorted(hubs)}
    except (tomllib.TOMLDecodeError, TypeError, InvalidParameterError) as error:
        raise StoreError(f"{path} cannot be used: {error} Correct or delete it.") from error


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
        if is_secret(option):
            raise InvalidParameterError(
                f"The option {option!r} of the hub {name!r} looks like a credential, and those are not kept; "
                "give it by the environment or configuration of the storage."
            )
        if not _OPTION.fullmatch(option) or not isinstance(value, str | bool | int | float):
            raise InvalidParameterError(
                f"The option {option!r} of hub {name!r} must be a text, number, true or false. Got {value!r}."
            )
    return {"url": normalised(url), "options": dict(options or {})}


def _rewrite(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    path = config_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            write_atomically(path, _text(change(read_hubs())).encode())
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error}); check its permissions.") from error
    return path


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
