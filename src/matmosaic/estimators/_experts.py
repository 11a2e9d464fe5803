"""The modules of a mixture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from os import PathLike
from typing import Any

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
    if not isinstance(references, Sequence) or not references:
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
