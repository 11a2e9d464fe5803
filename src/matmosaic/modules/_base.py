"""Find the module that adapters are for, by the checksum of its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from weakref import WeakValueDictionary

from matmosaic.exceptions import (
    ArchitectureMismatchError,
    MatmosaicError,
    ModuleFormatError,
    StoreError,
    UnknownNameError,
)
from matmosaic.modules.bundled_store import BundledStore
from matmosaic.modules.card import ModuleCard
from matmosaic.modules.module import PretrainedModule
from matmosaic.modules.references import is_store_reference, list_modules, load_module
from matmosaic.modules.store import ModuleStore, VersionedModuleStore
from matmosaic.modules.summary import ModuleSummary

# Bases that are in use, by checksum: many adapters share one.
_in_use: WeakValueDictionary[str, PretrainedModule] = WeakValueDictionary()


def base_reference(reference: object) -> str:
    """Return the reference of one module of a store; ``""`` for a path or URL, which others may not have."""
    if not isinstance(reference, str) or not is_store_reference(reference):
        return ""
    return list_modules(reference)[0]


def check_base(card: ModuleCard, base: PretrainedModule) -> PretrainedModule:
    """Return a module if it is the one that the adapters of a card are for."""
    if base.card.sha256 != card.base:
        raise ArchitectureMismatchError(
            f"Module {card.name!r} holds adapters for the weights of sha256 {card.base}, and works with no "
            f"others. Got {base.card.name!r}, of sha256 {base.card.sha256}; pass the module that it names."
        )
    return _in_use.setdefault(str(card.base), base)


def find_base(card: ModuleCard, siblings: ModuleStore | None = None) -> PretrainedModule:
    """Return the module that the adapters of a card are for.

    Parameters
    ----------
    card : ModuleCard
        Of the adapters.
    siblings : ModuleStore, optional
        Where the adapters were loaded from.

    Returns
    -------
    PretrainedModule
        The module with the checksum ``card.base``: among those in use, by ``card.base_reference``, in
        ``siblings``, or among those that ship with matmosaic.

    Raises
    ------
    UnknownNameError
        If it is in none of these places.
    """
    known = _in_use.get(str(card.base))
    if known is not None:
        return known
    looked = []
    for place, look in _places(card, siblings):
        try:
            base = look()
        except MatmosaicError as error:
            looked.append(f"{place} ({error})")
            continue
        if base is not None:
            return check_base(card, base)
        looked.append(place)
    raise UnknownNameError(
        f"Module {card.name!r} holds adapters for a module of backbone {card.backbone!r} whose weights have "
        f"sha256 {card.base}, and that was not found. Looked in {'; '.join(looked)}. Save it beside the "
        "adapters, or pass it: PretrainedModule.load(directory, base=module)."
    )


def _places(
    card: ModuleCard, siblings: ModuleStore | None
) -> Iterator[tuple[str, Callable[[], PretrainedModule | None]]]:
    """Yield where to look, and how; one module that is named comes before a search."""
    if is_store_reference(card.base_reference):
        yield repr(card.base_reference), lambda: _by_reference(card)
    if siblings is not None:
        yield str(siblings), lambda: _in_store(siblings, card)
    yield "the modules that ship with matmosaic", lambda: _in_store(BundledStore(), card)


def _in_store(store: ModuleStore, card: ModuleCard) -> PretrainedModule | None:
    for version, read in _summaries(store):
        try:
            found = read()
        except (ModuleFormatError, UnknownNameError, StoreError):
            continue  # Whoever asks for these adapters has nothing to do with a broken card beside them.
        if found.kind == "full" and found.sha256 == card.base:
            return store.load(*version)
    return None


def _summaries(store: ModuleStore) -> Iterator[tuple[tuple[str, ...], Callable[[], ModuleSummary]]]:
    """Yield each name, with each version where there are several, and what reads its summary.

    From an index where the store has one: the cards of a hub would be downloaded.
    """
    for name in store.names():
        if not isinstance(store, VersionedModuleStore):
            yield (name,), partial(_summary, store, name)
            continue
        for version in store.versions(name):
            yield (name, version), partial(store.summary, name, version)


def _summary(store: ModuleStore, name: str) -> ModuleSummary:
    return ModuleSummary.of(store.card(name))


def _by_reference(card: ModuleCard) -> PretrainedModule:
    return check_base(card, load_module(card.base_reference))
