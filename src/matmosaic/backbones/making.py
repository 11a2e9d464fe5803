"""Networks of plugins: what installed packages call a backbone is looked at before it is used."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from matmosaic import plugins
from matmosaic.backbones.base import Backbone
from matmosaic.exceptions import PluginError
from matmosaic.graphs.settings import GraphSettings


def make_backbone(
    name: str, options: Mapping[str, Any] | None = None, *, graph_settings: GraphSettings | None = None
) -> Backbone:
    """Return a new network of a plugin.

    Parameters
    ----------
    name : str
        Name of a backbone plugin.
    options : mapping, optional
        Arguments of the backbone; its defaults without.
    graph_settings : GraphSettings, optional
        How structures become graphs; the backbone's default without.

    Returns
    -------
    Backbone
        With new weights, drawn from torch's random numbers.

    Raises
    ------
    UnknownNameError
        If no plugin has that name.
    PluginError
        If the plugin cannot be loaded or makes no backbone.
    TypeError
        If it takes no such options.
    """
    build = _builder(name)
    made = build(**(options or {}), graph_settings=graph_settings)
    if not isinstance(made, Backbone):
        raise _wrong(name, f"makes an object of type {type(made).__name__}")
    plugins.check_contract("backbones", name, made)
    return made


def _builder(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = plugins.load("backbones", name)
    if isinstance(found, type) and not issubclass(found, Backbone):
        raise _wrong(name, f"is the class {found.__name__}")
    try:
        inspect.signature(found).bind_partial(graph_settings=None)
    except TypeError as error:
        raise _wrong(name, "takes no 'graph_settings'") from error
    except ValueError:
        pass  # a function of C may tell no signature
    return found


def _wrong(name: str, got: str) -> PluginError:
    return PluginError(
        f"Plugin {name!r} of matmosaic.backbones must be a subclass of matmosaic.backbones.Backbone, or a "
        f"function that takes the same arguments and makes one. It {got}; report it to its authors."
    )
