import itertools
import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Molecule, Structure
from scipy.spatial.distance import cdist

from matmosaic.exceptions import InvalidStructuresError
from matmosaic.graphs import GraphSettings
from matmosaic.graphs.reference_bonds import find_reference_bonds
from matmosaic.structures import StructureArrays, structure_arrays

SETTINGS = GraphSettings(ties="reference")
PUBLISHED = range(12)


@pytest.fixture(scope="module")
def published(shared_data):
    """Twelve structures and the graphs that the reference makes of them."""
    folder = shared_data / "reference" / "alignn"
    about = json.loads((folder / "structures.json").read_text(encoding="utf-8"))
    with np.load(folder / "graphs.npz") as arrays:
        return about["structures"], dict(arrays)


def structure_of(record):
    return Structure(record["lattice"], record["elements"], record["frac"])


def without_fractional(arrays):
    return StructureArrays(arrays.numbers, arrays.positions, arrays.lattice, arrays.pbc)


def bonds_of(*structures):
    return find_reference_bonds([structure_arrays(one) for one in structures], SETTINGS)


def rows_alike(source, target, vector, others):
    """How many of the other bonds have the ends and the vector of each bond, as float32 tells them apart."""
    mine, theirs = (
        np.column_stack([100.0 * u, 100.0 * v, r]) for u, v, r in ((source, target, vector), others)
    )
    return (cdist(mine, theirs) < 2e-5).sum(axis=1)


def sorted_cosines(bonds):
    cosines = []
    for row, center in enumerate(bonds.center):
        onward = np.flatnonzero(bonds.neighbor == center)
        onward = onward[onward != row]
        lengths = np.linalg.norm(bonds.vector[row]) * np.linalg.norm(bonds.vector[onward], axis=1)
        cosines.append(-(bonds.vector[onward] @ bonds.vector[row]) / lengths)
    return np.sort(np.concatenate(cosines))


@pytest.mark.parametrize("index", PUBLISHED)
@pytest.mark.parametrize("prepare", [structure_arrays, lambda one: without_fractional(structure_arrays(one))])
def test_bonds_and_angles_are_the_published_ones(published, index, prepare):
    structures, graphs = published
    expected = {name: graphs[f"{index:02d}/{name}"] for name in ("src", "dst", "r", "r_sorted", "cos_sorted")}
    bonds = find_reference_bonds([prepare(structure_of(structures[index]))], SETTINGS)

    theirs = (expected["src"], expected["dst"], expected["r"])
    assert len(bonds.center) == structures[index]["n_edges"]
    found = rows_alike(*theirs, (bonds.neighbor, bonds.center, bonds.vector))
    np.testing.assert_array_equal(found, rows_alike(*theirs, theirs))
    ordered = bonds.vector[np.lexsort(bonds.vector.round(5).T[::-1])]
    np.testing.assert_allclose(ordered, expected["r_sorted"], atol=1e-5, rtol=0)
    cosines = sorted_cosines(bonds)
    assert len(cosines) == structures[index]["n_triplets"]
    np.testing.assert_allclose(cosines, expected["cos_sorted"], atol=1e-5, rtol=0)


def chosen_one_by_one(structure, cutoff, n_nearest):
    """Each atom's choice as (centre, neighbour, image), by a loop over the images that the reference sees."""
    rounded, fractional = structure.lattice.matrix.round(5), structure.frac_coords
    positions = fractional @ rounded
    spacing = 1 / np.linalg.norm(np.linalg.inv(rounded), axis=0)
    reach = np.ceil((cutoff + 0.15) / spacing).astype(int)
    first = np.floor(fractional.min(axis=0)).astype(int) - reach
    behind = np.ceil(fractional.max(axis=0)).astype(int) + reach
    found = [[] for _ in positions]
    for image in itertools.product(*map(range, first, behind)):
        for neighbor, position in enumerate(np.dot(image, structure.lattice.matrix) + positions):
            for center, here in enumerate(positions):
                distance = np.sqrt(((position - here) ** 2).sum())
                if 0.15 < distance <= cutoff:
                    found[center].append((distance, neighbor, image))
    for center, around in enumerate(found):
        last = sorted(distance for distance, _, _ in around)[n_nearest - 1]
        yield from ((center, neighbor, image) for distance, neighbor, image in around if distance <= last)


