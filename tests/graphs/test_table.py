import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data

from matmosaic.exceptions import DataFileError
from matmosaic.graphs import GraphSettings, GraphTable, build_graphs

FIELDS = ["z", "atom_weight", "edge_index", "distance", "bond_weight"]


@pytest.fixture(params=[True, False], ids=["compressed", "uncompressed"])
def table(request, crystals):
    return GraphTable.from_structures(crystals, compressed=request.param)


def data_of(graph):
    """One graph as a PyG author would write it."""
    dtype = torch.get_default_dtype()
    return Data(
        z=torch.as_tensor(graph.numbers),
        atom_weight=torch.as_tensor(graph.atom_weight, dtype=dtype),
        edge_index=torch.as_tensor(graph.edge_index),
        distance=torch.as_tensor(graph.distance, dtype=dtype),
        bond_weight=torch.as_tensor(graph.bond_weight, dtype=dtype),
        num_nodes=len(graph.numbers),
    )


def assert_same_fields(one, other, names):
    for name in names:
        assert torch.equal(one[name], other[name]), name
        assert one[name].dtype == other[name].dtype


@pytest.mark.parametrize(
    "rows",
    [range(8), [3], [5, 1, 1, 7, 1], np.array([2, 0]), torch.tensor([6, 6]), []],
    ids=["all", "one", "repeats", "array", "tensor", "none"],
)
def test_batch_is_what_pyg_makes_of_the_same_graphs(crystals, table, rows):
    graphs = build_graphs(crystals, compressed=table.compressed)
    batch = table.select(rows)
    assert batch.num_graphs == len(rows)
    if len(rows) == 0:
        assert batch.z.shape == (0,)
        assert batch.edge_index.shape == (2, 0)
        assert batch.to_data_list() == []
        return
    expected = Batch.from_data_list([data_of(graphs[int(row)]) for row in rows])
    assert_same_fields(batch, expected, [*FIELDS, "batch", "ptr"])
    assert isinstance(batch, Batch)
    assert isinstance(batch, Data)
    assert batch.num_nodes == expected.num_nodes
    for one, other in zip(batch.to_data_list(), expected.to_data_list(), strict=True):
        assert_same_fields(one, other, FIELDS)


def test_batch_without_its_first_graphs_round_trips(table):
    for row, one in zip([4, 2], table.select([4, 2]).to_data_list(), strict=True):
        assert_same_fields(one, table.select([row]), FIELDS)


def test_features_of_stages_are_unbatched_too(table):
    from matmosaic.backbones.cgcnn import CGCNN

    batch = CGCNN(width=4, n_convolutions=1).eval()(table.select([3, 0]))
    for row, one in enumerate(batch.to_data_list()):
        assert torch.equal(one.x, batch.x[batch.batch == row])
        assert torch.equal(one.u, batch.u[[row]])
        assert len(one.edge_attr) == len(one.distance)


def test_select_refuses_rows_that_do_not_exist(table):
    for row in (8, -1):
        with pytest.raises(IndexError):
            table.select([row])


@pytest.mark.parametrize(
    ("key", "rows"),
    [
        (slice(1, 6, 2), [1, 3, 5]),
        (slice(None, None, -1), [7, 6, 5, 4, 3, 2, 1, 0]),
        ([4, 4, 0], [4, 4, 0]),
        (np.array([0, 2]), [0, 2]),
        (np.arange(8) % 3 == 0, [0, 3, 6]),
        (torch.tensor([5]), [5]),
        (-1, [7]),
        ([], []),
        (([2, 3], ...), [2, 3]),
    ],
    ids=["slice", "reversed", "repeats", "array", "mask", "tensor", "negative", "none", "tuple"],
)
def test_part_of_a_table(table, key, rows):
    part = table[key]
    assert len(part) == len(rows)
    assert part.shape == (len(rows),)
    assert (part.settings, part.compressed) == (table.settings, table.compressed)
    assert_same_fields(part.select(range(len(rows))), table.select(rows), [*FIELDS, "batch", "ptr"])


def test_row_beyond_the_end_is_an_index_error(table):
    with pytest.raises(IndexError):
        table[8]
    assert len(list(table)) == 8  # iteration ends


