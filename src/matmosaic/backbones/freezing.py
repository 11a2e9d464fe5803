"""Named layer groups: what is trained, what is frozen, and how long the trunk is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from torch import nn

from matmosaic.backbones.base import Backbone
from matmosaic.exceptions import InvalidParameterError, UnknownNameError, suggest

Unfrozen = str | Sequence[str]


def unfreeze(backbone: Backbone, unfrozen: Unfrozen) -> list[str]:
    """Train the named layer groups and freeze everything else.

    Parameters
    ----------
    backbone : Backbone
        Changed in place: ``requires_grad`` of its parameters, and evaluation mode of what is frozen.
    unfrozen : str or sequence of str
        ``"all"``, ``"head"`` (nothing of the backbone), or names of
        :meth:`~matmosaic.backbones.Backbone.layer_groups` such as ``"last"``.

    Returns
    -------
    list of str
        Names of the parameters that are trained.

    Raises
    ------
    UnknownNameError
        If a group does not exist; lists those that do.
    """
    patterns = _patterns(backbone, unfrozen)
    trained = []
    for name, parameter in backbone.named_parameters():
        chosen = any(fnmatchcase(name, pattern) for pattern in patterns)
        parameter.requires_grad_(chosen)
        if chosen:
            trained.append(name)
    backbone.train(backbone.training)
    return trained


def _patterns(backbone: Backbone, unfrozen: Unfrozen) -> list[str]:
    names = [unfrozen] if isinstance(unfrozen, str) else list(unfrozen)
    if not names:
        raise InvalidParameterError(
            "'unfrozen' must name at least one group; use 'head' to freeze the backbone."
        )
    groups = {"all": ["*"], "head": [], **backbone.layer_groups()}
    for name in names:
        if name not in groups:
            raise UnknownNameError(suggest(name, groups, what="layer group in 'unfrozen'"))
    return [pattern for name in names for pattern in groups[name]]


def trunk_depth(backbone: Backbone) -> int:
    """Return the number of leading stages that are run once per structure.

    It is the number of leading stages without a trained parameter, or the largest smaller number
    among :meth:`~matmosaic.backbones.Backbone.cuts`.

    Parameters
    ----------
    backbone : Backbone
        With its trainable parameters already chosen, by :func:`unfreeze`.

    Returns
    -------
    int
        0 if the first stage is trained, the number of stages if none is.
    """
    frozen = _n_leading_frozen(backbone)
    return max(cut for cut in {0, *backbone.cuts()} if cut <= frozen)


def _n_leading_frozen(backbone: Backbone) -> int:
    return [*map(_is_trained, backbone.stages.values()), True].index(True)


def frozen_parts(backbone: Backbone) -> Iterator[nn.Module]:
    """Yield the parts that must stay in evaluation mode: leading frozen stages, and frozen parts behind."""
    stages = list(backbone.stages.values())
    depth = _n_leading_frozen(backbone)
    yield from stages[:depth]
    for stage in stages[depth:]:
        yield from (part for part in stage.modules() if _is_frozen(part.parameters()))


def _is_trained(part: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in part.parameters())


def _is_frozen(parameters: Iterable[nn.Parameter]) -> bool:
    flags = [parameter.requires_grad for parameter in parameters]
    return bool(flags) and not any(flags)
