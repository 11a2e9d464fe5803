"""Modules that a command's arguments stand for; cards are read without torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matmosaic.featurizers import Featurizer
    from matmosaic.modules import PretrainedModule


def is_featurizer(reference: str) -> bool:
    """Return whether a reference is that of a featurizer, and of no module."""
    return reference.startswith("featurizer:")


def load_all(references: Iterable[str]) -> dict[str, PretrainedModule | Featurizer]:
    """Return the modules of references and globs, and featurizers, by reference, each once.

    Raises
    ------
    UnknownNameError
        If a reference or glob matches nothing.
    """
    from matmosaic.featurizers import load_featurizer
    from matmosaic.modules import list_modules, load_module, resolve

    loaded: dict[str, PretrainedModule | Featurizer] = {}
    for reference in references:
        if is_featurizer(reference):
            loaded[reference] = load_featurizer(reference)
            continue
        found = list_modules(reference)
        if not found:
            resolve(reference)  # raises, and says what there is
        loaded |= {one: load_module(one) for one in found if one not in loaded}
    return loaded


def expand(references: Iterable[str]) -> list[str]:
    """Return a reference per module, of globs, of directories that hold modules and of hubs as well."""
    from matmosaic.modules import DirectoryStore, list_modules

    found: list[str] = []
    for reference in map(_of_hub, references):
        path = Path(reference)
        # "" is no path, although Path("") is the current directory.
        if reference and path.is_dir() and not (path / "card.json").exists():
            found += [str(path / name) for name in DirectoryStore(path).names()]
        else:
            found += list_modules(reference)
    return list(dict.fromkeys(found))


def _of_hub(reference: str) -> str:
    """Return a glob of all modules where a hub is named: by its URL, its folder, or ``name:``."""
    from matmosaic.modules.opening import is_url

    if is_url(reference):
        return f"{reference.rstrip('/')}#*"
    if reference and is_hub(Path(reference)):
        return f"{folder_url(reference)}#*"
    return f"{reference}*" if re.fullmatch(r"[A-Za-z][\w.-]+:", reference) else reference


def folder_url(folder: str) -> str:
    """Return the URL of a folder: the same one however its path is written."""
    return Path(folder).expanduser().resolve().as_uri()


def is_hub(path: Path) -> bool:
    """Return whether a path is that of a hub: a folder with an index."""
    return (path / "index.json").is_file() and not (path / "card.json").exists()
