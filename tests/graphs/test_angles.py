import itertools
import json

import numpy as np
import pytest
import torch
from pymatgen.core import Molecule, Structure

from matmosaic.exceptions import IsolatedAtomWarning
from matmosaic.graphs import GraphSettings, GraphTable, build_graphs

SETTINGS = GraphSettings(ties="whole", angles=True)


def tables_of(structures):
    """The compressed and the uncompressed table."""
    return [GraphTable.from_structures(structures, SETTINGS, compressed=some) for some in (True, False)]


def message_passing(graph, n_rounds=4):
    """Features of structures that depend on elements, lengths and angles, through atoms, bonds and angles."""
    source, target = graph.edge_index
    sender, receiver = graph.angle_index
    distance, cosine = graph.distance.double(), graph.cosine.double()
    atom = torch.sin(graph.z.double())
    bond = torch.cos(distance) + 0.3 * torch.sin(atom[source] - 2.0 * atom[target])
    for _ in range(n_rounds):
        angle = torch.tanh(bond[sender] - 0.5 * bond[receiver] + torch.sin(2.0 * cosine + 0.4))
        seen = torch.zeros_like(bond).index_add(0, receiver, angle * graph.angle_weight)
        bond = torch.sin(bond + 0.1 * seen + 0.2 * atom[source] * atom[target])
        gathered = torch.zeros_like(atom).index_add(0, target, bond * atom[source] * graph.bond_weight)
        atom = torch.cos(atom + 0.1 * gathered)
    return torch.zeros(graph.num_graphs, dtype=atom.dtype).index_add(0, graph.batch, atom * graph.atom_weight)


def n_atoms_bonds_angles(graph):
    return len(graph.numbers), len(graph.distance), len(graph.cosine)


def test_angles_of_rock_salt(NaCl):
    """Each atom has 6 + 12 bonds in 2 classes, which each bond sees at multiples of 45 and 60 degrees."""
    (graph,) = build_graphs([NaCl], SETTINGS)
    assert len(graph.numbers) == 2
    assert len(graph.distance) == 4
    np.testing.assert_allclose(graph.bond_weight, [6, 12, 6, 12])
    received = np.bincount(graph.angle_index[1], weights=graph.angle_weight)
    np.testing.assert_allclose(received, 18)
    cosines = np.unique(np.abs(graph.cosine).round(6))
    np.testing.assert_allclose(cosines, [0, 0.5, 0.5**0.5, 1], atol=1e-6)


def test_compressed_angles_are_all_angles(every_crystal):
    compressed, whole = tables_of(every_crystal)
    for row in range(len(every_crystal)):
        few, all_ = compressed.select([row]), whole.select([row])
        places = few.bond_weight * few.atom_weight[few.edge_index[1]]
        weight = (few.angle_weight * places[few.angle_index[1]]).numpy()
        assert weight.sum() == len(all_.cosine)
        few_cosines = np.repeat(few.cosine.numpy(), np.rint(weight).astype(int))
        np.testing.assert_allclose(np.sort(few_cosines), np.sort(all_.cosine.numpy()), atol=2e-5)


def test_compression_changes_no_message_passing(every_crystal):
    compressed, whole = tables_of(every_crystal)
    rows = [3, 0, 0, *range(len(every_crystal))]
    torch.testing.assert_close(
        message_passing(compressed.select(rows)), message_passing(whole.select(rows)), rtol=1e-5, atol=1e-5
    )


def test_message_passing_feels_angles(triclinic):
    graph = tables_of(triclinic)[0].select([1])
    before = message_passing(graph)
    graph.cosine = -graph.cosine
    assert (message_passing(graph) - before).abs() > 1e-2


@pytest.mark.parametrize("compressed", [True, False])
def test_graph_depends_neither_on_order_nor_on_cell_nor_on_rotation(every_crystal, compressed, rng):
    for structure in every_crystal:
        shuffled = structure.copy()
        shuffled._sites = [structure[i] for i in rng.permutation(len(structure))]
        doubled = structure.copy()
        doubled.make_supercell([2, 1, 1])
        rotated = structure.copy()
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        rotated.lattice = type(structure.lattice)(structure.lattice.matrix @ rotation)
        variants = [structure, shuffled, doubled, rotated]
        table = GraphTable.from_structures(variants, SETTINGS, compressed=compressed)
        features = message_passing(table.select(range(4))).numpy() / [len(one) for one in variants]
        np.testing.assert_allclose(features, features[0], atol=2e-5)


def test_compressed_size_does_not_grow_with_the_cell(crystals):
    for crystal in crystals:
        doubled = crystal.copy()
        doubled.make_supercell([2, 1, 1])
        small, large = build_graphs([crystal, doubled], SETTINGS)
        assert n_atoms_bonds_angles(small) == n_atoms_bonds_angles(large)


def test_angles_split_atoms_that_bond_lengths_do_not():
    """Two atoms with equal neighbours at equal lengths, on a line and at a right angle, are no twins."""
    line = [[0, 0, 0], [0, 0, 2], [0, 0, -2]]
    corner = [[20, 0, 0], [20, 0, 2], [20, 2, 0]]
    molecule = Molecule(["C", "O", "O"] * 2, [*line, *corner])
    settings = GraphSettings(ties="whole", angles=True, cutoff=2.2)
    (graph,) = build_graphs([molecule], settings)
    assert sorted(graph.numbers.tolist()) == [6, 6, 8, 8]
    (without,) = build_graphs([molecule], GraphSettings(cutoff=2.2))
    assert sorted(without.numbers.tolist()) == [6, 8]


