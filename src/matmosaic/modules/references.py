"""References to modules: what users write where a module is expected.

- ``"store:name"``, ``"store:name@version"``, or a glob of names such as ``"bundled:emt-*"``; a store is a
  plugin or a hub that the user has configured
- the same at a URL: ``"s3://bucket/hub#name"``, ``"https://host/hub#name@2"``, ``"https://host/hub#emt-*"``
- a path to a module's directory, or a glob of paths such as ``"my_modules/*"``
- a :class:`PretrainedModule` itself

``"featurizer:name"`` is reserved: it stands for a featurizer where one may take the place of a module.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from matmosaic import plugins
from matmosaic.exceptions import (
    InvalidParameterError,
    ModuleFormatError,
    PluginError,
    UnknownNameError,
    suggest,
)
from matmosaic.modules._files import CARD_FILE, check_no_mixture, is_module, read_module
from matmosaic.modules.card import ModuleCard
from matmosaic.modules.module import PretrainedModule
from matmosaic.modules.opening import URL, check_url, is_url, open_store, store_opener
from matmosaic.modules.store import ModuleStore, VersionedModuleStore
from matmosaic.modules.summary import ModuleSummary

Reference: TypeAlias = "str | PathLike[str] | PretrainedModule"

# At least two letters before the colon: C:\modules and C:modules are Windows paths.
_NAME = r"(?P<name>[^@]*)(?:@(?P<version>.+))?"
_STORE_REFERENCE = re.compile(rf"(?P<store>[A-Za-z][\w.-]+):{_NAME}")
_URL_REFERENCE = re.compile(rf"(?P<store>{URL})(?:#{_NAME})?")


@dataclass(frozen=True)
class _StoreReference:
    """A parsed ``store:name@version`` or ``URL#name@version``."""

    store: str
    name: str
    version: str | None

    def of(self, name: str) -> str:
        """Return the reference of one module that this one stands for."""
        version = f"@{self.version}" if self.version else ""
        return f"{self.store}{'#' if is_url(self.store) else ':'}{name}{version}"


