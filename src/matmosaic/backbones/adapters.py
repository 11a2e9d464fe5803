"""Adapters: small trainable layers between the frozen stages of any backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, silu
from torch_geometric.data import Data

from matmosaic.backbones.base import Backbone, replace
from matmosaic.backbones.layers import linear_map
from matmosaic.exceptions import InvalidParameterError
from matmosaic.graphs import GraphTable
from matmosaic.graphs.build import build_uncached
from matmosaic.structures import StructureArrays

#: Name of the layer group of all adapters.
ADAPTERS = "adapters"
#: How many times narrower than the features an adapter is, where nothing else is said.
REDUCTION = 2

# Å between the atoms of the crystal that shows how wide features are.
_SPACING = 2.5


class Adapter(nn.Module):
    r"""A bottleneck beside which features pass unchanged, itself a stage.

    .. math:: v' = v + W_\mathrm{up}\, \mathrm{SiLU}(W_\mathrm{down} \hat v + b_\mathrm{down}) + b_\mathrm{up}

    Features are of another size in each network and layer, so the bottleneck sees :math:`\hat v`, of mean
    zero and variance one over the features of a row. A new adapter does nothing: its second map is zero.

    Parameters
    ----------
    field : {"x", "u"}
        Features of atoms or of structures.
    width : int
        Their number.
    n_hidden : int
        Width of the bottleneck.

    References
    ----------
    Houlsby et al., Proc. 36th Int. Conf. Machine Learning (2019), arXiv:1902.00751.
    """

    stackable: ClassVar[bool] = True

    def __init__(self, field: str, width: int, n_hidden: int) -> None:
        super().__init__()
        self.field = field
        self.down = nn.Linear(width, n_hidden)
        self.up = nn.Linear(n_hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, graph: Data) -> Data:
        """Replace ``x`` (n_atoms, width), or ``u`` (n_structures, width)."""
        values = graph[self.field]
        normalised = layer_norm(values, values.shape[-1:])
        hidden = silu(linear_map(normalised, self.down.weight, self.down.bias))
        return replace(graph, **{self.field: values + linear_map(hidden, self.up.weight, self.up.bias)})


class AdaptedBackbone(Backbone):
    """A backbone with adapters behind some of its stages; made by :func:`insert_adapters`.

    Its parameters are those of the backbone, named ``base.*``, and those of the adapters, ``adapters.*``.

    Parameters
    ----------
    base : Backbone
        The backbone, which becomes part of this one.
    adapters : mapping of str to Adapter
        By the name of the stage that each stands behind.
    reduction : int
        How many times narrower than the features they are.

    Notes
    -----
    Stages are those of the backbone, each followed by its adapter, ``NAME_adapter``. Layer groups are those
    of the backbone, and ``adapters``.
    """

    def __init__(self, base: Backbone, adapters: Mapping[str, Adapter], *, reduction: int) -> None:
        super().__init__()
        self.base = base
        self.adapters = nn.ModuleDict(adapters)
        self.reduction = reduction
        self.n_features = base.n_features
        self.graph_settings = base.graph_settings
        # Of the object, as the backbone decides.
        self.supports_weights = base.supports_weights  # type: ignore[misc]
        self.atom_table = base.atom_table  # type: ignore[misc]

    @property
    def stages(self) -> nn.ModuleDict:  # type: ignore[override]
        """Name to stage, in forward order."""
        chain: dict[str, nn.Module] = {}
        for name, stage in self.base.stages.items():
            chain[name] = stage
            if name in self.adapters:
                chain[f"{name}_adapter"] = self.adapters[name]
        return nn.ModuleDict(chain)

    def options(self) -> dict[str, Any]:
        """Return the options of the backbone; with ``reduction`` they describe this one."""
        return self.base.options()

    def elements(self) -> frozenset[int] | None:
        """Return the atomic numbers that the backbone knows; None for all."""
        return self.base.elements()

    def layer_groups(self) -> dict[str, list[str]]:
        """Return the groups of the backbone, and ``adapters``."""
        groups = self.base.layer_groups().items()
        own = {name: [f"base.{pattern}" for pattern in patterns] for name, patterns in groups}
        return {**own, ADAPTERS: [f"{ADAPTERS}.*"]}

    def cuts(self) -> Sequence[int]:
        """Return the gaps that the backbone allows, on both sides of the adapter that stands there."""
        after = [0]  # How many stages of this one there are up to each stage of the backbone.
        sides = [0]
        for name in self.base.stages:
            after.append(sides[-1] + 1)
            sides.append(after[-1] + (name in self.adapters))
        return sorted({place for cut in self.base.cuts() for place in (after[cut], sides[cut])})

    def train(self, mode: bool = True) -> AdaptedBackbone:
        """Switch between training and evaluation; a backbone that is frozen as a whole evaluates as one."""
        super().train(mode)
        if not any(one.requires_grad for one in self.base.parameters()):
            self.base.eval()  # With what has no parameters, such as dropout.
        return self


def insert_adapters(backbone: Backbone, *, reduction: int = REDUCTION) -> AdaptedBackbone:
    """Put an adapter between each stage that changes the features of atoms and the next one that does.

    Which stages those are, and how wide the features, is seen by running the backbone on one atom. Nothing
    else need be known of it. The features of structures are at first exactly what they were. A backbone
    that has no two such stages gets one adapter behind its last stage, on the features of structures.

    Parameters
    ----------
    backbone : Backbone
        It becomes part of the result. One that has adapters is returned as it is.
    reduction : int, default=2
        How many times narrower than the features an adapter is: 2 for half the width.

    Returns
    -------
    AdaptedBackbone
        On the same device, in the same mode. Train its adapters alone by
        ``unfreeze(backbone, "adapters")``.

    Raises
    ------
    InvalidParameterError
        If ``reduction`` is no int >= 1.

    Examples
    --------
    >>> from matmosaic.backbones.cgcnn import CGCNN
    >>> adapted = insert_adapters(CGCNN(width=8, n_convolutions=1))
    >>> list(adapted.stages)
    ['embedding', 'embedding_adapter', 'conv_1', 'pooling']
    """
    if isinstance(backbone, AdaptedBackbone):
        return backbone
    if not isinstance(reduction, int) or isinstance(reduction, bool) or reduction < 1:
        raise InvalidParameterError(f"'reduction' must be an int >= 1. Got {reduction!r}.")
    adapters = {
        name: Adapter(field, width, max(1, width // reduction))
        for name, (field, width) in _places(backbone).items()
    }
    adapted = AdaptedBackbone(backbone, adapters, reduction=reduction)
    adapted.adapters.to(next(backbone.parameters()))
    return adapted.train(backbone.training)


def _places(backbone: Backbone) -> dict[str, tuple[str, int]]:
    """Return the stages that adapters stand behind, with the features that they adapt, and their width."""
    changed = list(_changed_features(backbone).items())
    between = [(name, ("x", widths["x"])) for name, widths in changed if "x" in widths]
    # What nothing but pooling follows, the head adapts better: it knows how much each feature varies.
    last, widths = changed[-1]
    return dict(between[:-1]) or {last: ("u", widths["u"])}


@torch.no_grad()
def _changed_features(backbone: Backbone) -> dict[str, dict[str, int]]:
    """Return which features of atoms and structures each stage sets, and their width."""
    mode, found = backbone.training, {}
    graph = _one_atom(backbone)
    backbone.eval()  # Running statistics are not to see this crystal.
    for name, stage in backbone.stages.items():
        before, graph = graph, stage(graph)
        fields = [one for one in ("x", "u") if one in graph and _differ(graph[one], before.get(one))]
        found[name] = {field: graph[field].shape[-1] for field in fields}
    backbone.train(mode)
    return found


def _differ(values: Tensor, before: Tensor | None) -> bool:
    return values is not before and values.is_floating_point() and values.dim() == 2


def _one_atom(backbone: Backbone) -> Data:
    """Return the graph of a simple cubic crystal, as a batch on the backbone's device."""
    known = backbone.elements()
    crystal = StructureArrays(
        numbers=np.array([min(known) if known else 1]),
        positions=np.zeros((1, 3)),
        lattice=_SPACING * np.eye(3),
        pbc=np.ones(3, dtype=bool),
    )
    settings, compressed = backbone.graph_settings, backbone.supports_weights
    graphs = build_uncached([crystal], settings, compressed=compressed, n_jobs=None)
    table = GraphTable.from_graphs(graphs, settings=settings, compressed=compressed)
    parameter = next(backbone.parameters())
    batch = table.to(parameter.device).select([0])
    return batch.apply(lambda values: values.to(parameter.dtype) if values.is_floating_point() else values)
