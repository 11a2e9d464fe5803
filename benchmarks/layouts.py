"""Layouts of the experts' last convolutions, which ``benchmarks/mixture.py`` measures.

One expert after the other, experts side by side in threads (what the library does), and all as one
convolution that is wide by all their channels, which the library does not use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch_geometric.data import Data

from matmosaic.backbones import WeightedBatchNorm, unfreeze, weighted_mean, weighted_sum
from matmosaic.backbones.cgcnn import GatedConvolution
from matmosaic.backbones.layers import gated_message
from matmosaic.learning import MixtureModel
from matmosaic.learning.aggregation import AddFeatures
from matmosaic.learning.experts import ExpertTable
from matmosaic.learning.gate import Gate


class WideTail(nn.Module):
    """A gated convolution and the pooling of several experts of one architecture.

    Arrays of all experts lie side by side, (n_bonds, 2 * n_experts * width) for the gates, all choices
    before all values, so that one operation serves all experts. The Gaussians of bond lengths are
    the same for all and their product is one matrix product; those of the atoms' features are batched.

    Parameters
    ----------
    convolutions : sequence of GatedConvolution
        Of equal widths; their parameters are copied.
    """

    def __init__(self, convolutions: Sequence[GatedConvolution]) -> None:
        super().__init__()
        self.n_experts = len(convolutions)
        sections = convolutions[0].sections
        maps = [convolution.gate.weight.split(sections, dim=1) for convolution in convolutions]
        of_center, of_neighbor, of_bond = (by_half(part) for part in zip(*maps, strict=True))
        self.atoms = nn.Parameter(torch.stack([of_center, of_neighbor]))
        self.bonds = nn.Parameter(of_bond.flatten(0, 2).t().contiguous())
        # A constant in training, as in the library.
        self.register_buffer("bias", by_half([one.gate.bias for one in convolutions]).flatten())
        self.bond_norm = WeightedBatchNorm(2 * self.n_experts * sections[0])
        self.atom_norm = WeightedBatchNorm(self.n_experts * sections[0])
        for name in ("weight", "bias"):
            of_bonds = by_half([getattr(one.bond_norm, name) for one in convolutions])
            of_atoms = torch.cat([getattr(one.atom_norm, name) for one in convolutions])
            getattr(self.bond_norm, name).data.copy_(of_bonds.flatten())
            getattr(self.atom_norm, name).data.copy_(of_atoms)

    def forward(self, graph: Data) -> Tensor:
        """Map graphs, with ``x`` (n_atoms, n_experts * width), to features (n_structures, the same)."""
        neighbor, center = graph.edge_index
        x = graph.x.unflatten(1, (self.n_experts, -1))
        by_center, by_neighbor = torch.einsum("nei,cheoi->cnheo", x, self.atoms).flatten(2)
        gates = (by_center + self.bias).index_select(0, center)
        gates += by_neighbor.index_select(0, neighbor)
        gates.addmm_(graph.edge_attr, self.bonds)
        places = graph.bond_weight * graph.atom_weight.index_select(0, center)
        messages = gated_message(self.bond_norm(gates, places))
        total = weighted_sum(messages, graph.bond_weight, center, len(x))
        atoms = softplus(graph.x + self.atom_norm(total, graph.atom_weight))
        return softplus(weighted_mean(atoms, graph.atom_weight, graph.batch, graph.num_graphs))


def by_half(parts: Sequence[Tensor]) -> Tensor:
    """Stack what each expert has per gate, (2 * width, ...), to (2, n_experts, width, ...)."""
    return torch.stack([part.detach().unflatten(0, (2, -1)) for part in parts], dim=1)


class Layouts:
    """The tails of all experts in each layout, and what their trunks gave for some structures.

    Parameters
    ----------
    modules : sequence of PretrainedModule
        CGCNNs of one architecture; their last convolutions are trained.
    structures : structures, length n_structures
        What the features are computed of.
    device : str
        Where.
    batch_size : int
        Structures per pass.
    """

    def __init__(self, modules: Sequence[Any], structures: Any, *, device: str, batch_size: int) -> None:
        self.batch_size = batch_size
        self.mixture = mixture_of(modules).to(device)
        self.convolutions = [_last_convolution(expert) for expert in self.mixture.backbones]
        self.table: ExpertTable = self.mixture.run_trunk(
            self.mixture.make_table(structures).to(device), batch_size=batch_size
        )
        self.wide_tail = WideTail(self.convolutions).to(device)
        self.wide_table = self.table.tables[0].with_features(
            x=torch.cat([given.fields["x"] for given in self.table.inputs], dim=1),
            edge_attr=self.table.inputs[0].fields["edge_attr"],
        )

    def loop(self, rows: range) -> list[Tensor]:
        """Return the features of each expert, one after the other."""
        batch = self.table.select(rows)
        return [
            expert(batch.graph(number), start=batch.start(number)).u
            for number, expert in enumerate(self.mixture.backbones)
        ]

    def side_by_side(self, rows: range) -> list[Tensor]:
        """Return the features of each expert, in threads on a processor."""
        return self.mixture.features(self.table.select(rows), list(range(len(self.convolutions))))

    def wide(self, rows: range) -> list[Tensor]:
        """Return the features of all experts as one tensor."""
        return [self.wide_tail(self.wide_table.select(rows))]

    def epoch(self, layout: Callable[[range], list[Tensor]]) -> None:
        """Run forward and backward passes over all structures."""
        n_rows = len(self.table)
        for start in range(0, n_rows, self.batch_size):
            features = layout(range(start, min(start + self.batch_size, n_rows)))
            torch.autograd.backward(features, [torch.ones_like(one) for one in features])

    def differences(self) -> dict[str, float]:
        """Return how far the wide layout is from the loop, relative to the largest value, for one batch."""
        rows = range(min(self.batch_size, len(self.table)))
        looped, wide = torch.cat(self.loop(rows), dim=1), self.wide(rows)[0]
        gates = [one.gate.weight for one in self.convolutions]
        of_gates = torch.autograd.grad(looped.square().sum(), gates)
        (of_wide,) = torch.autograd.grad(wide.square().sum(), [self.wide_tail.bonds])
        sections = self.convolutions[0].sections
        of_bonds = by_half([one.split(sections, dim=1)[2] for one in of_gates]).flatten(0, 2).t()
        pairs = {"features": (looped.detach(), wide.detach()), "gradients": (of_bonds, of_wide)}
        return {what: float((a - b).abs().max() / a.abs().max()) for what, (a, b) in pairs.items()}


def mixture_of(modules: Sequence[Any]) -> MixtureModel:
    """Return a mixture of modules, all active, whose last convolutions are trained."""
    experts = [module.build_backbone() for module in modules]
    for expert in experts:
        unfreeze(expert, "last")
    aggregation = AddFeatures([expert.n_features for expert in experts], ())
    gate = Gate(torch.ones(len(experts)), len(experts))
    names = [module.card.name for module in modules]
    return MixtureModel(experts, names, gate, aggregation, max_trunk_bytes=2**31)


def _last_convolution(expert: Any) -> GatedConvolution:
    return cast(GatedConvolution, expert.stages[f"conv_{expert.n_convolutions}"])
