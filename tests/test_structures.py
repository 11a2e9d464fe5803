"""The gate for what users pass as X, and the arrays and hashes of what passed it."""

import copy
import dataclasses
import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atom, Atoms
from pymatgen.core import IMolecule, IStructure, Lattice, Molecule, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from matmosaic.exceptions import (
    InvalidStructuresError,
    MatmosaicError,
    StructureTypeError,
    UnsupportedElementError,
)
from matmosaic.structures import (
    StructureArrays,
    as_structures,
    describe_row,
    structure_arrays,
    structure_hash,
    to_object_array,
)


@pytest.fixture(scope="module")
def H2O():
    return Molecule(["O", "H", "H"], [[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])


@pytest.fixture(scope="module")
def CuAu():
    """Disordered: every site is half copper, half gold."""
    return Structure(Lattice.cubic(3.8), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])


def dummy_crystal():
    return Structure(Lattice.cubic(4), ["X0+"], [[0, 0, 0]])


def assert_same_crystal(one, other):
    assert one.lattice == other.lattice
    assert [s.species for s in one] == [s.species for s in other]
    np.testing.assert_allclose(one.frac_coords, other.frac_coords, atol=1e-8)


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
    assert_same_crystal(as_structures(np.array([str(tmp_path / "a.cif")]))[0], NaCl)


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


# --- rows --------------------------------------------------------------------------------------------

