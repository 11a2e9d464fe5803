"""Backbones, featurizers, stores and what opens stores, found as entry points of installed distributions.

This file is the only one that knows how plugins are found. Names are read from package metadata;
a plugin is imported when it is asked for by name, so a broken one harms nobody else, and
matmosaic's own backbones and stores enter by the same door. Their names stay theirs: what installing a
package must not do is to change what ``"cgcnn"`` means.
"""

from __future__ import annotations

import configparser
import importlib
import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata
from typing import Any, Literal

import entrypoints

from matmosaic._version import __version__
from matmosaic.exceptions import DuplicatePluginError, PluginError, UnknownNameError, missing_package, suggest

__all__ = ["CONTRACTS", "GROUPS", "PluginInfo", "check_contract", "list_plugins", "load", "names", "remedy"]

logger = logging.getLogger(__name__)

Kind = Literal["backbones", "featurizers", "openers", "stores"]

#: Entry-point group of each kind of plugin.
GROUPS = {kind: f"matmosaic.{kind}" for kind in ("backbones", "featurizers", "openers", "stores")}

#: Version of the contract of each kind of plugin, the newest that this matmosaic keeps. It grows when
#: plugins can rely on something that they could not rely on before.
CONTRACTS = {"backbones": 1, "featurizers": 1, "openers": 1, "stores": 1}

_OWN = "matmosaic"  # the distribution whose names nobody else can claim


@dataclass(frozen=True, kw_only=True)
class PluginInfo:
    """What package metadata says about a plugin, and whether it works."""

    group: str
    """Entry-point group, such as ``"matmosaic.backbones"``."""
    name: str
    """Name by which users ask for the plugin."""
    distribution: str
    """Normalised name of the distribution that declares it, as in ``pip uninstall NAME``."""
    version: str
    """Version of that distribution."""
    reference: str
    """Where the object lives: ``"package.module:attribute"``."""
    healthy: bool | None = None
    """Whether the plugin can be loaded and makes what its group says; None if that was not tried."""
    reason: str = ""
    """Why it does not work, or what there is to know of one that does."""


def names(kind: Kind) -> list[str]:
    """Return the names of all plugins of a kind, sorted, without importing any.

    Parameters
    ----------
    kind : {"backbones", "featurizers", "openers", "stores"}
        Kind of plugin.

    Returns
    -------
    list of str
        Names to use with :func:`load`.
    """
    return sorted({plugin.name for plugin in _find(kind)})


def load(kind: Kind, name: str) -> Any:
    """Import the plugin of that name.

    Parameters
    ----------
    kind : {"backbones", "featurizers", "openers", "stores"}
        Kind of plugin.
    name : str
        Name of the plugin, one of :func:`names`.

    Returns
    -------
    object
        What the entry point refers to, usually a class.

    Raises
    ------
    UnknownNameError
        If no installed distribution declares that name.
    DuplicatePluginError
        If two distributions declare it, neither of which is matmosaic itself.
    PluginError
        If importing it fails, or if it was written against a newer contract.
    """
    return _import(_owner(kind, name))


def check_contract(kind: Kind, name: str, made: Any) -> None:
    """Refuse what a plugin has made if it expects more than this matmosaic gives.

    :func:`load` has looked at the plugin itself; one that is a function cannot say what it makes.

    Parameters
    ----------
    kind : {"backbones", "featurizers", "openers", "stores"}
        Kind of plugin.
    name : str
        Name of the plugin, one of :func:`names`.
    made : object
        What calling the plugin returned.

    Raises
    ------
    PluginError
        If it was written against a newer contract, or says so in no whole number.
    """
    if _contract(made) not in range(1, CONTRACTS[kind] + 1):
        _check_contract(_owner(kind, name), made)


def remedy(kind: Kind, name: str, error: BaseException) -> str:
    """Return what to do about an error that a plugin raised when it was used.

    Parameters
    ----------
    kind : {"backbones", "featurizers", "openers", "stores"}
        Kind of plugin.
    name : str
        Name of the plugin, one of :func:`names`.
    error : BaseException
        What it raised.

    Returns
    -------
    str
        A sentence: what to install where a package is missing, or whom to tell.
    """
    return _remedy(_owner(kind, name), error)


