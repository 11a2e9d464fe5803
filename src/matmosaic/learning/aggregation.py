"""How the features of several experts become one prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from matmosaic.backbones import MLP
from matmosaic.backbones.layers import FeatureScale


class Aggregation(nn.Module, ABC):
    """Predict from features of the active experts and their weights.

    Parameters
    ----------
    widths : sequence of int
        Number of features of each expert.
    head_widths : sequence of int
        Hidden layers of a head.
    """

    def __init__(self, widths: Sequence[int], head_widths: Sequence[int]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(map(FeatureScale, widths))
        self.build(widths, head_widths)

    @abstractmethod
    def build(self, widths: Sequence[int], head_widths: Sequence[int]) -> None:
        """Make the layers."""

    @abstractmethod
    def forward(self, features: list[Tensor], weights: Tensor, active: list[int]) -> Tensor:
        """Return predictions (n_structures, 1).

        Parameters
        ----------
        features : list of Tensor of shape (n_structures, width of the expert)
            Of the active experts.
        weights : Tensor of shape (n_active,)
            Of the gate; they sum to 1.
        active : list of int
            Numbers of the active experts.
        """

    def scaled(self, features: list[Tensor], active: list[int]) -> list[Tensor]:
        """Return the features of each active expert with zero mean and unit spread, if scales were fitted."""
        return [self.scales[number](values) for number, values in zip(active, features, strict=True)]

    def fit_scales(self, features: list[Tensor], row_weight: Tensor) -> None:
        """Read the scales of all experts' features (n_structures, width) off some structures."""
        scales = cast("list[FeatureScale]", list(self.scales))
        for scale, values in zip(scales, features, strict=True):
            scale.fit(values, row_weight)


class AddFeatures(Aggregation):
    r"""One head on :math:`\sum_i G_i E_i(x)`.

    Features of experts of different widths are first mapped to ``width`` by a learned linear map each.
    """

    def __init__(self, widths: Sequence[int], head_widths: Sequence[int], width: int | None = None) -> None:
        self.width = width
        super().__init__(widths, head_widths)

    def build(self, widths: Sequence[int], head_widths: Sequence[int]) -> None:
        """Make projections, where a width was given, and the head."""
        width = widths[0] if self.width is None else self.width
        self.projections = nn.ModuleList(
            nn.Identity() if self.width is None else nn.Linear(one, width) for one in widths
        )
        self.head = MLP(width, head_widths)

    def forward(self, features: list[Tensor], weights: Tensor, active: list[int]) -> Tensor:
        """Return predictions (n_structures, 1)."""
        return self.head(self.mixed(features, weights, active))

    def mixed(self, features: list[Tensor], weights: Tensor, active: list[int]) -> Tensor:
        """Return the weighted sum of features (n_structures, width)."""
        scaled = self.scaled(features, active)
        projected = [self.projections[number](one) for number, one in zip(active, scaled, strict=True)]
        return torch.einsum("i,inf->nf", weights, torch.stack(projected))

    def fit_scales(self, features: list[Tensor], row_weight: Tensor) -> None:
        """Scale each expert's features, then their even sum, whose spread is smaller than each one's."""
        super().fit_scales(features, row_weight)
        if self.width is None:
            even = torch.full((len(features),), 1.0 / len(features), dtype=row_weight.dtype)
            every = list(range(len(features)))
            self.head.scale.fit(self.mixed(features, even.to(row_weight.device), every), row_weight)


class ConcatFeatures(Aggregation):
    """One head on all experts' features side by side, each scaled by its weight; 0 if not active."""

    def build(self, widths: Sequence[int], head_widths: Sequence[int]) -> None:
        """Make the head."""
        self.widths = list(widths)
        self.head = MLP(sum(widths), head_widths)

    def forward(self, features: list[Tensor], weights: Tensor, active: list[int]) -> Tensor:
        """Return predictions (n_structures, 1)."""
        n_rows = len(features[0])
        parts = [features[0].new_zeros(n_rows, width) for width in self.widths]
        scaled = self.scaled(features, active)
        for place, (number, values) in enumerate(zip(active, scaled, strict=True)):
            parts[number] = weights[place] * values
        return self.head(torch.cat(parts, dim=1))


class EnsembleHeads(Aggregation):
    """A head per expert; the prediction is the weighted mean of theirs."""

    def build(self, widths: Sequence[int], head_widths: Sequence[int]) -> None:
        """Make the heads."""
        self.heads = nn.ModuleList(MLP(width, head_widths) for width in widths)

    def forward(self, features: list[Tensor], weights: Tensor, active: list[int]) -> Tensor:
        """Return predictions (n_structures, 1)."""
        scaled = self.scaled(features, active)
        predictions = [self.heads[number](values) for number, values in zip(active, scaled, strict=True)]
        return torch.cat(predictions, dim=1) @ weights.unsqueeze(1)


AGGREGATIONS = {"add": AddFeatures, "concat": ConcatFeatures, "ensemble": EnsembleHeads}
