import itertools

import numpy as np
import pytest
from pymatgen.core import Lattice, Molecule, Structure

from matmosaic.graphs import GraphSettings
from matmosaic.graphs import neighbors as module
from matmosaic.graphs.neighbors import find_bonds
from matmosaic.structures import structure_arrays


def bonds_of(structure, **settings):
    return find_bonds([structure_arrays(structure)], GraphSettings(**settings))


def pymatgen_nearest(structure, cutoff, n_nearest):
    """Neighbours and distances of each atom by pymatgen's list, sorted stably and cut."""
    center, neighbor, _, distance = structure.get_neighbor_list(cutoff)
    for atom in range(len(structure)):
        mine = np.flatnonzero(center == atom)
        mine = mine[np.argsort(distance[mine], kind="stable")][:n_nearest]
        yield neighbor[mine], distance[mine]


def brute_force_distances(structure, cutoff, n_images=4):
    """Sorted distances of each atom to all images of all atoms within the cutoff."""
    shifts = np.array(list(itertools.product(range(-n_images, n_images + 1), repeat=3)))
    images = (structure.frac_coords[:, None] + shifts) @ structure.lattice.matrix
    for position in structure.cart_coords:
        distance = np.linalg.norm(images.reshape(-1, 3) - position, axis=1)
        yield np.sort(distance[(distance > 1e-8) & (distance <= cutoff)])


@pytest.mark.parametrize(("cutoff", "max_neighbors"), [(8.0, 12), (5.0, 12), (8.0, 5), (6.0, 40), (8.0, 1)])
def test_reference_ties_are_pymatgens_nearest_in_its_order(every_crystal, cutoff, max_neighbors):
    for structure in every_crystal:
        bonds = bonds_of(structure, cutoff=cutoff, max_neighbors=max_neighbors, ties="reference")
        for atom, (neighbor, distance) in enumerate(pymatgen_nearest(structure, cutoff, max_neighbors)):
            mine = np.flatnonzero(bonds.center == atom)
            assert len(mine) == max_neighbors
            found = mine[: len(distance)]
            np.testing.assert_array_equal(bonds.neighbor[found], neighbor)
            np.testing.assert_array_equal(bonds.distance[found], distance)
            np.testing.assert_array_equal(bonds.distance[mine[len(distance) :]], cutoff + 1)


def test_reference_ties_are_those_of_get_all_neighbors(SrTiO3):
    """The published code sorts this list of objects, one by one."""
    bonds = bonds_of(SrTiO3, ties="reference")
    for atom, around in enumerate(SrTiO3.get_all_neighbors(8.0)):
        nearest = sorted(around, key=lambda one: one.nn_distance)[:12]
        assert bonds.neighbor[bonds.center == atom].tolist() == [one.index for one in nearest]


def test_distances_equal_a_sum_over_images(triclinic):
    for structure in triclinic:
        bonds = bonds_of(structure, cutoff=4.5, max_neighbors=500)
        for atom, expected in enumerate(brute_force_distances(structure, 4.5)):
            found = bonds.distance[bonds.center == atom]
            np.testing.assert_allclose(np.sort(found[found <= 4.5]), expected, atol=1e-12)


@pytest.mark.parametrize("max_neighbors", [1, 4, 12, 13, 30])
def test_fractional_ties_keep_the_last_shell_whole(every_crystal, max_neighbors):
    for structure in every_crystal:
        bonds = bonds_of(structure, max_neighbors=max_neighbors)
        places = np.bincount(bonds.center, weights=bonds.weight)
        np.testing.assert_allclose(places, max_neighbors, atol=1e-12)
        for atom, (_, distance) in enumerate(pymatgen_nearest(structure, 8.0, None)):
            if len(distance) < max_neighbors:
                continue
            last = distance[max_neighbors - 1]
            found = bonds.distance[bonds.center == atom]
            np.testing.assert_array_equal(found, distance[distance <= last + 1e-4])
            inside = found < last - 1e-4
            weight = bonds.weight[bonds.center == atom]
            assert (weight[inside] == 1).all()
            share = (max_neighbors - inside.sum()) / (~inside).sum()
            np.testing.assert_allclose(weight[~inside], share, atol=1e-12)


def test_shell_that_fills_its_places_exactly_gets_whole_ones(Cu):
    """Face-centred cubic: 12 nearest neighbours, then 6."""
    assert bonds_of(Cu).weight.tolist() == [1.0] * 12
    assert bonds_of(Cu, max_neighbors=15).weight.tolist() == [1.0] * 12 + [0.5] * 6


def test_shell_that_straddles_a_thinning_radius_is_kept_whole():
    """Six neighbours on both sides of 3.5 Å, closer to each other than the tolerance."""
    a = module.RADII[0]
    structure = Structure(Lattice.orthorhombic(a - 4e-5, a, a + 4e-5), ["Po"], [[0, 0, 0]])
    bonds = bonds_of(structure, max_neighbors=3)
    assert bonds.weight.tolist() == [0.5] * 6


