"""Rows of a graph table with their targets, as a torch dataset that hands out whole batches."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Batch

from matmosaic.graphs import GraphTable
from matmosaic.learning.experts import ExpertBatch, ExpertTable


class TableDataset(Dataset):
    """Some rows of a graph table with targets and weights.

    A ``DataLoader`` asks for a whole batch of rows at once (``__getitems__``), which is one
    vectorised selection; combine it with ``collate_fn=TableDataset.collate``.

    Parameters
    ----------
    table : GraphTable or ExpertTable
        Graphs, usually with the trunk's features.
    targets : ndarray of shape (n_rows,) or (n_rows, n_targets)
        Scaled targets; NaN for one that is missing, which then has no weight.
    weights : ndarray of shape (n_rows,), optional
        Weights of the rows in the loss; ones when None.
    rows : ndarray of int, shape (n_rows,), optional
        Rows of the table; all, in order, when None.
    """

    def __init__(
        self,
        table: GraphTable | ExpertTable,
        targets: np.ndarray,
        weights: np.ndarray | None = None,
        *,
        rows: np.ndarray | None = None,
    ) -> None:
        self.table = table
        self.rows = torch.as_tensor(np.arange(len(table)) if rows is None else rows, device=table.device)
        labels = targets[:, None] if targets.ndim == 1 else targets
        there = ~np.isnan(labels)
        weight = there if weights is None else there * weights[:, None]
        columns = np.concatenate([np.where(there, labels, 0.0), weight], axis=1)
        self.targets = torch.as_tensor(columns, dtype=torch.get_default_dtype(), device=table.device)

    @property
    def labels(self) -> Tensor:
        """Scaled targets (n_rows, n_targets), 0 where missing."""
        return self.targets.chunk(2, dim=1)[0]

    @property
    def weights(self) -> Tensor:
        """Weights (n_rows, n_targets) in the loss, 0 where a target is missing."""
        return self.targets.chunk(2, dim=1)[1]

    def __len__(self) -> int:
        return len(self.rows)

    def raw(self, expert: int = 0) -> TableDataset:
        """Return the same rows as an expert's graphs, on which no trunk was run."""
        table = cast("ExpertTable", self.table)
        other = copy.copy(self)
        other.table = table.graphs[table.inputs[expert].table]
        return other

    def __getitem__(self, row: int) -> tuple[Batch | ExpertBatch, Tensor]:
        """Return one row as a batch of one."""
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[int]) -> tuple[Batch | ExpertBatch, Tensor]:
        """Return a batch, and its targets beside their weights, as columns (n_rows, 2 * n_targets)."""
        index = torch.as_tensor(rows, device=self.rows.device)
        return self.table.select(self.rows[index]), self.targets[index]

    @staticmethod
    def collate(batch: tuple[Batch | ExpertBatch, Tensor]) -> tuple[Batch | ExpertBatch, Tensor]:
        """Return the batch as it is: it is already one."""
        return batch