def list_plugins(*, check: bool = False) -> list[PluginInfo]:
    """Return every plugin found, with its distribution.

    Parameters
    ----------
    check : bool, default=False
        Import each plugin, and make a network, featurizer or store with its defaults, to learn whether it
        works. Without it no plugin is imported, and ``healthy`` is False only for what metadata alone shows
        to be broken.

    Returns
    -------
    list of PluginInfo
        Ordered by group and name.
    """
    _scan.cache_clear()
    found = [_with_clash(plugin) for kind in GROUPS for plugin in _find(kind)]
    found.sort(key=lambda plugin: (plugin.group, plugin.name, plugin.distribution))
    return [_with_health(plugin) for plugin in found] if check else found


def _find(kind: str) -> list[PluginInfo]:
    if kind not in GROUPS:
        raise UnknownNameError(suggest(kind, GROUPS, what="kind of plugin"))
    return [plugin for plugin in _scan(tuple(sys.path)) if plugin.group == GROUPS[kind]]


def _claims(kind: str, name: str) -> list[PluginInfo]:
    return [plugin for plugin in _find(kind) if plugin.name == name]


def _owner(kind: Kind, name: str) -> PluginInfo:
    """Return the one plugin that a name stands for."""
    claims = _claims(kind, name)
    if not claims:
        _scan.cache_clear()  # it may have been installed since the last look
        importlib.invalidate_caches()
        claims = _claims(kind, name)
    if not claims:
        raise UnknownNameError(suggest(name, names(kind), what=kind.removesuffix("s")))
    return claims[0] if len(claims) == 1 else _own(claims)[0]


def _own(claims: list[PluginInfo]) -> list[PluginInfo]:
    """Return what matmosaic itself declares under a name that others claim, too."""
    own = [claim for claim in claims if claim.distribution == _OWN]
    if not own:
        raise DuplicatePluginError(_clash(claims))
    for claim in claims:
        if claim not in own:
            _warn_once(_taken(claim))
    return own


@lru_cache(maxsize=64)
def _warn_once(message: str) -> None:
    logger.warning("%s", message)


@lru_cache(maxsize=4)
def _scan(folders: tuple[str, ...]) -> tuple[PluginInfo, ...]:
    """Read the metadata in the folders of ``sys.path``; the first copy of a distribution counts."""
    plugins: list[PluginInfo] = []
    seen: set[str] = set()
    for folder in folders:
        for distribution, version, lines in _declarations(folder):
            name = re.sub(r"[-_.]+", "-", distribution).lower()
            if name not in seen:
                seen.add(name)
                plugins += (_describe(name, version, *line) for line in lines)
    return tuple(plugins)


_Declaration = tuple[str, str, list[tuple[str, str, str]]]  # distribution, version, (group, name, reference)s


def _declarations(folder: str) -> list[_Declaration]:
    try:
        return [
            (distro.name, distro.version or "", _lines(config))
            for config, distro in entrypoints.iter_files_distros([folder])
        ]
    except (configparser.Error, UnicodeDecodeError) as error:
        # One distribution's malformed metadata would hide all others of its folder.
        logger.warning("Malformed entry points in %r (%s); reading them one by one.", folder, error)
        return list(_declarations_one_by_one(folder))


def _declarations_one_by_one(folder: str) -> Iterator[_Declaration]:
    for distribution in metadata.distributions(path=[folder]):
        try:
            points = [p for p in distribution.entry_points if p.group in GROUPS.values()]
        except Exception as error:  # whatever a malformed file makes the parser raise
            logger.warning("Skipped the entry points of %r: %s", distribution.name, error)
            continue
        yield distribution.name, distribution.version, [(p.group, p.name, p.value) for p in points]


def _lines(config: configparser.ConfigParser) -> list[tuple[str, str, str]]:
    groups = [group for group in GROUPS.values() if group in config]
    return [(group, name, str(value)) for group in groups for name, value in config[group].items()]


def _describe(distribution: str, version: str, group: str, name: str, reference: str) -> PluginInfo:
    plugin = PluginInfo(
        group=group, name=name, distribution=distribution, version=version, reference=reference
    )
    try:
        entrypoints.EntryPoint.from_string(reference, name)
    except entrypoints.BadEntryPoint:
        reason = f"{reference!r} is no object reference of the form 'package.module:attribute'"
        return replace(plugin, healthy=False, reason=reason)
    return plugin


