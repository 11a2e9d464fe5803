"""The experts of a mixture: networks of modules, and featurizers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from matmosaic.backbones import Backbone, unfreeze
from matmosaic.backbones.freezing import Unfrozen
from matmosaic.estimators._adapters import check_can_adapt
from matmosaic.estimators._featurizers import PREFIX, Card, FeaturizerSource, Source
from matmosaic.exceptions import InvalidParameterError
from matmosaic.featurizers import Featurizer
from matmosaic.learning.featurized import FeatureExpert
from matmosaic.modules import ModuleCard, PretrainedModule, resolve

# What featurizers are mapped to where there is no network: the width of published CGCNN features.
FEATURE_WIDTH = 64
# What a mixture is made of, for messages.
KINDS = "a reference such as 'bundled:*', a module, a featurizer"


def resolve_experts(modules: Any, *, parameter: str = "modules", kinds: str = KINDS) -> list[Source]:
    """Return the modules and featurizers that references, or objects, stand for.

    Parameters
    ----------
    modules : str, path-like, PretrainedModule, Featurizer, or sequence of these
        What a mixture is made of.
    parameter : str, default="modules"
        Its name in messages.
    kinds : str, optional
        What it may hold, in messages.

    Returns
    -------
    list of PretrainedModule and FeaturizerSource
        At least one, all different.

    Raises
    ------
    InvalidParameterError
        If there is none, one comes twice, or something is neither.
    UnknownNameError
        If a reference matches nothing.
    """
    single = isinstance(modules, str | PathLike | PretrainedModule | Featurizer)
    references = [modules] if single else modules
    if not isinstance(references, Sequence | np.ndarray) or len(references) == 0:
        raise InvalidParameterError(
            f"'{parameter}' must name at least one module or featurizer: {kinds}, or a list of these. Got "
            f"{modules!r}."
        )
    for reference in references:
        _check_kind(reference, parameter, kinds)
    found = [source for reference in references for source in _resolve(reference)]
    counts = Counter(source.card.sha256 for source in found)
    twice = [source.card.name for source in found if counts[source.card.sha256] > 1]
    if twice:
        raise InvalidParameterError(
            f"'{parameter}' must hold each module and each featurizer once. Got the same several times: "
            f"{twice}. Remove what overlaps."
        )
    return found


def _check_kind(reference: Any, parameter: str, kinds: str) -> None:
    """Raise InvalidParameterError for what can stand for neither a module nor a featurizer."""
    if reference == "" or not isinstance(reference, str | PathLike | PretrainedModule | Featurizer):
        is_class = isinstance(reference, type) and issubclass(reference, Featurizer)
        remedy = f" Pass an object: {reference.__name__}()." if is_class else ""
        raise InvalidParameterError(
            f"'{parameter}' must be {kinds}, or a list of these. Got {reference!r}.{remedy}"
        )


def _resolve(reference: Any) -> list[Source]:
    if isinstance(reference, Featurizer) or (isinstance(reference, str) and reference.startswith(PREFIX)):
        return [FeaturizerSource.of(reference)]
    return [*resolve(reference)]


def expert_names(cards: Sequence[Card], *, reserved: Iterable[str] = ()) -> list[str]:
    """Return a name for each expert, with the start of its checksum where names are equal, or reserved.

    Names follow from the cards alone, so they are the same after loading.
    """
    names = [_telling_name(card) for card in cards]
    counts = Counter([*names, *reserved])
    return [
        name if counts[name] == 1 else f"{name}@{str(card.sha256)[:8]}"
        for name, card in zip(names, cards, strict=True)
    ]


def _telling_name(card: Card) -> str:
    """Return the name of an expert; of a module that is named by a number, after that of its backbone."""
    if isinstance(card, ModuleCard) and not card.name[0].isalpha():
        return f"{card.backbone}-{card.name}"
    return card.name


def table_of_modules(
    names: Sequence[str], cards: Sequence[Card], **columns: Sequence[Any] | np.ndarray
) -> pd.DataFrame:
    """Return a row for each expert, in descending order of the first of these columns.

    Parameters
    ----------
    names : sequence of str
        Index of the table.
    cards : sequence of ModuleCard or FeaturizerCard
        For the columns ``target``, ``unit``, ``dataset`` and ``license_weights``; None for featurizers.
    **columns
        What was learnt of each expert.
    """
    told = pd.DataFrame(map(_told, cards), columns=["target", "unit", "dataset", "license_weights"])
    table = pd.concat([pd.DataFrame(columns), told], axis=1).set_index(pd.Index(names, name="module"))
    return table.sort_values(next(iter(columns)), ascending=False, kind="stable")


def _told(card: Card) -> tuple[Any, ...]:
    if isinstance(card, ModuleCard):
        return card.target, card.unit, card.dataset["name"], card.license_weights
    return None, None, None, None


def check_n_active(n_active: int | None, names: Sequence[str]) -> None:
    """Raise InvalidParameterError if more experts are to be active than there are."""
    if n_active is not None and n_active > len(names):
        raise InvalidParameterError(
            f"'n_active' must be at most the number of modules, {len(names)}, or None for all. Got "
            f"{n_active}; the modules are {list(names)}."
        )


def unfreeze_experts(experts: Sequence[Backbone], unfrozen: Unfrozen, who: str) -> list[str]:
    """Choose what of the networks among experts is trained, and return its names.

    Parameters
    ----------
    experts : sequence of Backbone
        Changed in place; of a :class:`FeatureExpert`, nothing is trained.
    unfrozen : str or sequence of str
        As for :func:`~matmosaic.backbones.unfreeze`.
    who : str
        What cannot insert adapters, for messages.
    """
    networks = [one for one in experts if not isinstance(one, FeatureExpert)]
    check_can_adapt(networks, unfrozen, who)
    trained = (name for network in networks for name in unfreeze(network, unfrozen))
    return list(dict.fromkeys(trained))


def projected_widths(experts: Sequence[Backbone], width: int | None, *, add: bool) -> list[int | None]:
    """Return what width the features of each expert are mapped to; None where they are taken as they are.

    Parameters
    ----------
    experts : sequence of Backbone
        All experts of a mixture.
    width : int or None
        What the user wants.
    add : bool
        Whether features are added, and so must have one width.

    Returns
    -------
    list of int or None, length n_experts
        Without ``width`` that of most networks, for featurizers and, if features are added, for the networks
        of other widths.
    """
    common = _common_width(experts) if width is None else width

    def target(expert: Backbone) -> int | None:
        if isinstance(expert, FeatureExpert):
            return common
        kept = not add or (width is None and expert.n_features == common)
        return None if kept else common

    return [target(expert) for expert in experts]


def _common_width(experts: Sequence[Backbone]) -> int:
    """Return the width of most networks, the smallest in a tie."""
    counts = Counter(one.n_features for one in experts if not isinstance(one, FeatureExpert))
    return max(counts, key=lambda width: (counts[width], -width), default=FEATURE_WIDTH)
