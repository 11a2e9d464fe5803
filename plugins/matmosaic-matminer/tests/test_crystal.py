import numpy as np
import pytest
from matmosaic_matminer.crystal import Crystal
from matmosaic_matminer.presets import PRESETS

pytestmark = pytest.mark.usefixtures("silent")


def test_one_site_of_each_orbit_gives_the_statistics_of_all(symmetric):
    for crystal in [*symmetric, symmetric[0].make_supercell([2, 1, 1], in_place=False)]:
        compressed, plain = Crystal(crystal), Crystal(crystal, compressed=False)
        assert len(compressed.representatives) < len(plain.representatives) == len(crystal)
        assert compressed.multiplicities.sum() == len(crystal)
        for descriptor in PRESETS["full"].descriptors:
            found, expected = descriptor.values(compressed), descriptor.values(plain)
            np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7, err_msg=descriptor.name)


def test_sites_that_merely_resemble_each_other_stay_apart(symmetric):
    moved = symmetric[1].copy()
    moved.translate_sites([2], [0.001, 0, 0], frac_coords=False)
    assert len(Crystal(moved).representatives) == 5


def test_primitive_cell_of_a_supercell_is_that_of_the_crystal(symmetric):
    doubled = symmetric[0].make_supercell([1, 2, 1], in_place=False)
    found = Crystal(doubled).primitive.structure
    assert len(found) == len(symmetric[0])
    assert found.volume == pytest.approx(symmetric[0].volume)
    assert found.composition == symmetric[0].composition


def test_an_atom_too_far_from_others_has_no_cell():
    from pymatgen.core import Lattice, Structure

    crystal = Crystal(Structure(Lattice.cubic(100.0), ["Ar"], [[0, 0, 0]]))
    with pytest.raises(ValueError, match="reaches farther than 30.0 Å"):
        _ = crystal.cells
