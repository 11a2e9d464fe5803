"""What a backbone is: the file that the author of a backbone reads.

A backbone turns the graph of a structure into a feature vector, through an ordered chain of named
stages. Each stage takes a PyG batch and returns one with new feature values:

- ``graph.x`` features of atoms, shape (n_atoms, width)
- ``graph.edge_attr`` features of bonds, shape (n_bonds, width)
- ``graph.angle_attr`` features of angles, shape (n_angles, width), which are never kept for a structure
- ``graph.u`` features of structures, shape (n_structures, n_features), set by the last stage

A stage never adds or drops rows. So every gap between two stages is a place where the frozen part
can be cut off, run once per structure, and kept; :meth:`Backbone.cuts` leaves out those where too much
would have to be kept. Features that no later stage reads can be dropped with :func:`drop`.

A mixture on a GPU runs its experts at once where they are alike. A stage that allows it says
``stackable = True``, as a class attribute: it then also takes features and parameters of several networks
with a leading axis for these, ``x`` of shape (n_networks, n_atoms, width), and features that all share
without it.

The batch a backbone starts from holds ``z`` (atomic numbers), ``edge_index`` (neighbour, centre),
``distance`` (Å), ``batch``, and the multiplicities ``atom_weight`` and ``bond_weight``. A backbone
that weighs its sums and means by them says so with ``supports_weights = True`` and then gets
compressed graphs; any other gets every atom and bond, and must ask for ``ties="reference"``.
With ``angles=True`` in its graph settings, there also are ``angle_index`` (bond that sends, bond that
receives), ``cosine`` and the multiplicity ``angle_weight``; with ``undirected=True`` also ``reverse``, the
same bond in the opposite direction. Bonds are sorted by their centre, angles by the bond that receives.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torch_geometric.data import Data

from matmosaic.graphs.settings import GraphSettings


class Backbone(nn.Module, ABC):
    """A graph network as a chain of named stages.

    Authors set the attributes below in their constructor, whose keyword arguments must be plain
    JSON values (they are kept on a module's card) next to ``graph_settings``, and write
    :meth:`options`.

    Attributes
    ----------
    stages : torch.nn.ModuleDict
        Name to stage, in forward order; each maps a PyG batch to a PyG batch.
    n_features : int
        Width of ``graph.u`` after the last stage.
    graph_settings : GraphSettings
        How structures become graphs.
    supports_weights : bool
        Whether sums, means and batch statistics are weighted by ``atom_weight`` and
        ``bond_weight``.
    atom_table : dict or None
        ``{"name", "sha256"}`` of a table of element descriptors, where one is used.
    contract : int
        Version of this contract that the backbone was written against, as a class attribute. Write it
        yourself: an older matmosaic, which knows no such version, then refuses the backbone with a reason.
    """

    contract: ClassVar[int] = 1
    supports_weights: ClassVar[bool] = False
    atom_table: ClassVar[dict[str, str] | None] = None

    stages: nn.ModuleDict
    n_features: int
    graph_settings: GraphSettings

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments besides ``graph_settings``, as JSON values."""

    def elements(self) -> frozenset[int] | None:
        """Return the atomic numbers that the backbone knows; None for all."""
        return None

    def layer_groups(self) -> dict[str, list[str]]:
        """Return parameter-name patterns by group name.

        Groups are what users unfreeze; they may overlap and cut across stages. The default has
        one group per stage with parameters, and ``"last"`` for the last of them.
        """
        names = [name for name, stage in self.stages.items() if any(True for _ in stage.parameters())]
        groups = {name: [f"stages.{name}.*"] for name in names}
        return {**groups, "last": groups[names[-1]]} if names else groups

    def cuts(self) -> Sequence[int]:
        """Return after how many stages the trunk may end.

        A trunk's output is kept for every structure. Leave out the gaps where that would be too much,
        such as features of angles; the trunk then ends earlier, and the frozen stages behind it are run
        in each epoch. The default is every gap; 0, no trunk at all, is always allowed.
        """
        return range(len(self.stages) + 1)

    def forward(self, graph: Data, *, start: int = 0, stop: int | None = None) -> Data:
        """Run all stages, the trunk (``stop=depth``) or the tail (``start=depth``)."""
        for stage in list(self.stages.values())[start:stop]:
            graph = stage(graph)
        return graph

    def train(self, mode: bool = True) -> Backbone:
        """Switch between training and evaluation; what is frozen stays in evaluation mode.

        Without this, batch normalisation in frozen layers would drift, and a trunk's output
        would not be a constant of the structure.
        """
        from matmosaic.backbones.freezing import frozen_parts

        super().train(mode)
        for part in frozen_parts(self):
            part.eval()
        return self


def replace(graph: Data, **features: Tensor) -> Data:
    """Return a shallow copy of a graph with new feature values.

    Parameters
    ----------
    graph : torch_geometric.data.Data
        Not changed.
    **features : Tensor
        Such as ``x=`` of shape (n_atoms, width).

    Returns
    -------
    torch_geometric.data.Data
        Of the same class as ``graph``.
    """
    graph = copy.copy(graph)
    for name, values in features.items():
        graph[name] = values
    return graph


def drop(graph: Data, *names: str) -> Data:
    """Return a shallow copy of a graph without features that no later stage reads.

    Parameters
    ----------
    graph : torch_geometric.data.Data
        Not changed.
    *names : str
        Such as ``"edge_attr"``; those that the graph lacks are passed over.

    Returns
    -------
    torch_geometric.data.Data
        Of the same class as ``graph``.
    """
    graph = copy.copy(graph)
    for name in names:
        if name in graph:
            del graph[name]
    return graph
