"""The check of stages that say ``stackable = True``; part of :func:`matmosaic.testing.check_backbone`."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from matmosaic.backbones import Backbone, replace
from matmosaic.backbones.stacking import stacked_features, stacking_key
from matmosaic.backbones.trunk import FEATURES
from matmosaic.graphs import GraphTable

TOLERANCE = 1e-8
REMEDY = "Let rows be the last axis but one in every stage that says stackable = True, or do not say so."


@torch.no_grad()
def check_stacking(backbone: Backbone, table: GraphTable) -> None:
    """Check that networks at once give what each gives alone, from the first stage from which they can.

    Parameters
    ----------
    backbone : Backbone
        Not changed.
    table : GraphTable
        Graphs of some crystals.
    """
    starts = [at for at in range(len(backbone.stages)) if stacking_key(backbone, start=at) is not None]
    for mode in (False, True) if starts else ():
        networks = [copy.deepcopy(backbone).eval() for _ in range(2)]
        networks = [without_chance(one) for one in networks] if mode else networks
        for parameter in networks[1].parameters():
            parameter.mul_(1.1)
        others = copy.deepcopy(networks)
        graphs = [copy.deepcopy(one)(table.select(range(len(table))), stop=starts[0]) for one in networks]
        expected = [one(graph, start=starts[0]).u for one, graph in zip(others, graphs, strict=True)]
        try:
            found = stacked_features(networks, _shared(graphs), start=starts[0])
        except RuntimeError as error:
            raise AssertionError(f"Several networks at once do not run: {error}. {REMEDY}") from error
        _assert_same(dict(enumerate(found)), dict(enumerate(expected)), "features")
        for network, other in zip(networks, others, strict=True):
            _assert_same(network.state_dict(), other.state_dict(), "running statistics")


def without_chance(network: Backbone) -> Backbone:
    """Put a network into training mode where it keeps statistics alone, for dropout asks the other parts.

    Parameters
    ----------
    network : Backbone
        Changed in place.

    Returns
    -------
    Backbone
        The same.
    """
    network.eval()
    for part in network.modules():
        part.training = any(True for _ in part.buffers(recurse=False))
    return network


def _shared(graphs: Sequence[Data]) -> list[Data]:
    """Let graphs share what is equal, as those of a mixture do."""
    first = graphs[0]
    names = [name for name in FEATURES if name in first]
    own = [name for name in names if any(not torch.equal(graph[name], first[name]) for graph in graphs)]
    return [replace(first, **{name: graph[name] for name in own}) for graph in graphs]


def _assert_same(found: Mapping[Any, Tensor], expected: Mapping[Any, Tensor], what: str) -> None:
    for name, value in expected.items():
        assert torch.allclose(found[name].to(value.dtype), value, rtol=TOLERANCE, atol=TOLERANCE), (
            f"Several networks at once have other {what} than each alone. {REMEDY}"
        )
