"""What a plugin says of itself, as the contract checks look at it before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from matmosaic._testing_contract import check_contract
from matmosaic.backbones import Backbone
from matmosaic.graphs import GraphSettings

RESERVED_GROUPS = {"all", "head"}


def build(backbone: Callable[..., Backbone], options: dict[str, Any]) -> Backbone:
    """Return a backbone, or say how its constructor fails."""
    assert not isinstance(backbone, nn.Module), (
        f"Pass the class, not an object: check_backbone({type(backbone).__name__}, **options)."
    )
    try:
        return backbone(**options)
    except (AttributeError, TypeError) as error:
        raise AssertionError(
            f"The constructor fails with {options}: {error}. It must call super().__init__() first and take "
            "keyword arguments that all have defaults, and options() must be written."
        ) from error


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