FORMS = {
    "immutable": lambda s: IStructure.from_sites(s.sites),
    "ase": lambda s: AseAtomsAdaptor.get_atoms(s),
    "dict": lambda s: s.as_dict(),
    "json text": lambda s: s.to_json(),
    "flat dict": lambda s: {
        "lattice": s.lattice.matrix.tolist(),
        "species": [site.species_string for site in s],
        "frac_coords": s.frac_coords.tolist(),
    },
    "cif text": lambda s: s.to(fmt="cif"),
    "poscar text": lambda s: s.to(fmt="poscar"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_forms_of_a_crystal(form, SrTiO3):
    (structure,) = as_structures([form(SrTiO3)])
    assert type(structure) is Structure
    assert_same_crystal(structure, SrTiO3)


@pytest.mark.parametrize("name", ["a.cif", "POSCAR", "a.vasp", "a.json", "a.cif.gz", "a.xsf"])
@pytest.mark.parametrize("kind", [str, Path])
def test_files_of_a_crystal(name, kind, tmp_path, SrTiO3):
    formats = {"a.vasp": "poscar", "a.cif.gz": "cif"}
    text = SrTiO3.to(fmt=formats.get(name, name.lower().removeprefix("a.")))
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    (structure,) = as_structures([kind(tmp_path / name)])
    np.testing.assert_allclose(structure.lattice.matrix, SrTiO3.lattice.matrix, atol=1e-6)
    assert structure.composition == SrTiO3.composition


@pytest.mark.parametrize(
    "form", [lambda m: m, lambda m: m.as_dict(), IMolecule.from_sites, AseAtomsAdaptor.get_atoms]
)
def test_forms_of_a_molecule(form, H2O):
    (molecule,) = as_structures([form(H2O)])
    assert type(molecule) is Molecule
    assert molecule.atomic_numbers == H2O.atomic_numbers
    np.testing.assert_array_equal(molecule.cart_coords, H2O.cart_coords)


def test_partly_periodic_atoms_keep_their_periodicity():
    slab = Atoms("Cu2", [[0, 0, 5], [1, 1, 7]], cell=[3, 4, 0], pbc=[True, True, False])
    (structure,) = as_structures([slab])
    assert structure.pbc == (True, True, False)
    np.testing.assert_allclose(structure.cart_coords, slab.positions, atol=1e-12)


def test_xyz_file_with_lattice_is_a_crystal(tmp_path, NaCl):
    AseAtomsAdaptor.get_atoms(NaCl).write(tmp_path / "a.extxyz")
    assert_same_crystal(as_structures([tmp_path / "a.extxyz"])[0], NaCl)


def test_dict_keeps_oxidation_states_and_ignores_properties(NaCl):
    decorated = NaCl.copy(site_properties={"magmom": [1.0] * 8})
    decorated.add_oxidation_state_by_element({"Na": 1, "Cl": -1})
    (structure,) = as_structures([decorated.as_dict()])
    assert_same_crystal(structure, decorated)
    assert structure.site_properties == {}


def test_dict_cannot_name_what_is_imported(NaCl, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    row = NaCl.as_dict() | {"@module": "trap"}
    row["sites"][0]["properties"] = {"magmom": {"@module": "trap", "@class": "Trap"}}
    path = tmp_path / "row.json"
    path.write_text(json.dumps(row))
    assert [s.formula for s in as_structures([row, path])] == [NaCl.formula] * 2
    assert "trap" not in sys.modules


def test_input_is_not_changed(NaCl):
    rows = [NaCl.copy(site_properties={"magmom": [0.5] * 8}), NaCl.as_dict()]
    before = [rows[0].as_dict(), copy.deepcopy(rows[1])]
    as_structures(rows)
    assert rows[0].as_dict() == before[0] and rows[1] == before[1]


BAD_ROWS = {
    "dict without keys": ({"lattice": [[1]]}, "without 'frac_coords', 'species'"),
    "dict of another class": ({"@class": "Lattice", "sites": []}, "@class 'Lattice'"),
    "broken dict": ({"lattice": {}, "sites": [{"species": []}]}, "cannot be read as a structure"),
    "missing file": ("nowhere.cif", r"'nowhere\.cif', which does not exist"),
    "text": ("neither\nCIF nor POSCAR", "cannot be read as CIF or POSCAR"),
    "broken cif": ("data_x\n_cell_length_a 3\n", "cannot be read as CIF or POSCAR"),
    "unknown number": (Atoms("X"), "number 0"),
    "no cell": (Atoms("Cu", pbc=True), "length zero"),
}


@pytest.mark.parametrize(("row", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
@pytest.mark.filterwarnings("ignore:No structure parsed:UserWarning")
def test_unreadable_rows_are_named(row, message, NaCl):
    with pytest.raises(InvalidStructuresError, match=rf"^X\[1\] .*{message}"):
        as_structures([NaCl, row])


def test_folder_and_yaml_are_no_structure_files(tmp_path):
    with pytest.raises(InvalidStructuresError, match="is a folder"):
        as_structures([tmp_path])
    (tmp_path / "a.yaml").write_text("a: 1")
    with pytest.raises(InvalidStructuresError, match="YAML, which is not read"):
        as_structures([tmp_path / "a.yaml"])


@pytest.mark.filterwarnings("ignore:Missing elements:UserWarning")  # pymatgen compares the two
def test_cif_of_two_crystals_is_refused(NaCl, CsCl):
    with pytest.raises(InvalidStructuresError, match="2 structures"):
        as_structures([NaCl.to(fmt="cif") + CsCl.to(fmt="cif")])


def test_xyz_of_two_frames_points_to_the_reader(tmp_path):
    (tmp_path / "a.xyz").write_text("1\n\nH 0 0 0\n1\n\nHe 0 0 0\n")
    with pytest.raises(InvalidStructuresError, match=r"a\.xyz', which holds 2 structures.*read_structures"):
        as_structures([tmp_path / "a.xyz"])


def test_poscar_without_elements_is_refused():
    text = "no names\n1.0\n4 0 0\n0 4 0\n0 0 4\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"
    with pytest.raises(InvalidStructuresError, match="Elements in POSCAR cannot be determined"):
        as_structures([text])


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


# --- arrays ------------------------------------------------------------------------------------------


def test_arrays_of_a_crystal(SrTiO3):
    arrays = structure_arrays(SrTiO3)
    assert arrays.n_atoms == 5
    assert arrays.numbers.dtype == np.int64 and arrays.numbers.tolist() == [38, 22, 8, 8, 8]
    assert arrays.positions.dtype == np.float64
    np.testing.assert_allclose(arrays.positions, SrTiO3.cart_coords, atol=1e-12)
    np.testing.assert_array_equal(arrays.lattice, SrTiO3.lattice.matrix)
    assert arrays.pbc.dtype == bool and arrays.pbc.tolist() == [True, True, True]


def test_arrays_of_a_molecule(H2O):
    arrays = structure_arrays(H2O)
    np.testing.assert_array_equal(arrays.positions, H2O.cart_coords)
    assert not arrays.lattice.any() and not arrays.pbc.any() and arrays.lattice.shape == (3, 3)


def test_isotopes_are_hydrogen_and_charges_are_left_behind():
    crystal = Structure(Lattice.cubic(4), ["D", "T", "Fe3+"], [[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0]])
    assert structure_arrays(as_structures([crystal])[0]).numbers.tolist() == [1, 1, 26]


def test_arrays_of_a_disordered_crystal_are_refused(CuAu):
    with pytest.raises(InvalidStructuresError, match=r"Cu0\.5Au0\.5 is disordered"):
        structure_arrays(CuAu)


def test_arrays_share_no_memory_with_the_structure(NaCl):
    crystal = NaCl.copy()
    arrays = structure_arrays(crystal)
    arrays.lattice[:] = 0
    arrays.positions[:] = 0
    assert crystal == NaCl


# --- hash --------------------------------------------------------------------------------------------


def test_hash_of_a_structure_and_its_arrays_agree(NaCl, H2O):
    for structure in (NaCl, H2O):
        assert structure_hash(structure) == structure_hash(structure_arrays(structure))
        assert len(structure_hash(structure)) == 32


def test_hashes_differ(crystals, H2O):
    assert len({structure_hash(s) for s in [*crystals, H2O]}) == len(crystals) + 1


def test_hash_ignores_all_but_geometry_and_elements(NaCl):
    decorated = NaCl.copy(site_properties={"magmom": [1.0] * 8})
    decorated.add_oxidation_state_by_element({"Na": 1, "Cl": -1})
    decorated.set_charge(1)
    decorated[0].label = "Na1"
    assert structure_hash(decorated) == structure_hash(NaCl)


def test_hash_ignores_the_sign_of_zero(NaCl):
    negative = Structure(NaCl.lattice, NaCl.species, np.where(NaCl.frac_coords == 0, -0.0, NaCl.frac_coords))
    assert np.signbit(negative.frac_coords).any()
    assert structure_hash(negative) == structure_hash(NaCl)


CHANGES = {
    "coordinate by one bit": lambda s: Structure(s.lattice, s.species, np.nextafter(s.frac_coords, 1)),
    "lattice by one bit": lambda s: Structure(np.nextafter(s.lattice.matrix, 9), s.species, s.frac_coords),
    "element": lambda s: Structure(s.lattice, ["Na"] * 8, s.frac_coords),
    "order of atoms": lambda s: Structure.from_sites(s.sites[::-1]),
    "periodicity": lambda s: Structure(
        Lattice(s.lattice.matrix, pbc=(True, True, False)), s.species, s.frac_coords
    ),
    "a molecule": lambda s: Molecule(s.species, s.cart_coords),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_hash_feels_every_change(change, NaCl):
    assert structure_hash(change(NaCl)) != structure_hash(NaCl)


def test_hash_feels_replaced_positions(NaCl):
    arrays = structure_arrays(NaCl)
    moved = dataclasses.replace(arrays, positions=np.nextafter(arrays.positions, 9))
    bare = StructureArrays(arrays.numbers, moved.positions, arrays.lattice, arrays.pbc)
    assert structure_hash(moved) == structure_hash(bare) != structure_hash(arrays)


def test_hash_is_fixed_across_processes_and_platforms():
    """The number is part of caches and cards on disk: if it changes, both must change their version."""
    arrays = StructureArrays(
        numbers=np.array([29], dtype=">i8"),
        positions=np.array([[0.0, -0.0, 0.1]], dtype=">f8"),
        lattice=np.eye(3, order="F") * 3,
        pbc=np.array([True, True, True]),
    )
    assert structure_hash(arrays) == "b65f256166772cca10a3b8ee0fbee44b"


def test_import_of_the_gate_loads_no_heavy_package():
    code = "import sys, matmosaic.structures; print({'pymatgen', 'ase', 'monty', 'torch'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_published_table_passes(shared_data):
    rows = json.loads(gzip.decompress((shared_data / "moe" / "mp_phonons.json.gz").read_bytes()))["data"]
    structures = as_structures([row[0] for row in rows])
    assert len(structures) == 1265
    assert len({structure_hash(s) for s in structures}) > 1200
