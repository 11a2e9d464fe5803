"""References to featurizers: ``"featurizer:NAME"``, the name of a plugin."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

from matmosaic import plugins
from matmosaic.exceptions import InvalidParameterError, PluginError
from matmosaic.featurizers.base import Featurizer

if TYPE_CHECKING:
    from matmosaic.modules import PretrainedModule

logger = logging.getLogger(__name__)

PREFIX = "featurizer:"
# Beginnings of names that a distribution of ours brings.
OWN_PLUGINS = {"matminer": "matmosaic-matminer"}

Source: TypeAlias = "str | PathLike[str] | PretrainedModule | Featurizer"


def load_featurizer(reference: str | Featurizer) -> Featurizer:
    """Return the featurizer that a reference stands for.

    Parameters
    ----------
    reference : str or Featurizer
        ``"featurizer:NAME"`` with the name of a plugin, or a featurizer, which stands for itself.

    Returns
    -------
    Featurizer
        Of a plugin: made without arguments.

    Raises
    ------
    UnknownNameError
        If no plugin has that name.
    InvalidParameterError
        If it is no reference to a featurizer, or if the plugin's class needs arguments.
    PluginError
        If the plugin is not installed, cannot be loaded or yields no featurizer.

    Examples
    --------
    >>> load_featurizer("featurizer:modul")
    Traceback (most recent call last):
    matmosaic.exceptions.UnknownNameError: Unknown featurizer 'modul'. Did you mean 'module'? ...
    """
    if isinstance(reference, Featurizer):
        return reference
    if isinstance(reference, str) and reference.startswith(PREFIX):
        return _load_plugin(reference.removeprefix(PREFIX))
    raise InvalidParameterError(
        f"A featurizer is expected as '{PREFIX}NAME' or as an object. Got {reference!r}. {_hint(reference)}"
    )


def featurizer_reference(featurizer: Featurizer) -> str | None:
    """Return the reference by which an equal featurizer can be loaded.

    Parameters
    ----------
    featurizer : Featurizer
        Any.

    Returns
    -------
    str or None
        ``"featurizer:NAME"`` of a plugin that yields the same :meth:`Featurizer.identity`; None if none
        does.
    """
    wanted = featurizer.identity()
    for name in _likely_names(type(featurizer)):
        try:
            found = _load_plugin(name).identity()
        except Exception as error:  # a broken plugin, or one that needs arguments, harms nobody else
            logger.debug("Featurizer %r is not the one that is looked for: %s", name, error)
            continue
        if found == wanted:
            return PREFIX + name
    return None


def resolve_sources(sources: Any) -> list[PretrainedModule | Featurizer]:
    """Return the modules and featurizers that some references stand for, in their order.

    Parameters
    ----------
    sources : str, path-like, PretrainedModule, Featurizer, or a sequence of these
        References to modules, such as ``"bundled:emt-*"``, whose globs expand in the order of names;
        references to featurizers, ``"featurizer:NAME"``; or such objects themselves.

    Returns
    -------
    list of PretrainedModule and Featurizer
        At least one.

    Raises
    ------
    InvalidParameterError
        If there are none, or if one of them is neither a module nor a featurizer.
    UnknownNameError
        If there is no such module or featurizer.
    PluginError
        If a plugin is missing or broken.
    """
    single = isinstance(sources, str | PathLike | Featurizer) or not hasattr(sources, "__iter__")
    rows = [sources] if single else list(sources)
    if not rows:
        raise InvalidParameterError("At least one module or featurizer is expected. Got none.")
    return [found for source in rows for found in _resolve(source)]


def _resolve(source: Any) -> list[PretrainedModule | Featurizer]:
    from matmosaic.modules import resolve

    is_reference = isinstance(source, str) and source.startswith(PREFIX)
    if is_reference or isinstance(source, Featurizer) or _is_featurizer_class(source):
        return [load_featurizer(source)]
    return [*resolve(source)]


# --- plugins -----------------------------------------------------------------------------------------


def _load_plugin(name: str) -> Featurizer:
    _check_installed(name)
    plugin = plugins.load("featurizers", name)
    _check_needs_nothing(name, plugin)
    try:
        featurizer = plugin()
    except Exception as error:  # whatever a plugin's constructor raises
        remedy = plugins.remedy("featurizers", name, error)
        raise PluginError(
            f"Plugin '{PREFIX}{name}' cannot be made ({type(error).__name__}: {error}). {remedy}"
        ) from error
    if not isinstance(featurizer, Featurizer):
        raise PluginError(
            f"Plugin '{PREFIX}{name}' must yield a matmosaic.featurizers.Featurizer. Got an object of "
            f"type {type(featurizer).__name__}; report it to its authors."
        )
    plugins.check_contract("featurizers", name, featurizer)  # of one that a function made
    return featurizer


def _check_installed(name: str) -> None:
    valid = plugins.names("featurizers")
    for start, distribution in OWN_PLUGINS.items():
        if name.startswith(start) and not any(one.startswith(start) for one in valid):
            raise PluginError(
                f"Featurizer {name!r} needs a plugin that is not installed: pip install {distribution}"
            )


def _check_needs_nothing(name: str, plugin: Any) -> None:
    needed = [
        parameter.name
        for parameter in inspect.signature(plugin).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        arguments = ", ".join(f"{one}=..." for one in needed)
        raise InvalidParameterError(
            f"Featurizer {name!r} needs arguments, which a reference cannot give. Pass an object instead of "
            f"'{PREFIX}{name}': {getattr(plugin, '__name__', 'that of the plugin')}({arguments})."
        )


def _likely_names(cls: type) -> Iterator[str]:
    """Yield the names of plugins, first of the package that the class comes from: few are imported."""
    package = cls.__module__.partition(".")[0]
    found = [plugin for plugin in plugins.list_plugins() if plugin.group == plugins.GROUPS["featurizers"]]
    found.sort(key=lambda plugin: plugin.reference.partition(":")[0].partition(".")[0] != package)
    return iter(dict.fromkeys(plugin.name for plugin in found))


# --- what may have been meant ------------------------------------------------------------------------


def _is_featurizer_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Featurizer)


def _hint(reference: Any) -> str:
    if _is_featurizer_class(reference):
        return f"Pass an object: {reference.__name__}()."
    if reference in plugins.names("featurizers"):
        return f"Write '{PREFIX}{reference}'."
    return f"For the features of a module, write ModuleFeaturizer({reference!r})."
