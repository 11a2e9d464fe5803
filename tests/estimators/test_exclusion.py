import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Structure

from matmosaic.estimators._exclusion import excluded_hashes, excluded_rows
from matmosaic.exceptions import InvalidParameterError, InvalidStructuresError, StructureTypeError
from matmosaic.structures import structure_hash


@pytest.mark.parametrize("container", [list, tuple, set, np.array, pd.Series, pd.Index])
def test_hashes_in_any_container(container, NaCl, Cu, Si):
    rows, larger = [NaCl, Cu, Si], Cu.copy()
    larger.scale_lattice(50.0)
    hashes = container([structure_hash(Cu), "0" * 32])
    found = excluded_rows([*rows, larger], hashes)
    assert found.by_structure.tolist() == [False, True, False, False]
    assert found.by_composition.tolist() == [False, True, False, True]
    assert sorted(excluded_hashes(hashes)) == sorted([structure_hash(Cu), "0" * 32])


def test_composition_of_a_structure_that_is_not_there(NaCl, Cu, Si):
    larger = Cu.copy()
    larger.scale_lattice(50.0)
    found = excluded_rows([NaCl, Cu, Si], [larger])
    assert not found.by_structure.any()
    assert found.by_composition.tolist() == [False, True, False]
    assert excluded_hashes([larger]) == [structure_hash(larger)]


def test_one_hash_alone_is_no_list(Cu):
    with pytest.raises(StructureTypeError, match="'exclude': X is a single str"):
        excluded_rows([Cu], structure_hash(Cu))


def test_nothing_in_a_series_is_left_out(Cu):
    empty = pd.Series([], dtype=object)
    assert not excluded_rows([Cu], empty).by_structure.any() and excluded_hashes(empty) == []


@pytest.mark.parametrize("by", ["structure", "crystal", "composition"])
def test_errors_name_what_is_to_be_left_out(by, Cu):
    disordered = Structure(Cu.lattice, [{"Cu": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    with pytest.raises(InvalidStructuresError, match=r"^'exclude': X\[1\] \(Cu0.5Ni0.5\) is disordered"):
        excluded_rows([Cu], [Cu, disordered], by)


def test_what_is_no_hash_is_told_from_hashes(Cu):
    hashes = [structure_hash(Cu), "abc"]
    with pytest.raises(InvalidParameterError, match=r"exclude\[1\]='abc' among hashes; .*32 hexa"):
        excluded_rows([Cu], pd.Series(hashes))
    with pytest.raises(InvalidParameterError, match=r"Got exclude\[0\]='Structure' among hashes"):
        excluded_rows([Cu], [Cu, *hashes])
    with pytest.raises(InvalidStructuresError, match=r"^'exclude': X\[0\] .*'abc'.* If hashes are meant: "):
        excluded_rows([Cu], ["abc"])