def _with_clash(plugin: PluginInfo) -> PluginInfo:
    claims = _claims(plugin.group.removeprefix("matmosaic."), plugin.name)
    if len(claims) == 1 or plugin.distribution == _OWN:
        return plugin
    own = any(claim.distribution == _OWN for claim in claims)
    return replace(plugin, healthy=False, reason=_taken(plugin) if own else _clash(claims))


def _with_health(plugin: PluginInfo) -> PluginInfo:
    if plugin.healthy is False:
        return plugin
    try:
        return replace(plugin, healthy=True, reason=_try(plugin))
    except PluginError as error:
        return replace(plugin, healthy=False, reason=str(error))


def _try(plugin: PluginInfo) -> str:
    """Import a plugin and make what it stands for; return what there is to know of it."""
    _import(plugin)
    from matmosaic._plugin_trial import try_plugin  # all that plugins can be, so late

    try:
        return try_plugin(plugin.group.removeprefix("matmosaic."), plugin.name)
    except (KeyboardInterrupt, PluginError):
        raise
    except BaseException as error:  # a constructor may fail in any way, too
        message = f"{_what(plugin)} cannot be made without arguments ({_cause(error)}). "
        raise PluginError(message + _remedy(plugin, error)) from error


def _clash(claims: list[PluginInfo]) -> str:
    owners = " and ".join(f"{claim.distribution!r} ({claim.reference})" for claim in claims)
    name, group = claims[0].name, claims[0].group
    return f"The plugin name {name!r} of {group} is claimed by {owners}; uninstall one of them."


def _taken(claim: PluginInfo) -> str:
    return (
        f"The plugin name {claim.name!r} of {claim.group} is matmosaic's own and stays so; what "
        f"{claim.distribution!r} ({claim.reference}) declares cannot be reached. Its authors must choose "
        "another name."
    )


def _import(plugin: PluginInfo) -> Any:
    what = _what(plugin)
    if plugin.healthy is False:
        raise PluginError(f"{what} is declared wrongly: {plugin.reason}; report it to its authors.")
    try:
        found = entrypoints.EntryPoint.from_string(plugin.reference, plugin.name).load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin's import may fail in any way, by sys.exit() too
        message = f"{what} cannot be loaded from {plugin.reference!r} ({_cause(error)}). "
        message += _remedy(plugin, error)
        raise PluginError(message) from error
    if not callable(found):
        raise PluginError(
            f"{what} must refer to a class or function. Got {plugin.reference!r}, of type "
            f"{type(found).__name__}; report it to its authors."
        )
    _check_contract(plugin, found)
    return found


def _check_contract(plugin: PluginInfo, found: Any) -> None:
    what, kind = _what(plugin), plugin.group.removeprefix("matmosaic.")
    contract = _contract(found)
    if not isinstance(contract, int) or contract < 1:
        raise PluginError(
            f"{what} must state its 'contract' as a whole number >= 1. Got {contract!r}; report it to its "
            "authors."
        )
    if contract > CONTRACTS[kind]:
        raise PluginError(
            f"{what} was written against version {contract} of the contract of {kind}; matmosaic "
            f"{__version__}, which is installed, knows versions up to {CONTRACTS[kind]}. Upgrade matmosaic "
            f"(pip install --upgrade matmosaic), or install an older {plugin.distribution!r}."
        )


def _contract(found: Any) -> Any:
    return getattr(found, "contract", 1)


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _what(plugin: PluginInfo) -> str:
    return f"Plugin {plugin.name!r} of distribution {plugin.distribution!r} {plugin.version}".rstrip()


def _remedy(plugin: PluginInfo, error: BaseException) -> str:
    missing = (error.name or "") if isinstance(error, ImportError) else ""
    package = missing.partition(".")[0]
    if package == _OWN:
        return f"Installed is matmosaic {__version__}; upgrade matmosaic and {plugin.distribution!r}."
    if package != _package(plugin) and (advice := missing_package(error)):
        return advice
    return f"Upgrade, reinstall or uninstall {plugin.distribution!r}."


def _package(plugin: PluginInfo) -> str:
    return plugin.reference.partition(":")[0].partition(".")[0]
