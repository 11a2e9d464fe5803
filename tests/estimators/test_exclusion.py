import numpy as np
import pytest

from matmosaic.estimators._exclusion import excluded_hashes, excluded_rows
from matmosaic.exceptions import StructureTypeError
from matmosaic.structures import structure_hash


@pytest.mark.parametrize("container", [list, tuple, set, np.array])
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
    with pytest.raises(StructureTypeError):
        excluded_rows([Cu], structure_hash(Cu))
