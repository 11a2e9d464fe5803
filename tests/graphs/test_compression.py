import numpy as np
import pytest
from pymatgen.core import Lattice, Molecule, Structure

from matmosaic.graphs import GraphSettings, build_graphs
from matmosaic.graphs.compression import equalise_distances


def graph_of(structure, *, compressed=True, **settings):
    return build_graphs([structure], GraphSettings(**settings), compressed=compressed)[0]


@pytest.mark.parametrize(
    ("name", "n_atoms", "n_bonds"),
    [
        ("Cu", 1, 1),  # 12 nearest
        ("NaCl", 2, 4),  # each: 6 of the other kind, 6 of the 12 of its own
        ("CsCl", 2, 4),  # each: 8 of the other kind, 4 of the 6 of its own
        ("Si", 1, 2),  # the two atoms are twins: 4 nearest, 8 of the 12 next
        ("SrTiO3", 3, None),  # the three oxygens are twins
        ("MoS2", 2, None),  # the two sulphurs are
        ("TiO2", 2, None),
    ],
)
def test_crystal_shrinks_to_its_classes(request, name, n_atoms, n_bonds):
    crystal = request.getfixturevalue(name)
    graph = graph_of(crystal)
    assert len(graph.numbers) == n_atoms
    assert n_bonds is None or len(graph.distance) == n_bonds
    assert graph.atom_weight.sum() == len(crystal)


def test_weights_of_rock_salt(NaCl):
    graph = graph_of(NaCl)
    assert graph.numbers.tolist() == [11, 17]
    assert graph.atom_weight.tolist() == [4, 4]
    np.testing.assert_allclose(graph.bond_weight, 6)
    np.testing.assert_allclose(np.sort(graph.distance), [2.82, 2.82, 2.82 * 2**0.5, 2.82 * 2**0.5])


@pytest.mark.parametrize("ties", ["fractional", "reference"])
def test_sums_of_weights_are_preserved(every_crystal, ties):
    for structure in every_crystal:
        graph = graph_of(structure, ties=ties)
        assert graph.atom_weight.sum() == len(structure)
        places = np.bincount(graph.edge_index[1], weights=graph.bond_weight)
        np.testing.assert_allclose(places, 12, atol=1e-12)
        full = graph_of(structure, ties=ties, compressed=False)
        assert (full.atom_weight == 1).all()
        each = graph.bond_weight * graph.atom_weight[graph.edge_index[1]]
        for length in np.unique(full.distance):
            ours = each[np.isclose(graph.distance, length, atol=1e-9)].sum()
            assert ours == pytest.approx(full.bond_weight[np.isclose(full.distance, length, atol=1e-9)].sum())


def test_perturbed_structure_does_not_compress(NaCl, rng):
    shaken = NaCl.copy()
    moves = rng.normal(0, 0.05, (len(shaken), 3))
    shaken = Structure(NaCl.lattice, NaCl.species, NaCl.cart_coords + moves, coords_are_cartesian=True)
    graph = graph_of(shaken)
    assert (graph.atom_weight == 1).all()
    assert len(graph.distance) == len(graph_of(shaken, compressed=False).distance)


def test_noise_below_the_tolerance_does_not_prevent_compression(NaCl, rng):
    moves = rng.uniform(-1e-6, 1e-6, (len(NaCl), 3))
    noisy = Structure(NaCl.lattice, NaCl.species, NaCl.cart_coords + moves, coords_are_cartesian=True)
    assert len(graph_of(noisy).numbers) == 2
    assert len(graph_of(noisy, tolerance=0.0).numbers) == 8


def test_supercell_compresses_to_the_same_graph(every_crystal):
    """Fractional ties: nothing depends on the cell chosen."""
    for structure in every_crystal:
        one, two = graph_of(structure), graph_of(structure.make_supercell([2, 1, 1], in_place=False))
        assert sorted(one.numbers) == sorted(two.numbers)
        np.testing.assert_allclose(np.sort(one.distance), np.sort(two.distance), atol=1e-9)
        np.testing.assert_allclose(np.sort(one.bond_weight), np.sort(two.bond_weight), atol=1e-9)
        assert two.atom_weight.sum() == 2 * one.atom_weight.sum()


def test_same_neighbourhood_at_depth_one_is_not_enough():
    """A chain H-H-H-He: the first two hydrogens differ only by what lies two bonds away."""
    chain = Molecule(["H", "H", "H", "H", "He"], [[0, 0, z] for z in range(5)])
    graph = graph_of(chain, cutoff=1.5, max_neighbors=2)
    assert len(graph.numbers) == 5
    ring = Molecule(["H"] * 6, [[np.cos(a), np.sin(a), 0] for a in np.arange(6) * np.pi / 3])
    assert len(graph_of(ring, cutoff=1.5, max_neighbors=2).numbers) == 1


def test_elements_with_the_same_surroundings_stay_apart():
    """Hydrogen and fluorine, each with the carbon between them as only neighbour."""
    graph = graph_of(Molecule(["H", "C", "F"], [[0, 0, -1], [0, 0, 0], [0, 0, 1]]), max_neighbors=1)
    assert graph.numbers.tolist() == [1, 6, 9]


def test_bonds_are_sorted_by_centre_and_inside_the_graph(every_crystal):
    for graph in build_graphs(every_crystal):
        assert (np.diff(graph.edge_index[1]) >= 0).all()
        assert graph.edge_index.min() >= 0
        assert graph.edge_index.max() < len(graph.numbers)


def test_equal_lengths_become_exactly_equal():
    distance = np.array([2.0, 2.00005, 3.0, 2.0])
    group, mean = equalise_distances(np.array([0, 0, 0, 1]), distance, np.array([1.0, 3.0, 1.0, 1.0]), 1e-4)
    assert group[0] == group[1]
    assert len(set(group)) == 3
    np.testing.assert_allclose(mean, [2.0000375, 2.0000375, 3.0, 2.0])


def test_chain_of_close_lengths_is_not_one_length():
    """Ten thousand lengths, each within the tolerance of the next, span half an Å."""
    distance = np.linspace(2.5, 3.0, 10_001)
    _, mean = equalise_distances(np.zeros(10_001, int), distance, np.ones(10_001), 1e-4)
    assert abs(mean - distance).max() <= 5e-4


def test_lengths_of_a_large_irregular_cell_stay(Cu, rng):
    large = Cu.make_supercell([9, 9, 9], in_place=False)
    moves = rng.normal(0, 0.05, (len(large), 3))
    shaken = Structure(large.lattice, large.species, large.cart_coords + moves, coords_are_cartesian=True)
    loose = graph_of(shaken, compressed=False).distance
    exact = graph_of(shaken, compressed=False, tolerance=0.0).distance
    assert abs(loose - exact).max() <= 5e-4


def test_two_structures_do_not_share_classes():
    """The same atom in two crystals is two atoms, although they are built together."""
    cubic = [Structure(Lattice.cubic(a), ["Po"], [[0, 0, 0]]) for a in (3.3, 3.4)]
    for a, graph in zip((3.3, 3.4), build_graphs(cubic), strict=True):
        assert graph.distance[0] == pytest.approx(a)
        assert len(graph.numbers) == 1
