"""What a store of modules is: the file that the author of a store reads.

A store keeps modules by name, one version of each. Stores are plugins of the group
``matmosaic.stores``: an entry point names a class, or any callable, that gives a store when it is
called without arguments. Run :func:`matmosaic.testing.check_store` on yours.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from matmosaic.modules.card import ModuleCard
from matmosaic.modules.module import PretrainedModule


@runtime_checkable
class ModuleStore(Protocol):
    """A place from which modules are read.

    Its constructor does no input or output. Names that are no module names are refused
    (:func:`matmosaic.modules.check_module_name`) before anything is looked up.
    """

    def names(self) -> list[str]:
        """Return the names of all modules, sorted; reads no weights.

        Raises
        ------
        StoreError
            If the store cannot be reached.
        """

    def card(self, name: str) -> ModuleCard:
        """Return the card of a module; reads no weights.

        Raises
        ------
        UnknownNameError
            If there is no such module; the message suggests names.
        """

    def load(self, name: str) -> PretrainedModule:
        """Return a module whose checksum and golden outputs were checked.

        Raises
        ------
        UnknownNameError
            If there is no such module; the message suggests names.
        CorruptModuleError
            If its weights were altered.
        """


@runtime_checkable
class WritableModuleStore(ModuleStore, Protocol):
    """A store that modules can be added to."""

    def save(self, module: PretrainedModule, *, overwrite: bool = False) -> None:
        """Keep a module under the name on its card, all or nothing.

        Raises
        ------
        StoreError
            If the name is taken and ``overwrite`` is False, or if the module cannot be written.
        """
