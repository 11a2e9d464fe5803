"""Modules that a command's arguments stand for; cards are read without torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from matmosaic import plugins

if TYPE_CHECKING:
    from matmosaic.modules import ModuleCard, PretrainedModule


def load_all(references: Iterable[str]) -> dict[str, PretrainedModule]:
    """Return the modules of references and globs, by reference, each once.

    Raises
    ------
    UnknownNameError
        If a reference or glob matches nothing.
    """
    from matmosaic.modules import list_modules, load_module, resolve

    loaded: dict[str, PretrainedModule] = {}
    for reference in references:
        found = list_modules(reference)
        if not found:
            resolve(reference)  # raises, and says what there is
        loaded |= {one: load_module(one) for one in found if one not in loaded}
    return loaded


def expand(references: Iterable[str]) -> list[str]:
    """Return a reference per module, of globs and of directories that hold modules as well."""
    from matmosaic.modules import DirectoryStore, list_modules

    found: list[str] = []
    for reference in references:
        path = Path(reference)
        if path.is_dir() and not (path / "card.json").exists():
            found += [str(path / name) for name in DirectoryStore(path).names()]
        else:
            found += list_modules(reference)
    return list(dict.fromkeys(found))


def read_card(reference: str) -> ModuleCard:
    """Return the card of one module without reading its weights."""
    from matmosaic.modules import ModuleCard

    store, colon, name = reference.partition(":")
    if colon and store in plugins.names("stores"):
        return plugins.load("stores", store)().card(name.partition("@")[0])
    path = Path(reference).expanduser() / "card.json"
    return ModuleCard.from_json(path.read_bytes(), source=str(path))
