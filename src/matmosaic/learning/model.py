"""A backbone and a head: what is trained."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from matmosaic.backbones import (
    MLP,
    Backbone,
    PropertyHeads,
    make_table,
    structure_features,
    trunk_depth,
    trunk_table,
)
from matmosaic.backbones.trunk import batches
from matmosaic.graphs import GraphTable
from matmosaic.learning.dataset import TableDataset


class RegressionModel(nn.Module):
    """Predict targets from graphs as ``head(backbone(graph).u)``.

    Parameters
    ----------
    backbone : Backbone
        With its trainable parameters already chosen; the depth of its trunk is read off once.
    head : MLP or PropertyHeads
        From the backbone's features to the targets.
    """

    pretrained = "backbone.*"
    options_by_name: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def __init__(self, backbone: Backbone, head: MLP | PropertyHeads) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.depth = trunk_depth(backbone)

    def forward(self, graph: Data) -> Tensor:
        """Map what the trunk gave for some structures to targets (n_structures, n_targets)."""
        return self.head(self.backbone(graph, start=self.depth).u)

    @torch.no_grad()
    def scale_features(self, rows: TableDataset, *, batch_size: int = 256) -> None:
        """Let each head see features of zero mean and unit spread over the rows that have its target.

        The rows are of what the trunk gave.
        """
        self.eval()
        graphs = (rows.__getitems__(part)[0] for part in batches(len(rows), batch_size))
        features = torch.cat([self.backbone(graph, start=self.depth).u for graph in graphs])
        heads = [self.head] if isinstance(self.head, MLP) else list(self.head)
        for head, weight in zip(heads, rows.weights.T, strict=True):
            head.scale.fit(features, weight)

    def penalty(self) -> float:
        """Return what is added to the training loss: nothing."""
        return 0.0

    def elements(self) -> frozenset[int] | None:
        """Return the atomic numbers that the backbone knows; None for all."""
        return self.backbone.elements()

    def make_table(self, X: Any, **options: Any) -> GraphTable:
        """Return the graphs that the backbone works on; options are those of ``make_table``."""
        return make_table(self.backbone, X, **options)

    def run_trunk(self, table: GraphTable, *, batch_size: int) -> GraphTable:
        """Run the frozen trunk once per structure."""
        return trunk_table(self.backbone, table, batch_size=batch_size)

    @torch.no_grad()
    def predict(self, table: GraphTable, *, batch_size: int = 256) -> Tensor:
        """Map graphs that no trunk was run on to targets (n_structures, n_targets)."""
        return self.head(structure_features(self.backbone, table, batch_size=batch_size))


@torch.no_grad()
def predict_rows(model: nn.Module, rows: TableDataset, *, batch_size: int) -> Tensor:
    """Predict rows of what the trunk gave, in evaluation mode.

    Parameters
    ----------
    model : RegressionModel or MixtureModel
        Left in evaluation mode.
    rows : TableDataset
        Of length n_rows, after :meth:`RegressionModel.run_trunk`.
    batch_size : int
        Structures per forward pass.

    Returns
    -------
    Tensor of shape (n_rows, n_targets)
        Scaled targets.
    """
    model.eval()
    return torch.cat([model(rows.__getitems__(part)[0]) for part in batches(len(rows), batch_size)])
