"""Graphs of all neighbours, whose bonds know their reverse and make angles only where they are short."""

import numpy as np
import pytest
import torch

from matmosaic.exceptions import IsolatedAtomWarning
from matmosaic.graphs import GraphSettings, GraphTable, build_graphs
from matmosaic.graphs.cache import PROCESS_CACHE

SETTINGS = GraphSettings(
    cutoff=7.0, max_neighbors=None, ties="whole", angles=True, angle_cutoff=3.0, undirected=True
)


def tables_of(structures):
    """The compressed and the uncompressed table."""
    return [GraphTable.from_structures(structures, SETTINGS, compressed=some) for some in (True, False)]


def message_passing(graph, n_rounds=4):
    """Features of structures that depend on elements, lengths and angles; bonds receive at both ends."""
    source, target = graph.edge_index
    sender, receiver = graph.angle_index
    atom = torch.sin(graph.z.double())
    bond = torch.cos(graph.distance.double())
    for _ in range(n_rounds):
        angle = torch.tanh(bond[sender] - 0.5 * bond[receiver] + atom[source[receiver]])
        angle = angle * torch.sin(2.0 * graph.cosine.double() + 0.4) * graph.angle_weight
        seen = torch.zeros_like(bond).index_add(0, receiver, angle)
        bond = torch.sin(bond + 0.1 * (seen + seen[graph.reverse]))
        message = torch.cos(bond + atom[source] - 2.0 * atom[target]) * graph.bond_weight
        atom = torch.cos(atom + 0.1 * torch.zeros_like(atom).index_add(0, target, message))
    return torch.zeros(graph.num_graphs, dtype=atom.dtype).index_add(0, graph.batch, atom * graph.atom_weight)


def test_all_neighbours_are_there(every_crystal):
    for structure, graph in zip(
        every_crystal, build_graphs(every_crystal, SETTINGS, compressed=False), strict=True
    ):
        center, _, _, distance = structure.get_neighbor_list(SETTINGS.cutoff, exclude_self=True)
        np.testing.assert_array_equal(np.bincount(graph.edge_index[1]), np.bincount(center))
        np.testing.assert_allclose(np.sort(graph.distance), np.sort(distance), atol=1e-4)


def test_reverse_is_the_same_bond_in_the_opposite_direction(every_crystal):
    for table in tables_of(every_crystal):
        graph = table.select(range(len(every_crystal)))
        reverse = graph.reverse
        assert torch.equal(reverse[reverse], torch.arange(len(reverse)))
        assert torch.equal(graph.edge_index[:, reverse], graph.edge_index.flip(0))
        assert torch.equal(graph.distance[reverse], graph.distance)
        places = graph.bond_weight * graph.atom_weight[graph.edge_index[1]]
        torch.testing.assert_close(places[reverse], places)


def test_only_short_bonds_make_angles_and_none_with_its_own_reverse(every_crystal):
    for structure, graph in zip(
        every_crystal, build_graphs(every_crystal, SETTINGS, compressed=False), strict=True
    ):
        sender, receiver = graph.angle_index
        assert not (sender == graph.reverse[receiver]).any()
        short = graph.distance < SETTINGS.angle_cutoff
        assert short[sender].all()
        assert short[receiver].all()
        n_short = np.bincount(graph.edge_index[1][short], minlength=len(structure))
        assert len(sender) == (n_short * (n_short - 1)).sum()


def test_angles_of_rock_salt(NaCl):
    """Six bonds of 2.82 Å at each atom, of one class: each makes 1 angle of 180 and 4 of 90 degrees."""
    (graph,) = build_graphs([NaCl], SETTINGS)
    np.testing.assert_allclose(graph.cosine, [-1, 0, -1, 0], atol=1e-6)
    np.testing.assert_allclose(graph.angle_weight, [1, 4, 1, 4])


def test_compression_changes_no_message_passing(every_crystal):
    compressed, whole = tables_of(every_crystal)
    assert compressed.n_bonds < whole.n_bonds
    assert compressed.n_rows("cosine") < whole.n_rows("cosine")
    rows = [3, 0, 0, *range(len(every_crystal))]
    torch.testing.assert_close(
        message_passing(compressed.select(rows)), message_passing(whole.select(rows)), rtol=1e-5, atol=1e-5
    )


def test_compressed_size_does_not_grow_with_the_cell(crystals):
    for crystal in crystals:
        doubled = crystal.copy()
        doubled.make_supercell([2, 1, 1])
        small, large = build_graphs([crystal, doubled], SETTINGS)
        for name in ("numbers", "distance", "cosine"):
            assert len(getattr(small, name)) == len(getattr(large, name))


@pytest.mark.parametrize("compressed", [True, False])
def test_table_is_selected_sliced_and_loaded(every_crystal, compressed, tmp_path):
    table = GraphTable.from_structures(every_crystal, SETTINGS, compressed=compressed)
    table[2:5].save(tmp_path / "table.safetensors")
    loaded = GraphTable.load(tmp_path / "table.safetensors")
    assert loaded.settings == SETTINGS
    torch.testing.assert_close(loaded.select([1]).reverse, table.select([3]).reverse)
    part = table.select([4, 3]).to_data_list()[1]
    torch.testing.assert_close(part.reverse, table.select([3]).reverse)
    torch.testing.assert_close(
        message_passing(table.select([5, 3]))[1:], message_passing(table.select([3])), rtol=0, atol=1e-12
    )


def test_graphs_come_back_from_disk(every_crystal, tmp_path):
    built = build_graphs(every_crystal, SETTINGS, memory=tmp_path)
    PROCESS_CACHE.clear()
    kept = build_graphs(every_crystal, SETTINGS, memory=tmp_path)
    for one, other in zip(built, kept, strict=True):
        np.testing.assert_array_equal(one.reverse, other.reverse)


@pytest.mark.parametrize("compressed", [True, False])
def test_atoms_without_bonds_and_bonds_without_angles(NaCl, CsCl, lone_iron, compressed):
    with pytest.warns(IsolatedAtomWarning, match=r"X\[1\]"):
        table = GraphTable.from_structures([NaCl, lone_iron, CsCl], SETTINGS, compressed=compressed)
    assert len(table.select([1]).reverse) == 0
    assert len(table.select([2]).distance) > 0
    assert len(table.select([2]).cosine) == 0
    assert message_passing(table.select([1, 2, 0])).isfinite().all()
