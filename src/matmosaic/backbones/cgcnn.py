"""The crystal graph convolutional neural network (CGCNN)."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch_geometric.data import Data

from matmosaic.backbones.base import Backbone, replace
from matmosaic.backbones.layers import (
    GaussianExpansion,
    WeightedBatchNorm,
    affine_map,
    gated_message,
    linear_map,
    weighted_mean,
    weighted_sum,
)
from matmosaic.exceptions import InvalidParameterError
from matmosaic.graphs.settings import GraphSettings

# Bonds that evaluation mode works on at a time. At the default width their gates take 1 MiB, which stays in
# the cache and is handed out again for the next block, where arrays of all bonds are fresh memory each time;
# a block still is long against the cost of calling an operation.
BLOCK = 2048


@cache
def element_table() -> dict[str, Any]:
    """Return the table of element descriptors with its provenance.

    Returns
    -------
    dict
        ``name``, ``source``, ``n_descriptors``, ``sha256``, and ``elements``: atomic number (as
        text) to the positions of the descriptors that are 1.
    """
    return json.loads(
        files("matmosaic.backbones").joinpath("cgcnn_elements.json").read_text(encoding="utf-8")
    )


def element_descriptors() -> Tensor:
    """Return the descriptors by atomic number, shape (n_elements + 1, n_descriptors); row 0 is zero."""
    table = element_table()
    descriptors = torch.zeros(max(map(int, table["elements"])) + 1, table["n_descriptors"])
    for number, ones in table["elements"].items():
        descriptors[int(number), ones] = 1.0
    return descriptors


class CGCNN(Backbone):
    r"""Crystal graph convolutional neural network.

    92 binary descriptors of each element are mapped to ``width`` features; each gated convolution
    adds to atom *i*

    .. math:: v_i' = \mathrm{softplus}\Big(v_i + \mathrm{BN}\Big(\sum_j w_{ij}\,
              \sigma(z_{ij} W_f + b_f) \odot \mathrm{softplus}(z_{ij} W_s + b_s)\Big)\Big),
              \quad z_{ij} = v_i \oplus v_j \oplus u_{ij}

    over its nearest neighbours *j* with bond features :math:`u_{ij}` (Gaussians of the distance)
    and bond weights :math:`w_{ij}`, with batch normalisation of the pre-activations; the features
    of a structure are the softplus of the mean over its atoms.

    Parameters
    ----------
    width : int, default=64
        Features per atom and per structure.
    n_convolutions : int, default=4
        Number of gated convolutions.
    step : float, default=0.2
        Spacing and width in Å of the Gaussians that expand distances from 0 to the cutoff.
    graph_settings : GraphSettings, optional
        How structures become graphs; 12 neighbours within 8 Å by default.

    Notes
    -----
    Stages: ``embedding``, ``conv_1`` ... ``conv_n``, ``pooling``. Layer groups are the stages that
    have parameters, and ``last``, the last convolution.

    References
    ----------
    Xie, Grossman, Phys. Rev. Lett. 120, 145301 (2018), DOI 10.1103/PhysRevLett.120.145301; with
    the settings of Chang, Wang, Ertekin, npj Comput. Mater. 8, 242 (2022),
    DOI 10.1038/s41524-022-00929-x.

    Examples
    --------
    >>> backbone = CGCNN(width=32, n_convolutions=2)
    >>> list(backbone.layer_groups())
    ['embedding', 'conv_1', 'conv_2', 'last']
    """

    contract: ClassVar[int] = 1
    supports_weights: ClassVar[bool] = True
    atom_table: ClassVar[dict[str, str] | None] = {key: element_table()[key] for key in ("name", "sha256")}

    def __init__(
        self,
        *,
        width: int = 64,
        n_convolutions: int = 4,
        step: float = 0.2,
        graph_settings: GraphSettings | None = None,
    ) -> None:
        super().__init__()
        if width < 1 or n_convolutions < 0 or not step > 0:
            raise InvalidParameterError(
                "CGCNN needs width >= 1, n_convolutions >= 0 and step > 0 (Å). "
                f"Got width={width!r}, n_convolutions={n_convolutions!r}, step={step!r}."
            )
        self.graph_settings = graph_settings or GraphSettings()
        self.width = width
        self.n_convolutions = n_convolutions
        self.step = step
        self.n_features = width
        embedding = Embedding(width, GaussianExpansion(self.graph_settings.cutoff, step))
        convolutions = {
            f"conv_{number}": GatedConvolution(width, embedding.expansion.n_features)
            for number in range(1, n_convolutions + 1)
        }
        self.stages = nn.ModuleDict({"embedding": embedding, **convolutions, "pooling": Pooling()})

    def options(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments besides ``graph_settings``."""
        return {"width": self.width, "n_convolutions": self.n_convolutions, "step": self.step}

    def elements(self) -> frozenset[int]:
        """Return the atomic numbers with descriptors: hydrogen to fermium."""
        return frozenset(map(int, element_table()["elements"]))


