"""The gate for what users pass as X: containers, and checks of their rows."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atom, Atoms
from pymatgen.core import Lattice, Molecule, Structure

from matmosaic.exceptions import (
    InvalidStructuresError,
    MatmosaicError,
    StructureTypeError,
    UnsupportedElementError,
)
from matmosaic.structures import as_structures, describe_row, to_object_array


def dummy_crystal():
    return Structure(Lattice.cubic(4), ["X0+"], [[0, 0, 0]])


# --- containers --------------------------------------------------------------------------------------

CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "series": pd.Series,
    "series with other index": lambda rows: pd.Series(rows, index=range(10, 10 + len(rows))),
    "frame": lambda rows: pd.DataFrame({"structure": rows}),
    "object array": to_object_array,
    "column of an object array": lambda rows: to_object_array(rows)[:, None],
}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_containers_keep_rows_and_order(container, NaCl, CsCl, Cu):
    rows = [NaCl, CsCl, NaCl, Cu]
    structures = as_structures(container(rows))
    assert all(one is other for one, other in zip(structures, rows, strict=True))


def test_object_array_holds_structures(NaCl):
    array = to_object_array([NaCl, NaCl])
    assert array.shape == (2,) and array.dtype == object and array[1] is NaCl


def test_object_array_of_one_atom_crystals(Cu):
    assert to_object_array((Cu,)).shape == (1,)


def test_array_of_paths(tmp_path, NaCl):
    NaCl.to(str(tmp_path / "a.cif"))
    assert as_structures(np.array([str(tmp_path / "a.cif")]))[0].composition == NaCl.composition


SITE_ARRAYS = {
    "two structures": lambda s: np.array([s, s]),
    "one structure": lambda s: np.array([s]),
    "row of such an array": lambda s: np.array([s])[0],
    "list of sites": lambda s: list(s),
    "ase": lambda s: np.array([Atoms("Cu2"), Atoms("Cu2")]),
    "ase atoms of one": lambda s: [Atom("Cu")],
}


@pytest.mark.parametrize("make", SITE_ARRAYS.values(), ids=SITE_ARRAYS)
def test_arrays_of_sites_are_refused(make, NaCl):
    with pytest.raises(StructureTypeError, match="to_object_array"):
        as_structures(make(NaCl))


def test_array_of_one_atom_crystal_is_refused(Cu):
    with pytest.raises(StructureTypeError, match=r"atoms of shape \(1, 1\).*to_object_array"):
        as_structures(np.array([Cu]))


SINGLE = {
    "structure": (lambda s: s, "single Structure"),
    "atoms": (lambda s: Atoms("Cu"), "single Atoms"),
    "dict": (lambda s: s.as_dict(), "single dict"),
    "path": (lambda s: Path("a.cif"), r"single \w*Path"),
    "text": (lambda s: "a.cif", "single str"),
}


@pytest.mark.parametrize(("make", "message"), SINGLE.values(), ids=SINGLE)
def test_a_single_structure_is_refused(make, message, NaCl):
    with pytest.raises(StructureTypeError, match=f"{message}.*list"):
        as_structures(make(NaCl))


OTHER_TYPES = {
    "number": (3, "type int"),
    "none": (None, "type NoneType"),
    "generator": ((s for s in []), "type generator"),
    "numbers": (np.zeros((3, 2)), r"float64 and shape \(3, 2\)"),
    "two columns": (pd.DataFrame({"a": [1], "b": [2]}), "2 columns"),
    "matrix of objects": (np.full((2, 2), None), r"shape \(2, 2\)"),
    "row of no type": ([3.0], r"X\[0\] is of type float; expected pymatgen Structure"),
    "row of none": ([None], r"X\[0\] is of type NoneType"),
}


@pytest.mark.parametrize(("X", "message"), OTHER_TYPES.values(), ids=OTHER_TYPES)
def test_other_types_are_refused(X, message):
    with pytest.raises(StructureTypeError, match=message) as caught:
        as_structures(X)
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize("X", [[], (), pd.Series([], dtype=object), np.empty(0, object)], ids=str)
def test_empty_input_is_refused(X):
    with pytest.raises(InvalidStructuresError, match="X is empty"):
        as_structures(X)


# --- checks ------------------------------------------------------------------------------------------


def test_disorder_is_named_with_formula_and_remedy(NaCl, CuAu):
    expected = r"X\[1\] \(Cu0.5Au0.5\) is disordered.*OrderDisorderedStructureTransformation"
    with pytest.raises(InvalidStructuresError, match=expected):
        as_structures([NaCl, CuAu])


def test_partial_occupancy_is_disorder():
    vacancies = Structure(Lattice.cubic(3.8), [{"Cu": 0.9}], [[0, 0, 0]])
    with pytest.raises(InvalidStructuresError, match="disordered: site 0"):
        as_structures([vacancies.as_dict()])


@pytest.mark.parametrize("form", [lambda s: s, lambda s: s.as_dict()], ids=["object", "dict"])
def test_species_that_are_no_elements(form):
    with pytest.raises(UnsupportedElementError, match=r"X\[0\].*'X0\+'.*no element"):
        as_structures([form(dummy_crystal())])


def test_misspelt_element_in_a_dict():
    row = {"lattice": np.eye(3) * 3, "species": ["7%"], "frac_coords": [[0, 0, 0]]}
    with pytest.raises(UnsupportedElementError, match="'7%', which is no element"):
        as_structures([row])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_coordinates_that_are_not_finite(value):
    crystal = Structure(Lattice.cubic(3), ["Na", "Cl"], [[0, 0, 0], [0, value, 0]])
    molecule = Molecule(["O", "H"], [[0, 0, 0], [0, 0, value]])
    for row in (crystal, molecule):
        with pytest.raises(InvalidStructuresError, match=r"not finite numbers, first on site 1"):
            as_structures([row])


@pytest.mark.parametrize(
    "vectors", [np.full((3, 3), np.nan), np.diag([3, 3, np.inf]), np.ones((3, 3)), np.diag([3, 3, 0])]
)
def test_lattices_without_volume(vectors):
    with pytest.raises(InvalidStructuresError, match=r"X\[0\] \(Na\) has a lattice that spans no finite"):
        as_structures([Structure(Lattice(vectors), ["Na"], [[0, 0, 0]])])


def test_crystal_without_atoms():
    with pytest.raises(InvalidStructuresError, match=r"X\[0\] has no atoms"):
        as_structures([Structure(Lattice.cubic(3), [], [])])


def test_crystals_and_molecules_do_not_mix(NaCl, H2O, Cu):
    with pytest.raises(InvalidStructuresError, match=r"X\[0\] \(NaCl\) is periodic, X\[2\] \(H2O\) is not"):
        as_structures([NaCl, Cu, H2O, H2O])


def test_all_bad_rows_are_named(NaCl, CuAu):
    rows = [NaCl, CuAu, NaCl, dummy_crystal(), *[CuAu] * 12]
    with pytest.raises(InvalidStructuresError, match="13 more cannot be used") as caught:
        as_structures(rows)
    assert str(caught.value).startswith("X[1] (Cu0.5Au0.5) is disordered")
    assert str(caught.value).endswith("X[3], X[4], X[5], X[6], X[7], X[8], X[9], X[10], X[11], X[12], ....")
    assert isinstance(caught.value, MatmosaicError)


def test_describe_row(NaCl, H2O):
    assert describe_row(17, NaCl) == "X[17] (NaCl)"
    assert describe_row(0, H2O) == "X[0] (H2O)"
    assert describe_row(3) == "X[3]"


def test_gate_is_quick(NaCl):
    """Under 10 microseconds where nothing else runs; the bound leaves room for a busy machine."""
    rows = [NaCl] * 500
    as_structures(rows)

    def seconds():
        start = time.perf_counter()
        as_structures(rows)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(10)) / len(rows) < 40e-6
