"""The atomistic line graph neural network (ALIGNN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torch_geometric.data import Data

from matmosaic.backbones.alignn_kernels import Links
from matmosaic.backbones.alignn_layers import DenseBlock, EdgeGatedConvolution, RadialBasis
from matmosaic.backbones.base import Backbone, drop, replace
from matmosaic.backbones.cgcnn import element_descriptors, element_table
from matmosaic.backbones.layers import weighted_mean
from matmosaic.exceptions import InvalidParameterError
from matmosaic.graphs.settings import GraphSettings


class ALIGNN(Backbone):
    r"""Atomistic line graph neural network.

    Messages pass between atoms along bonds, and between bonds along angles: each of ``n_alignn`` layers
    is an edge-gated convolution (:class:`~matmosaic.backbones.alignn_layers.EdgeGatedConvolution`) of atoms
    and bonds, and then one of bonds and angles; ``n_gcn`` convolutions of atoms and bonds follow. The
    features of a structure are the mean over its atoms.

    Parameters
    ----------
    width : int, default=256
        Features per atom, bond, angle and structure.
    embedding_width : int, default=64
        Width between the expansion of a bond length or cosine and its features.
    n_alignn : int, default=4
        Number of layers with angles, at least 1.
    n_gcn : int, default=4
        Number of layers without, at least 1.
    n_radial : int, default=80
        Gaussians that expand bond lengths from 0 Å to the cutoff.
    n_angular : int, default=40
        Gaussians that expand cosines from -1 to 1.
    graph_settings : GraphSettings, optional
        How structures become graphs, with ``angles=True``; by default 12 neighbours within 8 Å, with the
        whole shell of the twelfth.

    Notes
    -----
    Stages: ``embedding``, ``alignn_1`` ... ``alignn_n``, ``gcn_1`` ... ``gcn_n``, ``pooling``. Layer groups
    are the stages that have parameters, ``two_body`` (all convolutions of atoms and bonds), ``three_body``
    (all of bonds and angles), and ``last`` (the last layer without angles). A trunk never ends where
    features of angles would have to be kept.

    The normalisation of the last angles and of the last bonds has parameters, as published, that nothing
    depends on.

    References
    ----------
    Choudhary, DeCost, npj Comput. Mater. 7, 185 (2021), DOI 10.1038/s41524-021-00650-1.

    Examples
    --------
    >>> backbone = ALIGNN.small()
    >>> list(backbone.stages)
    ['embedding', 'alignn_1', 'alignn_2', 'gcn_1', 'gcn_2', 'pooling']
    >>> backbone.layer_groups()["two_body"]
    ['stages.*.node_update.*']
    """

    contract: ClassVar[int] = 1
    supports_weights: ClassVar[bool] = True
    atom_table: ClassVar[dict[str, str] | None] = {key: element_table()[key] for key in ("name", "sha256")}

    def __init__(
        self,
        *,
        width: int = 256,
        embedding_width: int = 64,
        n_alignn: int = 4,
        n_gcn: int = 4,
        n_radial: int = 80,
        n_angular: int = 40,
        graph_settings: GraphSettings | None = None,
    ) -> None:
        super().__init__()
        self.graph_settings = graph_settings or GraphSettings(ties="whole", angles=True)
        self.width = width
        self.embedding_width = embedding_width
        self.n_alignn = n_alignn
        self.n_gcn = n_gcn
        self.n_radial = n_radial
        self.n_angular = n_angular
        self._check()
        self.n_features = width
        lengths, cosines = (0.0, self.graph_settings.cutoff, n_radial), (-1.0, 1.0, n_angular)
        bonds, angles = (
            ScalarEmbedding(RadialBasis(*one), embedding_width, width) for one in (lengths, cosines)
        )
        layers = {
            **{f"alignn_{i}": LineGraphLayer(width, last=i == n_alignn) for i in range(1, n_alignn + 1)},
            **{f"gcn_{i}": GraphLayer(width, last=i == n_gcn) for i in range(1, n_gcn + 1)},
        }
        embedding = Embedding(width, bonds, angles)
        self.stages = nn.ModuleDict({"embedding": embedding, **layers, "pooling": Pooling()})

    @classmethod
    def small(cls, **options: Any) -> ALIGNN:
        """Return a small network, of 140,928 parameters, for trials and processors.

        Parameters
        ----------
        **options
            Keyword arguments that replace those of the small network.
        """
        return cls(**{"width": 64, "embedding_width": 32, "n_alignn": 2, "n_gcn": 2, **options})

    def options(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments besides ``graph_settings``."""
        names = ("width", "embedding_width", "n_alignn", "n_gcn", "n_radial", "n_angular")
        return {name: getattr(self, name) for name in names}

    def _check(self) -> None:
        smallest = {name: 2 if name in ("n_radial", "n_angular") else 1 for name in self.options()}
        for name, least in smallest.items():
            if getattr(self, name) < least:
                raise InvalidParameterError(f"ALIGNN needs {name} >= {least}. Got {getattr(self, name)!r}.")
        if not self.graph_settings.angles:
            raise InvalidParameterError(
                f"ALIGNN needs angles, and 'graph_settings' has none. Got {self.graph_settings}; give it "
                "angles=True."
            )

    def elements(self) -> frozenset[int]:
        """Return the atomic numbers with descriptors: hydrogen to fermium."""
        return frozenset(map(int, element_table()["elements"]))

    def layer_groups(self) -> dict[str, list[str]]:
        """Return the groups: stages, ``two_body``, ``three_body`` and ``last``."""
        bodies = {"two_body": ["stages.*.node_update.*"], "three_body": ["stages.*.edge_update.*"]}
        return {**super().layer_groups(), **bodies}

    def cuts(self) -> Sequence[int]:
        """Return all gaps but those with features of angles, which are wide and many."""
        return [0, *range(1 + self.n_alignn, 1 + len(self.stages))]


