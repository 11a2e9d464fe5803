"""How the features of several experts become one prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
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
    projected : sequence of int or None, optional
        Widths that features of experts are first mapped to by a learned linear map each; None for an expert
        whose features are taken as they are.
    """

    def __init__(
        self,
        widths: Sequence[int],
        head_widths: Sequence[int],
        projected: Sequence[int | None] | None = None,
    ) -> None:
        super().__init__()
        self.projected = list(projected or [None] * len(widths))
        self.scales = nn.ModuleList(map(FeatureScale, widths))
        pairs = list(zip(widths, self.projected, strict=True))
        self.build([one if to is None else to for one, to in pairs], head_widths)
        self.projections = nn.ModuleList(
            nn.Identity() if to is None else nn.Linear(one, to) for one, to in pairs
        )

    @abstractmethod
    def build(self, widths: Sequence[int], head_widths: Sequence[int]) -> None:
        """Make the heads for features of these widths."""

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

    def prepared(self, features: list[Tensor], active: list[int]) -> list[Tensor]:
        """Return features of the active experts as they are mixed: scaled, if that was fitted, and mapped."""
        scaled = [self.scales[number](values) for number, values in zip(active, features, strict=True)]
        return [self.projections[number](values) for number, values in zip(active, scaled, strict=True)]

    def fit_scales(self, features: list[Tensor], row_weight: Tensor) -> None:
        """Read the scales of all experts' features (n_structures, width) off some structures."""
        scales = cast("list[FeatureScale]", list(self.scales))
        for scale, values in zip(scales, features, strict=True):
            scale.fit(values, row_weight)


class AddFeatures(Aggregation):
    r"""One head on :math:`\sum_i G_i E_i(x)`, of features of one width."""

    def build(self, widths: Sequence[int], head_widths: Sequence[int]) -> None:
        """Make the head."""
        self.head = MLP(widths[0], head_widths)

    def forward(self, features: list[Tensor], weights: Tensor, active: list[int]) -> Tensor:
        """Return predictions (n_structures, 1)."""
        return self.head(self.mixed(features, weights, active))

    def mixed(self, features: list[Tensor], weights: Tensor, active: list[int]) -> Tensor:
        """Return the weighted sum of features (n_structures, width)."""
        return torch.einsum("i,inf->nf", weights, torch.stack(self.prepared(features, active)))

    def fit_scales(self, features: list[Tensor], row_weight: Tensor) -> None:
        """Scale each expert's features, then their even sum, whose spread is smaller than each one's."""
        super().fit_scales(features, row_weight)
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
        prepared = self.prepared(features, active)
        for place, (number, values) in enumerate(zip(active, prepared, strict=True)):
            parts[number] = weights[place] * values
        return self.head(torch.cat(parts, dim=1))


class EnsembleHeads(Aggregation):
    """A head per expert; the prediction is the weighted mean of theirs."""

    def build(self, widths: Sequence[int], head_widths: Sequence[int]) -> None:
        """Make the heads."""
        self.heads = nn.ModuleList(MLP(width, head_widths) for width in widths)

    def forward(self, features: list[Tensor], weights: Tensor, active: list[int]) -> Tensor:
        """Return predictions (n_structures, 1)."""
        prepared = self.prepared(features, active)
        predictions = [self.heads[number](values) for number, values in zip(active, prepared, strict=True)]
        return torch.cat(predictions, dim=1) @ weights.unsqueeze(1)


AGGREGATIONS: dict[str, Callable[..., Aggregation]] = {
    "add": AddFeatures,
    "concat": ConcatFeatures,
    "ensemble": EnsembleHeads,
}
