"""References to modules: what users write where a module is expected.

- ``"store:name"``, ``"store:name@version"``, or a glob of names such as ``"bundled:emt-*"``
- a path to a module's directory, or a glob of paths such as ``"my_modules/*"``
- a :class:`PretrainedModule` itself
"""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from matmosaic import plugins
from matmosaic.exceptions import InvalidParameterError, ModuleFormatError, UnknownNameError, suggest
from matmosaic.modules._files import CARD_FILE, check_no_mixture, is_module, read_module
from matmosaic.modules.module import PretrainedModule
from matmosaic.modules.store import ModuleStore

Reference: TypeAlias = "str | PathLike[str] | PretrainedModule"

# At least two letters before the colon: C:\modules and C:modules are Windows paths.
_STORE_REFERENCE = re.compile(r"(?P<store>[A-Za-z][\w.-]+):(?P<name>[^@]*)(?:@(?P<version>.+))?")


@dataclass(frozen=True)
class _StoreReference:
    """A parsed ``store:name@version``."""

    store: str
    name: str
    version: str | None


def resolve(reference: Reference) -> list[PretrainedModule]:
    """Return the modules that a reference stands for.

    Parameters
    ----------
    reference : str, path-like or PretrainedModule
        ``store:name``, ``store:name@version``, a glob of names such as ``bundled:emt-*``, a path to
        a module's directory, a glob of such paths, or a module.

    Returns
    -------
    list of PretrainedModule
        At least one, in the order of their names.

    Raises
    ------
    UnknownNameError
        If nothing matches: no such store, name, version or path.
    StoreError
        If a store cannot be reached.
    CorruptModuleError
        If the files of a module were altered.
    """
    if isinstance(reference, PretrainedModule):
        return [reference]
    parsed = _parse(reference)
    if isinstance(parsed, Path):
        return [PretrainedModule.load(path) for path in _existing_paths(parsed)]
    store = _open(parsed.store)
    return [_load_version(store, parsed, name) for name in _existing_names(store, parsed)]


def load_module(reference: Reference) -> PretrainedModule:
    """Load one module.

    Parameters
    ----------
    reference : str, path-like or PretrainedModule
        As for :func:`resolve`, matching exactly one module.

    Returns
    -------
    PretrainedModule
        The module, its checksum and golden outputs checked.

    Raises
    ------
    UnknownNameError
        If nothing matches: no such store, name, version or path.
    InvalidParameterError
        If more than one module matches.
    CorruptModuleError
        If the files of the module were altered.
    """
    if isinstance(reference, PretrainedModule):
        return reference
    found = list_modules(reference)
    if len(found) > 1:
        raise InvalidParameterError(
            f"{str(reference)!r} stands for several modules: {found}. Name one of them."
        )
    return resolve(reference)[0]


def list_modules(reference: str | PathLike[str] = "bundled:*") -> list[str]:
    """Return references to the modules that match, without reading weights.

    Parameters
    ----------
    reference : str or path-like, default="bundled:*"
        As for :func:`resolve`.

    Returns
    -------
    list of str
        One reference per module, in the order of their names; empty if a glob matches nothing.

    Raises
    ------
    UnknownNameError
        If there is no such store, or, without a glob, no such module.
    """
    parsed = _parse(reference)
    if isinstance(parsed, Path):
        return [str(path) for path in _matching_paths(parsed)]
    names = _matching_names(_open(parsed.store), parsed)
    suffix = f"@{parsed.version}" if parsed.version else ""
    return [f"{parsed.store}:{name}{suffix}" for name in names]


def _parse(reference: str | PathLike[str]) -> Path | _StoreReference:
    if reference == "":  # As a path it would be the current directory, which nobody means by it.
        raise InvalidParameterError(
            "A module is expected as 'store:name', a path or a PretrainedModule. Got ''."
        )
    match = _STORE_REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
    if match:
        return _StoreReference(match["store"], match["name"], match["version"])
    try:
        return Path(reference).expanduser()
    except TypeError as error:
        raise InvalidParameterError(
            f"A module is expected as 'store:name', a path or a PretrainedModule. Got {reference!r}."
        ) from error


def _open(name: str) -> ModuleStore:
    return plugins.load("stores", name)()


def _matching_names(store: ModuleStore, reference: _StoreReference) -> list[str]:
    if _is_glob(reference.name):
        return [name for name in store.names() if fnmatchcase(name, reference.name)]
    store.card(reference.name)  # raises if there is none; quicker than listing a remote store
    return [reference.name]


def _existing_names(store: ModuleStore, reference: _StoreReference) -> list[str]:
    names = _matching_names(store, reference)
    if not names:
        valid = [f"{reference.store}:{name}" for name in store.names()]
        raise UnknownNameError(suggest(f"{reference.store}:{reference.name}", valid, what="module"))
    return names


def _load_version(store: ModuleStore, reference: _StoreReference, name: str) -> PretrainedModule:
    version = store.card(name).version if reference.version else None
    if version != reference.version:
        raise UnknownNameError(
            f"Module '{reference.store}:{name}' is not there in version {reference.version!r}. "
            f"Valid: '{reference.store}:{name}@{version}'."
        )
    return store.load(name)


def _matching_paths(path: Path) -> list[Path]:
    if path.exists() or not _is_glob(str(path)):
        return [_checked(path)]
    return list(filter(is_module, _glob(path)))


def _glob(path: Path) -> list[Path]:
    return [Path(match) for match in sorted(glob.glob(str(path)))]  # noqa: PTH207


def _existing_paths(path: Path) -> list[Path]:
    paths = _matching_paths(path)
    if not paths:
        for match in _glob(path):
            check_no_mixture(match)
        raise UnknownNameError(f"No module matches {str(path)!r}; check the path.")
    return paths


def _checked(path: Path) -> Path:
    """Return the path of a module; where there is none, say what may have been meant."""
    try:
        read_module(path, [CARD_FILE])
    except (UnknownNameError, ModuleFormatError) as error:
        if path.is_dir() and any(map(is_module, path.iterdir())):
            message = f"{str(path)!r} holds modules but is none; write {str(path / '*')!r} for all of them."
            raise UnknownNameError(message) from error
        if not path.exists() and len(path.parts) == 1:
            message = (
                f"There is no module directory {str(path)!r}. A name needs its store: {_in_stores(path)}."
            )
            raise UnknownNameError(message) from error
        raise
    return path


def _in_stores(name: Path) -> str:
    return ", ".join(f"'{store}:{name}'" for store in plugins.names("stores"))


def _is_glob(text: str) -> bool:
    return any(letter in text for letter in "*?[")
