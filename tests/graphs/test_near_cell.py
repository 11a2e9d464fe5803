import numpy as np
import pytest
from pymatgen.core import Lattice, Molecule, Structure

from matmosaic.graphs import GraphSettings, build_graphs
from matmosaic.graphs.near_cell import FAR_CELLS, near_cell
from matmosaic.structures import structure_arrays

SETTINGS = [
    GraphSettings(),
    GraphSettings(ties="reference"),
    GraphSettings(ties="whole", angles=True),
    GraphSettings(ties="reference", angles=True),
]
FAR = [1000.0, 1000.0, -1000.0]


def moved(structure, cells):
    return Structure(structure.lattice, structure.species, structure.frac_coords + np.array(cells))


@pytest.mark.parametrize("cells", [[FAR], [0], [FAR_CELLS - 1]], ids=["far", "here", "near"])
def test_only_far_atoms_are_moved(TiO2, cells):
    arrays = structure_arrays(moved(TiO2, cells))
    near = near_cell(arrays)
    assert (near is arrays) == (cells != [FAR])
    assert np.abs(near.fractional).max() <= FAR_CELLS
    np.testing.assert_array_equal(near.fractional @ near.lattice, near.positions)


def test_directions_that_do_not_repeat_stay(CsCl):
    slab = Structure(Lattice(np.eye(3) * 4.0, pbc=(True, True, False)), ["Cs", "Cl"], [FAR, [0.5, 0.5, 0.5]])
    np.testing.assert_allclose(near_cell(structure_arrays(slab)).fractional[0], [0, 0, -1000])
    water = structure_arrays(Molecule(["O", "H"], [[0, 0, 0], [0, 0, 1000.0]]))
    assert near_cell(water) is water


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: f"{one.ties}-{one.angles}")
@pytest.mark.parametrize("cells", [[FAR], [FAR, [0, 0, 0]]], ids=["all atoms", "one atom"])
def test_far_atoms_have_the_graph_of_near_ones(settings, cells):
    """A grid over the cells between them would not fit into memory."""
    lattice = Lattice.from_parameters(3.1, 4.2, 5.3, 80, 95, 102)
    here = Structure(lattice, ["Fe", "O"], [[0.1, 0.2, 0.3], [0.6, 0.5, 0.9]])
    near, far = build_graphs([here, moved(here, cells)], settings)
    for name in ("numbers", "distance", "bond_weight", "cosine", "angle_weight"):
        one, other = np.sort(getattr(near, name)), np.sort(getattr(far, name))
        np.testing.assert_allclose(other, one, atol=1e-6, err_msg=name)
