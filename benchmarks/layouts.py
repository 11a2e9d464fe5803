"""Layouts of the experts' last convolutions, which ``benchmarks/mixture.py`` measures.

One expert after the other, experts side by side in threads (what the library does on a CPU), and all at once
on arrays with a leading axis of experts (what it does elsewhere).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from matmosaic.backbones import unfreeze
from matmosaic.learning import MixtureModel
from matmosaic.learning.aggregation import AddFeatures
from matmosaic.learning.experts import ExpertTable
from matmosaic.learning.gate import Gate

# Operations that hand out memory, and compute nothing.
ALLOCATIONS = {"empty", "empty_like", "empty_strided", "new_empty", "detach"}

Layout = Callable[[range], list[Tensor]]


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
        self.table: ExpertTable = self.mixture.run_trunk(
            self.mixture.make_table(structures).to(device), batch_size=batch_size
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
        return self._features(rows, stacked=False)

    def at_once(self, rows: range) -> list[Tensor]:
        """Return the features of all experts, computed at once."""
        return self._features(rows, stacked=True)

    def _features(self, rows: range, *, stacked: bool) -> list[Tensor]:
        self.mixture._stacked = stacked
        return self.mixture.features(self.table.select(rows), list(range(len(self.mixture.experts))))

    def epoch(self, layout: Layout) -> None:
        """Run forward and backward passes over all structures."""
        n_rows = len(self.table)
        for start in range(0, n_rows, self.batch_size):
            self._step(layout, range(start, min(start + self.batch_size, n_rows)))

    def operations(self, layout: Layout) -> int:
        """Return of how many operations forward and backward pass of a batch are; a GPU launches each."""
        with _Operations() as operations:
            self._step(layout, self._one_batch)
        return operations.count

    def _step(self, layout: Layout, rows: range) -> None:
        self.mixture.zero_grad()
        features = layout(rows)
        torch.autograd.backward(features, [torch.ones_like(one) for one in features])

    def differences(self) -> dict[str, float]:
        """Return how far all at once is from the loop, relative to the largest value, for one batch."""
        weights = [one for one in self.mixture.experts.parameters() if one.requires_grad]
        features = [torch.cat(layout(self._one_batch), dim=1) for layout in (self.loop, self.at_once)]
        gradients = [torch.autograd.grad(one.square().sum(), weights, allow_unused=True) for one in features]
        pairs = {"features": [one.detach() for one in features], "gradients": list(map(_flat, gradients))}
        return {what: float((a - b).abs().max() / a.abs().max()) for what, (a, b) in pairs.items()}

    @property
    def _one_batch(self) -> range:
        return range(min(self.batch_size, len(self.table)))


def _flat(gradients: Sequence[Tensor | None]) -> Tensor:
    return torch.cat([one.flatten() for one in gradients if one is not None])


class _Operations(TorchDispatchMode):
    """Counts operations that compute something: not views, nor fresh memory."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        self.count += not (function.is_view or name in ALLOCATIONS)
        return function(*args, **(kwargs or {}))


def mixture_of(modules: Sequence[Any]) -> MixtureModel:
    """Return a mixture of modules, all active, whose last convolutions are trained."""
    experts = [module.build_backbone() for module in modules]
    for expert in experts:
        unfreeze(expert, "last")
    aggregation = AddFeatures([expert.n_features for expert in experts], ())
    gate = Gate(torch.ones(len(experts)), len(experts))
    names = [module.card.name for module in modules]
    return MixtureModel(experts, names, gate, aggregation, max_trunk_bytes=2**31)
