"""Which structures of one set occur in another."""

import pytest
from pymatgen.core import Molecule, Structure

from matmosaic.exceptions import InvalidStructuresError
from matmosaic.structures import overlap, reduced_composition, structure_arrays


def test_masks_follow_the_rows_of_the_first_set(NaCl, Cu, Si, CsCl):
    found = overlap([Cu, NaCl, Si, NaCl], [CsCl, NaCl])
    assert found.by_structure.tolist() == [False, True, False, True]
    assert found.by_composition.tolist() == [False, True, False, True]


def test_another_cell_shares_the_composition_alone(NaCl, Si):
    found = overlap([NaCl.get_primitive_structure(), Si * (2, 1, 1)], [NaCl, Si])
    assert found.by_structure.tolist() == [False, False]
    assert found.by_composition.tolist() == [True, True]


def test_another_ratio_of_the_same_elements_is_another_composition(NaCl):
    assert not overlap(
        [Structure(NaCl.lattice, ["Na"] * 7 + ["Cl"], NaCl.frac_coords)], [NaCl]
    ).by_composition


def test_rows_of_any_accepted_form(NaCl):
    assert overlap([NaCl.as_dict()], [NaCl]).by_structure.tolist() == [True]


def test_sentence(NaCl, Cu, Si):
    found = overlap([Cu, NaCl, Si * (1, 1, 2)], [NaCl, Si])
    expected = "1 of 3 structures occur in the other set, and 2 share a composition with it."
    assert str(found) == expected


def test_empty_set_is_refused(NaCl):
    with pytest.raises(InvalidStructuresError, match="empty"):
        overlap([NaCl], [])


def test_reduced_composition(SrTiO3, Cu, NaCl):
    assert reduced_composition(SrTiO3) == ((8, 3), (22, 1), (38, 1))
    assert reduced_composition(Cu * (2, 2, 1)) == ((29, 1),)
    assert reduced_composition(structure_arrays(NaCl)) == ((11, 1), (17, 1))
    assert reduced_composition(Molecule(["O", "O"], [[0, 0, 0], [0, 0, 1.2]])) == ((8, 1),)
