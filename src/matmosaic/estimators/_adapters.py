"""Adapters in estimators: when they are inserted, and which module they are for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from matmosaic.backbones import AdaptedBackbone, Backbone, insert_adapters
from matmosaic.backbones.adapters import ADAPTERS
from matmosaic.backbones.freezing import Unfrozen
from matmosaic.exceptions import InvalidParameterError, MatmosaicError, UnknownNameError, suggest
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
    if module is not None and not isinstance(backbone, AdaptedBackbone):
        _check_spelling(backbone, unfrozen)
    if ADAPTERS not in _names(unfrozen):
        return backbone
    if module is None:
        raise InvalidParameterError(
            "unfrozen='adapters' trains adapters of a module's network. Got module=None; name a module."
        )
    return insert_adapters(backbone)


def check_can_adapt(experts: Sequence[Backbone], unfrozen: Unfrozen, who: str) -> None:
    """Raise InvalidParameterError if adapters are to be trained in networks of which one has none.

    Parameters
    ----------
    experts : sequence of Backbone
        Networks of a mixture, into which no adapters are inserted.
    unfrozen : str or sequence of str
        What is to be trained.
    who : str
        What cannot insert them.
    """
    if ADAPTERS in _names(unfrozen) and not all(isinstance(one, AdaptedBackbone) for one in experts):
        raise InvalidParameterError(
            f"unfrozen='adapters': {who} inserts no adapters, and not all modules have some. Use "
            "unfrozen='last', or modules of adapters: those that TransferRegressor(module, "
            "unfrozen='adapters') exports by to_module()."
        )


def _names(unfrozen: Unfrozen) -> list[str]:
    return [unfrozen] if isinstance(unfrozen, str) else list(unfrozen)


def _check_spelling(backbone: Backbone, unfrozen: Unfrozen) -> None:
    """Raise UnknownNameError for a layer group that is there neither now nor with adapters."""
    valid = ["all", "head", ADAPTERS, *backbone.layer_groups()]
    for name in _names(unfrozen):
        if name not in valid:
            raise UnknownNameError(suggest(name, valid, what="layer group in 'unfrozen'"))


@dataclass(frozen=True)
class Base:
    """The module that an estimator's adapters are for."""

    sha256: str
    """Of its weights."""
    reference: str
    """Where it may be found; empty if nobody said so."""
    module: PretrainedModule | None = None
    """The module, where it is at hand."""
    given: Any = None
    """What the parameter of a saved estimator named."""

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
        """Return the base of an estimator that was saved; what ``given`` names is looked for when needed."""
        if card is None:
            return None
        sha256 = str(card.base if card.kind == "adapter" else card.sha256)
        return cls(sha256, reference, given=given)

    def find(self) -> PretrainedModule | None:
        """Return the module, if it is at hand or what the saved parameter names; None otherwise."""
        if self.module is not None or self.given is None:
            return self.module
        with suppress(MatmosaicError):  # It need not be on this machine.
            found = Base.of(load_module(self.given), None)
            return found.module if found is not None and found.sha256 == self.sha256 else None
        return None


def kind_of_mean(kind: Kind | None, mean: ModuleCard) -> Kind | None:
    """Return what of a network that was fine-tuned from a mean of modules is to be exported.

    Parameters
    ----------
    kind : {"full", "adapter"} or None
        What is asked for.
    mean : ModuleCard
        Of the mean.

    Raises
    ------
    InvalidParameterError
        If adapters are asked for, and the mean is a whole network.
    """
    if mean.kind == "adapter" or kind not in (None, "adapter"):
        return kind
    if kind == "adapter":
        raise InvalidParameterError(
            "kind='adapter' exports adapters for a base that others have. The base here is the mean of the "
            "modules, which is in no store; use kind='full', the default, or compose modules of adapters."
        )
    return "full"


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
