"""Which structures are the same crystal."""

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Molecule, Structure

from matmosaic.exceptions import InvalidParameterError
from matmosaic.structures import group_structures, reduced_composition, structure_arrays


def test_numbers_follow_the_first_appearance(NaCl, Cu, Si):
    assert group_structures([Si, Cu, Si, NaCl, Cu]).tolist() == [0, 1, 0, 2, 1]


def test_without_a_matcher_another_cell_is_another_structure(NaCl):
    assert group_structures([NaCl, NaCl.get_primitive_structure()]).tolist() == [0, 1]


def test_matcher_finds_other_cells_orders_and_volumes(NaCl, Cu, Si, crystals):
    primitive = NaCl.get_primitive_structure()
    strained = NaCl.copy().apply_strain(0.02)
    reordered = Structure.from_sites(NaCl.sites[::-1])
    given = [Si, primitive, Cu, strained, NaCl, Si * (2, 1, 1), reordered]
    assert group_structures(given, matcher=StructureMatcher()).tolist() == [0, 1, 2, 1, 1, 0, 1]


def test_settings_of_the_matcher_decide(NaCl):
    given = [NaCl, NaCl.copy().apply_strain(0.05)]
    strict = StructureMatcher(scale=False, ltol=0.01)
    assert group_structures(given, matcher=strict).tolist() == [0, 1]


def test_matcher_tells_polymorphs_apart(CsCl, NaCl):
    like_nacl = Structure(NaCl.lattice, ["Cs" if s.Z == 11 else "Cl" for s in NaCl.species], NaCl.frac_coords)
    assert group_structures([CsCl, like_nacl], matcher=StructureMatcher()).tolist() == [0, 1]


def test_matcher_does_not_see_charges_and_labels(NaCl):
    decorated = NaCl.get_primitive_structure()
    decorated.add_oxidation_state_by_element({"Na": 1, "Cl": -1})
    assert group_structures([NaCl, decorated], matcher=StructureMatcher()).tolist() == [0, 0]


def test_matcher_compares_within_equal_compositions_alone(crystals, NaCl):
    calls = []

    class Recording:
        def group_structures(self, s_list):
            calls.append([one.composition.reduced_formula for one in s_list])
            return [[one] for one in s_list]

    groups = group_structures([*crystals, NaCl, NaCl * (1, 1, 2)], matcher=Recording())
    assert calls == [["NaCl", "NaCl"]]  # the copy of NaCl was found by its hash
    assert groups.tolist() == [*range(8), groups[2], 8]


def test_same_numbers_stay_together_whatever_the_matcher_says(NaCl):
    groups = group_structures([NaCl * (1, 1, 2), NaCl, NaCl.copy()], matcher=StructureMatcher())
    assert groups.tolist() == [0, 0, 0]


def test_molecules_cannot_be_matched():
    oxygen, ozone = (Molecule(["O"] * n, np.eye(3)[:n]) for n in (2, 3))
    assert group_structures([oxygen, ozone, oxygen]).tolist() == [0, 1, 0]
    with pytest.raises(InvalidParameterError, match="compares crystals. Got molecules"):
        group_structures([oxygen, ozone], matcher=StructureMatcher())


@pytest.mark.parametrize(
    ("matcher", "message"),
    [
        ("x", "'matcher' must have a method 'group_structures'.* Got 'x'"),
        (StructureMatcher, r"Got the class StructureMatcher; give StructureMatcher\(\)"),
    ],
    ids=["text", "class"],
)
def test_what_is_no_matcher_is_refused(matcher, message, NaCl, Cu):
    for given in ([NaCl, NaCl * (1, 1, 2)], [NaCl, Cu]):
        with pytest.raises(InvalidParameterError, match=message):
            group_structures(given, matcher=matcher)


def test_no_structures_no_groups():
    assert group_structures([]).tolist() == group_structures([], matcher=StructureMatcher()).tolist() == []


def test_reduced_composition(SrTiO3, Cu, NaCl):
    assert reduced_composition(SrTiO3) == ((8, 3), (22, 1), (38, 1))
    assert reduced_composition(Cu * (2, 2, 1)) == ((29, 1),)
    assert reduced_composition(structure_arrays(NaCl)) == ((11, 1), (17, 1))
    assert reduced_composition(Molecule(["O", "O"], [[0, 0, 0], [0, 0, 1.2]])) == ((8, 1),)
