"""Adapters in estimators: when they are inserted, and which module they are for."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from matmosaic.backbones import AdaptedBackbone, Backbone, insert_adapters
from matmosaic.backbones.adapters import ADAPTERS
from matmosaic.backbones.freezing import Unfrozen
from matmosaic.exceptions import InvalidParameterError, MatmosaicError, suggest
from matmosaic.modules import ModuleCard, PretrainedModule, load_module
from matmosaic.modules._base import base_reference

Kind = Literal["full", "adapter"]
KINDS = ("full", "adapter")


def with_adapters(backbone: Backbone, module: PretrainedModule | None, unfrozen: Unfrozen) -> Backbone:
    """Return a backbone with new adapters, if these are to be trained and it has none.

    Raises
    ------
    InvalidParameterError
        If the backbone comes from no module: adapters of random weights adapt nothing.
    """
    if ADAPTERS not in ([unfrozen] if isinstance(unfrozen, str) else list(unfrozen)):
        return backbone
    if module is None:
        raise InvalidParameterError(
            "unfrozen='adapters' trains adapters of a module's network. Got module=None; name a module."
        )
    return insert_adapters(backbone)


@dataclass(frozen=True)
class Base:
    """The module that an estimator's adapters are for."""

    sha256: str
    """Of its weights."""
    reference: str
    """Where it may be found; empty if nobody said so."""
    module: PretrainedModule | None = None
    """The module, where it is at hand."""

    @classmethod
    def of(cls, source: PretrainedModule | None, given: Any) -> Base | None:
        """Return the base of what was trained further, ``source``, which the parameter ``given`` named."""
        if source is None:
            return None
        if source.card.kind == "adapter":
            return cls(str(source.card.base), source.card.base_reference, source.base)
        return cls(str(source.card.sha256), base_reference(given), source)

    @classmethod
    def of_card(cls, card: ModuleCard | None, reference: str, given: Any) -> Base | None:
        """Return the base of an estimator that was saved, as far as it is at hand."""
        if card is None:
            return None
        with suppress(MatmosaicError):  # What a saved parameter names need not be on this machine.
            found = cls.of(load_module(given), given)
            if found is not None and found.sha256 in (card.base, card.sha256):
                return found
        return cls(str(card.base if card.kind == "adapter" else card.sha256), reference)


def kind_to_export(kind: Kind | None, backbone: Backbone, unfrozen: list[str], base: Base | None) -> Kind:
    """Return what of a trained network a module is to hold.

    Parameters
    ----------
    kind : {"full", "adapter"} or None
        What is asked for; None for adapters alone where these, with the base, are the network.
    backbone : Backbone
        The network.
    unfrozen : list of str
        Names of its parameters that were trained.
    base : Base or None
        What it was before.

    Raises
    ------
    InvalidParameterError
        If adapters are asked for, and the network is more than a base and its adapters.
    """
    if kind not in (None, *KINDS):
        raise InvalidParameterError(suggest(str(kind), KINDS, what="value of 'kind'"))
    adapted = isinstance(backbone, AdaptedBackbone) and base is not None
    changed = [name for name in unfrozen if not name.startswith(f"{ADAPTERS}.")]
    if kind == "adapter" and (changed or not adapted):
        reason = f"trained {changed[0]!r} and more" if adapted else "has no adapters in its network"
        raise InvalidParameterError(
            f"kind='adapter' exports the adapters of a network that else is as its module has it. This "
            f"estimator {reason}; fit with unfrozen='adapters', or use kind='full'."
        )
    return kind or ("adapter" if adapted and not changed else "full")
