"""Several heads on the same features: one per property."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from matmosaic.backbones.layers import MLP

__all__ = ["PropertyHeads"]


class PropertyHeads(nn.Module):
    """A head for each of several properties, all of one shape.

    Parameters
    ----------
    heads : sequence of MLP
        One per property, of equal widths and one output each.
    """

    def __init__(self, heads: Sequence[MLP]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def __iter__(self) -> Iterator[MLP]:
        return iter(cast("list[MLP]", list(self.heads)))

    def options(self) -> dict[str, Any]:
        """Return the constructor's arguments of each head as JSON values."""
        return next(iter(self)).options()

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n_structures, n_in) to targets (n_structures, n_properties)."""
        return torch.cat([head(features) for head in self], dim=1)