class Embedding(nn.Module):
    """Element descriptors to atom features, distances to bond features.

    Parameters
    ----------
    width : int
        Features per atom.
    expansion : GaussianExpansion
        Of the bond lengths.
    """

    stackable: ClassVar[bool] = True
    descriptors: Tensor

    def __init__(self, width: int, expansion: GaussianExpansion) -> None:
        super().__init__()
        self.register_buffer("descriptors", element_descriptors(), persistent=False)
        self.linear = nn.Linear(self.descriptors.shape[1], width)
        self.expansion = expansion

    def forward(self, graph: Data) -> Data:
        """Set ``x`` (n_atoms, width) and ``edge_attr`` (n_bonds, n_gaussians)."""
        # (n_elements, width): fewer rows than atoms
        by_element = linear_map(self.descriptors, self.linear.weight, self.linear.bias)
        x = by_element.index_select(-2, graph.z)
        return replace(graph, x=x, edge_attr=self.expansion(graph.distance))


class GatedConvolution(nn.Module):
    """One gated convolution.

    Parameters
    ----------
    width : int
        Features per atom.
    n_bond_features : int
        Features per bond.
    """

    stackable: ClassVar[bool] = True

    def __init__(self, width: int, n_bond_features: int) -> None:
        super().__init__()
        self.sections = [width, width, n_bond_features]
        self.gate = nn.Linear(sum(self.sections), 2 * width)
        self.bond_norm = WeightedBatchNorm(2 * width)
        self.atom_norm = WeightedBatchNorm(width)

    def forward(self, graph: Data) -> Data:
        """Replace ``x`` (n_atoms, width)."""
        total = self._sum_in_training(graph) if self.bond_norm.training else self._sum_in_evaluation(graph)
        return replace(graph, x=softplus(graph.x + self.atom_norm(total, graph.atom_weight)))

    def _sum_in_training(self, graph: Data) -> Tensor:
        """Sum messages at their atoms; batch statistics need all gates before the first message."""
        _, center = graph.edge_index
        places = graph.bond_weight * graph.atom_weight.index_select(0, center)
        messages = self.bond_norm.message(self._gates(graph), places)
        return weighted_sum(messages, graph.bond_weight, center, graph.x.shape[-2])

    def _gates(self, graph: Data) -> Tensor:
        # Batch statistics take a constant away, so the bias then has no gradient but rounding errors;
        # Adam would scale those up to whole steps, a random walk that evaluation mode does not undo.
        maps = self._maps(graph.x, self.gate.weight, self.gate.bias.detach())
        return _joined(maps, graph.edge_attr, *graph.edge_index)

    def _sum_in_evaluation(self, graph: Data) -> Tensor:
        """Sum messages at their atoms by blocks; normalisation by constants joins the linear map."""
        factor, offset = affine_map(self.bond_norm)
        bias = torch.addcmul(offset, self.gate.bias, factor)
        maps = self._maps(graph.x, self.gate.weight * factor.unsqueeze(-1), bias)
        total = torch.zeros_like(graph.x)
        for rows in _blocks(graph.edge_attr):
            neighbor, center = graph.edge_index[:, rows]
            messages = gated_message(_joined(maps, graph.edge_attr[..., rows, :], neighbor, center))
            total.index_add_(-2, center, messages * graph.bond_weight[rows].unsqueeze(-1))
        return total

    def _maps(self, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split the linear map on [v_i, v_j, u_ij] in three: the atoms' parts once per atom, not per bond."""
        of_center, of_neighbor, of_bond = weight.split(self.sections, dim=-1)
        return linear_map(x, of_center, bias), x @ of_neighbor.mT, of_bond.mT


def _joined(
    maps: tuple[Tensor, Tensor, Tensor], edge_attr: Tensor, neighbor: Tensor, center: Tensor
) -> Tensor:
    """Return the gates (n_bonds, 2 * width) of bonds."""
    by_center, by_neighbor, of_bond = maps
    gates = by_center.index_select(-2, center)
    gates += by_neighbor.index_select(-2, neighbor)
    if gates.dim() == 2:
        return gates.addmm_(edge_attr, of_bond)
    return gates.baddbmm_(edge_attr.expand(len(gates), -1, -1), of_bond)


def _blocks(edge_attr: Tensor) -> list[slice]:
    """Split bonds where that pays: on a processor, and with no gradients, which would be summed per block."""
    n_bonds = edge_attr.shape[-2]
    if torch.is_grad_enabled() or edge_attr.device.type != "cpu":
        return [slice(0, n_bonds)]
    return [slice(start, start + BLOCK) for start in range(0, n_bonds, BLOCK)]


class Pooling(nn.Module):
    """Mean over a structure's atoms, then softplus."""

    stackable: ClassVar[bool] = True

    def forward(self, graph: Data) -> Data:
        """Set ``u`` (n_structures, width)."""
        mean = weighted_mean(graph.x, graph.atom_weight, graph.batch, graph.num_graphs)
        return replace(graph, u=softplus(mean))
