"""SchNet, as PyTorch Geometric has it, as a backbone of matmosaic."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import SchNet, global_mean_pool
from torch_geometric.nn.models.schnet import InteractionBlock

from matmosaic.backbones import Backbone, replace
from matmosaic.graphs import GraphSettings

__all__ = ["SchNetBackbone"]


class SchNetBackbone(Backbone):
    """Continuous-filter convolutions, mean over atoms.

    The layers are those of :class:`torch_geometric.nn.SchNet`, unchanged; its readout, which makes one
    number of each atom, is left to the head.

    Parameters
    ----------
    width : int, default=64
        Features per atom, per filter and per structure.
    n_interactions : int, default=3
        Number of interaction blocks.
    n_gaussians : int, default=50
        Gaussians that expand distances from 0 to the cutoff.
    graph_settings : GraphSettings, optional
        How structures become graphs; the 24 nearest neighbours within 6 Å by default.

    References
    ----------
    Schütt et al., J. Chem. Phys. 148, 241722 (2018), DOI 10.1063/1.5019779.
    """

    contract: ClassVar[int] = 1

    def __init__(
        self,
        *,
        width: int = 64,
        n_interactions: int = 3,
        n_gaussians: int = 50,
        graph_settings: GraphSettings | None = None,
    ) -> None:
        super().__init__()
        # Layers of PyG know no weights of bonds, so shells of equal distances are cut, not shared.
        self.graph_settings = graph_settings or GraphSettings(cutoff=6.0, max_neighbors=24, ties="reference")
        self._options = {"width": width, "n_interactions": n_interactions, "n_gaussians": n_gaussians}
        self.n_features = width
        network = SchNet(width, width, n_interactions, n_gaussians, self.graph_settings.cutoff)
        blocks = {f"interaction_{i}": Interaction(block) for i, block in enumerate(network.interactions, 1)}
        self.stages = nn.ModuleDict({"embedding": Embedding(network), **blocks, "pooling": Pooling()})

    def options(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments besides ``graph_settings``."""
        return dict(self._options)

    def elements(self) -> frozenset[int]:
        """Return the atomic numbers that SchNet has embeddings for: hydrogen to einsteinium."""
        return frozenset(range(1, 100))


class Embedding(nn.Module):
    """Atomic numbers to features of atoms, distances to features of bonds; with the layers of a SchNet."""

    def __init__(self, network: SchNet) -> None:
        super().__init__()
        self.atoms, self.bonds, self.cutoff = network.embedding, network.distance_expansion, network.cutoff

    def forward(self, graph: Data) -> Data:
        """Set ``x`` (n_atoms, width) and ``edge_attr`` (n_bonds, n_gaussians)."""
        return replace(graph, x=self.atoms(graph.z), edge_attr=self.bonds(graph.distance))


class Interaction(nn.Module):
    """A block of SchNet, and what it is added to."""

    def __init__(self, block: InteractionBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, graph: Data) -> Data:
        """Replace ``x`` (n_atoms, width)."""
        # Bonds that pad atoms with few neighbours are longer than the cutoff, where filters are zero.
        distance = graph.distance.clamp(max=self.block.conv.cutoff)
        return replace(graph, x=graph.x + self.block(graph.x, graph.edge_index, distance, graph.edge_attr))


class Pooling(nn.Module):
    """Mean over a structure's atoms."""

    def forward(self, graph: Data) -> Data:
        """Set ``u`` (n_structures, width)."""
        return replace(graph, u=global_mean_pool(graph.x, graph.batch, graph.num_graphs))