def directed_one_by_one(structure, chosen):
    """Every chosen bond once, then in both directions, as (neighbour, centre) and vector."""
    once = {
        (center, neighbor, image) if center <= neighbor else (neighbor, center, tuple(-n for n in image))
        for center, neighbor, image in chosen
    }
    rounded, fractional = structure.lattice.matrix.round(5), structure.frac_coords
    for source, target, image in once:
        vector = (fractional[target] + image - fractional[source]) @ rounded
        yield source, target, vector
        yield target, source, -vector


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.1, -2.4])
def test_bonds_are_those_of_a_loop_over_images(shift):
    """Where all atoms lie beyond the first cell, the loop misses images, and so must we."""
    lattice = Lattice.from_parameters(3.1, 4.2, 5.3, 75, 100, 65)
    sites = np.array([[0.12, 0.25, 0.31], [0.61, 0.72, 0.44], [0.4, 0.05, 0.8]])
    structure = Structure(lattice, ["Ti", "O", "O"], sites + shift)
    bonds = bonds_of(structure)
    rows = directed_one_by_one(structure, chosen_one_by_one(structure, 8.0, 12))
    expected = tuple(np.array(values) for values in zip(*rows, strict=True))
    assert len(bonds.center) == len(expected[0])
    np.testing.assert_array_equal(
        rows_alike(*expected, (bonds.neighbor, bonds.center, bonds.vector)), rows_alike(*expected, expected)
    )


def test_reverse_is_the_opposite_bond(NaCl, SrTiO3, Cu):
    bonds = bonds_of(NaCl, SrTiO3, Cu)
    np.testing.assert_array_equal(bonds.center[bonds.reverse], bonds.neighbor)
    np.testing.assert_array_equal(bonds.vector[bonds.reverse], -bonds.vector)
    np.testing.assert_array_equal(bonds.reverse[bonds.reverse], np.arange(len(bonds.reverse)))


def test_bonds_are_sorted_by_centre_and_length(NaCl, SrTiO3):
    bonds = bonds_of(NaCl, SrTiO3)
    length = np.linalg.norm(bonds.vector, axis=1)
    np.testing.assert_array_equal(np.lexsort((length, bonds.center)), np.arange(len(length)))


def test_structures_do_not_touch_each_other(CsCl, Si):
    together, first, second = bonds_of(CsCl, Si), bonds_of(CsCl), bonds_of(Si)
    n_first = len(first.center)
    np.testing.assert_array_equal(together.center[n_first:] - len(CsCl), second.center)
    np.testing.assert_array_equal(together.neighbor[n_first:] - len(CsCl), second.neighbor)
    np.testing.assert_array_equal(together.reverse[n_first:] - n_first, second.reverse)
    np.testing.assert_array_equal(together.vector, np.concatenate([first.vector, second.vector]))


def test_bond_to_an_own_image_occurs_from_both_ends(Cu):
    bonds = bonds_of(Cu)
    assert len(bonds.center) == 24
    same = (cdist(bonds.vector, bonds.vector) < 1e-9).sum(axis=1)
    np.testing.assert_array_equal(same, 2)


def test_cutoff_grows_until_each_atom_has_its_neighbours():
    lonely = Structure(Lattice.cubic(9.0), ["Ar"], [[0, 0, 0]])
    bonds = bonds_of(lonely)
    # 6 neighbours within 9 Å, the longest edge; the 12th within 18 Å is one of 12 at 9 sqrt(2) Å.
    assert len(bonds.center) == 2 * (6 + 12)
    assert bonds.isolated.tolist() == [True]
    assert bonds_of(Structure(Lattice.cubic(7.0), ["Ar"], [[0, 0, 0]])).isolated.tolist() == [False]


def test_moved_atoms_are_searched_where_they_are(CsCl):
    arrays = structure_arrays(CsCl)
    moved = arrays.positions + np.array([[0, 0, 0], [0.1, 0, 0]])
    stale = StructureArrays(arrays.numbers, moved, arrays.lattice, arrays.pbc, arrays.fractional)
    fresh = structure_arrays(Structure(CsCl.lattice, CsCl.species, moved, coords_are_cartesian=True))
    bonds, expected = (find_reference_bonds([one], SETTINGS) for one in (stale, fresh))
    np.testing.assert_allclose(bonds.vector, expected.vector, atol=1e-9)


@pytest.mark.parametrize(
    "structure",
    [
        Molecule(["O", "H"], [[0, 0, 0], [0, 0, 0.97]]),
        Structure(Lattice(np.eye(3) * 5, pbc=(True, True, False)), ["C"], [[0, 0, 0]]),
    ],
    ids=["molecule", "slab"],
)
def test_refuses_what_does_not_repeat(Cu, structure):
    with pytest.raises(InvalidStructuresError, match=r"does not repeat along .* ties='whole'"):
        bonds_of(Cu, structure)
