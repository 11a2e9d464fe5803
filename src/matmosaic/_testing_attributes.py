"""What a plugin says of itself, as the contract checks look at it before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Set
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from matmosaic._testing_contract import check_contract
from matmosaic.backbones import Backbone
from matmosaic.exceptions import suggest
from matmosaic.graphs import GraphSettings

RESERVED_GROUPS = {"all", "head"}


def build(backbone: Callable[..., Backbone], options: dict[str, Any]) -> Backbone:
    """Return a backbone, or say how its constructor fails."""
    assert not isinstance(backbone, nn.Module), (
        f"Pass the class, not an object: check_backbone({type(backbone).__name__}, **options)."
    )
    _check_signature(backbone, options)
    try:
        return backbone(**options)
    except (AttributeError, TypeError) as error:
        raise AssertionError(
            f"The constructor fails with {options}: {error}. {_constructor_remedy(backbone, options)}"
        ) from error


def _check_signature(backbone: Callable[..., Backbone], options: dict[str, Any]) -> None:
    parameters = inspect.signature(backbone).parameters.values()
    named = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    needed = [one.name for one in named if one.default is one.empty]
    assert not needed, (
        f"All arguments of the constructor must have defaults, for users ask by name. Without one: {needed}."
    )
    unknown = sorted(set(options) - {one.name for one in named})
    if unknown and not any(one.kind is one.VAR_KEYWORD for one in parameters):
        valid = [one.name for one in named]
        raise AssertionError(
            f"check_backbone passes its options on. {suggest(unknown[0], valid, what='option')}"
        )


def _constructor_remedy(backbone: Callable[..., Backbone], options: dict[str, Any]) -> str:
    """Return what applies of three things that are forgotten."""
    missing = sorted(getattr(backbone, "__abstractmethods__", ()))
    if missing:
        return f"Write {', '.join(f'{name}()' for name in missing)}."
    initialised = "Call super().__init__() first, before anything is set."
    return initialised if not options else f"{initialised} See whether it takes these options."


def check_attributes(backbone: Any) -> None:
    """Check what a backbone sets in its constructor."""
    assert isinstance(backbone, Backbone), (
        f"It must be a subclass of matmosaic.backbones.Backbone. Got {type(backbone).__name__}."
    )
    stages = getattr(backbone, "stages", None)
    assert isinstance(stages, nn.ModuleDict), (
        f"'stages' must be a torch.nn.ModuleDict, set in the constructor. Got {type(stages).__name__}."
    )
    assert len(stages), "'stages' is empty; a backbone is a chain of at least one stage."
    settings = getattr(backbone, "graph_settings", None)
    assert isinstance(settings, GraphSettings), (
        "'graph_settings' must be GraphSettings, set in the constructor: those given, or your defaults. "
        f"Got {settings!r}."
    )
    assert backbone.supports_weights or settings.ties == "reference", (
        "Without supports_weights the shares of fractional ties are lost; set ties='reference' in "
        "graph_settings."
    )
    _check_elements(backbone)
    cuts, whole = set(backbone.cuts()), len(stages)
    assert whole in cuts and cuts <= set(range(whole + 1)), (
        f"cuts() must be numbers of leading stages from 0 to {whole}, with {whole}, which keeps 'u' alone. "
        f"Got {sorted(cuts)}."
    )
    width = getattr(backbone, "n_features", None)
    assert isinstance(width, int) and width > 0, (
        f"'n_features' must be an int > 0, the width of 'u', set in the constructor. Got {width!r}."
    )
    check_contract(backbone, "backbones")
    assert any(True for _ in backbone.parameters()), "It has no parameters; write a Featurizer instead."


def _check_elements(backbone: Backbone) -> None:
    known = backbone.elements()
    valid = known is None or (isinstance(known, Set) and all(isinstance(one, int) for one in known))
    assert valid, (
        f"elements() must return a frozenset of atomic numbers, or None for all. Got {type(known).__name__}."
    )


def check_groups(backbone: Backbone) -> None:
    """Check that layer groups name parameters."""
    groups, names = backbone.layer_groups(), [name for name, _ in backbone.named_parameters()]
    taken = sorted(RESERVED_GROUPS & set(groups))
    assert not taken, f"layer_groups() must not define {taken}, which always exist; rename them."
    assert "last" in groups, "layer_groups() must define 'last', the layers that users train first."
    for group, patterns in groups.items():
        for pattern in patterns:
            assert any(fnmatchcase(name, pattern) for name in names), (
                f"layer_groups()[{group!r}] has the pattern {pattern!r}, which matches no parameter; "
                f"names look like {names[0]!r}."
            )
