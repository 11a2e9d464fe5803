"""The modules of a mixture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from matmosaic.backbones import Backbone
from matmosaic.exceptions import InvalidParameterError
from matmosaic.modules import ModuleCard, PretrainedModule, resolve


def resolve_experts(modules: Any) -> list[PretrainedModule]:
    """Return the modules that a reference, a module, or a sequence of these stands for.

    Parameters
    ----------
    modules : str, path-like, PretrainedModule, or sequence of these
        What a mixture is made of.

    Returns
    -------
    list of PretrainedModule
        At least one, all different.

    Raises
    ------
    InvalidParameterError
        If there is none, or one comes twice.
    UnknownNameError
        If a reference matches nothing.
    """
    references = [modules] if isinstance(modules, str | PathLike | PretrainedModule) else modules
    if not isinstance(references, Sequence | np.ndarray) or len(references) == 0:
        raise InvalidParameterError(
            "'modules' must name at least one module: a reference such as 'bundled:*', a module, or a list "
            f"of these. Got {modules!r}."
        )
    found = [module for reference in references for module in resolve(reference)]
    counts = Counter(module.card.sha256 for module in found)
    twice = [module.card.name for module in found if counts[module.card.sha256] > 1]
    if twice:
        raise InvalidParameterError(
            f"'modules' must hold each module once. Got the same weights several times: {twice}. Remove the "
            "references that overlap."
        )
    return found


def expert_names(cards: Sequence[ModuleCard]) -> list[str]:
    """Return a name for each module, with the start of its checksum where names are equal."""
    counts = Counter(card.name for card in cards)
    return [card.name if counts[card.name] == 1 else f"{card.name}@{str(card.sha256)[:8]}" for card in cards]


def table_of_modules(
    names: Sequence[str], cards: Sequence[ModuleCard], **columns: Sequence[Any] | np.ndarray
) -> pd.DataFrame:
    """Return a row for each module, in descending order of the first of these columns.

    Parameters
    ----------
    names : sequence of str
        Index of the table.
    cards : sequence of ModuleCard
        Of the modules, for the columns ``target``, ``unit``, ``dataset`` and ``license_weights``.
    **columns
        What was learnt of each module.
    """
    told = {
        "target": [card.target for card in cards],
        "unit": [card.unit for card in cards],
        "dataset": [card.dataset["name"] for card in cards],
        "license_weights": [card.license_weights for card in cards],
    }
    table = pd.DataFrame({**columns, **told}, index=pd.Index(names, name="module"))
    return table.sort_values(next(iter(columns)), ascending=False, kind="stable")


def check_n_active(n_active: int | None, names: Sequence[str]) -> None:
    """Raise InvalidParameterError if more experts are to be active than there are."""
    if n_active is not None and n_active > len(names):
        raise InvalidParameterError(
            f"'n_active' must be at most the number of modules, {len(names)}, or None for all. Got "
            f"{n_active}; the modules are {list(names)}."
        )


def check_widths(names: Sequence[str], experts: Sequence[Backbone]) -> None:
    """Raise InvalidParameterError if features of different width cannot be added."""
    widths = {name: expert.n_features for name, expert in zip(names, experts, strict=True)}
    if len(set(widths.values())) > 1:
        raise InvalidParameterError(
            f"aggregation='add' without 'width' needs modules with features of one width. Got {widths}. Set "
            f"width={min(widths.values())}, say, to map all to one width, or aggregation='concat' or "
            "'ensemble'."
        )
