import numpy as np
import pytest
from pymatgen.core import Lattice, Molecule, Structure

from matmosaic.graphs import GraphSettings
from matmosaic.graphs.mutual_bonds import SHORTEST_BOND, find_mutual_bonds
from matmosaic.structures import structure_arrays

SETTINGS = GraphSettings(ties="whole", angles=True)


def bonds_of(*structures, **changes):
    settings = GraphSettings(**{**SETTINGS.to_dict(), **changes})
    return find_mutual_bonds([structure_arrays(one) for one in structures], settings)


def lengths(bonds):
    return np.linalg.norm(bonds.vector, axis=1)


def assert_paired(bonds):
    np.testing.assert_array_equal(bonds.center[bonds.reverse], bonds.neighbor)
    np.testing.assert_array_equal(bonds.neighbor[bonds.reverse], bonds.center)
    np.testing.assert_allclose(bonds.vector[bonds.reverse], -bonds.vector, atol=1e-10)
    np.testing.assert_array_equal(bonds.reverse[bonds.reverse], np.arange(len(bonds.center)))


def test_every_bond_is_there_in_both_directions(every_crystal):
    assert_paired(bonds_of(*every_crystal))


@pytest.mark.parametrize(
    ("edge", "step", "max_neighbors"),
    [(2.0, [1, 1, 1], 500), (5.64, [SHORTEST_BOND, 0, 0], 12)],
    ids=["last", "shortest"],
)
def test_bonds_exactly_as_long_as_a_limit_are_there_in_both_directions(rng, edge, step, max_neighbors):
    """Both directions differ in their last digits, which may lie on either side of the limit."""
    n_bonds = set()
    for start in rng.random((30, 3)):
        crystal = Structure(Lattice.cubic(edge), ["Na", "Cl"], [start, start])
        crystal.translate_sites([1], step, frac_coords=False, to_unit_cell=True)
        bonds = bonds_of(crystal, max_neighbors=max_neighbors, tolerance=0)
        assert_paired(bonds)
        n_bonds.add(len(bonds.center))
    assert len(n_bonds) > 1


def test_atoms_on_one_site_are_not_bonded_to_each_other(CsCl):
    """Nor do they take a place of the twelve."""
    twins = CsCl.copy()
    twins.append("Rb", [0, 0, 0])
    bonds = bonds_of(twins)
    assert_paired(bonds)
    assert lengths(bonds).min() > 3
    # Eight chlorines, and the next shell: six Cs and six Rb.
    np.testing.assert_array_equal(np.bincount(bonds.center), [8 + 12, 16, 8 + 12])


@pytest.mark.parametrize(("length", "n_bonds"), [(0.0, 0), (0.1, 0), (0.2, 2)])
def test_shortest_bond(length, n_bonds):
    bonds = bonds_of(Molecule(["H", "O"], [[0, 0, 0], [0, 0, length]]))
    assert len(bonds.center) == n_bonds
    assert bonds.isolated.tolist() == [n_bonds == 0] * 2


def test_bonds_are_those_of_pymatgen(every_crystal):
    """A bond is there if it is no longer than the twelfth of one of its atoms."""
    for structure in every_crystal:
        center, neighbor, _, distance = structure.get_neighbor_list(12.0)
        last = np.array([np.sort(distance[center == atom])[11] for atom in range(len(structure))])
        expected = distance <= np.maximum(last[center], last[neighbor]) + 1e-4
        bonds = bonds_of(structure, cutoff=12.0)
        found = np.stack([bonds.center, bonds.neighbor, lengths(bonds)])
        theirs = np.stack([center, neighbor, distance])[:, expected]
        for rows in (found, theirs):
            rows[2] = rows[2].round(6)
        np.testing.assert_allclose(found[:, np.lexsort(found)], theirs[:, np.lexsort(theirs)], atol=2e-6)


def test_whole_shells_of_rock_salt(NaCl):
    bonds = bonds_of(NaCl)
    np.testing.assert_array_equal(np.bincount(bonds.center), 6 + 12)


def test_bonds_are_sorted_by_centre_and_length(triclinic):
    bonds = bonds_of(*triclinic)
    order = np.lexsort((lengths(bonds).round(9), bonds.center))
    np.testing.assert_array_equal(bonds.center[order], bonds.center)
    np.testing.assert_allclose(lengths(bonds)[order], lengths(bonds), atol=1e-8)


def test_structures_do_not_meet(every_crystal):
    together = bonds_of(*every_crystal)
    alone = [bonds_of(one) for one in every_crystal]
    np.testing.assert_allclose(together.vector, np.concatenate([one.vector for one in alone]))
    first_bond = np.cumsum([0, *(len(one.center) for one in alone)])
    shifted = [one.reverse + first for one, first in zip(alone, first_bond, strict=False)]
    np.testing.assert_array_equal(together.reverse, np.concatenate(shifted))


def test_molecule_keeps_all_its_neighbours(water):
    bonds = bonds_of(water)
    np.testing.assert_array_equal(np.bincount(bonds.center), [2, 2, 2])
    assert not bonds.isolated.any()


def test_lone_atom_has_no_bonds(lone_iron):
    bonds = bonds_of(lone_iron)
    assert len(bonds.center) == 0
    assert bonds.isolated.tolist() == [True]


def test_bonds_across_cells_far_away():
    """Fractional coordinates outside the cell change nothing."""
    lattice = Lattice.from_parameters(3.1, 4.2, 5.3, 80, 95, 102)
    sites = np.array([[0.1, 0.2, 0.3], [0.6, 0.5, 0.9]])
    inside = Structure(lattice, ["Fe", "O"], sites)
    outside = Structure(lattice, ["Fe", "O"], sites + np.array([[3, 0, -2], [0, 5, 0]]))
    np.testing.assert_allclose(
        np.sort(lengths(bonds_of(inside))), np.sort(lengths(bonds_of(outside))), atol=1e-9
    )


@pytest.mark.parametrize("far", [3.0, 7.9])
def test_cutoff_ends_the_search(far):
    pair = Molecule(["H", "O"], [[0, 0, 0], [0, 0, far]])
    assert len(bonds_of(pair).center) == 2
    assert len(bonds_of(pair, cutoff=far - 0.1).center) == 0