@pytest.mark.parametrize("ties", ["fractional", "reference"])
@pytest.mark.parametrize("max_neighbors", [2, 12, 25])
def test_thinning_never_changes_the_result(monkeypatch, every_crystal, water, ties, max_neighbors):
    rng = np.random.default_rng(1)
    scaled = [s.copy().scale_lattice(s.volume * rng.uniform(0.3, 4)) for s in every_crystal]
    rows = [structure_arrays(one) for one in [*every_crystal, *scaled, water]]
    settings = GraphSettings(ties=ties, max_neighbors=max_neighbors)
    thinned = find_bonds(rows, settings)
    monkeypatch.setattr(
        module, "enough_radius", lambda center, distance, n_atoms, _: np.full(n_atoms, np.inf)
    )
    full = find_bonds(rows, settings)
    for name in ("center", "neighbor", "distance", "weight", "isolated"):
        np.testing.assert_array_equal(getattr(thinned, name), getattr(full, name))


def test_thinning_drops_most_candidates(Cu):
    rows = [structure_arrays(Cu)]
    center, _, _, distance = module.search(rows, 8.0)
    radius = module.enough_radius(center, distance, 1, GraphSettings())
    assert np.mean(distance <= radius[center]) < 1 / 5


def test_structures_do_not_meet(every_crystal):
    """Bonds of a chunk are those of its structures alone."""
    rows = [structure_arrays(one) for one in every_crystal]
    together = find_bonds(rows, GraphSettings())
    first = 0
    for row in rows:
        alone = find_bonds([row], GraphSettings())
        mine = (together.center >= first) & (together.center < first + row.n_atoms)
        np.testing.assert_array_equal(together.neighbor[mine] - first, alone.neighbor)
        np.testing.assert_array_equal(together.distance[mine], alone.distance)
        first += row.n_atoms


@pytest.mark.parametrize(("ties", "n_bonds"), [("fractional", 9), ("reference", 36)])
def test_molecule_is_not_periodic_and_padded(water, ties, n_bonds):
    bonds = bonds_of(water, ties=ties)
    real = bonds.distance <= 8.0
    assert real.sum() == 6
    assert len(bonds.distance) == n_bonds
    np.testing.assert_allclose(np.unique(bonds.distance[real].round(3)), [0.968, 1.526])
    np.testing.assert_allclose(np.bincount(bonds.center, weights=bonds.weight), 12)
    assert not bonds.isolated.any()


def test_molecule_far_from_the_origin(water):
    moved = Molecule(water.species, water.cart_coords - [30.0, 4.0, 1000.0])
    np.testing.assert_allclose(bonds_of(moved).distance, bonds_of(water).distance, atol=1e-9)


def test_layer_with_one_open_direction(MoS2):
    """Periodic along two vectors alone: the height of the cell does not count."""
    flat = Structure(Lattice(MoS2.lattice.matrix, pbc=(True, True, False)), MoS2.species, MoS2.frac_coords)
    low = flat.lattice.matrix * [[1], [1], [0.25]]
    squeezed = Structure(
        Lattice(low, pbc=(True, True, False)), MoS2.species, MoS2.cart_coords, coords_are_cartesian=True
    )
    np.testing.assert_allclose(bonds_of(squeezed).distance, bonds_of(flat).distance, atol=1e-9)


def test_padding_stands_for_the_first_atom_or_the_atom_itself():
    """As published weights were trained, and so that the order of atoms does not count."""
    pair = Molecule(["H", "F"], [[0, 0, 0], [0, 0, 0.92]])
    reference = bonds_of(pair, max_neighbors=3, ties="reference", cutoff=6.0)
    assert reference.center.tolist() == [0, 0, 0, 1, 1, 1]
    assert reference.neighbor.tolist() == [1, 0, 0, 0, 0, 0]
    assert reference.distance.tolist() == [0.92, 7.0, 7.0] * 2
    fractional = bonds_of(pair, max_neighbors=3, cutoff=6.0)
    assert fractional.neighbor.tolist() == [1, 0, 0, 1]
    assert fractional.weight.tolist() == [1, 2, 1, 2]


def test_isolated_atom_is_marked_and_padded(lone_iron):
    bonds = bonds_of(lone_iron)
    assert bonds.isolated.tolist() == [True]
    assert (bonds.distance.tolist(), bonds.weight.tolist()) == ([9.0], [12.0])


def test_neighbours_at_the_cutoff_itself_count_in_any_orientation(rng):
    for _ in range(5):
        turned = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        cubic = Structure(Lattice(3.3 * turned), ["Po"], [rng.random(3)])
        assert (bonds_of(cubic, cutoff=3.3).distance <= 3.31).sum() == 6