def test_scikit_learn_indexes_and_splits(table):
    from sklearn.model_selection import KFold, train_test_split
    from sklearn.utils import _safe_indexing, check_consistent_length, indexable

    check_consistent_length(table, np.zeros(8))
    assert indexable(table)[0] is table
    for train, test in KFold(4, shuffle=True, random_state=1).split(table):
        assert len(_safe_indexing(table, train)) == 6
        assert_same_fields(_safe_indexing(table, test).select([0, 1]), table.select(test), FIELDS)
    mask = np.arange(8) < 3
    assert len(_safe_indexing(table, mask)) == 3
    left, right = train_test_split(table, test_size=2, random_state=0)
    assert (len(left), len(right)) == (6, 2)


def test_sizes(table):
    assert table.n_atoms == len(table.fields["z"])
    assert table.n_bonds == table.fields["edge_index"].shape[1]
    expected = sum(tensor.nbytes for tensor in [*table.pointers.values(), *table.fields.values()])
    assert table.nbytes == expected > 0
    assert "8 structures" in repr(table)


def test_compression_saves_memory(crystals):
    small, large = (GraphTable.from_structures(crystals, compressed=c) for c in (True, False))
    assert small.nbytes < large.nbytes / 5


def test_dtype_is_torchs_default(NaCl):
    torch.set_default_dtype(torch.float64)
    try:
        assert GraphTable.from_structures([NaCl]).fields["distance"].dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert GraphTable.from_structures([NaCl]).fields["distance"].dtype == torch.float32


def test_settings_come_from_a_backbone_too(NaCl):
    from matmosaic.backbones.cgcnn import CGCNN

    backbone = CGCNN(width=4, graph_settings=GraphSettings(cutoff=5.0, ties="reference"))
    assert GraphTable.from_structures([NaCl], backbone).settings == backbone.graph_settings


def test_added_features_follow_their_rows(table):
    u = torch.arange(8.0).unsqueeze(1)
    x = torch.arange(float(table.n_atoms)).unsqueeze(1)
    added = table.with_features(u=u, x=x)
    assert "u" not in table.fields
    batch = added.select([5, 2])
    assert batch.u.flatten().tolist() == [5.0, 2.0]
    start = table.pointers["atom"]
    assert batch.x.flatten().tolist() == [*range(start[5], start[6]), *range(start[2], start[3])]
    assert added[[5]].fields["u"].tolist() == [[5.0]]
    assert set(table.with_features(keep=(), u=u).fields) == {"u"}
    assert table.with_features(keep=(), u=u).select([1, 1]).num_graphs == 2


def test_file_round_trip(table, tmp_path):
    added = table.with_features(u=torch.rand(8, 3))
    added.save(tmp_path / "table.safetensors")
    loaded = GraphTable.load(tmp_path / "table.safetensors")
    assert (loaded.settings, loaded.compressed) == (table.settings, table.compressed)
    assert set(loaded.fields) == set(added.fields)
    for name, values in added.fields.items():
        assert torch.equal(loaded.fields[name], values)
    assert_same_fields(loaded.select([3, 1]), added.select([3, 1]), [*FIELDS, "u", "batch"])


def test_part_of_a_table_saves_its_part(table, tmp_path):
    table[::-2].save(tmp_path / "part")
    assert_same_fields(GraphTable.load(tmp_path / "part").select([0]), table.select([7]), FIELDS)


def test_truncated_file(table, tmp_path):
    path = tmp_path / "table.safetensors"
    table.save(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataFileError, match=r"table.safetensors is no graph table: .*GraphTable.save"):
        GraphTable.load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"{}" * 100], ids=["empty", "text", "json"])
def test_file_of_another_kind(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataFileError, match="is no graph table"):
        GraphTable.load(tmp_path / "file")


def test_weights_are_no_table(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(DataFileError, match=r"has format None; expected 'matmosaic.GraphTable/1'"):
        GraphTable.load(tmp_path / "weights.safetensors")


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        GraphTable.load(tmp_path / "nothing")


def test_table_moves_as_a_whole(table):
    moved = table.to("meta")
    assert str(moved.device) == "meta"
    assert {str(values.device) for values in moved.fields.values()} == {"meta"}