class ScalarEmbedding(nn.Module):
    """A number of each bond or angle, expanded in Gaussians, to features.

    Parameters
    ----------
    basis : RadialBasis
        The expansion.
    n_hidden, n_out : int
        Widths of the two layers.
    """

    def __init__(self, basis: RadialBasis, n_hidden: int, n_out: int) -> None:
        super().__init__()
        self.basis = basis
        self.hidden = DenseBlock(len(basis.centers), n_hidden)
        self.output = DenseBlock(n_hidden, n_out)

    def forward(self, values: Tensor, places: Tensor) -> Tensor:
        """Map numbers (n,) with multiplicities ``places`` (n,) to features (n, n_out)."""
        return self.output(self.hidden(self.basis(values), places), places)


class Embedding(nn.Module):
    """Elements to atom features, distances to bond features, cosines to angle features.

    Parameters
    ----------
    width : int
        Features per atom.
    bonds, angles : ScalarEmbedding
        Of bond lengths in Å and of cosines.
    """

    descriptors: Tensor

    def __init__(self, width: int, bonds: ScalarEmbedding, angles: ScalarEmbedding) -> None:
        super().__init__()
        self.register_buffer("descriptors", element_descriptors(), persistent=False)
        self.atoms = DenseBlock(self.descriptors.shape[1], width)
        self.bonds = bonds
        self.angles = angles

    def forward(self, graph: Data) -> Data:
        """Set ``x``, ``edge_attr`` and ``angle_attr``."""
        descriptors = self.descriptors.index_select(0, graph.z)
        return replace(
            graph,
            x=self.atoms(descriptors, graph.atom_weight, constant=(descriptors == descriptors[:1]).all(0)),
            edge_attr=self.bonds(graph.distance, bonds_of(graph).places),
            angle_attr=self.angles(graph.cosine, angles_of(graph).places),
        )


class LineGraphLayer(nn.Module):
    """A convolution of atoms and bonds, then one of bonds and angles.

    Parameters
    ----------
    width : int
        Features per atom, bond and angle.
    last : bool
        Whether no later layer reads the angles.
    """

    def __init__(self, width: int, *, last: bool) -> None:
        super().__init__()
        self.node_update = EdgeGatedConvolution(width)
        self.edge_update = EdgeGatedConvolution(width)
        self.last = last

    def forward(self, graph: Data) -> Data:
        """Replace ``x``, ``edge_attr`` and ``angle_attr``; the last layer drops ``angle_attr``."""
        bonds, angles = bonds_of(graph), angles_of(graph)
        x, edge_attr = self.node_update(graph.x, graph.atom_weight, graph.edge_attr, bonds)
        edge_attr, angle_attr = self.edge_update(
            edge_attr, bonds.places, graph.angle_attr, angles, last=self.last
        )
        graph = replace(graph, x=x, edge_attr=edge_attr)
        return drop(graph, "angle_attr") if self.last else replace(graph, angle_attr=angle_attr)


class GraphLayer(nn.Module):
    """A convolution of atoms and bonds.

    Parameters
    ----------
    width : int
        Features per atom and bond.
    last : bool
        Whether no later layer reads the bonds.
    """

    def __init__(self, width: int, *, last: bool) -> None:
        super().__init__()
        self.node_update = EdgeGatedConvolution(width)
        self.last = last

    def forward(self, graph: Data) -> Data:
        """Replace ``x`` and ``edge_attr``; the last layer drops ``edge_attr``."""
        x, edge_attr = self.node_update(
            graph.x, graph.atom_weight, graph.edge_attr, bonds_of(graph), last=self.last
        )
        graph = replace(graph, x=x)
        return drop(graph, "edge_attr") if self.last else replace(graph, edge_attr=edge_attr)


class Pooling(nn.Module):
    """Mean over a structure's atoms."""

    def forward(self, graph: Data) -> Data:
        """Set ``u`` (n_structures, width)."""
        return replace(graph, u=weighted_mean(graph.x, graph.atom_weight, graph.batch, graph.num_graphs))


def bonds_of(graph: Data) -> Links:
    """Return the bonds of a batch as links between its atoms."""
    return Links.between(graph.atom_weight, graph.edge_index, graph.bond_weight)


def angles_of(graph: Data) -> Links:
    """Return the angles of a batch as links between its bonds."""
    return Links.between(bonds_of(graph).places, graph.angle_index, graph.angle_weight)
