"""What a store of modules is: the file that the author of a store reads.

A store keeps modules by name, one version of each or several. Stores are plugins of the group
``matmosaic.stores``: an entry point names a class, or any callable, that gives a store when it is
called without arguments. Run :func:`matmosaic.testing.check_store` on yours.

What the entry point names says by ``contract: ClassVar[int] = 1`` which version of this contract it was
written against; an older matmosaic, which knows no such version, then refuses it with a reason. The same
holds for what opens stores. Without it version 1 is meant, so it is no member of the protocols below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from matmosaic.modules.card import ModuleCard
from matmosaic.modules.module import PretrainedModule
from matmosaic.modules.summary import ModuleSummary


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


@runtime_checkable
class VersionedModuleStore(ModuleStore, Protocol):
    """A store that keeps several versions of a module; without a version, the last one is meant."""

    def versions(self, name: str) -> list[str]:
        """Return the versions of a module, the last one last.

        Raises
        ------
        UnknownNameError
            If there is no such module; the message suggests names.
        """

    def summary(self, name: str, version: str | None = None) -> ModuleSummary:
        """Return what a listing shows of a module, without reading its card."""

    def card(self, name: str, version: str | None = None) -> ModuleCard:
        """Return the card of a version of a module; reads no weights."""

    def load(self, name: str, version: str | None = None) -> PretrainedModule:
        """Return a version of a module, checked."""


class StoreOpener(Protocol):
    """What opens stores by URL, and by names that the user gives to URLs.

    The plugin ``hub`` of the group ``matmosaic.openers`` is called without arguments and gives one.
    """

    def names(self) -> list[str]:
        """Return the names that the user has given, sorted."""

    def hubs(self) -> Mapping[str, Mapping[str, Any]]:
        """Return ``url`` and ``options`` by name."""

    def open(self, location: str) -> ModuleStore:
        """Return the store at a URL or of a name; it may be the same object as the last time."""

    def add(self, name: str, url: str, options: Mapping[str, Any]) -> str:
        """Keep a URL under a name; return where that is written."""

    def remove(self, name: str) -> str:
        """Forget a name; return where that is written."""