def test_derived_angles_are_those_of_all_pairs(triclinic):
    graph = tables_of(triclinic)[1].select([2, 0])
    (vector,) = [GraphTable.from_structures(triclinic, SETTINGS, compressed=False).fields["vector"]]
    pointer = GraphTable.from_structures(triclinic, SETTINGS, compressed=False).pointers["bond"]
    vector = torch.cat([vector[pointer[2] : pointer[3]], vector[pointer[0] : pointer[1]]])
    source, target = graph.edge_index.tolist()
    expected = {(e, f) for e, f in itertools.product(range(len(source)), repeat=2) if target[e] == source[f]}
    found = list(map(tuple, graph.angle_index.t().tolist()))
    assert len(found) == len(expected)
    assert set(found) == expected
    sender, receiver = graph.angle_index
    cosine = -torch.cosine_similarity(vector[sender], vector[receiver])
    torch.testing.assert_close(graph.cosine, cosine, atol=1e-6, rtol=0)


@pytest.mark.parametrize("compressed", [True, False])
def test_batch_is_its_graphs(every_crystal, compressed):
    table = GraphTable.from_structures(every_crystal, SETTINGS, compressed=compressed)
    parts = table.select([4, 1]).to_data_list()
    for row, part in zip([4, 1], parts, strict=True):
        alone = table.select([row])
        for name in ("edge_index", "angle_index", "cosine", "angle_weight"):
            torch.testing.assert_close(part[name], alone[name])


def test_table_with_angles_is_sliced_saved_and_loaded(every_crystal, tmp_path):
    for table in tables_of(every_crystal):
        table[2:5].save(tmp_path / "table.safetensors")
        loaded = GraphTable.load(tmp_path / "table.safetensors")
        assert loaded.settings == SETTINGS
        torch.testing.assert_close(loaded.select([1]).cosine, table.select([3]).cosine)
        torch.testing.assert_close(loaded.select([1]).angle_index, table.select([3]).angle_index)


def test_graphs_with_angles_come_back_from_disk(every_crystal, tmp_path):
    from matmosaic.graphs.cache import PROCESS_CACHE

    for compressed in (True, False):
        PROCESS_CACHE.clear()
        built = build_graphs(every_crystal, SETTINGS, compressed=compressed, memory=tmp_path)
        PROCESS_CACHE.clear()
        kept = build_graphs(every_crystal, SETTINGS, compressed=compressed, memory=tmp_path)
        for one, other in zip(built, kept, strict=True):
            assert one is not other
            for name, values in one._asdict().items():
                np.testing.assert_array_equal(values, getattr(other, name))


@pytest.mark.parametrize("compressed", [True, False])
def test_structure_without_bonds_has_no_angles_and_is_named(NaCl, lone_iron, compressed):
    with pytest.warns(IsolatedAtomWarning, match=r"X\[1\].*no bonds and no angles"):
        table = GraphTable.from_structures([NaCl, lone_iron, NaCl], SETTINGS, compressed=compressed)
    graph = table.select([1, 2])
    assert int(graph.edge_index.min()) >= 1
    torch.testing.assert_close(message_passing(graph)[1:], message_passing(table.select([0])))
    assert table.select([1]).angle_index.shape == (2, 0)


def test_bond_to_an_own_image_goes_on_but_not_in_published_graphs(Cu):
    """In copper's cell of one atom, each of the 12 bonds leaves the atom that it arrives at."""
    for ties, n_straight in {"whole": 1, "reference": 0}.items():
        settings = GraphSettings(ties=ties, angles=True)
        (graph,) = build_graphs([Cu], settings)
        straight = graph.cosine < -1 + 1e-6
        assert graph.angle_weight[straight].sum() >= n_straight
        whole = GraphTable.from_structures([Cu], settings, compressed=False).select([0])
        sender, receiver = whole.angle_index
        assert int((sender == receiver).sum()) == n_straight * len(whole.distance)


def test_published_graphs_have_the_published_angles(shared_data):
    """Twelve structures, with the angles that the reference ALIGNN makes of them."""
    folder = shared_data / "reference" / "alignn"
    records = json.loads((folder / "structures.json").read_text(encoding="utf-8"))["structures"]
    structures = [Structure(one["lattice"], one["elements"], one["frac"]) for one in records]
    settings = GraphSettings(ties="reference", angles=True, tolerance=0)
    whole = GraphTable.from_structures(structures, settings, compressed=False)
    compressed = GraphTable.from_structures(structures, settings)
    with np.load(folder / "graphs.npz") as published:
        for row in range(len(structures)):
            cosine = np.sort(whole.select([row]).cosine.numpy())
            np.testing.assert_allclose(cosine, published[f"{row:02d}/cos_sorted"], atol=2e-5)
    rows = range(len(structures))
    torch.testing.assert_close(
        message_passing(compressed.select(rows)), message_passing(whole.select(rows)), rtol=1e-6, atol=1e-5
    )
