import numpy as np
import torch
from torch.utils.data import DataLoader

from matmosaic.graphs import GraphSettings, GraphTable
from matmosaic.learning import TableDataset
from matmosaic.learning.experts import ExpertInput, ExpertTable


def test_batch_is_a_selection_with_targets_and_weights(crystals):
    table = GraphTable.from_structures(crystals)
    dataset = TableDataset(table, np.array([10.0, 20, 30]), np.array([1.0, 2, 3]), rows=np.array([5, 1, 7]))
    batch, targets = dataset.__getitems__([2, 0])
    assert torch.equal(batch.z, table.select([7, 5]).z)
    assert targets.tolist() == [[30, 3], [10, 1]]
    assert len(dataset) == 3


def test_all_rows_with_weight_one_by_default(crystals):
    table = GraphTable.from_structures(crystals)
    dataset = TableDataset(table, np.arange(8.0))
    batch, targets = dataset[3]
    assert (batch.num_graphs, targets.tolist()) == (1, [[3, 1]])
    assert targets.dtype == torch.get_default_dtype()


def test_loader_visits_each_row_once_and_keeps_the_last_batch(crystals):
    dataset = TableDataset(GraphTable.from_structures(crystals), np.arange(8.0))
    loader = DataLoader(dataset, batch_size=3, shuffle=True, collate_fn=TableDataset.collate)
    batches = list(loader)
    assert [len(graph) for graph, _ in batches] == [3, 3, 2]  # skorch weighs losses of batches by this
    assert sorted(torch.cat([targets for _, targets in batches])[:, 0].tolist()) == list(range(8))


def test_raw_rows_are_graphs_of_the_first_expert(crystals):
    far, near = (GraphTable.from_structures(crystals, GraphSettings(cutoff=one)) for one in (8.0, 5.0))
    table = ExpertTable([far, near], [ExpertInput(0), ExpertInput(1), ExpertInput(0)])
    dataset = TableDataset(table, np.array([10.0, 20]), rows=np.array([5, 1]))
    assert dataset.raw().table is far
    table.keep_experts([1, 2])
    assert dataset.raw().table is near
    batch, targets = dataset.raw()[0]
    assert (batch.z.tolist(), targets.tolist()) == (far.select([5]).z.tolist(), [[10, 1]])


def test_missing_targets_have_no_weight(crystals):
    targets = np.array([[1.0, np.nan], [2.0, 3.0]])
    dataset = TableDataset(GraphTable.from_structures(crystals[:2]), targets, np.array([1.0, 5.0]))
    assert dataset.labels.tolist() == [[1, 0], [2, 3]]
    assert dataset.weights.tolist() == [[1, 0], [5, 5]]
    assert dataset[0][1].tolist() == [[1, 0, 1, 0]]
