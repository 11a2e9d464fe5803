"""The contract of stores, as checks that their authors run; public as :mod:`matmosaic.testing`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from inspect import signature
from typing import Any
from unittest import mock

from matmosaic._testing_contract import check_contract
from matmosaic.exceptions import (
    CorruptModuleError,
    InvalidParameterError,
    MatmosaicError,
    StoreError,
    UnknownNameError,
)
from matmosaic.modules import ModuleCard, ModuleStore, PretrainedModule, WritableModuleStore

_ALTERED = "load() of altered weights, by making modules with PretrainedModule.from_files,"
# What a constructor would call if it did input or output.
_TOUCHED = [
    "builtins.open",
    "io.open",
    "os.mkdir",
    "os.scandir",
    "sqlite3.connect",
    "socket.create_connection",
]
_BAD_NAMES = ["../outside", "/absolute", "a/b", "a\\b", ".hidden", "", "con"]


def check_store(
    store: ModuleStore,
    module: PretrainedModule,
    *,
    corrupt: Callable[[str], Any] | None = None,
) -> None:
    """Check that a store keeps the contract of :class:`~matmosaic.modules.ModuleStore`.

    Parameters
    ----------
    store : ModuleStore
        Store to check. If it can be written it must not hold the module yet; otherwise it must.
    module : PretrainedModule
        Module to save in it or to find there.
    corrupt : callable, optional
        Given a name, alters a byte of that module's weights where the store keeps them; the check
        then makes sure that loading notices. The store is not to be used afterwards.

    Raises
    ------
    AssertionError
        Says which part of the contract is broken and what to do.
    """
    _check_arguments(store, module)
    _check_kind(store)
    if isinstance(store, WritableModuleStore):
        _check_saving(store, module)
    _check_reading(store, module)
    _check_names(store, module.card.name)
    if isinstance(store, WritableModuleStore):
        _check_overwriting(store, module)
    if corrupt is not None:
        corrupt(module.card.name)
        _expect(CorruptModuleError, lambda: store.load(module.card.name), _ALTERED)


def _check_arguments(store: Any, module: Any) -> None:
    assert not isinstance(store, type), f"Pass an object, {store.__name__}(...), not the class."
    assert isinstance(module, PretrainedModule), (
        f"'module' must be a PretrainedModule, such as load_module('bundled:emt-volume'). Got {module!r}."
    )


def _check_kind(store: Any) -> None:
    missing = [name for name in ("names", "card", "load") if not callable(getattr(store, name, None))]
    assert not missing, f"{store!r} lacks the methods {missing}; see matmosaic.modules.ModuleStore."
    check_contract(store, "stores")
    save = getattr(store, "save", len)
    assert callable(save), f"'save' must be a method, or not there. Got {save!r}."
    _check_constructor(type(store))


def _check_constructor(cls: type) -> None:
    """Make another store as a plugin is made, while nothing can be opened."""
    complaint = AssertionError(
        f"The constructor of {cls.__name__} does input or output; wait until the store is used."
    )
    try:
        signature(cls).bind()
    except TypeError:
        return  # a function makes it, or what opens stores
    with ExitStack() as stack:
        for touched in _TOUCHED:
            stack.enter_context(mock.patch(touched, side_effect=complaint))
        cls()


def _check_saving(store: WritableModuleStore, module: PretrainedModule) -> None:
    name = module.card.name
    assert "overwrite" in signature(store.save).parameters, "save() must take overwrite=False, by keyword."
    assert not _holds(store, name), (
        f"The store holds {name!r} already; pass an empty one, such as one in a new temporary folder."
    )
    store.save(module)
    assert name in store.names(), "names() does not list a module after save(); list it at once."
    _expect(StoreError, lambda: store.save(module), "save() of a taken name without overwrite=True")


def _holds(store: ModuleStore, name: str) -> bool:
    try:
        return name in store.names()
    except StoreError:  # its place is made by the first save
        return False


def _check_reading(store: ModuleStore, module: PretrainedModule) -> None:
    name = module.card.name
    names = store.names()
    assert isinstance(names, list), f"names() must return a list of str. Got {type(names).__name__}."
    assert names == sorted(set(names)), f"names() must be sorted and without repeats. Got {names}."
    assert name in names, f"names() must list {name!r}, the module to check with. Got {names}."
    names.clear()
    assert store.names(), "names() hands out its own list; return a copy."
    assert _card_alone(store, name) == module.card, (
        f"card({name!r}) is not the card of the module; keep the bytes of card.json and return "
        "ModuleCard.from_json of them."
    )
    loaded = store.load(name)
    assert isinstance(loaded, PretrainedModule), f"load() must return a PretrainedModule. Got {type(loaded)}."
    assert loaded == module, (
        f"load({name!r}) returns another module than was saved; make it of the bytes that to_files() gave."
    )
    assert loaded.to_files() == module.to_files(), f"load({name!r}) returns other weights; keep all bytes."
    loaded.verify()


def _card_alone(store: ModuleStore, name: str) -> ModuleCard:
    complaint = AssertionError("card() reads weights; read the card alone, for weights may be large.")
    with (
        mock.patch("matmosaic.modules._weights.from_bytes", side_effect=complaint),
        mock.patch("safetensors.torch.load", side_effect=complaint),
        mock.patch("safetensors.torch.load_file", side_effect=complaint),
    ):
        return store.card(name)


def _check_names(store: ModuleStore, name: str) -> None:
    unknown = f"{name}-misspelt"
    methods: list[Callable[[str], Any]] = [store.card, store.load]
    for method in methods:
        _expect(UnknownNameError, partial(method, unknown), f"{method.__name__}() of an unknown name")
        for bad in _BAD_NAMES:
            what = f"{method.__name__}({bad!r}), by calling check_module_name first,"
            _expect((InvalidParameterError, UnknownNameError), partial(method, bad), what)
    try:
        store.card(unknown)
    except UnknownNameError as error:
        assert name in str(error), f"The message of card({unknown!r}) must suggest {name!r}; use suggest()."


def _check_overwriting(store: WritableModuleStore, module: PretrainedModule) -> None:
    newer = PretrainedModule(replace(module.card, version="newer"), module.weights)
    store.save(newer, overwrite=True)
    assert store.card(module.card.name).version == "newer", "save(overwrite=True) must replace the module."
    assert store.load(module.card.name) == newer, "save(overwrite=True) left the old module for load()."
    store.save(module, overwrite=True)


def _expect(kind: type[Exception] | tuple[type[Exception], ...], call: Callable[[], Any], what: str) -> None:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    named = " or ".join(each.__name__ for each in kinds)
    try:
        call()
    except kinds:
        return
    except MatmosaicError as error:
        raise AssertionError(f"{what} must raise {named}. Got {type(error).__name__}: {error}") from error
    except Exception as error:
        raise AssertionError(f"{what} must raise {named}. Got {type(error).__name__}; wrap it.") from error
    raise AssertionError(f"{what} must raise {named}. Nothing was raised.")