def resolve(reference: Reference) -> list[PretrainedModule]:
    """Return the modules that a reference stands for.

    Parameters
    ----------
    reference : str, path-like or PretrainedModule
        ``store:name``, ``store:name@version``, a glob of names such as ``bundled:emt-*``, the same at
        a URL, as in ``s3://bucket/hub#name``, a path to a module's directory, a glob of such paths, or
        a module.

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
    store = open_store(parsed.store)
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
    return [parsed.of(name) for name in _matching_names(open_store(parsed.store), parsed)]


def read_card(reference: str) -> ModuleCard:
    """Return the card of one module without reading its weights.

    Parameters
    ----------
    reference : str
        Of one module, as :func:`list_modules` gives it.

    Returns
    -------
    ModuleCard
        Its card.

    Raises
    ------
    UnknownNameError
        If there is no such module.
    ModuleFormatError
        If its card cannot be read.
    """
    parsed = _parse(reference)
    if isinstance(parsed, Path):
        content = read_module(parsed, [CARD_FILE])[CARD_FILE]
        return ModuleCard.from_json(content, source=str(parsed / CARD_FILE))
    store = open_store(parsed.store)
    if isinstance(store, VersionedModuleStore):
        return store.card(parsed.name, parsed.version)
    return store.card(parsed.name)


def read_summary(reference: str) -> ModuleSummary:
    """Return what a listing shows of one module: from the index of its store, if that has one.

    Parameters
    ----------
    reference : str
        Of one module, as :func:`list_modules` gives it.

    Returns
    -------
    ModuleSummary
        Its summary; raises as :func:`read_card` does.
    """
    parsed = _parse(reference)
    store = None if isinstance(parsed, Path) else open_store(parsed.store)
    if isinstance(parsed, _StoreReference) and isinstance(store, VersionedModuleStore):
        return store.summary(parsed.name, parsed.version)
    return ModuleSummary.of(read_card(reference))


def store_names() -> list[str]:
    """Return the names that may stand before the colon: of store plugins, then of configured hubs."""
    try:
        configured = list(store_opener("Names of hubs").names())
    except PluginError:  # hubs need a plugin
        configured = []
    return [*plugins.names("stores"), *configured]


def is_store_reference(text: str) -> bool:
    """Return whether a text is of the form ``store:name``, and neither a path nor a URL."""
    return _STORE_REFERENCE.fullmatch(text) is not None and "://" not in text


def is_named(reference: str) -> bool:
    """Return whether a reference names modules of a store, or of a hub at a URL, and is no path."""
    return isinstance(_parse(reference), _StoreReference)


def pinned(reference: str, version: str) -> str:
    """Return a reference to one module of a store in one version, whatever others come later."""
    parsed = _parse(reference)
    return reference if isinstance(parsed, Path) else replace(parsed, version=version).of(parsed.name)


def _parse(reference: str | PathLike[str]) -> Path | _StoreReference:
    if reference == "":  # As a path it would be the current directory, which nobody means by it.
        raise InvalidParameterError(
            "A module is expected as 'store:name', a path or a PretrainedModule. Got ''."
        )
    match = _matched(reference) if isinstance(reference, str) else None
    if match and match["store"] == "featurizer":
        raise InvalidParameterError(
            f"A module is expected. {reference!r} is a featurizer, which has neither layers nor weights; use "
            f"make_pipeline(load_featurizer({reference!r}), ...), or a method that takes featurizers."
        )
    if match:
        return _StoreReference(match["store"], match["name"], match["version"])
    try:
        return Path(reference).expanduser()
    except TypeError as error:
        raise InvalidParameterError(
            f"A module is expected as 'store:name', a path or a PretrainedModule. Got {reference!r}."
        ) from error


def _matched(reference: str) -> re.Match[str] | None:
    match = _URL_REFERENCE.fullmatch(reference)
    if match:
        # No version has a slash: what was taken for name and version belongs to a password with a #.
        check_url(reference if "/" in (match["version"] or "") else match["store"])
    if match and not match["name"]:
        raise InvalidParameterError(
            f"{match['store']!r} is the address of a hub; write {match['store'] + '#NAME'!r} for one of its "
            f"modules, {match['store'] + '#*'!r} for all."
        )
    return match or _STORE_REFERENCE.fullmatch(reference)


def _matching_names(store: ModuleStore, reference: _StoreReference) -> list[str]:
    if _is_glob(reference.name):
        names = [name for name in store.names() if fnmatchcase(name, reference.name)]
        return list(_of_version(store, names, reference.version))
    if isinstance(store, VersionedModuleStore):
        store.summary(reference.name, reference.version)
    else:
        store.card(reference.name)  # raises if there is none; quicker than listing a remote store
    return [reference.name]


def _of_version(store: ModuleStore, names: Iterable[str], version: str | None) -> Iterable[str]:
    """Return those that are there in the version, where a store keeps several."""
    if version is None or not isinstance(store, VersionedModuleStore):
        return names
    return (name for name in names if version in store.versions(name))


def _existing_names(store: ModuleStore, reference: _StoreReference) -> list[str]:
    names = _matching_names(store, reference)
    if not names:
        valid = [_StoreReference(reference.store, name, None).of(name) for name in store.names()]
        raise UnknownNameError(suggest(reference.of(reference.name), valid, what="module"))
    return names


def _load_version(store: ModuleStore, reference: _StoreReference, name: str) -> PretrainedModule:
    if isinstance(store, VersionedModuleStore):
        return store.load(name, reference.version)
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
            message = f"There is no module directory {str(path)!r}. {_with_store(str(path))}"
            raise UnknownNameError(message) from error
        raise
    return path


def _with_store(name: str) -> str:
    """Return what may have been meant by a name alone: a store, or a module of one."""
    stores = store_names()
    if name in stores:
        return f"It is the name of a store; write '{name}:NAME' for one of its modules, '{name}:*' for all."
    listing = ", ".join(f"'{store}:{name}'" for store in stores)
    return f"A name needs its store: {listing}."


def _is_glob(text: str) -> bool:
    return any(letter in text for letter in "*?[")
