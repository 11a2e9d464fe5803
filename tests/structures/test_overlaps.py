"""Which structures of one set occur in another."""

import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from matmosaic.exceptions import InvalidStructuresError
from matmosaic.structures import overlap


def test_masks_follow_the_rows_of_the_first_set(NaCl, Cu, Si, CsCl):
    found = overlap([Cu, NaCl, Si, NaCl], [CsCl, NaCl])
    assert found.by_structure.tolist() == [False, True, False, True]
    assert found.by_composition.tolist() == [False, True, False, True]


def test_another_cell_is_found_by_its_composition_or_by_a_matcher(NaCl, Cu, Si):
    X, other = [Cu, NaCl.get_primitive_structure(), Si * (2, 1, 1)], [NaCl, Si]
    found = overlap(X, other)
    assert found.by_structure.tolist() == [False, False, False]
    assert found.by_composition.tolist() == [False, True, True]
    assert overlap(X, other, matcher=StructureMatcher()).by_structure.tolist() == [False, True, True]


def test_rows_that_match_each_other_alone_do_not_overlap(NaCl, CsCl):
    like_nacl = Structure(NaCl.lattice, ["Cs" if s.Z == 11 else "Cl" for s in NaCl.species], NaCl.frac_coords)
    found = overlap([like_nacl, like_nacl * (2, 1, 1)], [CsCl], matcher=StructureMatcher())
    assert found.by_composition.tolist() == [True, True]
    assert found.by_structure.tolist() == [False, False]


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


def test_published_sets_share_crystals_that_the_numbers_hide(shared_data):
    """Of 1,056 dielectric constants and 1,265 phonon peaks no two structures agree in every number."""
    from matmosaic import read_structures

    dc, ph = (read_structures(shared_data / "devi" / f"{name}.jsonl.gz")[0] for name in ("dc", "ph"))
    dc, ph = ([one for one in rows if len(one) <= 2] for rows in (dc, ph))
    assert not overlap(dc, ph).by_structure.any()
    matched = overlap(dc, ph, matcher=StructureMatcher())
    assert matched.by_structure.sum() > 0.8 * matched.by_composition.sum() > 0
