"""Every form that one row of X may have."""

import copy
import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from pymatgen.core import IMolecule, IStructure, Molecule, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from matmosaic.exceptions import InvalidStructuresError
from matmosaic.structures import as_structures


def assert_same_crystal(one, other):
    assert one.lattice == other.lattice
    assert [s.species for s in one] == [s.species for s in other]
    np.testing.assert_allclose(one.frac_coords, other.frac_coords, atol=1e-8)


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
