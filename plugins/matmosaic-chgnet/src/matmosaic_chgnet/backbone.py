"""The crystal Hamiltonian graph neural network (CHGNet) as a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from torch_geometric.data import Data

from matmosaic.backbones import Backbone, drop, replace, weighted_mean
from matmosaic.exceptions import InvalidParameterError, UnknownNameError, suggest
from matmosaic.graphs import GraphSettings
from matmosaic_chgnet.layers import (
    AngleUpdate,
    AtomConvolution,
    BesselBasis,
    BondConvolution,
    Corners,
    FourierBasis,
)

#: Atomic numbers that there are embeddings for: 1 to this.
N_ELEMENTS = 94
#: What a structure's features may be made of.
READOUTS = ("mean", "early_mean", "early_std", "early_max", "energy")
# Spreads below this are rounding errors of equal atoms.
SMALLEST_SPREAD = 1e-5


def graph_settings(cutoff: float = 6.0, angle_cutoff: float = 3.0, tolerance: float = 1e-5) -> GraphSettings:
    """Return settings of graphs as CHGNet needs them.

    Parameters
    ----------
    cutoff : float, default=6.0
        All pairs of atoms closer than this many Å are bonded.
    angle_cutoff : float, default=3.0
        Bonds shorter than this many Å make angles.
    tolerance : float, default=1e-5
        Distances of one structure that differ by less than this many Å are taken for equal. Ten times as
        much moves features of the published weights by up to 4e-4, ten times less compresses worse.

    Returns
    -------
    GraphSettings
        Undirected, with angles.
    """
    return GraphSettings(
        cutoff=cutoff,
        max_neighbors=None,
        ties="whole",
        tolerance=tolerance,
        angles=True,
        angle_cutoff=angle_cutoff,
        undirected=True,
    )


def n_features_of(width: int, readout: Sequence[str] = READOUTS) -> int:
    """Return the number of features of a structure; the parameters are those of :class:`CHGNet`."""
    return sum(1 if name == "energy" else width for name in readout)


class CHGNet(Backbone):
    """Crystal Hamiltonian graph neural network.

    All atoms within 6 Å are bonded, and bonds shorter than 3 Å make angles. In each of ``n_blocks`` blocks
    atoms receive messages along bonds, bonds along angles, and angles are updated; the last block moves
    atoms alone. Both directions of a bond share its features, and messages fade out smoothly at the
    cutoffs.

    Parameters
    ----------
    width : int, default=64
        Features per atom, bond and angle.
    n_radial : int, default=31
        Bessel functions that expand bond lengths.
    n_angular : int, default=31
        Fourier functions that expand angles, an odd number.
    n_blocks : int, default=4
        Number of blocks, at least 3.
    envelope_power : int, default=8
        How late messages fade out, as in :class:`~matmosaic_chgnet.layers.BesselBasis`.
    normalise : bool, default=True
        Whether gates and the last atom features are normalised.
    out_bias : bool, default=False
        Whether the maps of summed messages have biases.
    n_hidden : int, default=3
        Hidden layers of the network that predicts the energy of an atom, at least 1.
    readout : sequence of str, default=("mean", "early_mean", "early_std", "early_max", "energy")
        What the features of a structure are, side by side: of the features of atoms after the last block
        their ``"mean"``; of those before it ``"early_mean"``, ``"early_std"`` and ``"early_max"``; and one
        number, ``"energy"``, the mean of the energies predicted of its atoms.
    graph_settings : GraphSettings, optional
        How structures become graphs; :func:`graph_settings` by default.

    Notes
    -----
    Stages: ``embedding``, ``block_1`` ... ``block_n``, ``pooling``. Layer groups are the stages that have
    parameters, ``two_body`` (all convolutions of atoms), ``three_body`` (all convolutions of bonds and
    updates of angles) and ``last`` (the last block). A trunk never ends where features of angles would have
    to be kept.

    References
    ----------
    Deng et al., Nat. Mach. Intell. 5, 1031 (2023), DOI 10.1038/s42256-023-00716-3.

    Examples
    --------
    >>> backbone = CHGNet()
    >>> list(backbone.stages)
    ['embedding', 'block_1', 'block_2', 'block_3', 'block_4', 'pooling']
    >>> backbone.n_features
    257
    """

    contract: ClassVar[int] = 1
    supports_weights: ClassVar[bool] = True

    def __init__(
        self,
        *,
        width: int = 64,
        n_radial: int = 31,
        n_angular: int = 31,
        n_blocks: int = 4,
        envelope_power: int = 8,
        normalise: bool = True,
        out_bias: bool = False,
        n_hidden: int = 3,
        readout: Sequence[str] = READOUTS,
        graph_settings: GraphSettings | None = None,
    ) -> None:
        super().__init__()
        self.graph_settings = graph_settings or _default_settings()
        self.width = width
        self.n_radial = n_radial
        self.n_angular = n_angular
        self.n_blocks = n_blocks
        self.envelope_power = envelope_power
        self.normalise = normalise
        self.out_bias = out_bias
        self.n_hidden = n_hidden
        self.readout = list(readout)
        self._check()
        self.n_features = n_features_of(width, self.readout)
        self.stages = nn.ModuleDict(self._stages())

    def _stages(self) -> dict[str, nn.Module]:
        layers = {"normalise": self.normalise, "out_bias": self.out_bias}
        early = any(name.startswith("early") for name in self.readout)
        inner = {
            f"block_{i}": Block(self.width, last=i == self.n_blocks - 1, **layers)
            for i in range(1, self.n_blocks)
        }
        return {
            "embedding": Embedding(
                self.width, self.n_radial, self.n_angular, self.envelope_power, self.graph_settings
            ),
            **inner,
            f"block_{self.n_blocks}": LastBlock(self.width, early=early, **layers),
            "pooling": Pooling(self.width, self.n_hidden, self.readout),
        }

    def options(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments besides ``graph_settings``."""
        names = (
            "width",
            "n_radial",
            "n_angular",
            "n_blocks",
            "envelope_power",
            "normalise",
            "out_bias",
            "n_hidden",
            "readout",
        )
        return {name: getattr(self, name) for name in names}

    def _check(self) -> None:
        least = {"width": 1, "n_radial": 1, "n_angular": 3, "n_blocks": 3, "envelope_power": 1, "n_hidden": 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise InvalidParameterError(
                    f"CHGNet needs {name} >= {smallest}. Got {getattr(self, name)!r}."
                )
        if self.n_angular % 2 == 0:
            raise InvalidParameterError(f"CHGNet needs an odd n_angular. Got {self.n_angular!r}.")
        for name in self.readout:
            if name not in READOUTS:
                raise UnknownNameError(suggest(str(name), READOUTS, what="part of 'readout'"))
        if not self.readout:
            raise InvalidParameterError(f"'readout' must name some of {list(READOUTS)}. Got [].")
        if not self.graph_settings.undirected:
            raise InvalidParameterError(
                f"CHGNet needs undirected graphs with angles. Got {self.graph_settings}; give it "
                "matmosaic_chgnet.graph_settings()."
            )

    def elements(self) -> frozenset[int]:
        """Return the atomic numbers with embeddings: hydrogen to plutonium."""
        return frozenset(range(1, N_ELEMENTS + 1))

    def layer_groups(self) -> dict[str, list[str]]:
        """Return the groups: stages, ``two_body``, ``three_body`` and ``last``."""
        return {
            **super().layer_groups(),
            "two_body": ["stages.*.atom_update.*"],
            "three_body": ["stages.*.bond_update.*", "stages.*.angle_update.*"],
            "last": [f"stages.block_{self.n_blocks}.*"],
        }

    def cuts(self) -> Sequence[int]:
        """Return all gaps but those with features of angles, which are wide and many."""
        return [0, *range(self.n_blocks, 1 + len(self.stages))]


def _default_settings() -> GraphSettings:
    return graph_settings()


class Embedding(nn.Module):
    """Elements to atom features, distances to bond features, angles to angle features.

    Between this stage and the last block, ``edge_attr`` holds side by side the features of a bond, what
    messages along it are multiplied with, and what messages from and to it along angles are multiplied with.

    Parameters
    ----------
    width : int
        Features per atom, bond and angle.
    n_radial, n_angular, envelope_power : int
        As of :class:`CHGNet`.
    settings : GraphSettings
        Whose cutoffs count.
    """

    def __init__(
        self, width: int, n_radial: int, n_angular: int, envelope_power: int, settings: GraphSettings
    ) -> None:
        super().__init__()
        assert settings.angle_cutoff is not None
        self.atoms = nn.Embedding(N_ELEMENTS, width)
        self.radial = BesselBasis(settings.cutoff, n_radial, envelope_power)
        self.short_radial = BesselBasis(settings.angle_cutoff, n_radial, envelope_power)
        self.angular = FourierBasis(n_angular)
        self.bonds = nn.Linear(n_radial, width, bias=False)
        self.passing = nn.Linear(n_radial, width, bias=False)
        self.short_passing = nn.Linear(n_radial, width, bias=False)
        self.angles = nn.Linear(n_angular, width, bias=False)

    def forward(self, graph: Data) -> Data:
        """Set ``x``, ``edge_attr`` and ``angle_attr``."""
        radial, short = self.radial(graph.distance), self.short_radial(graph.distance)
        return replace(
            graph,
            x=self.atoms(graph.z - 1),
            edge_attr=torch.cat([self.bonds(radial), self.passing(radial), self.short_passing(short)], dim=1),
            angle_attr=self.angles(self.angular(graph.cosine)),
        )


class Block(nn.Module):
    """Messages along bonds, then along angles, then new angles.

    Parameters
    ----------
    width : int
        Features per atom, bond and angle.
    normalise, out_bias : bool
        As of :class:`CHGNet`.
    last : bool
        Whether no later block reads the angles.
    """

    def __init__(self, width: int, *, normalise: bool, out_bias: bool, last: bool) -> None:
        super().__init__()
        self.width = width
        self.atom_update = AtomConvolution(width, normalise=normalise, out_bias=out_bias)
        self.bond_update = BondConvolution(width, normalise=normalise, out_bias=out_bias)
        self.angle_update = None if last else AngleUpdate(width, normalise=normalise)

    def forward(self, graph: Data) -> Data:
        """Replace ``x``, ``edge_attr`` and ``angle_attr``; the last drops what only angles need."""
        bonds, passing, short_passing = graph.edge_attr.split(self.width, dim=1)
        corners = Corners.of(graph)
        x = self.atom_update(graph.x, bonds, passing, graph)
        bonds = self.bond_update(x, bonds, short_passing, graph, corners)
        if self.angle_update is None:
            return drop(replace(graph, x=x, edge_attr=torch.cat([bonds, passing], dim=1)), "angle_attr")
        angles = self.angle_update(x, bonds, graph.angle_attr, corners)
        edge_attr = torch.cat([bonds, passing, short_passing], dim=1)
        return replace(graph, x=x, edge_attr=edge_attr, angle_attr=angles)


class LastBlock(nn.Module):
    """Messages along bonds, and normalisation.

    Parameters
    ----------
    width : int
        Features per atom and bond.
    normalise, out_bias : bool
        As of :class:`CHGNet`.
    early : bool
        Whether the atom features from before are kept beside the new ones.
    """

    def __init__(self, width: int, *, normalise: bool, out_bias: bool, early: bool) -> None:
        super().__init__()
        self.width = width
        self.early = early
        self.atom_update = AtomConvolution(width, normalise=normalise, out_bias=out_bias)
        self.norm = nn.LayerNorm(width) if normalise else nn.Identity()

    def forward(self, graph: Data) -> Data:
        """Replace ``x`` and drop ``edge_attr``."""
        bonds, passing = graph.edge_attr.split(self.width, dim=1)
        x = self.norm(self.atom_update(graph.x, bonds, passing, graph))
        x = torch.cat([x, graph.x], dim=1) if self.early else x
        return drop(replace(graph, x=x), "edge_attr")


class Pooling(nn.Module):
    """Statistics over a structure's atoms.

    Parameters
    ----------
    width : int
        Features per atom after the last block, with as many from before it beside them where they are read.
    n_hidden : int
        Hidden layers of the network that predicts energies; there only where ``"energy"`` is read.
    readout : sequence of str
        As of :class:`CHGNet`.
    """

    def __init__(self, width: int, n_hidden: int, readout: Sequence[str]) -> None:
        super().__init__()
        self.width = width
        self.readout = list(readout)
        if "energy" in self.readout:
            self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(n_hidden))
            self.energy = nn.Linear(width, 1)

    def forward(self, graph: Data) -> Data:
        """Set ``u`` (n_structures, n_features)."""
        parts = [getattr(self, f"_{name}")(graph) for name in self.readout]
        return replace(graph, u=torch.cat(parts, dim=1))

    def _energy(self, graph: Data) -> Tensor:
        hidden = graph.x[:, : self.width]
        for layer in self.hidden:
            hidden = silu(layer(hidden))
        return _mean(self.energy(hidden), graph)

    def _mean(self, graph: Data) -> Tensor:
        return _mean(graph.x[:, : self.width], graph)

    def _early_mean(self, graph: Data) -> Tensor:
        return _mean(graph.x[:, self.width :], graph)

    def _early_std(self, graph: Data) -> Tensor:
        early = graph.x[:, self.width :]
        variance = _mean((early - _mean(early, graph)[graph.batch]).square(), graph)
        varies = variance > SMALLEST_SPREAD**2
        # The root has no slope at 0.
        return torch.where(varies, torch.where(varies, variance, 1.0).sqrt(), 0.0)

    def _early_max(self, graph: Data) -> Tensor:
        early = graph.x[:, self.width :]
        lowest = early.new_full((graph.num_graphs, self.width), -torch.inf)
        return lowest.scatter_reduce(0, graph.batch.unsqueeze(1).expand_as(early), early, "amax")


def _mean(values: Tensor, graph: Data) -> Tensor:
    return weighted_mean(values, graph.atom_weight, graph.batch, graph.num_graphs)
