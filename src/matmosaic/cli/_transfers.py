"""``matmosaic modules push`` and ``pull``: copy modules into hubs and out of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matmosaic.cli._arguments import REFERENCE_HELP, add_command
from matmosaic.cli._console import Result
from matmosaic.exceptions import InvalidParameterError, StoreError, UnknownNameError

if TYPE_CHECKING:
    from matmosaic.modules import DirectoryStore, PretrainedModule

HUB_HELP = "a hub: its name with a colon, such as lab:, its URL, or its folder"

_Keep = Callable[["PretrainedModule"], "tuple[str, bool]"]


def add_push(actions: Any, common: argparse.ArgumentParser) -> None:
    """Describe ``push``."""
    parser = add_command(
        actions,
        "push",
        common,
        help="publish modules in a hub",
        description="Publish modules in a hub. A version that is there never changes: the same content again "
        "does nothing, other content is refused.",
    )
    parser.add_argument("reference", metavar="REF", help=REFERENCE_HELP)
    parser.add_argument(
        "hub",
        metavar="HUB",
        help=f"{HUB_HELP}; with NAME@VERSION behind, as in lab:eform@2 or URL#eform@2, what to publish one "
        "module as",
    )
    parser.set_defaults(run=run_push)


def add_pull(actions: Any, common: argparse.ArgumentParser) -> None:
    """Describe ``pull``."""
    parser = add_command(
        actions,
        "pull",
        common,
        help="download modules for use without network",
        description="Download modules into the cache, for use without network, or copy them elsewhere.",
    )
    parser.add_argument(
        "reference", metavar="REF", help=f"{REFERENCE_HELP}; or a hub, for all of its modules"
    )
    parser.add_argument(
        "--to",
        metavar="DIR",
        help="copy them into this directory of modules, or publish them in this hub (lab: or a URL)",
    )
    parser.set_defaults(run=run_pull)


def run_push(arguments: argparse.Namespace) -> Result:
    """Publish what a reference stands for."""
    _check_place(arguments.hub, "HUB")
    hub, name, version = _destination(arguments.hub)
    modules = _loaded(arguments.reference)
    if name and len(modules) > 1:
        raise InvalidParameterError(
            f"{arguments.hub!r} names one module, but {arguments.reference!r} stands for {len(modules)}; "
            f"write {_of_store(hub, '')!r} alone."
        )
    publish = _publisher(hub)
    return _copied({ref: _renamed(module, name, version) for ref, module in modules.items()}, publish)


def run_pull(arguments: argparse.Namespace) -> Result:
    """Keep what a reference stands for in the cache, or copy it elsewhere."""
    if arguments.to is None:
        return _result([_pulled(reference) for reference in _expanded(arguments.reference)])
    keep = _keeper(arguments.to)
    return _copied(_loaded(arguments.reference), keep)


def _pulled(reference: str) -> dict[str, Any]:
    """Keep a module of a hub in the cache; one of another store is checked alone."""
    from matmosaic.modules import load_module
    from matmosaic.modules.opening import open_store

    hub, name, version = _destination(reference)
    pull = getattr(open_store(hub), "pull", None) if _names_hub(reference) else None
    if pull is None:
        load_module(reference)
        return {"reference": reference, "to": "this machine", "new": False}
    pull(name, version)
    return {"reference": reference, "to": "cache", "new": True}


def _keeper(to: str) -> _Keep:
    """Return what keeps a module in a hub or in a directory."""
    _check_place(to, "--to")
    if _names_hub(to):
        return _publisher(_destination(to)[0])
    from matmosaic.modules import DirectoryStore

    store = DirectoryStore(to)
    return lambda module: _saved(module, store)


def _loaded(reference: str) -> dict[str, PretrainedModule]:
    from matmosaic.modules import load_module

    return {one: load_module(one) for one in _expanded(reference)}


def _expanded(reference: str) -> list[str]:
    from matmosaic.cli._references import expand

    references = expand([reference])
    if not references:
        raise UnknownNameError(f"No module matches {reference!r}; `matmosaic modules list` shows some.")
    return references


def _check_place(text: str, argument: str) -> None:
    """Raise InvalidParameterError for what would make a folder that nobody asked for."""
    from matmosaic.modules.references import store_names

    if not text:
        raise InvalidParameterError(
            f"{argument} must be a hub, such as 'lab:' or a URL, or a folder. Got ''."
        )
    if text in store_names() and not Path(text).exists():
        raise InvalidParameterError(
            f"{text!r} is the name of a hub or store; write '{text}:' for that, or './{text}' for a folder."
        )


def _destination(text: str) -> tuple[str, str | None, str | None]:
    """Return the hub, name and version of ``lab:name@version``, ``URL#name@version`` or a folder."""
    from matmosaic.cli._references import folder_url
    from matmosaic.modules.opening import is_url

    if _names_hub(text):
        hub, _, rest = text.partition("#" if is_url(text.partition("#")[0]) else ":")
    else:
        hub, rest = folder_url(text), ""
    name, _, version = rest.partition("@")
    return hub, name or None, version or None


def _names_hub(text: str) -> bool:
    """Return whether a destination is a hub by its writing: a URL, or a name with a colon."""
    from matmosaic.modules.opening import is_url

    name, colon, _ = text.partition(":")
    return is_url(text.partition("#")[0]) or (bool(colon) and len(name) > 1 and not Path(text).exists())


def _publisher(hub: str) -> _Keep:
    """Return what publishes a module in a hub."""
    from matmosaic.modules.opening import open_store

    store = open_store(hub)
    if not hasattr(store, "publish"):
        raise StoreError(f"Nothing can be published in {hub!r}: {store!r} is no hub.")

    def publish(module: PretrainedModule) -> tuple[str, bool]:
        new = store.publish(module)
        return _of_store(hub, f"{module.card.name}@{module.card.version}"), new

    return publish


def _of_store(store: str, name: str) -> str:
    """Return ``lab:name`` or ``URL#name``; without a name ``lab:`` or the URL."""
    from matmosaic.modules.opening import is_url

    if is_url(store):
        return f"{store}#{name}" if name else store
    return f"{store}:{name}"


def _saved(module: PretrainedModule, store: DirectoryStore) -> tuple[str, bool]:
    """Save a module in a directory, unless this very module is there."""
    name = module.card.name
    path = str(store.path / name)
    if store.path.is_dir() and name in store.names() and store.card(name) == module.card:
        return path, False
    store.save(module)
    return path, True


def _renamed(module: PretrainedModule, name: str | None, version: str | None) -> PretrainedModule:
    from matmosaic.modules import PretrainedModule

    card = replace(module.card, name=name or module.card.name, version=version or module.card.version)
    return module if card == module.card else PretrainedModule(card, module.weights)


def _copied(modules: dict[str, PretrainedModule], keep: _Keep) -> Result:
    rows = []
    for reference, module in modules.items():
        place, new = keep(module)
        rows.append({"reference": reference, "to": place, "new": new})
    return _result(rows)


def _result(rows: list[dict[str, Any]]) -> Result:
    text = "\n".join(
        f"{row['reference']} -> {row['to']}{'' if row['new'] else ' (was there)'}" for row in rows
    )
    return Result({"modules": rows}, text)
