"""The heads that a module brings: which of them an estimator starts from, or leaves."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from matmosaic.backbones import MLP
from matmosaic.exceptions import (
    InvalidParameterError,
    InvalidTargetsError,
    UnknownNameError,
    UnusedHeadWarning,
    suggest,
)
from matmosaic.learning import ManyProperties, OneProperty
from matmosaic.modules import ModuleCard, PretrainedModule


def own_outputs(card: ModuleCard | None, task: OneProperty | ManyProperties) -> list[dict[str, Any]]:
    """Return what a card says of the properties whose heads an estimator inherits.

    Parameters
    ----------
    card : ModuleCard or None
        Of the module.
    task : OneProperty or ManyProperties
        What is learnt. The one head of a module of one property is inherited whatever the labels are called;
        otherwise names decide.

    Returns
    -------
    list of dict
        Those of ``card.outputs`` that are asked for, in the order of the task.

    Raises
    ------
    InvalidParameterError
        If there is no module, it has no head, or the head has several outputs that have no names.
    InvalidTargetsError
        If the module has several heads and the labels have no name.
    UnknownNameError
        If the module has no head of that name.
    """
    if card is None:
        raise InvalidParameterError(
            "head='inherit' starts from the head of a module. Got module=None; name one, or use head='new'."
        )
    n_out = 0 if card.head is None else card.head.get("n_out", 1)
    if n_out != 1:
        raise InvalidParameterError(
            f"head='inherit' needs a module with a head of one output per property. Module {card.name!r} has "
            f"{f'a head of {n_out} outputs' if n_out else 'no head'}; use head='new'."
        )
    if isinstance(task, OneProperty) and not card.properties:
        return card.outputs
    return [_output_named(name, card) for name in _names(task, card)]


def own_heads(module: PretrainedModule, outputs: Sequence[dict[str, Any]]) -> list[MLP]:
    """Return new heads with a module's weights, those of some of its card's ``outputs``."""
    head = module.build_head()
    heads = [head] if isinstance(head, MLP) else list(head or ())
    names = [one["name"] for one in module.card.outputs]
    return [heads[names.index(one["name"])] for one in outputs]


def warn_of_known(card: ModuleCard | None, task: OneProperty | ManyProperties, *, stacklevel: int) -> None:
    """Warn if new heads are made for properties that the module has heads for."""
    if card is None or card.head is None:
        return
    asked = [task.name] if isinstance(task, OneProperty) else task.names
    known = [one["name"] for one in card.outputs if one["name"] in asked]
    if known:
        warnings.warn(
            f"Module {card.name!r} has a head for {', '.join(map(repr, known))}, and head='new' starts a new "
            "one. head='inherit' starts from the module's own.",
            UnusedHeadWarning,
            stacklevel=stacklevel + 1,
        )


def _names(task: OneProperty | ManyProperties, card: ModuleCard) -> Sequence[str]:
    if isinstance(task, ManyProperties):
        return task.names
    if task.name is None:
        raise InvalidTargetsError(
            f"Module {card.name!r} has heads for {[one['name'] for one in card.outputs]}, and the labels do "
            "not say which to inherit. Give 'y' as a Series that is named so."
        )
    return [task.name]


def _output_named(name: str, card: ModuleCard) -> dict[str, Any]:
    named = {one["name"]: one for one in card.outputs}
    if name not in named:
        hint = suggest(name, named, what=f"property of module {card.name!r}")
        raise UnknownNameError(f"head='inherit': {hint} Rename the labels, or use head='new'.")
    return named[name]
