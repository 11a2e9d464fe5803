"""The modules that ship with matmosaic."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from matmosaic.modules.card import ModuleCard
from matmosaic.modules.directory_store import DirectoryStore
from matmosaic.modules.module import PretrainedModule

#: Where the bundled modules lie in the package.
BUNDLED_MODULES = Path(__file__).with_name("bundled")


class BundledStore:
    """The read-only store of the modules that ship with matmosaic: ``bundled:NAME``."""

    contract: ClassVar[int] = 1

    def __init__(self) -> None:
        self._store = DirectoryStore(BUNDLED_MODULES)

    def names(self) -> list[str]:
        """Return the names of all bundled modules, sorted."""
        return self._store.names()

    def card(self, name: str) -> ModuleCard:
        """Return the card of a module, as :meth:`DirectoryStore.card` does."""
        return self._store.card(name)

    def load(self, name: str) -> PretrainedModule:
        """Return a module after checking it, as :meth:`DirectoryStore.load` does."""
        return self._store.load(name)

    def __repr__(self) -> str:
        return "BundledStore()"
